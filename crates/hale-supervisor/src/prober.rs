//! What asks, seen from the driver: register a check, hear its outcomes, cancel it.
//!
//! A prober decides nothing about health. The driver knows no more of it than this trait, so that the engine of
//! `hale-check`, the closures of an embedding program and a scripted one in tests are alike to it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use hale_health::{Outcome, ProbeKind};
use hale_model::spec::{Probe, Workload};
use tokio::sync::mpsc;

use crate::runtime::{BoxFuture, InstanceId, Started};

/// One probe of one run.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Of which run.
    pub id: InstanceId,
    /// What for.
    pub kind: ProbeKind,
    /// How and when. Never [`hale_model::spec::Check::Notify`]: the driver hears those itself.
    pub probe: Probe,
    /// What the run is a replica of.
    pub workload: Arc<Workload>,
    /// Where the run is reached, and what commands beside it run in.
    pub started: Started,
    /// Its ports by name.
    pub ports: BTreeMap<String, u16>,
    /// The earliest first check, from now.
    pub first_after: Duration,
    /// Whether the first check is spread over a period; else it runs as soon as `first_after` is over (H10).
    pub spread: bool,
}

/// An outcome and whose it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// Of which run.
    pub id: InstanceId,
    /// What came of it.
    pub outcome: Outcome,
    /// The beginning of what was answered, where something was: for forensics (H25).
    pub excerpt: Option<String>,
    /// The `traceparent` that went with the request, where one did (O2).
    pub traceparent: Option<String>,
}

/// What asks.
pub trait Prober: Send + Sync + 'static {
    /// Asks from now on, on time, until it is cancelled. One of the same run and kind replaces it.
    fn register(&self, ask: Ask);

    /// Asks no more. A check in flight is cut off and is no outcome (H10).
    fn cancel(&self, id: &InstanceId, kind: ProbeKind);

    /// The outcomes. Can be taken once; `None` after. When the driver does not keep up, checks wait with telling
    /// theirs; none is lost.
    fn outcomes(&self) -> Option<mpsc::Receiver<Asked>>;

    /// Asks once, now, beside whatever is registered, bounded by the probe's timeout.
    fn ask_once(&self, ask: Ask) -> BoxFuture<'static, Asked>;
}
