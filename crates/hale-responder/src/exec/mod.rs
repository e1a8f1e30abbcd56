//! Running a program on an alert (R8, R9): a workspace of its own, a process group and, where one can be had, a cgroup of
//! its own, an end to everything it spawned.
//!
//! The [`Executor`] decides nothing: it makes workspaces, runs what it is told to run, and tells how that ended. What
//! programs write and alerts say is never trusted: nothing of it becomes an option, a path or an instruction.

mod account;
mod beneath;
mod capture;
mod executor;
mod found;
mod kin;
mod leftovers;
mod life;
mod prompt;
mod removal;
mod retain;
mod start;
mod values;
mod workspace;

use std::{path::PathBuf, time::Duration};

use hale_api::runs::{Alert, Artifact, Run};
use hale_model::spec::Program;

pub use self::{
    executor::{ExecError, ExecOptions, Executor, MARK_VARIABLE},
    retain::Retained,
};
pub use hale_keeper::Stream;

/// One start.
#[derive(Debug, Clone)]
pub struct Job {
    /// The run.
    pub run: Run,
    /// Its alert.
    pub alert: Alert,
    /// What is run.
    pub program: Program,
    /// How long it may run.
    pub timeout: Duration,
    /// The `KUBECONFIG` of its source.
    pub kubeconfig: Option<PathBuf>,
    /// A file that it must make, within the workspace, and its least size.
    pub artifact: Option<(PathBuf, u64)>,
}

/// How a program ended; nothing of it is left.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// How.
    pub how: How,
    /// What it left in `output/`.
    pub artifacts: Vec<Artifact>,
    /// What it cost, as it told in `output/cost`.
    pub cost: Option<f64>,
}

/// See [`Ended`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// By itself, with this exit status.
    Exited(i32),
    /// By a signal that was not ours.
    Signal(i32),
    /// It ran for too long and was ended (R9).
    TimedOut,
    /// The responder is ending, and ended it (R13).
    Interrupted,
    /// Exit status 0, but the artifact is missing or too small.
    NoArtifact(String),
    /// It could not be started.
    NotStarted(String),
}
