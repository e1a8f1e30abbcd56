//! Declaring workloads and targets over the API (C10).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The body of `POST /api/v1/apply` as JSON. As YAML the body is a workload file itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    /// What to declare, as workload files have it. All of it or, when anything is wrong, nothing.
    pub documents: Vec<DocumentText>,
    /// Only say what would change.
    #[serde(default, alias = "dryRun")]
    pub dry_run: bool,
}

/// The text of a workload file, or of one document of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DocumentText {
    /// YAML or JSON.
    pub text: String,
    /// Where its relative paths begin on the nodes: an absolute path; `/` when left out.
    #[serde(default = "root")]
    pub dir: String,
    /// What it is called in errors: the file's name.
    #[serde(default)]
    pub origin: String,
}

fn root() -> String {
    "/".to_owned()
}

/// The query of `POST /api/v1/apply`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ApplyQuery {
    /// Only say what would change.
    #[serde(alias = "dryRun", skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// What came of a declaration, durable when it is told (C10).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Applied {
    /// One for each thing that was declared or deleted, in that order.
    pub applied: Vec<AppliedItem>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AppliedItem {
    /// `Workload` or `Target`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What it meant.
    pub change: AppliedChange,
}

/// What a declaration meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AppliedChange {
    /// It was not there.
    Created,
    /// It was there, and was another.
    Updated,
    /// It was there already, just so.
    Unchanged,
    /// It was taken away.
    Deleted,
}

impl AppliedChange {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
            Self::Deleted => "deleted",
        }
    }
}

/// The body of `POST /api/v1/workloads/{name}/scale`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScaleRequest {
    /// How many replicas are wanted.
    pub replicas: u32,
}
