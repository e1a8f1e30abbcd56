//! What the API needs from the node behind it. The one who wires the parts together implements it.

use std::{future::Future, io, pin::Pin, time::Duration};

use hale_api::{logs::LogLine, operation::Verb};
use hale_model::{
    ProbeKind,
    status::{Overview, WorkloadStatus},
};
use tokio::sync::watch;

/// A future that a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A node, seen from the API: what is true on it, and what can be asked of it.
pub trait Control: Send + Sync + 'static {
    /// What is true now: workloads, targets and nodes by name, replicas by ordinal (C12).
    fn overview(&self) -> BoxFuture<'_, Result<Overview, OrderError>>;

    /// One workload as it is now; `None`: no such workload.
    fn workload<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<WorkloadStatus>, OrderError>> {
        Box::pin(async move { Ok(self.overview().await?.workloads.into_iter().find(|it| it.name == name)) })
    }

    /// A number that rises whenever a phase, a readiness or a hold changes.
    fn changes(&self) -> watch::Receiver<u64>;

    /// The longest that each replica of a workload may take to become ready again (`rollout.progressDeadline`).
    fn progress_deadline(&self, workload: &str) -> Duration;

    /// Gives an order. Completes once it is accepted, not once it is carried out: a restart shows as a higher
    /// incarnation, a stop as a phase. The restart of a workload goes replica by replica, each waiting until the one
    /// before it is ready again (C12).
    ///
    /// # Errors
    /// When there is no such thing, the order makes no sense for it, or the node can't take orders now.
    fn order(&self, order: Order) -> BoxFuture<'_, Result<(), OrderError>>;

    /// The last lines that a replica printed, oldest first. Reads files: called where blocking is allowed.
    ///
    /// # Errors
    /// When a file that is there can't be read.
    fn log_tail(&self, replica: &str, lines: usize) -> io::Result<Vec<LogLine>>;

    /// What a replica prints from now on.
    fn log_follow(&self, replica: &str) -> Box<dyn LogFollow>;

    /// Whether the runtime answers; the error says what does not (`/readyz`).
    fn check(&self) -> BoxFuture<'_, Result<(), String>>;
}

/// Follows what a replica prints, over the rotation of its files.
pub trait LogFollow: Send {
    /// What came since the last call; empty when nothing did. Reads files: called where blocking is allowed, with a
    /// pause after an empty answer.
    ///
    /// # Errors
    /// When a file that is there can't be read.
    fn more(&mut self) -> io::Result<Vec<LogLine>>;
}

/// What a person wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// To what.
    pub on: Subject,
    /// What.
    pub verb: Verb,
    /// Who wants it.
    pub by: String,
    /// Why; empty when not said.
    pub reason: String,
    /// For how long, of a pause; `None`: until it is resumed.
    pub lasting: Option<Duration>,
    /// Which probe, of a pause or resume; `None`: all.
    pub probe: Option<ProbeKind>,
}

/// What an order is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A workload and all of its replicas.
    Workload(String),
    /// A replica, by its name: `web-0`.
    Replica(String),
    /// A target, by its name. Can be paused and resumed only.
    Target(String),
}

impl Subject {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Workload(name) | Self::Replica(name) | Self::Target(name) => name,
        }
    }
}

/// Why an order was not accepted, or a question not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// There is no such replica, workload or target.
    #[error("{0}")]
    NotFound(String),
    /// The order makes no sense for it: a probe it does not have.
    #[error("{0}")]
    NotApplicable(String),
    /// The node takes no orders now: it is shutting down.
    #[error("{0}")]
    Unavailable(String),
}
