//! How runs end, and that nothing is left of them (R9, R13).

use std::time::Duration;

use hale_responder::exec::How;
use tokio_util::sync::CancellationToken;

use crate::support::{Place, is_alive, script, soon, wait_for};

const SHORT: Duration = Duration::from_millis(400);

#[tokio::test]
async fn exits_and_signals_are_told_as_they_were() {
    let place = Place::new();
    assert_eq!(place.run(&script("r1", "exit 3")).await.how, How::Exited(3));
    assert_eq!(place.run(&script("r2", "kill -SEGV $$")).await.how, How::Signal(11));
    assert_eq!(place.run(&script("r3", "kill -KILL $$")).await.how, How::Signal(9));
    assert_eq!(place.run(&script("r4", "true")).await.how, How::Exited(0));
}

#[tokio::test]
async fn what_ignores_sigterm_and_has_children_is_gone_after_the_grace() {
    for place in Place::both() {
        let deaf = |name: &str| {
            format!("sh -c 'trap \"\" TERM; echo $$ > output/{name}; while :; do sleep 1; done' &")
        };
        let (a, b, c) = (deaf("a"), deaf("b"), deaf("c"));
        let lines = format!("trap '' TERM; {a} setsid {b} setsid env -i {c} echo $$ > output/main; wait");
        let mut job = script("r1", &lines);
        // Under way before its time is over, however slow the machine.
        job.timeout = Duration::from_secs(4);
        let run = tokio::spawn({
            let (executor, job) = (place.executor.clone(), job.clone());
            async move { executor.run(job, CancellationToken::new()).await }
        });
        let mut pids = Vec::new();
        for name in ["a", "b", "c", "main"] {
            pids.push(place.pid(&job, name).await);
        }
        assert!(pids.iter().all(|it| is_alive(*it)));
        assert_eq!(soon(run).await.unwrap().how, How::TimedOut);
        let left: Vec<_> = pids.iter().filter(|it| is_alive(**it)).collect();
        assert!(left.is_empty(), "{left:?} of {pids:?} live, cgroups: {}", place.executor.has_cgroups());
    }
}

#[tokio::test]
async fn what_hears_sigterm_is_given_time() {
    let place = Place::with(|options| options.grace = Duration::from_secs(30));
    let mut job =
        script("r1", "trap 'sleep 0.2; echo bye > output/bye; exit 0' TERM; while :; do sleep 0.05; done");
    job.timeout = SHORT;
    let ended = place.run(&job).await;
    assert_eq!(ended.how, How::TimedOut);
    assert_eq!(ended.artifacts.len(), 1, "{ended:?}");
}

#[tokio::test]
async fn what_has_cleared_its_environment_left_its_session_and_lost_its_parent_is_in_its_cgroup_yet() {
    let place = Place::new();
    assert!(place.executor.has_cgroups());
    let lines = "(setsid env -i sh -c 'echo $$ > output/pid; exec sleep 600' &) ; \
                 until [ -s output/pid ]; do sleep 0.01; done";
    let job = script("r1", lines);
    assert_eq!(place.run(&job).await.how, How::Exited(0));
    assert!(!is_alive(place.pid(&job, "pid").await));
}

#[tokio::test]
async fn without_a_cgroup_what_was_seen_with_its_parent_is_known_without_it() {
    let [_, place] = Place::both();
    // Its parent is there for longer than the time between two looks; then nothing but its number tells.
    let lines = "setsid env -i sh -c 'echo $$ > output/pid; exec sleep 600' & sleep 3";
    let job = script("r1", lines);
    assert_eq!(place.run(&job).await.how, How::Exited(0));
    assert!(!is_alive(place.pid(&job, "pid").await));
}

#[tokio::test]
async fn what_a_success_leaves_behind_is_ended_too() {
    for place in Place::both() {
        let job = script(
            "r1",
            "sleep 600 >/dev/null 2>&1 & echo $! > output/pid; nohup setsid sleep 600 >/dev/null 2>&1 & echo $! > output/two",
        );
        assert_eq!(place.run(&job).await.how, How::Exited(0));
        assert!(!is_alive(place.pid(&job, "pid").await) && !is_alive(place.pid(&job, "two").await));
    }
}

#[tokio::test]
async fn a_stop_interrupts() {
    let place = Place::new();
    let (job, stop) = (script("r1", "echo $$ > output/pid; exec sleep 600"), CancellationToken::new());
    let run = tokio::spawn({
        let (executor, job, stop) = (place.executor.clone(), job.clone(), stop.clone());
        async move { executor.run(job, stop).await }
    });
    let pid = place.pid(&job, "pid").await;
    stop.cancel();
    assert_eq!(soon(run).await.unwrap().how, How::Interrupted);
    assert!(!is_alive(pid));
    let never = script("r2", "echo ran > output/ran");
    let ended = soon(place.executor.run(never, stop)).await;
    assert_eq!((ended.how, ended.artifacts.len()), (How::Interrupted, 0), "stopped before its start");
}

#[tokio::test]
async fn a_hurry_cuts_the_grace() {
    let place = Place::with(|options| options.grace = Duration::from_secs(3600));
    let (stop, executor) = (CancellationToken::new(), place.executor.clone());
    let job = script("r1", "trap '' TERM; echo $$ > output/pid; while :; do sleep 1; done");
    let run = tokio::spawn({
        let (job, stop) = (job.clone(), stop.clone());
        async move { executor.run(job, stop).await }
    });
    let pid = place.pid(&job, "pid").await;
    stop.cancel();
    place.executor.hurry();
    assert_eq!(soon(run).await.unwrap().how, How::Interrupted);
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn a_run_that_nobody_waits_for_any_more_is_ended() {
    let place = Place::new();
    let job = script("r1", "echo $$ > output/pid; exec sleep 600");
    let pid = tokio::select! {
        ended = place.executor.run(job.clone(), CancellationToken::new()) => panic!("{ended:?}"),
        pid = place.pid(&job, "pid") => pid,
    };
    wait_for("end of it", || (!is_alive(pid)).then_some(())).await;
}

#[tokio::test]
async fn a_suspended_program_ends_as_well() {
    let place = Place::new();
    let mut job = script("r1", "kill -STOP $$; sleep 600");
    job.timeout = SHORT;
    assert_eq!(place.run(&job).await.how, How::TimedOut);
}
