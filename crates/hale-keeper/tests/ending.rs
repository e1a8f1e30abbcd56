//! How replicas end, however badly they behave (H13, H18): with a cgroup of their own, and without one.

mod common;

use std::time::{Duration, Instant};

use common::{Kept, PATIENCE, is_alive, kill, wait_for};
use hale_keeper::protocol::Event;
use rstest::rstest;

fn kept(cgroups: bool) -> Kept {
    Kept::new(|options| options.cgroups = cgroups)
}

#[rstest]
fn an_exit_is_told_at_once_with_its_status(#[values(true, false)] cgroups: bool) {
    let mut kept = kept(cgroups);
    kept.script("web-0", "exit 3");
    let exit = kept.ended("web-0");
    assert_eq!((exit.code, exit.signal, exit.oom), (Some(3), None, false));
    let pid = kept.script("web-1", "exec sleep 1000").pid;
    let killed = hale_keeper::clock::boot_nanos();
    kill(pid, "KILL");
    let exit = kept.ended("web-1");
    assert_eq!((exit.code, exit.signal), (None, Some(9)));
    let noticed = Duration::from_nanos(exit.at - killed);
    assert!(noticed < PATIENCE / 4, "noticed after {noticed:?}");
}

#[rstest]
fn one_that_ignores_the_stop_signal_is_killed_after_the_grace(#[values(true, false)] cgroups: bool) {
    let mut kept = kept(cgroups);
    let pid = kept.script("web-0", "trap '' TERM; echo set; while :; do sleep 1000; done").pid;
    wait_for("the trap", || (kept.log("web-0") == ["set"]).then_some(()));
    let begun = Instant::now();
    kept.stop("web-0", 15, 300);
    let exit = kept.ended("web-0");
    assert_eq!(exit.signal, Some(9));
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
    assert!(begun.elapsed() < PATIENCE / 4);
    assert!(!is_alive(pid as i32));
}

#[rstest]
fn one_that_is_suspended_hears_the_stop_signal_at_once(#[values(true, false)] cgroups: bool) {
    let mut kept = kept(cgroups);
    let pid = kept.script("web-0", "trap 'exit 7' TERM; echo set; while :; do sleep 0.01; done").pid;
    wait_for("the trap", || (kept.log("web-0") == ["set"]).then_some(()));
    kill(pid, "STOP");
    kept.stop("web-0", 15, 600_000);
    assert_eq!(kept.ended("web-0").code, Some(7));
}

#[rstest]
fn a_second_stop_with_less_grace_hurries(#[values(true, false)] cgroups: bool) {
    let mut kept = kept(cgroups);
    kept.script("web-0", "trap '' TERM; echo set; while :; do sleep 1000; done");
    wait_for("the trap", || (kept.log("web-0") == ["set"]).then_some(()));
    let begun = Instant::now();
    kept.stop("web-0", 15, 600_000);
    kept.stop("web-0", 15, 0);
    assert_eq!(kept.ended("web-0").signal, Some(9));
    assert!(begun.elapsed() < PATIENCE / 4);
}

#[rstest]
fn the_others_get_the_rest_of_the_grace_when_the_main_process_stops_first(
    #[values(true, false)] cgroups: bool,
) {
    let mut kept = kept(cgroups);
    // The shell dies of the signal at once; its child takes a moment to finish its work.
    let child = "trap 'sleep 0.3; echo finished; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    kept.script("web-0", &format!("sh -c \"{child}\" & trap 'exit 0' TERM; while :; do wait; done"));
    wait_for("the child", || (kept.log("web-0") == ["ready"]).then_some(()));
    kept.stop("web-0", 15, 10_000);
    assert_eq!(kept.ended("web-0").code, Some(0));
    assert!(kept.log("web-0").contains(&"finished".to_owned()), "{:?}", kept.log("web-0"));
}

#[rstest]
fn one_in_a_session_of_its_own_is_asked_too_once_the_main_process_has_stopped(
    #[values(true, false)] cgroups: bool,
) {
    let mut kept = kept(cgroups);
    let child = "trap 'echo asked; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    kept.script("web-0", &format!("setsid sh -c \"{child}\" & exec sleep 1000"));
    wait_for("the child", || (kept.log("web-0") == ["ready"]).then_some(()));
    let begun = Instant::now();
    kept.stop("web-0", 15, 60_000);
    assert_eq!(kept.ended("web-0").signal, Some(15));
    assert!(begun.elapsed() < PATIENCE / 2, "it waited for the end of the grace");
    assert!(kept.log("web-0").contains(&"asked".to_owned()), "{:?}", kept.log("web-0"));
}

#[rstest]
fn what_one_that_forks_and_exits_leaves_behind_goes_with_it(#[values(true, false)] cgroups: bool) {
    let mut kept = kept(cgroups);
    kept.script("web-0", "sleep 1000 & echo $! > $D/pids; exit 0");
    assert_eq!(kept.ended("web-0").code, Some(0));
    let child = kept.pids("pids", 1)[0];
    assert!(!is_alive(child));
}

#[rstest]
fn grandchildren_in_sessions_of_their_own_do_not_outlive_a_killed_parent(
    #[values(true, false)] cgroups: bool,
) {
    let mut kept = kept(cgroups);
    let nested = "setsid sh -c 'echo $$ >> $D/pids; sleep 1000 & echo $! >> $D/pids; wait' &";
    let pid = kept.script("web-0", &format!("{nested} {nested} sleep 1000 & echo $! >> $D/pids; wait")).pid;
    let pids = kept.pids("pids", 5);
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    kill(pid, "KILL");
    assert_eq!(kept.ended("web-0").signal, Some(9));
    let left: Vec<_> = pids.into_iter().filter(|pid| is_alive(*pid)).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[rstest]
fn a_daemon_that_was_orphaned_before_ends_with_its_replica_alone(#[values(true, false)] cgroups: bool) {
    let mut kept = kept(cgroups);
    let daemon =
        |name: &str| format!("(setsid sh -c 'echo $$ > $D/{name}; exec sleep 1000' &) ; exec sleep 1000");
    kept.script("a-0", &daemon("a"));
    kept.script("b-0", &daemon("b"));
    let (of_a, of_b) = (kept.pids("a", 1)[0], kept.pids("b", 1)[0]);
    kept.stop("a-0", 15, 0);
    kept.ended("a-0");
    assert!(!is_alive(of_a));
    assert!(is_alive(of_b), "the other replica's daemon was ended too");
    kept.stop("b-0", 15, 0);
    kept.ended("b-0");
    assert!(!is_alive(of_b));
}

#[rstest]
fn a_replica_that_forks_all_the_time_is_ended_whole(#[values(true, false)] cgroups: bool) {
    let mut kept = kept(cgroups);
    let script = "i=0; while :; do setsid sh -c 'echo $$ >> $D/pids; exec sleep 1000' & sleep 0.01; done";
    kept.script("web-0", script);
    kept.pids("pids", 5);
    kept.stop("web-0", 15, 0);
    kept.ended("web-0");
    let left: Vec<_> = kept.pids("pids", 5).into_iter().filter(|pid| is_alive(*pid)).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[test]
fn one_that_eats_more_memory_than_it_may_ends_as_out_of_memory() {
    let mut kept = kept(true);
    let mut start = kept.program("web-0", "/usr/bin/tail", &["tail", "/dev/zero"]);
    start.memory = Some(32 << 20);
    let running = kept.start(start).unwrap();
    assert_eq!(running.warnings, Vec::<String>::new(), "this test needs a memory cgroup: run it as root");
    let exit = kept.ended("web-0");
    assert_eq!((exit.signal, exit.oom), (Some(9), true));
}

#[test]
fn a_child_killed_for_want_of_memory_is_seen_at_the_exit_of_its_parent() {
    let mut kept = kept(true);
    let mut start = kept.shell("web-0", "tail /dev/zero; exit 7");
    start.memory = Some(32 << 20);
    let running = kept.start(start).unwrap();
    assert_eq!(running.warnings, Vec::<String>::new(), "this test needs a memory cgroup: run it as root");
    assert!(kept.ended("web-0").oom);
}

#[test]
fn an_instance_nobody_knows_and_one_that_is_gone_are_told_gone() {
    let mut kept = kept(true);
    kept.stop("never-0", 15, 1000);
    assert_eq!(kept.event(), Event::Gone { key: common::key("never-0") });
    kept.script("web-0", "exit 0");
    kept.ended("web-0");
    kept.stop("web-0", 15, 1000);
    assert_eq!(kept.event(), Event::Gone { key: common::key("web-0") });
}
