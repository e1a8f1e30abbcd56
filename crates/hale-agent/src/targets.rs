//! Targets: what hale probes but does not run (N12 to N14).
//!
//! One task owns the machine of every target. Results of checks, requests and the guard's word pass it one after the
//! other; each result meets the machine of its target once, and is told once. The event of a failure or a recovery is
//! handed to the sink, and the log behind that is the one record of what was told: an agent that starts reads there
//! which failures were told already ([`Told`]), so that each is told once whatever was killed when (N13).
//!
//! A target may be a list of others that somebody else keeps : what enters it is watched, what leaves it takes
//! its counters with it, and while it can't be read the last one stays (N14).

mod doubts;
mod kept;
mod lists;
mod read;
mod runner;
mod told;
mod watched;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use hale_health::Status;
use hale_model::{
    spec::{ListEntry, Target},
    status::TargetStatus,
};
use hale_supervisor::{clock::Clock, engine::TargetChecks, guard::Guard, outside::Outside, sink::Sink};
use tokio::sync::{mpsc, oneshot, watch};

use self::runner::Runner;
pub use self::told::{TYPES, Told};

/// Requests that wait; whoever asks waits when it is full.
const COMMANDS: usize = 64;

/// What a target runner stands on.
pub struct TargetOptions {
    /// The name of the node, in events.
    pub node: String,
    /// What makes the checks.
    pub checks: TargetChecks,
    /// Who is told.
    pub sink: Arc<dyn Sink>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// What doubts the node's own probes (H22), if anything does.
    pub guard: Option<Guard>,
    /// What doubts its probes of other machines, if anything does.
    pub outside: Option<Outside>,
    /// Where it is kept what is in lists, for the next start; `None`: nowhere.
    pub lists: Option<PathBuf>,
    /// Failures that earlier runs told, from the log of events.
    pub told: Told,
}

/// Why something asked of the targets was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// There is none of this name.
    #[error("no target is named {0:?}: `hale status` lists them")]
    NotFound(String),
    /// Its check can't be made ready; the others of the list are probed all the same.
    #[error("target {name} can't be probed: {reason}")]
    Invalid {
        /// Which target.
        name: String,
        /// Why.
        reason: String,
    },
    /// The targets are no longer watched.
    #[error("the targets are no longer watched")]
    Closed,
}

/// A pause of a target that a person asks for (H24).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// For how long; `None`: until it is resumed.
    pub lasts: Option<Duration>,
    /// Why.
    pub reason: String,
    /// Who.
    pub by: String,
}

enum Command {
    Apply { targets: Vec<Arc<Target>>, answer: oneshot::Sender<Result<(), TargetError>> },
    Pause { name: String, pause: Pause, answer: oneshot::Sender<Result<(), TargetError>> },
    Resume { name: String, by: String, answer: oneshot::Sender<Result<(), TargetError>> },
    Services(BTreeMap<String, Vec<ListEntry>>),
    Status { answer: oneshot::Sender<Vec<TargetStatus>> },
}

/// The targets of a node. Cheap to clone; the watching ends when the last one is dropped.
#[derive(Clone)]
pub struct Targets {
    commands: mpsc::Sender<Command>,
    statuses: watch::Receiver<Arc<BTreeMap<String, Status>>>,
}

impl Targets {
    /// Begins to watch, without targets: [`Targets::apply`] gives it some.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(options: TargetOptions) -> Self {
        let (commands, asked) = mpsc::channel(COMMANDS);
        let (tell, statuses) = watch::channel(Arc::default());
        let runner = Runner::new(options, tell);
        tokio::spawn(runner.run(asked));
        Self { commands, statuses }
    }

    async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, TargetError> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(make(answer)).await.map_err(|_| TargetError::Closed)?;
        answered.await.map_err(|_| TargetError::Closed)
    }

    /// Makes these the targets, all of them. One that is as it was keeps its counters; one that is gone takes them
    /// with it, and one that changed starts clean (N14).
    ///
    /// # Errors
    /// [`TargetError::Invalid`] names the first that can't be probed; the others are.
    pub async fn apply(&self, targets: Vec<Arc<Target>>) -> Result<(), TargetError> {
        self.ask(|answer| Command::Apply { targets, answer }).await?
    }

    /// Freezes the verdict of a target (H24), until it is resumed or for so long. Who and why is an event.
    ///
    /// # Errors
    /// [`TargetError::NotFound`].
    pub async fn pause(&self, name: &str, pause: Pause) -> Result<(), TargetError> {
        let name = name.to_owned();
        self.ask(|answer| Command::Pause { name, pause, answer }).await?
    }

    /// Ends a pause: its counters begin at zero.
    ///
    /// # Errors
    /// [`TargetError::NotFound`].
    pub async fn resume(&self, name: &str, by: &str) -> Result<(), TargetError> {
        let (name, by) = (name.to_owned(), by.to_owned());
        self.ask(|answer| Command::Resume { name, by, answer }).await?
    }

    /// Tells who serves the services whose replicas are probed here: all of these services, each whole (N12).
    ///
    /// # Errors
    /// [`TargetError::Closed`].
    pub async fn services(&self, services: BTreeMap<String, Vec<ListEntry>>) -> Result<(), TargetError> {
        self.commands.send(Command::Services(services)).await.map_err(|_| TargetError::Closed)
    }

    /// How every target is now, by name.
    ///
    /// # Errors
    /// [`TargetError::Closed`].
    pub async fn status(&self) -> Result<Vec<TargetStatus>, TargetError> {
        self.ask(|answer| Command::Status { answer }).await
    }

    /// The status of every target by name, as it changes: what depends on one is told from here (H21). One that is
    /// paused is unknown: it holds nothing.
    #[must_use]
    pub fn statuses(&self) -> watch::Receiver<Arc<BTreeMap<String, Status>>> {
        self.statuses.clone()
    }
}
