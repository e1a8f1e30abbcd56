//! The probe history of a replica or target: the last hundred outcomes of each probe whole, run lengths before (H27), and
//! availability and durations over thirty days.

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
    /// Availability and durations over days: for each day since 1970 the text of its buckets, as
    /// [`hale_model::series::text`] reads it. Between servers and nodes only; people ask for a [`History`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub series: Vec<(u64, String)>,
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

/// What `GET /api/v1/targets/{name}/history` may be asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryQuery {
    /// How far back `points` go: 1h, 24h, 7d or 30d. 24h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
}

/// Availability and durations of a replica's or target's checks over days.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct History {
    /// The replica or target.
    pub subject: String,
    /// By probe.
    pub probes: Vec<ProbeSeries>,
}

/// Of one probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProbeSeries {
    /// Which; `None` for a target.
    pub probe: Option<ProbeKind>,
    /// The last hour, day, week and thirty days.
    pub windows: Vec<WindowSummary>,
    /// The window that was asked for, oldest first: five minutes each, and an hour each before yesterday. Those in which
    /// nothing was checked are left out.
    pub points: Vec<HistoryPoint>,
}

/// What became of the checks of a stretch of time that ends now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WindowSummary {
    /// `1h`, `24h`, `7d` or `30d`.
    pub window: String,
    /// The checks.
    #[serde(flatten)]
    pub checks: CheckSummary,
    /// Spells of failure that began.
    pub incidents: u64,
    /// From the first failure to the threshold, on average; `None`: no spell began.
    pub detect_seconds: Option<f64>,
    /// From the first failure to the recovery, on average; `None`: no spell ended.
    pub recover_seconds: Option<f64>,
}

/// A piece of the history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryPoint {
    /// When it begins.
    pub from: Timestamp,
    /// How long it is.
    pub seconds: u64,
    /// The checks.
    #[serde(flatten)]
    pub checks: CheckSummary,
}

/// Checks, added up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CheckSummary {
    /// The share of the known time (0 to 1) that the checks succeeded. `None`: nothing is known.
    pub availability: Option<f64>,
    /// Checks that succeeded.
    pub successes: u64,
    /// Checks that failed.
    pub failures: u64,
    /// Checks that could not be made.
    pub errors: u64,
    /// What half of the successes did not take longer than, milliseconds; within 6.25 %.
    pub p50_ms: Option<f64>,
    /// As `p50_ms`, of 95 %.
    pub p95_ms: Option<f64>,
    /// As `p50_ms`, of 99 %.
    pub p99_ms: Option<f64>,
}
