//! What an engine and an agent do to each other by ending: nothing to the containers.
//!
//! An agent that is killed does nothing more: here its runtime (of tokio) is dropped with everything in it.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of a test function")]

mod support;

use std::{collections::BTreeSet, path::Path, time::Duration};

use hale_health::{Exit, Phase};
use hale_model::{event::EventData, spec::Workload};
use hale_supervisor::runtime::{Runtime, RuntimeEvent};
use hale_testkit::DockerEngine;
use support::{Bare, Node, adopted, container, id, of, until};

const IMAGE: &str = "hale-test/base:1";

const COUNTS: &str = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.05; done";

fn engine() -> DockerEngine {
    let engine = DockerEngine::start();
    engine.image(IMAGE, "");
    engine
}

/// Ids and pids of all that runs.
fn running(engine: &DockerEngine) -> BTreeSet<String> {
    let ids = engine.must(&["ps", "-q", "--no-trunc"]);
    ids.lines()
        .map(|it| {
            format!("{it} {}", engine.must(&["inspect", "-f", "{{.State.Pid}} {{.State.StartedAt}}", it]))
        })
        .collect()
}

/// Runs an agent in a tokio runtime of its own, and drops that as a kill does.
fn agent_that_is_killed<T: Send + 'static>(
    host: &str,
    dir: &Path,
    does: impl AsyncFnOnce(&mut Bare) -> T + Send + 'static,
) -> T {
    let (host, dir) = (host.to_owned(), dir.to_owned());
    std::thread::spawn(move || {
        let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let done = tokio.block_on(async move {
            let mut it = Bare::new(&host, &dir);
            let done = does(&mut it).await;
            // Forgotten, not dropped: nothing of it may act on its way out.
            std::mem::forget(it);
            done
        });
        tokio.shutdown_background();
        done
    })
    .join()
    .unwrap()
}

fn two() -> [Workload; 2] {
    [of("web", container(IMAGE, COUNTS)), of("db", container(IMAGE, "sleep 1000"))]
}

/// Whether each line is there once, without a gap.
fn whole(output: &str) -> Result<usize, String> {
    let numbers = output.lines().filter_map(|it| it.split_once(" F line ")?.1.parse::<usize>().ok());
    let mut last = 0;
    for number in numbers {
        if number != last + 1 {
            return Err(format!("{number} after {last}"));
        }
        last = number;
    }
    Ok(last)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_killed_costs_no_container_anything() {
    let mut engine = engine();
    let dir = tempfile::tempdir().unwrap();
    let mut it = Bare::new(&engine.host(), dir.path());
    let [web, db] = two();
    it.start(&web, 1).await.unwrap();
    let db = it.start(&db, 1).await.unwrap().container_id.unwrap();
    until("output", || whole(&it.output("web-0")).unwrap() > 5).await;
    let before = running(&engine);
    engine.kill9();
    assert_eq!(it.heard(Duration::from_secs(1)).await, []);
    let error = it.start(&of("late", container(IMAGE, "sleep 1000")), 1).await.unwrap_err();
    assert_eq!(error.code, "runtime_unavailable", "{error}");
    // One ends while nobody is there to tell.
    let line = before.iter().find(|it| it.starts_with(&db)).unwrap();
    let pid: i32 = line.split(' ').nth(1).unwrap().parse().unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    engine.restart();
    assert_eq!(it.exited(&id("db-0", 1)).await.signal, Some(9));
    let written = whole(&it.output("web-0")).unwrap();
    until("its output goes on", || whole(&it.output("web-0")).unwrap() > written + 20).await;
    let after = running(&engine);
    assert!(after.is_subset(&before) && after.len() == 1, "{before:?} {after:?}");
    it.start(&of("late", container(IMAGE, "sleep 1000")), 2).await.unwrap();
    assert_eq!(running(&engine).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_finds_everything_as_it_is() {
    let engine = engine();
    let dir = tempfile::tempdir().unwrap();
    agent_that_is_killed(&engine.host(), dir.path(), async |it: &mut Bare| {
        for workload in &two() {
            it.start(workload, 1).await.unwrap();
        }
        it.start(&of("short", container(IMAGE, "sleep 1; exit 5")), 1).await.unwrap();
        until("output", || whole(&it.output("web-0")).unwrap() > 5).await;
    });
    let before = running(&engine);
    until("one has ended meanwhile", || running(&engine).len() == 2).await;
    let mut it = Bare::new(&engine.host(), dir.path());
    let mut left = it.runtime.adopt().await;
    left.sort_by(|a, b| a.id.replica.cmp(&b.id.replica));
    let names: Vec<_> = left.iter().map(|it| (it.id.replica.as_str(), it.gone)).collect();
    assert_eq!(names, [("db-0", false), ("short-0", true), ("web-0", false)]);
    assert_eq!(left[1].exit.unwrap().0, Exit::code(5));
    assert!(left[2].started.pid.is_some() && left[2].started_wall.is_some());
    let written = whole(&it.output("web-0")).unwrap();
    until("output", || whole(&it.output("web-0")).is_ok_and(|now| now > written + 10)).await;
    let after = running(&engine);
    assert!(after.is_subset(&before) && after.len() == 2, "{before:?} {after:?}");
    it.runtime.stop(&id("db-0", 1), 9, Duration::ZERO);
    assert_eq!(it.exited(&id("db-0", 1)).await, Exit::signal(9));
    it.gone(&id("db-0", 1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agent_and_engine_killed_together_forget_and_double_nothing() {
    let mut engine = engine();
    let dir = tempfile::tempdir().unwrap();
    agent_that_is_killed(&engine.host(), dir.path(), async |it: &mut Bare| {
        for workload in &two() {
            it.start(workload, 1).await.unwrap();
        }
    });
    let before = running(&engine);
    engine.kill9();
    // The next agent comes before the engine: what was known is believed, and nothing is started beside it.
    let mut it = Bare::new(&engine.host(), dir.path());
    let left = it.runtime.adopt().await;
    assert_eq!(left.iter().filter(|it| !it.gone).count(), 2, "{left:#?}");
    engine.restart();
    let written = it.output("web-0").lines().count();
    until("output", || it.output("web-0").lines().count() > written + 10).await;
    whole(&it.output("web-0")).unwrap();
    assert_eq!(running(&engine), before);
    assert_eq!(it.heard(Duration::from_secs(3)).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_hangs_holds_nothing_up() {
    let engine = engine();
    let dir = tempfile::tempdir().unwrap();
    let mut it = Bare::new(&engine.host(), dir.path());
    it.start(&two()[0], 1).await.unwrap();
    let before = running(&engine);
    engine.freeze();
    let began = std::time::Instant::now();
    let seen = it.runtime.examine(&id("web-0", 1), Duration::from_secs(1)).await;
    assert!(began.elapsed() < Duration::from_secs(10));
    assert!(seen.missing.iter().any(|it| it.contains("no answer")) && seen.threads.is_some(), "{seen:#?}");
    engine.thaw();
    assert_eq!(it.heard(Duration::from_secs(1)).await, []);
    assert_eq!(running(&engine), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_made_is_restarted_and_never_made_or_removed() {
    let engine = engine();
    let dir = tempfile::tempdir().unwrap();
    let run = |name: &str| {
        let said = engine.must(&["run", "-d", "--name", name, "--label", "team=a", IMAGE, "sleep", "1000"]);
        // Warnings follow the id.
        said.lines().next().unwrap().to_owned()
    };
    let ids = [run("one"), run("two")];
    let mut it = Bare::new(&engine.host(), dir.path());
    let theirs = of("theirs", adopted("team"));
    let started = it.start(&theirs, 1).await.unwrap();
    assert_eq!(started.container_id.as_deref(), Some(ids[0].as_str()));
    let before = running(&engine);
    it.runtime.stop(&id("theirs-0", 1), 15, Duration::from_millis(200));
    assert_eq!(it.exited(&id("theirs-0", 1)).await, Exit::signal(9));
    it.gone(&id("theirs-0", 1)).await;
    let again = it.start(&theirs, 2).await.unwrap();
    assert_eq!(again.container_id, started.container_id);
    assert_eq!(running(&engine).len(), 2);
    assert_ne!(running(&engine), before);
    let after = running(&engine);
    it.runtime.release(&id("theirs-0", 2), 15, Duration::ZERO);
    it.gone(&id("theirs-0", 2)).await;
    assert_eq!(running(&engine), after);
    let error = it.start(&of("none", adopted("nobody")), 1).await.unwrap_err();
    assert_eq!(error.code, "no_such_container", "{error}");
    // Somebody removes it.
    it.start(&theirs, 3).await.unwrap();
    engine.must(&["rm", "-f", "one"]);
    it.gone(&id("theirs-0", 3)).await;
    let moved = it.start(&theirs, 4).await.unwrap();
    assert_eq!(moved.container_id.as_deref(), Some(ids[1].as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_of_the_image_restarts_a_container_and_a_missing_engine_harms_nobody() {
    let engine = engine();
    engine.image(
        "hale-test/checked:1",
        "HEALTHCHECK --interval=1s --timeout=5s --retries=2 CMD [\"/bin/sh\", \"-c\", \"test ! -e /sick || { echo it is sick; exit 1; }\"]",
    );
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(&engine.host(), dir.path());
    node.apply(vec![of("checked", container("hale-test/checked:1", "sleep 1000"))]).await;
    node.until("checked", "it runs", |it| it.phase == Phase::Running && it.ready).await;
    let container = node.replica("checked").await.container_id.unwrap();
    engine.must(&["exec", &container, "touch", "/sick"]);
    node.until("checked", "it is restarted", |it| it.restarts == 1 && it.phase == Phase::Running).await;
    let unhealthy = node.events().into_iter().find_map(|it| match it {
        EventData::ReplicaUnhealthy(it) => Some(it),
        _ => None,
    });
    let unhealthy = unhealthy.expect("it was told unhealthy");
    assert!(unhealthy.detail.contains("it is sick"), "{unhealthy:?}");
    assert_ne!(node.replica("checked").await.container_id, Some(container));
    node.supervisor.shutdown(false).await;
    until("nothing is left", || engine.must(&["ps", "-aq"]).is_empty()).await;
    let lost = tempfile::tempdir().unwrap();
    let node = Node::start("unix:///no/such/engine.sock", lost.path());
    node.apply(vec![of("web", support::container(IMAGE, "sleep 1000"))]).await;
    let tells = |it: &hale_model::status::ReplicaStatus| {
        it.last_error
            .as_ref()
            .is_some_and(|it| it.contains("runtime_unavailable") && it.contains("/no/such/engine.sock"))
    };
    node.until("web", "a missing engine is told", tells).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_told_twice() {
    let engine = engine();
    let dir = tempfile::tempdir().unwrap();
    let mut it = Bare::new(&engine.host(), dir.path());
    it.start(&of("web", container(IMAGE, "exit 0")), 1).await.unwrap();
    let all = it.heard(Duration::from_secs(4)).await;
    let ends = all.iter().filter(|it| matches!(it, RuntimeEvent::Exited { .. } | RuntimeEvent::Gone { .. }));
    assert_eq!(ends.count(), 2, "{all:?}");
}
