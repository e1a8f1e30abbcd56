//! Where everything goes that supervisor, targets and guard of a node tell: metrics, spool, outcomes, and the note of
//! what has to be looked at for the next beat.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hale_model::{
    event::{EventData, NewEvent},
    report::{EndpointReport, Report},
};
use hale_supervisor::{log::log_event, sink::Sink};
use jiff::Timestamp;
use tokio::sync::Notify;

use crate::{
    histories::Histories,
    metrics::AgentMetrics,
    spool::{Outcomes, Spool},
};

/// What has happened since it was last looked.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    /// Replicas, by workload and name.
    pub(crate) replicas: BTreeSet<(String, String)>,
    /// Placements of which nothing is left.
    pub(crate) removed: BTreeSet<u64>,
    /// Whether a target has changed.
    pub(crate) targets: bool,
}

#[derive(Debug, Default)]
struct Noted {
    dirty: Dirty,
    /// What was told of each replica's endpoint last.
    endpoints: BTreeMap<String, EndpointReport>,
}

/// The sink of a node. Nothing in it waits.
pub struct Reports {
    node: String,
    metrics: Arc<AgentMetrics>,
    pub(crate) spool: Arc<dyn Spool>,
    pub(crate) outcomes: Arc<dyn Outcomes>,
    pub(crate) histories: Histories,
    /// Told as well, after all others.
    also: Option<Arc<dyn Sink>>,
    noted: Mutex<Noted>,
    pub(crate) changed: Notify,
}

impl Reports {
    /// Passes on what the node of this name tells; `also` is told everything, too.
    #[must_use]
    pub fn new(
        node: impl Into<String>,
        metrics: Arc<AgentMetrics>,
        spool: Arc<dyn Spool>,
        outcomes: Arc<dyn Outcomes>,
        also: Option<Arc<dyn Sink>>,
    ) -> Arc<Self> {
        let (noted, changed) = (Mutex::default(), Notify::new());
        let histories = Histories::new(Arc::clone(&outcomes));
        Arc::new(Self { node: node.into(), metrics, spool, outcomes, histories, also, noted, changed })
    }

    /// Tells an event about the node itself, and writes its line (O2).
    pub fn tell(&self, data: EventData) {
        log_event(&self.node, &data);
        let source = format!("/nodes/{}", self.node);
        let event = NewEvent { time: Timestamp::now(), source, subject: self.node.clone(), data };
        self.report(Report::Event(Box::new(event)));
    }

    /// Has series kept as far as they are filled. Before the node ends: what it does not keep here is lost with it.
    pub fn keep_series(&self) {
        self.histories.keep_all();
    }

    /// What has happened since the last call.
    pub(crate) fn take(&self) -> Dirty {
        std::mem::take(&mut self.noted().dirty)
    }

    /// What was told of a replica's endpoint last.
    pub(crate) fn endpoint(&self, replica: &str) -> Option<EndpointReport> {
        self.noted().endpoints.get(replica).cloned()
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, report: &Report) {
        let mut noted = self.noted();
        match report {
            Report::Endpoint(endpoint) => {
                let name = (endpoint.workload.clone(), endpoint.replica.clone());
                noted.dirty.replicas.insert(name);
                noted.endpoints.insert(endpoint.replica.clone(), endpoint.clone());
            }
            Report::Removed { replica, generation } => {
                // Its successor may have been told of already.
                if noted.endpoints.get(replica).is_some_and(|it| it.generation <= *generation) {
                    noted.endpoints.remove(replica);
                }
                noted.dirty.removed.insert(*generation);
            }
            Report::Event(event) => match event.data.instance() {
                Some(instance) => {
                    noted.dirty.replicas.insert((instance.workload.clone(), event.subject.clone()));
                }
                None => noted.dirty.targets |= event.data.kind().starts_with("dev.hale.target."),
            },
            Report::Outcome(_) | Report::Forgotten(_) => return,
        }
        drop(noted);
        self.changed.notify_one();
    }
}

impl Sink for Reports {
    fn report(&self, report: Report) {
        match &report {
            Report::Event(event) => {
                self.histories.event(event);
                self.spool.append((**event).clone());
            }
            Report::Outcome(outcome) => {
                self.histories.outcome(outcome);
                self.outcomes.outcome(outcome.clone());
            }
            Report::Removed { replica: gone, .. } | Report::Forgotten(gone) => {
                self.histories.forget(gone);
                self.outcomes.forget(gone);
            }
            Report::Endpoint(_) => {}
        }
        self.note(&report);
        if let Some(also) = &self.also {
            also.report(report.clone());
        }
        self.metrics.report(report);
    }
}
