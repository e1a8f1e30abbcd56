//! What is on record is taken up again (R5, R12).

use hale_model::spec::{Autonomy, ResponderLimits};
use jiff::ToSpan as _;

use super::{
    super::{Breaker, BreakerState},
    kit::{Bench, ended, secs},
};
use crate::exec::{Ended, How};

#[test]
fn what_waited_waits_on_in_order_and_grows_older_by_the_wall_clock() {
    let mut bench = Bench::with(ResponderLimits::default());
    bench.hear("c00", "act", "a");
    bench.pass(secs(300));
    bench.hear("c00", "act", "b");
    bench.pass(secs(300));
    assert!(bench.restart().is_empty());
    assert_eq!(bench.desk.depth("c00"), 2);
    assert_eq!(bench.hear("c00", "act", "a")[1], "run 00002 queued", "its resource is claimed");
    bench.pass(secs(1));
    assert_eq!(bench.sweep(), ["run 00002 expired", "expired 00002 after 601 of 600"]);
    assert_eq!(bench.next(), ["run 00004 running", "start 00004 act"]);
}

#[test]
fn a_wall_clock_that_was_put_back_makes_nothing_older() {
    let mut bench = Bench::with(ResponderLimits::default());
    bench.hear("c00", "act", "a");
    bench.hear("c01", "approve", "b");
    bench.now.wall -= 48.hours();
    bench.restart();
    bench.pass(secs(600));
    assert!(bench.sweep().is_empty());
    assert_eq!(bench.wakes_in(), Some(400), "a person has no longer than the rule says");
    bench.pass(secs(1));
    assert_eq!(bench.sweep().len(), 2);
}

#[test]
fn what_ran_is_interrupted_and_not_run_again_but_for_a_new_alert() {
    let mut bench = Bench::with(ResponderLimits::default());
    bench.hear("c00", "heal", "a");
    bench.next();
    assert_eq!(bench.restart(), ["run 00002 interrupted", "completed 00002"]);
    assert!(bench.next().is_empty());
    assert!(bench.restart().is_empty(), "told once");
    assert_eq!(bench.hear("c00", "heal", "a").last().unwrap(), "run 00004 queued");
}

#[test]
fn what_recovered_is_watched_for_the_time_that_is_left() {
    let mut bench = Bench::with(ResponderLimits::default());
    bench.hear("c00", "heal", "a");
    bench.next();
    bench.end("00002", How::Exited(0));
    bench.pass(secs(70));
    assert_eq!(bench.restart(), ["watch 00002"]);
    assert_eq!(bench.wakes_in(), Some(30));
    bench.pass(secs(30));
    bench.sweep();
    assert_eq!(bench.state("00002").as_str(), "ineffective");
    // The escalation is there after one more restart, and goes out.
    bench.restart();
    assert_eq!(bench.next(), ["run 00003 running", "start 00003 page"]);
}

#[test]
fn one_that_waits_for_a_person_can_still_be_approved() {
    let mut bench = Bench::with(ResponderLimits::default());
    bench.hear("c00", "approve", "a");
    bench.pass(secs(900));
    bench.restart();
    assert_eq!(bench.wakes_in(), Some(100));
    bench.decide_effects("00002", true).unwrap();
    bench.restart();
    assert_eq!(bench.next(), ["run 00002 running", "start 00002 approve"]);
}

#[test]
fn what_the_file_knows_nothing_of_any_more_comes_to_its_end() {
    let mut bench = Bench::with(ResponderLimits::default());
    bench.hear("c00", "heal", "recovers");
    bench.next();
    bench.end("00002", How::Exited(0));
    bench.hear("c00", "act", "waits");
    bench.hear("c00", "approve", "asks");
    bench.hear("c01", "act", "homeless");
    bench.responder.rules.clear();
    bench.responder.sources.truncate(1);
    bench.restart();
    let ends: Vec<_> = bench.runs.values().map(|it| it.state.as_str()).collect();
    assert_eq!(ends, ["interrupted", "expired", "expired", "expired"]);
    assert_eq!(bench.reason("00004"), "the file has no such rule or step any more");
    assert_eq!(bench.reason("00008"), "the file has no such source any more");
    assert_eq!(bench.desk.runs().count(), 0);
}

#[test]
fn a_source_that_is_gone_takes_its_queue_along_though_the_rule_is_there() {
    let mut bench = Bench::with(ResponderLimits::default());
    bench.hear("c01", "act", "a");
    bench.responder.sources.truncate(1);
    bench.restart();
    assert_eq!(bench.state("00002").as_str(), "expired");
    assert!(bench.next().is_empty());
}

#[test]
fn a_smaller_queue_keeps_the_newest() {
    let mut bench = Bench::with(ResponderLimits::default());
    for name in ["a", "b", "c"] {
        bench.hear("c00", "act", name);
        bench.pass(secs(1));
    }
    bench.responder.limits.queue_size = 2;
    let restarted = bench.restart();
    assert_eq!(restarted, ["run 00002 dropped", "dropped 00001", "capacity open"]);
    assert_eq!(bench.desk.depth("c00"), 2);
}

#[test]
fn duplicates_budgets_and_the_breaker_are_as_they_were() {
    let limits = ResponderLimits { runs_per_hour: Some(3), cost_per_hour: Some(9.0), ..Default::default() };
    let mut bench = Bench::with(limits);
    for name in ["a", "b", "c"] {
        bench.hear("c00", "act", name);
        bench.next();
        let run = bench.runs.last_key_value().unwrap().0.clone();
        bench.end_effects(&run, Ended { cost: Some(3.0), ..ended(How::Exited(1)) });
        bench.pass(secs(10));
    }
    assert!(bench.restart().is_empty(), "what was said is not said again");
    assert_eq!(bench.desk.breaker(Breaker::Failure, bench.now), BreakerState::Open);
    assert_eq!(bench.hear("c00", "act", "a")[0], "alert 00007 duplicate");
    bench.hear("c00", "act", "d");
    bench.hear("c01", "act", "d");
    bench.pass(secs(50));
    // Half-open; c00 has had its three runs.
    let next = bench.next();
    assert!(
        next.contains(&"budget c00".to_owned()) && next.contains(&"start 00011 act".to_owned()),
        "{next:?}"
    );
    bench.pass(secs(220));
    assert_eq!(bench.hear("c00", "act", "a")[0], "alert 00012 accepted", "300 s after the first");
    assert!(bench.end("00011", How::Exited(0)).contains(&"failure closed".to_owned()));
    // An hour after the first start there is room for one; an hour after its end for what it cost.
    assert_eq!(bench.wakes_in(), Some(3600 - 300));
}

#[test]
fn what_is_queued_does_not_run_when_its_rule_is_only_to_observe_now() {
    let mut bench = Bench::with(ResponderLimits::default());
    bench.hear("c00", "act", "a");
    bench.responder.rules.iter_mut().for_each(|it| it.autonomy = Autonomy::Observe);
    assert_eq!(bench.restart()[0], "run 00002 expired");
    assert!(bench.next().is_empty());
    assert!(bench.reason("00002").contains("act by itself"), "{}", bench.reason("00002"));
}
