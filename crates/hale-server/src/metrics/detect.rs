//! How long it took to see that something was wrong, and until it was right again, read off the events of a replica.

use std::collections::HashMap;

use hale_model::event::{Event, EventData, RestartCause};
use jiff::Timestamp;

/// The most replicas that are remembered as not ready.
const MOST: usize = 200_000;

/// What is remembered of replicas that are in trouble.
#[derive(Debug, Default)]
pub(super) struct Incidents {
    /// When the last run ended that nobody had asked to end, by replica.
    exited: HashMap<String, Timestamp>,
    /// Since when a replica that had been ready is not, by replica.
    not_ready: HashMap<String, Timestamp>,
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64().max(0.0)
}

impl Incidents {
    /// The time to detect, when this event is the decision: from the beginning of the first failed check to the trip,
    /// or from an unasked end to the decision to start again.
    pub(super) fn detected(&mut self, event: &Event) -> Option<f64> {
        match &event.data {
            EventData::ReplicaUnhealthy(trip) => Some(seconds(trip.first_failure_at, event.time)),
            EventData::ReplicaExited(exited) if !exited.expected && self.exited.len() < MOST => {
                self.exited.insert(event.subject.clone(), exited.exit.at);
                None
            }
            EventData::ReplicaRestarting(_) | EventData::ReplicaFailed(_) | EventData::ReplicaStopped(_) => {
                let exited = self.exited.remove(&event.subject)?;
                Some(seconds(exited, event.time))
            }
            _ => None,
        }
    }

    /// The time to recover, when this event ends an incident: from not ready to ready again, of what nobody asked for.
    pub(super) fn recovered(&mut self, event: &Event) -> Option<f64> {
        match &event.data {
            EventData::ReplicaNotReady(_) if self.not_ready.len() < MOST => {
                self.not_ready.insert(event.subject.clone(), event.time);
                None
            }
            EventData::ReplicaReady(_) => {
                let since = self.not_ready.remove(&event.subject)?;
                Some(seconds(since, event.time))
            }
            // A person wanted it so: no incident.
            EventData::ReplicaRestarting(restarting)
                if matches!(restarting.cause, RestartCause::Manual | RestartCause::Policy) =>
            {
                self.not_ready.remove(&event.subject);
                None
            }
            EventData::ReplicaStopped(_) => {
                self.not_ready.remove(&event.subject);
                None
            }
            _ => None,
        }
    }
}
