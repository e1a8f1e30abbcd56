//! What the prober lacks is its own error (H10), and waited for first (N15): run in a process of its own, whose limits
//! are lowered.

use std::{fs::File, future::Future, process::Command, sync::Arc, time::Duration};

use hale_check::{CheckResult, Checker, Engine, EngineOptions, Finished, Registration, Start};
use hale_health::Reason;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::mpsc;

use crate::support::{AMPLE, SOON, Server, failed, get, hang, http, ok, request, succeeded};

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

/// Takes every descriptor that is left, and gives them back when dropped.
struct Taken {
    _files: Vec<File>,
    before: Rlimit,
}

impl Taken {
    fn all() -> Self {
        let before = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum: before.maximum }).unwrap();
        Self { _files: std::iter::from_fn(|| File::open("/dev/null").ok()).collect(), before }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        setrlimit(Resource::Nofile, self.before).unwrap();
    }
}

/// A runtime and an engine that asks one check.
fn probing<F: Future<Output = ()>>(
    checker: &Arc<Checker>,
    timeout: Duration,
    test: impl FnOnce(Engine, mpsc::Receiver<Finished>, Registration) -> F,
) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let (results, receiver) = mpsc::channel(16);
        let engine = Engine::start(&EngineOptions::new(tokio::runtime::Handle::current()), results).unwrap();
        let (checker, start) = (Arc::clone(checker), Start::Now);
        let registration = Registration { token: 1, checker, period: AMPLE, timeout, start };
        test(engine, receiver, registration).await;
    });
}

async fn next(results: &mut mpsc::Receiver<Finished>) -> CheckResult {
    tokio::time::timeout(AMPLE, results.recv()).await.expect("a result in time").unwrap().result
}

#[test]
fn no_file_descriptor_left_is_the_probers_error() {
    if std::env::var_os(CHILD).is_none() {
        return in_a_child("limits::no_file_descriptor_left_is_the_probers_error");
    }
    let server = Server::new(|mut stream, _| hang(&mut stream));
    let checker = Arc::new(http(get(server.address), server.address));
    probing(&checker, SOON, async |engine, mut results, registration| {
        let taken = Taken::all();
        let alone = checker.run(SOON).await;
        let _probe = engine.register(registration);
        let by_engine = next(&mut results).await;
        drop(taken);
        for result in [alone, by_engine] {
            failed(&result, Reason::ProberError, &["Too many open files", "raise the limit"]);
        }
        assert_eq!(engine.counters().prober_errors, 1);
        assert!(engine.counters().held > 1);
        assert_eq!((engine.counters().in_flight, engine.counters().waiting), (0, 0));
    });
}

#[test]
fn a_check_waits_for_descriptors_and_does_not_fail() {
    if std::env::var_os(CHILD).is_none() {
        return in_a_child("limits::a_check_waits_for_descriptors_and_does_not_fail");
    }
    let server = Server::new(|mut stream, _| {
        request(&mut stream);
        let _ = std::io::Write::write_all(&mut stream, ok("").as_bytes());
    });
    let checker = Arc::new(http(get(server.address), server.address));
    probing(&checker, AMPLE, async |engine, mut results, registration| {
        let taken = Taken::all();
        let alone = tokio::spawn({
            let checker = Arc::clone(&checker);
            async move { checker.run(AMPLE).await }
        });
        let _probe = engine.register(registration);
        while engine.counters().held < 5 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(!alone.is_finished() && results.try_recv().is_err());
        assert_eq!((engine.counters().started, engine.counters().waiting), (0, 1));
        drop(taken);
        succeeded(&alone.await.unwrap());
        succeeded(&next(&mut results).await);
        assert_eq!(engine.counters().prober_errors, 0);
    });
}

#[test]
fn a_name_that_can_not_be_looked_up_for_want_of_descriptors_is_no_failure() {
    if std::env::var_os(CHILD).is_none() {
        return in_a_child("limits::a_name_that_can_not_be_looked_up_for_want_of_descriptors_is_no_failure");
    }
    let server = Server::new(|mut stream, _| {
        request(&mut stream);
        let _ = std::io::Write::write_all(&mut stream, ok("").as_bytes());
    });
    let spec = hale_model::spec::HttpGet { host: Some("localhost".into()), ..get(server.address) };
    let checker = Arc::new(http(spec, server.address));
    probing(&checker, SOON, async |_engine, _results, _registration| {
        let taken = Taken::all();
        let without = checker.run(SOON).await;
        drop(taken);
        failed(&without, Reason::ProberError, &["localhost"]);
        succeeded(&checker.run(AMPLE).await);
    });
}

#[test]
fn a_command_that_no_thread_is_free_for_has_not_failed() {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).max_blocking_threads(1).enable_all().build().unwrap();
    let spec = hale_model::spec::Exec { command: vec!["/bin/true".into()] };
    let check = hale_model::spec::Check::Exec(spec);
    let checker = Checker::compile(&check, &hale_check::Subject::default()).unwrap();
    let (free, held) = std::sync::mpsc::sync_channel::<()>(1);
    runtime.block_on(async {
        let _busy = tokio::task::spawn_blocking(move || held.recv());
        let result = checker.run(SOON).await;
        drop(free);
        failed(&result, Reason::ProberError, &["no thread was free"]);
        succeeded(&checker.run(AMPLE).await);
    });
}
