//! What happens to components, as a stream. A slow reader blocks nothing: it misses the oldest, and is told how many.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use futures_util::{Stream, stream};
use hale_health::{Phase, ProbeKind, Reason};
use hale_model::{
    event::EventData,
    report::{OutcomeRecord, Report},
};
use tokio::sync::broadcast;

use crate::sink::Sink;

/// How many changes wait for the slowest reader. When more come it misses the oldest.
const QUEUE: usize = 1024;

/// One change of one component.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Its phase is another one now.
    Phase {
        /// Which component.
        component: String,
        /// The phase it is in now.
        phase: Phase,
        /// Why.
        reason: String,
    },
    /// A check failed.
    CheckFailed {
        /// Which component.
        component: String,
        /// What the check was for.
        probe: ProbeKind,
        /// Why, from the closed list.
        reason: Reason,
        /// What the check said.
        detail: String,
        /// Failures in a row, with this one.
        count: u32,
        /// How many of them change the verdict.
        threshold: u32,
    },
    /// Whether it is ready has changed.
    Ready {
        /// Which component.
        component: String,
        /// Whether it is ready now.
        ready: bool,
        /// Why.
        reason: String,
    },
    /// It was restarted.
    Restarted {
        /// Which component.
        component: String,
        /// Restarts so far, with this one.
        restarts: u64,
        /// Why.
        reason: String,
    },
    /// A restart failed: its function said no, panicked or was cut off, or the component did not live long enough.
    RestartFailed {
        /// Which component.
        component: String,
        /// Why.
        reason: String,
        /// Failed restarts in a row.
        in_a_row: u32,
    },
    /// The reader was too slow: so many changes were dropped before the next.
    Missed {
        /// How many.
        count: u64,
    },
}

/// The changes from a moment on.
#[derive(Debug)]
pub struct Changes(broadcast::Receiver<Change>);

impl Changes {
    /// The next change; `None` once the monitor is gone.
    pub async fn next(&mut self) -> Option<Change> {
        match self.0.recv().await {
            Ok(change) => Some(change),
            Err(broadcast::error::RecvError::Lagged(count)) => Some(Change::Missed { count }),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }

    /// The same as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Change> + Send {
        stream::unfold(self, |mut changes| async move {
            let change = changes.next().await?;
            Some((change, changes))
        })
    }
}

/// Turns what the supervisor tells into changes.
#[derive(Debug)]
pub(super) struct Teller {
    changes: broadcast::Sender<Change>,
    /// What the last failed check of each component said.
    details: Mutex<HashMap<String, String>>,
}

impl Teller {
    pub(super) fn new() -> Self {
        Self { changes: broadcast::channel(QUEUE).0, details: Mutex::default() }
    }

    pub(super) fn listen(&self) -> Changes {
        Changes(self.changes.subscribe())
    }

    pub(super) fn last_detail(&self, component: &str) -> Option<String> {
        self.details.lock().unwrap_or_else(PoisonError::into_inner).get(component).cloned()
    }

    pub(super) fn forget(&self, component: &str) {
        self.details.lock().unwrap_or_else(PoisonError::into_inner).remove(component);
    }

    fn tell(&self, change: Change) {
        // An error means that nobody listens.
        let _ = self.changes.send(change);
    }

    fn outcome(&self, record: OutcomeRecord) {
        let (Some(reason), Some(probe)) = (record.reason, record.probe) else { return };
        let component = component_of(&record.subject);
        let detail = record.detail.unwrap_or_default();
        let mut details = self.details.lock().unwrap_or_else(PoisonError::into_inner);
        details.insert(component.clone(), detail.clone());
        drop(details);
        let (count, threshold) = (record.consecutive, record.threshold);
        self.tell(Change::CheckFailed { component, probe, reason, detail, count, threshold });
    }

    fn event(&self, component: String, data: EventData) {
        let phase = |phase, reason| Change::Phase { component: component.clone(), phase, reason };
        self.tell(match data {
            EventData::ReplicaStarting(it) => phase(Phase::Starting, it.reason),
            EventData::ReplicaRunning(it) => phase(Phase::Running, it.reason),
            EventData::ReplicaUnhealthy(it) => {
                let counted = format!("{}/{}", it.consecutive_failures, it.failure_threshold);
                phase(Phase::Unhealthy, format!("{}: {} {counted}", it.probe, it.probe_reason))
            }
            EventData::ReplicaRestarting(it) => phase(Phase::Restarting, it.reason),
            EventData::ReplicaFailed(it) => phase(Phase::Failed, it.reason),
            EventData::ReplicaStopped(it) => phase(Phase::Stopped, it.reason),
            EventData::ReplicaReady(it) => Change::Ready { component, ready: true, reason: it.reason },
            EventData::ReplicaNotReady(it) => Change::Ready { component, ready: false, reason: it.reason },
            EventData::ReplicaRestarted(it) => {
                Change::Restarted { component, restarts: it.restarts, reason: it.reason }
            }
            EventData::ReplicaRestartFailed(it) => {
                Change::RestartFailed { component, reason: it.reason, in_a_row: it.failed_in_a_row }
            }
            _ => return,
        });
    }
}

/// A component is the one replica of a workload of its name.
fn component_of(replica: &str) -> String {
    replica.strip_suffix("-0").unwrap_or(replica).to_owned()
}

impl Sink for Teller {
    fn report(&self, report: Report) {
        match report {
            Report::Event(event) => self.event(component_of(&event.subject), event.data),
            Report::Outcome(record) => self.outcome(record),
            Report::Endpoint(_) | Report::Removed { .. } | Report::Forgotten(_) => {}
        }
    }
}
