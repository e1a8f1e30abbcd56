//! From what the supervisor and the targets say of themselves to what goes over the wire.

use hale_api::proto;
use hale_model::{
    report::EndpointReport,
    status::{ProbeStatus, ReplicaStatus, TargetStatus},
};
use hale_supervisor::runtime::Usage;
use jiff::Timestamp;

/// One replica: its status, and what was told of its endpoint last. The version is given later.
pub(crate) fn replica(
    workload: &str,
    ordinal: u32,
    status: &ReplicaStatus,
    endpoint: Option<&EndpointReport>,
    digest: String,
) -> proto::Replica {
    let endpoint =
        endpoint.filter(|it| it.generation == status.generation && it.incarnation == status.incarnation);
    let serving = status.pid.is_some() || status.container_id.is_some();
    proto::Replica {
        generation: status.generation,
        workload: workload.to_owned(),
        ordinal,
        incarnation: status.incarnation,
        phase: status.phase.as_str().to_owned(),
        ready: status.ready,
        serving: endpoint.map_or(serving, |it| it.serving),
        draining: endpoint.is_some_and(|it| it.draining),
        damped: endpoint.is_some_and(|it| it.damped && !status.ready),
        flapping: status.flapping,
        paused: status.paused,
        status: status.status.as_str().to_owned(),
        runtime: status.runtime.clone(),
        pid: status.pid,
        container_id: status.container_id.clone(),
        address: status.address.clone(),
        ports: status.ports.iter().map(|(name, port)| (name.clone(), u32::from(*port))).collect(),
        restarts: status.restarts,
        restarts_in_window: status.restarts_in_window,
        last_exit: status.last_exit.as_ref().map(|exit| proto::Exit {
            code: exit.code,
            signal: exit.signal,
            oom: exit.oom,
            at: micros(exit.at),
        }),
        last_error: status.last_error.clone(),
        status_text: status.status_text.clone(),
        started_at: status.started_at.map(micros),
        next_start_at: status.next_start_at.map(micros),
        last_transition: status
            .last_transition
            .as_ref()
            .map(|it| proto::Transition { at: micros(it.at), reason: it.reason.clone() }),
        held_by: status.held_by.as_ref().map(|hold| proto::Hold {
            by: hold.by.clone(),
            since: micros(hold.since),
            until: hold.until.map(micros),
            reason: hold.reason.clone(),
        }),
        probes: status.probes.iter().map(|(kind, it)| probe(kind, it)).collect(),
        restarting: status.restarting,
        digest,
        reason: endpoint.map(|it| it.reason.clone()).unwrap_or_default(),
        usage: None,
        version: 0,
        traceparent: endpoint.and_then(|it| it.traceparent.clone()).unwrap_or_default(),
    }
}

fn probe(kind: &str, status: &ProbeStatus) -> proto::Probe {
    proto::Probe {
        kind: kind.to_owned(),
        ok: status.ok,
        consecutive_failures: status.consecutive_failures,
        consecutive_successes: status.consecutive_successes,
        failure_threshold: status.failure_threshold,
        last_outcome_at: status.last_outcome_at.map(micros),
        last_reason: status.last_reason.map(|it| it.as_str().to_owned()),
        last_detail: status.last_detail.clone(),
        last_duration_ms: status.last_duration_ms,
        prober_errors: status.prober_errors,
        paused: status.paused,
    }
}

/// One target.
pub(crate) fn target(status: &TargetStatus) -> proto::Target {
    proto::Target {
        name: status.name.clone(),
        status: status.status.as_str().to_owned(),
        since: status.since.map(micros),
        consecutive_failures: status.consecutive_failures,
        last_reason: status.last_reason.map(|it| it.as_str().to_owned()),
        last_detail: status.last_detail.clone(),
        last_outcome_at: status.last_outcome_at.map(micros),
        paused: status.paused,
        prober_errors: status.prober_errors,
        list: status.origin.list.clone(),
        replica: status.origin.replica.clone(),
        container_id: status.origin.container_id.clone(),
        labels: status.origin.labels.clone(),
        members: status.members,
    }
}

pub(crate) fn usage(usage: &Usage) -> proto::Usage {
    proto::Usage {
        memory_bytes: usage.memory_bytes,
        cpu_seconds: usage.cpu.as_secs_f64(),
        processes: usage.processes,
    }
}

/// Microseconds since 1970.
pub(crate) fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

/// The ordinal at the end of a replica's name.
pub(crate) fn ordinal_of(workload: &str, replica: &str) -> Option<u32> {
    replica.strip_prefix(workload)?.strip_prefix('-')?.parse().ok()
}
