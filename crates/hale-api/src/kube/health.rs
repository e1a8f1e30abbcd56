//! Health of deployment objects and stacks (K8, K13).

use hale_model::{
    Status,
    cluster::{HealthChange, HealthSummary},
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Entries of one report, at most.
pub const MAX_ENTRIES: usize = 2000;

/// The body of `PATCH /api/v1/agents/{agent_id}/health-status`. Each entry is judged by itself: a bad one does not keep
/// the others from being taken.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct HealthReport {
    /// At most 2000.
    pub deployment_objects: Vec<HealthEntry>,
}

/// How one deployment object is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HealthEntry {
    /// Which.
    pub id: String,
    /// How it is.
    pub status: Status,
    /// What stands behind that. `pods_ready` is at most `pods_total`.
    pub summary: HealthSummary,
    /// When the agent looked. An older one never takes the place of a newer; one that is more than 60 s ahead is taken
    /// as of its receipt.
    pub checked_at: Timestamp,
}

/// What became of a report.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct HealthReportAnswer {
    /// Entries that were taken; those that were older than what is known are among them, and change nothing.
    pub accepted: u32,
    /// Entries that were not, by their place.
    #[serde(default)]
    pub errors: Vec<EntryError>,
    /// Whether the agent's clock is ahead of the server's.
    #[serde(default)]
    pub clock_skew: bool,
}

/// What is wrong with an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EntryError {
    /// Its place in the report, from 0.
    pub index: u32,
    /// Its id, where it has one.
    pub id: Option<String>,
    /// `invalid`, `not_yours` (or there is none), `superseded`.
    pub code: EntryErrorCode,
    /// What is wrong, and what to try.
    pub message: String,
}

/// The kinds of [`EntryError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntryErrorCode {
    /// It is not as it should be.
    Invalid,
    /// It is not of a stack that this agent is given, or there is none.
    NotYours,
    /// Its stack has a newer deployment object.
    Superseded,
}

/// How a deployment object is in the cluster of one agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AgentHealth {
    /// Which agent.
    pub agent_id: String,
    /// Its name.
    pub agent: String,
    /// How it is there.
    pub status: Status,
    /// What stands behind that.
    pub summary: HealthSummary,
    /// When the agent looked; `null`: it has not told yet.
    pub checked_at: Option<Timestamp>,
    /// Since when the status is this.
    pub since: Option<Timestamp>,
    /// Whether the agent is silent: what it last said of the pods stands in `summary`, but is not known to hold.
    pub stale: bool,
    /// Whether the agent's clock is ahead of the server's.
    pub clock_skew: bool,
}

/// An entry of `GET /api/v1/agents/{agent_id}/health-status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReportedHealth {
    /// Which deployment object.
    pub id: String,
    /// How it is.
    pub status: Status,
    /// What stands behind that.
    pub summary: HealthSummary,
    /// When the agent looked.
    pub checked_at: Option<Timestamp>,
    /// Since when the status is this.
    pub since: Timestamp,
    /// Whether the agent is silent.
    pub stale: bool,
    /// Whether the agent's clock is ahead of the server's.
    pub clock_skew: bool,
}

/// What `GET /api/v1/agents/{agent_id}/health-status` answers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ReportedHealths {
    /// By id.
    pub deployment_objects: Vec<ReportedHealth>,
}

/// `?status=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatusQuery {
    /// Only those with this status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
}

/// How a deployment object is: the worst of what the agents say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeploymentHealth {
    /// Which.
    pub deployment_object_id: String,
    /// The stack it is of.
    pub stack: String,
    /// The worst of the agents' (failing, degraded, unknown, healthy); unknown before any has told.
    pub status: Status,
    /// Sums of pods; all conditions and resources.
    pub summary: HealthSummary,
    /// The oldest of the agents'; `null` when one has not told yet.
    pub checked_at: Option<Timestamp>,
    /// Whether an agent is silent.
    pub stale: bool,
    /// Each agent that is given it.
    pub agents: Vec<AgentHealth>,
}

/// How a stack is: its newest deployment object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StackHealth {
    /// Which.
    pub stack_id: String,
    /// Its name.
    pub stack: String,
    /// The worst of its deployment objects; unknown when there is none.
    pub overall_status: Status,
    /// Those that are not superseded.
    pub deployment_objects: Vec<DeploymentHealth>,
}

/// Changes of status, as one agent told them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AgentHistory {
    /// Which agent.
    pub agent_id: String,
    /// Its name.
    pub agent: String,
    /// Oldest first, at most the last 50.
    pub changes: Vec<HealthChange>,
}

/// What `GET /api/v1/deployment-objects/{id}/history` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeploymentHistory {
    /// Which.
    pub deployment_object_id: String,
    /// By agent.
    pub agents: Vec<AgentHistory>,
}
