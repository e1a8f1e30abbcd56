//! Events, what they add up to, outcomes, audit.

use hale_api::events::EventQuery;
use hale_model::{
    ProbeKind, Reason,
    event::{EventData, ReplicaStarting, Severity},
    series::{DAY, FINE, text},
};
use hale_store::{AuditRecord, Store};
use jiff::Timestamp;

use crate::{
    db::Db,
    make::{about, failed, instance, outcome, piece, ready, started},
};

async fn ids(store: &Store, query: &EventQuery) -> Vec<u64> {
    store.events(query, 1000).await.unwrap().0.iter().map(|it| it.id).collect()
}

pub(super) async fn events_are_numbered_in_the_order_taken_and_numbers_go_on_after_a_restart(db: Db) {
    let store = db.open().await;
    for n in 1..=3 {
        store.append(started(&n.to_string()));
    }
    store.flush().await.unwrap();
    assert_eq!(ids(&store, &EventQuery::default()).await, [1, 2, 3]);
    let (live, _) = store.events(&EventQuery::default(), 10).await.unwrap();
    store.close().await;

    let store = db.open().await;
    let (stored, seen) = store.events(&EventQuery::default(), 10).await.unwrap();
    assert_eq!(live, stored, "what was told live is what is read later");
    assert_eq!(seen, 3);
    store.append(started("4"));
    store.flush().await.unwrap();
    assert_eq!(store.latest(), 4);
    store.close().await;
}

pub(super) async fn numbers_are_not_given_again_when_all_events_were_forgotten(db: Db) {
    let store = db.open().await;
    store.append(started("1"));
    store.flush().await.unwrap();
    store.close().await;
    db.raw("DELETE FROM events").await;
    let store = db.open().await;
    store.append(started("2"));
    store.flush().await.unwrap();
    assert_eq!(ids(&store, &EventQuery::default()).await, [2]);
    store.close().await;
}

pub(super) async fn the_filters_find_the_same_in_memory_and_on_disk(db: Db) {
    let store = db.open().await;
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
    let store = db.open().await;
    for (query, expected) in &cases {
        assert_eq!(ids(&store, query).await, *expected, "on disk: {query:?}");
    }
    let newest = EventQuery { newest: true, ..subject("web") };
    let (events, _) = store.events(&newest, 2).await.unwrap();
    assert_eq!(events.iter().map(|it| it.id).collect::<Vec<_>>(), [3, 5], "the newest, oldest first");
    store.close().await;
}

pub(super) async fn a_reader_who_goes_page_by_page_sees_each_event_once(db: Db) {
    let store = db.open().await;
    for n in 0..250 {
        store.append(if n % 3 == 0 { ready("web-0") } else { started("x") });
    }
    store.flush().await.unwrap();
    for reopened in [false, true] {
        let store = if reopened {
            store.close().await;
            db.open().await
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

pub(super) async fn what_events_add_up_to_is_there_at_the_next_start_and_gone_with_the_replica(db: Db) {
    let store = db.open().await;
    let starting = ReplicaStarting { instance: instance(7), reason: "restart".to_owned(), restarts: 6 };
    store.append(about("web-0", EventData::ReplicaStarting(starting)));
    store.append(ready("web-1"));
    store.close().await;

    let store = db.open().await;
    let records = store.replicas().await.unwrap();
    assert_eq!(records.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["web-0", "web-1"]);
    assert_eq!((records[0].incarnation, records[0].restarts), (7, 6));
    store.forget("web-0");
    store.flush().await.unwrap();
    assert_eq!(store.replicas().await.unwrap().len(), 1);
    store.close().await;
}

pub(super) async fn the_last_hundred_outcomes_are_whole_and_all_are_counted_in_runs_over_restarts(db: Db) {
    let reason = |n: i64| (n % 100 >= 97).then_some(Reason::Timeout);
    for part in 0..2 {
        let store = db.open().await;
        for n in part * 150..(part + 1) * 150 {
            store.outcome(outcome("web-0", n, reason(n)));
        }
        store.close().await;
    }
    let store = db.open().await;
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

pub(super) async fn series_are_added_to_day_by_day_over_restarts_and_gone_with_the_target(db: Db) {
    let day = 19_000;
    for part in 0..3 {
        let store = db.open().await;
        for n in 0..4 {
            // The last is of the next day; each is told in two pieces, in two runs.
            store.series(piece("api", day * DAY + (284 + n + u64::from(n == 3)) * FINE, part));
        }
        store.series(piece("other", day * DAY, part));
        store.close().await;
    }
    let store = db.open().await;
    let history = store.history("api").await.unwrap();
    let [probe] = history.as_slice() else { panic!("{history:?}") };
    assert_eq!((probe.probe, probe.outcomes.len()), (None, 0));
    let days: Vec<u64> = probe.series.iter().map(|it| it.0).collect();
    assert_eq!(days, [day, day + 1]);
    let buckets = text::read(day, &probe.series[0].1);
    assert_eq!(buckets.iter().map(|it| it.successes).collect::<Vec<_>>(), [3; 3]);
    assert_eq!(text::read(day + 1, &probe.series[1].1)[0].latency.count(), 3);
    store.forget("api");
    store.flush().await.unwrap();
    assert!(store.history("api").await.unwrap().is_empty());
    assert_eq!(store.history("other").await.unwrap().len(), 1);
    store.close().await;
}

pub(super) async fn who_asked_for_what_is_on_record(db: Db) {
    let store = db.open().await;
    let record = |action: &str| AuditRecord {
        at: Timestamp::from_second(1_700_000_000).unwrap(),
        by: "ada via cli".to_owned(),
        action: action.to_owned(),
        subject: "workloads/web".to_owned(),
        detail: "new config".to_owned(),
    };
    for action in ["restart", "pause", "resume"] {
        store.audit(record(action));
    }
    store.close().await;
    let store = db.open().await;
    let log = store.audit_log(0, 2).await.unwrap();
    assert_eq!(log, [(1, record("restart")), (2, record("pause"))]);
    assert_eq!(store.audit_log(2, 10).await.unwrap(), [(3, record("resume"))]);
    store.close().await;
}

pub(super) async fn after_it_was_closed_nothing_is_taken_and_nobody_hangs(db: Db) {
    let store = db.open().await;
    store.close().await;
    assert!(!store.append(started("late")));
    assert!(store.flush().await.is_err());
    assert!(store.check().await.is_err());
    assert!(store.lease("placement", "me", std::time::Duration::from_secs(9)).await.is_err());
    assert_eq!(store.write(Default::default()).await, Err(hale_store::cluster::WriteError::Closed));
    store.close().await;
}

pub(super) async fn a_text_with_a_nul_harms_nobody(db: Db) {
    let store = db.open().await;
    let mut bad = failed("bil\0ling");
    bad.source = "/nodes/\0".to_owned();
    if let EventData::TargetProbeFailed(it) = &mut bad.data {
        it.last_error = "it said \0".to_owned();
    }
    store.append(bad);
    let mut detail = outcome("web\0", 1, Some(Reason::Timeout));
    detail.detail = Some("\0".to_owned());
    store.outcome(detail);
    store.append(started("next"));
    store.flush().await.unwrap();
    let (live, _) = store.events(&EventQuery::default(), 10).await.unwrap();
    store.close().await;
    let store = db.open().await;
    let (read, _) = store.events(&EventQuery::default(), 10).await.unwrap();
    assert_eq!(live, read);
    assert_eq!(read.len(), 2);
    assert_eq!(read[0].subject, "bil\u{fffd}ling");
    assert_eq!(store.counters().facts_lost, 0);
    store.close().await;
}
