//! Following what was asked for until it is so (C12): a restart until every replica is ready again, a stop until every
//! one has ended.
//!
//! The node does it; this watches, and goes on watching whether or not the asker does. The last hundred are kept, in
//! memory.

use std::{
    cmp::Ordering,
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hale_api::operation::{Operation, OperationState, OperationStep, StepState, Verb};
use hale_model::{
    Phase,
    status::{ReplicaStatus, WorkloadStatus},
};
use jiff::{SignedDuration, Timestamp};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::{
    api::Parts,
    control::{Control, Order, Subject},
    problems::{Answer, Refusal},
};

/// How many are kept.
const KEPT: usize = 100;

/// Two times that a node tells closer to each other than this are the same moment.
const SAME_MOMENT: SignedDuration = SignedDuration::from_secs(1);

/// A replica and the run it had before the order.
#[derive(Debug, Clone)]
pub(crate) struct Before {
    name: String,
    run: Run,
}

impl Before {
    fn of(it: &ReplicaStatus) -> Self {
        Self { name: it.name.clone(), run: Run::of(it) }
    }
}

/// One run of a replica: what tells the next one from it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    generation: u64,
    incarnation: u64,
    started_at: Option<Timestamp>,
}

impl Run {
    pub(crate) const fn of(it: &ReplicaStatus) -> Self {
        Self { generation: it.generation, incarnation: it.incarnation, started_at: it.started_at }
    }

    /// Whether this run is a later one. Of the same placement the incarnation tells. Under a newer one it may be the
    /// same run still, which was only given another number: then it began when it began.
    pub(crate) fn is_after(&self, before: &Self) -> bool {
        match self.generation.cmp(&before.generation) {
            Ordering::Less => false,
            Ordering::Equal => self.incarnation > before.incarnation,
            Ordering::Greater if self.incarnation == before.incarnation => {
                match (before.started_at, self.started_at) {
                    // A node tells the same moment a little differently from time to time.
                    (Some(before), Some(now)) => now.duration_since(before).abs() > SAME_MOMENT,
                    (before, now) => before != now,
                }
            }
            // At 0 nothing has started there yet.
            Ordering::Greater => self.incarnation > 0,
        }
    }
}

/// Those that go on, and the last that ended.
#[derive(Debug, Default)]
pub(crate) struct Operations {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    last: u64,
    operations: VecDeque<(u64, watch::Receiver<Operation>)>,
}

/// The replicas that an order is about, as they are before it; empty for a target.
pub(crate) async fn before(control: &dyn Control, order: &Order) -> Answer<Vec<Before>> {
    let name = order.on.name();
    match &order.on {
        Subject::Workload(_) => {
            let workload =
                control.workload(name).await?.ok_or_else(|| Refusal::not_found("workload", name))?;
            Ok(workload.replicas.iter().map(Before::of).collect())
        }
        Subject::Replica(_) => {
            let overview = control.overview().await?;
            let replica = overview.workloads.iter().flat_map(|it| &it.replicas).find(|it| it.name == name);
            Ok(vec![Before::of(replica.ok_or_else(|| Refusal::not_found("replica", name))?)])
        }
        Subject::Target(_) => {
            let overview = control.overview().await?;
            if overview.targets.iter().any(|it| it.name == name) {
                Ok(Vec::new())
            } else {
                Err(Refusal::not_found("target", name))
            }
        }
    }
}

impl Operations {
    /// Begins to follow an order that was accepted.
    pub(crate) fn begin(&self, parts: &Parts, order: &Order, before: Vec<Before>) -> Operation {
        let follows = matches!(order.verb, Verb::Restart | Verb::Stop | Verb::Start);
        let state = if follows { StepState::Waiting } else { StepState::Done };
        let step =
            |it: &Before| OperationStep { name: it.name.clone(), state, detail: None, took_seconds: None };
        let now = Timestamp::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.last += 1;
        let operation = Operation {
            id: known.last,
            verb: order.verb,
            subject: order.on.name().to_owned(),
            by: order.by.clone(),
            state: if follows { OperationState::Running } else { OperationState::Succeeded },
            error: None,
            started_at: now,
            ended_at: (!follows).then_some(now),
            revision: 1,
            steps: before.iter().map(step).collect(),
        };
        let (sender, receiver) = watch::channel(operation.clone());
        known.operations.push_back((operation.id, receiver));
        if known.operations.len() > KEPT {
            known.operations.pop_front();
        }
        drop(known);
        if follows {
            let follower = Follower {
                control: Arc::clone(&parts.control),
                workload: workload_of(&order.on).to_owned(),
                rolling: order.verb == Verb::Restart && matches!(order.on, Subject::Workload(_)),
                verb: order.verb,
                before,
                operation: sender,
                since: Instant::now(),
            };
            let end = parts.end.clone();
            tokio::spawn(async move { end.run_until_cancelled(follower.run()).await });
        }
        operation
    }

    /// Follows one; `None`: no such operation, or one too long ago.
    pub(crate) fn watch(&self, id: u64) -> Option<watch::Receiver<Operation>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.operations.iter().find(|(known, _)| *known == id).map(|(_, watch)| watch.clone())
    }
}

/// The workload that a replica's name says it belongs to.
fn workload_of(on: &Subject) -> &str {
    match on {
        Subject::Replica(name) => name.rsplit_once('-').map_or(name, |(workload, _)| workload),
        Subject::Workload(name) | Subject::Target(name) => name,
    }
}

struct Follower {
    control: Arc<dyn Control>,
    workload: String,
    /// Whether replicas are gone through one after the other.
    rolling: bool,
    verb: Verb,
    before: Vec<Before>,
    operation: watch::Sender<Operation>,
    /// Since when the present step goes on.
    since: Instant,
}

impl Follower {
    async fn run(mut self) {
        let mut changes = self.control.changes();
        let limit = self.control.progress_deadline(&self.workload);
        let mut until = Instant::now() + limit;
        loop {
            changes.mark_unchanged();
            match self.control.workload(&self.workload).await {
                Ok(Some(workload)) => {
                    if self.look(&workload) {
                        until = Instant::now() + limit;
                    }
                }
                Ok(None) => return self.end(Some(format!("{} is no longer declared", self.workload))),
                Err(error) => return self.end(Some(error.to_string())),
            }
            let (failed, all_done) = self.sum();
            if failed.is_some() || all_done {
                return self.end(failed);
            }
            // The tick covers what changes without being told, such as the end of a deadline.
            let tick = until.min(Instant::now() + Duration::from_secs(1));
            tokio::select! {
                changed = changes.changed() => if changed.is_err() {
                    return self.end(Some("hale is shutting down".to_owned()));
                },
                () = sleep_until(tick) => if Instant::now() >= until {
                    return self.end(Some(self.too_late(limit)));
                },
            }
        }
    }

    /// Takes over how the replicas are; true when one more is where it should be.
    fn look(&mut self, workload: &WorkloadStatus) -> bool {
        let mut progress = false;
        let took = self.since.elapsed().as_secs_f64();
        self.operation.send_if_modified(|operation| {
            let mut changed = false;
            let mut before_this = true;
            for (step, before) in operation.steps.iter_mut().zip(&self.before) {
                if matches!(step.state, StepState::Done | StepState::Failed) {
                    continue;
                }
                let replica = workload.replicas.iter().find(|it| it.name == before.name);
                let (mut state, detail) = self.judge(before, replica);
                if self.rolling && state == StepState::Running && !before_this {
                    // Its turn has not come.
                    state = StepState::Waiting;
                }
                before_this &= state == StepState::Done;
                if (step.state, &step.detail) != (state, &detail) {
                    changed = true;
                    progress |= state == StepState::Done;
                    step.took_seconds = (state == StepState::Done).then_some(took);
                    (step.state, step.detail) = (state, detail);
                }
            }
            if changed {
                operation.revision += 1;
            }
            changed
        });
        if progress && self.rolling {
            // The next one's turn begins.
            self.since = Instant::now();
        }
        progress
    }

    /// Whether a replica is where it should be.
    fn judge(&self, before: &Before, replica: Option<&ReplicaStatus>) -> (StepState, Option<String>) {
        let Some(it) = replica else {
            let stopped = self.verb == Verb::Stop;
            let state = if stopped { StepState::Done } else { StepState::Failed };
            return (state, Some("it is no longer declared".to_owned()));
        };
        let new = Run::of(it).is_after(&before.run);
        let completed = it.last_exit.as_ref().is_some_and(|exit| exit.code == Some(0));
        let why = it.last_error.as_ref().or(it.last_transition.as_ref().map(|it| &it.reason)).cloned();
        match (self.verb, it.phase) {
            (Verb::Stop, Phase::Stopped | Phase::Failed) => (StepState::Done, None),
            (Verb::Stop, _) => (StepState::Running, Some(it.phase.to_string())),
            (_, Phase::Failed) if new => (StepState::Failed, why.or_else(|| Some("failed".to_owned()))),
            (_, Phase::Stopped) if new && completed => {
                (StepState::Done, Some("ended with exit status 0".to_owned()))
            }
            (_, Phase::Stopped) if new => (StepState::Failed, Some("it was stopped".to_owned())),
            // A start of what runs already asks for nothing new.
            (_, Phase::Running) if it.ready && (new || self.verb == Verb::Start) => (StepState::Done, None),
            (_, phase) => {
                let ready = if it.ready { "ready" } else { "not ready" };
                (StepState::Running, Some(format!("{phase}, {ready}")))
            }
        }
    }

    /// Why it has failed, if it has; whether all is done.
    fn sum(&self) -> (Option<String>, bool) {
        let operation = self.operation.borrow();
        let failed = operation.steps.iter().find(|it| it.state == StepState::Failed);
        let failed = failed.map(|it| format!("{}: {}", it.name, it.detail.as_deref().unwrap_or("failed")));
        (failed, operation.steps.iter().all(|it| it.state == StepState::Done))
    }

    fn too_late(&self, limit: Duration) -> String {
        let operation = self.operation.borrow();
        let left: Vec<String> = operation
            .steps
            .iter()
            .filter(|it| it.state != StepState::Done)
            .map(|it| format!("{} ({})", it.name, it.detail.as_deref().unwrap_or("waiting")))
            .collect();
        let wanted = if self.verb == Verb::Stop { "stopped" } else { "ready" };
        format!("not {wanted} within {limit:?}: {}", left.join(", "))
    }

    fn end(&self, error: Option<String>) {
        self.operation.send_modify(|operation| {
            operation.state =
                if error.is_none() { OperationState::Succeeded } else { OperationState::Failed };
            operation.error = error;
            operation.ended_at = Some(Timestamp::now());
            operation.revision += 1;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_was_only_given_another_number_is_no_restart_and_one_that_was_placed_anew_is() {
        let run = |generation, incarnation, second: i64| Run {
            generation,
            incarnation,
            started_at: (second > 0).then(|| Timestamp::from_second(second).unwrap()),
        };
        let before = run(5, 3, 100);
        for (now, is_after) in [
            (run(5, 3, 100), false),
            (run(5, 4, 101), true),
            // A declaration that changes nothing for it: the same run under a newer number.
            (run(9, 3, 100), false),
            // Restarted after that.
            (run(9, 4, 130), true),
            // Placed elsewhere, where the clock is behind: its first start, or as many as it had.
            (run(9, 1, 90), true),
            (run(9, 3, 90), true),
            // Placed, not started.
            (run(9, 0, 0), false),
            // The old one is shown again while the new one is not ready.
            (run(4, 7, 100), false),
        ] {
            assert_eq!(now.is_after(&before), is_after, "{now:?}");
        }
    }
}
