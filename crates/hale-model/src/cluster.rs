//! What a server keeps of a cluster: nodes, what is wanted, what was placed where, and what was seen of it.
//!
//! These are the records of the database and what placement decides over. Each has one writer: desired state is
//! people's, nodes and placements are the server's that holds the lease, sessions and observations are the server's
//! that the node is connected to.

mod access;
mod kube;
mod session;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use hale_health::{Phase, ProbeKind, Status};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    document::Document,
    status::{ExitStatus, TransitionStatus},
};

pub use access::{DeadDelivery, Replay, Role, TokenRecord, WebhookCursor, WebhookRecord};
pub use kube::{
    DeploymentObjectRecord, DiagnosticsRecord, DiagnosticsStatus, HealthChange, HealthSummary,
    KubeAgentRecord, KubeMode, KubeSeenRecord, ObjectHealthRecord, ResourceHealth, StackRecord,
};
pub use session::{SessionRecord, SessionState};

/// A workload that is wanted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkloadRecord {
    /// Its name.
    pub name: String,
    /// What is declared.
    pub document: Document,
    /// Who declared it.
    pub owner: Owner,
    /// The declaration before this one, to go back to when this one does not come up (S11).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Document>,
    /// The digest that was taken back because it did not come up, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<RolledBack>,
    /// Asked to be stopped by a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Intent>,
    /// Replicas that a person stopped, by ordinal.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stopped_replicas: BTreeMap<u32, Intent>,
    /// Pauses by persons (H24).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pauses: Vec<PauseRecord>,
    /// When it was last declared.
    pub applied_at: Timestamp,
    /// By whom.
    pub applied_by: String,
    /// Whether its number of replicas is that of the containers that were found, since none was declared (N5).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopts_all: bool,
}

/// An update that was taken back (S11).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolledBack {
    /// The digest that did not come up.
    pub digest: String,
    /// When it was taken back.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}

/// Who declared something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// The files of `hale up`: what is not in them any more goes (N19).
    Up,
    /// The API: it stays until it is deleted.
    Api,
}

/// What a person wants, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub at: Timestamp,
}

/// A pause (H24).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseRecord {
    /// One replica; all when absent.
    pub ordinal: Option<u32>,
    /// One probe; everything when absent.
    pub probe: Option<ProbeKind>,
    /// Until when; until resumed when absent.
    pub until: Option<Timestamp>,
    /// Who, why and since when.
    pub intent: Intent,
}

/// A target that is wanted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetRecord {
    /// Its name.
    pub name: String,
    /// What is declared.
    pub document: Document,
    /// Who declared it.
    pub owner: Owner,
    /// The node that probes it now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Pauses by persons.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pauses: Vec<PauseRecord>,
    /// When it was last declared.
    pub applied_at: Timestamp,
    /// By whom.
    pub applied_by: String,
}

/// A machine on which an agent runs, as it registered, and what is thought of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its name.
    pub name: String,
    /// What it told of itself.
    pub facts: NodeFacts,
    /// Whether replicas may be placed on it.
    pub scheduling: Scheduling,
    /// Who said so, when a person did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling_by: Option<Intent>,
    /// Whether it is heard of (S6).
    pub condition: NodeCondition,
    /// Since when.
    pub condition_since: Timestamp,
    /// When it first registered.
    pub joined_at: Timestamp,
    /// Workloads that failed on it, each with the sum of its failures as of a time, which decays (S7).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failures: BTreeMap<String, FailureMemory>,
}

/// What a node told of itself.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct NodeFacts {
    /// Its release.
    pub version: String,
    /// By key.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Empty: none.
    #[serde(default)]
    pub region: String,
    /// Empty: none.
    #[serde(default)]
    pub zone: String,
    /// CPUs; 0: unknown, not counted.
    #[serde(default)]
    pub cpu: f64,
    /// Bytes of memory; 0: unknown, not counted.
    #[serde(default)]
    pub memory: u64,
    /// Bytes of disk.
    #[serde(default)]
    pub disk: u64,
    /// `process`, `container`.
    #[serde(default)]
    pub runtimes: BTreeSet<String>,
    /// Features of workload files that its agent knows (S7).
    #[serde(default)]
    pub features: BTreeSet<String>,
    /// Where its replicas are reached.
    pub address: Option<IpAddr>,
}

/// Failures of a workload on a node.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FailureMemory {
    /// How many, as of `at`.
    pub weight: f64,
    /// When.
    pub at: Timestamp,
}

/// Whether replicas may be placed on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scheduling {
    /// They may.
    #[default]
    Open,
    /// No new ones.
    Cordoned,
    /// No new ones, and those there are moved elsewhere.
    Draining,
}

/// Whether a node is heard of (S6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NodeCondition {
    /// It is.
    #[default]
    Ready,
    /// It missed two beats.
    Suspect,
    /// It missed three, or its server's lease ran out.
    Lost,
    /// It said that it goes, and comes back.
    Away,
}

impl NodeCondition {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Suspect => "suspect",
            Self::Lost => "lost",
            Self::Away => "away",
        }
    }
}

/// One replica on one node: a number that fences (S9).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementRecord {
    /// Unique in the cluster, rising. A record is never changed to another replica or node.
    pub generation: u64,
    /// Of this workload.
    pub workload: String,
    /// Which replica of it.
    pub ordinal: u32,
    /// Where.
    pub node: String,
    /// The declaration it runs by.
    pub digest: String,
    /// What is wanted of it.
    pub state: PlacementState,
    /// When it was made.
    pub placed_at: Timestamp,
    /// Why it is here: what spoke for this node.
    pub reason: String,
    /// The generation whose place it takes, while that one lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<u64>,
    /// What made it be placed.
    #[serde(default)]
    pub cause: PlacementCause,
    /// How often in a row this replica was moved because it failed (S8): the wait until the next move.
    #[serde(default)]
    pub moves: u32,
    /// Generations that were here before it and whose instance runs on under this one (S9): whichever of them the
    /// node still has becomes this one, without a restart. Oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub continues: Vec<u64>,
    /// So many milliseconds after its node was last heard of the node has stopped it for certain, and only then another
    /// may be started (S9, `stopAfter`); absent: it may run on without end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence_ms: Option<u64>,
}

/// What made a replica be placed.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum PlacementCause {
    /// There was none of it.
    #[default]
    Wanted,
    /// The node it was on is lost (S6).
    NodeLost,
    /// It was given up where it was (S8).
    Failed,
    /// It was not well for longer than its progress deadline (S8).
    Unhealthy,
    /// The node it was on is drained (S6).
    NodeDrained,
    /// Its declaration changed (S11).
    Updated,
    /// Its instance runs on: its node came back, was heard of under an older generation, or only what needs no new
    /// instance has changed.
    Continued,
}

impl PlacementCause {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wanted => "wanted",
            Self::NodeLost => "node_lost",
            Self::Failed => "failed",
            Self::Unhealthy => "unhealthy",
            Self::NodeDrained => "node_drained",
            Self::Updated => "updated",
            Self::Continued => "continued",
        }
    }
}

impl PlacementRecord {
    /// Whether it is wanted that it runs.
    #[must_use]
    pub fn wanted(&self) -> bool {
        self.state == PlacementState::Wanted
    }
}

/// What is wanted of a placement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum PlacementState {
    /// That it runs.
    Wanted,
    /// That it drains and stops; the record goes when the node says that it is gone.
    Withdrawn {
        /// Since when.
        at: Timestamp,
        /// Why.
        reason: String,
    },
}

/// What its node last said of a placement, as durable as transitions are (S2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ObservedRecord {
    /// Which placement.
    pub generation: u64,
    /// Of this workload.
    pub workload: String,
    /// Which replica of it.
    pub ordinal: u32,
    /// Where.
    pub node: String,
    /// The declaration it ran by.
    pub digest: String,
    /// The number of its start.
    pub incarnation: u64,
    /// What it is doing.
    pub phase: Phase,
    /// Whether it may receive traffic.
    pub ready: bool,
    /// Whether it runs.
    pub serving: bool,
    /// Whether it is on its way out.
    pub draining: bool,
    /// Whether only damping keeps it out of traffic.
    pub damped: bool,
    /// Whether a restart caused by a probe is going on (H20).
    pub restarting: bool,
    /// Its status.
    pub status: Status,
    /// Since when its phase and readiness are these.
    pub since: Timestamp,
    /// `process` or `container`.
    pub runtime: String,
    /// Its main process.
    pub pid: Option<u32>,
    /// Its container.
    pub container_id: Option<String>,
    /// Where it is reached.
    pub address: Option<IpAddr>,
    /// By name.
    pub ports: BTreeMap<String, u16>,
    /// When its run began.
    pub started_at: Option<Timestamp>,
    /// Restarts since it was placed.
    pub restarts: u64,
    /// How its last run ended.
    pub last_exit: Option<ExitStatus>,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// The last change of phase or readiness.
    pub last_transition: Option<TransitionStatus>,
    /// Orders the reports of it (N8).
    pub version: u64,
}

/// Something asked of a node by way of the database, because another server has its session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRecord {
    /// A random id.
    pub id: String,
    /// Of this node.
    pub node: String,
    /// `restart`, `stop`, `start`, `pause`, `resume`.
    pub verb: String,
    /// A replica or target.
    pub name: String,
    /// The generation it is meant for; 0: whatever is there.
    pub generation: u64,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// One probe.
    pub probe: Option<ProbeKind>,
    /// Of a pause.
    pub lasting_ms: Option<u64>,
    /// When it was given.
    pub at: Timestamp,
    /// The server that carries it out: no other does, and it does so once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_by: Option<String>,
    /// What came of it, once it has.
    pub result: Option<OrderResult>,
}

/// What came of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum OrderResult {
    /// It was accepted.
    Done,
    /// It was not.
    Refused {
        /// `not_found`, `not_applicable`, `unavailable`.
        code: String,
        /// Why.
        detail: String,
    },
}

/// A server of the cluster, beside its lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRecord {
    /// The name of its lease: random, one per start.
    pub name: String,
    /// Where others reach its API: a URL.
    pub url: String,
    /// Its release.
    pub version: String,
    /// When it started.
    pub started_at: Timestamp,
}

/// The cluster as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRecord {
    /// A random id.
    pub id: String,
    /// Rises when the database was restored from a backup (S5).
    pub epoch: u64,
    /// The last generation that was given.
    pub last_generation: u64,
    /// The last session that was granted.
    pub last_session: u64,
    /// Generations below may have been given after the backup that the database was restored from: what a node reports
    /// under one of them is taken in (S5). Zero: it was never restored.
    #[serde(default)]
    pub adoptable_below: u64,
}
