//! The same on Podman's service, for what that can do.

mod support;

use std::time::Duration;

use hale_health::Exit;
use hale_supervisor::runtime::{Runtime, RuntimeEvent};
use hale_testkit::PodmanEngine;
use support::{Bare, PATIENCE, adopted, container, id, of, until};

const IMAGE: &str = "localhost/hale-test/base:1";

#[tokio::test(flavor = "multi_thread")]
async fn podman_runs_stops_and_hands_over_containers_too() {
    let engine = PodmanEngine::start();
    engine.image(IMAGE, &["ENV FROM_IMAGE=yes"]);
    let dir = tempfile::tempdir().unwrap();
    let mut it = Bare::new(&engine.host(), dir.path());
    let script = "trap 'echo bye; exit 7' TERM; echo $FROM_IMAGE; while :; do sleep 0.1; done";
    let web = of("web", container(IMAGE, script));
    let started = it.start(&web, 1).await.unwrap();
    assert!(started.pid.is_some(), "{started:?}");
    assert!(it.runtime.describe().unwrap().unwrap().contains("Podman"));
    until("its output", || it.output("web-0").contains("stdout F yes")).await;
    it.runtime.stop(&id("web-0", 1), 15, PATIENCE);
    assert_eq!(it.exited(&id("web-0", 1)).await, Exit::code(7));
    it.gone(&id("web-0", 1)).await;
    assert!(it.output("web-0").contains("stdout F bye"), "{}", it.output("web-0"));

    let mut missing = container(IMAGE, "");
    missing.command = vec!["/no/such/program".into()];
    assert_eq!(it.start(&of("web", missing), 2).await.unwrap_err().code, "not_found");

    it.start(&of("web", container(IMAGE, "exit 3")), 3).await.unwrap();
    assert_eq!(it.exited(&id("web-0", 3)).await, Exit::code(3));
    it.gone(&id("web-0", 3)).await;

    it.start(&of("web", container(IMAGE, "sleep 1000")), 4).await.unwrap();
    let mut next = Bare::new(&engine.host(), dir.path());
    let left = next.runtime.adopt().await;
    let live: Vec<_> = left.iter().filter(|it| !it.gone).map(|it| it.id.clone()).collect();
    assert_eq!(live, [id("web-0", 4)]);
    next.runtime.stop(&id("web-0", 4), 15, Duration::from_millis(100));
    assert_eq!(next.exited(&id("web-0", 4)).await, Exit::signal(9));
    next.gone(&id("web-0", 4)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_podman_does_not_do_by_itself_is_said_once_a_placement() {
    let engine = PodmanEngine::start();
    engine.image(IMAGE, &[]);
    let args = [
        "run",
        "-d",
        "--name",
        "checked",
        "--label",
        "heal=1",
        "--health-cmd",
        "true",
        IMAGE,
        "/bin/sleep",
        "1000",
    ];
    let (made, said) = engine.podman(&args);
    assert!(made, "{said}");
    let dir = tempfile::tempdir().unwrap();
    let mut it = Bare::new(&engine.host(), dir.path());
    it.start(&of("heal", adopted("heal")), 1).await.unwrap();
    let warning = |event: &RuntimeEvent| match event {
        RuntimeEvent::Warning { id, code, detail } => Some((id.replica.clone(), *code, detail.clone())),
        _ => None,
    };
    // With systemd Podman runs them: then nothing is said.
    if !std::path::Path::new("/run/systemd/system").is_dir() {
        let (replica, code, detail) = it.next("a warning", warning).await;
        assert_eq!((replica.as_str(), code), ("heal-0", "healthcheck_not_run"), "{detail}");
        assert!(detail.contains("livenessProbe"), "{detail}");
        until("it is in its log, too", || it.output("heal-0").contains("HEALTHCHECK")).await;
    }
    let mut small = of("small", container(IMAGE, "sleep 1000"));
    small.resources.memory = Some(32 << 20);
    it.start(&small, 1).await.unwrap();
    let pure_v2 = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    if !pure_v2 {
        assert_eq!(it.next("a warning", warning).await.1, "oom_not_told");
    }
    it.start(&small, 2).await.unwrap();
    let again: Vec<_> = it.heard(Duration::from_secs(1)).await.iter().filter_map(warning).collect();
    assert!(again.is_empty(), "{again:?}");
}
