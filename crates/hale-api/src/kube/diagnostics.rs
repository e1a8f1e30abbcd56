//! Diagnostics on request (K9, K10, K13).

use std::collections::BTreeMap;

use hale_model::cluster::{DiagnosticsStatus, ResourceHealth};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The body of `POST /api/v1/deployment-objects/{id}/diagnostics`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DiagnosticsRequest {
    /// Who is to collect: an agent's id or name. Needed when several hold the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
}

/// What asking for diagnostics gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiagnosticsAccepted {
    /// What to ask for under `/api/v1/diagnostics/{request_id}`.
    pub request_id: String,
    /// `pending`, or `failed` at once where the agent collects none.
    pub status: DiagnosticsStatus,
    /// From then on neither request nor result is told.
    pub expires_at: Timestamp,
}

/// A request for diagnostics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Diagnostics {
    /// Its id.
    pub request_id: String,
    /// Of which deployment object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_object_id: Option<String>,
    /// Or of which replica or target on a node (K12).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<String>,
    /// Who collects.
    pub agent_id: String,
    /// How far it is.
    pub status: DiagnosticsStatus,
    /// The name of the token that asked.
    pub requested_by: String,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it was last taken.
    pub claimed_at: Option<Timestamp>,
    /// When it came to its end.
    pub completed_at: Option<Timestamp>,
    /// From then on it is not told any more.
    pub expires_at: Timestamp,
    /// Why it failed.
    pub error: Option<String>,
    /// How often it was taken.
    pub claims: u32,
    /// What was collected, once it is: a [`Bundle`], or what a node tells of a replica. Left out of lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<serde_json::Value>,
}

/// The query of `GET /api/v1/diagnostics`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiagnosticsQuery {
    /// Only those with this status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<DiagnosticsStatus>,
    /// Only those of this deployment object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_object_id: Option<String>,
}

/// What `GET /api/v1/agents/{agent_id}/diagnostics/pending` answers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct PendingDiagnostics {
    /// Oldest first.
    pub requests: Vec<PendingRequest>,
}

/// A request that can be taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PendingRequest {
    /// Its id.
    pub id: String,
    /// What to collect of.
    pub deployment_object_id: String,
}

/// The body of `POST /api/v1/diagnostics/{request_id}/result`. At most 8 MiB.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "status", rename_all = "lowercase", deny_unknown_fields)]
pub enum DiagnosticsResult {
    /// It was collected; what of it failed stands in the bundle.
    Completed {
        /// What was collected.
        result: Box<Bundle>,
    },
    /// Nothing was.
    Failed {
        /// Why: `diagnostics_disabled`.
        error: String,
    },
}

/// What was collected of a deployment object (K10). Structured throughout: nothing in it is JSON written as text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bundle {
    /// When.
    pub collected_at: Timestamp,
    /// Its pods.
    #[serde(default)]
    pub pod_statuses: Vec<PodStatus>,
    /// Events of its objects, of what they own, and of creations that failed.
    #[serde(default)]
    pub events: Vec<BundleEvent>,
    /// The last lines of each container, under `pod/container`; of the run before under `pod/container (previous)`.
    #[serde(default)]
    pub log_tails: BTreeMap<String, Vec<String>>,
    /// The manifests' objects.
    #[serde(default)]
    pub resources: Vec<ResourceHealth>,
    /// How collecting went, part by part.
    #[serde(default)]
    pub collection: Vec<Collected>,
}

/// How a pod is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PodStatus {
    /// Its name.
    pub name: String,
    /// Where.
    pub namespace: String,
    /// `Pending`, `Running`, `Succeeded`, `Failed`, `Unknown`.
    pub phase: String,
    /// Its node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Why it is in that phase: `Evicted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// As the cluster tells them.
    pub conditions: Vec<PodCondition>,
    /// Init containers, too.
    pub container_statuses: Vec<ContainerStatus>,
}

/// A condition of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PodCondition {
    /// `Ready`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False`, `Unknown`.
    pub status: String,
    /// In one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// In words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// How a container is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ContainerStatus {
    /// Its name.
    pub name: String,
    /// Whether it is an init container.
    pub init: bool,
    /// Whether it is ready.
    pub ready: bool,
    /// `waiting`, `running`, `terminated`.
    pub state: String,
    /// Why: `CrashLoopBackOff`.
    pub reason: Option<String>,
    /// In words.
    pub message: Option<String>,
    /// Of one that has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// How often it was started again.
    pub restarts: u32,
    /// When it began to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// How its run before ended.
    pub last_state: Option<LastState>,
}

/// How the run before ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LastState {
    /// `terminated`.
    pub state: String,
    /// `OOMKilled`.
    pub reason: Option<String>,
    /// In words.
    pub message: Option<String>,
    /// With which status.
    pub exit_code: Option<i32>,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// An event of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BundleEvent {
    /// `Normal`, `Warning`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `BackOff`.
    pub reason: String,
    /// In words.
    pub message: String,
    /// What it is about: `Pod/default/web-1`.
    pub object: String,
    /// When it was first seen.
    pub first_seen: Option<Timestamp>,
    /// And last.
    pub last_seen: Option<Timestamp>,
    /// How often.
    pub count: u32,
}

/// How collecting a part went: nothing is silently missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Collected {
    /// `pods`, `events`, `logs web-1/app`, `resources`.
    pub part: String,
    /// How it went.
    pub state: CollectedState,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How collecting a part went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CollectedState {
    /// It is there.
    Ok,
    /// There was nothing to collect.
    Empty,
    /// It could not be collected.
    Error,
}
