//! Saying what happens: figures (R16), log lines (R17), events.

use std::{collections::HashMap, sync::Arc};

use hale_api::runs::{Run, RunState};

use super::Tell;
use crate::{
    desk::{BreakerState, Note},
    metrics::Metrics,
    source::Link,
};

/// Tells it all.
pub(super) struct Notes {
    responder: String,
    metrics: Metrics,
    tell: Arc<dyn Tell>,
}

impl Notes {
    pub(super) fn new(responder: String, metrics: Metrics, tell: Arc<dyn Tell>) -> Self {
        Self { responder, metrics, tell }
    }

    pub(super) fn note(&mut self, note: &Note) {
        match note {
            Note::Received { cluster, severity } => self.metrics.received(cluster, *severity),
            Note::Filtered { cluster, reason, detail } => {
                self.metrics.filtered(cluster, *reason);
                tracing::debug!(cluster, reason = reason.as_str(), detail, "an alert led to no run");
            }
            Note::Queued { cluster } => self.metrics.queued(cluster),
            Note::Dequeued { cluster } => self.metrics.dequeued(cluster),
            Note::Expired { run, age, max_age } => {
                self.metrics.expired(&run.cluster);
                tracing::warn!(
                    cluster = run.cluster, alert = run.alert, run = run.id, fault = run.fault_type,
                    resource = run.resource.name, age = age.as_secs_f64(), max_age = max_age.as_secs_f64(),
                    "an alert has waited for too long and is expired"
                );
            }
            Note::Overflowed { cluster, alert, refused } => {
                self.metrics.dropped(cluster);
                let what = if *refused { "the new alert is refused" } else { "the oldest alert gives way" };
                tracing::warn!(cluster, alert, "the queue is full: {what}");
            }
            Note::Spawned { cluster } => self.metrics.spawned(cluster),
            Note::Completed { run } => self.completed(run),
            Note::Breaker { breaker, state, reason } => {
                self.metrics.breaker(*breaker, *state);
                let breaker = breaker.as_str();
                match state {
                    BreakerState::Open => tracing::warn!(breaker, reason, "a circuit breaker has opened"),
                    BreakerState::HalfOpen => tracing::info!(breaker, reason, "a circuit breaker lets one through"),
                    BreakerState::Closed => tracing::info!(breaker, reason, "a circuit breaker has closed"),
                }
            }
            Note::AwaitsApproval { run } => tracing::info!(
                cluster = run.cluster, run = run.id, rule = run.rule,
                "a run waits for a person: hale runs approve {}", run.id
            ),
            Note::BudgetExhausted { cluster, reason } => {
                tracing::warn!(cluster, reason, "the budget of a cluster is spent: its alerts wait");
            }
        }
    }

    fn completed(&self, run: &Run) {
        self.metrics.completed(run);
        let took = duration(run);
        let reason = run.reason.as_deref().unwrap_or_default();
        let (cluster, alert, id) = (&run.cluster, &run.alert, &run.id);
        match run.state {
            RunState::TimedOut => tracing::warn!(
                cluster, alert, run = id, duration = took, threshold = reason, "a run took too long and was ended"
            ),
            RunState::Succeeded => tracing::info!(cluster, alert, run = id, duration = took, "a run has succeeded"),
            other => tracing::warn!(
                cluster, alert, run = id, duration = took, reason, "a run ended {}", other.as_str()
            ),
        }
    }

    /// How the connection of a source changed.
    pub(super) fn link(&self, cluster: &str, link: &Link) {
        match link {
            Link::Up { downtime: None } => tracing::info!(cluster, "a source is connected"),
            Link::Up { downtime: Some(downtime) } => {
                tracing::info!(cluster, downtime, "a source is connected again");
            }
            Link::Down { lasted, class, error, retry_in } => tracing::warn!(
                cluster, error, reason = class.as_str(), lasted, retry_in, attempt = 0, "a connection was lost"
            ),
            Link::Failed { class, error, attempt, retry_in } => tracing::warn!(
                cluster, error, reason = class.as_str(), retry_in, attempt, "a connection failed"
            ),
        }
    }
}

fn duration(run: &Run) -> f64 {
    match (run.started_at, run.ended_at) {
        (Some(from), Some(to)) => to.duration_since(from).as_secs_f64(),
        _ => 0.0,
    }
}
