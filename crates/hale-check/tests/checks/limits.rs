//! What the prober lacks is its own error (H10): run in a process of its own, whose limits are lowered.

use std::process::Command;

use hale_health::Reason;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::{AMPLE, Server, failed, get, hang, http};

const CHILD: &str = "HALE_TEST_LIMITS_CHILD";

/// Runs one test of this file again, in a child process.
fn in_a_child(test: &str) {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn no_file_descriptor_left_is_the_probers_error() {
    if std::env::var_os(CHILD).is_none() {
        return in_a_child("limits::no_file_descriptor_left_is_the_probers_error");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = Server::new(|mut stream, _| hang(&mut stream));
    runtime.block_on(async {
        let (results, mut receiver) = tokio::sync::mpsc::channel(16);
        let options = hale_check::EngineOptions::new(tokio::runtime::Handle::current());
        let engine = hale_check::Engine::start(&options, results).unwrap();
        // Every descriptor that is left is taken.
        let all = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum: all.maximum }).unwrap();
        let taken: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
        let checker = std::sync::Arc::new(http(get(server.address), server.address));
        let alone = checker.run(AMPLE).await;
        let _probe = engine.register(hale_check::Registration {
            token: 1,
            checker,
            period: AMPLE,
            timeout: AMPLE,
            start: hale_check::Start::Now,
        });
        let by_engine = receiver.recv().await.unwrap().result;
        drop(taken);
        setrlimit(Resource::Nofile, all).unwrap();
        for result in [alone, by_engine] {
            failed(&result, Reason::ProberError, &["Too many open files", "raise the limit"]);
        }
        assert_eq!(engine.counters().prober_errors, 1);
    });
}
