//! Following a restart that somebody asked for (C12). The machine takes the steps; this only watches and tells.

use std::{collections::VecDeque, time::Duration};

use hale_health::{Incarnation, Phase, Time};
use tokio::sync::{mpsc, oneshot};

use super::{core::Core, handle::SupervisorError, unit::Unit};

/// A restart that has begun. Dropping it gives up nothing.
#[derive(Debug)]
pub struct Rolling {
    progress: mpsc::Receiver<String>,
    done: oneshot::Receiver<Result<(), SupervisorError>>,
}

impl Rolling {
    /// The next replica that is ready again; `None` at the end of it all.
    pub async fn next(&mut self) -> Option<String> {
        self.progress.recv().await
    }

    /// How it ended, once it has.
    ///
    /// # Errors
    /// [`SupervisorError::TooLate`] when a replica did not become ready in time, [`SupervisorError::Superseded`] when
    /// a later request took its place, [`SupervisorError::Closed`].
    pub async fn done(self) -> Result<(), SupervisorError> {
        self.done.await.unwrap_or(Err(SupervisorError::Closed))
    }
}

/// One restart that somebody follows.
pub(super) struct Round {
    name: String,
    /// Replicas that are not ready again yet, with the start before the restart.
    left: VecDeque<(u32, Incarnation)>,
    /// When a restart of one replica has taken too long. The machine itself watches over those of a workload.
    pub(super) until: Option<Time>,
    limit: Duration,
    progress: mpsc::Sender<String>,
    done: oneshot::Sender<Result<(), SupervisorError>>,
}

impl Round {
    /// Follows these replicas of a unit.
    pub(super) fn follow(unit: &Unit, name: &str, only: Option<u32>, now: Time) -> (Self, Rolling) {
        let wanted = |ordinal: u32| only.map_or(unit.machine.wants(ordinal), |only| only == ordinal);
        let left: VecDeque<_> = unit
            .machine
            .replicas()
            .filter(|(ordinal, _)| wanted(*ordinal))
            .map(|(ordinal, replica)| (ordinal, replica.incarnation()))
            .collect();
        // As many places as there is to tell: it is never full.
        let (progress, told) = mpsc::channel(left.len().max(1));
        let (done, ended) = oneshot::channel();
        let limit = unit.spec.rollout.progress_deadline;
        let until = only.map(|_| now + limit);
        let round = Self { name: name.to_owned(), left, until, limit, progress, done };
        (round, Rolling { progress: told, done: ended })
    }

    /// The machine gave the rest of it up.
    pub(super) fn stalled(self, workload: &str, reason: &str) {
        let error = SupervisorError::TooLate {
            name: workload.to_owned(),
            wanted: "ready again".to_owned(),
            waited: self.limit,
            last: reason.to_owned(),
        };
        let _ = self.done.send(Err(error));
    }

    pub(super) fn superseded(self, by: &str) {
        let _ = self.done.send(Err(SupervisorError::Superseded { name: self.name, by: by.to_owned() }));
    }

    /// Tells what is ready again. `false`: it goes on.
    fn advance(&mut self, unit: &Unit) -> bool {
        while let Some((ordinal, before)) = self.left.front() {
            if let Some(replica) = unit.machine.replica(*ordinal) {
                let ended = matches!(replica.phase(), Phase::Stopping | Phase::Stopped);
                let back = replica.ready() && replica.incarnation() > *before;
                if !back && !ended {
                    return false;
                }
                let _ = self.progress.try_send(unit.spec.replica_name(*ordinal));
            }
            self.left.pop_front();
        }
        self.until.is_some() || !unit.machine.is_rolling()
    }

    /// Why it will not come to an end, if so.
    fn hopeless(&self, unit: &Unit, now: Time) -> Option<String> {
        let until = self.until?;
        let (ordinal, _) = self.left.front()?;
        let replica = unit.machine.replica(*ordinal)?;
        let failed = replica.phase() == Phase::Failed;
        let last = || format!("{}: {}", replica.phase(), replica.last_error().unwrap_or("no error seen"));
        (failed || now >= until).then(last)
    }
}

impl Core {
    /// Tells those who follow restarts how far they are.
    pub(super) fn settle_rounds(&mut self, now: Time) {
        for unit in self.units.values_mut().filter(|unit| !unit.rounds.is_empty()) {
            for mut round in std::mem::take(&mut unit.rounds) {
                if round.advance(unit) {
                    let _ = round.done.send(Ok(()));
                } else if let Some(last) = round.hopeless(unit, now) {
                    let workload = round.name.clone();
                    round.stalled(&workload, &last);
                } else {
                    unit.rounds.push(round);
                }
            }
        }
    }
}
