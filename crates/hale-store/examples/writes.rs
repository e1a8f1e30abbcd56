//! Single transitions a second: `cargo xtask bench store`.
//!
//! Each of some writers makes one replica's record and one event durable, waits for that, and does the next. Beside
//! them: what the disk can do at least, a file that is appended to and synced for each.
#![expect(clippy::print_stdout, reason = "a benchmark tells its figures")]
#![expect(clippy::unwrap_used, reason = "a benchmark that can't go on ends")]

use std::{
    fs::File,
    io::Write as _,
    time::{Duration, Instant},
};

use hale_model::{
    cluster::ObservedRecord,
    event::{EventData, Instance, NewEvent, ReplicaReady},
};
use hale_store::{
    Options, Store,
    cluster::{Change, Record, Write},
};
use hale_testkit::Postgres;
use jiff::Timestamp;
use tokio::task::JoinSet;

const LASTING: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() {
    let dir = tempfile::tempdir().unwrap();
    println!("{:<12} {:>8} {:>12} {:>9} {:>9}", "", "writers", "writes/s", "p50 ms", "p99 ms");
    let (syncs, mut took) = bare(dir.path());
    line("bare file", 1, syncs, &mut took);
    for writers in [1, 16, 256] {
        let store = Store::open(&dir.path().join(format!("{writers}.db")), Options::default()).await.unwrap();
        measure("SQLite", &store, writers).await;
        store.close().await;
    }
    let postgres = Postgres::start();
    for writers in [1, 16, 256] {
        let store = Store::connect(&postgres.database(), Options::default()).await.unwrap();
        measure("PostgreSQL", &store, writers).await;
        store.close().await;
    }
    let url = postgres.database();
    let stores = [
        Store::connect(&url, Options::default()).await.unwrap(),
        Store::connect(&url, Options::default()).await.unwrap(),
    ];
    tokio::join!(measure("one of two", &stores[0], 128), measure("one of two", &stores[1], 128));
    for store in stores {
        store.close().await;
    }
}

/// A file that is appended to and synced for each write.
fn bare(dir: &std::path::Path) -> (f64, Vec<Duration>) {
    let mut file = File::create(dir.join("bare")).unwrap();
    let (begin, mut took) = (Instant::now(), Vec::new());
    while begin.elapsed() < LASTING {
        let at = Instant::now();
        file.write_all(&[b'x'; 1024]).unwrap();
        file.sync_data().unwrap();
        took.push(at.elapsed());
    }
    (took.len() as f64 / begin.elapsed().as_secs_f64(), took)
}

async fn measure(what: &str, store: &Store, writers: u64) {
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    // Apart from those of another store of the same database.
    let base = u64::from(std::ptr::from_ref(store).addr() as u32) << 20;
    for writer in 0..writers {
        let store = store.clone();
        tasks.spawn(async move {
            let (mut took, mut n) = (Vec::new(), 0);
            while begin.elapsed() < LASTING {
                n += 1;
                let at = Instant::now();
                store.write(transition(base + writer, n)).await.unwrap();
                took.push(at.elapsed());
            }
            took
        });
    }
    let mut took: Vec<Duration> = tasks.join_all().await.into_iter().flatten().collect();
    let rate = took.len() as f64 / begin.elapsed().as_secs_f64();
    line(what, writers, rate, &mut took);
}

fn line(what: &str, writers: u64, rate: f64, took: &mut [Duration]) {
    took.sort_unstable();
    let at = |part: usize| took.get(took.len() * part / 100).map_or(0.0, |it| it.as_secs_f64() * 1000.0);
    println!("{what:<12} {writers:>8} {rate:>12.0} {:>9.2} {:>9.2}", at(50), at(99));
}

/// A replica became ready.
fn transition(generation: u64, n: u64) -> Write {
    let now = Timestamp::now();
    let observed = serde_json::from_value::<ObservedRecord>(serde_json::json!({
        "generation": generation, "workload": "web", "ordinal": 0, "node": "n1", "digest": "0123456789abcdef",
        "incarnation": n, "phase": "running", "ready": true, "serving": true, "draining": false, "damped": false,
        "restarting": false, "status": "healthy", "since": now, "runtime": "process", "pid": 4711,
        "container_id": null, "address": "10.0.0.1", "ports": {"http": 8080}, "started_at": now, "restarts": n,
        "last_exit": null, "last_error": null, "last_transition": null, "version": n,
    }));
    let instance = Instance {
        workload: "web".to_owned(),
        node: "n1".to_owned(),
        generation,
        incarnation: n,
        ..Instance::default()
    };
    let event = NewEvent {
        time: now,
        source: "/nodes/n1".to_owned(),
        subject: format!("web-{generation}"),
        data: EventData::ReplicaReady(ReplicaReady {
            instance,
            reason: "readiness: 1/1".to_owned(),
            not_ready_seconds: None,
        }),
    };
    let changes =
        vec![Change::Put(Record::Observed(Box::new(observed.unwrap()))), Change::Event(Box::new(event))];
    Write { changes, guards: Vec::new() }
}
