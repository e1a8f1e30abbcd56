//! Alerts and the runs they led to (R12).

use std::{collections::BTreeMap, path::PathBuf};

use hale_model::{
    event::{AlertResource, RunFacts},
    spec::{AlertSeverity, Autonomy},
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an alert is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Resource {
    /// `apps/v1`; hale's own have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// `Pod`, `Workload`, `Target`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

/// A fact from a source that may deserve a run. `alert.json` in a workspace is one, and so is what a program gets on its
/// standard input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Alert {
    /// Given by the responder, unique.
    pub id: String,
    /// The cluster it came from: the name of its source.
    pub cluster: String,
    /// `mcp`, `hale`, `sse`, `webhook`.
    pub source: String,
    /// What its sender calls it: a fault's id, an event's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_id: Option<String>,
    /// How much it matters.
    pub severity: AlertSeverity,
    /// What kind of fault: `CrashLoop`, `replica.failed`.
    pub fault_type: String,
    /// What it is about.
    pub resource: Resource,
    /// A sentence for people; may be empty.
    #[serde(default)]
    pub message: String,
    /// Labels of its source and of itself.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// All that the sender told, as it was.
    #[serde(default)]
    pub context: serde_json::Value,
    /// When it happened, as its sender says.
    pub timestamp: Timestamp,
    /// When the responder accepted it.
    pub received_at: Timestamp,
}

/// What became of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertOutcome {
    /// It led to a run.
    Accepted,
    /// It shares the outcome of a run that was there.
    Duplicate,
    /// It was not severe enough, or no rule wants it.
    Filtered,
    /// A queue was full.
    Refused,
}

/// An alert, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlertRecord {
    /// The alert.
    pub alert: Alert,
    /// What became of it.
    pub outcome: AlertOutcome,
    /// Why, where it led to no run of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
}

/// How a run stands (R12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It waits for its turn.
    Queued,
    /// It waits for a person (R11).
    AwaitingApproval,
    /// Its program runs.
    Running,
    /// Its program has succeeded; it waits for the resource to be healthy (R10).
    Recovering,
    /// It did what it is for.
    Succeeded,
    /// Its program ended otherwise than with exit status 0, could not be started, or left no artifact.
    Failed,
    /// Its program ran for too long and was ended (R9).
    TimedOut,
    /// Its program succeeded, and the resource is not healthy all the same (R10).
    Ineffective,
    /// It waited for too long, for its turn or for a person.
    Expired,
    /// The responder ended while it ran.
    Interrupted,
    /// It is written down, and not run (R11).
    Observed,
    /// A person said no (R11).
    Rejected,
    /// It gave way to a newer one in a full queue (R5).
    Dropped,
}

impl RunState {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Queued,
        Self::AwaitingApproval,
        Self::Running,
        Self::Recovering,
        Self::Succeeded,
        Self::Failed,
        Self::TimedOut,
        Self::Ineffective,
        Self::Expired,
        Self::Interrupted,
        Self::Observed,
        Self::Rejected,
        Self::Dropped,
    ];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::AwaitingApproval => "awaiting_approval",
            Self::Running => "running",
            Self::Recovering => "recovering",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Ineffective => "ineffective",
            Self::Expired => "expired",
            Self::Interrupted => "interrupted",
            Self::Observed => "observed",
            Self::Rejected => "rejected",
            Self::Dropped => "dropped",
        }
    }

    /// Whether nothing more becomes of it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::AwaitingApproval | Self::Running | Self::Recovering)
    }
}

/// A file that a run has left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Artifact {
    /// Relative to the workspace.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// One execution of a responder's program, or what is to become one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// Unique; sorts by the time it was made.
    pub id: String,
    /// The responder.
    pub responder: String,
    /// The alert it is for.
    pub alert: String,
    /// The cluster of that.
    pub cluster: String,
    /// How much it matters.
    pub severity: AlertSeverity,
    /// What kind of fault.
    pub fault_type: String,
    /// What it is about.
    pub resource: Resource,
    /// The rule that took it.
    pub rule: String,
    /// Whether it needs a person.
    pub autonomy: Autonomy,
    /// 0: the rule's program; 1 and on: a step of its escalation.
    #[serde(default)]
    pub step: u32,
    /// The run that this one escalates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalates: Option<String>,
    /// How it stands.
    pub state: RunState,
    /// Why it stands so, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Alerts that share its outcome, beside its own.
    #[serde(default)]
    pub duplicates: u32,
    /// When it was queued: when its alert was accepted; of one that a person said yes to, when they did; of a step of an
    /// escalation, when the run before it came to its end.
    pub queued_at: Timestamp,
    /// Until when a person may say yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approve_until: Option<Timestamp>,
    /// Who said yes or no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    /// When its program was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When its program ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Until when the resource must be healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recover_until: Option<Timestamp>,
    /// When it came to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Exit status of its program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended its program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Its workspace, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<PathBuf>,
    /// What it left in `output/`.
    #[serde(default)]
    pub artifacts: Vec<Artifact>,
    /// What it cost, as its program told (R7).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
    /// What runs, or would run: the argument vector as it is.
    #[serde(default)]
    pub command: Vec<String>,
}

impl Run {
    /// What its events tell of it.
    #[must_use]
    pub fn facts(&self) -> RunFacts {
        RunFacts {
            responder: self.responder.clone(),
            rule: self.rule.clone(),
            cluster: self.cluster.clone(),
            resource: AlertResource::from(&self.resource),
            fault_type: self.fault_type.clone(),
            alert_severity: self.severity,
            alert: self.alert.clone(),
            step: self.step,
        }
    }
}

impl Alert {
    /// What events tell of it where it has led to no run: the rule that would have taken it, or none.
    #[must_use]
    pub fn facts(&self, responder: &str, rule: &str) -> RunFacts {
        RunFacts {
            responder: responder.to_owned(),
            rule: rule.to_owned(),
            cluster: self.cluster.clone(),
            resource: AlertResource::from(&self.resource),
            fault_type: self.fault_type.clone(),
            alert_severity: self.severity,
            alert: self.id.clone(),
            step: 0,
        }
    }
}

impl From<&Resource> for AlertResource {
    fn from(it: &Resource) -> Self {
        Self { kind: it.kind.clone(), namespace: it.namespace.clone(), name: it.name.clone() }
    }
}

/// The parameters of `GET /api/v1/runs`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RunQuery {
    /// Only those that stand so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<RunState>,
    /// Only those of this cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Only older ones than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// At most so many, 100 when left out, 1,000 at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// The answer to `GET /api/v1/runs`: the newest first.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct RunPage {
    /// The runs.
    pub runs: Vec<Run>,
    /// For [`RunQuery::before`]; absent: these were the oldest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A run with its alert and the ends of its outputs: the answer to `GET /api/v1/runs/{id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunDetail {
    /// The run.
    pub run: Run,
    /// Its alert; absent: forgotten already.
    pub alert: Option<Alert>,
    /// The alerts that share its outcome, the newest 100.
    pub duplicates: Vec<Alert>,
    /// The last 16 KiB of its standard output.
    pub stdout: String,
    /// The last 16 KiB of its standard error.
    pub stderr: String,
}

/// What `POST /api/v1/runs/{id}/approve` and `…/reject` take.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RunDecision {
    /// Who says so, where a token stands for several; goes on record beside the token's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why; goes on record.
    pub reason: String,
}

/// The answer to `GET /api/v1/alerts`: the newest 1,000, newest first.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct AlertList {
    /// The alerts.
    pub alerts: Vec<AlertRecord>,
}
