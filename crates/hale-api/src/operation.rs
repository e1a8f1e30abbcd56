//! What a person asks for, and how it goes (C12).
//!
//! A restart, stop or start is an operation: the server goes on with it whether or not the asker waits, and tells
//! how far it is.

use hale_model::ProbeKind;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Stop and start again, replica by replica; costs no budget and clears `failed` (H16).
    Restart,
    /// Stop until started by a person.
    Stop,
    /// Start what is stopped or failed.
    Start,
    /// Freeze probe verdicts and automatic starts (H24).
    Pause,
    /// End a pause.
    Resume,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Restart, Self::Stop, Self::Start, Self::Pause, Self::Resume];

    /// The word for it in paths, events and on the screen.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Stop => "stop",
            Self::Start => "start",
            Self::Pause => "pause",
            Self::Resume => "resume",
        }
    }
}

/// The body of `POST /api/v1/{workloads|replicas|targets}/{name}/{verb}`. Every field may be left out.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ActionRequest {
    /// Who asks, in addition to the token's name.
    pub by: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// For how long, of a pause; until resumed when left out.
    pub for_seconds: Option<f64>,
    /// Which probe, of a pause or resume; all when left out.
    pub probe: Option<ProbeKind>,
}

/// How far an operation is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Operation {
    /// Its number; numbers begin anew with the server.
    pub id: u64,
    /// What was asked for.
    pub verb: Verb,
    /// Of what.
    pub subject: String,
    /// Who asked.
    pub by: String,
    /// How far it is.
    pub state: OperationState,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// When it was asked for.
    pub started_at: Timestamp,
    /// When it ended, if it has.
    pub ended_at: Option<Timestamp>,
    /// Rises with every change; what `?after=` waits for.
    pub revision: u64,
    /// One for each replica or target, in the order they are gone through.
    pub steps: Vec<OperationStep>,
}

/// How far an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperationState {
    /// Going on.
    Running,
    /// Everything asked for is so.
    Succeeded,
    /// It is not, and the server waits no longer.
    Failed,
}

/// One replica's part of an operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OperationStep {
    /// The replica or target.
    pub name: String,
    /// How far it is.
    pub state: StepState,
    /// What is seen, or why it failed.
    pub detail: Option<String>,
    /// How long it took, once done; from when its turn came.
    pub took_seconds: Option<f64>,
}

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Not begun.
    Waiting,
    /// Asked for; not there yet.
    Running,
    /// There.
    Done,
    /// Never came.
    Failed,
}
