//! The link against a scripted server that speaks the real protocol over loopback.

mod support;

use std::time::Duration;

use hale_api::proto::{self, server_message::Message as Say};
use hale_health::Generation;

use support::{Node, Server, ack, beats_until, document, placement, workload};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_node_registers_and_takes_on_what_is_wanted_and_tells_it_at_once() {
    let server = Server::start().await;
    let node = Node::start(&[&server.url], Duration::from_millis(500)).await;
    let mut session = server.session().await;
    assert_eq!(session.register.node, "n1");
    assert_eq!(session.register.desired_revision, 0);
    assert!(session.register.features.contains(&"livenessProbe".to_owned()));
    session.welcome(7, 500).await;
    session.want(&[(11, 0)], true, 3).await;
    let seen =
        beats_until(&mut session, |beat| beat.replicas.iter().any(|it| it.generation == 11 && it.ready))
            .await;
    let replica = seen.iter().flat_map(|it| &it.replicas).rfind(|it| it.generation == 11).unwrap();
    assert_eq!((replica.phase.as_str(), replica.workload.as_str(), replica.ordinal), ("running", "web", 0));
    assert_eq!(replica.digest, workload("web", 2).digest);
    assert!(seen.iter().any(|it| it.desired_revision == 3), "it says what it has taken on");
    let numbers: Vec<u64> = seen.iter().flat_map(|it| &it.events).map(|it| it.number).collect();
    assert!(!numbers.is_empty() && numbers.iter().copied().eq(1..=numbers.len() as u64), "{numbers:?}");
    node.stop().await;
}

#[tokio::test]
async fn a_node_that_can_run_something_else_now_registers_anew_and_keeps_what_runs() {
    let server = Server::start().await;
    let node = Node::start(&[&server.url], Duration::from_millis(300)).await;
    let mut session = server.session().await;
    assert_eq!(session.register.runtimes, ["process"]);
    session.welcome(7, 300).await;
    session.want(&[(11, 0)], true, 3).await;
    beats_until(&mut session, |beat| beat.replicas.iter().any(|it| it.ready)).await;
    node.runtimes.send_replace(vec!["process".to_owned(), "container".to_owned()]);
    let mut session = tokio::time::timeout(SOON, server.session()).await.expect("it registers anew");
    assert_eq!(session.register.runtimes, ["process", "container"]);
    assert_eq!((session.register.session, session.register.desired_revision), (7, 3));
    session.welcome(8, 300).await;
    let seen = beats_until(&mut session, |beat| beat.replicas.iter().any(|it| it.generation == 11)).await;
    let replicas: Vec<_> = seen.iter().flat_map(|it| &it.replicas).collect();
    assert!(replicas.iter().all(|it| it.ready && it.incarnation == replicas[0].incarnation), "{replicas:?}");
    node.stop().await;
}

#[tokio::test]
async fn an_idle_beat_is_under_two_hundred_bytes_and_a_change_of_readiness_does_not_wait_for_the_next() {
    let server = Server::start().await;
    let node = Node::start(&[&server.url], Duration::from_secs(2)).await;
    let mut session = server.session().await;
    session.welcome(7, 2000).await;
    session.want(&[(11, 0)], true, 3).await;
    beats_until(&mut session, |beat| beat.replicas.iter().any(|it| it.ready)).await;
    // Until two beats in a row say nothing.
    let idle = loop {
        let beat = session.beat().await;
        session.acknowledge(&beat).await;
        let rest = proto::Beat { sequence: 0, sent_at: 0, sent_boottime: 0, resources: None, ..beat.clone() };
        if rest == proto::Beat::default() && beat.resources.is_none() {
            break beat;
        }
    };
    let message = proto::NodeMessage { message: Some(proto::node_message::Message::Beat(idle)) };
    let bytes = support::encoded_len(&message);
    // The frames of gRPC and HTTP/2 around it take 14.
    assert!(bytes + 14 < 200, "{bytes} bytes");
    let before = tokio::time::Instant::now();
    node.fail_readiness();
    beats_until(&mut session, |beat| beat.replicas.iter().any(|it| !it.ready)).await;
    assert!(before.elapsed() < Duration::from_millis(1500), "it waited for the beat: {:?}", before.elapsed());
    node.stop().await;
}

#[tokio::test]
async fn what_was_not_durable_is_told_again_to_the_next_server() {
    let (first, second) = (Server::start().await, Server::start().await);
    let node = Node::start(&[&first.url, &second.url], Duration::from_millis(300)).await;
    let mut session = first.session().await;
    session.welcome(7, 300).await;
    session.want(&[(11, 0)], true, 3).await;
    // It hears everything and acknowledges the link alone.
    loop {
        let beat = session.beat().await;
        session.send(Say::Ack(proto::Ack { sequence: beat.sequence, ..ack() })).await;
        if beat.replicas.iter().any(|it| it.ready) {
            break;
        }
    }
    session
        .send(Say::Goodbye(proto::Goodbye { code: "shutting_down".into(), ..proto::Goodbye::default() }))
        .await;
    let mut session = second.session().await;
    assert_eq!(session.register.session, 7);
    assert_eq!((session.register.desired_revision, session.register.cluster.as_str()), (3, "c"));
    session.welcome(8, 300).await;
    let seen = beats_until(&mut session, |beat| beat.replicas.iter().any(|it| it.ready)).await;
    let first_event = seen.iter().flat_map(|it| &it.events).map(|it| it.number).next();
    assert_eq!(first_event, Some(1), "events, too, are told from the last durable one on");
    node.stop().await;
}

#[tokio::test]
async fn a_delta_withdraws_one_and_leaves_the_other_and_its_end_is_told() {
    let server = Server::start().await;
    let node = Node::start(&[&server.url], Duration::from_millis(300)).await;
    let mut session = server.session().await;
    session.welcome(7, 300).await;
    session.want(&[(11, 0), (12, 1)], true, 3).await;
    let mut ready = std::collections::BTreeSet::new();
    beats_until(&mut session, |beat| {
        ready.extend(beat.replicas.iter().filter(|it| it.ready).map(|it| it.generation));
        ready.len() == 2
    })
    .await;
    let delta =
        proto::Desired { revision: 4, withdrawn: vec![11, 99], epoch: 1, ..proto::Desired::default() };
    session.send(Say::Desired(delta)).await;
    let mut gone = std::collections::BTreeSet::new();
    beats_until(&mut session, |beat| {
        gone.extend(beat.gone.iter().copied());
        gone.contains(&11) && gone.contains(&99)
    })
    .await;
    let status = node.supervisor.status_of("web").await.unwrap();
    assert_eq!(status.replicas.iter().map(|it| it.generation).collect::<Vec<_>>(), [12]);
    assert!(status.replicas[0].ready);
    node.stop().await;
}

#[tokio::test]
async fn what_is_granted_a_new_number_runs_on_even_if_it_is_declared_otherwise() {
    let server = Server::start().await;
    let node = Node::start(&[&server.url], Duration::from_millis(300)).await;
    let mut session = server.session().await;
    session.welcome(7, 300).await;
    session.want(&[(11, 0)], true, 3).await;
    beats_until(&mut session, |beat| beat.replicas.iter().any(|it| it.ready)).await;
    let mut desired = placement(&[(21, 0)], &workload("web", 1), 4);
    desired.regranted = vec![proto::Regrant { from: 11, to: 21 }];
    session.send(Say::Desired(desired)).await;
    let (mut last, mut gone) = (None, false);
    let seen = beats_until(&mut session, |beat| {
        last = beat.replicas.iter().rfind(|it| it.generation == 21).cloned().or(last.take());
        gone |= beat.gone.contains(&11);
        gone && last.is_some()
    })
    .await;
    let last = last.unwrap();
    assert_eq!((last.incarnation, last.ready), (1, true));
    assert_eq!(last.digest, workload("web", 1).digest);
    assert!(seen.iter().flat_map(|it| &it.replicas).all(|it| it.ready), "no flip: {seen:#?}");
    node.stop().await;
}

#[tokio::test]
async fn a_declaration_that_is_not_understood_is_told_as_failed_and_never_run_by_guess() {
    let server = Server::start().await;
    let node = Node::start(&[&server.url], Duration::from_millis(300)).await;
    let mut session = server.session().await;
    session.welcome(7, 300).await;
    let mut document = workload("web", 1);
    document.json = document.json.replace("\"replicas\"", "\"quantumTunnel\"");
    let mut desired = placement(&[(11, 0)], &document, 3);
    desired.full = true;
    session.send(Say::Desired(desired)).await;
    let seen = beats_until(&mut session, |beat| beat.replicas.iter().any(|it| it.generation == 11)).await;
    let replica = seen.iter().flat_map(|it| &it.replicas).next_back().unwrap();
    assert_eq!((replica.phase.as_str(), replica.reason.as_str()), ("failed", "unsupported"));
    assert!(replica.last_error.as_deref().unwrap().contains("quantumTunnel"), "{:?}", replica.last_error);
    assert!(node.supervisor.status().await.unwrap().is_empty());
    node.stop().await;
}

#[tokio::test]
async fn a_digest_that_differs_brings_the_full_state() {
    let server = Server::start().await;
    let node = Node::start(&[&server.url], Duration::from_millis(200)).await;
    let mut session = server.session().await;
    session.welcome(7, 200).await;
    session.want(&[(11, 0)], true, 3).await;
    beats_until(&mut session, |beat| beat.replicas.iter().any(|it| it.ready)).await;
    let beat = session.beat().await;
    session
        .send(Say::Ack(proto::Ack {
            sequence: beat.sequence,
            durable_sequence: beat.sequence,
            want_full: true,
            ..ack()
        }))
        .await;
    let seen = beats_until(&mut session, |beat| beat.full).await;
    assert_eq!(seen.last().unwrap().replicas.len(), 1);
    node.stop().await;
}

#[tokio::test]
async fn nonsense_of_a_server_costs_a_reconnection_and_nothing_else() {
    let server = Server::start().await;
    let node = Node::start(&[&server.url], Duration::from_millis(200)).await;
    let lies = [
        Say::Ack(proto::Ack { sequence: 1 << 60, ..ack() }),
        Say::Ack(proto::Ack { durable_sequence: u64::MAX, ..ack() }),
        Say::Ack(proto::Ack { events_durable: u64::MAX, ..ack() }),
        Say::Welcome(proto::Welcome::default()),
        Say::Desired(proto::Desired { withdrawn: vec![u64::MAX], ..proto::Desired::default() }),
    ];
    for (session_number, lie) in (7..).zip(lies) {
        node.agent().reload();
        let mut session = server.session().await;
        session.welcome(session_number, 200).await;
        session.send(lie).await;
        session.ended().await;
    }
    node.agent().reload();
    let mut session = server.session().await;
    session.welcome(99, 0).await;
    let around = proto::Around {
        elsewhere: vec![proto::Elsewhere {
            workload: "nobody".into(),
            ready: u32::MAX,
            restarting: u32::MAX,
        }],
        dependencies: vec![proto::Dependency { name: "x".into(), status: "purple".into() }],
        ..proto::Around::default()
    };
    session.send(Say::Around(around)).await;
    session.want(&[(11, 0)], true, 3).await;
    beats_until(&mut session, |beat| beat.replicas.iter().any(|it| it.ready)).await;
    node.stop().await;
}

#[tokio::test]
async fn a_server_that_falls_silent_is_left_for_another_and_what_runs_goes_on() {
    let (first, second) = (Server::start().await, Server::start().await);
    let node = Node::start(&[&first.url, &second.url], Duration::from_millis(100)).await;
    let mut session = first.session().await;
    session.welcome(7, 100).await;
    session.want(&[(11, 0)], true, 3).await;
    beats_until(&mut session, |beat| beat.replicas.iter().any(|it| it.ready)).await;
    let started = node.supervisor.status_of("web-0").await.unwrap().replicas[0].incarnation;
    // From here on it says nothing.
    let mut next = second.session().await;
    next.welcome(8, 100).await;
    beats_until(&mut next, |_| true).await;
    let now = node.supervisor.status_of("web-0").await.unwrap().replicas.remove(0);
    assert_eq!((now.incarnation, now.ready), (started, true));
    drop(session);
    node.stop().await;
}

#[tokio::test]
async fn orders_are_carried_out_for_the_placement_they_are_meant_for() {
    let server = Server::start().await;
    let node = Node::start(&[&server.url], Duration::from_millis(300)).await;
    let mut session = server.session().await;
    session.welcome(7, 300).await;
    session.want(&[(11, 0)], true, 3).await;
    beats_until(&mut session, |beat| beat.replicas.iter().any(|it| it.ready)).await;
    let order = |verb: &str, name: &str, generation: u64| proto::Order {
        verb: verb.into(),
        name: name.into(),
        by: "ada".into(),
        generation,
        ..proto::Order::default()
    };
    use proto::answer::What;
    let refusal = |what: What| match what {
        What::Refused(refused) => refused.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal(session.ask(order("restart", "web-0", 12)).await), "not_found");
    assert_eq!(refusal(session.ask(order("restart", "nobody-0", 0)).await), "not_found");
    assert_eq!(refusal(session.ask(order("levitate", "web-0", 0)).await), "not_applicable");
    assert_eq!(session.ask(order("restart", "web-0", 11)).await, What::Done(proto::Done {}));
    beats_until(&mut session, |beat| beat.replicas.iter().any(|it| it.incarnation == 2 && it.ready)).await;
    node.stop().await;
}

#[tokio::test]
async fn a_goodbye_tells_what_is_left_and_how_long_the_agent_is_away() {
    let server = Server::start().await;
    let node = Node::start(&[&server.url], Duration::from_secs(5)).await;
    let mut session = server.session().await;
    session.welcome(7, 5000).await;
    session.want(&[(11, 0)], true, 3).await;
    beats_until(&mut session, |beat| beat.replicas.iter().any(|it| it.ready)).await;
    let leaving = tokio::spawn(async move { node.leave("restart", Some(Duration::from_secs(60))).await });
    let goodbye = session.leaving().await;
    assert_eq!((goodbye.reason.as_str(), goodbye.away_seconds), ("restart", 60));
    drop(session);
    tokio::time::timeout(SOON, leaving).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_ended_without_word_of_a_server_is_asked_for_anew_once_there_is_word_again() {
    let server = Server::start().await;
    let node = Node::start(&[&server.url], Duration::from_millis(100)).await;
    let web = document(
        "kind: Workload\nname: web\nreplicas: 1\nprocess: {command: [/bin/true]}\ndisconnect: {stopAfter: 1s}\n",
    );
    let mut session = server.session().await;
    session.welcome(7, 100).await;
    let wanted = proto::Desired { full: true, ..placement(&[(11, 0)], &web, 3) };
    session.send(Say::Desired(wanted.clone())).await;
    let beats = beats_until(&mut session, |beat| beat.replicas.iter().any(|it| it.ready)).await;
    // The server is there, but takes nothing in: its database is away.
    let last = beats.last().unwrap().clone();
    loop {
        let beat = session.beat().await;
        session.acknowledge(&proto::Beat { events: Vec::new(), ..last.clone() }).await;
        if beat.replicas.iter().any(|it| it.phase == "stopped") {
            session.acknowledge(&beat).await;
            break;
        }
    }
    let mut again = server.session().await;
    assert_eq!(again.register.desired_revision, 0, "only the server knows who has it now");
    again.welcome(8, 100).await;
    again.send(Say::Desired(wanted)).await;
    beats_until(&mut again, |beat| beat.replicas.iter().any(|it| it.ready && it.incarnation == 2)).await;
    node.stop().await;
}

#[tokio::test]
async fn however_short_it_is_away_what_runs_on_is_not_told_gone() {
    for (away, told) in [(Duration::ZERO, 0), (Duration::from_millis(500), 1)] {
        let server = Server::start().await;
        let node = Node::start(&[&server.url], Duration::from_secs(5)).await;
        let mut session = server.session().await;
        session.welcome(7, 5000).await;
        session.want(&[(11, 0)], true, 3).await;
        beats_until(&mut session, |beat| beat.replicas.iter().any(|it| it.ready)).await;
        let leaving = tokio::spawn(async move { node.leave("restart", Some(away)).await });
        let (goodbye, gone) = session.leaving_and_gone().await;
        assert_eq!((goodbye.away_seconds, gone), (told, vec![]));
        drop(session);
        tokio::time::timeout(SOON, leaving).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn an_agent_that_starts_without_a_server_goes_on_by_the_last_desired_state() {
    let server = Server::start().await;
    let node = Node::start(&[&server.url], Duration::from_millis(300)).await;
    let mut session = server.session().await;
    session.welcome(7, 300).await;
    session.want(&[(11, 0)], true, 3).await;
    beats_until(&mut session, |beat| beat.desired_revision == 3).await;
    let dir = node.leave("restart", Some(Duration::from_secs(1))).await;
    drop(session);
    let alone = Node::start_in(dir, &["http://127.0.0.1:9"], Duration::from_millis(300)).await;
    assert!(alone.agent().is_loaded());
    let ready = |it: &hale_model::status::WorkloadStatus| it.replicas.iter().all(|it| it.ready);
    alone.supervisor.wait("web-0", "ready", SOON, ready).await.unwrap();
    let status = alone.supervisor.status_of("web-0").await.unwrap();
    assert_eq!(Generation(status.replicas[0].generation), Generation(11));
    alone.stop().await;
}
