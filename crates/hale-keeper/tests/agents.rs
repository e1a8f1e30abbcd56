//! Agents come and go (N6, N19): with the agent's end everything ends, or goes on, as it was told.

mod common;

use std::{fs, time::Instant};

use common::{Kept, PATIENCE, is_alive, key, kill, options, wait_for};
use hale_keeper::{
    KeeperError, Link, end_leftovers, launch, procfs,
    protocol::{Answer, Deadline, Empty, Event, InstanceState, Op, Start},
};
use rstest::rstest;

fn list(kept: &mut Kept) -> Vec<InstanceState> {
    match kept.ask(Op::List(Empty {})) {
        Answer::Instances(all) => all,
        other => panic!("{other:?}"),
    }
}

#[rstest]
fn everything_ends_with_its_agent_if_it_was_told_so(#[values(true, false)] cgroups: bool) {
    let mut kept = Kept::new(|options| {
        options.end_with_agent = true;
        options.end_grace_ms = 500;
        options.cgroups = cgroups;
    });
    let stubborn = "trap '' TERM; (setsid sh -c 'echo $$ >> $D/pids; exec sleep 1000' &); echo $$ >> $D/pids; \
                    while :; do sleep 1000; done";
    kept.script("web-0", stubborn);
    kept.script("web-1", "trap 'echo bye; exit 0' TERM; echo $$ >> $D/pids; while :; do sleep 0.05; done");
    let pids = kept.pids("pids", 3);
    kept.link = None;
    let begun = Instant::now();
    kept.keeper.wait().unwrap();
    assert!(begun.elapsed() < PATIENCE, "it took {:?}", begun.elapsed());
    assert!(pids.iter().all(|pid| !is_alive(*pid)), "something is left of {pids:?}");
    assert!(kept.log("web-1").contains(&"bye".to_owned()), "{:?}", kept.log("web-1"));
    assert!(cgroups_left(&kept).is_empty(), "{:?}", cgroups_left(&kept));
}

fn cgroups_left(kept: &Kept) -> Vec<String> {
    let bases = fs::read_to_string(kept.path("run/cgroups")).unwrap_or_default();
    bases.lines().filter(|it| std::path::Path::new(it).exists()).map(ToOwned::to_owned).collect()
}

#[test]
fn whoever_only_asks_who_is_there_does_not_take_the_place_of_the_agent() {
    let mut kept = Kept::new(|_| {});
    let pid = kept.script("web-0", "exec sleep 1000").pid;
    let mut other = Link::connect(kept.dir(), PATIENCE).unwrap();
    assert!(matches!(other.look().unwrap(), Answer::Welcome(_)));
    drop(other);
    kill(pid, "KILL");
    assert_eq!(kept.ended("web-0").signal, Some(9), "the agent is told as before");
}

#[test]
fn what_a_dead_agent_asked_for_and_was_not_begun_is_not_done_once_there_is_another() {
    let mut kept = Kept::new(|_| {});
    let mut old = std::mem::take(&mut kept.link).unwrap();
    assert!(matches!(old.look().unwrap(), Answer::Welcome(_)));
    kept.connect();
    let start = kept.shell("late-0", "exec sleep 1000");
    assert!(old.ask(Op::Start(Box::new(start))).is_err(), "its connection is closed");
    assert!(list(&mut kept).is_empty());
}

#[test]
fn a_start_brings_the_moment_at_which_it_ends_unless_somebody_says_otherwise() {
    let mut kept = Kept::new(|_| {});
    let at = hale_keeper::clock::boot_nanos() + 100_000_000;
    let bound = Start { deadline: Some((at, 1000)), ..kept.shell("bound-0", "exec sleep 1000") };
    let spared =
        Start { deadline: Some((at + 200_000_000, 1000)), ..kept.shell("spared-0", "exec sleep 1000") };
    kept.start(bound).unwrap();
    let spared = kept.start(spared).unwrap();
    kept.ask(Op::Deadline(Deadline { keys: vec![key("spared-0")], at: None, grace_ms: 0 }));
    kept.link = None;
    kept.connect();
    let ended = |all: &Vec<InstanceState>| all.iter().any(|it| it.gone);
    let all = wait_for("its end", || Some(list(&mut kept)).filter(ended));
    assert_eq!(all[0].exit.as_ref().unwrap().signal, Some(15));
    assert!(is_alive(spared.pid as i32));
}

#[test]
fn replicas_go_on_without_an_agent_and_the_next_one_learns_what_happened() {
    let mut kept = Kept::new(|_| {});
    let lives = kept
        .script("lives-0", "echo before; while [ ! -e $D/go ]; do sleep 0.02; done; echo after; sleep 1000");
    let dies = kept.script("dies-0", "while [ ! -e $D/go ]; do sleep 0.02; done; exit 9");
    kept.link = None;
    fs::write(kept.path("go"), "").unwrap();
    wait_for("the end of one", || (!is_alive(dies.pid as i32)).then_some(()));
    wait_for("output of the other", || (kept.log("lives-0") == ["before", "after"]).then_some(()));
    kept.connect();
    let all = wait_for("the record", || Some(list(&mut kept)).filter(|all| all.iter().any(|it| it.gone)));
    assert_eq!(all.len(), 2);
    assert_eq!(all[0].exit.as_ref().unwrap().code, Some(9));
    assert_eq!(all[1].running, lives);
    assert!(all[1].exit.is_none() && !all[1].gone && all[1].started_at > 0);
    assert_eq!(procfs::process(lives.pid as i32).unwrap().start_time, lives.start_time);
    kill(lives.pid, "KILL");
    assert_eq!(kept.ended("lives-0").signal, Some(9));
}

#[rstest]
fn what_a_killed_keeper_left_is_ended_before_anything_else(#[values(true, false)] cgroups: bool) {
    let mut kept = Kept::new(|options| options.cgroups = cgroups);
    let pid = kept.script("web-0", "setsid sh -c 'echo $$ > $D/pids; exec sleep 1000' & sleep 1000").pid;
    let grandchild = kept.pids("pids", 1)[0];
    kill(kept.keeper.pid(), "KILL");
    kept.keeper.wait().unwrap();
    assert!(is_alive(pid as i32) && is_alive(grandchild));
    let swept = end_leftovers(kept.dir()).unwrap();
    assert!(!swept.keeper && swept.processes >= 3, "{swept:?}");
    assert!(!is_alive(pid as i32) && !is_alive(grandchild));
    assert!(cgroups_left(&kept).is_empty());
    assert_eq!(end_leftovers(kept.dir()).unwrap(), hale_keeper::Swept::default());
    kept.keeper = launch(options(kept.dir(), |_| {})).unwrap();
    kept.connect();
}

#[test]
fn a_keeper_that_still_lives_is_ended_with_all_it_runs() {
    let mut kept = Kept::new(|_| {});
    let pid = kept.script("web-0", "sleep 1000").pid;
    kept.link = None;
    let error = launch(options(kept.dir(), |_| {})).unwrap_err();
    assert!(matches!(&error, KeeperError::NotStarted(why) if why.contains("another keeper")), "{error}");
    assert!(end_leftovers(kept.dir()).unwrap().keeper);
    assert!(!is_alive(pid as i32));
    kept.keeper.wait().unwrap();
    assert!(end_leftovers(&kept.path("never-used")).is_ok());
}

#[test]
fn a_stopped_keeper_is_ended_by_force() {
    let mut kept = Kept::new(|_| {});
    let pid = kept.script("web-0", "sleep 1000").pid;
    kept.link = None;
    kill(kept.keeper.pid(), "STOP");
    assert!(end_leftovers(kept.dir()).unwrap().keeper);
    assert!(!is_alive(pid as i32));
}

#[test]
fn a_data_directory_with_a_long_name_is_no_hindrance() {
    let name =
        format!("{0}/{0}", "a-directory-with-a-rather-long-name-that-does-not-fit-into-a-socket-address");
    let mut kept = Kept::below(&name, |_| {});
    kept.script("web-0", "exit 0");
    assert_eq!(kept.ended("web-0").code, Some(0));
}

#[test]
fn the_signals_of_a_terminal_reach_neither_the_keeper_nor_its_replicas() {
    let mut kept = Kept::new(|_| {});
    let pid = kept.script("web-0", "sleep 1000").pid;
    let keeper = procfs::process(kept.keeper.pid() as i32).unwrap();
    assert_eq!(keeper.session, keeper.pid);
    kill(kept.keeper.pid(), "INT");
    kill(kept.keeper.pid(), "HUP");
    assert_eq!(list(&mut kept).len(), 1);
    kill(kept.keeper.pid(), "TERM");
    kept.keeper.wait().unwrap();
    assert!(!is_alive(pid as i32));
}

#[test]
fn the_keeper_stays_small() {
    let mut kept = Kept::new(|_| {});
    for number in 0..100 {
        kept.script(&format!("web-{number}"), "exec sleep 1000");
    }
    let page = 4096;
    let keeper = procfs::process(kept.keeper.pid() as i32).unwrap();
    let resident = keeper.resident_pages * page;
    eprintln!("the keeper of 100 replicas has {} KiB resident, {} threads", resident / 1024, keeper.threads);
    assert!(resident < 16 << 20, "{resident} bytes");
    assert_eq!(keeper.threads, 1);
    for number in 0..100 {
        kept.stop(&format!("web-{number}"), 15, 1000);
    }
    let mut gone = 0;
    while gone < 100 {
        gone += i32::from(matches!(kept.event(), Event::Gone { .. }));
    }
}
