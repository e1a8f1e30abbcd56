//! What waits to be written. Putting something in never waits.
//!
//! Events, audit records, removals and writes are kept in order, up to [`MAX_FACTS`]; beyond that (a disk that has been full
//! for long) new ones are lost, counted, and said at ERROR. Outcomes are worth less: of them the oldest give way. Writes wait for their share of what may wait before they come here (see `Store::write`).

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hale_model::{
    event::NewEvent,
    report::{OutcomeRecord, SeriesPiece},
};
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};

use crate::{
    AuditRecord,
    cluster::{Change, Committed, Guard, Key, Lease, Write, WriteError},
    plan::clean,
    work::Work,
};

/// The most facts that wait.
pub(crate) const MAX_FACTS: usize = 100_000;

/// The most outcomes that wait.
pub(crate) const MAX_OUTCOMES: usize = 20_000;

/// The most pieces of series that wait.
pub(crate) const MAX_SERIES: usize = 200_000;

/// Something that must not be lost.
#[derive(Debug)]
pub(crate) enum Fact {
    Event(Box<NewEvent>),
    Audit(Box<AuditRecord>),
    /// A replica is no longer declared.
    Removed(String),
    /// Answered once everything before it is durable.
    Barrier(oneshot::Sender<()>),
    /// Changes with guards.
    Write(Box<Prepared>, oneshot::Sender<Result<Committed, WriteError>>),
    /// A lease is wanted, or to be renewed.
    Lease(Wish, oneshot::Sender<Option<Lease>>),
    /// A lease is given back: its name and number.
    Release(String, u64, oneshot::Sender<()>),
    /// The database was restored: answered with the epoch that begins.
    RaiseEpoch(oneshot::Sender<u64>),
}

/// A lease that is wanted.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) name: String,
    pub(crate) holder: String,
    pub(crate) ttl: Duration,
}

/// A write whose records have become text already, by whoever asked for it.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) changes: Vec<Step>,
    pub(crate) guards: Vec<Guard>,
    /// About how many bytes it has.
    pub(crate) size: usize,
    /// Its share of what may wait; given back with it.
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

/// A change, prepared.
#[derive(Debug)]
pub(crate) enum Step {
    Put(Key, String),
    Delete(Key),
    Text(Key, String),
    Event(Box<NewEvent>),
    Audit(Box<AuditRecord>),
}

impl From<Write> for Prepared {
    fn from(write: Write) -> Self {
        let mut size = 256 * write.guards.len();
        let changes = write.changes.into_iter().map(|change| match change {
            Change::Put(record) => {
                let body = record.to_json();
                size += body.len() + 256;
                Step::Put(clean_key(record.key()), body)
            }
            Change::Delete(key) => {
                size += 256;
                Step::Delete(clean_key(key))
            }
            Change::Text(key, body) => {
                size += body.len() + 256;
                Step::Text(clean_key(key), clean(&body))
            }
            Change::Event(event) => {
                size += size_of_event(&event);
                Step::Event(event)
            }
            Change::Audit(record) => {
                size += record.by.len() + record.subject.len() + record.detail.len() + 256;
                Step::Audit(record)
            }
        });
        let changes = changes.collect();
        let guards = write.guards.into_iter().map(clean_guard).collect();
        Self { changes, guards, size, room: None }
    }
}

/// About how many bytes an event has: what somebody else made up in it can be long.
fn size_of_event(event: &NewEvent) -> usize {
    struct Count(usize);

    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let mut count = Count(event.source.len() + event.subject.len() + 256);
    // Should it not become text, then it is refused where it is written.
    let _unwritable = serde_json::to_writer(&mut count, &event.data).is_err();
    count.0
}

fn clean_key(key: Key) -> Key {
    Key { kind: key.kind, name: clean(&key.name) }
}

fn clean_guard(guard: Guard) -> Guard {
    match guard {
        Guard::Lease { name, number } => Guard::Lease { name: clean(&name), number },
        Guard::Unchanged { key, revision } => Guard::Unchanged { key: clean_key(key), revision },
        Guard::Absent(key) => Guard::Absent(clean_key(key)),
    }
}

/// What was lost, and what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Events and other facts that were lost because too many waited.
    pub facts_lost: u64,
    /// Outcomes that gave way to newer ones.
    pub outcomes_dropped: u64,
    /// Writes that failed and were tried again.
    pub write_failures: u64,
    /// Commits so far.
    pub commits: u64,
    /// Facts that wait now.
    pub facts_waiting: usize,
    /// Outcomes that wait now.
    pub outcomes_waiting: usize,
    /// Pieces of series that gave way to newer ones.
    pub series_lost: u64,
}

#[derive(Debug, Default)]
struct Waiting {
    facts: VecDeque<Fact>,
    outcomes: VecDeque<OutcomeRecord>,
    series: VecDeque<SeriesPiece>,
    closed: bool,
    counters: Counters,
}

/// The queue between everyone and the writer.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    /// Something that should be written soon is there.
    pub(crate) facts: Notify,
    /// The first outcome is there.
    pub(crate) outcomes: Notify,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a fact in; false when it was lost.
    pub(crate) fn fact(&self, fact: Fact) -> bool {
        let mut waiting = self.lock();
        if waiting.closed {
            return false;
        }
        if waiting.facts.len() >= MAX_FACTS {
            waiting.counters.facts_lost += 1;
            let lost = waiting.counters.facts_lost;
            drop(waiting);
            if lost.is_power_of_two() {
                tracing::error!(
                    lost,
                    waiting = MAX_FACTS,
                    "events are lost: the database has not taken any for too long"
                );
            }
            return false;
        }
        waiting.facts.push_back(fact);
        drop(waiting);
        self.facts.notify_one();
        true
    }

    /// Puts an outcome in; the oldest gives way when too many wait.
    pub(crate) fn outcome(&self, outcome: OutcomeRecord) {
        let mut waiting = self.lock();
        if waiting.closed {
            return;
        }
        if waiting.outcomes.len() >= MAX_OUTCOMES {
            waiting.outcomes.pop_front();
            waiting.counters.outcomes_dropped += 1;
        }
        waiting.outcomes.push_back(outcome);
        let full = waiting.outcomes.len() > MAX_OUTCOMES / 4;
        drop(waiting);
        if full {
            self.facts.notify_one();
        } else {
            self.outcomes.notify_one();
        }
    }

    /// Puts a piece of a series in; the oldest gives way when too many wait.
    pub(crate) fn series(&self, piece: SeriesPiece) {
        let mut waiting = self.lock();
        if waiting.closed {
            return;
        }
        if waiting.series.len() >= MAX_SERIES {
            waiting.series.pop_front();
            waiting.counters.series_lost += 1;
        }
        waiting.series.push_back(piece);
        drop(waiting);
        // As outcomes: not worth a sync of the disk each.
        self.outcomes.notify_one();
    }

    /// Takes what waits, oldest first, at most so much of each.
    pub(crate) fn take(&self, most: usize) -> Work {
        let mut waiting = self.lock();
        let facts = waiting.facts.len().min(most);
        let outcomes = waiting.outcomes.len().min(most);
        let series = waiting.series.len().min(most);
        Work {
            items: waiting.facts.drain(..facts).collect(),
            outcomes: waiting.outcomes.drain(..outcomes).collect(),
            series: waiting.series.drain(..series).collect(),
        }
    }

    /// Whether something waits that is to be written now. A few outcomes alone are not: they wait for company.
    pub(crate) fn presses(&self) -> bool {
        let waiting = self.lock();
        let outcomes = waiting.outcomes.len();
        let few = outcomes + waiting.series.len();
        if !waiting.facts.is_empty() || outcomes > MAX_OUTCOMES / 4 || (waiting.closed && few > 0) {
            return true;
        }
        drop(waiting);
        if few > 0 {
            // What wakes the writer for them may have been used up already.
            self.outcomes.notify_one();
        }
        false
    }

    /// Takes nothing in from now on; the writer writes what is there and ends.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.facts.notify_one();
    }

    /// Drops what waits: who waits for it is told that the store was closed.
    pub(crate) fn abandon(&self) -> usize {
        let mut waiting = self.lock();
        waiting.closed = true;
        let left = waiting.facts.len();
        waiting.facts.clear();
        waiting.outcomes.clear();
        waiting.series.clear();
        left
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(crate) fn count(&self, count: impl FnOnce(&mut Counters)) {
        count(&mut self.lock().counters);
    }

    pub(crate) fn counters(&self) -> Counters {
        let waiting = self.lock();
        Counters {
            facts_waiting: waiting.facts.len(),
            outcomes_waiting: waiting.outcomes.len(),
            ..waiting.counters
        }
    }
}

#[cfg(test)]
mod tests {
    use hale_model::event::{EventData, NodeStarted};
    use jiff::Timestamp;

    use super::*;

    fn outcome(consecutive: u32) -> OutcomeRecord {
        OutcomeRecord {
            subject: "web-0".to_owned(),
            probe: None,
            incarnation: 1,
            at: Timestamp::UNIX_EPOCH,
            took_ms: 1.0,
            reason: None,
            detail: None,
            consecutive,
            threshold: 1,
        }
    }

    #[test]
    fn of_outcomes_the_oldest_give_way_and_are_counted() {
        let queue = Queue::default();
        for n in 0..MAX_OUTCOMES as u32 + 3 {
            queue.outcome(outcome(n));
        }
        assert_eq!(queue.counters().outcomes_dropped, 3);
        assert_eq!(queue.take(1).outcomes[0].consecutive, 3);
    }

    #[test]
    fn outcomes_press_only_when_they_are_many_or_the_last() {
        let queue = Queue::default();
        assert!(!queue.presses());
        queue.outcome(outcome(0));
        assert!(!queue.presses(), "they wait for company");
        assert!(queue.fact(Fact::Removed("web-0".to_owned())));
        assert!(queue.presses());
        queue.take(1);
        for n in 0..=MAX_OUTCOMES as u32 / 4 {
            assert!(!queue.presses());
            queue.outcome(outcome(n));
        }
        assert!(queue.presses());
        queue.take(MAX_OUTCOMES / 4);
        assert!(!queue.presses());
        queue.close();
        assert!(queue.presses());
    }

    #[test]
    fn a_write_takes_as_much_room_as_what_it_says() {
        let event = |length: usize| NewEvent {
            time: Timestamp::UNIX_EPOCH,
            source: "/nodes/a".to_owned(),
            subject: "a".to_owned(),
            data: EventData::NodeStarted(NodeStarted { version: "v".repeat(length) }),
        };
        let size = |length| {
            let changes = vec![Change::Event(Box::new(event(length)))];
            Prepared::from(Write { changes, guards: Vec::new() }).size
        };
        assert!((1_000_000..1_001_000).contains(&size(1_000_000)), "{}", size(1_000_000));
        assert!(size(1) < 1000);
    }

    #[test]
    fn facts_are_kept_and_beyond_the_bound_the_new_ones_are_lost_and_counted() {
        let queue = Queue::default();
        for n in 0..=MAX_FACTS {
            assert_eq!(queue.fact(Fact::Removed(n.to_string())), n < MAX_FACTS);
        }
        assert_eq!(queue.counters().facts_lost, 1);
        assert!(matches!(&queue.take(1).items[0], Fact::Removed(name) if name == "0"));
    }
}
