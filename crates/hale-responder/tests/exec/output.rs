//! What programs write: bounded, and shown (R8, R10).

use std::{fs, os::unix::fs::symlink};

use hale_api::runs::Artifact;
use hale_responder::exec::{How, Stream};

use crate::support::{Place, is_alive, script};

#[tokio::test]
async fn a_flood_is_cut_and_the_rest_is_counted() {
    let place = Place::new();
    let mut job = script("r1", "head -c 30000000 /dev/zero | tr '\\0' x; echo end >&2");
    job.program.max_output = 100_000;
    assert_eq!(place.run(&job).await.how, How::Exited(0));
    let out = place.out(&job);
    let (kept, last) = out.split_at(100_000);
    assert!(kept.bytes().all(|it| it == b'x'));
    assert_eq!(last, "\n[hale: 29900000 more bytes were thrown away]\n");
    assert_eq!(place.executor.tail("r1", Stream::Stderr, 100), "end\n");
}

#[tokio::test]
async fn an_endless_flood_ends_at_the_timeout() {
    let place = Place::new();
    let mut job = script("r1", "yes & yes >&2 & exec yes");
    job.program.max_output = 1000;
    job.timeout = std::time::Duration::from_millis(300);
    assert_eq!(place.run(&job).await.how, How::TimedOut);
    assert!(place.out(&job).len() < 1100);
}

#[tokio::test]
async fn a_tail_is_the_end_of_a_stream_as_text() {
    let place = Place::new();
    let job = script("r1", "printf 'one\\ntwö\\n\\377\\n'; echo oops >&2");
    assert_eq!(place.executor.tail("r1", Stream::Stdout, 100), "", "there is none yet");
    assert_eq!(place.run(&job).await.how, How::Exited(0));
    assert_eq!(place.executor.tail("r1", Stream::Stdout, 100), "one\ntwö\n\u{fffd}\n");
    // Through the middle of ö.
    assert_eq!(place.executor.tail("r1", Stream::Stdout, 4), "\n\u{fffd}\n");
    assert_eq!(place.executor.tail("r1", Stream::Stderr, 100), "oops\n");
    assert_eq!(place.executor.tail("../r1", Stream::Stderr, 100), "");
}

#[tokio::test]
async fn a_tail_follows_no_symlink() {
    let place = Place::new();
    let job = script("r1", "rm logs/stdout.log; ln -s /etc/passwd logs/stdout.log");
    assert_eq!(place.run(&job).await.how, How::Exited(0));
    assert_eq!(place.executor.tail("r1", Stream::Stdout, 1000), "");
    let logs = place.workspace(&job).join("logs");
    fs::remove_dir_all(&logs).unwrap();
    symlink("/etc", &logs).unwrap();
    assert_eq!(place.executor.tail("r1", Stream::Stderr, 1000), "");
}

#[tokio::test]
async fn artifacts_and_cost_are_told() {
    let place = Place::new();
    let mut job = script(
        "r1",
        "echo report > output/report.md; mkdir output/a; echo 1 > output/a/b; echo 0.25 > output/cost",
    );
    job.artifact = Some(("output/report.md".into(), 7));
    let ended = place.run(&job).await;
    assert_eq!((&ended.how, ended.cost), (&How::Exited(0), Some(0.25)));
    let artifact = |path: &str, bytes| Artifact { path: path.into(), bytes };
    let expected = [artifact("output/a/b", 2), artifact("output/cost", 5), artifact("output/report.md", 7)];
    assert_eq!(ended.artifacts, expected);
}

#[tokio::test]
async fn a_success_without_its_artifact_is_none() {
    let place = Place::new();
    for (id, lines, expected) in [
        ("r1", "true", "report.md"),
        ("r2", "echo > output/report.md", "has 1 bytes; at least 100"),
        ("r3", "ln -s /etc/services output/report.md", "symlink"),
        ("r4", "rm -r output; ln -s /etc output", "report.md"),
    ] {
        let mut job = script(id, lines);
        job.artifact = Some(("output/report.md".into(), 100));
        let How::NoArtifact(reason) = place.run(&job).await.how else { panic!("{lines}: a success") };
        assert!(reason.contains(expected), "{reason}");
    }
    let mut failed = script("r5", "exit 3");
    failed.artifact = Some(("output/report.md".into(), 100));
    assert_eq!(place.run(&failed).await.how, How::Exited(3));
}

#[tokio::test]
async fn a_daemon_that_keeps_the_pipes_open_holds_nothing_up() {
    for place in Place::both() {
        let job = script(
            "r1",
            "setsid sh -c 'echo $$ > output/pid; exec sleep 600' & \
             until [ -s output/pid ]; do sleep 0.01; done; echo started",
        );
        assert_eq!(place.run(&job).await.how, How::Exited(0));
        assert_eq!(place.out(&job), "started\n");
        assert!(!is_alive(place.pid(&job, "pid").await));
    }
}
