//! What is told about replicas.

use hale_health::{ProbeKind, Reason, RestartCause};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Instance;
use crate::status::{ExitStatus, HoldStatus};

/// The data of `dev.hale.replica.starting`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaStarting {
    /// Which run of which replica.
    #[serde(flatten)]
    pub instance: Instance,
    /// Why: `declared`, `restart`, `person`, …
    pub reason: String,
    /// Restarts so far.
    pub restarts: u64,
}

/// The data of `dev.hale.replica.running`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaRunning {
    /// Which run of which replica.
    #[serde(flatten)]
    pub instance: Instance,
    /// Why.
    pub reason: String,
    /// From spawn to here.
    pub startup_seconds: f64,
}

/// The data of `dev.hale.replica.ready`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaReady {
    /// Which run of which replica.
    #[serde(flatten)]
    pub instance: Instance,
    /// Why.
    pub reason: String,
    /// How long it was not ready, where that is known.
    pub not_ready_seconds: Option<f64>,
}

/// The data of `dev.hale.replica.not_ready`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaNotReady {
    /// Which run of which replica.
    #[serde(flatten)]
    pub instance: Instance,
    /// Why: `readiness: timeout 3/3`, `exit`, `stopping`, …
    pub reason: String,
    /// The typed reason, when a probe said so.
    pub probe_reason: Option<Reason>,
    /// Failures in a row.
    pub consecutive_failures: u32,
    /// How many it takes.
    pub failure_threshold: u32,
}

/// The data of `dev.hale.replica.unhealthy`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaUnhealthy {
    /// Which run of which replica.
    #[serde(flatten)]
    pub instance: Instance,
    /// Which probe.
    pub probe: ProbeKind,
    /// The typed reason of the last failure.
    pub probe_reason: Reason,
    /// What was seen.
    pub detail: String,
    /// Failures in a row.
    pub consecutive_failures: u32,
    /// How many it takes.
    pub failure_threshold: u32,
    /// When the first of them began.
    pub first_failure_at: Timestamp,
}

/// The data of `dev.hale.replica.recovered`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaRecovered {
    /// Which run of which replica.
    #[serde(flatten)]
    pub instance: Instance,
    /// Which probe.
    pub probe: ProbeKind,
    /// How long the streak was.
    pub prior_failure_count: u32,
    /// How long it lasted.
    pub down_seconds: f64,
}

/// The data of `dev.hale.replica.exited`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaExited {
    /// Which run of which replica.
    #[serde(flatten)]
    pub instance: Instance,
    /// How.
    pub exit: ExitStatus,
    /// Whether hale was stopping it.
    pub expected: bool,
    /// How long it ran.
    pub uptime_seconds: f64,
}

/// The data of `dev.hale.replica.restarting`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaRestarting {
    /// Which run of which replica.
    #[serde(flatten)]
    pub instance: Instance,
    /// The chain in one line.
    pub reason: String,
    /// The kind of cause.
    pub cause: RestartCause,
    /// With this one.
    pub restarts_in_window: u32,
    /// The budget.
    pub max_restarts: u32,
    /// The wait before the start.
    pub backoff_seconds: f64,
}

/// The data of `dev.hale.replica.restarted`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaRestarted {
    /// Which run of which replica.
    #[serde(flatten)]
    pub instance: Instance,
    /// The chain in one line.
    pub reason: String,
    /// The kind of cause.
    pub cause: RestartCause,
    /// Restarts so far.
    pub restarts: u64,
    /// With this one.
    pub restarts_in_window: u32,
    /// The budget.
    pub max_restarts: u32,
    /// From the end of the old instance to here.
    pub down_seconds: f64,
    /// What the old instance was doing.
    pub forensics: Option<Box<Forensics>>,
}

/// The data of `dev.hale.replica.restart_succeeded`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaRestartSucceeded {
    /// Which run of which replica.
    #[serde(flatten)]
    pub instance: Instance,
    /// The minimum uptime.
    pub min_uptime_seconds: f64,
}

/// The data of `dev.hale.replica.restart_failed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaRestartFailed {
    /// Which run of which replica.
    #[serde(flatten)]
    pub instance: Instance,
    /// Why.
    pub reason: String,
    /// How long it ran.
    pub uptime_seconds: f64,
    /// Failed restarts in a row.
    pub failed_in_a_row: u32,
}

/// The data of `dev.hale.replica.held`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaHeld {
    /// Which run of which replica.
    #[serde(flatten)]
    pub instance: Instance,
    /// What would be done: `restart`, `start`, `gate`.
    pub action: String,
    /// What holds it.
    pub hold: HoldStatus,
}

/// The data of `dev.hale.replica.released`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaReleased {
    /// Which run of which replica.
    #[serde(flatten)]
    pub instance: Instance,
    /// What was held.
    pub action: String,
    /// What had held it.
    pub by: String,
    /// How long.
    pub held_seconds: f64,
    /// What happens now: `done`, `dissolved`, …
    pub outcome: String,
}

/// The data of `dev.hale.replica.failed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaFailed {
    /// Which run of which replica.
    #[serde(flatten)]
    pub instance: Instance,
    /// Why.
    pub reason: String,
    /// The last reasons, newest last.
    pub last_reasons: Vec<String>,
    /// How to bring it back.
    pub hint: String,
    /// Whether it was given up because the restart budget was used up.
    #[serde(default)]
    pub budget_exhausted: bool,
}

/// The data of `dev.hale.replica.stopped`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaStopped {
    /// Which run of which replica.
    #[serde(flatten)]
    pub instance: Instance,
    /// Why.
    pub reason: String,
    /// How it ended.
    pub exit: Option<ExitStatus>,
}

/// The data of `dev.hale.replica.stop_failed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaStopFailed {
    /// Which run of which replica.
    #[serde(flatten)]
    pub instance: Instance,
    /// What is left.
    pub detail: String,
}

/// The data of `dev.hale.replica.flapping`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaFlapping {
    /// Which run of which replica.
    #[serde(flatten)]
    pub instance: Instance,
    /// The penalty.
    pub penalty: f64,
    /// Above this one it is held out.
    pub suppress: f64,
}

/// The data of `dev.hale.replica.flapping_ended`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaFlappingEnded {
    /// Which run of which replica.
    #[serde(flatten)]
    pub instance: Instance,
    /// The penalty.
    pub penalty: f64,
    /// How long it was held out.
    pub held_seconds: f64,
}

/// The data of `dev.hale.replica.paused`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaPaused {
    /// Which run of which replica.
    #[serde(flatten)]
    pub instance: Instance,
    /// Which probe; all when absent.
    pub probe: Option<ProbeKind>,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Until when.
    pub until: Option<Timestamp>,
}

/// The data of `dev.hale.replica.resumed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaResumed {
    /// Which run of which replica.
    #[serde(flatten)]
    pub instance: Instance,
    /// Which probe; all when absent.
    pub probe: Option<ProbeKind>,
    /// Who, or `expired`.
    pub by: String,
}

/// The data of `dev.hale.replica.would_have`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaWouldHave {
    /// Which run of which replica.
    #[serde(flatten)]
    pub instance: Instance,
    /// What: `restart`, `gate`.
    pub action: String,
    /// Why.
    pub reason: String,
}

/// The data of `dev.hale.replica.prober_error`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaProberError {
    /// Which run of which replica.
    #[serde(flatten)]
    pub instance: Instance,
    /// Which probe.
    pub probe: ProbeKind,
    /// What went wrong.
    pub detail: String,
}

/// The data of `dev.hale.replica.out_of_memory`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaOutOfMemory {
    /// Which run of which replica.
    #[serde(flatten)]
    pub instance: Instance,
    /// How much memory it may use, bytes, where that is bounded.
    pub limit_bytes: Option<u64>,
}

/// The data of `dev.hale.replica.warning`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaWarning {
    /// Which run of which replica.
    #[serde(flatten)]
    pub instance: Instance,
    /// A stable word for it: `healthcheck_not_run`, `oom_not_told`, `unpublished`.
    pub code: String,
    /// What has less effect than one would think, why, and what to do instead.
    pub detail: String,
}

/// What an instance was doing before it was ended (H25), bounded to 256 KiB.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Forensics {
    /// The last outcomes of its probes, newest last, in one line each.
    pub probe_outcomes: Vec<String>,
    /// The last lines of its output.
    pub log_tail: Vec<String>,
    /// What the engine says of a container, and its own check last: `container shop running, unhealthy`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub state: Vec<String>,
    /// Resident memory, bytes.
    pub memory_bytes: Option<u64>,
    /// Open files.
    pub open_files: Option<u32>,
    /// Threads.
    pub threads: Option<u32>,
    /// What each of a few threads waits in, as the kernel tells it.
    pub waiting_in: Vec<String>,
    /// Parts that could not be had, and why.
    pub missing: Vec<String>,
}
