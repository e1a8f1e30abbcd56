//! How everything is, in the form of `hale status -o json` (C8).

use hale_health::{OnPurpose, ProbeKind, Time};
use hale_model::status::{ExitStatus, ProbeStatus, ReplicaStatus, TransitionStatus, WorkloadStatus};

use super::{core::World, notes::hold_status, unit::Unit};

/// One workload, with all of its replicas or only one.
pub(super) fn workload(unit: &Unit, world: &World, now: Time, only: Option<u32>) -> WorkloadStatus {
    let health = unit.machine.health(now);
    let replicas = unit.machine.replicas().filter(|(ordinal, _)| only.is_none_or(|only| only == *ordinal));
    WorkloadStatus {
        name: unit.spec.name.clone(),
        status: health.status,
        note: health.note.map(|it: OnPurpose| it.as_str().to_owned()),
        desired: health.desired,
        ready: health.ready,
        address: unit.spec.service.as_ref().and_then(|it| it.listen).map(|it| format!("http://{it}")),
        replicas: replicas.map(|(ordinal, it)| replica(unit, world, now, ordinal, it)).collect(),
    }
}

fn replica(unit: &Unit, world: &World, now: Time, ordinal: u32, it: &hale_health::Replica) -> ReplicaStatus {
    let clock = &*world.clock;
    let slot = unit.slots.get(&ordinal);
    let run = slot.and_then(|slot| slot.run.as_ref());
    let started = run.and_then(|run| run.started.as_ref()).filter(|_| it.serving());
    let probes = ProbeKind::ALL.into_iter().filter_map(|kind| {
        let status = probe(world, it, kind)?;
        Some((kind.as_str().to_owned(), status))
    });
    ReplicaStatus {
        name: unit.spec.replica_name(ordinal),
        status: it.status(now),
        node: world.node.clone(),
        phase: it.phase(),
        ready: it.ready(),
        flapping: it.flapping(),
        paused: it.paused(),
        restarting: it.in_probe_restart(),
        held_by: it.held_by().map(|hold| hold_status(hold, clock)),
        pid: started.and_then(|it| it.pid),
        address: started.map(|it| it.address.to_string()),
        ports: run.map(|run| run.ports.clone()).unwrap_or_default(),
        container_id: started.and_then(|it| it.container_id.clone()),
        runtime: world.runtime.name_for(unit.spec_of(ordinal)).to_owned(),
        restarts: it.restarts(),
        restarts_in_window: it.restarts_in_window(now),
        last_exit: it.last_exit().map(|(exit, at)| ExitStatus::new(exit, clock.wall_at(at))),
        last_error: it.last_error().map(str::to_owned),
        status_text: run.and_then(|run| run.status_text.clone()),
        observed_at: clock.wall(),
        stale: it.stale(now),
        started_at: it.started_at().map(|at| clock.wall_at(at)),
        uptime_seconds: it.started_at().map(|at| now.since(at).as_secs_f64()),
        next_start_at: it.next_start().map(|at| clock.wall_at(at)),
        generation: slot.map_or(unit.generation, |slot| slot.generation).0,
        incarnation: it.incarnation().0,
        probes: probes.collect(),
        last_transition: it
            .last_transition()
            .map(|(at, reason)| TransitionStatus { at: clock.wall_at(at), reason: reason.to_owned() }),
        possibly_running_on: Vec::new(),
    }
}

fn probe(world: &World, replica: &hale_health::Replica, kind: ProbeKind) -> Option<ProbeStatus> {
    let state = replica.probe(kind)?;
    let failure = state.last_failure();
    Some(ProbeStatus {
        ok: state.verdict(),
        consecutive_failures: state.consecutive_failures(),
        consecutive_successes: state.consecutive_successes(),
        failure_threshold: state.failure_threshold(),
        last_outcome_at: state.last_outcome_at().map(|at| world.clock.wall_at(at)),
        last_reason: failure.map(|(reason, _)| reason),
        last_detail: failure.map(|(_, detail)| detail.to_owned()),
        last_duration_ms: state.last_took().map(|took| took.as_secs_f64() * 1000.0),
        prober_errors: state.prober_errors(),
        paused: replica.pause_of(Some(kind)).is_some(),
    })
}
