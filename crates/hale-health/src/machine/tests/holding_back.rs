//! Disruption budget, dependency gate, observer, damping, pause.

use super::*;

fn live(replicas: u32, together: WorkloadPolicy) -> Sim {
    let mut sim = Sim::new(replicas, together, probed(&[ProbeKind::Liveness, ProbeKind::Readiness]));
    sim.secs(1.0);
    sim
}

fn fail_all(sim: &mut Sim, kind: ProbeKind) {
    for ordinal in 0..sim.it.desired() {
        sim.fail(ordinal, kind);
    }
}

fn failing() -> WorkloadInput {
    WorkloadInput::Dependency(Dependency::Failing { name: "db".to_owned() })
}

fn suspect(confirmed: bool) -> WorkloadInput {
    WorkloadInput::Observer(Observer::Suspect { confirmed, reason: "no route".to_owned() })
}

#[test]
fn liveness_restarts_never_take_the_ready_ones_below_min_available() {
    let mut sim = live(4, WorkloadPolicy::default());
    fail_all(&mut sim, ProbeKind::Liveness);
    for ordinal in 0..4 {
        sim.be(ordinal).stops_in = s(3.0);
    }
    for _ in 0..600 {
        sim.secs(0.1);
        assert!(sim.it.ready() >= 3, "{}", sim.take_log());
    }
    assert!((0..4).all(|it| sim.spawns(it).len() > 1), "held restarts happen once there is room");
    assert!(
        sim.notes()
            .any(|it| matches!(it, Note::Held { action: "restart", hold } if hold.by == HoldBy::Disruption))
    );
    let done =
        |it: &Note| matches!(it, Note::Released { by: HoldBy::Disruption, outcome, .. } if outcome == "done");
    assert!(sim.notes().any(done));
}

#[test]
fn one_that_is_not_ready_may_be_restarted_but_only_so_many_at_once() {
    let mut sim = live(8, WorkloadPolicy::default());
    fail_all(&mut sim, ProbeKind::Readiness);
    sim.secs(20.0);
    assert_eq!(sim.it.ready(), 0);
    fail_all(&mut sim, ProbeKind::Liveness);
    for ordinal in 0..8 {
        sim.be(ordinal).stops_in = s(5.0);
    }
    let mut most = 0;
    for _ in 0..400 {
        sim.secs(0.1);
        most = most.max(sim.it.replicas().filter(|(_, it)| it.phase() == Phase::Restarting).count());
    }
    assert_eq!(most, 2, "25 % of 8");
}

#[test]
fn a_single_replica_is_restarted_unless_min_available_says_one_and_then_after_the_longest_hold() {
    let mut sim = live(1, WorkloadPolicy::default());
    sim.fail(0, ProbeKind::Liveness);
    sim.secs(31.0);
    assert_eq!(sim.spawns(0).len(), 2);
    let together = WorkloadPolicy { min_available: Some(1), max_hold: s(100.0), ..WorkloadPolicy::default() };
    let mut sim = live(1, together);
    sim.fail(0, ProbeKind::Liveness);
    sim.secs(120.0);
    assert_eq!((sim.spawns(0).len(), sim.held(0)), (1, Some(HoldBy::Disruption)));
    sim.secs(11.0);
    assert_eq!(sim.spawns(0).len(), 2);
}

#[test]
fn an_exit_dissolves_the_hold() {
    let mut sim = live(1, WorkloadPolicy { min_available: Some(1), ..WorkloadPolicy::default() });
    sim.fail(0, ProbeKind::Liveness);
    sim.secs(60.0);
    assert_eq!(sim.held(0), Some(HoldBy::Disruption));
    sim.exit(0, Exit::code(1));
    assert_eq!(sim.held(0), Some(HoldBy::Backoff));
    sim.secs(1.0);
    assert_eq!(sim.spawns(0).len(), 2);
    let gone = |it: &Note| matches!(it, Note::Released { outcome, .. } if outcome == "dissolved: it exited");
    assert!(sim.notes().any(gone));
}

#[test]
fn replicas_on_other_nodes_count_and_without_the_server_only_one_ready_at_a_time_is_spared() {
    let mut sim = live(1, WorkloadPolicy { min_available: Some(2), ..WorkloadPolicy::default() });
    sim.tell_all(WorkloadInput::Elsewhere(Elsewhere::Known { ready: 2, restarting: 1 }));
    sim.fail(0, ProbeKind::Liveness);
    sim.secs(40.0);
    assert_eq!(sim.held(0), Some(HoldBy::Disruption), "one restarts elsewhere already");
    sim.tell_all(WorkloadInput::Elsewhere(Elsewhere::Unreachable));
    assert_eq!(sim.held(0), Some(HoldBy::Disruption), "no other ready one here");
    sim.tell_all(WorkloadInput::Elsewhere(Elsewhere::Known { ready: 2, restarting: 0 }));
    assert_eq!(sim.phase(0), Phase::Restarting);
    let mut sim = live(2, WorkloadPolicy { min_available: Some(9), ..WorkloadPolicy::default() });
    sim.tell_all(WorkloadInput::Elsewhere(Elsewhere::Unreachable));
    sim.fail(0, ProbeKind::Liveness);
    sim.secs(31.0);
    assert_eq!(sim.spawns(0).len(), 2);
}

#[test]
fn a_dependency_that_has_not_come_up_orders_the_first_start() {
    let mut sim = Sim::new(0, WorkloadPolicy::default(), ReplicaPolicy::default());
    sim.tell_all(WorkloadInput::Dependency(Dependency::NotYet { name: "db".to_owned() }));
    sim.with(|it, now, out| it.set_replicas(now, 2, out));
    sim.secs(100.0);
    assert_eq!((sim.phase(0), sim.held(1)), (Phase::Pending, Some(HoldBy::Dependency)));
    sim.tell(1, Input::Start { by: ana() }).unwrap();
    assert_eq!(sim.phase(1), Phase::Running, "a person's start is held by nothing");
    sim.tell_all(failing());
    assert_eq!(sim.phase(0), Phase::Pending);
    sim.tell_all(WorkloadInput::Dependency(Dependency::Unknown));
    assert_eq!((sim.phase(0), sim.held(0)), (Phase::Running, None));
    assert_eq!(*sim.it.dependency(), Dependency::Unknown);
}

#[test]
fn a_database_that_is_down_restarts_nobody_and_afterwards_counters_begin_at_zero() {
    let mut sim = live(
        3,
        WorkloadPolicy {
            min_available: Some(0),
            max_concurrent_restarts: Some(3),
            ..WorkloadPolicy::default()
        },
    );
    fail_all(&mut sim, ProbeKind::Liveness);
    sim.tell_all(failing());
    sim.secs(600.0);
    for ordinal in 0..3 {
        assert_eq!((sim.spawns(ordinal).len(), sim.held(ordinal)), (1, Some(HoldBy::Dependency)));
    }
    sim.tell_all(WorkloadInput::Dependency(Dependency::Ok));
    assert_eq!((sim.held(0), sim.phase(0)), (None, Phase::Unhealthy));
    sim.mend(0);
    let released = sim.now;
    sim.secs(60.0);
    assert_eq!(
        (sim.phase(0), sim.spawns(0).len()),
        (Phase::Running, 1),
        "well again before the third failure"
    );
    let restarts: Vec<Duration> = (1..3).map(|it| sim.spawns(it)[1].since(released)).collect();
    assert!(restarts.iter().all(|it| *it > s(20.0) && *it < s(45.0)), "{restarts:?}");
    assert!(restarts[0] != restarts[1], "spread over a period");
}

#[test]
fn exits_while_a_dependency_fails_go_on_with_backoff_and_cost_no_budget() {
    let mut policy = ReplicaPolicy::default();
    policy.restart.max_restarts = 1;
    let mut sim = Sim::of(policy);
    sim.tell_all(failing());
    sim.be(0).exits = Some((s(0.0), Exit::code(1)));
    sim.exit(0, Exit::code(1));
    sim.secs(100.0);
    assert_eq!((sim.phase(0), sim.spawns(0).len()), (Phase::Restarting, 7));
    assert_eq!(sim.replica(0).restarts_in_window(sim.now), 0);
}

#[test]
fn a_startup_held_by_a_dependency_gets_its_whole_time_afterwards() {
    let mut sim = Sim::new(0, WorkloadPolicy::default(), probed(&[ProbeKind::Startup]));
    sim.fail(0, ProbeKind::Startup);
    sim.with(|it, now, out| it.set_replicas(now, 1, out));
    sim.tell_all(failing());
    sim.secs(100.0);
    assert_eq!((sim.phase(0), sim.held(0)), (Phase::Starting, Some(HoldBy::Dependency)));
    sim.tell_all(WorkloadInput::Dependency(Dependency::Ok));
    sim.secs(28.0);
    assert_eq!(sim.phase(0), Phase::Starting);
    sim.mend(0);
    sim.secs(1.0);
    assert_eq!((sim.phase(0), sim.spawns(0).len()), (Phase::Running, 1));
}

#[test]
fn a_node_that_doubts_its_probes_holds_restarts_and_gating_and_acts_once_it_is_well() {
    let mut sim = live(1, WorkloadPolicy::default());
    sim.tell_all(suspect(false));
    sim.fail(0, ProbeKind::Liveness);
    sim.fail(0, ProbeKind::Readiness);
    sim.secs(31.0);
    assert_eq!(
        (sim.phase(0), sim.replica(0).ready(), sim.held(0)),
        (Phase::Unhealthy, true, Some(HoldBy::Observer))
    );
    assert!(sim.notes().any(|it| matches!(it, Note::Held { action: "gate", .. })));
    sim.tell_all(WorkloadInput::Observer(Observer::Sound));
    assert_eq!((sim.phase(0), sim.replica(0).ready()), (Phase::Restarting, false));
}

#[test]
fn a_node_that_was_unwell_forgets_what_it_saw() {
    let mut sim = live(1, WorkloadPolicy::default());
    fail_all(&mut sim, ProbeKind::Liveness);
    sim.fail(0, ProbeKind::Readiness);
    sim.tell_all(suspect(true));
    sim.secs(31.0);
    sim.mend(0);
    sim.tell_all(WorkloadInput::Observer(Observer::Sound));
    sim.secs(10.0);
    assert_eq!((sim.phase(0), sim.replica(0).ready(), sim.spawns(0).len()), (Phase::Running, true, 1));
}

#[test]
fn a_blind_node_says_unknown_and_neither_restarts_nor_gates() {
    let mut sim = live(2, WorkloadPolicy::default());
    sim.tell_all(WorkloadInput::Observer(Observer::Blind { reason: "no route".to_owned() }));
    fail_all(&mut sim, ProbeKind::Liveness);
    fail_all(&mut sim, ProbeKind::Readiness);
    sim.with(|it, now, out| it.set_replicas(now, 3, out));
    sim.secs(300.0);
    assert_eq!((sim.it.ready(), sim.it.health(sim.now).status), (3, Status::Unknown));
    assert_eq!(sim.spawns(0).len(), 1);
}

#[test]
fn flapping_holds_out_of_traffic_and_never_the_last_one() {
    let mut policy = probed(&[ProbeKind::Readiness]);
    let timing = policy.readiness.as_mut().unwrap();
    (timing.failure_threshold, timing.period) = (1, s(1.0));
    let mut sim = Sim::new(2, WorkloadPolicy::default(), policy);
    sim.secs(0.5);
    for _ in 0..7 {
        sim.fail(0, ProbeKind::Readiness);
        sim.secs(1.0);
        sim.mend(0);
        sim.secs(1.0);
    }
    assert_eq!((sim.replica(0).flapping(), sim.replica(0).ready(), sim.it.ready()), (true, false, 1));
    assert_eq!(sim.replica(0).status(sim.now), Status::Degraded);
    sim.fail(1, ProbeKind::Readiness);
    sim.secs(1.0);
    assert!(sim.replica(0).ready() && sim.replica(0).kept_as_last(), "the last one that might serve");
    sim.mend(1);
    sim.secs(1.0);
    assert_eq!((sim.replica(0).ready(), sim.replica(1).ready()), (false, true));
    sim.secs(300.0);
    assert_eq!((sim.replica(0).flapping(), sim.it.ready()), (false, 2));
    assert!(sim.notes().any(|it| matches!(it, Note::FlappingEnded { .. })));
}

#[test]
fn exits_and_restarts_are_no_flaps() {
    let mut sim = Sim::of(probed(&[ProbeKind::Readiness]));
    for _ in 0..20 {
        sim.secs(1.0);
        sim.tell(0, Input::Restart { by: ana() }).unwrap();
    }
    sim.secs(1.0);
    assert!(sim.replica(0).ready() && !sim.replica(0).flapping());
}

#[test]
fn a_pause_freezes_verdicts_and_starts_and_ends_by_itself() {
    let mut sim = live(1, WorkloadPolicy::default());
    let until = sim.now + s(100.0);
    sim.tell(0, Input::Pause { scope: PauseScope::Replica, pause: pause(Some(until)) }).unwrap();
    fail_all(&mut sim, ProbeKind::Liveness);
    sim.secs(50.0);
    assert_eq!(
        (sim.phase(0), sim.replica(0).ready(), sim.replica(0).status(sim.now)),
        (Phase::Running, true, Status::Degraded)
    );
    sim.exit(0, Exit::code(1));
    sim.secs(10.0);
    assert_eq!(
        (sim.phase(0), sim.held(0), sim.replica(0).ready()),
        (Phase::Restarting, Some(HoldBy::Pause), false)
    );
    sim.secs(40.0);
    assert_eq!((sim.phase(0), sim.replica(0).paused()), (Phase::Running, false));
    assert!(sim.notes().any(|it| matches!(it, Note::Resumed { by, .. } if by == "expired")));
}

#[test]
fn after_a_pause_the_present_state_is_decided_anew() {
    let mut sim = live(1, WorkloadPolicy::default());
    sim.fail(0, ProbeKind::Liveness);
    sim.secs(20.0);
    assert_eq!(sim.replica(0).probe(ProbeKind::Liveness).unwrap().consecutive_failures(), 2);
    let scope = PauseScope::Probe(ProbeKind::Liveness);
    sim.tell(0, Input::Pause { scope, pause: pause(None) }).unwrap();
    sim.tell(0, Input::Pause { scope, pause: pause(None) }).unwrap();
    assert!(sim.replica(0).pause_of(Some(ProbeKind::Readiness)).is_none() && !sim.replica(0).paused());
    sim.secs(100.0);
    sim.tell(0, Input::Resume { scope, by: "ana".to_owned() }).unwrap();
    assert_eq!(sim.tell(0, Input::Resume { scope, by: "ana".to_owned() }), Ok(Handled::Dropped));
    sim.secs(20.0);
    assert_eq!(sim.phase(0), Phase::Running, "two failures since");
    sim.secs(9.5);
    assert_eq!(sim.phase(0), Phase::Restarting);
}

#[test]
fn a_trip_held_by_a_pause_is_taken_back_when_it_ends() {
    let mut sim = live(1, WorkloadPolicy { min_available: Some(1), ..WorkloadPolicy::default() });
    sim.fail(0, ProbeKind::Liveness);
    sim.secs(40.0);
    sim.tell(0, Input::Pause { scope: PauseScope::Replica, pause: pause(None) }).unwrap();
    assert_eq!(sim.held(0), Some(HoldBy::Pause));
    assert!(sim.replica(0).holds().iter().map(|it| it.by).eq([HoldBy::Pause, HoldBy::Disruption]));
    sim.tell(0, Input::Resume { scope: PauseScope::Replica, by: "ana".to_owned() }).unwrap();
    assert_eq!((sim.held(0), sim.phase(0)), (None, Phase::Unhealthy));
    sim.mend(0);
    sim.secs(10.0);
    assert_eq!(sim.phase(0), Phase::Running);
}

#[test]
fn a_paused_workload_pauses_new_replicas_too_until_it_is_resumed_or_expires() {
    let mut sim = live(1, WorkloadPolicy::default());
    sim.tell_all(WorkloadInput::Pause(pause(None)));
    sim.with(|it, now, out| it.set_replicas(now, 2, out));
    assert_eq!((sim.phase(1), sim.held(1)), (Phase::Pending, Some(HoldBy::Pause)));
    sim.tell_all(WorkloadInput::Resume { by: "ana".to_owned() });
    assert_eq!(sim.phase(1), Phase::Running);
    let until = sim.now + s(5.0);
    sim.tell_all(WorkloadInput::Pause(pause(Some(until))));
    sim.secs(6.0);
    sim.with(|it, now, out| it.set_replicas(now, 3, out));
    sim.secs(0.0);
    assert_eq!(sim.phase(2), Phase::Running);
}

#[test]
fn a_person_restarts_what_is_paused() {
    let mut sim = live(1, WorkloadPolicy::default());
    sim.tell(0, Input::Pause { scope: PauseScope::Replica, pause: pause(None) }).unwrap();
    sim.tell(0, Input::Restart { by: ana() }).unwrap();
    assert_eq!((sim.phase(0), sim.spawns(0).len()), (Phase::Running, 2));
}
