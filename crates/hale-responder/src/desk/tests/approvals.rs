//! Runs that wait for a person (R11).

use hale_api::runs::RunState;
use hale_model::spec::{Overflow, ResponderLimits};

use super::{
    super::DecideError,
    kit::{Bench, lines, secs},
};
use crate::exec::How;

fn asked(limits: ResponderLimits) -> Bench {
    let mut bench = Bench::with(limits);
    assert_eq!(
        bench.hear("c00", "approve", "a"),
        ["alert 00001 accepted", "run 00002 awaiting_approval", "asks 00002"]
    );
    bench
}

#[test]
fn a_yes_queues_the_run_and_its_age_counts_from_then() {
    let mut bench = asked(ResponderLimits::default());
    assert!(bench.next().is_empty());
    assert_eq!(bench.desk.depth("c00"), 0);
    bench.pass(secs(999));
    assert_eq!(lines(&bench.decide_effects("00002", true).unwrap()), ["run 00002 queued"]);
    assert_eq!(bench.runs["00002"].decided_by.as_deref(), Some("ada"));
    assert_eq!(bench.reason("00002"), "approved by ada");
    bench.pass(secs(600));
    assert!(bench.sweep().is_empty());
    assert_eq!(bench.next(), ["run 00002 running", "start 00002 approve"]);
    assert_eq!(bench.decide_effects("00002", true), Err(DecideError::NotWaiting(RunState::Running)));
    bench.end("00002", How::Exited(0));
    assert_eq!(bench.decide_effects("00002", false), Err(DecideError::Unknown), "its window is over");
}

#[test]
fn a_no_ends_it_and_the_next_alert_asks_again() {
    let mut bench = asked(ResponderLimits::default());
    assert_eq!(lines(&bench.decide_effects("00002", false).unwrap()), ["run 00002 rejected"]);
    assert_eq!(bench.decide_effects("00002", true), Err(DecideError::Unknown));
    assert_eq!(bench.wakes_in(), None);
    assert_eq!(bench.hear("c00", "approve", "a").last().unwrap(), "asks 00004");
}

#[test]
fn without_an_answer_it_expires() {
    let mut bench = asked(ResponderLimits::default());
    assert_eq!(bench.wakes_in(), Some(1000));
    bench.pass(secs(1000));
    assert_eq!(bench.decide_effects("00002", true), Err(DecideError::Expired));
    assert_eq!(bench.sweep(), ["run 00002 expired", "expired 00002 after 1000 of 1000"]);
    assert_eq!(bench.decide_effects("00002", true), Err(DecideError::Unknown));
}

#[test]
fn of_too_many_that_wait_for_a_person_the_oldest_expires() {
    let mut bench = asked(ResponderLimits { queue_size: 2, ..ResponderLimits::default() });
    bench.hear("c00", "approve", "b");
    bench.pass(secs(5));
    let third = bench.hear("c00", "approve", "c");
    assert_eq!(third[3..], ["run 00002 expired", "expired 00002 after 5 of 1000"]);
    assert_eq!(bench.desk.runs().count(), 2);
}

#[test]
fn a_yes_into_a_full_queue_makes_the_oldest_give_way_or_waits_on() {
    let limits = |overflow| ResponderLimits { queue_size: 1, overflow, ..ResponderLimits::default() };
    let mut bench = asked(limits(Overflow::DropOldest));
    bench.hear("c00", "act", "b");
    let yes = lines(&bench.decide_effects("00002", true).unwrap());
    assert_eq!(yes, ["run 00004 dropped", "dropped 00003", "run 00002 queued", "capacity open"]);

    let mut bench = asked(limits(Overflow::Reject));
    bench.hear("c00", "act", "b");
    assert_eq!(bench.decide_effects("00002", true), Err(DecideError::Full));
    assert_eq!(bench.state("00002"), RunState::AwaitingApproval);
    bench.next();
    assert!(bench.decide_effects("00002", true).is_ok());
}

#[test]
fn what_waits_for_a_person_holds_no_other_fault_of_its_resource_up() {
    let mut bench = Bench::with(ResponderLimits::default());
    bench.hear("c00", "approve", "a");
    assert_eq!(bench.hear("c00", "approve", "a")[1], "run 00002 awaiting_approval", "its own kind attaches");
    let told = bench.hear("c00", "act", "a");
    assert!(told.iter().any(|it| it.ends_with("queued")), "{told:?}");
}
