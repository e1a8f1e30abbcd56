//! What is told about workloads, targets and nodes.

use std::collections::BTreeMap;

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
    /// When the first of the failures began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Tells this target from one of the same name that asks something else: the digest of what was declared.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub declaration: String,
    /// Where it comes from.
    #[serde(flatten)]
    pub about: TargetOrigin,
}

/// Where a target comes from that is an entry of a list (N12). All of it is empty for one that was declared by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct TargetOrigin {
    /// The target that has the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<String>,
    /// The replica that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<String>,
    /// The container that the replica runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// Labels of the entry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// The data of `dev.hale.target.probe_recovered`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TargetProbeRecovered {
    /// The whole streak.
    pub prior_failure_count: u32,
    /// Seconds since the first failure.
    pub down_for: f64,
    /// Where it comes from.
    #[serde(flatten)]
    pub about: TargetOrigin,
}

/// The data of `dev.hale.target.forgotten`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TargetForgotten {
    /// Why.
    pub reason: String,
    /// Where it came from.
    #[serde(flatten)]
    pub about: TargetOrigin,
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
