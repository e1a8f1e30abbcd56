//! Sessions of agents: registration, beats, what is wanted.

use hale_api::{
    events::EventQuery,
    proto::{self, Beat, node_message::Message as Say},
};
use hale_model::cluster::{PlacementRecord, PlacementState, SessionState};
use hale_store::cluster::{Change, Record, Write};
use jiff::Timestamp;
use tonic::Code;

use super::kit::*;

#[tokio::test]
async fn an_agent_is_told_what_it_is_to_run_and_then_only_what_changes() {
    let dir = dir();
    let server = Server::start(dir.path()).await;
    let web = server.apply(WEB).await.remove(0);
    server.place(&[placement(1, &web, 0, "n1"), placement(2, &web, 1, "n2")]).await;

    let mut agent = Agent::connect(&server, register("n1")).await.unwrap();
    assert!(agent.welcome.session > 0 && agent.welcome.epoch == 1 && agent.welcome.heartbeat_ms == 500);
    let all = agent.desired().await;
    assert!(all.full);
    assert_eq!(all.placements.iter().map(|it| it.generation).collect::<Vec<_>>(), [1]);
    let documents: Vec<_> =
        all.documents.iter().map(|it| hale_api::wire::read_document(it).unwrap()).collect();
    assert_eq!(documents, std::slice::from_ref(&web));
    assert!(agent.ack(|it| it.want_full).await.want_full);

    server.place(&[placement(3, &web, 1, "n1")]).await;
    let more = agent.desired().await;
    assert!(!more.full && more.documents.is_empty() && more.withdrawn.is_empty(), "{more:?}");
    assert_eq!(more.placements.iter().map(|it| it.generation).collect::<Vec<_>>(), [3]);

    let withdrawn = PlacementState::Withdrawn { at: Timestamp::now(), reason: "the test".to_owned() };
    server.place(&[PlacementRecord { state: withdrawn, ..placement(3, &web, 1, "n1") }]).await;
    let less = agent.desired().await;
    assert_eq!((less.placements.len(), less.withdrawn), (0, vec![3]));

    // The agent has stopped it: the placement goes, and what was observed of it.
    agent.tell(Beat { gone: vec![3], ..Beat::default() }).await;
    server.until("the placement is gone", |it| it.placements.get(3).is_none()).await;
    server.stop().await;
}

#[tokio::test]
async fn a_second_agent_of_one_name_is_refused_while_the_first_one_beats() {
    let dir = dir();
    let server = Server::start(dir.path()).await;
    let mut first = Agent::connect(&server, register("n1")).await.unwrap();
    first.tell(Beat::default()).await;
    let other = proto::Register { instance: "another".to_owned(), ..register("n1") };
    let refused = Agent::connect(&server, other.clone()).await.err().unwrap();
    assert!(refused.message().starts_with("node_in_use"), "{refused}");

    // The same run takes its session over.
    let again = Agent::connect(&server, register("n1")).await.unwrap();
    assert!(again.welcome.session > first.welcome.session);
    assert_eq!(first.goodbye().await.code, "superseded");

    // Once it has gone another may have the name.
    drop(again);
    server
        .until("disconnected", |it| {
            matches!(it.sessions["n1"].state, SessionState::Disconnected { .. } | SessionState::Silent { .. })
        })
        .await;
    Agent::connect(&server, other).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_token_lets_in_its_own_node_and_no_other() {
    let dir = dir();
    let server = Server::start(dir.path()).await;
    let foreign = Agent::connect_as(&server, register("n1"), &token("n2")).await.err().unwrap();
    assert_eq!(foreign.code(), Code::PermissionDenied);
    let none = Agent::connect_as(&server, register("n1"), "hale_x_y").await.err().unwrap();
    assert_eq!(none.code(), Code::Unauthenticated);
    let gateway = "hale_gw_0123456789abcdef0123456789abcdef0123456789abcdef";
    let gateway = Agent::connect_as(&server, register("n1"), gateway).await.err().unwrap();
    assert_eq!(gateway.code(), Code::PermissionDenied);
    let wrong = proto::Register { instance: String::new(), ..register("n1") };
    assert_eq!(Agent::connect(&server, wrong).await.err().unwrap().code(), Code::InvalidArgument);
    server.stop().await;
}

#[tokio::test]
async fn entries_that_can_not_be_taken_are_named_and_the_others_count() {
    let dir = dir();
    let server = Server::start(dir.path()).await;
    let web = server.apply(WEB).await.remove(0);
    server.place(&[placement(1, &web, 0, "n1"), placement(2, &web, 1, "n2")]).await;
    let mut agent = Agent::connect(&server, register("n1")).await.unwrap();
    let odd = proto::Replica { phase: "dancing".to_owned(), ..replica(1, 0, 9, true) };
    let moved = replica(1, 7, 1, true);
    let replicas = vec![replica(99, 0, 1, true), replica(2, 1, 1, true), odd, moved, replica(1, 0, 5, true)];
    agent.beat(of(replicas)).await;
    let ack = agent.ack(|it| !it.rejected.is_empty()).await;
    let codes: Vec<_> = ack.rejected.iter().map(|it| (it.generation, it.code.as_str())).collect();
    assert_eq!(codes, [(99, "unknown"), (2, "not_yours"), (1, "malformed"), (1, "malformed")]);
    server.until_ready("web", 1).await;
    assert_eq!(server.registry.endpoints("web").unwrap().endpoints[0].generation, 1);

    // What is older than what is known changes nothing.
    agent.beat(of(vec![replica(1, 0, 4, false)])).await;
    let stale = agent.ack(|it| !it.rejected.is_empty()).await;
    assert_eq!(stale.rejected[0].code, "stale");
    assert_eq!(server.ready("web"), 1);
    assert_eq!(server.cluster.counters().rejections()["malformed"], 2);
    server.stop().await;
}

#[tokio::test]
async fn a_beat_that_changes_nothing_writes_nothing() {
    let dir = dir();
    let server = Server::start(dir.path()).await;
    let web = server.apply(WEB).await.remove(0);
    server.place(&[placement(1, &web, 0, "n1")]).await;
    let mut agent = Agent::connect(&server, register("n1")).await.unwrap();
    agent.tell(of(vec![replica(1, 0, 1, true)])).await;
    let before = server.store.revision();
    for version in 2..20 {
        // Usage and probe counters change from beat to beat, and are no transitions.
        let usage = Some(proto::Usage { memory_bytes: version, ..proto::Usage::default() });
        let ack = agent.tell(of(vec![proto::Replica { usage, ..replica(1, 0, version, true) }])).await;
        assert_eq!(ack.sent_boottime, ack.sequence * 1000);
        agent.tell(Beat::default()).await;
    }
    assert_eq!(server.store.revision(), before);
    server.stop().await;
}

#[tokio::test]
async fn events_of_a_node_are_kept_once_however_often_they_are_told() {
    let dir = dir();
    let server = Server::start(dir.path()).await;
    let mut agent = Agent::connect(&server, register("n1")).await.unwrap();
    let events = |numbers: std::ops::RangeInclusive<u64>| Beat {
        events: numbers.map(|it| event("n1", it)).collect(),
        ..Beat::default()
    };
    agent.beat(events(1..=3)).await;
    agent.ack(|it| it.events_durable == 3).await;
    // Told again, and on: over the same stream, and over a new one.
    agent.beat(events(2..=5)).await;
    agent.ack(|it| it.events_durable == 5).await;
    drop(agent);
    let mut agent = Agent::connect(&server, register("n1")).await.unwrap();
    assert_eq!(agent.welcome.events_durable, 5);
    let mut mixed = events(1..=7);
    mixed.events[5].source = "/nodes/n2".to_owned();
    agent.beat(mixed).await;
    agent.ack(|it| it.events_durable == 7).await;
    let query = EventQuery { subject: Some("n1".to_owned()), ..EventQuery::default() };
    let (kept, _) = server.store.events(&query, 100).await.unwrap();
    let told: Vec<_> = kept
        .iter()
        .filter_map(|it| match &it.data {
            hale_model::event::EventData::NodeStarted(it) => Some(it.version.clone()),
            _ => None,
        })
        .collect();
    // The sixth claimed to be of another node: it is passed over and does not block the seventh.
    assert_eq!(told, ["1", "2", "3", "4", "5", "7"]);

    // A spool made anew begins anew.
    drop(agent);
    let fresh = proto::Register { spool: "another".to_owned(), ..register("n1") };
    assert_eq!(Agent::connect(&server, fresh).await.unwrap().welcome.events_durable, 0);
    server.stop().await;
}

#[tokio::test]
async fn an_agent_that_falls_silent_is_noted_once_and_noted_again_when_it_is_back() {
    let dir = dir();
    let server = Server::start(dir.path()).await;
    let mut agent = Agent::connect(&server, register("n1")).await.unwrap();
    agent.tell(Beat::default()).await;
    let silent =
        server.until("silent", |it| matches!(it.sessions["n1"].state, SessionState::Silent { .. })).await;
    agent.tell(Beat::default()).await;
    let back = server.until("back", |it| it.sessions["n1"].state == SessionState::Connected).await;
    assert_eq!(back.sessions["n1"].session, silent.sessions["n1"].session);
    agent.say(Say::Leaving(proto::Leaving { reason: "upgrade".to_owned(), away_seconds: 30 })).await;
    server.until("away", |it| matches!(it.sessions["n1"].state, SessionState::Away { .. })).await;
    drop(agent);
    server.stop().await;
}

#[tokio::test]
async fn not_ready_counts_at_once_and_ready_once_it_is_durable() {
    let dir = dir();
    let server = Server::start(dir.path()).await;
    let web = server.apply(WEB).await.remove(0);
    server.place(&[placement(1, &web, 0, "n1"), placement(2, &web, 1, "n1")]).await;
    let mut agent = Agent::connect(&server, register("n1")).await.unwrap();
    agent.tell(of(vec![replica(1, 0, 1, true), replica(2, 1, 1, true)])).await;
    assert_eq!(server.ready("web"), 2);

    // Another transaction holds the database: nothing is durable meanwhile.
    let held = hold(&dir.path().join("hale.db"));
    agent.beat(of(vec![replica(1, 0, 2, false)])).await;
    server.until_ready("web", 1).await;
    let revised = agent.beat(of(vec![proto::Replica { incarnation: 2, ..replica(1, 0, 3, true) }])).await;
    let ack = agent.ack(|it| it.sequence == revised).await;
    assert!(ack.durable_sequence < revised, "{ack:?}");
    assert_eq!(server.ready("web"), 1);
    drop(held);
    agent.ack(|it| it.durable_sequence >= revised).await;
    assert_eq!(server.ready("web"), 2);
    server.stop().await;
}

/// A write transaction of somebody else, as long as this lives.
fn hold(database: &std::path::Path) -> Held {
    use std::process::{Command, Stdio};
    let mut child = Command::new("python3")
        .args(["-c", "import sqlite3,sys; c=sqlite3.connect(sys.argv[1],isolation_level=None,timeout=20); c.execute('BEGIN IMMEDIATE'); print('held',flush=True); sys.stdin.read()"])
        .arg(database)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 with sqlite3");
    let mut line = String::new();
    let out = child.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
    assert_eq!(line, "held\n");
    Held(child)
}

struct Held(std::process::Child);

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ended = self.0.wait();
    }
}

#[tokio::test]
async fn a_restart_of_the_server_changes_nothing_for_who_asks_for_endpoints() {
    let dir = dir();
    let server = Server::start(dir.path()).await;
    let web = server.apply(WEB).await.remove(0);
    server.place(&[placement(1, &web, 0, "n1"), placement(2, &web, 1, "n1")]).await;
    let mut agent = Agent::connect(&server, register("n1")).await.unwrap();
    agent.tell(of(vec![replica(1, 0, 1, true), replica(2, 1, 1, true)])).await;
    assert_eq!(server.ready("web"), 2);
    server.stop().await;
    assert_eq!(agent.goodbye().await.code, "shutting_down");

    let server = Server::start(dir.path()).await;
    assert_eq!(server.ready("web"), 2, "what was durable is served before any agent is back");
    let mut changes = server.registry.changes();
    changes.mark_unchanged();
    let mut agent = Agent::connect(&server, register("n1")).await.unwrap();
    let before = server.store.revision();
    agent.tell(Beat { full: true, ..of(vec![replica(1, 0, 1, true), replica(2, 1, 1, true)]) }).await;
    assert_eq!(server.store.revision(), before, "a full beat that says what is known writes nothing");
    assert!(!changes.has_changed().unwrap(), "no flip in either direction");
    server.stop().await;
}

#[tokio::test]
async fn a_full_beat_takes_out_what_is_not_in_it() {
    let dir = dir();
    let server = Server::start(dir.path()).await;
    let web = server.apply(WEB).await.remove(0);
    server.place(&[placement(1, &web, 0, "n1"), placement(2, &web, 1, "n1")]).await;
    let mut agent = Agent::connect(&server, register("n1")).await.unwrap();
    agent.tell(of(vec![replica(1, 0, 1, true), replica(2, 1, 1, true)])).await;
    agent.tell(Beat { full: true, ..of(vec![replica(2, 1, 1, true)]) }).await;
    assert_eq!(server.ready("web"), 1);
    let after = server.until("observation gone", |it| it.observed.get(1).is_none()).await;
    assert!(after.placements.get(1).is_some(), "it is wanted still");

    // A digest that is not that of what is known asks for all.
    agent.beat(Beat { digest: vec![0; 32], ..Beat::default() }).await;
    agent.ack(|it| it.want_full).await;
    let right = hale_api::wire::digest([(2, 1)], []);
    let sequence = agent.beat(Beat { digest: right.to_vec(), ..Beat::default() }).await;
    assert!(!agent.ack(|it| it.sequence == sequence).await.want_full);
    server.stop().await;
}

#[tokio::test]
async fn what_a_restored_database_has_forgotten_is_taken_in() {
    let dir = dir();
    let server = Server::start(dir.path()).await;
    server.apply(WEB).await;
    let cluster = server.cluster.snapshot().cluster.clone().unwrap();
    let mut record = (*cluster.record).clone();
    (record.epoch, record.last_generation, record.adoptable_below) = (2, 1000, 1000);
    let write = Write { changes: vec![Change::Put(Record::Cluster(record.clone()))], guards: Vec::new() };
    let committed = server.store.write(write).await.unwrap();
    server.cluster.caught_up(committed.revision).await;

    // An agent of the time before: its generation is unknown here, and runs.
    let old = proto::Register { cluster: record.id.clone(), epoch: 1, ..register("n1") };
    let mut agent = Agent::connect(&server, old).await.unwrap();
    assert_eq!(agent.welcome.epoch, 2);
    agent.tell(of(vec![replica(40, 0, 1, true)])).await;
    server.until("what it reports is kept", |it| it.observed.get(40).is_some()).await;

    // Nor is one believed that claims the time before, under a number that can't have been given then.
    let liar = proto::Register { cluster: record.id.clone(), epoch: 1, ..register("n3") };
    let mut agent = Agent::connect(&server, liar).await.unwrap();
    agent.beat(of(vec![replica(1000, 1, 1, true)])).await;
    assert_eq!(agent.ack(|it| !it.rejected.is_empty()).await.rejected[0].code, "unknown");

    // One of this epoch that makes generations up is not believed.
    let now = proto::Register { cluster: record.id, epoch: 2, ..register("n2") };
    let mut agent = Agent::connect(&server, now).await.unwrap();
    agent.beat(of(vec![replica(41, 1, 1, true)])).await;
    assert_eq!(agent.ack(|it| !it.rejected.is_empty()).await.rejected[0].code, "unknown");
    server.stop().await;
}
