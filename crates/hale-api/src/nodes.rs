//! Nodes over the API (S6).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What can be done to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeVerb {
    /// No new replicas on it.
    Cordon,
    /// No new ones, and those there are moved elsewhere.
    Drain,
    /// As before.
    Uncordon,
}

impl NodeVerb {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cordon, Self::Drain, Self::Uncordon];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cordon => "cordon",
            Self::Drain => "drain",
            Self::Uncordon => "uncordon",
        }
    }
}

/// The body of `POST /api/v1/nodes/{name}/{verb}`. Everything may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NodeRequest {
    /// Why; stands in the list of nodes.
    pub reason: String,
}
