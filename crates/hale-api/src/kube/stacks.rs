//! Stacks and deployment objects (K1).

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The body of `POST /api/v1/stacks`. A stack of the same name and labels is found rather than made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StackRequest {
    /// Its name: a DNS label.
    pub name: String,
    /// What agents match by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// The body of `PATCH /api/v1/stacks/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StackPatch {
    /// All its labels from now on.
    pub labels: BTreeMap<String, String>,
}

/// A stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stack {
    /// A random id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What agents match by.
    pub labels: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// Its newest deployment object.
    pub current: Option<String>,
    /// Agents that are given it, by name.
    #[serde(default)]
    pub agents: Vec<String>,
}

/// The body of `POST /api/v1/stacks/{id}/deployment-objects`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeploymentObjectRequest {
    /// Manifests, one document after the other. Of a deletion marker it may be empty.
    pub yaml: String,
    /// Whether it ends the stack: what was applied of it is to go.
    pub deletion_marker: bool,
}

/// A deployment object: one immutable set of manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeploymentObject {
    /// A random id.
    pub id: String,
    /// Of this stack.
    pub stack_id: String,
    /// The name of that stack.
    pub stack: String,
    /// Rises within its stack.
    pub sequence: u64,
    /// The manifests; left out of lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yaml: Option<String>,
    /// SHA-256 of the manifests' text, in hex.
    pub checksum: String,
    /// Whether it ends the stack.
    pub deletion_marker: bool,
    /// Whether it is the newest of its stack; older ones are superseded.
    pub current: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
}
