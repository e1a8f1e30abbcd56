//! The same on Podman's service, for what that can do.

mod support;

use std::time::Duration;

use hale_health::Exit;
use hale_supervisor::runtime::Runtime;
use hale_testkit::PodmanEngine;
use support::{Bare, PATIENCE, container, id, of, until};

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
