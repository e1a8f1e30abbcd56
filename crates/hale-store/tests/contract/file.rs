//! What only a file can suffer: another who holds it, and the death of who writes it.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use hale_api::events::EventQuery;

use crate::{
    db::{open, raw},
    make::started,
};

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
    let (events, _) = store.events(&EventQuery::default(), 10).await.unwrap();
    assert_eq!(events.iter().map(|it| it.id).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(store.counters().facts_lost, 0);
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
            .args(["file::child_that_writes", "--exact", "--nocapture"])
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
