//! What was told of targets before this start (N13).
//!
//! The log of events is the one record of it: a failure counts as told once its event is in there, and not before. So
//! event and state can't come apart, whatever is killed when: what did not get into the log is decided and told anew,
//! and what did is not told again.

use std::collections::HashMap;

use hale_model::event::{EventData, TargetOrigin};
use jiff::Timestamp;

/// The types of events that are to be shown to [`Told::event`], as the query of events has them.
pub const TYPES: &str =
    "dev.hale.target.probe_failed,dev.hale.target.probe_recovered,dev.hale.target.forgotten";

/// Failures that were told, and whose end was not.
#[derive(Debug, Clone, Default)]
pub struct Told {
    open: HashMap<String, Failure>,
}

/// A failure that was told.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// Of what was declared then.
    pub(super) declaration: String,
    /// When it began.
    pub(super) since: Timestamp,
    /// Failures until then.
    pub(super) failures: u32,
    pub(super) about: TargetOrigin,
}

impl Told {
    /// Takes an event of the log, oldest first. Those of other types say nothing here.
    pub fn event(&mut self, subject: &str, time: Timestamp, data: &EventData) {
        match data {
            EventData::TargetProbeFailed(it) => {
                let failure = Failure {
                    declaration: it.declaration.clone(),
                    since: it.since.unwrap_or(time),
                    failures: it.consecutive_failures,
                    about: it.about.clone(),
                };
                self.open.insert(subject.to_owned(), failure);
            }
            EventData::TargetProbeRecovered(_) | EventData::TargetForgotten(_) => {
                self.open.remove(subject);
            }
            _ => {}
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(super) fn take(&mut self, name: &str) -> Option<Failure> {
        self.open.remove(name)
    }

    /// Takes those out that nobody will ask for any more.
    pub(super) fn take_where(&mut self, is_over: impl Fn(&str, &Failure) -> bool) -> Vec<(String, Failure)> {
        self.open.extract_if(|name, failure| is_over(name, failure)).collect()
    }
}
