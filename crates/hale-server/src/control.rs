//! What the API needs from what is behind it: the cluster, or the node of this process.

use std::{future::Future, pin::Pin, time::Duration};

use futures_util::Stream;
use hale_api::{kube::ResourceUse, logs::LogLine, operation::Verb, outcomes::ProbeHistory};
use hale_model::{
    ProbeKind,
    status::{Overview, WorkloadStatus},
};
use tokio::sync::{mpsc, watch};

/// A future that a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A node or a cluster of them, seen from the API: what is true, and what can be asked.
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

    /// Whether giving this order puts it on the audit record by itself, in the same write as what it changes (S26).
    fn records(&self, order: &Order) -> bool {
        let _ = order;
        false
    }

    /// What a replica printed, oldest first: the last `tail` lines (all that are kept when left out), and with `follow`
    /// what it prints from then on. Its node is asked, at the reader's pace. Without `follow` the stream ends by itself.
    ///
    /// # Errors
    /// When there is no such replica, or its node can't be asked now; within the stream, when reading fails midway.
    fn logs(
        &self,
        replica: String,
        tail: Option<u32>,
        follow: bool,
    ) -> BoxFuture<'_, Result<LogStream, OrderError>>;

    /// The recorded outcomes of a replica or target, probe by probe (H27). Its node is asked. None of anything else.
    ///
    /// # Errors
    /// When its node can't be asked now.
    fn history<'a>(&'a self, subject: &'a str) -> BoxFuture<'a, Result<Vec<ProbeHistory>, OrderError>>;

    /// Why a replica, or each of a workload, is where it is, or why it is nowhere (S7), in sentences; empty where
    /// nothing is placed.
    ///
    /// # Errors
    /// When that can't be told now.
    fn placement<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<String>, OrderError>> {
        let _ = name;
        Box::pin(async { Ok(Vec::new()) })
    }

    /// What the present run of a replica uses; `None` where that is not known, or does not run.
    ///
    /// # Errors
    /// There is no such replica.
    fn resource_use<'a>(
        &'a self,
        replica: &'a str,
    ) -> BoxFuture<'a, Result<Option<ResourceUse>, OrderError>> {
        let _ = replica;
        Box::pin(async { Ok(None) })
    }

    /// Whether what is behind this answers; the error says what does not (`/readyz`).
    fn check(&self) -> BoxFuture<'_, Result<(), String>>;
}

/// What replicas print, in pieces that are never empty.
pub type LogStream = Pin<Box<dyn Stream<Item = Result<Vec<LogLine>, OrderError>> + Send>>;

/// What somebody reads and sends on, as a stream; ends when the sender goes.
#[must_use]
pub fn log_stream(pieces: mpsc::Receiver<Result<Vec<LogLine>, OrderError>>) -> LogStream {
    Box::pin(futures_util::stream::unfold(pieces, |mut pieces| async move {
        Some((pieces.recv().await?, pieces))
    }))
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
    /// From where, for the record; empty when it is not known.
    pub from: String,
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
