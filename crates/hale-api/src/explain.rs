//! Why a thing is as it is (H26).

use hale_model::{Status, event::Severity};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The chain of what led to the present state of a replica, workload or target, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// What is explained.
    pub subject: String,
    /// What it is: `replica`, `workload`, `target`.
    pub kind: SubjectKind,
    /// How it is now.
    pub status: Status,
    /// What that means and why, in one line; the status word is not in it.
    pub summary: String,
    /// When this was true.
    pub at: Timestamp,
    /// Oldest first.
    pub steps: Vec<Step>,
    /// What is being held back or waited for, and until when.
    pub pending: Vec<String>,
    /// Why it is where it is, or why it is nowhere (S7); empty where there is nothing to choose from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub placement: Vec<String>,
    /// Of a workload: its replicas, each explained.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<Explanation>,
}

/// What can be explained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubjectKind {
    /// One running instance of a workload.
    Replica,
    /// A named specification and its replicas.
    Workload,
    /// An endpoint that is probed but not run.
    Target,
}

impl SubjectKind {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replica => "replica",
            Self::Workload => "workload",
            Self::Target => "target",
        }
    }
}

/// One link of the chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// When; of several folded into one, the first.
    pub at: Timestamp,
    /// When the last of them was, if several are folded into one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The sort of link.
    pub kind: StepKind,
    /// How much it matters.
    pub severity: Severity,
    /// What happened and why, in one line: `liveness timeout ×3 (3/3)`.
    pub text: String,
    /// The event that says so, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<u64>,
}

/// The sort of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// What checks found.
    Outcome,
    /// What happened.
    Event,
    /// How it is now.
    Now,
}
