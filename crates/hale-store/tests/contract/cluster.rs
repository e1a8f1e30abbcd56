//! Records with guards, the feed of changes, leases.

use std::{collections::BTreeMap, time::Duration};

use hale_api::events::EventQuery;
use hale_model::cluster::{
    ClusterRecord, DiagnosticsRecord, DiagnosticsStatus, ServerRecord, SessionRecord, SessionState,
};
use hale_store::{
    Store,
    cluster::{Change, Committed, Guard, Key, Kind, Record, Write, WriteError},
};
use jiff::Timestamp;

use crate::{
    db::Db,
    make::{failed, started},
};

const SOON: Duration = Duration::from_secs(30);

pub(crate) fn server(name: &str, version: &str) -> Record {
    Record::Server(ServerRecord {
        name: name.to_owned(),
        url: "http://127.0.0.1:1".to_owned(),
        version: version.to_owned(),
        started_at: Timestamp::from_second(1_700_000_000).unwrap(),
    })
}

fn session(node: &str, events_durable: u64) -> Record {
    Record::Session(SessionRecord {
        node: node.to_owned(),
        session: 1,
        server: "a".to_owned(),
        instance: "i".to_owned(),
        boot_id: "b".to_owned(),
        state: SessionState::Connected,
        since: Timestamp::from_second(1_700_000_000).unwrap(),
        spool: "s".to_owned(),
        events_durable,
        epoch: 1,
    })
}

fn cluster(epoch: u64) -> Record {
    Record::Cluster(ClusterRecord {
        id: "c".to_owned(),
        epoch,
        last_generation: 0,
        last_session: 0,
        adoptable_below: 0,
    })
}

pub(crate) fn put(record: Record) -> Write {
    Write { changes: vec![Change::Put(record)], guards: Vec::new() }
}

fn delete(record: &Record) -> Write {
    Write { changes: vec![Change::Delete(record.key())], guards: Vec::new() }
}

async fn names(store: &Store, after: u64) -> Vec<(u64, String, bool)> {
    let changes = store.changes(after, 1000).await.unwrap();
    assert!(!changes.reset);
    changes.records.into_iter().map(|it| (it.revision, it.key.name, it.record.is_some())).collect()
}

pub(super) async fn what_is_written_is_read_and_told_in_order(db: Db) {
    let store = db.open().await;
    let follow = store.follow_revision();
    let one = store.write(put(server("a", "1"))).await.unwrap();
    assert_eq!((one.revision, store.revision(), *follow.borrow()), (1, 1, 1));
    let both = Write {
        changes: vec![Change::Put(server("b", "1")), Change::Put(session("n", 0))],
        guards: Vec::new(),
    };
    assert_eq!(store.write(both).await.unwrap().revision, 2);
    store.write(put(server("a", "2"))).await.unwrap();
    let told = [(2, "b".to_owned(), true), (2, "n".to_owned(), true), (3, "a".to_owned(), true)];
    let sorted = |mut it: Vec<_>| {
        it.sort();
        it
    };
    assert_eq!(sorted(names(&store, 0).await), sorted(told.to_vec()), "of what changed twice, the last");
    assert_eq!(names(&store, 2).await, [told[2].clone()]);
    assert!(names(&store, 3).await.is_empty());
    store.close().await;

    let store = db.open().await;
    assert_eq!(store.revision(), 3);
    let all = store.load().await.unwrap();
    assert!(all.reset);
    assert_eq!(all.revision, 3);
    let records: BTreeMap<Key, Record> =
        all.records.into_iter().map(|it| (it.key, it.record.unwrap())).collect();
    assert_eq!(records[&Key::new(Kind::Server, "a")], server("a", "2"));
    assert_eq!(records[&Key::new(Kind::Session, "n")], session("n", 0));
    assert_eq!(records.len(), 3);
    let beyond = store.changes(4, 10).await.unwrap();
    assert!(beyond.reset, "nobody was given that revision");
    assert_eq!(beyond.records.len(), 3);
    store.close().await;
}

pub(super) async fn a_guard_that_fails_costs_only_its_own_write(db: Db) {
    let store = db.open().await;
    let first = store.write(put(server("a", "1"))).await.unwrap().revision;
    let second = store.write(put(server("a", "2"))).await.unwrap().revision;
    let guarded = |guard, name: &str| {
        let write = Write { changes: vec![Change::Put(server(name, "1"))], guards: vec![guard] };
        let store = store.clone();
        async move { store.write(write).await }
    };
    let key = Key::new(Kind::Server, "a");
    let (stale, neighbour, fresh, absent, there, lease) = tokio::join!(
        guarded(Guard::Unchanged { key: key.clone(), revision: first }, "stale"),
        store.write(put(server("neighbour", "1"))),
        guarded(Guard::Unchanged { key: key.clone(), revision: second }, "fresh"),
        guarded(Guard::Absent(Key::new(Kind::Server, "x")), "absent"),
        guarded(Guard::Absent(key), "there"),
        guarded(Guard::Lease { name: "placement".to_owned(), number: 1 }, "lease"),
    );
    assert_eq!(stale, Err(WriteError::Conflict { what: "server a".to_owned() }));
    assert_eq!(there, Err(WriteError::Conflict { what: "server a".to_owned() }));
    assert_eq!(lease, Err(WriteError::Conflict { what: "the lease placement".to_owned() }));
    assert!(neighbour.is_ok() && fresh.is_ok() && absent.is_ok());
    let mut there: Vec<_> = names(&store, second).await.into_iter().map(|it| it.1).collect();
    there.sort();
    assert_eq!(there, ["absent", "fresh", "neighbour"]);
    store.close().await;
}

pub(super) async fn what_changes_nothing_is_not_written(db: Db) {
    let store = db.open().await;
    let first = store.write(put(server("a", "1"))).await.unwrap();
    let again = store.write(put(server("a", "1"))).await.unwrap();
    assert_eq!(first, again);
    let nothing = store.write(delete(&server("never", ""))).await.unwrap();
    assert_eq!(nothing, first);
    let only_event = Write {
        changes: vec![Change::Put(server("a", "1")), Change::Event(Box::new(started("1")))],
        guards: vec![],
    };
    let event = store.write(only_event).await.unwrap();
    assert_eq!(event, Committed { revision: first.revision, last_event: 1 });
    assert_eq!(store.revision(), 1);
    store.close().await;
}

pub(super) async fn pages_of_changes_are_cut_between_writes(db: Db) {
    let store = db.open().await;
    for n in 0..5 {
        let changes = ["x", "y", "z"].map(|it| Change::Put(server(&format!("{it}{n}"), "1"))).to_vec();
        store.write(Write { changes, guards: Vec::new() }).await.unwrap();
    }
    for limit in [1, 2, 3, 4, 6, 7, 15, 100] {
        let (mut after, mut seen) = (0, Vec::new());
        while after < store.revision() {
            let page = store.changes(after, limit).await.unwrap();
            assert!(page.revision > after, "limit {limit}");
            assert!(page.records.iter().all(|it| it.revision > after && it.revision <= page.revision));
            assert_eq!(page.records.len() % 3, 0, "a write is not cut in two");
            seen.extend(page.records.into_iter().map(|it| it.key.name));
            after = page.revision;
        }
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 15, "limit {limit}");
    }
    store.close().await;
}

pub(super) async fn a_deletion_is_told_and_then_forgotten(db: Db) {
    let store = db.open().await;
    store.write(put(server("a", "1"))).await.unwrap();
    store.write(put(server("b", "1"))).await.unwrap();
    let gone = store.write(delete(&server("a", ""))).await.unwrap();
    assert_eq!(names(&store, 2).await, [(gone.revision, "a".to_owned(), false)]);
    assert_eq!(store.load().await.unwrap().records.len(), 1);
    let back = Write { guards: vec![Guard::Absent(Key::new(Kind::Server, "a"))], ..put(server("a", "2")) };
    store.write(back).await.unwrap();
    assert_eq!(names(&store, 3).await, [(4, "a".to_owned(), true)]);
    store.close().await;
}

pub(super) async fn a_lease_is_one_holders_until_its_end_and_its_number_fences(db: Db) {
    let store = db.open().await;
    let first = store.lease("placement", "a", Duration::from_millis(300)).await.unwrap().unwrap();
    assert_eq!((first.number, first.holder.as_str()), (1, "a"));
    assert_eq!(store.lease("placement", "b", SOON).await.unwrap(), None, "another holds it");
    let renewed = store.lease("placement", "a", Duration::from_millis(300)).await.unwrap().unwrap();
    assert_eq!(renewed.number, 1, "renewing is no change of holder");
    let held = store.leases().await.unwrap();
    assert_eq!(held.len(), 1);
    assert!(held[0].left_ms <= 300, "{held:?}");
    let by = |number| Write {
        guards: vec![Guard::Lease { name: "placement".to_owned(), number }],
        ..put(server("by", &number.to_string()))
    };
    assert!(store.write(by(1)).await.is_ok());
    let taken = tokio::time::timeout(SOON, async {
        loop {
            if let Some(it) = store.lease("placement", "b", SOON).await.unwrap() {
                break it;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let taken = taken.await.expect("the lease of who does not renew it ends");
    assert_eq!(taken.number, 2);
    assert!(matches!(store.write(by(1)).await, Err(WriteError::Conflict { .. })), "the old holder is fenced");
    assert!(store.write(by(2)).await.is_ok());
    assert_eq!(store.lease("placement", "a", SOON).await.unwrap(), None);
    store.close().await;
}

pub(super) async fn a_lease_given_back_is_free_at_once(db: Db) {
    let store = db.open().await;
    let mine = store.lease("webhooks", "a", SOON).await.unwrap().unwrap();
    store.release(&mine).await;
    assert!(store.leases().await.unwrap().is_empty());
    let by = Write {
        guards: vec![Guard::Lease { name: "webhooks".to_owned(), number: mine.number }],
        ..put(server("by", "1"))
    };
    assert!(store.write(by).await.is_err(), "what was given back allows nothing");
    let theirs = store.lease("webhooks", "b", SOON).await.unwrap().unwrap();
    assert_eq!(theirs.number, mine.number + 1);
    store.release(&mine).await;
    assert_eq!(store.leases().await.unwrap().len(), 1, "it was another's by then");
    let near = store.now().await.unwrap().duration_since(Timestamp::now()).abs();
    assert!(near < jiff::SignedDuration::from_mins(5), "{near}");
    store.close().await;
}

pub(super) async fn many_writers_are_grouped_and_each_gets_its_answer(db: Db) {
    let store = db.open().await;
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..300 {
        let store = store.clone();
        writers.spawn(async move { (n, store.write(put(server(&n.to_string(), "1"))).await.unwrap()) });
    }
    let mut revisions = BTreeMap::new();
    while let Some(done) = writers.join_next().await {
        let (n, committed) = done.unwrap();
        assert_eq!(revisions.insert(committed.revision, n.to_string()), None, "each has its own");
    }
    let told = store.changes(0, 1000).await.unwrap();
    let told: BTreeMap<u64, String> = told.records.into_iter().map(|it| (it.revision, it.key.name)).collect();
    assert_eq!(told, revisions);
    assert!(store.counters().commits < 300, "what gathers is written together");
    store.close().await;
}

pub(super) async fn events_and_records_of_one_write_come_together_or_not_at_all(db: Db) {
    let store = db.open().await;
    let spooled = |durable: u64, guard: Option<Guard>| Write {
        changes: vec![
            Change::Event(Box::new(started(&durable.to_string()))),
            Change::Put(session("n", durable)),
            Change::Event(Box::new(failed("billing"))),
        ],
        guards: guard.into_iter().collect(),
    };
    let done = store.write(spooled(2, None)).await.unwrap();
    assert_eq!((done.last_event, store.latest()), (2, 2));
    let refused = store.write(spooled(4, Some(Guard::Absent(Key::new(Kind::Session, "n"))))).await;
    assert!(refused.is_err());
    assert_eq!(store.latest(), 2, "nothing of it");
    assert_eq!(store.load().await.unwrap().records[0].record, Some(session("n", 2)));
    let (events, _) = store.events(&EventQuery::default(), 10).await.unwrap();
    assert_eq!(events.len(), 2);
    store.close().await;
}

pub(super) async fn a_raised_epoch_leaves_out_numbers_and_resets_whoever_follows(db: Db) {
    let store = db.open().await;
    store.write(put(cluster(4))).await.unwrap();
    store.append(started("1"));
    store.flush().await.unwrap();
    assert!(!store.is_beyond_end(1).await.unwrap());
    assert!(store.is_beyond_end(2).await.unwrap());
    assert_eq!(store.raise_epoch().await.unwrap(), 5);
    let Some(Record::Cluster(now)) = store.load().await.unwrap().records.remove(0).record else { panic!() };
    assert_eq!(now.epoch, 5);
    assert!(now.last_generation > 1_000_000, "an agent may hold one that was given after the backup");
    assert!(now.last_session > 1_000_000);
    assert_eq!(now.adoptable_below, now.last_generation);
    assert!(store.changes(1, 10).await.unwrap().reset, "from before");
    assert!(store.changes(1000, 10).await.unwrap().reset, "given after the backup, and lost");
    store.append(started("2"));
    store.flush().await.unwrap();
    let latest = store.latest();
    assert!(latest > 1_000_000);
    assert!(store.is_beyond_end(1000).await.unwrap(), "given after the backup, and lost");
    assert!(!store.is_beyond_end(1).await.unwrap(), "known to both");
    assert!(!store.is_beyond_end(latest).await.unwrap());
    let after = EventQuery { after: Some(1), ..EventQuery::default() };
    let (events, seen) = store.events(&after, 10).await.unwrap();
    assert_eq!((events.len(), seen), (1, latest));
    store.close().await;
}

pub(super) async fn a_follower_sees_every_revision_once_and_in_order(db: Db) {
    let store = db.open().await;
    let mut follow = store.follow_revision();
    let follower = tokio::spawn({
        let store = store.clone();
        async move {
            let (mut after, mut seen) = (0, Vec::new());
            while after < 200 {
                let page = store.changes(after, 7).await.unwrap();
                assert!(!page.reset);
                seen.extend(page.records.into_iter().map(|it| it.revision));
                if page.revision == after {
                    follow.changed().await.unwrap();
                }
                after = page.revision;
            }
            seen
        }
    });
    for n in 0..200 {
        store.write(put(server(&n.to_string(), "1"))).await.unwrap();
    }
    let seen = tokio::time::timeout(SOON, follower).await.expect("it comes to the end").unwrap();
    assert_eq!(seen, (1..=200).collect::<Vec<u64>>());
    store.close().await;
}

pub(super) async fn a_large_text_stands_beside_its_record_and_goes_with_it(db: Db) {
    let store = db.open().await;
    let record = Record::Diagnostics(Box::new(DiagnosticsRecord {
        id: "r1".to_owned(),
        object_id: Some("o1".to_owned()),
        replica: None,
        agent_id: "a1".to_owned(),
        status: DiagnosticsStatus::Completed,
        requested_by: "ann".to_owned(),
        created_at: Timestamp::from_second(1_700_000_000).unwrap(),
        claimed_at: None,
        completed_at: None,
        expires_at: Timestamp::from_second(1_700_003_600).unwrap(),
        error: None,
        claims: 1,
        digest: None,
    }));
    let key = record.key();
    let text = "x\u{e9}\0".repeat(2 << 20);
    let changes = vec![Change::Put(record.clone()), Change::Text(key.clone(), text.clone())];
    let guards = vec![Guard::Absent(key.clone())];
    let committed = store.write(Write { changes, guards: guards.clone() }).await.unwrap();
    assert_eq!(committed.revision, 1);
    let names = ["r1".to_owned(), "r2".to_owned()];
    let read = store.texts(Kind::Diagnostics, &names).await.unwrap();
    assert_eq!(read.len(), 1);
    assert!(
        read["r1"] == text.replace('\0', "\u{fffd}"),
        "as it was written, but for what no database keeps"
    );
    let told = store.changes(0, 10).await.unwrap();
    assert_eq!(told.records[0].record.as_ref(), Some(&record), "the feed has the record alone");

    // A write whose guard does not hold leaves the text as it was.
    let changes = vec![Change::Text(key.clone(), "other".to_owned())];
    assert!(matches!(store.write(Write { changes, guards }).await, Err(WriteError::Conflict { .. })));
    assert!(store.texts(Kind::Diagnostics, &names).await.unwrap()["r1"].len() > 5);
    assert!(store.texts(Kind::DeploymentObject, &names).await.unwrap().is_empty(), "by kind");

    store.write(delete(&record)).await.unwrap();
    assert!(store.texts(Kind::Diagnostics, &names).await.unwrap().is_empty(), "it goes with its record");
    store.close().await;
}
