//! Startup, liveness, readiness.

use super::*;

const ALL: [ProbeKind; 3] = ProbeKind::ALL;

#[test]
fn startup_holds_the_others_back_and_its_success_lets_readiness_run_at_once() {
    let mut sim = Sim::of(probed(&ALL));
    insta::assert_snapshot!(sim.take_log());
    assert_eq!((sim.phase(0), sim.replica(0).ready()), (Phase::Running, true));
}

#[test]
fn a_startup_that_never_succeeds_is_restarted_at_its_deadline_however_long_each_check_hangs() {
    let mut sim = Sim::new(0, WorkloadPolicy::default(), probed(&ALL));
    sim.be(0).hangs = true;
    sim.with(|it, now, out| it.set_replicas(now, 1, out));
    sim.secs(29.9);
    assert_eq!((sim.phase(0), sim.spawns(0).len()), (Phase::Starting, 1));
    sim.secs(0.1);
    assert_eq!(sim.phase(0), Phase::Restarting);
    assert_eq!(sim.replica(0).last_error(), Some("startup: timeout 6/30, its time to start is over"));
    sim.secs(1.0);
    assert_eq!(sim.spawns(0), [Time::ZERO, Time::from_secs(31)]);
}

#[test]
fn more_time_to_start_can_be_asked_for() {
    let mut sim = Sim::new(0, WorkloadPolicy::default(), probed(&ALL));
    sim.be(0).hangs = true;
    sim.with(|it, now, out| it.set_replicas(now, 1, out));
    sim.secs(10.0);
    sim.tell(0, Input::ExtendStartup { incarnation: Incarnation(1), by: s(60.0) }).unwrap();
    sim.secs(59.0);
    assert_eq!(sim.phase(0), Phase::Starting);
    sim.secs(1.0);
    assert_eq!(sim.phase(0), Phase::Restarting);
    let late = Input::ExtendStartup { incarnation: Incarnation(1), by: s(60.0) };
    assert_eq!(sim.tell(0, late), Ok(Handled::Dropped));
}

#[test]
fn liveness_restarts_at_the_third_failure_and_the_backoff_counts_from_the_end_of_the_old_one() {
    let mut policy = probed(&[ProbeKind::Liveness]);
    policy.liveness.as_mut().unwrap().grace = Some(s(4.0));
    let mut sim = Sim::of(policy);
    sim.secs(5.0);
    sim.take_log();
    sim.fail(0, ProbeKind::Liveness);
    sim.be(0).stops_in = s(60.0);
    sim.secs(40.0);
    insta::assert_snapshot!(sim.take_log());
    assert_eq!(sim.spawns(0), [Time::ZERO, Time::from_secs(35)]);
}

#[test]
fn an_unhealthy_one_stays_in_traffic_until_its_stop_begins() {
    let mut policy = probed(&[ProbeKind::Liveness]);
    policy.mode = Mode::Observe;
    let mut sim = Sim::of(policy);
    sim.fail(0, ProbeKind::Liveness);
    sim.secs(100.0);
    assert_eq!(
        (sim.phase(0), sim.replica(0).ready(), sim.held(0)),
        (Phase::Unhealthy, true, Some(HoldBy::Observe))
    );
    let would = sim.notes().filter(|it| matches!(it, Note::WouldHave { action: "restart", .. })).count();
    assert_eq!(would, 1);
    sim.mend(0);
    sim.secs(10.0);
    assert_eq!((sim.phase(0), sim.held(0)), (Phase::Running, None));
    assert!(
        sim.notes().any(
            |it| matches!(it, Note::Recovered { probe: ProbeKind::Liveness, down, .. } if *down > s(80.0))
        )
    );
}

#[test]
fn readiness_gates_through_both_thresholds_and_never_restarts() {
    let mut policy = probed(&[ProbeKind::Readiness]);
    policy.readiness.as_mut().unwrap().success_threshold = 2;
    let mut sim = Sim::of(policy);
    assert!(!sim.replica(0).ready(), "not before the second success");
    sim.secs(5.0);
    assert!(sim.replica(0).ready());
    sim.fail(0, ProbeKind::Readiness);
    sim.secs(10.0);
    assert!(sim.replica(0).ready());
    sim.secs(5.0);
    assert_eq!((sim.replica(0).ready(), sim.phase(0)), (false, Phase::Running));
    assert_eq!(sim.replica(0).last_transition(), Some((Time::from_secs(20), "readiness: timeout 3/3")));
    sim.secs(1000.0);
    assert_eq!((sim.spawns(0).len(), sim.replica(0).status(sim.now)), (1, Status::Degraded));
    sim.mend(0);
    sim.secs(10.0);
    assert!(sim.replica(0).ready());
    let Some(Decision::Ready(change)) =
        sim.all.iter().rev().map(|it| &it.2).find(|it| matches!(it, Decision::Ready(_)))
    else {
        panic!("no change")
    };
    assert_eq!((change.not_ready_for, change.failure_threshold), (Some(s(1010.0)), 3));
}

#[test]
fn observe_suppresses_gating_and_tells_once_what_it_would_have_done() {
    let mut policy = probed(&ALL);
    policy.mode = Mode::Observe;
    let mut sim = Sim::new(0, WorkloadPolicy::default(), policy);
    sim.fail(0, ProbeKind::Startup);
    sim.with(|it, now, out| it.set_replicas(now, 1, out));
    sim.secs(100.0);
    assert_eq!(
        (sim.phase(0), sim.replica(0).ready(), sim.held(0)),
        (Phase::Starting, true, Some(HoldBy::Observe))
    );
    sim.mend(0);
    sim.fail(0, ProbeKind::Readiness);
    sim.secs(100.0);
    assert_eq!((sim.phase(0), sim.replica(0).ready(), sim.held(0)), (Phase::Running, true, None));
    let would: Vec<_> = sim
        .notes()
        .filter_map(|it| {
            if let Note::WouldHave { action, reason } = it { Some((*action, reason.as_str())) } else { None }
        })
        .collect();
    assert_eq!(would, [("restart", "startup: timeout 30/30"), ("gate", "readiness: timeout 3/3")]);
    sim.exit(0, Exit::code(1));
    assert!(!sim.replica(0).ready());
    sim.secs(1.0);
    assert_eq!(sim.spawns(0).len(), 2, "restarts after exits go on");
}

#[test]
fn an_exit_makes_it_not_ready_at_once_and_clears_every_counter() {
    let mut sim = Sim::of(probed(&ALL));
    sim.fail(0, ProbeKind::Liveness);
    sim.secs(15.0);
    assert_eq!(sim.replica(0).probe(ProbeKind::Liveness).unwrap().consecutive_failures(), 1);
    sim.exit(0, Exit::signal(9));
    assert!(!sim.replica(0).ready() && !sim.replica(0).serving());
    sim.mend(0);
    sim.secs(1.0);
    let probe = sim.replica(0).probe(ProbeKind::Liveness).unwrap();
    assert_eq!((probe.consecutive_failures(), probe.consecutive_successes()), (0, 1));
}

#[test]
fn an_outcome_of_an_earlier_start_changes_nothing() {
    let mut sim = Sim::of(probed(&ALL));
    sim.exit(0, Exit::code(1));
    sim.secs(1.0);
    let before = sim.replica(0).clone();
    for probe in ALL {
        let verdict = Verdict::failure(Reason::Timeout, "");
        let outcome = Outcome {
            incarnation: Incarnation(1),
            probe,
            verdict,
            started_at: Time::ZERO,
            took: Duration::ZERO,
        };
        assert_eq!(sim.tell(0, Input::Outcome(outcome)), Ok(Handled::Dropped));
    }
    assert_eq!(*sim.replica(0), before);
}

#[test]
fn an_error_of_the_prober_changes_no_verdict_is_told_once_and_makes_health_unknown_in_the_end() {
    let mut sim = Sim::of(probed(&[ProbeKind::Liveness, ProbeKind::Readiness]));
    sim.secs(1.0);
    sim.be(0).fails =
        [(ProbeKind::Liveness, Reason::ProberError), (ProbeKind::Readiness, Reason::ProberError)].into();
    sim.secs(14.0);
    assert_eq!((sim.replica(0).status(sim.now), sim.replica(0).ready()), (Status::Healthy, true));
    sim.secs(1.0);
    assert_eq!(
        (sim.replica(0).status(sim.now), sim.it.health(sim.now).status),
        (Status::Unknown, Status::Unknown)
    );
    sim.secs(500.0);
    assert_eq!((sim.spawns(0).len(), sim.replica(0).ready()), (1, true));
    let probe = sim.replica(0).probe(ProbeKind::Liveness).unwrap();
    assert!(
        probe.prober_errors() > 10 && probe.last_prober_error().is_some() && probe.verdict() == Some(true)
    );
    let told = sim.notes().filter(|it| matches!(it, Note::ProberError { .. })).count();
    assert_eq!(told, 2);
    sim.mend(0);
    sim.secs(10.0);
    assert_eq!(
        (sim.replica(0).status(sim.now), sim.replica(0).probe(ProbeKind::Liveness).unwrap().prober_errors()),
        (Status::Healthy, 0)
    );
}

#[test]
fn a_startup_that_could_not_be_checked_is_not_tripped_by_its_deadline_alone() {
    let mut sim = Sim::new(0, WorkloadPolicy::default(), probed(&[ProbeKind::Startup]));
    sim.be(0).fails = [(ProbeKind::Startup, Reason::ProberError)].into();
    sim.with(|it, now, out| it.set_replicas(now, 1, out));
    sim.secs(100.0);
    assert_eq!((sim.phase(0), sim.spawns(0).len()), (Phase::Starting, 1));
    sim.fail(0, ProbeKind::Startup);
    sim.secs(1.0);
    assert_eq!(sim.phase(0), Phase::Restarting, "the first real failure after the deadline trips");
}

#[test]
fn a_process_that_says_it_is_leaving_is_not_ready_at_once() {
    let mut sim = Sim::of(probed(&[ProbeKind::Readiness]));
    assert!(sim.replica(0).ready());
    sim.tell(0, Input::Leaving { incarnation: Incarnation(1) }).unwrap();
    sim.secs(20.0);
    assert!(!sim.replica(0).ready());
    sim.exit(0, Exit::code(0));
    assert_eq!(sim.tell(0, Input::Leaving { incarnation: Incarnation(1) }), Ok(Handled::Dropped));
    sim.secs(1.0);
    assert!(sim.replica(0).ready());
}

#[test]
fn initial_delays_count_from_the_spawn() {
    let mut policy = probed(&ALL);
    for timing in [&mut policy.startup, &mut policy.liveness, &mut policy.readiness] {
        timing.as_mut().unwrap().initial_delay = s(3.0);
    }
    let mut sim = Sim::of(policy);
    sim.secs(2.9);
    assert_eq!(sim.phase(0), Phase::Starting);
    sim.secs(0.1);
    assert_eq!(
        (sim.phase(0), sim.replica(0).ready()),
        (Phase::Running, true),
        "the others' delay is over with it"
    );
}

#[test]
fn a_changed_timing_begins_that_probe_anew_and_touches_nothing_else() {
    let mut sim = Sim::of(probed(&[ProbeKind::Liveness, ProbeKind::Readiness]));
    sim.secs(1.0);
    sim.take_log();
    let mut policy = probed(&[ProbeKind::Startup, ProbeKind::Readiness]);
    policy.readiness.as_mut().unwrap().failure_threshold = 1;
    policy.restart.max_restarts = 3;
    sim.with(|it, now, out| it.set_policy(now, WorkloadPolicy::default(), policy, out));
    insta::assert_snapshot!(sim.take_log());
    assert!(sim.replica(0).ready() && sim.replica(0).probe(ProbeKind::Liveness).is_none());
    assert_eq!(sim.replica(0).policy().restart.max_restarts, 3);
}

#[test]
fn a_startup_probe_that_is_taken_away_leaves_it_started() {
    let mut sim = Sim::new(0, WorkloadPolicy::default(), probed(&[ProbeKind::Startup]));
    sim.fail(0, ProbeKind::Startup);
    sim.with(|it, now, out| it.set_replicas(now, 1, out));
    sim.secs(3.0);
    sim.with(|it, now, out| it.set_policy(now, WorkloadPolicy::default(), ReplicaPolicy::default(), out));
    assert_eq!((sim.phase(0), sim.replica(0).ready()), (Phase::Running, true));
}
