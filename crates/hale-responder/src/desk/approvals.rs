//! Runs that wait for a person (R11).

use std::time::Duration;

use hale_api::runs::RunState;

use super::{
    Desk, Effect, Note, Now,
    state::{Held, Moment},
};

/// Why a person's word changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecideError {
    /// There is no such run among those that are not final.
    #[error("no such run waits for a decision, or not any more; `hale runs ID` tells how it stands")]
    Unknown,
    /// It does not wait for a person, or not any more.
    #[error("the run is {} and does not wait for a decision", .0.as_str())]
    NotWaiting(RunState),
    /// It waited for too long.
    #[error("the run has waited for too long and has expired")]
    Expired,
    /// It can't be queued now, as the file wants full queues to refuse; it goes on waiting.
    #[error("the queue of its cluster is full; try again when it has room")]
    Full,
}

impl Desk {
    /// A run waits for a person from now on. As many may wait of one cluster as in its queue; one more makes the oldest
    /// expire.
    pub(super) fn ask(&mut self, mut held: Held, timeout: Duration, at: Moment, out: &mut Vec<Effect>) {
        held.run.state = RunState::AwaitingApproval;
        held.run.approve_until = Some(at.wall_in(timeout));
        held.until = Some(at.time + timeout);
        let run = Box::new(held.run.clone());
        out.push(Effect::PutRun(run.clone()));
        out.push(Effect::Note(Note::AwaitsApproval { run }));
        self.let_wait(held, at, out);
    }

    /// Holds a run that waits for a person.
    pub(super) fn let_wait(&mut self, held: Held, at: Moment, out: &mut Vec<Effect>) {
        let cluster = held.run.cluster.clone();
        let waiting = self.waiting.entry(cluster).or_default();
        let oldest = if waiting.len() >= self.queues.size() { waiting.pop_front() } else { None };
        waiting.push_back(held.run.id.clone());
        self.keep(held);
        if let Some(oldest) = oldest {
            self.expire(&oldest, "it gave way to a newer one: too many wait for a person", at, out);
        }
    }

    /// A person said yes or no to a run that waits for one. A yes queues it, and its time in the queue counts from now.
    ///
    /// # Errors
    /// [`DecideError`], and nothing has changed.
    pub fn decide(
        &mut self,
        run: &str,
        approve: bool,
        by: &str,
        reason: &str,
        now: Now,
        _new_id: &mut dyn FnMut() -> String,
    ) -> Result<Vec<Effect>, DecideError> {
        let at = Moment::from(now);
        let Some(held) = self.held.get(run) else {
            let known = self.seen.last(run).map(|it| it.state);
            return Err(known.map_or(DecideError::Unknown, DecideError::NotWaiting));
        };
        if held.run.state != RunState::AwaitingApproval {
            return Err(DecideError::NotWaiting(held.run.state));
        }
        if held.until.is_some_and(|until| at.time >= until) {
            return Err(DecideError::Expired);
        }
        let cluster = held.run.cluster.clone();
        let mut out = Vec::new();
        if approve && !self.make_room(&cluster, self.responder.limits.overflow, at, &mut out) {
            return Err(DecideError::Full);
        }
        self.wait_no_more(&cluster, run);
        if let Some(held) = self.held.get_mut(run) {
            held.run.decided_by = Some(by.to_owned());
        }
        if approve {
            if let Some(mut held) = self.held.remove(run) {
                held.run.reason = Some(in_words("approved", by, reason));
                held.run.queued_at = at.wall;
                held.since = at.time;
                self.enqueue(held, &mut out);
                out.push(Effect::Note(Note::Queued { cluster }));
            }
        } else {
            self.finish(run, RunState::Rejected, Some(in_words("rejected", by, reason)), at, &mut out);
        }
        out.extend(self.capacity.settle(&self.queues).map(Effect::Note));
        Ok(out)
    }

    /// Takes a run out of those that wait for a person.
    pub(super) fn wait_no_more(&mut self, cluster: &str, run: &str) {
        if let Some(waiting) = self.waiting.get_mut(cluster) {
            waiting.retain(|it| it != run);
            if waiting.is_empty() {
                self.waiting.remove(cluster);
            }
        }
    }
}

fn in_words(what: &str, by: &str, reason: &str) -> String {
    if reason.is_empty() { format!("{what} by {by}") } else { format!("{what} by {by}: {reason}") }
}
