//! Diagnostics of what runs on nodes: a replica or a target (K12).

use hale_model::{
    event::Event,
    status::{ExitStatus, ReplicaStatus, TargetStatus},
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Collected;
use crate::{logs::LogLine, outcomes::ProbeHistory};

/// What was collected of a replica or target: the result of a request for its diagnostics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaBundle {
    /// When.
    pub collected_at: Timestamp,
    /// Which replica or target.
    pub subject: String,
    /// The node that was asked; none when it is placed nowhere.
    #[serde(default)]
    pub node: Option<String>,
    /// How a replica is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<Box<ReplicaStatus>>,
    /// How a target is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Box<TargetStatus>>,
    /// What its probes saw.
    #[serde(default)]
    pub probes: Vec<ProbeHistory>,
    /// Its last lines, oldest first, secrets masked, without control characters: at most 16 KiB.
    #[serde(default)]
    pub log_tail: Vec<LogLine>,
    /// How its runs ended, oldest first, at most the last 20.
    #[serde(default)]
    pub exits: Vec<ExitStatus>,
    /// What its present run uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceUse>,
    /// The last events about it, oldest first, at most 50; those of restarts hold the forensics taken before each (H25).
    #[serde(default)]
    pub events: Vec<Event>,
    /// How collecting went, part by part: `status`, `probes`, `logs`, `events`, `resources`.
    #[serde(default)]
    pub collection: Vec<Collected>,
}

/// What a replica's present run uses.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResourceUse {
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// Time on processors since it began, seconds.
    pub cpu_seconds: f64,
    /// Its processes.
    pub processes: u32,
}
