//! The probe history of a replica or target: the last hundred outcomes of each probe whole, run lengths before (H27).

use hale_model::{ProbeKind, Reason, report::OutcomeRecord};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The answer of `GET /api/v1/outcomes/{name}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OutcomeHistory {
    /// The replica or target.
    pub subject: String,
    /// By probe.
    pub probes: Vec<ProbeHistory>,
}

/// The history of one probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProbeHistory {
    /// Which; `None` for a target.
    pub probe: Option<ProbeKind>,
    /// The last ones whole, oldest first.
    pub outcomes: Vec<OutcomeRecord>,
    /// All that are kept as run lengths, oldest first; they reach into the ones above.
    pub runs: Vec<OutcomeRun>,
}

/// Outcomes of one kind in a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OutcomeRun {
    /// The start they were made for.
    pub incarnation: u64,
    /// `None`: success.
    pub reason: Option<Reason>,
    /// How many.
    pub count: u64,
    /// When the first of them began.
    pub from: Timestamp,
    /// When the last of them began.
    pub until: Timestamp,
    /// The longest of them took, milliseconds.
    pub slowest_ms: f64,
}
