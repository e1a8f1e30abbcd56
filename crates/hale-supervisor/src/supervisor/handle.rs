//! The handle: what others may ask of a supervisor, from as many tasks as they like.

use std::{sync::Arc, time::Duration};

use hale_health::{Elsewhere, ProbeKind, Status, Time};
use hale_model::{
    spec::Workload,
    status::{ReplicaStatus, WorkloadStatus},
};
use tokio::sync::{mpsc, oneshot, watch};

use super::{assign::Assignment, command::Command, roll::Rolling};
use crate::{clock::Clock, prober::Asked};

/// Why something asked of a supervisor was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SupervisorError {
    /// No workload or replica has this name.
    #[error("no workload or replica is named {name:?}: `hale status` lists them")]
    NotFound {
        /// The name that was asked for.
        name: String,
    },
    /// The replica has no probe of this kind.
    #[error("{name} has no {probe} probe")]
    NoSuchProbe {
        /// The workload or replica.
        name: String,
        /// The kind that was asked for.
        probe: ProbeKind,
    },
    /// Two workloads or placements of one list have the same name.
    #[error("{name} is declared twice")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// It was not there in time.
    #[error("{name} is not {wanted} after {waited:?}: {last}")]
    TooLate {
        /// The workload or replica.
        name: String,
        /// What was waited for.
        wanted: String,
        /// For how long.
        waited: Duration,
        /// How it was when the wait ended.
        last: String,
    },
    /// A later request took its place.
    #[error("the restart of {name} was given up: {by}")]
    Superseded {
        /// The workload or replica.
        name: String,
        /// By what.
        by: String,
    },
    /// The supervisor shuts down, or has.
    #[error("the supervisor is shutting down")]
    Closed,
}

/// What became of one declared workload, or of one placed replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The workload or replica.
    pub name: String,
    /// What changed.
    pub change: Change,
}

/// What an apply changed of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Created,
    /// It is declared differently now.
    Updated,
    /// It is as it was.
    Unchanged,
    /// It is as it was, under a new number of its placement.
    Granted,
    /// It is no longer declared.
    Deleted,
}

impl Change {
    /// The word for it (C10).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
            Self::Granted => "granted",
            Self::Deleted => "deleted",
        }
    }
}

/// A pause by a person (H24).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// One probe, or everything of the replica.
    pub probe: Option<ProbeKind>,
    /// For how long; `None`: until it is resumed.
    pub lasts: Option<Duration>,
    /// Why.
    pub reason: String,
    /// Who.
    pub by: String,
}

/// A running supervisor. Cheap to clone; all of it can be called from many tasks at once.
#[derive(Clone)]
pub struct SupervisorHandle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) version: watch::Receiver<u64>,
    pub(super) clock: Arc<dyn Clock>,
}

impl SupervisorHandle {
    async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, SupervisorError> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(make(answer)).await.map_err(|_| SupervisorError::Closed)?;
        answered.await.map_err(|_| SupervisorError::Closed)
    }

    /// Makes these the declared workloads, all of them: what is new is started, what is gone is stopped, what changed
    /// (by digest) is replaced replica by replica, each waiting until the one before it is ready; the rest is left
    /// alone. Returns once this is taken on, by name; the deleted ones last.
    ///
    /// # Errors
    /// [`SupervisorError::Duplicate`] when a name is there twice; nothing is changed then.
    pub async fn apply(&self, workloads: Vec<Arc<Workload>>) -> Result<Vec<Applied>, SupervisorError> {
        self.ask(|answer| Command::Apply { workloads, answer }).await?
    }

    /// Makes these the replicas that are placed here, all of them, each with the number of its placement (S9). What is
    /// missing is stopped, with drain and grace, and then removed. Of two of one replica the later placement counts.
    ///
    /// Under the same number a changed declaration takes effect as by [`SupervisorHandle::apply`]. A new number for the
    /// same declaration only grants it anew: the run goes on, and is told under the new number from now on (its
    /// `HALE_GENERATION` is the old one until its next start). With another declaration the old run is drained and
    /// ended, and the new one starts once nothing is left of it: two placements of one replica never run at once.
    ///
    /// Returns once this is taken on, by replica; the deleted ones last. A supervisor is told what to run by this or
    /// by [`SupervisorHandle::apply`], not by both.
    ///
    /// # Errors
    /// [`SupervisorError::Duplicate`] when one placement is there twice; nothing is changed then.
    pub async fn assign(&self, assignments: Vec<Assignment>) -> Result<Vec<Applied>, SupervisorError> {
        self.ask(|answer| Command::Assign { assignments, answer }).await?
    }

    /// Puts off when placed replicas are to be ended (S9), by name; `None`: no longer at all. Cheap: to be called with each
    /// acknowledged beat. One whose moment has come is not brought back by this, only by
    /// [`SupervisorHandle::assign`]: another node may have it. Returns
    /// the names of those.
    ///
    /// # Errors
    /// [`SupervisorError::Closed`].
    pub async fn set_stop_at(
        &self,
        all: Vec<(String, Option<Time>)>,
    ) -> Result<Vec<String>, SupervisorError> {
        self.ask(|answer| Command::StopAt { all, answer }).await
    }

    /// Tells what goes on with the replicas of a workload on other nodes (H20). It holds until it is told otherwise,
    /// also for a workload that comes here later; without a word there are none.
    ///
    /// # Errors
    /// [`SupervisorError::Closed`].
    pub async fn set_elsewhere(&self, workload: &str, elsewhere: Elsewhere) -> Result<(), SupervisorError> {
        let workload = workload.to_owned();
        let told = self.commands.send(Command::Elsewhere { workload, elsewhere }).await;
        told.map_err(|_| SupervisorError::Closed)
    }

    /// Asks for a restart by a person: of a replica at once, of a workload replica by replica (C12). Returns once it
    /// has begun; what it returns can be followed, or dropped, which gives up nothing.
    ///
    /// # Errors
    /// [`SupervisorError::NotFound`].
    pub async fn restart(&self, name: &str, by: &str) -> Result<Rolling, SupervisorError> {
        let (name, by) = (name.to_owned(), by.to_owned());
        self.ask(|answer| Command::Restart { name, by, answer }).await?
    }

    /// A restart that is waited for, to the end (C12). `progress` is told of every replica as it is ready again.
    ///
    /// # Errors
    /// [`SupervisorError::TooLate`] when a replica is not ready again within the rollout's deadline; those after it
    /// are left as they were.
    pub async fn restart_rolling(
        &self,
        name: &str,
        by: &str,
        mut progress: impl FnMut(&str),
    ) -> Result<(), SupervisorError> {
        let mut rolling = self.restart(name, by).await?;
        while let Some(replica) = rolling.next().await {
            progress(&replica);
        }
        rolling.done().await
    }

    /// Stops a workload or a replica, until it is started again. Returns once this is decided;
    /// [`SupervisorHandle::wait`] waits for the end.
    ///
    /// # Errors
    /// [`SupervisorError::NotFound`].
    pub async fn stop(&self, name: &str, by: &str) -> Result<(), SupervisorError> {
        let (name, by) = (name.to_owned(), by.to_owned());
        self.ask(|answer| Command::Stop { name, by, answer }).await?
    }

    /// Starts a stopped or failed workload or replica. Costs nothing of the budget and clears it (H16).
    ///
    /// # Errors
    /// [`SupervisorError::NotFound`].
    pub async fn start(&self, name: &str, by: &str) -> Result<(), SupervisorError> {
        let (name, by) = (name.to_owned(), by.to_owned());
        self.ask(|answer| Command::Start { name, by, answer }).await?
    }

    /// Pauses a workload or a replica, or one probe of it (H24).
    ///
    /// # Errors
    /// [`SupervisorError::NotFound`], [`SupervisorError::NoSuchProbe`].
    pub async fn pause(&self, name: &str, pause: Pause) -> Result<(), SupervisorError> {
        let name = name.to_owned();
        self.ask(|answer| Command::Pause { name, pause, answer }).await?
    }

    /// Ends a pause before its time.
    ///
    /// # Errors
    /// [`SupervisorError::NotFound`].
    pub async fn resume(
        &self,
        name: &str,
        probe: Option<ProbeKind>,
        by: &str,
    ) -> Result<(), SupervisorError> {
        let (name, by) = (name.to_owned(), by.to_owned());
        self.ask(|answer| Command::Resume { name, probe, by, answer }).await?
    }

    /// How every workload is now, by name.
    ///
    /// # Errors
    /// [`SupervisorError::Closed`].
    pub async fn status(&self) -> Result<Vec<WorkloadStatus>, SupervisorError> {
        self.ask(|answer| Command::Status { name: None, answer }).await?
    }

    /// How one workload is now: with all of its replicas, or, when a replica was named, with that one only.
    ///
    /// # Errors
    /// [`SupervisorError::NotFound`].
    pub async fn status_of(&self, name: &str) -> Result<WorkloadStatus, SupervisorError> {
        let asked = Some(name.to_owned());
        let found = self.ask(|answer| Command::Status { name: asked, answer }).await??;
        found.into_iter().next().ok_or_else(|| SupervisorError::NotFound { name: name.to_owned() })
    }

    /// Makes the checks that are being made of a workload or replica now, beside their periods, and tells what came of
    /// them once their machines know. They count as any others.
    ///
    /// # Errors
    /// [`SupervisorError::NotFound`].
    pub async fn check_now(&self, name: &str) -> Result<Vec<Asked>, SupervisorError> {
        let name = name.to_owned();
        self.ask(|answer| Command::CheckNow { name, answer }).await?
    }

    /// Waits until what a name stands for is as `wanted` says.
    ///
    /// # Errors
    /// [`SupervisorError::TooLate`] after `limit`, with how it is then.
    pub async fn wait(
        &self,
        name: &str,
        wanted: &str,
        limit: Duration,
        is: impl Fn(&WorkloadStatus) -> bool,
    ) -> Result<(), SupervisorError> {
        let mut version = self.version.clone();
        let until = self.clock.now() + limit;
        loop {
            version.mark_unchanged();
            let status = self.status_of(name).await?;
            if is(&status) {
                return Ok(());
            }
            let now = self.clock.now();
            tokio::select! {
                changed = version.changed() => if changed.is_err() { return Err(SupervisorError::Closed) },
                () = self.clock.sleep_until(until.min(now + LOOK_AGAIN)) => if self.clock.now() >= until {
                    let wanted = wanted.to_owned();
                    let last = in_words(&status.replicas);
                    return Err(SupervisorError::TooLate { name: name.to_owned(), wanted, waited: limit, last });
                }
            }
        }
    }

    /// How something that its workloads depend on is as a whole (H21): a target, or a workload over all nodes, which
    /// counts more than what this supervisor sees of it itself. `None`: nothing more is known of it, or it is not
    /// there any more.
    ///
    /// # Errors
    /// [`SupervisorError::Closed`].
    pub async fn set_dependency(&self, name: &str, status: Option<Status>) -> Result<(), SupervisorError> {
        let name = name.to_owned();
        self.commands.send(Command::Dependency { name, status }).await.map_err(|_| SupervisorError::Closed)
    }

    /// Stops everything, in reverse order of dependencies, and returns when nothing is left. A second call hurries:
    /// it does not wait for drains, and ends graces.
    pub async fn shutdown(&self, hurry: bool) {
        // Closed means that it is done already.
        let _ = self.ask(|answer| Command::Shutdown { hurry, answer }).await;
    }

    /// Ends without touching what it runs: replicas go on, for a successor to take over (N6). Returns when all that it
    /// has to know is kept. What was asked before is carried out first; what is asked later is
    /// [`SupervisorError::Closed`].
    pub async fn detach(&self) {
        // Closed means that it is done already.
        let _ = self.ask(|answer| Command::Detach { answer }).await;
    }

    /// A number that rises whenever a phase, a readiness or a hold of anything changes.
    #[must_use]
    pub fn version(&self) -> watch::Receiver<u64> {
        self.version.clone()
    }
}

/// How often a wait looks again at what changes without a word: counters, and what grows stale.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How replicas are, in one line.
pub(super) fn in_words(replicas: &[ReplicaStatus]) -> String {
    let one = |replica: &ReplicaStatus| {
        let ready = if replica.ready { "ready" } else { "not ready" };
        let error = replica.last_error.as_deref().map(|it| format!(" ({it})")).unwrap_or_default();
        format!("{} is {}, {ready}{error}", replica.name, replica.phase)
    };
    replicas.iter().map(one).collect::<Vec<_>>().join("; ")
}
