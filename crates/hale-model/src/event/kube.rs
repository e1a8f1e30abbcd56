//! What is told of deployments in Kubernetes clusters.

use std::collections::BTreeSet;

use hale_health::Status;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cluster::DiagnosticsStatus;

/// The data of `dev.hale.deployment.degraded`, `.failing` and `.recovered`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeploymentChanged {
    /// The stack.
    pub stack: String,
    /// Its id.
    pub stack_id: String,
    /// Its deployment object.
    pub deployment_object_id: String,
    /// The agent of the cluster.
    pub agent: String,
    /// Its id.
    pub agent_id: String,
    /// What was known before; absent: nothing.
    pub from: Option<Status>,
    /// How it is.
    pub to: Status,
    /// Pods that are ready.
    pub pods_ready: u32,
    /// Pods that there should be.
    pub pods_total: u32,
    /// What is the matter.
    pub conditions: BTreeSet<String>,
    /// In one line.
    pub reason: String,
}

/// The data of `dev.hale.diagnostics.completed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiagnosticsCompleted {
    /// The request.
    pub request_id: String,
    /// Of which deployment object.
    pub deployment_object_id: Option<String>,
    /// Or of which replica or target.
    pub replica: Option<String>,
    /// Who collected.
    pub agent_id: String,
    /// Who asked.
    pub requested_by: String,
    /// `completed`, or `failed`.
    pub status: DiagnosticsStatus,
    /// Why it failed.
    pub error: Option<String>,
}
