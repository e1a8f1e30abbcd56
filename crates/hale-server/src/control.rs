//! What the API needs from the node behind it. The one who wires the parts together implements it.

use std::{future::Future, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use hale_api::operation::Verb;
use hale_model::{
    ProbeKind,
    spec::Rollout,
    status::{Overview, ReplicaStatus},
};

/// A future that a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A node, seen from the API: what is true on it, and what can be asked of it.
pub trait Control: Send + Sync + 'static {
    /// What is true now, everything sorted (C12). Asked often: a snapshot, not a round of questions.
    fn overview(&self) -> Arc<Overview>;

    /// One replica as it is now; `None`: no such replica. Asked several times a second while a rolling restart waits.
    fn replica(&self, name: &str) -> Option<ReplicaStatus> {
        let overview = self.overview();
        overview.workloads.iter().flat_map(|it| &it.replicas).find(|it| it.name == name).cloned()
    }

    /// The times of a rolling restart of a workload; `None`: no such workload.
    fn rollout(&self, workload: &str) -> Option<Rollout>;

    /// Gives an order. Completes once it is accepted, not once it is carried out: a restart shows in
    /// [`Self::replica`] as a higher incarnation, a stop as its phase.
    ///
    /// # Errors
    /// When there is no such thing, the order makes no sense for it, or the node can't take orders now.
    fn order(&self, order: Order) -> BoxFuture<'_, Result<(), OrderError>>;

    /// Where the output of a replica is kept, newest file first; empty when there is none.
    fn log_files(&self, replica: &str) -> Vec<PathBuf>;

    /// Whether the runtime answers; the error says what does not (`/readyz`).
    fn check(&self) -> BoxFuture<'_, Result<(), String>>;
}

/// What a person wants done, to one replica or target.
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
    /// A replica, by its name: `web-0`.
    Replica(String),
    /// A target, by its name.
    Target(String),
}

impl Subject {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Replica(name) | Self::Target(name) => name,
        }
    }
}

/// Why an order was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// There is no such replica or target.
    #[error("there is no {0}")]
    NotFound(String),
    /// The order makes no sense for it: a target can't be restarted.
    #[error("{0}")]
    NotApplicable(String),
    /// The node takes no orders now: it is shutting down.
    #[error("{0}")]
    Unavailable(String),
}
