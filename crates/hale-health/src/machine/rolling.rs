//! Restarting the replicas of a workload one after the other.

use std::{collections::VecDeque, time::Duration};

use super::{By, Replica};
use crate::{Incarnation, Phase, Time};

/// What comes next in a rolling restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Wait,
    Restart(u32),
    Stalled { ordinal: u32, reason: String },
    Done,
}

/// A rolling restart: one replica at a time, the next once the one before has been ready for long enough, so that no
/// more than one is out of traffic at any time.
#[derive(Debug)]
pub(super) struct Rolling {
    by: By,
    min_ready: Duration,
    progress_deadline: Duration,
    left: VecDeque<u32>,
    current: Option<Current>,
}

#[derive(Debug, Clone, Copy)]
struct Current {
    ordinal: u32,
    /// The start before the restart.
    before: Incarnation,
    since: Time,
    ready_since: Option<Time>,
}

impl Rolling {
    pub(super) fn new(
        by: By,
        min_ready: Duration,
        progress_deadline: Duration,
        ordinals: impl Iterator<Item = u32>,
    ) -> Self {
        Self { by, min_ready, progress_deadline, left: ordinals.collect(), current: None }
    }

    pub(super) const fn by(&self) -> &By {
        &self.by
    }

    /// Those whose turn has not come.
    pub(super) fn left(self) -> impl Iterator<Item = u32> {
        self.left.into_iter()
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        let current = self.current.as_ref()?;
        let stalled = current.since + self.progress_deadline;
        Some(current.ready_since.map_or(stalled, |since| since + self.min_ready))
    }

    pub(super) fn step<'a>(&mut self, now: Time, replica: impl Fn(u32) -> Option<&'a Replica>) -> Step {
        if let Some(current) = &mut self.current {
            match replica(current.ordinal) {
                // Scaled away, or stopped by a person meanwhile: nothing to wait for.
                None => {}
                Some(it) if matches!(it.phase(), Phase::Stopping | Phase::Stopped) => {}
                Some(it) => {
                    let ready = it.ready() && it.incarnation() > current.before;
                    current.ready_since = current.ready_since.filter(|_| ready).or(ready.then_some(now));
                    if current.ready_since.is_none_or(|since| now < since + self.min_ready) {
                        let waited = now.since(current.since);
                        if ready || waited < self.progress_deadline && it.phase() != Phase::Failed {
                            return Step::Wait;
                        }
                        return Step::Stalled { ordinal: current.ordinal, reason: self.stalled_text(it) };
                    }
                }
            }
        }
        self.current = None;
        while let Some(ordinal) = self.left.pop_front() {
            let Some(it) = replica(ordinal) else { continue };
            if it.phase() == Phase::Stopping || (it.phase() == Phase::Stopped && !self.by.is_person()) {
                continue;
            }
            self.current = Some(Current { ordinal, before: it.incarnation(), since: now, ready_since: None });
            return Step::Restart(ordinal);
        }
        Step::Done
    }

    fn stalled_text(&self, replica: &Replica) -> String {
        format!(
            "not ready within {}s of its restart ({}); {} more were not restarted",
            self.progress_deadline.as_secs(),
            replica.last_error().unwrap_or("no error seen"),
            self.left.len()
        )
    }
}
