//! One container after the other on a real Docker Engine.

mod support;

use std::{fs, time::Duration};

use hale_health::Exit;
use hale_model::spec::{Port, Volume};
use hale_supervisor::runtime::{Runtime, RuntimeEvent};
use hale_testkit::DockerEngine;
use support::{Bare, PATIENCE, container, id, of, until};

const IMAGE: &str = "hale-test/base:1";

fn engine() -> DockerEngine {
    let engine = DockerEngine::start();
    engine.image(IMAGE, "ENV FROM_IMAGE=yes");
    engine
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_says_what_it_says_and_ends_as_it_is_told() {
    let engine = engine();
    let dir = tempfile::tempdir().unwrap();
    let mut it = Bare::new(&engine.host(), dir.path());
    let mut spec = container(
        IMAGE,
        "trap 'echo bye; exit 7' TERM; echo $FROM_IMAGE $WORD $SECRET $PORT $HALE_GENERATION $(id -u); \
         echo wrong >&2; while :; do sleep 0.1; done",
    );
    spec.env.insert("WORD".into(), "plain".into());
    spec.secret_env.insert("SECRET".into(), "hush-hush".into());
    spec.user = Some("app".into());
    let mut web = of("web", spec);
    web.ports = vec![Port { name: "http".into(), port: 8080, host_port: None }];
    let started = it.start(&web, 1).await.unwrap();
    assert!(!started.address.is_loopback() && started.pid.is_some(), "{started:?}");
    let container = started.container_id.unwrap();
    until("its output", || it.output("web-0").contains("stderr F wrong")).await;
    assert!(
        it.output("web-0").contains("stdout F yes plain hush-hush 8080 1 1000"),
        "{}",
        it.output("web-0")
    );
    let usage = it.runtime.usage(&id("web-0", 1)).unwrap();
    assert!(usage.memory_bytes > 0 && usage.processes >= 1, "{usage:?}");
    let seen = it.runtime.examine(&id("web-0", 1), Duration::from_secs(2)).await;
    assert!(seen.log_tail.iter().any(|line| line.contains("plain *** 8080")), "{seen:#?}");
    assert!(seen.state[0].contains("running") && seen.threads.is_some(), "{seen:#?}");

    it.runtime.stop(&id("web-0", 1), 15, PATIENCE);
    assert_eq!(it.exited(&id("web-0", 1)).await, Exit::code(7));
    it.gone(&id("web-0", 1)).await;
    assert!(it.output("web-0").ends_with("stdout F bye\n"), "{}", it.output("web-0"));
    until("it is removed", || !engine.docker(&["inspect", &container]).0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_arrive_as_status_or_signal_and_who_does_not_hear_is_killed() {
    let engine = engine();
    let dir = tempfile::tempdir().unwrap();
    let mut it = Bare::new(&engine.host(), dir.path());
    let first = id("web-0", 1);
    it.start(&of("web", container(IMAGE, "exit 3")), 1).await.unwrap();
    assert_eq!(it.exited(&first).await, Exit::code(3));
    it.gone(&first).await;
    // The first process of a container ignores what it does not handle: only SIGKILL is left.
    it.start(&of("web", container(IMAGE, "sleep 1000")), 2).await.unwrap();
    it.runtime.stop(&id("web-0", 2), 15, Duration::from_millis(200));
    assert_eq!(it.exited(&id("web-0", 2)).await, Exit::signal(9));
    it.gone(&id("web-0", 2)).await;
    // Somebody else ends it, and then takes one away.
    let third = it.start(&of("web", container(IMAGE, "sleep 1000")), 3).await.unwrap();
    engine.must(&["kill", &third.container_id.unwrap()]);
    assert_eq!(it.exited(&id("web-0", 3)).await, Exit::signal(9));
    it.gone(&id("web-0", 3)).await;
    it.runtime.stop(&first, 15, Duration::ZERO);
    it.gone(&first).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn want_of_memory_is_told_of_the_main_process_and_of_a_child_alone() {
    let engine = engine();
    let dir = tempfile::tempdir().unwrap();
    let mut it = Bare::new(&engine.host(), dir.path());
    let eats = "dd if=/dev/zero of=/dev/null bs=200M count=1";
    let mut main = of("main", container(IMAGE, &format!("exec {eats}")));
    main.resources.memory = Some(32 << 20);
    it.start(&main, 1).await.unwrap();
    assert_eq!(it.exited(&id("main-0", 1)).await, Exit { code: None, signal: Some(9), oom: true });
    let mut child = of("child", container(IMAGE, &format!("{eats}; echo went on; sleep 1000")));
    child.resources.memory = Some(32 << 20);
    it.start(&child, 1).await.unwrap();
    let of_child = |event: &RuntimeEvent| {
        matches!(event, RuntimeEvent::OutOfMemory { id } if id.replica == "child-0").then_some(())
    };
    it.next("a child killed for want of memory", of_child).await;
    until("the main process goes on", || it.output("child-0").contains("went on")).await;
    it.runtime.stop(&id("child-0", 1), 9, Duration::ZERO);
    it.gone(&id("child-0", 1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_are_published_on_loopback_and_volumes_and_limits_hold() {
    let engine = engine();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("index.html"), "from outside").unwrap();
    let mut it = Bare::new(&engine.host(), dir.path());
    let mut spec =
        container(IMAGE, "touch /www/x || echo read-only; ulimit -n; exec httpd -f -p $PORT -h /www");
    spec.volumes =
        vec![Volume { source: dir.path().display().to_string(), target: "/www".into(), read_only: true }];
    spec.ulimits.insert("nofile".into(), (512, 1024));
    let mut web = of("web", spec);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    web.ports = vec![Port { name: "http".into(), port: 8080, host_port: Some(port) }];
    let started = it.start(&web, 1).await.unwrap();
    assert!(started.address.is_loopback());
    until("the port answers", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
    until("limits", || it.output("web-0").contains("stdout F 512")).await;
    assert!(it.output("web-0").contains("stdout F read-only"), "{}", it.output("web-0"));
    it.runtime.stop(&id("web-0", 1), 9, Duration::ZERO);
    it.gone(&id("web-0", 1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_started_says_why_and_leaves_nothing_behind() {
    let engine = engine();
    let dir = tempfile::tempdir().unwrap();
    let it = Bare::new(&engine.host(), dir.path());
    let mut missing = container(IMAGE, "");
    missing.command = vec!["/no/such/program".into()];
    let mut stranger = container(IMAGE, "true");
    stranger.user = Some("nobody-knows".into());
    let mut volume = container(IMAGE, "true");
    volume.volumes = vec![Volume { source: "/no/such/dir".into(), target: "/x".into(), read_only: true }];
    let mut network = container(IMAGE, "true");
    network.network = Some("no-such-network".into());
    let mut codes = Vec::new();
    for (number, spec) in [missing, stranger, volume, network].into_iter().enumerate() {
        let error = it.start(&of("web", spec), 1 + number as u64).await.unwrap_err();
        codes.push(error.code);
    }
    assert_eq!(codes, ["not_found", "no_such_user", "no_such_directory", "no_such_network"]);
    until("nothing is left", || engine.must(&["ps", "-aq"]).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_cuts_a_start_short() {
    let engine = engine();
    let dir = tempfile::tempdir().unwrap();
    let it = Bare::new(&engine.host(), dir.path());
    let web = of("web", container(IMAGE, "sleep 1000"));
    engine.freeze();
    let (started, ()) = tokio::join!(it.start(&web, 1), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        it.runtime.stop(&id("web-0", 1), 15, Duration::ZERO);
    });
    assert_eq!(started.unwrap_err().code, "stopped");
    engine.thaw();
    until("nothing is left", || engine.must(&["ps", "-aq"]).is_empty()).await;
}
