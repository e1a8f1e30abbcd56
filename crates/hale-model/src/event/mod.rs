//! Events: immutable facts, numbered, in CloudEvents 1.0 form (S20, C9).
//!
//! One enum of what can happen drives the log line, the metric, the stream and the screen. The list is closed and
//! documented; a new kind is a new variant.

mod cluster;
mod data;
mod kube;
mod node;
mod replica;
mod run;

pub use cluster::*;
pub use data::EventData;
pub use kube::*;
pub use node::*;
pub use replica::*;
pub use run::*;

pub use hale_health::RestartCause;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
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
    /// Who tells it: `/nodes/local`, `/responders/shop`.
    pub source: String,
    /// What it is about: a replica, a workload, a target, a node, a run.
    pub subject: String,
    /// What happened.
    pub data: EventData,
}

/// An event of the stream, in CloudEvents 1.0 JSON form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Always `1.0`.
    pub specversion: SpecVersion,
    /// Rises in the order recorded; a decimal number, as a string because CloudEvents wants one.
    #[serde(with = "decimal")]
    #[schemars(with = "String")]
    pub id: u64,
    /// Who tells it: `/nodes/local`, `/responders/shop`.
    pub source: String,
    /// What it is about: a replica, a workload, a target, a node, a run.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
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
