//! What people want: declarations, orders.

use std::{path::Path, time::Duration};

use hale_api::{
    operation::Verb,
    proto::{self, Answer, answer, ask, node_message::Message as Say},
};
use hale_model::{
    Phase, Status,
    cluster::{OrderRecord, OrderResult, Owner, Scheduling},
    document,
};
use hale_server::{
    Control,
    cluster::{
        desired::{AppliedChange, DesiredError, Person},
        snapshot::Snapshot,
    },
    control::{Order, OrderError, Subject},
};
use hale_store::cluster::{Change, Record, Write};

use super::kit::*;

const OTHER: &str = "kind: Workload\nname: other\nprocess: {command: [/bin/true]}\ndependsOn: [web]\n";

fn order(on: Subject, verb: Verb) -> Order {
    Order {
        on,
        verb,
        by: "ann".to_owned(),
        from: String::new(),
        reason: "a test".to_owned(),
        lasting: None,
        probe: None,
    }
}

fn web() -> Subject {
    Subject::Workload("web".to_owned())
}

#[tokio::test]
async fn what_is_applied_is_checked_with_all_there_is_and_durable() {
    let dir = dir();
    let server = Server::start(dir.path()).await;
    let person = Person::new("ann");
    let documents = |text: &str| document::read_str("test.yaml", Path::new("/"), text).unwrap();
    let apply = async |text: &str, owner, dry| {
        let applied = server.cluster.apply(&documents(text), owner, &person, dry).await;
        applied.map(|it| it.into_iter().map(|it| (it.name, it.change)).collect::<Vec<_>>())
    };
    let missing = apply(OTHER, Owner::Api, false).await.unwrap_err();
    assert!(matches!(missing, DesiredError::Invalid(_)) && missing.to_string().contains("web"), "{missing}");

    assert_eq!(apply(WEB, Owner::Api, true).await.unwrap(), [("web".to_owned(), AppliedChange::Created)]);
    assert!(server.cluster.snapshot().workloads.is_empty(), "a dry run writes nothing");
    let both = format!("{WEB}---\n{OTHER}");
    apply(&both, Owner::Api, false).await.unwrap();
    let revision = server.store.revision();
    let again = apply(&both, Owner::Api, false).await.unwrap();
    assert!(again.iter().all(|it| it.1 == AppliedChange::Unchanged), "{again:?}");
    assert_eq!(server.store.revision(), revision);

    let old = server.cluster.snapshot().workloads["web"].document.clone();
    let changed = WEB.replace("/bin/true", "/bin/false");
    assert_eq!(apply(&changed, Owner::Api, false).await.unwrap()[0].1, AppliedChange::Updated);
    assert_eq!(server.cluster.snapshot().workloads["web"].previous.as_ref(), Some(&old));

    let needed = server.cluster.delete("workload", "web", &person).await.unwrap_err();
    assert!(matches!(needed, DesiredError::Invalid(_)), "{needed}");
    server.cluster.delete("workload", "other", &person).await.unwrap();
    server.cluster.delete("workloads", "web", &person).await.unwrap();
    let gone = server.cluster.delete("workload", "web", &person).await.unwrap_err();
    assert!(matches!(gone, DesiredError::NotFound { .. }), "{gone}");

    // What `hale up` had declared and no longer does goes; what came by the API stays.
    apply(&both, Owner::Up, false).await.unwrap();
    apply("kind: Target\nname: api\nhttpGet: {url: \"http://127.0.0.1:9/\"}\n", Owner::Api, false)
        .await
        .unwrap();
    let less = apply(WEB, Owner::Up, false).await.unwrap();
    assert_eq!(
        less,
        [("web".to_owned(), AppliedChange::Unchanged), ("other".to_owned(), AppliedChange::Deleted)]
    );
    assert_eq!(server.cluster.snapshot().targets.len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn two_who_change_the_same_at_once_both_get_what_they_want() {
    let dir = dir();
    let server = Server::start(dir.path()).await;
    server.apply(WEB).await;
    let stop = |replica: &str| server.cluster.order(order(Subject::Replica(replica.to_owned()), Verb::Stop));
    let scaled = async { server.cluster.scale("web", 3, &Person::new("bob")).await.unwrap() };
    let (first, second, scaled) = tokio::join!(stop("web-0"), stop("web-1"), scaled);
    first.unwrap();
    second.unwrap();
    assert_eq!(scaled.change, AppliedChange::Updated);
    let record = server.cluster.snapshot().workloads["web"].clone();
    assert_eq!(record.stopped_replicas.keys().copied().collect::<Vec<_>>(), [0, 1]);
    assert_eq!(server.cluster.snapshot().specs["web"].replicas, 3);
    let audited = server.store.audit_log(0, 100).await.unwrap();
    assert_eq!(audited.iter().filter(|it| it.1.action == "stop").count(), 2);
    server.stop().await;
}

#[tokio::test]
async fn what_is_scaled_stays_with_whoever_declared_it() {
    let dir = dir();
    let server = Server::start(dir.path()).await;
    let person = Person::new("ann");
    let up = async |text: &str| {
        let documents = document::read_str("test.yaml", Path::new("/"), text).unwrap();
        server.cluster.apply(&documents, Owner::Up, &person, false).await.unwrap()
    };
    up(WEB).await;
    server.cluster.scale("web", 3, &person).await.unwrap();
    let snapshot = server.cluster.snapshot();
    assert_eq!((snapshot.workloads["web"].owner, snapshot.specs["web"].replicas), (Owner::Up, 3));
    let alone = OTHER.replace("dependsOn: [web]\n", "");
    let applied = up(&alone).await;
    assert!(applied.iter().any(|it| it.name == "web" && it.change == AppliedChange::Deleted), "{applied:?}");
    server.stop().await;
}

#[tokio::test]
async fn an_order_by_way_of_the_database_is_carried_out_once_however_often_it_is_seen() {
    let dir = dir();
    let server = Server::start(dir.path()).await;
    let mut agent = Agent::connect(&server, register("n1")).await.unwrap();
    let give = async |id: &str| {
        let order = OrderRecord {
            id: id.to_owned(),
            node: "n1".to_owned(),
            verb: "restart".to_owned(),
            name: format!("web-{id}"),
            generation: 0,
            by: "ann".to_owned(),
            reason: String::new(),
            probe: None,
            lasting_ms: None,
            at: jiff::Timestamp::now(),
            taken_by: None,
            result: None,
        };
        let write = Write { changes: vec![Change::Put(Record::Order(Box::new(order)))], guards: Vec::new() };
        server.store.write(write).await.unwrap();
    };
    let mut asked = Vec::new();
    // The feed tells of the first ones again with each that follows, and none has its answer yet.
    for id in ["0", "1", "2"] {
        give(id).await;
        asked.push(agent.ask().await);
    }
    let names = asked.iter().map(|it| match &it.what {
        Some(ask::What::Order(order)) => order.name.clone(),
        _ => panic!("{it:?}"),
    });
    assert_eq!(names.collect::<Vec<_>>(), ["web-0", "web-1", "web-2"]);
    for ask in asked {
        let done = Answer { id: ask.id, what: Some(answer::What::Done(proto::Done {})) };
        agent.say(Say::Answer(done)).await;
    }
    let all_done = |it: &Snapshot| it.orders.len() == 3 && it.orders.values().all(|it| it.result.is_some());
    let snapshot = server.until("all are done", all_done).await;
    assert!(snapshot.orders.values().all(|it| it.result == Some(OrderResult::Done)));
    server.stop().await;
}

#[tokio::test]
async fn stops_and_pauses_reach_the_node_as_what_is_wanted() {
    let dir = dir();
    let server = Server::start(dir.path()).await;
    let document = server.apply(WEB).await.remove(0);
    server.place(&[placement(1, &document, 0, "n1"), placement(2, &document, 1, "n1")]).await;
    let mut agent = Agent::connect(&server, register("n1")).await.unwrap();
    agent.desired().await;
    server.cluster.order(order(web(), Verb::Stop)).await.unwrap();
    let stopped = agent.desired().await;
    assert!(
        stopped.placements.iter().all(|it| it.stopped_by.as_deref() == Some("ann (a test)")),
        "{stopped:?}"
    );
    assert_eq!(stopped.placements.len(), 2);
    // Starting one leaves the other stopped.
    server.cluster.order(order(Subject::Replica("web-1".to_owned()), Verb::Start)).await.unwrap();
    let started = agent.desired().await;
    assert_eq!((started.placements.len(), started.placements[0].generation), (1, 2));
    assert_eq!(started.placements[0].stopped_by, None);
    let pause = Order { lasting: Some(Duration::from_secs(60)), ..order(web(), Verb::Pause) };
    server.cluster.order(pause).await.unwrap();
    assert!(agent.desired().await.placements.iter().all(|it| it.pauses.len() == 1));
    server.cluster.order(order(web(), Verb::Resume)).await.unwrap();
    assert!(agent.desired().await.placements.iter().all(|it| it.pauses.is_empty()));
    let unknown = server.cluster.order(order(Subject::Workload("nope".to_owned()), Verb::Stop)).await;
    assert!(matches!(unknown, Err(OrderError::NotFound(_))), "{unknown:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_restart_is_asked_of_one_replica_after_the_other() {
    let dir = dir();
    let server = Server::start(dir.path()).await;
    let document = server.apply(WEB).await.remove(0);
    server.place(&[placement(1, &document, 0, "n1"), placement(2, &document, 1, "n1")]).await;
    let mut agent = Agent::connect(&server, register("n1")).await.unwrap();
    agent.tell(of(vec![replica(1, 0, 1, true), replica(2, 1, 1, true)])).await;
    let asked = tokio::spawn({
        let cluster = server.cluster.clone();
        async move { cluster.order(order(web(), Verb::Restart)).await }
    });
    for (generation, ordinal) in [(1, 0), (2, 1)] {
        let ask = agent.ask().await;
        let Some(ask::What::Order(order)) = ask.what else { panic!("{ask:?}") };
        assert_eq!(
            (order.verb.as_str(), order.name, order.generation),
            ("restart", format!("web-{ordinal}"), generation)
        );
        let done = Answer { id: ask.id, what: Some(answer::What::Done(proto::Done {})) };
        agent.say(Say::Answer(done)).await;
        // The next one's turn comes when this one is ready again in a new instance, and not before.
        agent
            .tell(of(vec![proto::Replica { incarnation: 2, ..replica(generation, ordinal, 2, false) }]))
            .await;
        agent
            .beat(of(vec![proto::Replica { incarnation: 2, ..replica(generation, ordinal, 3, true) }]))
            .await;
    }
    asked.await.unwrap().unwrap();
    server.stop().await;
}

#[tokio::test]
async fn what_a_node_refuses_or_does_not_answer_is_told_to_who_asked() {
    let dir = dir();
    let server = Server::start(dir.path()).await;
    let document = server.apply(WEB).await.remove(0);
    server.place(&[placement(1, &document, 0, "n1"), placement(2, &document, 1, "n2")]).await;
    let mut agent = Agent::connect(&server, register("n1")).await.unwrap();
    let cluster = server.cluster.clone();
    let restart = move |name: &str| {
        let (cluster, on) = (cluster.clone(), Subject::Replica(name.to_owned()));
        tokio::spawn(async move { cluster.order(order(on, Verb::Restart)).await })
    };
    let asked = restart("web-0");
    let ask = agent.ask().await;
    let refused = proto::Refused { code: "not_applicable".to_owned(), detail: "no".to_owned() };
    agent.say(Say::Answer(Answer { id: ask.id, what: Some(answer::What::Refused(refused)) })).await;
    assert_eq!(asked.await.unwrap(), Err(OrderError::NotApplicable("no".to_owned())));
    let nobody = restart("web-1").await.unwrap();
    assert!(matches!(nobody, Err(OrderError::Unavailable(_))), "{nobody:?}");
    // The agent goes while it is asked.
    let asked = restart("web-0");
    agent.ask().await;
    drop(agent);
    let gone = asked.await.unwrap();
    assert!(matches!(gone, Err(OrderError::Unavailable(_))), "{gone:?}");
    server.stop().await;
}

#[tokio::test]
async fn the_overview_tells_what_is_known_and_how_old_that_is() {
    let dir = dir();
    let server = Server::start(dir.path()).await;
    let document = server.apply(WEB).await.remove(0);
    server.place(&[placement(1, &document, 0, "n1")]).await;
    let mut agent = Agent::connect(&server, register("n1")).await.unwrap();
    agent.tell(of(vec![replica(1, 0, 1, true)])).await;
    let overview = server.cluster.overview().await.unwrap();
    assert_eq!(overview.status, Status::Degraded);
    let web = &overview.workloads[0];
    assert_eq!((web.desired, web.ready, web.replicas.len()), (2, 1, 2));
    let (placed, pending) = (&web.replicas[0], &web.replicas[1]);
    assert_eq!(
        (placed.node.as_str(), placed.phase, placed.ready, placed.stale),
        ("n1", Phase::Running, true, false)
    );
    assert_eq!((pending.node.as_str(), pending.phase, pending.status), ("", Phase::Pending, Status::Unknown));
    assert_eq!(overview.nodes[0].zone, "z1");
    server.cluster.schedule("n1", Scheduling::Cordoned, &Person::new("ann")).await.unwrap();
    assert_eq!(server.cluster.overview().await.unwrap().nodes[0].scheduling, Scheduling::Cordoned);
    let connected = server.cluster.delete_node("n1", &Person::new("ann")).await.unwrap_err();
    assert!(matches!(connected, DesiredError::Refused(_)), "{connected}");
    server.stop().await;
}

#[tokio::test]
async fn lines_that_a_replica_printed_come_from_its_node() {
    use futures_util::StreamExt;

    let dir = dir();
    let server = Server::start(dir.path()).await;
    let document = server.apply(WEB).await.remove(0);
    server.place(&[placement(1, &document, 0, "n1")]).await;
    let mut agent = Agent::connect(&server, register("n1")).await.unwrap();
    let mut lines = server.cluster.logs("web-0".to_owned(), Some(5), true).await.unwrap();
    let ask = agent.ask().await;
    let Some(ask::What::Logs(asked)) = &ask.what else { panic!("{ask:?}") };
    assert_eq!((asked.replica.as_str(), asked.tail, asked.follow), ("web-0", 5, true));
    let chunk = r#"[{"replica":"web-0","time":"","stream":"stdout","whole":true,"text":"hello"}]"#;
    let told = Answer { id: ask.id, what: Some(answer::What::LogLines(chunk.to_owned())) };
    agent.say(Say::Answer(told)).await;
    assert_eq!(lines.next().await.unwrap().unwrap()[0].text, "hello");
    // The reader goes: the node hears of it.
    drop(lines);
    agent.tell(Beat::default()).await;
    agent
        .until(|it| match it {
            proto::server_message::Message::Ask(it) if it.id == ask.id => {
                matches!(it.what, Some(ask::What::Cancel(_))).then_some(())
            }
            _ => None,
        })
        .await;
    server.stop().await;
}

use hale_api::proto::Beat;
