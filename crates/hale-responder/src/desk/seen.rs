//! Which alerts were accepted lately, so that the same one again is a duplicate (R4).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use hale_api::runs::{Run, RunState};
use hale_health::Time;

use crate::alert::Fingerprint;

/// The most fingerprints that are remembered; the ones that would be forgotten soonest give way.
const MOST: usize = 10_000;

#[derive(Debug)]
struct Entry {
    run: String,
    until: Time,
    // Once it is final; until then it is held, and its claim is what attaches.
    last: Option<Run>,
}

/// The window of duplicates.
#[derive(Debug)]
pub(super) struct Seen {
    window: Duration,
    entries: BTreeMap<Fingerprint, Entry>,
    order: BTreeSet<(Time, Fingerprint)>,
}

impl Seen {
    /// Empty.
    pub(super) const fn new(window: Duration) -> Self {
        Self { window, entries: BTreeMap::new(), order: BTreeSet::new() }
    }

    /// An alert was accepted, then.
    pub(super) fn accepted(&mut self, fingerprint: Fingerprint, run: &str, at: Time) {
        self.forget(&fingerprint);
        let until = at + self.window;
        self.order.insert((until, fingerprint.clone()));
        self.entries.insert(fingerprint, Entry { run: run.to_owned(), until, last: None });
        if self.entries.len() > MOST
            && let Some((_, soonest)) = self.order.pop_first()
        {
            self.entries.remove(&soonest);
        }
    }

    /// A run escalates another: what is the same as that one's alert is attached to this one.
    pub(super) fn escalated(&mut self, fingerprint: &Fingerprint, from: &str, to: &str) {
        if let Some(entry) = self.entries.get_mut(fingerprint).filter(|it| it.run == from) {
            to.clone_into(&mut entry.run);
            entry.last = None;
        }
    }

    /// A run came to its end.
    pub(super) fn ended(&mut self, fingerprint: &Fingerprint, run: &Run) {
        let Some(entry) = self.entries.get_mut(fingerprint).filter(|it| it.run == run.id) else { return };
        if had_no_chance(run.state) {
            self.forget(fingerprint);
        } else {
            entry.last = Some(run.clone());
        }
    }

    /// Attaches one more alert to the final run that its fingerprint led to, if that was accepted within the window.
    pub(super) fn attach(&mut self, fingerprint: &Fingerprint, now: Time) -> Option<Run> {
        let entry = self.entries.get_mut(fingerprint).filter(|it| now < it.until)?;
        let run = entry.last.as_mut()?;
        run.duplicates = run.duplicates.saturating_add(1);
        Some(run.clone())
    }

    /// A final run that is still remembered.
    pub(super) fn last(&self, run: &str) -> Option<&Run> {
        self.entries.values().filter_map(|it| it.last.as_ref()).find(|it| it.id == run)
    }

    /// Forgets what is out of the window.
    pub(super) fn sweep(&mut self, now: Time) {
        while let Some((until, _)) = self.order.first()
            && *until <= now
        {
            if let Some((_, fingerprint)) = self.order.pop_first() {
                self.entries.remove(&fingerprint);
            }
        }
    }

    fn forget(&mut self, fingerprint: &Fingerprint) {
        if let Some(entry) = self.entries.remove(fingerprint) {
            self.order.remove(&(entry.until, fingerprint.clone()));
        }
    }
}

/// Whether a run ended in a way that must not swallow the next alert.
const fn had_no_chance(state: RunState) -> bool {
    matches!(state, RunState::Dropped | RunState::Rejected | RunState::Expired | RunState::Interrupted)
}
