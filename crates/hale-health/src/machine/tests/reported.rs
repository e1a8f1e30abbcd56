//! What runs a replica says how it is: one more liveness source.

use super::*;

fn reported(healthy: bool, incarnation: u64) -> Input {
    Input::Reported { incarnation: Incarnation(incarnation), healthy, detail: "its own check".to_owned() }
}

#[test]
fn a_container_that_says_it_is_unwell_is_restarted_without_any_probe() {
    let mut sim = Sim::of(probed(&[]));
    sim.secs(5.0);
    sim.tell(0, reported(false, 1)).unwrap();
    assert_eq!(sim.phase(0), Phase::Restarting);
    assert_eq!(sim.replica(0).last_error(), Some("liveness: its own check"));
    sim.secs(5.0);
    assert_eq!((sim.phase(0), sim.spawns(0).len()), (Phase::Running, 2));
    // What was said of the earlier run is over.
    assert_eq!(sim.tell(0, reported(false, 1)), Ok(Handled::Dropped));
    assert_eq!(sim.phase(0), Phase::Running);
}

#[test]
fn one_word_is_kept_over_a_pause_and_counts_when_that_ends_unless_it_was_taken_back() {
    for taken_back in [false, true] {
        let mut sim = Sim::of(probed(&[]));
        sim.secs(5.0);
        let scope = PauseScope::Replica;
        sim.tell(0, Input::Pause { scope, pause: pause(None) }).unwrap();
        sim.tell(0, reported(false, 1)).unwrap();
        sim.secs(60.0);
        assert_eq!(sim.spawns(0).len(), 1);
        if taken_back {
            sim.tell(0, reported(true, 1)).unwrap();
        }
        sim.tell(0, Input::Resume { scope, by: "ana".to_owned() }).unwrap();
        sim.secs(5.0);
        assert_eq!(sim.spawns(0).len(), if taken_back { 1 } else { 2 });
        assert_eq!(sim.phase(0), Phase::Running);
    }
}

#[test]
fn a_probe_that_succeeds_does_not_outvote_it_and_neither_the_other_way_round() {
    let mut policy = probed(&[ProbeKind::Liveness]);
    policy.mode = Mode::Observe;
    let mut sim = Sim::of(policy);
    sim.secs(5.0);
    sim.tell(0, reported(false, 1)).unwrap();
    sim.secs(60.0);
    assert_eq!(sim.phase(0), Phase::Unhealthy);
    sim.fail(0, ProbeKind::Liveness);
    sim.secs(60.0);
    sim.tell(0, reported(true, 1)).unwrap();
    assert_eq!(sim.phase(0), Phase::Unhealthy);
    sim.mend(0);
    sim.secs(20.0);
    assert_eq!(sim.phase(0), Phase::Running);
    assert_eq!(sim.spawns(0).len(), 1);
}

#[test]
fn what_is_said_while_it_starts_waits_for_its_start() {
    let mut sim = Sim::new(0, WorkloadPolicy::default(), probed(&[ProbeKind::Startup]));
    sim.be(0).fails.insert(ProbeKind::Startup, Reason::Timeout);
    sim.with(|it, now, out| it.set_replicas(now, 1, out));
    sim.secs(5.0);
    sim.tell(0, reported(false, 1)).unwrap();
    assert_eq!(sim.phase(0), Phase::Starting);
    sim.mend(0);
    sim.secs(10.0);
    assert_eq!(sim.spawns(0).len(), 2);
}

#[test]
fn a_start_that_fails_for_want_of_an_engine_is_tried_again_without_end() {
    for excused in [true, false] {
        let mut sim = Sim::new(0, WorkloadPolicy::default(), probed(&[]));
        sim.be(0).cannot_start = Some(false);
        sim.be(0).excused = excused;
        sim.with(|it, now, out| it.set_replicas(now, 1, out));
        sim.secs(3600.0);
        assert_eq!(sim.phase(0) == Phase::Failed, !excused);
        assert_eq!(sim.replica(0).restarts_in_window(sim.now), 0);
        sim.be(0).cannot_start = None;
        sim.secs(600.0);
        assert_eq!(sim.phase(0) == Phase::Running, excused);
    }
}
