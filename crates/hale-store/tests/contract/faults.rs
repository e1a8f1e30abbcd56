//! PostgreSQL killed, failing over, hanging; several servers on one database. The model is what was acknowledged: it is
//! in the database, once, in order, and nothing else is.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use hale_api::events::EventQuery;
use hale_model::event::EventData;
use hale_store::{
    Options, Store, StoreError,
    cluster::{Change, Guard, Key, Kind, Write, WriteError},
};
use hale_testkit::Postgres;
use tokio::task::JoinSet;

use crate::{
    cluster::{put, server},
    db::connect,
    make::started,
};

const LONG: Duration = Duration::from_secs(120);

/// People who write, each one thing after the other, and count what was acknowledged.
struct Writers {
    tasks: JoinSet<(String, u64)>,
    done: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Writers {
    fn start(stores: &[Store], each: usize) -> Self {
        let (done, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let mut tasks = JoinSet::new();
        for (s, store) in stores.iter().enumerate() {
            for t in 0..each {
                let name = format!("w{s}-{t}");
                tasks.spawn(write_on(store.clone(), name, Arc::clone(&done), Arc::clone(&stop)));
            }
        }
        Self { tasks, done, stop }
    }

    /// Waits until so many more were acknowledged.
    async fn more(&self, more: u64) {
        let until = self.done.load(Ordering::Relaxed) + more;
        let enough = tokio::time::timeout(LONG, async {
            while self.done.load(Ordering::Relaxed) < until {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        enough.await.expect("writes go on by themselves");
    }

    /// How many each of them had acknowledged.
    async fn end(mut self) -> BTreeMap<String, u64> {
        self.stop.store(true, Ordering::Relaxed);
        let mut acknowledged = BTreeMap::new();
        while let Some(it) =
            tokio::time::timeout(LONG, self.tasks.join_next()).await.expect("they come to an end")
        {
            acknowledged.extend([it.unwrap()]);
        }
        acknowledged
    }
}

async fn write_on(store: Store, name: String, done: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> (String, u64) {
    let (mut n, mut last) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let write = Write {
            changes: vec![
                Change::Put(server(&name, &n.to_string())),
                Change::Event(Box::new(started(&format!("{name} {n}")))),
            ],
            guards: Vec::new(),
        };
        match store.write(write).await {
            Ok(committed) => {
                assert!(committed.revision > last, "revisions rise");
                last = committed.revision;
                n += 1;
                done.fetch_add(1, Ordering::Relaxed);
            }
            // Nothing of it was written, so that it is tried again.
            Err(WriteError::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    (name, n)
}

/// What the database has, as a new server sees it.
async fn verify(store: &Store, acknowledged: &BTreeMap<String, u64>) {
    let records = store.load().await.unwrap();
    let last: BTreeMap<String, u64> = records
        .records
        .into_iter()
        .filter_map(|it| match it.record {
            Some(hale_store::cluster::Record::Server(it)) => {
                Some((it.name, it.version.parse::<u64>().unwrap() + 1))
            }
            _ => None,
        })
        .collect();
    assert_eq!(last, *acknowledged);
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    for version in versions(store).await {
        let (name, n) = version.split_once(' ').unwrap();
        let expected = seen.entry(name.to_owned()).or_default();
        assert_eq!(n.parse::<u64>().unwrap(), *expected, "each once and in order, of {name}");
        *expected += 1;
    }
    assert_eq!(seen, *acknowledged);
}

/// What all events say, in the order of their ids.
async fn versions(store: &Store) -> Vec<String> {
    let mut query = EventQuery { after: Some(0), ..EventQuery::default() };
    let (mut versions, mut last) = (Vec::new(), 0);
    loop {
        let (events, seen) = store.events(&query, 1000).await.unwrap();
        for event in &events {
            assert!(event.id > last, "ids rise");
            last = event.id;
            if let EventData::NodeStarted(it) = &event.data {
                versions.push(it.version.clone());
            }
        }
        if query.after == Some(seen) {
            return versions;
        }
        query.after = Some(seen);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_once_after_postgresql_was_killed() {
    let mut postgres = Postgres::start();
    let url = postgres.database();
    let store = connect(&url).await;
    let writers = Writers::start(std::slice::from_ref(&store), 4);
    for _ in 0..3 {
        writers.more(40).await;
        postgres.kill9();
        postgres.restart();
    }
    writers.more(40).await;
    let acknowledged = writers.end().await;
    assert!(store.counters().write_failures > 0, "it was felt");
    assert!(store.check().await.is_ok(), "and is well again");
    store.close().await;
    let store = connect(&url).await;
    verify(&store, &acknowledged).await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_to_a_synchronous_standby_loses_and_doubles_nothing() {
    let mut old = Postgres::start();
    let _database = old.database();
    let new = Postgres::standby_of(&old);
    let url =
        format!("postgres://hale@127.0.0.1:{},127.0.0.1:{}/test_0?sslmode=disable", old.port(), new.port());
    let store = connect(&url).await;
    let writers = Writers::start(std::slice::from_ref(&store), 4);
    writers.more(60).await;
    old.kill9();
    new.promote();
    writers.more(60).await;
    // The old primary comes back as if nothing had been: it is one of the past.
    old.restart();
    writers.more(60).await;
    let acknowledged = writers.end().await;
    store.close().await;
    let store = connect(&url).await;
    verify(&store, &acknowledged).await;
    let stale = connect(&old.url("test_0")).await;
    assert!(stale.revision() < store.revision(), "nothing more went to the old one");
    stale.close().await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_hangs_is_left_for_the_one_that_takes_its_place() {
    let old = Postgres::start();
    let _database = old.database();
    let new = Postgres::standby_of(&old);
    let url =
        format!("postgres://hale@127.0.0.1:{},127.0.0.1:{}/test_0?sslmode=disable", old.port(), new.port());
    let store = connect(&url).await;
    let writers = Writers::start(std::slice::from_ref(&store), 4);
    writers.more(40).await;
    old.freeze();
    new.promote();
    writers.more(40).await;
    old.thaw();
    writers.more(40).await;
    let acknowledged = writers.end().await;
    store.close().await;
    let store = connect(&url).await;
    verify(&store, &acknowledged).await;
    store.close().await;
}

/// Follows the records of a store until it has seen a revision: all revisions, in the order told.
async fn revisions(store: Store, until: u64) -> Vec<u64> {
    let mut follow = store.follow_revision();
    let (mut after, mut seen) = (0, Vec::new());
    while after < until {
        let page = store.changes(after, 50).await.unwrap();
        assert!(!page.reset);
        seen.extend(page.records.into_iter().map(|it| it.revision));
        if page.revision == after {
            follow.changed().await.unwrap();
        }
        after = page.revision;
    }
    seen
}

/// Follows the events of a store, as a stream does.
async fn event_ids(store: Store, until: u64) -> Vec<u64> {
    let mut follow = store.follow();
    let mut query = EventQuery { after: Some(0), ..EventQuery::default() };
    let mut ids = Vec::new();
    while query.after < Some(until) {
        follow.mark_unchanged();
        let (events, seen) = store.events(&query, 50).await.unwrap();
        ids.extend(events.iter().map(|it| it.id));
        if Some(seen) == query.after {
            follow.changed().await.unwrap();
        }
        query.after = Some(seen);
    }
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_on_one_database_see_all_of_each_other_in_one_order() {
    const EACH: u64 = 150;
    let postgres = Postgres::start();
    let url = postgres.database();
    let stores = [connect(&url).await, connect(&url).await];
    let mut writers = JoinSet::new();
    for (s, store) in stores.iter().cloned().enumerate() {
        writers.spawn(async move {
            for n in 0..EACH {
                // Records of their own, so that each revision stays to be seen.
                let mut write = put(server(&format!("{s}-{n}"), "1"));
                write.changes.push(Change::Event(Box::new(started("1"))));
                store.write(write).await.unwrap();
            }
        });
    }
    let all: Vec<u64> = (1..=2 * EACH).collect();
    for store in &stores {
        let (records, events) = (revisions(store.clone(), 2 * EACH), event_ids(store.clone(), 2 * EACH));
        let (records, events) =
            tokio::time::timeout(LONG, async { tokio::join!(records, events) }).await.expect("both see all");
        assert_eq!(records, all);
        assert_eq!(events, all);
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    for store in stores {
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_holder_of_a_lease_is_gone_another_takes_over_and_the_old_one_is_fenced() {
    let postgres = Postgres::start();
    let url = postgres.database();
    let (a, b) = (connect(&url).await, connect(&url).await);
    let lease = a.lease("placement", "a", Duration::from_millis(500)).await.unwrap().unwrap();
    assert_eq!(b.lease("placement", "b", LONG).await.unwrap(), None);
    let taken = tokio::time::timeout(LONG, async {
        loop {
            if let Some(it) = b.lease("placement", "b", LONG).await.unwrap() {
                break it;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert_eq!(taken.await.expect("it runs out").number, lease.number + 1);
    let fenced = Write {
        guards: vec![Guard::Lease { name: lease.name, number: lease.number }],
        ..put(server("a", "1"))
    };
    assert!(matches!(a.write(fenced).await, Err(WriteError::Conflict { .. })));
    // What a node has of one server is another's to read, and to guard by.
    let seen = b.write(put(server("x", "1"))).await.unwrap().revision;
    let guard = Guard::Unchanged { key: Key::new(Kind::Server, "x"), revision: seen };
    let write = |guard: &Guard| Write { guards: vec![guard.clone()], ..put(server("x", "2")) };
    a.write(write(&guard)).await.unwrap();
    assert!(matches!(b.write(write(&guard)).await, Err(WriteError::Conflict { .. })));
    // One silent server hears of the other's event without writing anything.
    let mut follow = a.follow();
    b.append(started("1"));
    tokio::time::timeout(LONG, follow.wait_for(|it| *it == 1)).await.expect("it is told").unwrap();
    assert!(matches!(a.backup(std::path::Path::new("/nowhere")).await, Err(StoreError::NotHere)));
    a.close().await;
    b.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_start_at_once_migrate_once_and_a_newer_schema_is_refused() {
    let postgres = Postgres::start();
    let url = postgres.database();
    let mut starts = JoinSet::new();
    for _ in 0..4 {
        let url = url.clone();
        starts.spawn(async move { connect(&url).await });
    }
    while let Some(store) = starts.join_next().await {
        store.unwrap().close().await;
    }
    postgres.sql("test_0", "UPDATE hale_schema SET version = 99");
    let refused = Store::connect(&url, Options::default()).await;
    assert!(matches!(refused, Err(StoreError::NewerSchema { found: 99, .. })), "{refused:?}");
    let nobody = Store::connect("postgres://hale@127.0.0.1:1/x", Options::default()).await.unwrap_err();
    assert!(nobody.to_string().contains("127.0.0.1:1"), "{nobody}");
}
