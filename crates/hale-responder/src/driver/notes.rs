//! Saying what happens: figures (R16), log lines (R17), events.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use hale_api::runs::{AlertOutcome, AlertRecord, Run, RunState};
use hale_model::event::{
    AlertDropped, AlertExpired, BreakerClosed, BreakerOpened, EventData, NewEvent, RunAwaitingApproval,
    RunDecided, RunEscalated, RunFailed, RunFailure, RunStarted, RunSucceeded, RunWouldHave,
};
use jiff::Timestamp;

use super::Tell;
use crate::{
    desk::{Breaker, BreakerState, Note},
    metrics::Metrics,
    source::Link,
};

/// Tells it all.
pub(super) struct Notes {
    responder: String,
    metrics: Metrics,
    tell: Arc<dyn Tell>,
    /// How the runs that are not over stood when they were told last.
    told: HashMap<String, RunState>,
    /// The run that a duplicate was just attached to: it is written anew, and nothing about it is news.
    attached: Option<String>,
    /// Since when breakers are open.
    open: BTreeMap<Breaker, Timestamp>,
}

impl Notes {
    pub(super) fn new(responder: String, metrics: Metrics, tell: Arc<dyn Tell>) -> Self {
        Self { responder, metrics, tell, told: HashMap::new(), attached: None, open: BTreeMap::new() }
    }

    fn event(&self, subject: &str, data: EventData) {
        self.tell.tell(NewEvent::of_responder(&self.responder, subject, Timestamp::now(), data));
    }

    /// A run was on record already when the responder started, and stands so still.
    pub(super) fn known(&mut self, run: &Run) {
        self.told.insert(run.id.clone(), run.state);
    }

    /// An alert is on record.
    pub(super) fn recorded(&mut self, record: &AlertRecord) {
        if record.outcome == AlertOutcome::Duplicate {
            self.attached.clone_from(&record.run);
        }
        if record.outcome == AlertOutcome::Refused {
            let run = record.alert.facts(&self.responder, "");
            let reason = record.reason.clone().unwrap_or_default();
            self.event(&record.alert.id, EventData::AlertDropped(AlertDropped { run, reason }));
        }
    }

    /// A run is on record: what is new about it is told.
    pub(super) fn changed(&mut self, run: &Run) {
        if self.attached.take().is_some_and(|it| it == run.id) {
            return;
        }
        let before = self.told.get(&run.id).copied();
        if run.state.is_final() {
            self.told.remove(&run.id);
        } else {
            self.told.insert(run.id.clone(), run.state);
        }
        if before == Some(run.state) {
            return;
        }
        if before.is_none() && run.state == RunState::Queued && run.decided_by.is_none() {
            self.escalated(run);
        }
        let waited = matches!(before, None | Some(RunState::AwaitingApproval));
        if let Some(by) = run.decided_by.as_ref().filter(|_| waited) {
            let approved = run.state != RunState::Rejected;
            let reason = run.reason.clone().unwrap_or_default();
            let data = RunDecided { run: run.facts(), approved, by: by.clone(), reason };
            self.event(&run.id, EventData::RunDecided(data));
        }
        if let Some(data) = of_state(run) {
            self.event(&run.id, data);
        }
    }

    fn escalated(&self, run: &Run) {
        let Some(earlier) = &run.escalates else { return };
        let mut facts = run.facts();
        facts.step = facts.step.saturating_sub(1);
        let data = RunEscalated {
            run: facts,
            next: run.command.first().map_or_else(|| "webhook".to_owned(), |it| format!("program {it}")),
            next_run: Some(run.id.clone()),
            reason: run.reason.clone().unwrap_or_default(),
        };
        self.event(earlier, EventData::RunEscalated(data));
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
                    cluster = run.cluster,
                    alert = run.alert,
                    run = run.id,
                    fault = run.fault_type,
                    resource = run.resource.name,
                    age = age.as_secs_f64(),
                    max_age = max_age.as_secs_f64(),
                    "an alert has waited for too long and is expired"
                );
                let data = AlertExpired {
                    run: run.facts(),
                    age_seconds: age.as_secs_f64(),
                    max_age_seconds: max_age.as_secs_f64(),
                    reason: run.reason.clone().unwrap_or_default(),
                };
                self.event(&run.alert, EventData::AlertExpired(data));
            }
            Note::Overflowed { cluster, alert, refused } => {
                self.metrics.dropped(cluster);
                let what = if *refused { "the new alert is refused" } else { "the oldest alert gives way" };
                tracing::warn!(cluster, alert, "the queue is full: {what}");
            }
            Note::Spawned { cluster } => self.metrics.spawned(cluster),
            Note::Completed { run } => self.completed(run),
            Note::Breaker { breaker, state, reason } => self.breaker(*breaker, *state, reason),
            Note::AwaitsApproval { run } => tracing::info!(
                cluster = run.cluster,
                run = run.id,
                rule = run.rule,
                "a run waits for a person: hale runs approve {}",
                run.id
            ),
            Note::BudgetExhausted { cluster, reason } => {
                tracing::warn!(cluster, reason, "the budget of a cluster is spent: its alerts wait");
            }
        }
    }

    fn breaker(&mut self, breaker: Breaker, state: BreakerState, reason: &str) {
        self.metrics.breaker(&self.responder, breaker, state);
        let (name, now) = (breaker.as_str(), Timestamp::now());
        let responder = self.responder.clone();
        match state {
            BreakerState::Open => {
                tracing::warn!(breaker = name, reason, "a circuit breaker has opened");
                self.open.insert(breaker, now);
                let data = BreakerOpened { responder, breaker: name.into(), reason: reason.into() };
                self.event(&self.responder, EventData::BreakerOpened(data));
            }
            BreakerState::HalfOpen => {
                tracing::info!(breaker = name, reason, "a circuit breaker lets one run through");
            }
            BreakerState::Closed => {
                tracing::info!(breaker = name, reason, "a circuit breaker has closed");
                let since = self.open.remove(&breaker).unwrap_or(now);
                let open_seconds = now.duration_since(since).as_secs_f64();
                let data =
                    BreakerClosed { responder, breaker: name.into(), open_seconds, reason: reason.into() };
                self.event(&self.responder, EventData::BreakerClosed(data));
            }
        }
    }

    fn completed(&self, run: &Run) {
        // What is only sent is no program.
        if !run.command.is_empty() {
            self.metrics.completed(run);
        }
        let took = duration(run);
        let reason = run.reason.as_deref().unwrap_or_default();
        let (cluster, alert, id) = (&run.cluster, &run.alert, &run.id);
        match run.state {
            RunState::TimedOut => tracing::warn!(
                cluster,
                alert,
                run = id,
                duration = took,
                threshold = reason,
                "a run took too long and was ended"
            ),
            RunState::Succeeded => {
                tracing::info!(cluster, alert, run = id, duration = took, "a run has succeeded")
            }
            other => tracing::warn!(
                cluster,
                alert,
                run = id,
                duration = took,
                reason,
                "a run ended {}",
                other.as_str()
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
                cluster,
                error,
                reason = class.as_str(),
                lasted,
                retry_in,
                attempt = 0,
                "a connection was lost"
            ),
            Link::Failed { class, error, attempt, retry_in } => tracing::warn!(
                cluster,
                error,
                reason = class.as_str(),
                retry_in,
                attempt,
                "a connection failed"
            ),
        }
    }
}

fn duration(run: &Run) -> Option<f64> {
    Some(run.ended_at?.duration_since(run.started_at?).as_secs_f64())
}

/// What is told when a run has come to stand so.
fn of_state(run: &Run) -> Option<EventData> {
    let reason = || run.reason.clone().unwrap_or_default();
    let failed = |state| {
        EventData::RunFailed(RunFailed {
            run: run.facts(),
            state,
            reason: reason(),
            exit_code: run.exit_code,
            signal: run.signal,
            run_seconds: duration(run),
        })
    };
    Some(match run.state {
        RunState::AwaitingApproval => EventData::RunAwaitingApproval(RunAwaitingApproval {
            run: run.facts(),
            until: run.approve_until,
            command: run.command.clone(),
        }),
        RunState::Running => EventData::RunStarted(RunStarted { run: run.facts() }),
        RunState::Succeeded => EventData::RunSucceeded(RunSucceeded {
            run: run.facts(),
            reason: reason(),
            run_seconds: duration(run).unwrap_or_default(),
        }),
        RunState::Failed => failed(RunFailure::Failed),
        RunState::TimedOut => failed(RunFailure::TimedOut),
        RunState::Ineffective => failed(RunFailure::Ineffective),
        RunState::Interrupted => failed(RunFailure::Interrupted),
        RunState::Observed => {
            EventData::RunWouldHave(RunWouldHave { run: run.facts(), command: run.command.clone() })
        }
        RunState::Dropped => EventData::AlertDropped(AlertDropped { run: run.facts(), reason: reason() }),
        // Expired is told with its ages.
        RunState::Queued | RunState::Recovering | RunState::Rejected | RunState::Expired => return None,
    })
}
