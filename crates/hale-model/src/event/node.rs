//! What is told about workloads, targets and nodes.

use hale_health::Reason;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The data of `dev.hale.workload.applied`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkloadApplied {
    /// `created`, `updated`, `deleted`.
    pub change: String,
    /// Replicas asked for.
    pub replicas: u32,
}

/// The data of `dev.hale.target.probe_failed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TargetProbeFailed {
    /// Failures in a row.
    pub consecutive_failures: u32,
    /// The HTTP status; 0 where no HTTP answer came.
    pub last_status: u16,
    /// The typed reason.
    pub last_reason: Reason,
    /// What was seen.
    pub last_error: String,
}

/// The data of `dev.hale.target.probe_recovered`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TargetProbeRecovered {
    /// The whole streak.
    pub prior_failure_count: u32,
    /// Seconds since the first failure.
    pub down_for: f64,
}

/// The data of `dev.hale.target.paused`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TargetPaused {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Until when.
    pub until: Option<Timestamp>,
}

/// The data of `dev.hale.target.resumed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TargetResumed {
    /// Who, or `expired`.
    pub by: String,
}

/// The data of `dev.hale.node.started`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeStarted {
    /// Its version.
    pub version: String,
}

/// The data of `dev.hale.node.stopping`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeStopping {
    /// Why.
    pub reason: String,
}

/// The data of `dev.hale.node.observer_suspect`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeObserverSuspect {
    /// Probes that fail.
    pub failing: u32,
    /// Probes that were healthy.
    pub probes: u32,
    /// `self_well` or `self_suspect`, and why.
    pub verdict: String,
}
