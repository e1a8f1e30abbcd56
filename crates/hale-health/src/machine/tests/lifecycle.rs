//! Starts, exits, restarts, budget, stops.

use super::*;

#[test]
fn without_probes_it_is_running_and_ready_as_soon_as_it_is_spawned() {
    let sim = Sim::of(ReplicaPolicy::default());
    let it = sim.replica(0);
    assert_eq!((it.phase(), it.ready(), it.status(sim.now)), (Phase::Running, true, Status::Healthy));
    assert_eq!((it.incarnation(), it.started_at(), it.restarts()), (Incarnation(1), Some(Time::ZERO), 0));
}

#[test]
fn one_that_ends_at_each_start_waits_longer_each_time_and_is_failed_at_the_budget() {
    let mut sim = Sim::of(ReplicaPolicy::default());
    sim.be(0).exits = Some((s(0.0), Exit::code(1)));
    sim.exit(0, Exit::code(1));
    sim.secs(900.0);
    let spawns = sim.spawns(0);
    let waits: Vec<u64> = spawns.windows(2).map(|pair| pair[1].since(pair[0]).as_secs()).collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
    let it = sim.replica(0);
    assert_eq!((it.phase(), it.restarts(), it.status(sim.now)), (Phase::Failed, 10, Status::Failing));
    assert!(sim.notes().any(|it| matches!(it, Note::Failed { reason, last_reasons, budget_exhausted: true }
        if reason.contains("budget of 10 restarts in 10m") && last_reasons.len() == 5)));
    assert_eq!(sim.it.next_deadline(), None);
}

#[test]
fn a_persons_restart_brings_a_failed_one_back_with_a_clean_slate() {
    let mut sim = Sim::of(ReplicaPolicy::default());
    sim.be(0).exits = Some((s(0.0), Exit::code(1)));
    sim.exit(0, Exit::code(1));
    sim.secs(900.0);
    sim.mend(0);
    let before = sim.spawns(0).len();
    sim.tell(0, Input::Restart { by: ana() }).unwrap();
    assert_eq!((sim.phase(0), sim.replica(0).restarts_in_window(sim.now)), (Phase::Running, 0));
    assert_eq!(sim.spawns(0).len(), before + 1);
    sim.exit(0, Exit::code(1));
    assert_eq!(sim.replica(0).next_start(), Some(sim.now + s(1.0)));
}

#[test]
fn the_run_of_the_last_restart_is_never_ended_for_the_budget() {
    let mut policy = probed(&[ProbeKind::Liveness]);
    policy.restart.max_restarts = 2;
    policy.restart.backoff.initial = Duration::ZERO;
    let mut sim = Sim::of(policy);
    sim.fail(0, ProbeKind::Liveness);
    sim.secs(200.0);
    let it = sim.replica(0);
    assert_eq!((it.phase(), it.restarts(), it.serving(), it.ready()), (Phase::Failed, 2, true, false));
    // What is left of it is ended before a person's restart starts another.
    sim.mend(0);
    sim.tell(0, Input::Start { by: ana() }).unwrap();
    assert_eq!((sim.phase(0), sim.replica(0).incarnation()), (Phase::Running, Incarnation(4)));
    insta::assert_snapshot!(sim.take_log());
}

#[test]
fn a_live_one_that_was_given_up_may_end_or_be_stopped() {
    let mut policy = probed(&[ProbeKind::Liveness]);
    policy.restart.max_restarts = 0;
    let mut sim = Sim::new(2, WorkloadPolicy { min_available: Some(0), ..WorkloadPolicy::default() }, policy);
    sim.fail(0, ProbeKind::Liveness);
    sim.fail(1, ProbeKind::Liveness);
    sim.secs(30.0);
    assert_eq!((sim.phase(0), sim.phase(1)), (Phase::Failed, Phase::Failed));
    sim.exit(0, Exit::signal(11));
    assert_eq!((sim.phase(0), sim.replica(0).serving()), (Phase::Failed, false));
    sim.tell(1, Input::Stop { by: ana() }).unwrap();
    assert_eq!((sim.phase(1), sim.replica(1).serving()), (Phase::Stopped, false));
}

#[test]
fn with_wait_the_budget_holds_a_dead_one_until_the_window_frees_a_slot() {
    let mut policy = ReplicaPolicy::default();
    policy.restart.max_restarts = 2;
    policy.restart.on_exhausted = OnExhausted::Wait;
    policy.restart.backoff.initial = Duration::ZERO;
    let mut sim = Sim::of(policy);
    for _ in 0..3 {
        sim.secs(1.0);
        sim.exit(0, Exit::code(1));
    }
    assert_eq!((sim.phase(0), sim.held(0)), (Phase::Restarting, Some(HoldBy::Budget)));
    sim.secs(597.9);
    assert_eq!(sim.phase(0), Phase::Restarting);
    sim.secs(0.2);
    assert_eq!(sim.phase(0), Phase::Running);
}

#[test]
fn with_wait_the_budget_holds_an_unhealthy_live_one() {
    let mut policy = probed(&[ProbeKind::Liveness]);
    policy.restart.max_restarts = 0;
    policy.restart.on_exhausted = OnExhausted::Wait;
    let mut sim = Sim::of(policy);
    sim.fail(0, ProbeKind::Liveness);
    sim.secs(60.0);
    assert_eq!(
        (sim.phase(0), sim.held(0), sim.replica(0).ready()),
        (Phase::Unhealthy, Some(HoldBy::Budget), true)
    );
    sim.mend(0);
    sim.secs(10.0);
    assert_eq!((sim.phase(0), sim.held(0)), (Phase::Running, None));
}

#[test]
fn a_run_that_proves_itself_is_a_restart_that_succeeded_and_puts_the_backoff_back() {
    let mut sim = Sim::of(ReplicaPolicy::default());
    sim.exit(0, Exit::code(1));
    sim.secs(2.0);
    sim.exit(0, Exit::code(1));
    assert_eq!(sim.replica(0).next_start(), Some(sim.now + s(2.0)));
    assert!(sim.notes().any(|it| matches!(it, Note::RestartFailed { failed_in_a_row: 1, .. })));
    sim.secs(2.0 + 9.99);
    assert!(!sim.notes().any(|it| matches!(it, Note::RestartSucceeded { .. })));
    sim.secs(0.01);
    assert!(sim.notes().any(|it| matches!(it, Note::RestartSucceeded { .. })));
    sim.exit(0, Exit::code(1));
    assert_eq!(sim.replica(0).next_start(), Some(sim.now + s(1.0)));
}

#[test]
fn counting_only_short_runs_lets_a_daily_exit_go_on_for_ever() {
    let mut policy = ReplicaPolicy::default();
    policy.restart.max_restarts = 1;
    policy.restart.counts = BudgetCounts::Short;
    let mut sim = Sim::of(policy);
    for _ in 0..20 {
        sim.secs(12.0);
        sim.exit(0, Exit::code(0));
    }
    sim.secs(1.0);
    assert_eq!((sim.phase(0), sim.replica(0).restarts()), (Phase::Running, 20));
    for _ in 0..2 {
        sim.exit(0, Exit::code(0));
        sim.secs(3.0);
    }
    assert_eq!(sim.phase(0), Phase::Failed);
}

#[rstest::rstest]
#[case::always_clean(RestartMode::Always, 0, Phase::Restarting, false)]
#[case::always_code(RestartMode::Always, 1, Phase::Restarting, false)]
#[case::always_permanent(RestartMode::Always, 125, Phase::Failed, false)]
#[case::on_failure_clean(RestartMode::OnFailure, 0, Phase::Stopped, true)]
#[case::on_failure_code(RestartMode::OnFailure, 1, Phase::Restarting, false)]
#[case::never_clean(RestartMode::Never, 0, Phase::Stopped, true)]
#[case::never_code(RestartMode::Never, 1, Phase::Failed, false)]
fn what_follows_an_exit(
    #[case] mode: RestartMode,
    #[case] code: i32,
    #[case] phase: Phase,
    #[case] completed: bool,
) {
    let mut policy = ReplicaPolicy::default();
    policy.restart.mode = mode;
    let mut sim = Sim::of(policy);
    sim.secs(1.0);
    sim.exit(0, Exit::code(code));
    let it = sim.replica(0);
    assert_eq!((it.phase(), it.completed(), it.ready()), (phase, completed, false));
    assert_eq!(it.last_exit(), Some((Exit::code(code), Time::from_secs(1))));
    if completed {
        assert_eq!(sim.it.health(sim.now).note, Some(OnPurpose::Completed));
        assert_eq!(it.status(sim.now), Status::Healthy);
    }
}

#[rstest::rstest]
#[case::never(RestartMode::Never, Phase::Failed)]
#[case::on_failure(RestartMode::OnFailure, Phase::Running)]
fn a_liveness_trip_is_a_failure_under_every_restart_policy(#[case] mode: RestartMode, #[case] phase: Phase) {
    let mut policy = probed(&[ProbeKind::Liveness]);
    policy.restart.mode = mode;
    let mut sim = Sim::of(policy);
    sim.fail(0, ProbeKind::Liveness);
    sim.secs(30.5);
    sim.mend(0);
    sim.secs(2.0);
    assert_eq!(sim.phase(0), phase);
    assert_eq!(sim.replica(0).serving(), phase == Phase::Running);
}

#[test]
fn one_that_exits_well_while_unhealthy_has_failed_all_the_same() {
    let mut policy = probed(&[ProbeKind::Liveness]);
    policy.restart.mode = RestartMode::Never;
    policy.mode = Mode::Observe;
    let mut sim = Sim::of(policy);
    sim.fail(0, ProbeKind::Liveness);
    sim.secs(30.0);
    sim.exit(0, Exit::code(0));
    assert_eq!(sim.phase(0), Phase::Failed);
}

#[test]
fn a_start_that_fails_costs_an_attempt_and_a_permanent_one_is_given_up_at_once() {
    let mut sim = Sim::of(ReplicaPolicy::default());
    sim.be(0).cannot_start = Some(false);
    sim.exit(0, Exit::code(1));
    sim.secs(4.0);
    assert_eq!(sim.replica(0).restarts_in_window(sim.now), 2);
    assert_eq!(sim.replica(0).last_error(), Some("start failed: web: not found"));
    sim.be(0).cannot_start = Some(true);
    sim.secs(4.0);
    assert_eq!(sim.phase(0), Phase::Failed);
}

#[test]
fn a_start_that_fails_under_never_is_given_up() {
    let mut policy = ReplicaPolicy::default();
    policy.restart.mode = RestartMode::Never;
    let mut sim = Sim::of(policy);
    sim.tell(0, Input::Stop { by: ana() }).unwrap();
    sim.be(0).cannot_start = Some(false);
    sim.tell(0, Input::Start { by: ana() }).unwrap();
    assert_eq!(sim.phase(0), Phase::Failed);
}

#[test]
fn a_stop_drains_then_signals_then_is_stopped() {
    let mut policy = probed(&[ProbeKind::Liveness]);
    policy.stop.drain = s(5.0);
    let mut sim = Sim::of(policy);
    sim.secs(1.0);
    sim.take_log();
    *sim.be(0) = sim::Behaviour { drains_in: s(2.0), stops_in: s(40.0), ..sim::Behaviour::default() };
    sim.tell(0, Input::Stop { by: ana() }).unwrap();
    assert!(sim.replica(0).draining() && !sim.replica(0).ready());
    sim.secs(60.0);
    insta::assert_snapshot!(sim.take_log());
    assert_eq!(sim.it.health(sim.now).note, Some(OnPurpose::Stopped));
}

#[test]
fn requests_that_never_end_are_waited_for_no_longer_than_the_drain_time() {
    let mut policy = ReplicaPolicy::default();
    policy.stop.drain = s(5.0);
    let mut sim = Sim::of(policy);
    sim.be(0).drains_in = s(100.0);
    sim.tell(0, Input::Stop { by: ana() }).unwrap();
    sim.secs(4.9);
    assert_eq!(sim.phase(0), Phase::Stopping);
    sim.secs(0.1);
    assert_eq!(sim.phase(0), Phase::Stopped);
}

#[test]
fn a_stop_asked_for_while_a_restart_waits_wins_at_once() {
    let mut sim = Sim::of(ReplicaPolicy::default());
    sim.exit(0, Exit::code(1));
    assert_eq!((sim.phase(0), sim.held(0)), (Phase::Restarting, Some(HoldBy::Backoff)));
    sim.tell(0, Input::Stop { by: ana() }).unwrap();
    assert_eq!((sim.phase(0), sim.held(0)), (Phase::Stopped, Some(HoldBy::Person)));
    sim.secs(100.0);
    assert_eq!(sim.spawns(0).len(), 1);
}

#[test]
fn a_stop_while_it_is_being_spawned_ends_what_was_spawned() {
    let mut out = Vec::new();
    let mut it = Workload::new(WorkloadPolicy::default(), ReplicaPolicy::default(), 1);
    it.set_replicas(Time::ZERO, 1, &mut out);
    it.handle(Time::ZERO, 0, Input::Stop { by: ana() }, &mut out).unwrap();
    assert!(!out.iter().any(|(_, it)| matches!(it, Decision::Stop { .. })), "there is nothing to signal yet");
    it.handle(Time::ZERO, 0, Input::Spawned { incarnation: Incarnation(1) }, &mut out).unwrap();
    assert!(out.iter().any(|(_, it)| matches!(it, Decision::Stop { .. })));
    it.handle(Time::ZERO, 0, Input::Gone { incarnation: Incarnation(1) }, &mut out).unwrap();
    assert_eq!(it.replica(0).unwrap().phase(), Phase::Stopped);
}

#[test]
fn a_start_while_it_is_being_stopped_follows_the_stop() {
    let mut sim = Sim::of(ReplicaPolicy::default());
    sim.be(0).stops_in = s(3.0);
    sim.tell(0, Input::Stop { by: ana() }).unwrap();
    sim.tell(0, Input::Start { by: ana() }).unwrap();
    assert_eq!(sim.phase(0), Phase::Stopping);
    sim.secs(3.0);
    assert_eq!((sim.phase(0), sim.replica(0).incarnation()), (Phase::Running, Incarnation(2)));
}

#[test]
fn what_a_person_stopped_only_a_person_starts() {
    let mut sim = Sim::of(ReplicaPolicy::default());
    sim.tell(0, Input::Stop { by: ana() }).unwrap();
    for input in [Input::Start { by: By::Declaration }, Input::Restart { by: By::Declaration }] {
        assert_eq!(sim.tell(0, input), Ok(Handled::Dropped));
    }
    sim.tell(0, Input::Stop { by: By::Shutdown }).unwrap();
    assert_eq!(sim.phase(0), Phase::Stopped);
    assert_eq!(sim.tell(0, Input::Start { by: By::Declaration }), Ok(Handled::Applied));
    assert_eq!(sim.phase(0), Phase::Running);
}

#[test]
fn starting_what_runs_is_an_error_that_names_both() {
    let mut sim = Sim::of(ReplicaPolicy::default());
    let error = sim.tell(0, Input::Start { by: ana() }).unwrap_err();
    assert_eq!(error.to_string(), "no transition Spawn from phase running");
}

#[test]
fn a_persons_restart_waits_for_no_backoff_and_costs_nothing() {
    let mut sim = Sim::of(ReplicaPolicy::default());
    sim.secs(1.0);
    sim.tell(0, Input::Restart { by: ana() }).unwrap();
    let it = sim.replica(0);
    assert_eq!((it.phase(), it.restarts(), it.restarts_in_window(sim.now)), (Phase::Running, 1, 0));
    sim.exit(0, Exit::code(1));
    sim.tell(0, Input::Restart { by: ana() }).unwrap();
    assert_eq!((sim.phase(0), sim.spawns(0).len()), (Phase::Running, 3));
    sim.exit(0, Exit::code(1));
    assert_eq!(sim.tell(0, Input::Start { by: By::Declaration }), Ok(Handled::Dropped));
    sim.tell(0, Input::Start { by: ana() }).unwrap();
    assert_eq!(sim.phase(0), Phase::Running);
}

#[test]
fn two_restarts_of_one_replica_never_overlap() {
    let mut sim = Sim::of(ReplicaPolicy::default());
    sim.be(0).stops_in = s(5.0);
    sim.tell(0, Input::Restart { by: ana() }).unwrap();
    sim.secs(1.0);
    sim.tell(0, Input::Restart { by: ana() }).unwrap();
    sim.secs(10.0);
    assert_eq!(sim.spawns(0), [Time::ZERO, Time::from_secs(5)]);
}

#[test]
fn an_old_instance_that_cannot_be_ended_keeps_a_new_one_from_starting() {
    let mut sim = Sim::of(ReplicaPolicy::default());
    sim.be(0).stops_in = s(29.0);
    sim.tell(0, Input::Restart { by: ana() }).unwrap();
    let incarnation = Incarnation(1);
    sim.tell(0, Input::StopFailed { incarnation, detail: "pid 7 in D state".to_owned() }).unwrap();
    sim.tell(0, Input::Exited { incarnation, exit: Exit::signal(9) }).unwrap();
    sim.tell(0, Input::StopFailed { incarnation, detail: "pid 8 is left".to_owned() }).unwrap();
    sim.secs(0.9);
    assert_eq!((sim.phase(0), sim.spawns(0).len()), (Phase::Restarting, 1));
    sim.secs(0.1);
    let stops = sim.all.iter().filter(|it| matches!(it.2, Decision::Stop { .. })).count();
    assert_eq!(
        (stops, sim.phase(0)),
        (2, Phase::Running),
        "asked once more, and only its end lets another start"
    );
    let exits = sim.notes().filter(|it| matches!(it, Note::Exited { .. })).count();
    assert_eq!(exits, 1);
}

#[test]
fn an_exit_that_overtakes_the_word_that_it_was_spawned_is_an_exit() {
    let mut out = Vec::new();
    let mut it = Workload::new(WorkloadPolicy::default(), ReplicaPolicy::default(), 1);
    it.set_replicas(Time::ZERO, 1, &mut out);
    let incarnation = Incarnation(1);
    it.handle(Time::ZERO, 0, Input::Exited { incarnation, exit: Exit::code(3) }, &mut out).unwrap();
    assert_eq!(it.handle(Time::ZERO, 0, Input::Spawned { incarnation }, &mut out), Ok(Handled::Dropped));
    it.handle(Time::ZERO, 0, Input::Gone { incarnation }, &mut out).unwrap();
    let replica = it.replica(0).unwrap();
    assert_eq!((replica.phase(), replica.next_start()), (Phase::Restarting, Some(Time::from_secs(1))));
}

#[test]
fn one_that_is_gone_without_an_exit_seen_has_exited_with_its_status_lost() {
    let mut sim = Sim::of(ReplicaPolicy::default());
    sim.tell(0, Input::Gone { incarnation: Incarnation(1) }).unwrap();
    assert_eq!(sim.replica(0).last_error(), Some("exit status lost after 0ms"));
    assert_eq!(sim.phase(0), Phase::Restarting);
}

#[test]
fn probation_makes_one_attempt_per_interval_outside_the_budget() {
    let mut policy = ReplicaPolicy::default();
    policy.restart.max_restarts = 1;
    policy.restart.retry_after = Some(s(300.0));
    let mut sim = Sim::of(policy);
    sim.be(0).exits = Some((s(1.0), Exit::code(1)));
    sim.exit(0, Exit::code(1));
    sim.secs(10.0);
    assert_eq!((sim.phase(0), sim.spawns(0).len()), (Phase::Failed, 2));
    sim.secs(650.0);
    assert_eq!((sim.phase(0), sim.spawns(0).len()), (Phase::Failed, 4));
    sim.mend(0);
    sim.secs(300.0);
    assert_eq!((sim.phase(0), sim.spawns(0).len()), (Phase::Running, 5));
    // It has proved itself: what follows is an ordinary restart again.
    sim.secs(10.0);
    sim.exit(0, Exit::code(1));
    assert_eq!(sim.phase(0), Phase::Restarting);
}

#[test]
fn probation_ends_a_live_one_that_was_given_up_before_it_starts_another() {
    let mut policy = probed(&[ProbeKind::Liveness]);
    policy.restart.max_restarts = 0;
    policy.restart.retry_after = Some(s(300.0));
    let mut sim = Sim::of(policy);
    sim.fail(0, ProbeKind::Liveness);
    sim.secs(30.0);
    assert!(sim.phase(0) == Phase::Failed && sim.replica(0).serving());
    sim.mend(0);
    sim.secs(300.0);
    assert_eq!((sim.phase(0), sim.replica(0).incarnation()), (Phase::Running, Incarnation(2)));
}

#[test]
fn scaling_starts_and_stops_the_highest_and_forgets_them() {
    let mut sim = Sim::new(2, WorkloadPolicy::default(), ReplicaPolicy::default());
    sim.with(|it, now, out| it.set_replicas(now, 3, out));
    sim.secs(0.0);
    assert_eq!((sim.it.ready(), sim.it.desired()), (3, 3));
    sim.be(2).stops_in = s(2.0);
    sim.with(|it, now, out| it.set_replicas(now, 1, out));
    sim.secs(1.0);
    assert!(sim.it.replica(1).is_none() && sim.it.replica(2).is_some());
    sim.with(|it, now, out| it.set_replicas(now, 3, out));
    sim.secs(5.0);
    assert_eq!(sim.it.ready(), 3);
    assert_eq!(sim.replica(1).incarnation(), Incarnation(2), "numbers go on");
    assert_eq!(sim.it.replicas().count(), 3);
    sim.with(|it, now, out| it.set_replicas(now, 0, out));
    sim.secs(5.0);
    assert_eq!(sim.it.health(sim.now).note, Some(OnPurpose::ScaledToZero));
}

#[test]
fn numbers_of_an_earlier_run_are_continued() {
    let mut it = Workload::new(WorkloadPolicy::default(), ReplicaPolicy::default(), 1);
    it.number_from(0, Incarnation(41));
    it.set_replicas(Time::ZERO, 1, &mut Vec::new());
    assert_eq!(it.replica(0).unwrap().incarnation(), Incarnation(42));
}

#[test]
fn a_rolling_restart_takes_one_at_a_time_and_waits_until_it_is_ready() {
    let mut sim = Sim::new(3, WorkloadPolicy::default(), probed(&[ProbeKind::Readiness]));
    sim.secs(10.0);
    let restart = WorkloadInput::Restart { by: ana(), min_ready: s(5.0), progress_deadline: s(60.0) };
    sim.tell_all(restart.clone());
    for _ in 0..1000 {
        sim.secs(0.1);
        assert!(sim.it.ready() >= 2);
    }
    assert!((0..3).all(|it| sim.replica(it).incarnation() == Incarnation(2)) && !sim.it.is_rolling());
    let starts: Vec<_> = (0..3).map(|it| sim.spawns(it)[1].since(Time::ZERO).as_secs()).collect();
    assert_eq!(starts, [10, 15, 20]);
    sim.fail(1, ProbeKind::Readiness);
    sim.tell_all(restart);
    sim.secs(100.0);
    assert_eq!(
        sim.replica(2).incarnation(),
        Incarnation(2),
        "the round ended at the one that did not come up"
    );
    assert!(sim.notes().any(|it| matches!(it, Note::RollingStalled { reason } if reason.contains("1 more"))));
}

#[test]
fn stopping_and_starting_the_whole_takes_new_ones_with_it() {
    let mut sim = Sim::new(2, WorkloadPolicy::default(), ReplicaPolicy::default());
    sim.tell_all(WorkloadInput::Stop { by: ana() });
    sim.with(|it, now, out| it.set_replicas(now, 3, out));
    sim.secs(1.0);
    assert_eq!((sim.it.ready(), sim.phase(2)), (0, Phase::Stopped));
    sim.tell_all(WorkloadInput::Start { by: ana() });
    assert_eq!(sim.it.ready(), 3);
    sim.tell_all(WorkloadInput::Stop { by: ana() });
    sim.tell_all(WorkloadInput::Restart { by: ana(), min_ready: s(0.0), progress_deadline: s(9.0) });
    assert_eq!(sim.it.ready(), 3);
}

#[test]
fn a_replica_that_is_not_there_drops_what_it_is_told() {
    let mut sim = Sim::of(ReplicaPolicy::default());
    assert_eq!(sim.tell(7, Input::Start { by: ana() }), Ok(Handled::Dropped));
}
