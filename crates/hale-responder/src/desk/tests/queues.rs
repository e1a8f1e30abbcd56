//! What waits, what gives way, whose turn it is (R5, R6, R7).

use hale_api::runs::RunState;
use hale_model::spec::{Overflow, ResponderLimits};

use super::{
    super::{Breaker, BreakerState},
    kit::{Bench, ended, raw, responder, secs},
};
use crate::{
    exec::{Ended, How},
    source::Taken,
};

fn limits() -> ResponderLimits {
    ResponderLimits { queue_size: 2, global_queue_size: 5, ..ResponderLimits::default() }
}

#[test]
fn in_a_full_queue_the_oldest_gives_way_and_the_breaker_says_so_once() {
    let mut bench = Bench::with(limits());
    bench.hear("c00", "act", "a");
    bench.hear("c00", "act", "b");
    assert_eq!(
        bench.hear("c00", "act", "c"),
        ["run 00002 dropped", "dropped 00001", "alert 00005 accepted", "run 00006 queued", "capacity open"]
    );
    let next = bench.hear("c00", "act", "d");
    assert!(!next.contains(&"capacity open".to_owned()), "{next:?}");
    assert_eq!(bench.desk.breaker(Breaker::Capacity, bench.now), BreakerState::Open);
    assert_eq!((bench.desk.depth("c00"), bench.desk.capacity()), (2, 2));
    // It stops nothing, and closes as soon as there is room.
    assert_eq!(bench.next(), ["run 00006 running", "start 00006 act", "capacity closed"]);
}

#[test]
fn a_full_queue_can_refuse_and_its_sender_is_told() {
    let mut bench = Bench::with(ResponderLimits { overflow: Overflow::Reject, ..limits() });
    bench.hear("c00", "act", "a");
    bench.hear("c00", "act", "b");
    let (taken, effects) = bench.hear_raw("c00", raw("act", "c"));
    assert_eq!(taken, Taken::Full);
    assert_eq!(super::kit::lines(&effects), ["alert 00005 refused", "refused 00005", "capacity open"]);
    // It left no trace: once there is room it is taken.
    bench.next();
    assert_eq!(bench.hear("c00", "act", "c")[0], "alert 00006 accepted");
}

#[test]
fn where_all_are_full_the_oldest_of_the_longest_gives_way() {
    let mut bench = Bench::new(responder(4, ResponderLimits { queue_size: 4, ..limits() }));
    for (cluster, name) in [("c00", "a"), ("c01", "b"), ("c01", "c"), ("c01", "d"), ("c02", "e")] {
        bench.hear(cluster, "act", name);
    }
    // c03 has nothing: c01, with three, makes room; then c02, which would have as many as it, does so itself.
    assert!(bench.hear("c03", "act", "f").contains(&"dropped 00003".to_owned()));
    assert!(bench.hear("c02", "act", "g").contains(&"dropped 00009".to_owned()));
    let depths: Vec<_> = ["c00", "c01", "c02", "c03"].map(|it| bench.desk.depth(it)).into();
    assert_eq!(depths.iter().sum::<usize>(), 5);
    assert_eq!(depths, [1, 2, 1, 1]);
}

#[test]
fn a_cluster_without_a_place_gets_one_even_where_each_has_but_one() {
    let limits = ResponderLimits { global_queue_size: 2, ..ResponderLimits::default() };
    let mut bench = Bench::new(responder(3, limits));
    bench.hear("c01", "act", "a");
    bench.pass(secs(1));
    bench.hear("c00", "act", "b");
    // Of equals the one that has waited longest gives way; for one more of its own a cluster pays itself.
    assert!(bench.hear("c02", "act", "c").contains(&"dropped 00001".to_owned()));
    assert_eq!(bench.desk.depth("c02"), 1);
    assert!(bench.hear("c02", "act", "d").contains(&"dropped 00005".to_owned()));
    assert_eq!((bench.desk.depth("c02"), bench.desk.queued_total()), (1, 2));
}

#[test]
fn clusters_take_turns_and_none_has_more_runs_than_it_may() {
    let limits = ResponderLimits { max_concurrent_runs: 3, ..ResponderLimits::default() };
    let mut bench = Bench::new(responder(4, limits));
    for name in ["a", "b"] {
        for cluster in ["c00", "c01", "c02", "c03"] {
            bench.hear(cluster, "act", name);
        }
    }
    let starts = |it: Vec<String>| it.into_iter().filter(|it| it.starts_with("start")).collect::<Vec<_>>();
    assert_eq!(starts(bench.next()), ["start 00002 act", "start 00004 act", "start 00006 act"]);
    assert!(bench.next().is_empty());
    bench.end("00004", How::Exited(0));
    assert_eq!(starts(bench.next()), ["start 00008 act"]);
    bench.end("00002", How::Exited(0));
    bench.end("00006", How::Exited(0));
    // After c03 it is c00's turn again, then c01's.
    assert_eq!(starts(bench.next()), ["start 00010 act", "start 00012 act"]);
    assert_eq!((bench.desk.active("c00"), bench.desk.active_total()), (1, 3));
}

#[test]
fn what_waits_for_too_long_expires_to_the_second_and_is_never_started() {
    let mut bench = Bench::with(ResponderLimits::default());
    bench.hear("c00", "act", "a");
    bench.hear("c00", "act", "b");
    bench.next();
    bench.pass(secs(600));
    assert!(bench.sweep().is_empty());
    bench.pass(secs(1));
    bench.end("00002", How::Exited(0));
    // Nobody swept: it is too old all the same.
    assert_eq!(bench.next(), ["run 00004 expired", "expired 00004 after 601 of 600"]);
    assert!(bench.sweep().is_empty());
}

#[test]
fn the_files_own_age_comes_before_the_command_lines() {
    let mut bench = Bench::with(ResponderLimits { max_queue_age: Some(secs(10)), ..limits() });
    bench.hear("c00", "act", "a");
    bench.pass(secs(11));
    assert_eq!(bench.sweep(), ["run 00002 expired", "expired 00002 after 11 of 10"]);
}

#[test]
fn a_responder_that_is_ending_dequeues_nothing_more() {
    let mut bench = Bench::with(limits());
    bench.hear("c00", "heal", "a");
    bench.next();
    bench.hear("c00", "act", "b");
    bench.desk.hold();
    bench.end("00002", How::Exited(1));
    assert!(bench.next().is_empty());
    assert_eq!(bench.desk.wake_at(bench.now), None);
    // The escalation and the alert are there for the next start.
    let queued: Vec<_> = bench.runs.values().filter(|it| it.state == RunState::Queued).collect();
    assert_eq!(queued.len(), 2);
}

#[test]
fn the_budget_of_runs_holds_a_cluster_back_until_the_hour_is_over() {
    let limits = ResponderLimits { runs_per_hour: Some(2), max_queue_age: Some(secs(9000)), ..limits() };
    let mut bench = Bench::with(limits);
    for name in ["a", "b", "c"] {
        bench.hear("c00", "act", name);
        let started = bench.next().iter().any(|it| it.starts_with("start"));
        assert_eq!(started, name != "c");
        if started {
            bench.end(&bench.runs.last_key_value().unwrap().0.clone(), How::Exited(0));
        }
        bench.pass(secs(60));
    }
    assert_eq!(bench.wakes_in(), Some(3600 - 180));
    assert!(bench.next().is_empty(), "it is told once");
    // Others have their own.
    bench.hear("c01", "act", "a");
    assert_eq!(bench.next().len(), 2);
    bench.pass(secs(3600 - 180));
    assert_eq!(bench.next(), ["run 00006 running", "start 00006 act"]);
}

#[test]
fn the_budget_of_runs_is_told_once_in_a_spell() {
    let limits = ResponderLimits { runs_per_hour: Some(1), max_queue_age: Some(secs(90_000)), ..limits() };
    let mut bench = Bench::with(limits);
    bench.hear("c00", "act", "a");
    bench.next();
    bench.end("00002", How::Exited(0));
    bench.hear("c00", "act", "b");
    bench.hear("c00", "act", "c");
    assert_eq!(bench.next(), ["budget c00"]);
    bench.pass(secs(3600));
    bench.next();
    bench.end("00004", How::Exited(0));
    assert!(bench.next().is_empty());
    bench.pass(secs(3600));
    bench.next();
    bench.end("00006", How::Exited(0));
    bench.pass(secs(3600));
    // Nothing waits and there is room: the spell is over.
    bench.next();
    bench.hear("c00", "act", "d");
    bench.next();
    bench.end("00008", How::Exited(0));
    bench.hear("c00", "act", "e");
    assert_eq!(bench.next(), ["budget c00"]);
}

#[test]
fn the_budget_of_costs_counts_what_programs_tell_and_no_nonsense() {
    let limits = ResponderLimits { cost_per_hour: Some(1.0), max_queue_age: Some(secs(9000)), ..limits() };
    let mut bench = Bench::with(limits);
    let costs = [-5.0, f64::NAN, f64::INFINITY, 0.6, 0.4];
    for (at, cost) in costs.into_iter().enumerate() {
        bench.hear("c00", "act", &at.to_string());
        assert_eq!(bench.next().len(), 2, "before {cost}");
        let run = bench.runs.last_key_value().unwrap().0.clone();
        bench.end_effects(&run, Ended { cost: Some(cost), ..ended(How::Exited(0)) });
        bench.pass(secs(10));
    }
    bench.hear("c00", "act", "z");
    assert_eq!(bench.next(), ["budget c00"]);
    // Without the 0.6, of 20 s ago, there is room.
    assert_eq!(bench.wakes_in(), Some(3600 - 20));
    bench.pass(secs(3600 - 20));
    assert_eq!(bench.next().len(), 2);
}
