mod holding_back;
mod lifecycle;
mod probes;
mod properties;
mod reported;
mod script;
mod sim;

use std::time::Duration;

use crate::*;

pub(crate) use sim::Sim;

pub(crate) fn s(secs: f64) -> Duration {
    Duration::from_secs_f64(secs)
}

/// A policy with these probes at their defaults.
pub(crate) fn probed(kinds: &[ProbeKind]) -> ReplicaPolicy {
    let timing = |kind| kinds.contains(&kind).then(|| ProbeTiming::default_for(kind));
    ReplicaPolicy {
        startup: timing(ProbeKind::Startup),
        liveness: timing(ProbeKind::Liveness),
        readiness: timing(ProbeKind::Readiness),
        ..ReplicaPolicy::default()
    }
}

pub(crate) fn ana() -> By {
    By::Person("ana".to_owned())
}

pub(crate) fn pause(until: Option<Time>) -> Pause {
    Pause { by: "ana".to_owned(), reason: "deploy".to_owned(), until }
}
