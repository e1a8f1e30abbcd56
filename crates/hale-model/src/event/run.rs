//! What is told by responders: of runs, alerts and breakers (R7, R11, R12).

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{EventData, NewEvent};
use crate::spec::AlertSeverity;

/// Which run or alert an event is about: whose, by which rule, for what.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct RunFacts {
    /// The responder.
    pub responder: String,
    /// The rule that took the alert; empty: none did.
    pub rule: String,
    /// The cluster that the alert came from.
    pub cluster: String,
    /// What the alert is about.
    pub resource: AlertResource,
    /// What kind of fault: `CrashLoop`.
    pub fault_type: String,
    /// How much it matters, as the alert's sender sees it.
    pub alert_severity: AlertSeverity,
    /// The id of the alert.
    pub alert: String,
    /// 0: the rule's program; 1 and on: a step of its escalation.
    pub step: u32,
}

/// What an alert is about.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct AlertResource {
    /// `Pod`, `Workload`, `Target`.
    pub kind: String,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

/// The data of `dev.hale.run.started`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunStarted {
    /// Which run.
    #[serde(flatten)]
    pub run: RunFacts,
}

/// The data of `dev.hale.run.succeeded`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunSucceeded {
    /// Which run.
    #[serde(flatten)]
    pub run: RunFacts,
    /// What made it a success.
    pub reason: String,
    /// How long its program ran.
    pub run_seconds: f64,
}

/// How a run came to a bad end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunFailure {
    /// Its program failed, could not be started, or left no artifact.
    Failed,
    /// Its program ran for too long and was ended.
    TimedOut,
    /// Its program succeeded, and the resource is not healthy all the same.
    Ineffective,
    /// The responder ended while it ran.
    Interrupted,
}

impl RunFailure {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Ineffective => "ineffective",
            Self::Interrupted => "interrupted",
        }
    }
}

/// The data of `dev.hale.run.failed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunFailed {
    /// Which run.
    #[serde(flatten)]
    pub run: RunFacts,
    /// How.
    pub state: RunFailure,
    /// Why.
    pub reason: String,
    /// Exit status of its program.
    pub exit_code: Option<i32>,
    /// The signal that ended its program.
    pub signal: Option<i32>,
    /// How long its program ran; absent: it was not started, or nobody saw its end.
    pub run_seconds: Option<f64>,
}

/// The data of `dev.hale.run.awaiting_approval`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunAwaitingApproval {
    /// Which run.
    #[serde(flatten)]
    pub run: RunFacts,
    /// Until when a person may say yes.
    pub until: Option<Timestamp>,
    /// What would run.
    pub command: Vec<String>,
}

/// The data of `dev.hale.run.decided`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunDecided {
    /// Which run.
    #[serde(flatten)]
    pub run: RunFacts,
    /// Whether it may run.
    pub approved: bool,
    /// Who said so.
    pub by: String,
    /// In words, with the why where one was given: `approved by ann: seen it`.
    pub reason: String,
}

/// The data of `dev.hale.run.would_have`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunWouldHave {
    /// Which run.
    #[serde(flatten)]
    pub run: RunFacts,
    /// What would have run.
    pub command: Vec<String>,
}

/// The data of `dev.hale.run.escalated`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunEscalated {
    /// Which run: the one that was no success.
    #[serde(flatten)]
    pub run: RunFacts,
    /// What is done next: `program restart.sh`, `webhook https://…`.
    pub next: String,
    /// The run that does it, where it is one.
    pub next_run: Option<String>,
    /// Why.
    pub reason: String,
}

/// The data of `dev.hale.alert.expired`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlertExpired {
    /// Which alert.
    #[serde(flatten)]
    pub run: RunFacts,
    /// How long it has waited.
    pub age_seconds: f64,
    /// How long it may wait.
    pub max_age_seconds: f64,
    /// What for: its turn, or a person.
    pub reason: String,
}

/// The data of `dev.hale.alert.dropped`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AlertDropped {
    /// Which alert.
    #[serde(flatten)]
    pub run: RunFacts,
    /// Why: which queue was full, and what gave way.
    pub reason: String,
}

/// The data of `dev.hale.responder.breaker_opened`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BreakerOpened {
    /// The responder.
    pub responder: String,
    /// `failure` or `capacity`.
    pub breaker: String,
    /// Why.
    pub reason: String,
}

/// The data of `dev.hale.responder.breaker_closed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BreakerClosed {
    /// The responder.
    pub responder: String,
    /// `failure` or `capacity`.
    pub breaker: String,
    /// How long it was open.
    pub open_seconds: f64,
    /// What closed it.
    pub reason: String,
}

impl NewEvent {
    /// What a responder tells. `subject` is the id of the run for `dev.hale.run.*`, that of the alert for
    /// `dev.hale.alert.*`, and the responder's own name for `dev.hale.responder.*`.
    #[must_use]
    pub fn of_responder(
        responder: &str,
        subject: impl Into<String>,
        time: Timestamp,
        data: EventData,
    ) -> Self {
        Self { time, source: format!("/responders/{responder}"), subject: subject.into(), data }
    }
}

impl EventData {
    /// Which run or alert of a responder it is about, if it is about one.
    #[must_use]
    pub const fn run(&self) -> Option<&RunFacts> {
        match self {
            Self::RunStarted(RunStarted { run, .. })
            | Self::RunSucceeded(RunSucceeded { run, .. })
            | Self::RunFailed(RunFailed { run, .. })
            | Self::RunAwaitingApproval(RunAwaitingApproval { run, .. })
            | Self::RunDecided(RunDecided { run, .. })
            | Self::RunWouldHave(RunWouldHave { run, .. })
            | Self::RunEscalated(RunEscalated { run, .. })
            | Self::AlertExpired(AlertExpired { run, .. })
            | Self::AlertDropped(AlertDropped { run, .. }) => Some(run),
            _ => None,
        }
    }
}
