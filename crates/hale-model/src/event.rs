//! Events: immutable facts, numbered, in CloudEvents 1.0 form (S20, C9).
//!
//! One enum of what can happen drives the log line, the metric, the stream and the screen. The list is closed and
//! documented; a new kind is a new variant.

pub use hale_health::RestartCause;
use hale_health::{ProbeKind, Reason};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::status::{ExitStatus, HoldStatus};

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As expected.
    Info,
    /// Worth a look.
    Warning,
    /// Something is broken.
    Error,
    /// Something is broken and hale has given up on it.
    Critical,
}

impl Severity {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

/// An event before it has a number.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// When it happened.
    pub time: Timestamp,
    /// Who tells it: `/nodes/local`.
    pub source: String,
    /// What it is about: a replica, a workload, a target, a node.
    pub subject: String,
    /// What happened.
    pub data: EventData,
}

/// An event of the stream, in CloudEvents 1.0 JSON form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Always `1.0`.
    pub specversion: SpecVersion,
    /// Rises in the order recorded; a decimal number, as a string because CloudEvents wants one.
    #[serde(with = "decimal")]
    pub id: u64,
    /// Who tells it: `/nodes/local`.
    pub source: String,
    /// What it is about: a replica, a workload, a target, a node.
    pub subject: String,
    /// When it happened (UTC).
    pub time: Timestamp,
    /// How much it matters (an extension attribute).
    pub severity: Severity,
    /// `type` and `data`.
    #[serde(flatten)]
    pub data: EventData,
}

impl Event {
    /// An event with its number.
    #[must_use]
    pub fn new(id: u64, event: NewEvent) -> Self {
        Self {
            specversion: SpecVersion::V1,
            id,
            source: event.source,
            subject: event.subject,
            time: event.time,
            severity: event.data.severity(),
            data: event.data,
        }
    }
}

/// The version of CloudEvents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum SpecVersion {
    /// CloudEvents 1.0.
    #[default]
    #[serde(rename = "1.0")]
    V1,
}

mod decimal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(id: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(|_| D::Error::custom("an event id is a decimal number"))
    }
}

/// Which run of a replica an event is about (S20).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Instance {
    /// Its workload.
    pub workload: String,
    /// Where it runs.
    pub node: String,
    /// `process` or `container`.
    pub runtime: String,
    /// Its main process.
    pub pid: Option<u32>,
    /// Its container.
    pub container_id: Option<String>,
    /// The number of its placement.
    pub generation: u64,
    /// The number of its start.
    pub incarnation: u64,
}

/// What happened: the closed list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum EventData {
    /// A replica's process was spawned.
    #[serde(rename = "dev.hale.replica.starting")]
    ReplicaStarting(ReplicaStarting),
    /// A replica has started: spawned, and its startup probe, if any, has succeeded; or an unhealthy one is well again.
    #[serde(rename = "dev.hale.replica.running")]
    ReplicaRunning(ReplicaRunning),
    /// A replica may receive traffic.
    #[serde(rename = "dev.hale.replica.ready")]
    ReplicaReady(ReplicaReady),
    /// A replica that was ready may no longer receive traffic.
    #[serde(rename = "dev.hale.replica.not_ready")]
    ReplicaNotReady(ReplicaNotReady),
    /// Liveness or startup has tripped: the replica is to be restarted.
    #[serde(rename = "dev.hale.replica.unhealthy")]
    ReplicaUnhealthy(ReplicaUnhealthy),
    /// A probe that had failed its threshold succeeds again.
    #[serde(rename = "dev.hale.replica.recovered")]
    ReplicaRecovered(ReplicaRecovered),
    /// A replica's process ended.
    #[serde(rename = "dev.hale.replica.exited")]
    ReplicaExited(ReplicaExited),
    /// A replica is to be started again.
    #[serde(rename = "dev.hale.replica.restarting")]
    ReplicaRestarting(ReplicaRestarting),
    /// A replica was started again.
    #[serde(rename = "dev.hale.replica.restarted")]
    ReplicaRestarted(ReplicaRestarted),
    /// A restarted replica has been healthy for its minimum uptime.
    #[serde(rename = "dev.hale.replica.restart_succeeded")]
    ReplicaRestartSucceeded(ReplicaRestartSucceeded),
    /// A restarted replica ended, or could not be spawned, before its minimum uptime.
    #[serde(rename = "dev.hale.replica.restart_failed")]
    ReplicaRestartFailed(ReplicaRestartFailed),
    /// Something that would be done is held back.
    #[serde(rename = "dev.hale.replica.held")]
    ReplicaHeld(ReplicaHeld),
    /// A hold has ended.
    #[serde(rename = "dev.hale.replica.released")]
    ReplicaReleased(ReplicaReleased),
    /// A replica was given up.
    #[serde(rename = "dev.hale.replica.failed")]
    ReplicaFailed(ReplicaFailed),
    /// A replica has ended on purpose.
    #[serde(rename = "dev.hale.replica.stopped")]
    ReplicaStopped(ReplicaStopped),
    /// The old instance can't be proven gone; none is started beside it.
    #[serde(rename = "dev.hale.replica.stop_failed")]
    ReplicaStopFailed(ReplicaStopFailed),
    /// A replica's readiness flaps; it is held out of traffic.
    #[serde(rename = "dev.hale.replica.flapping")]
    ReplicaFlapping(ReplicaFlapping),
    /// A flapping replica is let back.
    #[serde(rename = "dev.hale.replica.flapping_ended")]
    ReplicaFlappingEnded(ReplicaFlappingEnded),
    /// A person paused a replica or a probe of it.
    #[serde(rename = "dev.hale.replica.paused")]
    ReplicaPaused(ReplicaPaused),
    /// A pause has ended.
    #[serde(rename = "dev.hale.replica.resumed")]
    ReplicaResumed(ReplicaResumed),
    /// In observe mode: what would have been done.
    #[serde(rename = "dev.hale.replica.would_have")]
    ReplicaWouldHave(ReplicaWouldHave),
    /// A check could not be made; told once per spell.
    #[serde(rename = "dev.hale.replica.prober_error")]
    ReplicaProberError(ReplicaProberError),
    /// A workload was declared or changed.
    #[serde(rename = "dev.hale.workload.applied")]
    WorkloadApplied(WorkloadApplied),
    /// A target has failed its threshold.
    #[serde(rename = "dev.hale.target.probe_failed")]
    TargetProbeFailed(TargetProbeFailed),
    /// A target answers again.
    #[serde(rename = "dev.hale.target.probe_recovered")]
    TargetProbeRecovered(TargetProbeRecovered),
    /// An agent has started.
    #[serde(rename = "dev.hale.node.started")]
    NodeStarted(NodeStarted),
    /// An agent stops.
    #[serde(rename = "dev.hale.node.stopping")]
    NodeStopping(NodeStopping),
    /// Most of a node's probes failed at once: it checks itself before it believes them.
    #[serde(rename = "dev.hale.node.observer_suspect")]
    NodeObserverSuspect(NodeObserverSuspect),
}

impl EventData {
    /// Every type of the list, in order.
    pub const TYPES: [&'static str; 28] = [
        "dev.hale.replica.starting",
        "dev.hale.replica.running",
        "dev.hale.replica.ready",
        "dev.hale.replica.not_ready",
        "dev.hale.replica.unhealthy",
        "dev.hale.replica.recovered",
        "dev.hale.replica.exited",
        "dev.hale.replica.restarting",
        "dev.hale.replica.restarted",
        "dev.hale.replica.restart_succeeded",
        "dev.hale.replica.restart_failed",
        "dev.hale.replica.held",
        "dev.hale.replica.released",
        "dev.hale.replica.failed",
        "dev.hale.replica.stopped",
        "dev.hale.replica.stop_failed",
        "dev.hale.replica.flapping",
        "dev.hale.replica.flapping_ended",
        "dev.hale.replica.paused",
        "dev.hale.replica.resumed",
        "dev.hale.replica.would_have",
        "dev.hale.replica.prober_error",
        "dev.hale.workload.applied",
        "dev.hale.target.probe_failed",
        "dev.hale.target.probe_recovered",
        "dev.hale.node.started",
        "dev.hale.node.stopping",
        "dev.hale.node.observer_suspect",
    ];

    /// Its CloudEvents type.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::ReplicaStarting(_) => "dev.hale.replica.starting",
            Self::ReplicaRunning(_) => "dev.hale.replica.running",
            Self::ReplicaReady(_) => "dev.hale.replica.ready",
            Self::ReplicaNotReady(_) => "dev.hale.replica.not_ready",
            Self::ReplicaUnhealthy(_) => "dev.hale.replica.unhealthy",
            Self::ReplicaRecovered(_) => "dev.hale.replica.recovered",
            Self::ReplicaExited(_) => "dev.hale.replica.exited",
            Self::ReplicaRestarting(_) => "dev.hale.replica.restarting",
            Self::ReplicaRestarted(_) => "dev.hale.replica.restarted",
            Self::ReplicaRestartSucceeded(_) => "dev.hale.replica.restart_succeeded",
            Self::ReplicaRestartFailed(_) => "dev.hale.replica.restart_failed",
            Self::ReplicaHeld(_) => "dev.hale.replica.held",
            Self::ReplicaReleased(_) => "dev.hale.replica.released",
            Self::ReplicaFailed(_) => "dev.hale.replica.failed",
            Self::ReplicaStopped(_) => "dev.hale.replica.stopped",
            Self::ReplicaStopFailed(_) => "dev.hale.replica.stop_failed",
            Self::ReplicaFlapping(_) => "dev.hale.replica.flapping",
            Self::ReplicaFlappingEnded(_) => "dev.hale.replica.flapping_ended",
            Self::ReplicaPaused(_) => "dev.hale.replica.paused",
            Self::ReplicaResumed(_) => "dev.hale.replica.resumed",
            Self::ReplicaWouldHave(_) => "dev.hale.replica.would_have",
            Self::ReplicaProberError(_) => "dev.hale.replica.prober_error",
            Self::WorkloadApplied(_) => "dev.hale.workload.applied",
            Self::TargetProbeFailed(_) => "dev.hale.target.probe_failed",
            Self::TargetProbeRecovered(_) => "dev.hale.target.probe_recovered",
            Self::NodeStarted(_) => "dev.hale.node.started",
            Self::NodeStopping(_) => "dev.hale.node.stopping",
            Self::NodeObserverSuspect(_) => "dev.hale.node.observer_suspect",
        }
    }

    /// How much it matters.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        match self {
            Self::ReplicaStarting(_)
            | Self::ReplicaRunning(_)
            | Self::ReplicaReady(_)
            | Self::ReplicaRecovered(_)
            | Self::ReplicaRestartSucceeded(_)
            | Self::ReplicaReleased(_)
            | Self::ReplicaStopped(_)
            | Self::ReplicaFlappingEnded(_)
            | Self::ReplicaPaused(_)
            | Self::ReplicaResumed(_)
            | Self::ReplicaWouldHave(_)
            | Self::WorkloadApplied(_)
            | Self::TargetProbeRecovered(_)
            | Self::NodeStarted(_)
            | Self::NodeStopping(_) => Severity::Info,
            Self::ReplicaNotReady(_)
            | Self::ReplicaExited(_)
            | Self::ReplicaRestarting(_)
            | Self::ReplicaRestarted(_)
            | Self::ReplicaRestartFailed(_)
            | Self::ReplicaHeld(_)
            | Self::ReplicaFlapping(_)
            | Self::ReplicaProberError(_)
            | Self::NodeObserverSuspect(_) => Severity::Warning,
            Self::ReplicaUnhealthy(_) | Self::TargetProbeFailed(_) => Severity::Error,
            Self::ReplicaFailed(_) | Self::ReplicaStopFailed(_) => Severity::Critical,
        }
    }

    /// Which run of a replica it is about, if it is about one.
    #[must_use]
    pub const fn instance(&self) -> Option<&Instance> {
        match self {
            Self::ReplicaStarting(ReplicaStarting { instance, .. })
            | Self::ReplicaRunning(ReplicaRunning { instance, .. })
            | Self::ReplicaReady(ReplicaReady { instance, .. })
            | Self::ReplicaNotReady(ReplicaNotReady { instance, .. })
            | Self::ReplicaUnhealthy(ReplicaUnhealthy { instance, .. })
            | Self::ReplicaRecovered(ReplicaRecovered { instance, .. })
            | Self::ReplicaExited(ReplicaExited { instance, .. })
            | Self::ReplicaRestarting(ReplicaRestarting { instance, .. })
            | Self::ReplicaRestarted(ReplicaRestarted { instance, .. })
            | Self::ReplicaRestartSucceeded(ReplicaRestartSucceeded { instance, .. })
            | Self::ReplicaRestartFailed(ReplicaRestartFailed { instance, .. })
            | Self::ReplicaHeld(ReplicaHeld { instance, .. })
            | Self::ReplicaReleased(ReplicaReleased { instance, .. })
            | Self::ReplicaFailed(ReplicaFailed { instance, .. })
            | Self::ReplicaStopped(ReplicaStopped { instance, .. })
            | Self::ReplicaStopFailed(ReplicaStopFailed { instance, .. })
            | Self::ReplicaFlapping(ReplicaFlapping { instance, .. })
            | Self::ReplicaFlappingEnded(ReplicaFlappingEnded { instance, .. })
            | Self::ReplicaPaused(ReplicaPaused { instance, .. })
            | Self::ReplicaResumed(ReplicaResumed { instance, .. })
            | Self::ReplicaWouldHave(ReplicaWouldHave { instance, .. })
            | Self::ReplicaProberError(ReplicaProberError { instance, .. }) => Some(instance),
            Self::WorkloadApplied(_)
            | Self::TargetProbeFailed(_)
            | Self::TargetProbeRecovered(_)
            | Self::NodeStarted(_)
            | Self::NodeStopping(_)
            | Self::NodeObserverSuspect(_) => None,
        }
    }
}

/// The data of `dev.hale.replica.starting`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplicaRestartSucceeded {
    /// Which run of which replica.
    #[serde(flatten)]
    pub instance: Instance,
    /// The minimum uptime.
    pub min_uptime_seconds: f64,
}

/// The data of `dev.hale.replica.restart_failed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplicaStopFailed {
    /// Which run of which replica.
    #[serde(flatten)]
    pub instance: Instance,
    /// What is left.
    pub detail: String,
}

/// The data of `dev.hale.replica.flapping`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplicaProberError {
    /// Which run of which replica.
    #[serde(flatten)]
    pub instance: Instance,
    /// Which probe.
    pub probe: ProbeKind,
    /// What went wrong.
    pub detail: String,
}

/// The data of `dev.hale.workload.applied`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkloadApplied {
    /// `created`, `updated`, `deleted`.
    pub change: String,
    /// Replicas asked for.
    pub replicas: u32,
}

/// The data of `dev.hale.target.probe_failed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetProbeRecovered {
    /// The whole streak.
    pub prior_failure_count: u32,
    /// Seconds since the first failure.
    pub down_for: f64,
}

/// The data of `dev.hale.node.started`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeStarted {
    /// Its version.
    pub version: String,
}

/// The data of `dev.hale.node.stopping`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeStopping {
    /// Why.
    pub reason: String,
}

/// The data of `dev.hale.node.observer_suspect`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeObserverSuspect {
    /// Probes that fail.
    pub failing: u32,
    /// Probes that were healthy.
    pub probes: u32,
    /// `self_well` or `self_suspect`, and why.
    pub verdict: String,
}

/// What an instance was doing before it was ended (H25), bounded to 256 KiB.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Forensics {
    /// The last outcomes of its probes, newest last, in one line each.
    pub probe_outcomes: Vec<String>,
    /// The last lines of its output.
    pub log_tail: Vec<String>,
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
