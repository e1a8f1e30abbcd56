//! The failure breaker (R7).

use hale_model::spec::ResponderLimits;

use super::{
    super::{Breaker, BreakerState},
    kit::{Bench, secs},
};
use crate::exec::How;

/// Five alerts wait in one cluster; the first three fail.
fn opened() -> Bench {
    let mut bench = Bench::with(ResponderLimits::default());
    for name in ["a", "b", "c", "d", "e", "f"] {
        bench.hear("c00", "act", name);
    }
    for run in ["00002", "00004"] {
        bench.next();
        assert!(!bench.end(run, How::Exited(1)).contains(&"failure open".to_owned()));
    }
    bench.next();
    assert_eq!(bench.end("00006", How::Exited(1)), ["run 00006 failed", "completed 00006", "failure open"]);
    bench
}

fn stands(bench: &Bench) -> BreakerState {
    bench.desk.breaker(Breaker::Failure, bench.now)
}

#[test]
fn three_failures_in_a_row_stop_dequeuing_and_a_probe_that_succeeds_starts_it_again() {
    let mut bench = opened();
    assert_eq!(stands(&bench), BreakerState::Open);
    assert!(bench.next().is_empty());
    // Alerts are taken all the same.
    assert_eq!(bench.hear("c01", "act", "a").last().unwrap(), "run 00014 queued");
    assert_eq!(bench.wakes_in(), Some(60));
    bench.pass(secs(60));
    assert_eq!(stands(&bench), BreakerState::HalfOpen);
    assert_eq!(bench.next(), ["failure halfopen", "run 00014 running", "start 00014 act"]);
    assert!(bench.next().is_empty(), "one probe, though workers are free");
    assert_eq!(
        bench.end("00014", How::Exited(0)),
        ["run 00014 succeeded", "completed 00014", "failure closed"]
    );
    assert_eq!(bench.next(), ["run 00008 running", "start 00008 act"]);
}

#[test]
fn an_opening_is_told_once_however_many_probes_fail() {
    let mut bench = opened();
    for run in ["00008", "00010"] {
        bench.pass(secs(60));
        assert_eq!(bench.next()[0], "failure halfopen");
        assert_eq!(
            bench.end(run, How::TimedOut),
            [format!("run {run} timed_out"), format!("completed {run}")]
        );
        assert_eq!(stands(&bench), BreakerState::Open);
    }
    bench.pass(secs(60));
    bench.next();
    assert!(bench.end("00012", How::Exited(0)).contains(&"failure closed".to_owned()));
    for name in ["g", "h", "i"] {
        bench.hear("c01", "act", name);
        bench.next();
        let run = bench.runs.last_key_value().unwrap().0.clone();
        assert_eq!(bench.end(&run, How::Signal(9)).contains(&"failure open".to_owned()), name == "i");
    }
}

#[test]
fn expiry_goes_on_while_it_is_open() {
    let mut bench = opened();
    bench.pass(secs(601));
    let swept = bench.sweep();
    assert_eq!(swept.iter().filter(|it| it.starts_with("expired")).count(), 3, "{swept:?}");
}

#[test]
fn a_probe_that_was_interrupted_gives_its_place_to_another() {
    let mut bench = opened();
    bench.pass(secs(60));
    bench.next();
    bench.end("00008", How::Interrupted);
    assert_eq!(bench.next()[0], "failure halfopen");
}

#[test]
fn a_run_from_before_the_opening_closes_it_by_succeeding_and_changes_nothing_by_failing() {
    let late = |how: How| {
        let mut bench = Bench::with(ResponderLimits { max_per_cluster: 5, ..ResponderLimits::default() });
        for name in ["a", "b", "c", "d", "e"] {
            bench.hear("c00", "act", name);
        }
        bench.next();
        for run in ["00002", "00004", "00006"] {
            bench.end(run, How::Exited(1));
        }
        bench.hear("c00", "act", "f");
        bench.pass(secs(60));
        assert_eq!(bench.next()[0], "failure halfopen");
        bench.end("00008", how);
        (stands(&bench), bench.end("00012", How::Exited(0)))
    };
    assert_eq!(late(How::Exited(0)).0, BreakerState::Closed);
    let (stood, then) = late(How::Exited(1));
    assert_eq!(stood, BreakerState::HalfOpen, "the probe decides");
    assert!(then.contains(&"failure closed".to_owned()));
}

#[test]
fn runs_that_end_well_and_mend_nothing_open_it() {
    let mut bench = Bench::with(ResponderLimits::default());
    for name in ["a", "b", "c"] {
        bench.hear("c00", "heal", name);
    }
    for run in ["00002", "00004", "00006"] {
        bench.next();
        bench.end(run, How::Exited(0));
    }
    assert_eq!(stands(&bench), BreakerState::Closed);
    bench.pass(secs(100));
    let swept = bench.sweep();
    assert_eq!(swept.iter().filter(|it| *it == "failure open").count(), 1, "{swept:?}");
}

#[test]
fn a_probe_that_recovers_is_the_only_one_until_it_is_decided() {
    let mut bench = opened();
    bench.hear("c01", "heal", "a");
    bench.pass(secs(60));
    assert!(bench.next().contains(&"start 00014 heal".to_owned()));
    bench.end("00014", How::Exited(0));
    bench.pass(secs(99));
    assert!(bench.next().is_empty());
    assert!(bench.recover("c01", "a").contains(&"failure closed".to_owned()));
    assert!(!bench.next().is_empty());
}

#[test]
fn escalations_pass_it_and_neither_open_nor_close_it() {
    let mut bench = opened();
    bench.hear("c01", "heal", "a");
    bench.pass(secs(60));
    bench.next();
    // The probe fails: the breaker is open again, and the page goes out.
    bench.end("00014", How::Exited(1));
    assert_eq!(stands(&bench), BreakerState::Open);
    assert_eq!(bench.next(), ["run 00015 running", "start 00015 page"]);
    bench.end("00015", How::Exited(0));
    bench.recover("c01", "a");
    assert_eq!(bench.state("00015").as_str(), "succeeded");
    assert_eq!(stands(&bench), BreakerState::Open);
}
