//! What is kept of replicas and of people's writes.

use hale_model::{
    Phase,
    status::{ExitStatus, TransitionStatus},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What is known of a replica, over restarts of hale: what its events add up to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplicaRecord {
    /// Workload and ordinal: `web-0`.
    pub name: String,
    /// Its workload.
    pub workload: String,
    /// Where it runs, or last ran.
    pub node: String,
    /// The number of its placement.
    pub generation: u64,
    /// The number of its last start.
    pub incarnation: u64,
    /// What it was doing last.
    pub phase: Phase,
    /// Whether it was ready.
    pub ready: bool,
    /// Restarts since it was declared.
    pub restarts: u64,
    /// Its main process, while it had one.
    pub pid: Option<u32>,
    /// Its container, while it had one.
    pub container_id: Option<String>,
    /// When its last run began.
    pub started_at: Option<Timestamp>,
    /// How its last run that ended did so.
    pub last_exit: Option<ExitStatus>,
    /// What went wrong last, in one line.
    pub last_error: Option<String>,
    /// The last change of phase or readiness.
    pub last_transition: Option<TransitionStatus>,
}

/// A write by a person or token (S26).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: String,
    /// What: `restart`, `pause`, …
    pub action: String,
    /// To what: `workloads/web`.
    pub subject: String,
    /// What else was said: the reason, the duration.
    pub detail: String,
}
