//! What a server keeps of Kubernetes: stacks of deployment objects, the agents of clusters, how things are there, and
//! requests for diagnostics (K1, K8, K9).
//!
//! What is large (manifests, bundles) is kept beside the records under their names, so that it does not travel to every
//! server with each change.

use std::collections::{BTreeMap, BTreeSet};

use hale_health::Status;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A line of deployment objects: the newest of them is what is wanted (K1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackRecord {
    /// A random id.
    pub id: String,
    /// A DNS label, unique among stacks.
    pub name: String,
    /// What agents match by.
    pub labels: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// The number of its newest deployment object; 0: it has had none.
    pub last_sequence: u64,
    /// Its deployment objects that are kept, oldest first: the last one is current, those before it are superseded.
    pub objects: Vec<String>,
}

impl StackRecord {
    /// The id of its newest deployment object.
    #[must_use]
    pub fn current(&self) -> Option<&str> {
        self.objects.last().map(String::as_str)
    }
}

/// One immutable set of manifests (K1). Their text is kept beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentObjectRecord {
    /// A random id.
    pub id: String,
    /// Of this stack.
    pub stack_id: String,
    /// Rises within its stack.
    pub sequence: u64,
    /// SHA-256 of the manifests' text, in hex.
    pub checksum: String,
    /// Bytes of text.
    pub size: u64,
    /// Whether it ends the stack: what was applied of it is to go.
    pub deletion_marker: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
}

/// Whether an agent changes its cluster (K1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KubeMode {
    /// It applies the manifests that it is given, and prunes what is not in them any more.
    #[default]
    Apply,
    /// It only finds what is there.
    Observe,
}

impl KubeMode {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Observe => "observe",
        }
    }
}

/// The agent of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubeAgentRecord {
    /// A random id.
    pub id: String,
    /// The name its token is for; unique.
    pub name: String,
    /// In words of people.
    pub labels: BTreeMap<String, String>,
    /// Whether it changes its cluster.
    pub mode: KubeMode,
    /// Stacks that it is given, by name.
    pub stacks: BTreeSet<String>,
    /// It is given stacks with all of these labels, too; empty: none by labels.
    pub match_labels: BTreeMap<String, String>,
    /// Whether a person said which mode and stacks: what the agent says of itself does not change them then.
    #[serde(default)]
    pub assigned: bool,
    /// Its release.
    pub version: String,
    /// Whether it watches health.
    pub health_enabled: bool,
    /// Whether it collects diagnostics.
    pub diagnostics_enabled: bool,
    /// It reports at least so often.
    pub check_interval_seconds: u32,
    /// It is silent when nothing was heard for so long.
    pub stale_after_seconds: u32,
    /// When it first registered.
    pub registered_at: Timestamp,
}

impl KubeAgentRecord {
    /// Whether it is given a stack: named, or all labels that it asks for are there (K1).
    #[must_use]
    pub fn is_given(&self, stack: &StackRecord) -> bool {
        let labelled = |(key, value): (&String, &String)| stack.labels.get(key) == Some(value);
        self.stacks.contains(&stack.name)
            || (!self.match_labels.is_empty() && self.match_labels.iter().all(labelled))
    }
}

/// When an agent was last heard, and what it looked at when: small, because it is written with every report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubeSeenRecord {
    /// Which agent.
    pub agent_id: String,
    /// When it was last heard, by the database's clock. Written at most once in a third of its `staleAfter`, unless
    /// there is something else to write.
    pub last_seen: Timestamp,
    /// When its objects were looked at last, where that is later than their own record says: microseconds since 1970.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub checked: BTreeMap<String, i64>,
    /// Whether its silence was told already.
    #[serde(default)]
    pub silent: bool,
}

/// What stands behind the status of a deployment object (K4).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct HealthSummary {
    /// Pods that are ready.
    #[serde(default)]
    pub pods_ready: u32,
    /// Pods that there should be.
    #[serde(default)]
    pub pods_total: u32,
    /// What is the matter, sorted, each once: `CrashLoopBackOff`. An open list.
    #[serde(default)]
    pub conditions: BTreeSet<String>,
    /// The manifests' objects, one by one.
    #[serde(default)]
    pub resources: Vec<ResourceHealth>,
}

/// One object of a set of manifests.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ResourceHealth {
    /// `Deployment`. An open list.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Where it is; absent for what is in no namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Whether it is as it should be.
    pub ready: bool,
    /// Why not, or how far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How a deployment object is in the cluster of one agent (K8).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectHealthRecord {
    /// Which agent says so.
    pub agent_id: String,
    /// Of which object.
    pub object_id: String,
    /// The stack of the object.
    pub stack_id: String,
    /// How it is.
    pub status: Status,
    /// What stands behind that.
    pub summary: HealthSummary,
    /// When the agent looked; absent: it has not told yet.
    pub checked_at: Option<Timestamp>,
    /// Whether the agent's clock is ahead: `checked_at` is when it was received then (K13).
    #[serde(default)]
    pub clock_skew: bool,
    /// Since when the status is this.
    pub since: Timestamp,
    /// The last status that an event told, while it was a bad one: what `recovered` answers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<Status>,
    /// Changes of status, newest last, at most 50.
    #[serde(default)]
    pub history: Vec<HealthChange>,
}

/// A change of status (K8).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HealthChange {
    /// When.
    pub at: Timestamp,
    /// From which; absent: nothing was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Status>,
    /// To which.
    pub to: Status,
    /// Why.
    pub why: String,
}

/// How far a request for diagnostics is (K9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DiagnosticsStatus {
    /// Nobody has taken it yet.
    Pending,
    /// Its agent collects.
    Claimed,
    /// There is a result.
    Completed,
    /// There is none, and there will be none.
    Failed,
}

impl DiagnosticsStatus {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Claimed, Self::Completed, Self::Failed];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Claimed => "claimed",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    /// Whether nothing more comes of it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

/// A request for diagnostics (K9). Its result is kept beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiagnosticsRecord {
    /// A random id.
    pub id: String,
    /// Of this deployment object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_id: Option<String>,
    /// Or of this replica or target on a node (K12).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<String>,
    /// Who collects: the agent of a cluster; for a replica, its node.
    pub agent_id: String,
    /// How far it is.
    pub status: DiagnosticsStatus,
    /// The name of the token that asked.
    pub requested_by: String,
    /// When it was asked for, by the database's clock, like all its times.
    pub created_at: Timestamp,
    /// When it was last taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed_at: Option<Timestamp>,
    /// When it came to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Timestamp>,
    /// From then on it is not told any more.
    pub expires_at: Timestamp,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How often it was taken.
    #[serde(default)]
    pub claims: u32,
    /// SHA-256 of what was posted, in hex: the same once more is no mistake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}
