//! The two breakers (R7): one says that alerts are lost, the other stops runs that only fail.

use std::collections::BTreeSet;

use hale_api::runs::{Run, RunState};
use hale_health::{BreakerPolicy, BreakerState as Stand, CircuitBreaker, Permit, Time};
use hale_model::spec::ResponderLimits;

use super::{
    Breaker, BreakerState, Note,
    queues::{Bound, Queues},
};

/// *Capacity*: open from when a queue was too full for an alert until that queue has room. It stops nothing.
#[derive(Debug, Default)]
pub(super) struct Capacity {
    clusters: BTreeSet<String>,
    all: bool,
    told: bool,
}

impl Capacity {
    /// A queue was too full for one of this cluster.
    pub(super) fn reached(&mut self, cluster: &str, bound: Bound) {
        match bound {
            Bound::Cluster => _ = self.clusters.insert(cluster.to_owned()),
            Bound::All => self.all = true,
        }
    }

    /// Looks for room; tells if the breaker has changed.
    pub(super) fn settle(&mut self, queues: &Queues) -> Option<Note> {
        self.clusters.retain(|it| queues.len(it) >= queues.size());
        self.all = self.all && queues.total() >= queues.global_size();
        let open = self.all || !self.clusters.is_empty();
        if open == self.told {
            return None;
        }
        self.told = open;
        let reason = match (open, self.clusters.first()) {
            (false, _) => "the queues have room again".to_owned(),
            (true, Some(cluster)) => {
                format!("{} alerts of {cluster} wait, and no more may", queues.len(cluster))
            }
            (true, None) => format!("{} alerts wait, and no more may", queues.total()),
        };
        Some(Note::Breaker { breaker: Breaker::Capacity, state: self.state(), reason })
    }

    /// How it stands.
    pub(super) const fn state(&self) -> BreakerState {
        if self.told { BreakerState::Open } else { BreakerState::Closed }
    }
}

/// *Failure*: opens after failed runs in a row; then one probe run at a time, until one succeeds.
#[derive(Debug)]
pub(super) struct Failure {
    breaker: CircuitBreaker,
    /// As it was before the probe was let through, should the probe never be answered.
    before: CircuitBreaker,
    probe: Option<String>,
    told: bool,
}

impl Failure {
    /// Closed.
    pub(super) const fn new(limits: &ResponderLimits) -> Self {
        let policy =
            BreakerPolicy { failures: limits.failure_breaker, open_for: limits.failure_breaker_reset };
        let breaker = CircuitBreaker::new(policy);
        Self { breaker, before: breaker, probe: None, told: false }
    }

    /// How it stands.
    pub(super) fn state(&self, now: Time) -> BreakerState {
        match self.breaker.state(now) {
            Stand::Closed => BreakerState::Closed,
            Stand::Open { .. } => BreakerState::Open,
            Stand::HalfOpen => BreakerState::HalfOpen,
        }
    }

    /// When it will let a probe through, if that is to come.
    pub(super) fn opens_at(&self, now: Time) -> Option<Time> {
        match self.breaker.state(now) {
            Stand::Open { until } => Some(until),
            Stand::Closed | Stand::HalfOpen => None,
        }
    }

    /// Whether a run may be started.
    pub(super) fn admits(&self, now: Time) -> bool {
        match self.breaker.state(now) {
            Stand::Closed => true,
            Stand::Open { .. } => false,
            Stand::HalfOpen => self.probe.is_none(),
        }
    }

    /// A run is started. It was admitted.
    pub(super) fn started(&mut self, run: &str, now: Time) -> Option<Note> {
        let before = self.breaker;
        if self.breaker.permit(now) != Permit::Probe {
            return None;
        }
        self.before = before;
        self.probe = Some(run.to_owned());
        Some(note(BreakerState::HalfOpen, format!("run {run} is let through to try")))
    }

    /// A run of a rule's own program came to its end.
    pub(super) fn ended(&mut self, run: &Run, now: Time) -> Option<Note> {
        match run.state {
            RunState::Succeeded => self.succeeded(run),
            RunState::Failed | RunState::TimedOut | RunState::Ineffective => self.failed(run, now),
            _ => {
                if self.is_probe(run) {
                    self.breaker = self.before;
                    self.probe = None;
                }
                None
            }
        }
    }

    fn is_probe(&self, run: &Run) -> bool {
        self.probe.as_deref() == Some(run.id.as_str())
    }

    fn succeeded(&mut self, run: &Run) -> Option<Note> {
        self.breaker.success();
        self.probe = None;
        std::mem::take(&mut self.told)
            .then(|| note(BreakerState::Closed, format!("run {} succeeded", run.id)))
    }

    fn failed(&mut self, run: &Run, now: Time) -> Option<Note> {
        if self.probe.is_some() && !self.is_probe(run) {
            // It began before the breaker opened; the probe decides.
            return None;
        }
        self.probe = None;
        self.breaker.failure(now);
        if self.told || self.state(now) == BreakerState::Closed {
            return None;
        }
        self.told = true;
        let why = run.reason.as_deref().unwrap_or(run.state.as_str());
        let count = self.breaker.failures();
        Some(note(
            BreakerState::Open,
            format!("{count} runs in a row were no success, the last {}: {why}", run.id),
        ))
    }
}

const fn note(state: BreakerState, reason: String) -> Note {
    Note::Breaker { breaker: Breaker::Failure, state, reason }
}
