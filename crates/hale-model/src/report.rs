//! What a node tells of itself as it happens: the one stream that events, history, registry and metrics are fed from.

use std::{collections::BTreeMap, net::IpAddr};

use hale_health::{ProbeKind, Reason, series::Bucket};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::NewEvent;

/// One thing that a node tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// Something happened.
    Event(Box<NewEvent>),
    /// A check had a result. Told once per outcome.
    Outcome(OutcomeRecord),
    /// Where a replica is reached, and whether it may be, has changed. Told before the event that explains it.
    Endpoint(EndpointReport),
    /// A replica is no longer declared, or no longer placed here, and nothing is left of it.
    Removed {
        /// Its name.
        replica: String,
        /// The number of the placement that is over.
        generation: u64,
    },
    /// A target is no longer probed here: it left its list, or is another one now (N14).
    Forgotten(String),
}

/// What became of the checks of one probe for a while, to be kept with what was before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesPiece {
    /// The replica or target.
    pub subject: String,
    /// Which probe; `None` for a target.
    pub probe: Option<ProbeKind>,
    /// The checks.
    pub bucket: Bucket,
}

/// The result of one check, for the record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OutcomeRecord {
    /// The replica or target.
    pub subject: String,
    /// Which probe; `None` for a target.
    pub probe: Option<ProbeKind>,
    /// The start it was made for; 0 for a target.
    pub incarnation: u64,
    /// When the check began.
    pub at: Timestamp,
    /// How long it took.
    pub took_ms: f64,
    /// `None`: success.
    pub reason: Option<Reason>,
    /// What was seen, when it failed.
    pub detail: Option<String>,
    /// Outcomes of the same kind in a row, with this one.
    pub consecutive: u32,
    /// How many of them change the verdict.
    pub threshold: u32,
}

/// Where a replica is reached, and whether it may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointReport {
    /// Its workload.
    pub workload: String,
    /// Workload and ordinal.
    pub replica: String,
    /// Where it runs.
    pub node: String,
    /// The number of its placement.
    pub generation: u64,
    /// The number of its start.
    pub incarnation: u64,
    /// Its address, while it has one.
    pub address: Option<IpAddr>,
    /// Its ports by name.
    pub ports: BTreeMap<String, u16>,
    /// Whether it may receive new requests.
    pub ready: bool,
    /// Whether nothing but flap damping keeps it from being ready (H23): the registry serves it, marked, rather than
    /// nobody (H31).
    #[serde(default)]
    pub damped: bool,
    /// Whether it runs.
    pub serving: bool,
    /// Whether it is on its way out.
    pub draining: bool,
    /// Why this changed.
    pub reason: String,
    /// The trace that it belongs to (O2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}
