//! What is told of everything that runs: the form of `hale status -o json` (C8) and of `GET /api/v1/status`.
//!
//! Field names are a contract: fields are added, never renamed or removed.

use std::collections::BTreeMap;

use hale_health::{Exit, Phase, Reason, Status};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    cluster::{NodeCondition, Scheduling},
    event::TargetOrigin,
};

/// Everything, with one status over all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Overview {
    /// Worst of workloads and targets (H28).
    pub status: Status,
    /// When this was true.
    pub at: Timestamp,
    /// By name.
    pub workloads: Vec<WorkloadStatus>,
    /// By name.
    pub targets: Vec<TargetStatus>,
    /// By name.
    pub nodes: Vec<NodeStatus>,
}

/// One workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkloadStatus {
    /// Its name.
    pub name: String,
    /// By counting its replicas (H28).
    pub status: Status,
    /// Why it is healthy with none ready: `stopped`, `scaled_to_zero`, `completed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Replicas asked for.
    pub desired: u32,
    /// Replicas that are ready.
    pub ready: u32,
    /// Where its service is reached, if it has one: `http://127.0.0.1:8080`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// By ordinal.
    pub replicas: Vec<ReplicaStatus>,
}

/// One replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaStatus {
    /// Workload and ordinal: `web-0`.
    pub name: String,
    /// The status of this replica.
    pub status: Status,
    /// Where it runs.
    pub node: String,
    /// What it is doing.
    pub phase: Phase,
    /// Whether it may receive traffic.
    pub ready: bool,
    /// Whether damping holds it out of traffic (H23).
    pub flapping: bool,
    /// Whether a person paused it (H24).
    pub paused: bool,
    /// Whether a restart that a probe caused is going on (H20).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restarting: bool,
    /// The first hold on what would be done next, if any (H20 and on).
    pub held_by: Option<HoldStatus>,
    /// Its main process.
    pub pid: Option<u32>,
    /// Its address.
    pub address: Option<String>,
    /// Its ports by name.
    pub ports: BTreeMap<String, u16>,
    /// Its container, when a container runs it.
    pub container_id: Option<String>,
    /// `process` or `container`.
    pub runtime: String,
    /// Restarts since it was declared.
    pub restarts: u64,
    /// Restarts that count against the budget now.
    pub restarts_in_window: u32,
    /// How its last run ended.
    pub last_exit: Option<ExitStatus>,
    /// What went wrong last, in one line: `liveness: timeout 3/3`.
    pub last_error: Option<String>,
    /// What the process said of itself (`STATUS=` over the notify socket).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_text: Option<String>,
    /// When this was last heard.
    pub observed_at: Timestamp,
    /// Whether that is too old to be believed.
    pub stale: bool,
    /// When its present run began.
    pub started_at: Option<Timestamp>,
    /// How long its present run lasts.
    pub uptime_seconds: Option<f64>,
    /// When the next start is due, while one waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_start_at: Option<Timestamp>,
    /// The number of its placement.
    pub generation: u64,
    /// The number of its start.
    pub incarnation: u64,
    /// By kind; an absent probe is absent.
    pub probes: BTreeMap<String, ProbeStatus>,
    /// The last change of phase or readiness.
    pub last_transition: Option<TransitionStatus>,
    /// Nodes that are cut off and on which a copy may run on (S9).
    #[serde(default, rename = "possiblyRunningOn", skip_serializing_if = "Vec::is_empty")]
    pub possibly_running_on: Vec<String>,
}

/// What holds an action back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HoldStatus {
    /// `person`, `pause`, `observe`, `observer`, `dependency`, `budget`, `disruption`, `backoff`.
    pub by: String,
    /// Since when.
    pub since: Timestamp,
    /// Until when at the latest, where that is known.
    pub until: Option<Timestamp>,
    /// Why.
    pub reason: String,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExitStatus {
    /// Exit status.
    pub code: Option<i32>,
    /// Signal.
    pub signal: Option<i32>,
    /// Killed for want of memory.
    pub oom: bool,
    /// When.
    pub at: Timestamp,
}

impl ExitStatus {
    /// An exit and when it was.
    #[must_use]
    pub const fn new(exit: Exit, at: Timestamp) -> Self {
        Self { code: exit.code, signal: exit.signal, oom: exit.oom, at }
    }
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProbeStatus {
    /// The verdict through the thresholds; `null`: none yet.
    pub ok: Option<bool>,
    /// Failures in a row.
    pub consecutive_failures: u32,
    /// Successes in a row.
    pub consecutive_successes: u32,
    /// The failure threshold.
    pub failure_threshold: u32,
    /// When it last had an outcome.
    pub last_outcome_at: Option<Timestamp>,
    /// Why it last failed, while its last outcome is a failure.
    pub last_reason: Option<Reason>,
    /// What was seen then.
    pub last_detail: Option<String>,
    /// How long the last check took.
    pub last_duration_ms: Option<f64>,
    /// Checks that could not be made in a row (H10).
    pub prober_errors: u32,
    /// Whether a person paused this probe.
    pub paused: bool,
}

/// A change of phase or readiness.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TransitionStatus {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}

/// One target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TargetStatus {
    /// Its name.
    pub name: String,
    /// Its status.
    pub status: Status,
    /// Since when it has that status.
    pub since: Option<Timestamp>,
    /// Failures in a row.
    pub consecutive_failures: u32,
    /// Why it last failed, while its last outcome is a failure.
    pub last_reason: Option<Reason>,
    /// What was seen then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_detail: Option<String>,
    /// When it last had an outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_outcome_at: Option<Timestamp>,
    /// Whether a person paused it.
    #[serde(default)]
    pub paused: bool,
    /// Checks that could not be made in a row (H10).
    #[serde(default)]
    pub prober_errors: u32,
    /// Of a list: how many targets it has now. Its `last_detail` says why it can't be read, while it can't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<u32>,
    /// Where it comes from.
    #[serde(flatten)]
    pub origin: TargetOrigin,
}

impl TargetStatus {
    /// A target of which nothing is known yet.
    #[must_use]
    pub fn unknown(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            status: Status::Unknown,
            since: None,
            consecutive_failures: 0,
            last_reason: None,
            last_detail: None,
            last_outcome_at: None,
            paused: false,
            prober_errors: 0,
            members: None,
            origin: TargetOrigin::default(),
        }
    }
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Its status.
    pub status: Status,
    /// When it was last heard of.
    pub last_heartbeat_at: Timestamp,
    /// Whether it is heard of (S6).
    #[serde(default)]
    pub condition: NodeCondition,
    /// Whether replicas may be placed on it.
    #[serde(default)]
    pub scheduling: Scheduling,
    /// Replicas that are placed on it.
    #[serde(default)]
    pub replicas: u32,
    /// Of its agent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Where its replicas are reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub region: String,
    /// Empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub zone: String,
    /// By key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// How far its clock is ahead of the server's, where that is known (N8).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_skew_ms: Option<i64>,
}

impl NodeStatus {
    /// A node of which no more than this is known.
    #[must_use]
    pub fn new(name: &str, status: Status, last_heartbeat_at: Timestamp) -> Self {
        Self {
            name: name.to_owned(),
            status,
            last_heartbeat_at,
            condition: NodeCondition::default(),
            scheduling: Scheduling::default(),
            replicas: 0,
            version: String::new(),
            address: None,
            region: String::new(),
            zone: String::new(),
            labels: BTreeMap::new(),
            clock_skew_ms: None,
        }
    }
}
