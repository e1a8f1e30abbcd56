//! What a policy means before anything runs: how long until a fault is seen, gated, mended (H27).

use std::time::Duration;

use crate::{Backoff, Mode, ProbeKind, ProbeTiming, ReplicaPolicy, RestartMode, machine::EXAMINE};

/// The best and the worst case of a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Span {
    /// The shortest.
    pub best: Duration,
    /// The longest.
    pub worst: Duration,
}

/// What one probe does, in time. All times are from the moment of the fault; for startup from the spawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ProbePlan {
    /// Which probe.
    pub kind: ProbeKind,
    /// Until the verdict is bad.
    pub detect: Span,
    /// Until it gets no new traffic; `None`: this probe does not take it out.
    pub gate: Option<Span>,
    /// Until the first restart has been spawned; `None`: this probe does not restart.
    pub restart: Option<Span>,
    /// From the end of the fault until the verdict is good again.
    pub recover: Span,
}

/// The times of every probe of a policy.
///
/// The best case is a fault just before a check, answered at once; the worst one just after a check, with every check
/// hanging up to its timeout (a check that has not returned is not started again, H10) and, for a restart, with drain,
/// forensics, grace and the longest backoff used up.
#[must_use]
pub fn plan(policy: &ReplicaPolicy) -> Vec<ProbePlan> {
    let kinds = ProbeKind::ALL.into_iter();
    kinds.filter_map(|kind| policy.probe(kind).map(|timing| plan_probe(policy, kind, timing))).collect()
}

fn plan_probe(policy: &ReplicaPolicy, kind: ProbeKind, timing: &ProbeTiming) -> ProbePlan {
    let step = timing.period.max(timing.timeout);
    let more = |n: u32| n.saturating_sub(1);
    let mut detect = Span {
        best: timing.period.saturating_mul(more(timing.failure_threshold)),
        worst: timing.period + step.saturating_mul(more(timing.failure_threshold)) + timing.timeout,
    };
    if kind == ProbeKind::Startup {
        detect = Span {
            best: timing.initial_delay + detect.best,
            worst: timing.initial_delay + timing.startup_deadline(),
        };
    }
    let acts = policy.mode == Mode::Act;
    let restarts = acts && kind != ProbeKind::Readiness && policy.restart.mode != RestartMode::Never;
    ProbePlan {
        kind,
        detect,
        gate: (acts && kind != ProbeKind::Startup).then_some(detect),
        restart: restarts.then(|| restart(policy, timing, detect)),
        recover: Span {
            best: timing.period.saturating_mul(more(timing.success_threshold)),
            worst: step + timing.period.saturating_mul(more(timing.success_threshold)) + timing.timeout,
        },
    }
}

fn restart(policy: &ReplicaPolicy, timing: &ProbeTiming, detect: Span) -> Span {
    let backoff = &policy.restart.backoff;
    let grace = timing.grace.unwrap_or(policy.stop.grace);
    // A budget of zero leaves no restart; the longest wait is still the right upper bound where there is one.
    Span {
        best: detect.best + Backoff::new().peek(backoff, 0.0),
        worst: detect.worst + policy.stop.drain.max(EXAMINE) + grace + backoff.max.max(backoff.initial),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(best: u64, worst: u64) -> Span {
        Span { best: Duration::from_secs(best), worst: Duration::from_secs(worst) }
    }

    fn with(kind: ProbeKind) -> ReplicaPolicy {
        let timing = Some(ProbeTiming::default_for(kind));
        match kind {
            ProbeKind::Startup => ReplicaPolicy { startup: timing, ..ReplicaPolicy::default() },
            ProbeKind::Liveness => ReplicaPolicy { liveness: timing, ..ReplicaPolicy::default() },
            ProbeKind::Readiness => ReplicaPolicy { readiness: timing, ..ReplicaPolicy::default() },
        }
    }

    #[test]
    fn the_default_liveness_sees_a_fault_within_20_to_33_seconds() {
        let it = plan(&with(ProbeKind::Liveness))[0];
        assert_eq!(it.detect, secs(20, 33));
        assert_eq!(it.gate, Some(secs(20, 33)));
        assert_eq!(it.restart, Some(secs(21, 33 + 2 + 30 + 60)));
        assert_eq!(it.recover, secs(0, 13));
    }

    #[test]
    fn readiness_gates_and_never_restarts() {
        let it = plan(&with(ProbeKind::Readiness))[0];
        assert_eq!((it.gate, it.restart), (Some(secs(10, 17)), None));
    }

    #[test]
    fn startup_has_its_deadline_however_long_each_check_hangs() {
        let it = plan(&with(ProbeKind::Startup))[0];
        assert_eq!((it.detect, it.gate), (secs(29, 30), None));
    }

    #[test]
    fn checks_that_hang_for_longer_than_a_period_stretch_the_worst_case() {
        let mut policy = with(ProbeKind::Liveness);
        let timing = policy.liveness.as_mut().unwrap();
        (timing.period, timing.timeout) = (Duration::from_secs(1), Duration::from_secs(5));
        assert_eq!(plan(&policy)[0].detect, secs(2, 1 + 2 * 5 + 5));
    }

    #[test]
    fn what_is_only_observed_does_nothing_and_never_restarts_nothing() {
        let mut policy = with(ProbeKind::Liveness);
        policy.mode = Mode::Observe;
        assert_eq!((plan(&policy)[0].gate, plan(&policy)[0].restart), (None, None));
        policy.mode = Mode::Act;
        policy.restart.mode = RestartMode::Never;
        assert_eq!(plan(&policy)[0].restart, None);
        assert!(plan(&ReplicaPolicy::default()).is_empty());
    }
}
