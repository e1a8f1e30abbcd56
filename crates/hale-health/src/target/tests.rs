//! One failure told, then silence, then one recovery; windows, the fast period, pauses and an unwell node.

use super::*;

fn machine(success_threshold: u32) -> TargetMachine {
    let timing = ProbeTiming {
        period: Duration::from_secs(15),
        success_threshold,
        ..ProbeTiming::default_for(crate::ProbeKind::Liveness)
    };
    TargetMachine::new(Time::ZERO, timing, TargetPolicy::default())
}

fn feed_as(it: &mut TargetMachine, at: u64, ok: bool, observer: &Observer) -> Option<TargetNote> {
    let verdict =
        if ok { Verdict::Success } else { Verdict::failure(Reason::StatusMismatch, "503, expected 200") };
    let status = if ok { 200 } else { 503 };
    it.outcome(
        Time::from_secs(at),
        &TargetOutcome { verdict, status, started_at: Time::from_secs(at) },
        observer,
    )
}

fn feed(it: &mut TargetMachine, at: u64, ok: bool) -> Option<TargetNote> {
    feed_as(it, at, ok, &Observer::Sound)
}

fn suspect() -> Observer {
    Observer::Suspect { confirmed: false, reason: "many at once".to_owned() }
}

#[test]
fn one_failure_is_told_then_silence_then_one_recovery_with_the_whole_streak() {
    let mut it = machine(1);
    assert_eq!(
        (feed(&mut it, 0, true), feed(&mut it, 15, false), feed(&mut it, 30, false)),
        (None, None, None)
    );
    let Some(TargetNote::ProbeFailed {
        consecutive_failures: 3,
        last_status: 503,
        last_reason,
        last_error,
        since,
    }) = feed(&mut it, 45, false)
    else {
        panic!("not told")
    };
    assert_eq!((last_reason, last_error.as_str()), (Reason::StatusMismatch, "503, expected 200"));
    assert_eq!(since, Time::from_secs(15));
    for at in 4..100 {
        assert_eq!(feed(&mut it, at * 15, false), None);
    }
    assert_eq!((it.status(Time::from_secs(1500)), it.consecutive_failures()), (Status::Failing, 99));
    let recovered =
        TargetNote::ProbeRecovered { prior_failure_count: 99, down_for: Duration::from_secs(1485) };
    assert_eq!(feed(&mut it, 1500, true), Some(recovered));
    assert_eq!((feed(&mut it, 1515, true), it.consecutive_successes()), (None, 2));
}

#[test]
fn a_success_without_a_published_failure_makes_no_event() {
    let mut it = machine(1);
    assert_eq!(feed(&mut it, 0, true), None);
    for at in 0..20 {
        assert_eq!(feed(&mut it, at * 15, at % 3 == 0), None);
    }
}

#[test]
fn a_recovery_waits_for_its_threshold_and_counts_every_failure_since_the_first() {
    let mut it = machine(2);
    for at in 0..3 {
        feed(&mut it, at, false);
    }
    assert_eq!((feed(&mut it, 3, true), feed(&mut it, 4, false), feed(&mut it, 5, true)), (None, None, None));
    let recovered = TargetNote::ProbeRecovered { prior_failure_count: 4, down_for: Duration::from_secs(6) };
    assert_eq!(feed(&mut it, 6, true), Some(recovered));
}

#[test]
fn what_is_paused_is_frozen_and_begins_at_zero_afterwards() {
    let mut it = machine(1);
    feed(&mut it, 0, true);
    feed(&mut it, 1, false);
    feed(&mut it, 2, false);
    it.pause();
    assert_eq!(
        (feed(&mut it, 3, false), it.paused(), it.status(Time::from_secs(3))),
        (None, true, Status::Degraded)
    );
    it.resume(Time::from_secs(4));
    assert_eq!((feed(&mut it, 5, false), feed(&mut it, 6, false)), (None, None));
    assert!(feed(&mut it, 7, false).is_some());
    it.pause();
    it.resume(Time::from_secs(8));
    assert!(matches!(
        feed(&mut it, 9, true),
        Some(TargetNote::ProbeRecovered { prior_failure_count: 3, .. })
    ));
}

#[test]
fn what_the_node_doubts_is_held_and_told_when_it_turns_out_true() {
    let mut it = machine(1);
    for at in 0..4 {
        assert_eq!(feed_as(&mut it, at, false, &suspect()), None);
        assert_eq!(it.status(Time::from_secs(at)), Status::Unknown, "what is held is not so yet");
    }
    assert!(matches!(it.settle(Time::from_secs(4), &Observer::Sound), Some(TargetNote::ProbeFailed { .. })));
    assert_eq!(it.settle(Time::from_secs(4), &Observer::Sound), None);
}

#[test]
fn a_blind_node_says_unknown_and_never_failing() {
    let mut it = machine(1);
    feed(&mut it, 0, true);
    feed(&mut it, 1, false);
    let blind = Observer::Blind { reason: "no route".to_owned() };
    it.observer_changed(Time::from_secs(2), true);
    for at in 2..9 {
        assert_eq!(feed_as(&mut it, at, false, &blind), None);
    }
    assert_eq!(it.status(Time::from_secs(9)), Status::Unknown);
    it.observer_changed(Time::from_secs(9), false);
    assert_eq!(it.status(Time::from_secs(9)), Status::Healthy);
}

#[test]
fn it_is_unknown_before_the_first_verdict_and_after_three_silent_periods() {
    let mut it = machine(1);
    assert_eq!((it.status(Time::ZERO), it.since()), (Status::Unknown, None));
    feed(&mut it, 0, true);
    assert_eq!((it.status(Time::from_secs(45)), it.since()), (Status::Healthy, Some(Time::ZERO)));
    assert_eq!(it.status(Time::from_millis(45_001)), Status::Unknown);
    assert_eq!(it.last_outcome_at(), Some(Time::ZERO));
}

#[test]
fn an_error_of_the_prober_and_a_check_from_before_a_pause_change_nothing() {
    let mut it = machine(1);
    feed(&mut it, 0, true);
    let error = Verdict::failure(Reason::ProberError, "no file descriptor left");
    let outcome = TargetOutcome { verdict: error, status: 0, started_at: Time::from_secs(1) };
    for _ in 0..10 {
        assert_eq!(it.outcome(Time::from_secs(1), &outcome, &Observer::Sound), None);
    }
    assert_eq!((it.prober_errors(), it.consecutive_failures(), it.last_failure()), (10, 0, None));
    it.resume(Time::from_secs(5));
    feed(&mut it, 4, false);
    assert_eq!(it.consecutive_failures(), 0);
}

#[test]
fn a_failure_told_in_an_earlier_run_is_not_told_again_but_its_end_is() {
    let mut it = machine(1).with_published_failure(Time::ZERO, 7);
    assert_eq!(feed(&mut it, 10, false), None);
    let recovered = TargetNote::ProbeRecovered { prior_failure_count: 8, down_for: Duration::from_secs(20) };
    assert_eq!(feed(&mut it, 20, true), Some(recovered));
}

fn with(policy: TargetPolicy) -> TargetMachine {
    let timing = ProbeTiming {
        period: Duration::from_secs(15),
        success_threshold: 2,
        ..ProbeTiming::default_for(crate::ProbeKind::Liveness)
    };
    TargetMachine::new(Time::ZERO, timing, policy)
}

/// What each of a row of outcomes (`x`: a failure) tells: `F`, `R` or nothing.
fn told(it: &mut TargetMachine, row: &str) -> String {
    row.chars()
        .enumerate()
        .map(|(at, c)| match feed(it, at as u64, c != 'x') {
            None => '.',
            Some(TargetNote::ProbeFailed { .. }) => 'F',
            Some(TargetNote::ProbeRecovered { .. }) => 'R',
        })
        .collect()
}

#[rstest::rstest]
#[case::as_many_in_a_row_are_enough("ooxxx", "....F")]
#[case::spread_over_the_window("ooxoxox", "......F")]
#[case::one_too_few_within_five("ooxooxooxoox", "............")]
#[case::the_first_slides_out_just_before_the_third("ooxoxooox", ".........")]
#[case::it_recovers_by_successes_in_a_row("ooxxxoxoo", "....F...R")]
#[case::after_a_recovery_the_window_begins_anew("ooxxxooxxooox", "....F.R......")]
#[case::and_fills_again("ooxxxooxxoox", "....F.R....F")]
fn so_many_of_the_last_outcomes_make_it_failing(#[case] row: &str, #[case] expected: &str) {
    let window = Some(FailureWindow { failures: 3, of: 5 });
    let mut it = with(TargetPolicy { window, ..TargetPolicy::default() });
    assert_eq!(told(&mut it, row), expected);
}

#[test]
fn while_a_verdict_is_being_made_it_is_asked_more_often_and_no_longer() {
    let fast = Duration::from_secs(1);
    let mut it = with(TargetPolicy { fast_period: Some(fast), ..TargetPolicy::default() });
    let usual = Duration::from_secs(15);
    let mut periods = vec![it.period()];
    // Two successes make it good; three failures make it bad; two successes make it good again.
    for (at, ok) in [true, true, true, false, false, false, false, true, true].into_iter().enumerate() {
        feed(&mut it, at as u64, ok);
        periods.push(it.period());
    }
    assert_eq!(periods, [fast, fast, usual, usual, fast, fast, usual, usual, fast, usual]);
    feed(&mut it, 20, false);
    it.pause();
    assert_eq!(it.period(), usual, "nothing is decided while it is paused");
}

#[test]
fn without_a_fast_period_it_is_always_the_usual_one() {
    let mut it = machine(1);
    for ok in [true, false, false, false, true] {
        feed(&mut it, 1, ok);
        assert_eq!(it.period(), Duration::from_secs(15));
    }
}

#[test]
fn a_pause_empties_the_window() {
    let window = Some(FailureWindow { failures: 2, of: 10 });
    let mut it = with(TargetPolicy { window, ..TargetPolicy::default() });
    feed(&mut it, 0, false);
    it.pause();
    assert_eq!(feed(&mut it, 1, false), None);
    it.resume(Time::from_secs(2));
    assert_eq!(feed(&mut it, 3, false), None);
    assert!(feed(&mut it, 4, false).is_some());
}

#[test]
fn with_a_window_what_is_told_counts_the_failures_within_it() {
    let window = Some(FailureWindow { failures: 3, of: 5 });
    let mut it = with(TargetPolicy { window, ..TargetPolicy::default() });
    // The first slides out of the window before the others fill it.
    assert_eq!(told(&mut it, "xoooooxox"), ".........");
    assert_eq!(it.consecutive_failures(), 2);
    assert_eq!(feed(&mut it, 9, true), None);
    let Some(TargetNote::ProbeFailed { consecutive_failures, since, .. }) = feed(&mut it, 10, false) else {
        panic!("not told")
    };
    assert_eq!((consecutive_failures, since), (3, Time::from_secs(6)));
    assert_eq!(it.consecutive_failures(), 3);
    assert_eq!(
        (feed(&mut it, 11, true), feed(&mut it, 12, false), feed(&mut it, 13, true)),
        (None, None, None)
    );
    let recovered = TargetNote::ProbeRecovered { prior_failure_count: 4, down_for: Duration::from_secs(8) };
    assert_eq!(feed(&mut it, 14, true), Some(recovered));
}

#[test]
fn what_was_held_is_not_told_while_it_is_paused() {
    let mut it = machine(1);
    for at in 0..4 {
        assert_eq!(feed_as(&mut it, at, false, &suspect()), None);
    }
    it.pause();
    assert_eq!(it.settle(Time::from_secs(4), &Observer::Sound), None);
    assert!(!it.published());
}

#[test]
fn one_whose_checks_take_longer_than_three_periods_is_not_unknown_in_between() {
    let timing = ProbeTiming {
        period: Duration::from_secs(5),
        timeout: Duration::from_secs(30),
        failure_threshold: 1,
        ..ProbeTiming::default_for(crate::ProbeKind::Liveness)
    };
    let mut it = TargetMachine::new(Time::ZERO, timing, TargetPolicy::default());
    assert!(feed(&mut it, 30, false).is_some());
    for at in 31..=60 {
        assert_eq!(it.status(Time::from_secs(at)), Status::Failing, "{at}");
    }
    assert_eq!(it.status(Time::from_secs(121)), Status::Unknown);
}

#[test]
fn before_its_first_check_an_earlier_failure_does_not_become_stale() {
    let timing = ProbeTiming {
        period: Duration::from_secs(15),
        initial_delay: Duration::from_secs(120),
        ..ProbeTiming::default_for(crate::ProbeKind::Liveness)
    };
    let it = TargetMachine::new(Time::ZERO, timing, TargetPolicy::default());
    let it = it.with_published_failure(Time::ZERO, 3);
    assert_eq!(it.status(Time::from_secs(119)), Status::Failing);
    assert_eq!(it.status(Time::from_secs(166)), Status::Unknown);
}

proptest::proptest! {
    /// Whatever comes: failed and recovered are told in turn, failed first, and a window agrees with plain counting.
    #[test]
    fn failed_and_recovered_are_told_in_turn_and_the_window_counts_right(
        outcomes in proptest::collection::vec(proptest::bool::ANY, 0..200),
        of in 1_u32..=64,
        failures in 1_u32..=64,
    ) {
        let failures = failures.min(of);
        let window = Some(FailureWindow { failures, of });
        let mut it = with(TargetPolicy { window, fast_period: Some(Duration::from_secs(1)) });
        let (mut verdict, mut in_a_row, mut recent) = (None, 0, Vec::new());
        let mut down = false;
        for (at, ok) in outcomes.into_iter().enumerate() {
            in_a_row = if ok { in_a_row + 1 } else { 0 };
            let mut expected = None;
            if in_a_row >= 2 && verdict != Some(true) {
                verdict = Some(true);
                recent.clear();
                expected = std::mem::take(&mut down).then_some(false);
            } else {
                recent.push(!ok);
                let failed = recent.iter().rev().take(of as usize).filter(|it| **it).count();
                if verdict != Some(false) && failed >= failures as usize {
                    (verdict, down, expected) = (Some(false), true, Some(true));
                    recent.clear();
                }
            }
            let told = feed(&mut it, at as u64, ok).map(|it| matches!(it, TargetNote::ProbeFailed { .. }));
            proptest::prop_assert_eq!(told, expected);
            proptest::prop_assert_eq!(it.published(), down);
        }
    }
}
