//! Copies of a file in use, and going back to one; a disk that is full.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command, time::Duration};

use hale_model::cluster::ClusterRecord;
use hale_store::{
    StoreError,
    cluster::{Record, Write, WriteError},
    restore,
};

use crate::{
    cluster::{put, server},
    db::{open, raw},
    make::started,
};

fn cluster(epoch: u64) -> Write {
    put(Record::Cluster(ClusterRecord {
        id: "c".to_owned(),
        epoch,
        last_generation: 7,
        last_session: 3,
        adoptable_below: 0,
    }))
}

#[tokio::test]
async fn a_copy_made_while_it_is_written_to_is_whole_and_going_back_to_it_begins_a_new_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    store.write(cluster(1)).await.unwrap();
    let before = store.write(put(server("before", "1"))).await.unwrap();
    let going_on = tokio::spawn({
        let store = store.clone();
        async move {
            let mut n = 0;
            while store.write(put(server("now", &n.to_string()))).await.is_ok() {
                n += 1;
            }
        }
    });
    let copy = dir.path().join("copy.db");
    store.backup(&copy).await.unwrap();
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    let again = store.backup(&copy).await;
    assert!(matches!(again, Err(StoreError::File { .. })), "what is there is not written over: {again:?}");
    let lost = store.write(put(server("lost", "1"))).await.unwrap();
    store.append(started("lost"));
    store.close().await;
    going_on.await.unwrap();

    let restored = restore(&copy, &dir.path().join("hale.db")).await.unwrap();
    assert_eq!(restored.epoch, 2);
    let kept = restored.kept.unwrap();
    let store = open(dir.path()).await;
    let records = store.load().await.unwrap().records;
    assert!(
        records.iter().any(|it| it.record == Some(server("before", "1")) && it.revision == before.revision)
    );
    assert!(!records.iter().any(|it| it.key.name == "lost"));
    assert!(
        store.changes(lost.revision, 10).await.unwrap().reset,
        "who saw what was lost is told everything"
    );
    assert!(store.is_beyond_end(1).await.unwrap());
    assert!(store.write(put(server("next", "1"))).await.unwrap().revision > lost.revision);
    store.close().await;
    let copied_back = dir.path().join("kept");
    fs::create_dir(&copied_back).unwrap();
    fs::rename(kept, copied_back.join("hale.db")).unwrap();
    let old = open(&copied_back).await;
    assert!(old.load().await.unwrap().records.iter().any(|it| it.key.name == "lost"), "the old one is whole");
    old.close().await;
}

#[tokio::test]
async fn what_is_no_database_of_hale_is_not_restored_and_what_is_there_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    store.write(put(server("mine", "1"))).await.unwrap();
    store.close().await;
    let to = dir.path().join("hale.db");
    let file = |name: &str, content: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let half = fs::read(&to).unwrap();
    let bad = [
        file("text", b"not a database at all, but long enough to be taken for one if nobody looks"),
        file("empty", b""),
        file("half", &half[..half.len() / 2]),
        dir.path().join("nowhere"),
    ];
    for from in bad {
        let refused = restore(&from, &to).await;
        assert!(refused.is_err(), "{}", from.display());
    }
    let newer = dir.path().join("newer");
    fs::create_dir(&newer).unwrap();
    fs::copy(&to, newer.join("hale.db")).unwrap();
    sqlx::raw_sql("PRAGMA user_version = 99").execute(&mut raw(&newer).await).await.unwrap();
    let refused = restore(&newer.join("hale.db"), &to).await;
    assert!(matches!(refused, Err(StoreError::NewerSchema { found: 99, .. })), "{refused:?}");
    let store = open(dir.path()).await;
    assert_eq!(store.load().await.unwrap().records.len(), 1);
    store.close().await;
}

/// A file system of 2 MB, taken away with this.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(dir.path()).output();
        mounted.is_ok_and(|it| it.status.success()).then_some(Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[tokio::test]
async fn on_a_full_disk_what_was_acknowledged_stays_and_it_goes_on_by_itself_once_there_is_room() {
    let Some(small) = Small::mount() else {
        println!("skipped: a small file system can't be mounted here (it takes root)");
        return;
    };
    let ballast = small.path().join("ballast");
    fs::write(&ballast, vec![0_u8; 1 << 20]).unwrap();
    let store = open(small.path()).await;
    let mut acknowledged = 0;
    let big = "x".repeat(20_000);
    let write = |n: u64| put(server(&n.to_string(), &big));
    let accepted = loop {
        assert!(acknowledged < 200, "the disk is not that large");
        let mut next = tokio::spawn({
            let (store, write) = (store.clone(), write(acknowledged));
            async move { store.write(write).await }
        });
        match tokio::time::timeout(Duration::from_secs(3), &mut next).await {
            Ok(done) => drop(done.unwrap().unwrap()),
            Err(_) => break next,
        }
        acknowledged += 1;
    };
    assert!(store.check().await.is_err(), "it says that it can't be written to");
    let new = store.write(put(server("new", "1"))).await;
    assert!(matches!(new, Err(WriteError::Unavailable(_))), "{new:?}");
    let there = store.load().await.unwrap().records.len() as u64;
    assert_eq!(there, acknowledged, "it can still be read");
    fs::remove_file(&ballast).unwrap();
    tokio::time::timeout(Duration::from_secs(60), accepted)
        .await
        .expect("it goes on by itself")
        .unwrap()
        .unwrap();
    assert!(store.check().await.is_ok());
    store.write(put(server("new", "1"))).await.unwrap();
    store.close().await;
    let store = open(small.path()).await;
    assert_eq!(store.load().await.unwrap().records.len() as u64, acknowledged + 2);
    store.close().await;
}
