//! The store on real files: what is acknowledged stays, what is followed has no gap, what is old goes.

#![expect(clippy::unwrap_used, reason = "a test helper that can't help fails the test")]

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use hale_api::events::EventQuery;
use hale_model::{
    ProbeKind, Reason,
    event::{
        EventData, Instance, NewEvent, NodeStarted, ReplicaReady, ReplicaStarting, Severity,
        TargetProbeFailed,
    },
    report::OutcomeRecord,
};
use hale_store::{AuditRecord, Options, Store};
use jiff::Timestamp;
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};

fn started(version: &str) -> NewEvent {
    NewEvent {
        time: Timestamp::now(),
        source: "/nodes/local".to_owned(),
        subject: "local".to_owned(),
        data: EventData::NodeStarted(NodeStarted { version: version.to_owned() }),
    }
}

fn instance(incarnation: u64) -> Instance {
    Instance { workload: "web".to_owned(), node: "local".to_owned(), incarnation, ..Instance::default() }
}

fn about(subject: &str, data: EventData) -> NewEvent {
    NewEvent { subject: subject.to_owned(), data, ..started("") }
}

fn ready(replica: &str) -> NewEvent {
    let data =
        ReplicaReady { instance: instance(1), reason: "readiness: 1/1".to_owned(), not_ready_seconds: None };
    about(replica, EventData::ReplicaReady(data))
}

fn failed(target: &str) -> NewEvent {
    let data = TargetProbeFailed {
        consecutive_failures: 3,
        last_status: 0,
        last_reason: Reason::Timeout,
        last_error: "no answer within 2s".to_owned(),
    };
    about(target, EventData::TargetProbeFailed(data))
}

fn outcome(subject: &str, second: i64, reason: Option<Reason>) -> OutcomeRecord {
    OutcomeRecord {
        subject: subject.to_owned(),
        probe: Some(ProbeKind::Liveness),
        incarnation: 1,
        at: Timestamp::from_second(1_700_000_000 + second).unwrap(),
        took_ms: 1.5,
        reason,
        detail: reason.map(|it| it.to_string()),
        consecutive: 1,
        threshold: 3,
    }
}

async fn open(dir: &Path) -> Store {
    Store::open(&dir.join("hale.db"), Options::default()).await.unwrap()
}

async fn ids(store: &Store, query: &EventQuery) -> Vec<u64> {
    store.events(query, 1000).await.unwrap().0.iter().map(|it| it.id).collect()
}

#[tokio::test]
async fn events_are_numbered_in_the_order_taken_and_numbers_go_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    for n in 1..=3 {
        store.append(started(&n.to_string()));
    }
    store.flush().await.unwrap();
    assert_eq!(ids(&store, &EventQuery::default()).await, [1, 2, 3]);
    let (live, _) = store.events(&EventQuery::default(), 10).await.unwrap();
    store.close().await;

    let store = open(dir.path()).await;
    let (stored, seen) = store.events(&EventQuery::default(), 10).await.unwrap();
    assert_eq!(live, stored, "what was told live is what is read later");
    assert_eq!(seen, 3);
    store.append(started("4"));
    store.flush().await.unwrap();
    assert_eq!(store.latest(), 4);
    store.close().await;
}

#[tokio::test]
async fn numbers_are_not_given_again_when_all_events_were_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    store.append(started("1"));
    store.flush().await.unwrap();
    store.close().await;
    let mut raw = raw(dir.path()).await;
    sqlx::query("DELETE FROM events").execute(&mut raw).await.unwrap();
    raw.close().await.unwrap();
    let store = open(dir.path()).await;
    store.append(started("2"));
    store.flush().await.unwrap();
    assert_eq!(ids(&store, &EventQuery::default()).await, [2]);
    store.close().await;
}

#[tokio::test]
async fn the_filters_find_the_same_in_memory_and_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    for event in [started("1"), ready("web-0"), ready("web-1"), failed("billing"), ready("web-0")] {
        store.append(event);
    }
    store.flush().await.unwrap();
    let subject = |it: &str| EventQuery { subject: Some(it.to_owned()), ..EventQuery::default() };
    let kind = |it: &str| EventQuery { kind: Some(it.to_owned()), ..EventQuery::default() };
    let cases: Vec<(EventQuery, Vec<u64>)> = vec![
        (EventQuery::default(), vec![1, 2, 3, 4, 5]),
        (subject("web-0"), vec![2, 5]),
        (subject("web"), vec![2, 3, 5]),
        (subject("nothing"), vec![]),
        (kind("ready"), vec![2, 3, 5]),
        (kind("replica.ready,probe_failed"), vec![2, 3, 4, 5]),
        (kind("dev.hale.node.started"), vec![1]),
        (EventQuery { severity: Some(Severity::Error), ..EventQuery::default() }, vec![4]),
        (EventQuery { after: Some(2), ..subject("web") }, vec![3, 5]),
        (EventQuery { after: Some(5), ..EventQuery::default() }, vec![]),
    ];
    for (query, expected) in &cases {
        assert_eq!(ids(&store, query).await, *expected, "in memory: {query:?}");
    }
    store.close().await;
    let store = open(dir.path()).await;
    for (query, expected) in &cases {
        assert_eq!(ids(&store, query).await, *expected, "on disk: {query:?}");
    }
    let newest = EventQuery { newest: true, ..subject("web") };
    let (events, _) = store.events(&newest, 2).await.unwrap();
    assert_eq!(events.iter().map(|it| it.id).collect::<Vec<_>>(), [3, 5], "the newest, oldest first");
    store.close().await;
}

#[tokio::test]
async fn a_reader_who_goes_page_by_page_sees_each_event_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    for n in 0..250 {
        store.append(if n % 3 == 0 { ready("web-0") } else { started("x") });
    }
    store.flush().await.unwrap();
    for reopened in [false, true] {
        let store = if reopened {
            store.close().await;
            open(dir.path()).await
        } else {
            store.clone()
        };
        let mut query =
            EventQuery { kind: Some("ready".to_owned()), after: Some(0), ..EventQuery::default() };
        let mut seen = Vec::new();
        loop {
            let (events, next) = store.events(&query, 7).await.unwrap();
            seen.extend(events.iter().map(|it| it.id));
            if query.after == Some(next) {
                break;
            }
            query.after = Some(next);
        }
        let expected: Vec<u64> = (1..=250).filter(|id| (id - 1) % 3 == 0).collect();
        assert_eq!(seen, expected, "reopened: {reopened}");
        if reopened {
            store.close().await;
        }
    }
}

#[tokio::test]
async fn what_events_add_up_to_is_there_at_the_next_start_and_gone_with_the_replica() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let starting = ReplicaStarting { instance: instance(7), reason: "restart".to_owned(), restarts: 6 };
    store.append(about("web-0", EventData::ReplicaStarting(starting)));
    store.append(ready("web-1"));
    store.close().await;

    let store = open(dir.path()).await;
    let records = store.replicas().await.unwrap();
    assert_eq!(records.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["web-0", "web-1"]);
    assert_eq!((records[0].incarnation, records[0].restarts), (7, 6));
    store.forget("web-0");
    store.flush().await.unwrap();
    assert_eq!(store.replicas().await.unwrap().len(), 1);
    store.close().await;
}

#[tokio::test]
async fn the_last_hundred_outcomes_are_whole_and_all_are_counted_in_runs_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let reason = |n: i64| (n % 100 >= 97).then_some(Reason::Timeout);
    for part in 0..2 {
        let store = open(dir.path()).await;
        for n in part * 150..(part + 1) * 150 {
            store.outcome(outcome("web-0", n, reason(n)));
        }
        store.close().await;
    }
    let store = open(dir.path()).await;
    let history = store.history("web-0").await.unwrap();
    let [probe] = history.as_slice() else { panic!("{history:?}") };
    assert_eq!(probe.probe, Some(ProbeKind::Liveness));
    let expected: Vec<_> = (200..300).map(|n| outcome("web-0", n, reason(n))).collect();
    assert_eq!(probe.outcomes, expected);
    let runs: Vec<_> = probe.runs.iter().map(|it| (it.count, it.reason)).collect();
    let bad = Some(Reason::Timeout);
    assert_eq!(runs, [(97, None), (3, bad), (97, None), (3, bad), (97, None), (3, bad)]);
    assert!(store.history("web-1").await.unwrap().is_empty());
    store.close().await;
}

async fn raw(dir: &Path) -> SqliteConnection {
    SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(dir.join("hale.db"))).await.unwrap()
}

#[tokio::test]
async fn a_write_that_fails_is_tried_again_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let mut other = raw(dir.path()).await;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    store.append(started("1"));
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while store.counters().write_failures == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.expect("the write fails while another holds the file");
    assert!(store.check().await.is_err(), "it says that it can't be written to");
    assert_eq!(store.latest(), 0, "an event that is not durable is not told");
    store.append(started("2"));
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    store.flush().await.unwrap();
    assert!(store.check().await.is_ok());
    assert_eq!(ids(&store, &EventQuery::default()).await, [1, 2]);
    assert_eq!(store.counters().facts_lost, 0);
    store.close().await;
}

#[tokio::test]
async fn who_asked_for_what_is_on_record() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    store.audit(AuditRecord {
        at: Timestamp::now(),
        by: "ada via cli".to_owned(),
        action: "restart".to_owned(),
        subject: "workloads/web".to_owned(),
        detail: "new config".to_owned(),
    });
    store.close().await;
    let mut raw = raw(dir.path()).await;
    let row: (String, String) =
        sqlx::query_as("SELECT by, action FROM audit").fetch_one(&mut raw).await.unwrap();
    assert_eq!(row, ("ada via cli".to_owned(), "restart".to_owned()));
}

#[tokio::test]
async fn after_it_was_closed_nothing_is_taken_and_nobody_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    store.close().await;
    assert!(!store.append(started("late")));
    assert!(store.flush().await.is_err());
    assert!(store.check().await.is_err());
    store.close().await;
}

/// Not a test of its own: the process that the next one kills.
#[tokio::test]
async fn child_that_writes() {
    let Some(dir) = std::env::var_os("HALE_STORE_TEST_DIR") else { return };
    let store = open(Path::new(&dir)).await;
    loop {
        for n in 0..10 {
            store.append(started(&n.to_string()));
        }
        store.flush().await.unwrap();
        println!("durable {}", store.latest());
    }
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_by_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    for round in 1..=3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child_that_writes", "--exact", "--nocapture"])
            .env("HALE_STORE_TEST_DIR", dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = 0;
        for line in lines.by_ref().map_while(Result::ok).take(20 * round) {
            if let Some(id) = line.strip_prefix("durable ") {
                acknowledged = id.parse().unwrap();
            }
        }
        child.kill().unwrap();
        for line in lines.map_while(Result::ok) {
            if let Some(id) = line.strip_prefix("durable ") {
                acknowledged = id.parse().unwrap_or(acknowledged);
            }
        }
        child.wait().unwrap();
        assert!(acknowledged > 0);
        let store = open(dir.path()).await;
        let latest = store.latest();
        assert!(latest >= acknowledged, "{latest} is durable, {acknowledged} was acknowledged");
        let mut query = EventQuery { after: Some(0), ..EventQuery::default() };
        let mut expected = 1;
        while query.after < Some(latest) {
            let (events, next) = store.events(&query, 1000).await.unwrap();
            for event in events {
                assert_eq!(event.id, expected, "no hole");
                expected += 1;
            }
            query.after = Some(next);
        }
        assert_eq!(expected, latest + 1);
        store.close().await;
    }
}
