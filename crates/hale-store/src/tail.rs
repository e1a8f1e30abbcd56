//! The newest events in memory, for those who follow.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use hale_model::event::Event;

use crate::rows::EventRow;

/// The most events kept.
const MAX_EVENTS: usize = 4096;

/// The most bytes of their JSON form kept; events with forensics are large.
const MAX_BYTES: usize = 16 << 20;

/// The newest events, in order, without a hole.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    events: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    events: VecDeque<(Arc<Event>, usize)>,
    bytes: usize,
    /// The id of the newest event there is.
    last: u64,
}

impl Tail {
    /// Adds what was committed, up to `last` (there may be numbers that belong to no event). What is here already is
    /// left out; where there is a hole before it, what was here goes: it can still be read from the database.
    pub(crate) fn extend(&self, events: impl IntoIterator<Item = EventRow>, last: u64) {
        let mut kept = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        for row in events {
            if row.event.id <= kept.last {
                continue;
            }
            if row.event.id != kept.last + 1 {
                kept.events.clear();
                kept.bytes = 0;
            }
            kept.last = row.event.id;
            let size = row.size();
            kept.bytes += size;
            kept.events.push_back((row.event, size));
        }
        if last > kept.last {
            kept.events.clear();
            kept.bytes = 0;
            kept.last = last;
        }
        while kept.events.len() > MAX_EVENTS || kept.bytes > MAX_BYTES {
            let Some((_, size)) = kept.events.pop_front() else { break };
            kept.bytes -= size;
        }
    }

    /// Up to which events are here.
    pub(crate) fn last(&self) -> u64 {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).last
    }

    /// The events after an id, at most so many and only those wanted, and the id of the last one looked at; `None` when
    /// some of them are no longer here.
    pub(crate) fn after(
        &self,
        id: u64,
        most: usize,
        wanted: impl Fn(&Event) -> bool,
    ) -> Option<(Vec<Arc<Event>>, u64)> {
        let kept = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, _) = kept.events.front()?;
        if id + 1 < first.id {
            return None;
        }
        let mut seen = id;
        let mut events = Vec::new();
        let from = kept.events.partition_point(|(event, _)| event.id <= id);
        for (event, _) in kept.events.range(from..) {
            if events.len() == most {
                break;
            }
            seen = event.id;
            if wanted(event) {
                events.push(Arc::clone(event));
            }
        }
        Some((events, seen))
    }
}
