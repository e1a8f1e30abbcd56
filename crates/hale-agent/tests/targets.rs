//! Targets against a real HTTP server.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of a test function")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU32, Ordering},
    },
    time::Duration,
};

use hale_agent::targets::{Pause, TargetError, TargetOptions, Targets, Told};
use hale_check::EngineOptions;
use hale_health::{ProbeKind, ProbeTiming, Reason, Status, TargetPolicy};
use hale_model::{
    event::{EventData, TargetOrigin},
    spec::{Check, HttpGet, ListSource, PortRef, Target, TargetList},
    status::TargetStatus,
};
use hale_supervisor::{clock::BootClock, engine::Checks, sim::Recorder, sink::Sink};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    runtime::Handle,
};

/// A server that answers with the status it is told to, and counts.
struct Server {
    port: u16,
    status: Arc<AtomicU16>,
    asked: Arc<AtomicU32>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (status, asked) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicU32::new(0)));
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            status: Arc::clone(&status),
            asked: Arc::clone(&asked),
        };
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                asked.fetch_add(1, Ordering::SeqCst);
                let status = status.load(Ordering::SeqCst);
                tokio::spawn(async move {
                    let _ = socket.read(&mut [0; 2048]).await;
                    let answer =
                        format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                    let _ = socket.write_all(answer.as_bytes()).await;
                });
            }
        });
        server
    }

    fn target(&self, name: &str) -> Target {
        let check = Check::HttpGet(HttpGet {
            tls: false,
            host: Some("127.0.0.1".into()),
            port: PortRef::Number(self.port),
            path: "/healthz".into(),
            headers: Vec::new(),
            expected_status: vec![(200, 200)],
            expected_body: None,
            expected_json: Vec::new(),
            ca_file: None,
            tls_server_name: None,
            tls_insecure_skip_verify: None,
            keep_alive: false,
        });
        let timing = ProbeTiming {
            period: Duration::from_millis(20),
            timeout: Duration::from_secs(2),
            ..ProbeTiming::default_for(ProbeKind::Liveness)
        };
        Target {
            name: name.into(),
            check,
            timing,
            policy: TargetPolicy::default(),
            maintenance: Vec::new(),
            list: None,
            origin: TargetOrigin::default(),
            digest: format!("{name} {}", self.port),
        }
    }
}

fn watch() -> (Targets, Arc<Recorder>) {
    let checks = Checks::start(&EngineOptions::new(Handle::current())).unwrap();
    let told = Arc::new(Recorder::default());
    let sink: Arc<dyn Sink> = Arc::<Recorder>::clone(&told);
    let targets = Targets::start(TargetOptions {
        node: "local".into(),
        checks: checks.targets,
        sink,
        clock: Arc::new(BootClock),
        guard: None,
        outside: None,
        lists: None,
        told: Told::default(),
    });
    (targets, told)
}

async fn until(targets: &Targets, what: &str, is: impl Fn(&TargetStatus) -> bool) -> TargetStatus {
    let mut last = Vec::new();
    for _ in 0..1000 {
        last = targets.status().await.unwrap();
        if let Some(found) = last.iter().find(|it| is(it)) {
            return found.clone();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never {what}: {last:#?}")
}

#[tokio::test]
async fn a_failure_is_told_once_and_its_end_once_with_the_whole_streak() {
    let (server, (targets, told)) = (Server::start().await, watch());
    targets.apply(vec![Arc::new(server.target("billing"))]).await.unwrap();
    until(&targets, "healthy", |it| it.status == Status::Healthy).await;
    let mut statuses = targets.statuses();
    server.status.store(503, Ordering::SeqCst);
    until(&targets, "failing", |it| it.consecutive_failures >= 10).await;
    assert_eq!(statuses.borrow_and_update().get("billing"), Some(&Status::Failing));
    server.status.store(200, Ordering::SeqCst);
    until(&targets, "healthy again", |it| it.status == Status::Healthy).await;

    let events = told.events_of("billing");
    let [EventData::TargetProbeFailed(failed), EventData::TargetProbeRecovered(recovered)] =
        events.as_slice()
    else {
        panic!("{events:#?}")
    };
    assert_eq!((failed.consecutive_failures, failed.last_status), (3, 503));
    assert_eq!(failed.last_reason, Reason::StatusMismatch);
    let failures = told.outcomes_of("billing").iter().filter(|it| it.reason.is_some()).count();
    assert_eq!(recovered.prior_failure_count as usize, failures);
    assert!(recovered.down_for > 0.0);
}

#[tokio::test]
async fn one_that_leaves_takes_its_counters_and_one_that_changed_starts_clean() {
    let (server, other, (targets, told)) = (Server::start().await, Server::start().await, watch());
    server.status.store(500, Ordering::SeqCst);
    targets.apply(vec![Arc::new(server.target("a")), Arc::new(other.target("b"))]).await.unwrap();
    until(&targets, "failing", |it| it.name == "a" && it.status == Status::Failing).await;
    until(&targets, "healthy", |it| it.name == "b" && it.status == Status::Healthy).await;

    targets.apply(vec![Arc::new(other.target("a"))]).await.unwrap();
    assert_eq!(targets.status().await.unwrap().len(), 1);
    let asked = server.asked.load(Ordering::SeqCst);
    until(&targets, "healthy", |it| it.name == "a" && it.status == Status::Healthy).await;
    assert!(server.asked.load(Ordering::SeqCst) <= asked + 1, "it is still asked");
    let recovered = |it: &EventData| matches!(it, EventData::TargetProbeRecovered(_));
    assert!(!told.events_of("a").iter().any(recovered), "another address is another target");
}

#[tokio::test]
async fn a_paused_target_keeps_its_verdict_and_begins_at_zero_afterwards() {
    let (server, (targets, told)) = (Server::start().await, watch());
    targets.apply(vec![Arc::new(server.target("billing"))]).await.unwrap();
    until(&targets, "healthy", |it| it.status == Status::Healthy).await;
    let pause = Pause {
        lasts: Some(Duration::from_millis(300)),
        reason: "moving house".to_owned(),
        by: "ada".to_owned(),
    };
    targets.pause("billing", pause).await.unwrap();
    server.status.store(503, Ordering::SeqCst);
    let asked = server.asked.load(Ordering::SeqCst);
    while server.asked.load(Ordering::SeqCst) < asked + 6 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(targets.status().await.unwrap().iter().all(|it| !it.paused || it.consecutive_failures == 0));
    until(&targets, "failing", |it| !it.paused && it.status == Status::Failing).await;
    let told = told.events_of("billing");
    let [EventData::TargetPaused(paused), EventData::TargetResumed(resumed), EventData::TargetProbeFailed(_)] =
        told.as_slice()
    else {
        panic!("{told:#?}")
    };
    assert_eq!((paused.by.as_str(), paused.reason.as_str()), ("ada", "moving house"));
    assert!(paused.until.is_some());
    assert_eq!(resumed.by, "expired");
    assert_eq!(targets.resume("nobody", "ada").await, Err(TargetError::NotFound("nobody".into())));
}

#[tokio::test]
async fn one_that_cannot_be_probed_is_named_and_harms_no_other() {
    let (server, (targets, _)) = (Server::start().await, watch());
    let mut broken = server.target("broken");
    broken.check = Check::Notify;
    let error = targets.apply(vec![Arc::new(broken), Arc::new(server.target("well"))]).await.unwrap_err();
    assert!(matches!(&error, TargetError::Invalid { name, .. } if name == "broken"), "{error}");
    until(&targets, "healthy", |it| it.name == "well" && it.status == Status::Healthy).await;
}

/// A list in a file, with one entry of this name.
fn list(server: &Server, name: &str, file: &std::path::Path, entries: &[&str]) -> Target {
    write_list(server, file, entries);
    let list = TargetList { source: ListSource::File(file.to_owned()), refresh: Duration::from_millis(20) };
    Target { list: Some(list), ..server.target(name) }
}

fn write_list(server: &Server, file: &std::path::Path, entries: &[&str]) {
    // An address that stands in it twice counts once.
    let groups: Vec<String> = (1..)
        .zip(entries)
        .map(|(nth, name)| {
            format!(r#"{{"targets":["127.0.0.{nth}:{}"],"labels":{{"name":"{name}"}}}}"#, server.port)
        })
        .collect();
    // Whole or not at all.
    let new = file.with_extension("new");
    std::fs::write(&new, format!("[{}]", groups.join(","))).unwrap();
    std::fs::rename(new, file).unwrap();
}

#[tokio::test]
async fn a_declared_target_is_not_the_lists_and_its_entry_comes_back_when_the_name_is_free() {
    let (server, other, (targets, _)) = (Server::start().await, Server::start().await, watch());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("list.json");
    let shop = Arc::new(list(&server, "shop", &file, &["api"]));
    targets.apply(vec![Arc::clone(&shop)]).await.unwrap();
    until(&targets, "a member", |it| it.name == "shop-api" && it.origin.list.is_some()).await;

    let declared = Arc::new(other.target("shop-api"));
    targets.apply(vec![Arc::clone(&shop), Arc::clone(&declared)]).await.unwrap();
    until(&targets, "declared", |it| it.name == "shop-api" && it.origin.list.is_none()).await;
    until(&targets, "no member", |it| it.name == "shop" && it.members == Some(0)).await;
    // The list changes, and is closed and opened anew: what is declared stays.
    write_list(&server, &file, &["api", "db"]);
    until(&targets, "another member", |it| it.name == "shop-db").await;
    until(&targets, "still declared", |it| it.name == "shop-api" && it.origin.list.is_none()).await;

    targets.apply(vec![shop]).await.unwrap();
    until(&targets, "a member again", |it| it.name == "shop-api" && it.origin.list.is_some()).await;
    until(&targets, "both", |it| it.name == "shop" && it.members == Some(2)).await;
}

#[tokio::test]
async fn a_pause_that_ends_after_it_was_lifted_with_its_list_hangs_nothing() {
    let (server, (targets, told)) = (Server::start().await, watch());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("list.json");
    targets.apply(vec![Arc::new(list(&server, "shop", &file, &["api"]))]).await.unwrap();
    until(&targets, "a member", |it| it.name == "shop-api").await;
    let pause = |lasts| Pause { lasts, reason: String::new(), by: "ada".to_owned() };
    targets.pause("shop-api", pause(Some(Duration::from_millis(100)))).await.unwrap();
    targets.pause("shop", pause(None)).await.unwrap();
    targets.resume("shop", "ada").await.unwrap();
    let asked = server.asked.load(Ordering::SeqCst);
    tokio::time::timeout(Duration::from_secs(20), async {
        let before = told.outcomes_of("shop-api").len();
        while told.outcomes_of("shop-api").len() < before + 20 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        targets.status().await.unwrap()
    })
    .await
    .expect("outcomes are taken on");
    assert!(server.asked.load(Ordering::SeqCst) > asked);
}

#[tokio::test]
async fn a_target_is_not_asked_before_its_initial_delay() {
    let (server, (targets, told)) = (Server::start().await, watch());
    let mut target = server.target("slow");
    target.timing.initial_delay = Duration::from_secs(3600);
    targets.apply(vec![Arc::new(target), Arc::new(server.target("other"))]).await.unwrap();
    while told.outcomes_of("other").len() < 20 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(told.outcomes_of("slow").is_empty());
}
