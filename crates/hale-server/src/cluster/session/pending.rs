//! What an agent said and is not durable yet.
//!
//! One write of a session is under way at a time; what comes meanwhile gathers, of an instance only the last, so that a
//! slow disk makes writes larger and not the queue longer. Every write is guarded by the session's own record: once
//! another server has the node, nothing of this session is written any more.

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc, time::Duration};

use hale_model::{
    cluster::{SessionRecord, SessionState},
    event::NewEvent,
};
use hale_store::{
    Store,
    cluster::{Change, Committed, Guard, Key, Kind, Record, Write, WriteError},
};
use jiff::Timestamp;
use tokio::time::sleep;

use crate::cluster::seen::Seen;

/// Events that wait for a database that takes none. The agent keeps what was not acknowledged, and tells it again.
pub(crate) const EVENTS: usize = 10_000;

/// The most bytes of them.
const EVENT_BYTES: usize = 16 << 20;

/// The most events in one write.
const EVENTS_TOGETHER: usize = 1_000;

/// The first and the longest pause after a write that failed.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// What of a node is to become durable.
#[derive(Debug, Default)]
struct Content {
    replicas: BTreeMap<u64, (Arc<Seen>, Timestamp)>,
    /// Generations that are no longer on the node, and whether their placement goes with them.
    gone: BTreeMap<u64, bool>,
    events: Vec<(u64, NewEvent)>,
    /// At least the bytes of the events.
    bytes: usize,
    /// Whether the record of the session itself has changed.
    state: bool,
    /// Beats up to this one are in it.
    sequence: u64,
}

impl Content {
    fn is_empty(&self) -> bool {
        self.replicas.is_empty() && self.gone.is_empty() && self.events.is_empty() && !self.state
    }
}

/// What became durable.
#[derive(Debug)]
pub(crate) struct Durable {
    pub(crate) replicas: Vec<Arc<Seen>>,
    pub(crate) sequence: u64,
    pub(crate) events: u64,
}

type Writing = Pin<Box<dyn Future<Output = Result<Committed, WriteError>> + Send>>;

/// See the module.
pub(crate) struct Pending {
    /// The session's record, as it is or is about to be.
    pub(crate) record: SessionRecord,
    /// The durable one, and its revision.
    durable: SessionRecord,
    revision: u64,
    next: Content,
    under_way: Option<(Content, SessionRecord, Writing)>,
    pause: Duration,
    /// The last event taken.
    events_taken: u64,
    /// Whether events were let go because too many waited.
    overflowed: bool,
}

impl Pending {
    pub(crate) fn new(record: SessionRecord, revision: u64) -> Self {
        Self {
            events_taken: record.events_durable,
            durable: record.clone(),
            record,
            revision,
            next: Content::default(),
            under_way: None,
            pause: PAUSES.0,
            overflowed: false,
        }
    }

    /// How the session is, as far as it is or will be written.
    pub(crate) const fn state(&self) -> SessionState {
        self.record.state
    }

    pub(crate) fn set_state(&mut self, state: SessionState) {
        if self.record.state != state {
            self.record.state = state;
            self.next.state = true;
        }
    }

    /// Takes over how an instance is; its phase and readiness are so since `since`.
    pub(crate) fn replica(&mut self, seen: Arc<Seen>, since: Timestamp) {
        self.next.gone.remove(&seen.generation);
        self.next.replicas.insert(seen.generation, (seen, since));
    }

    /// Takes over that an instance is not there any more.
    pub(crate) fn gone(&mut self, generation: u64, placement_too: bool) {
        self.next.replicas.remove(&generation);
        self.next.gone.insert(generation, placement_too);
    }

    /// Whether it is durable that the agent is not heard of.
    pub(crate) const fn is_silent(&self) -> bool {
        matches!(self.durable.state, SessionState::Silent { .. })
    }

    /// Takes an event of so many bytes over; one that was taken before, or is too many, is passed over.
    pub(crate) fn event(&mut self, number: u64, event: Option<NewEvent>, bytes: usize) {
        if number <= self.events_taken || self.overflowed {
            return;
        }
        self.next.bytes += bytes;
        if self.next.events.len() >= EVENTS || self.next.bytes > EVENT_BYTES {
            self.overflowed = true;
            return;
        }
        self.events_taken = number;
        if let Some(event) = event {
            self.next.events.push((number, event));
        } else if let Some(last) = self.next.events.last_mut() {
            // One that makes no sense counts as told with the one before it.
            last.0 = number;
        } else {
            self.record.events_durable = self.record.events_durable.max(number);
            self.next.state = true;
        }
    }

    /// Whether the last event so far was taken before.
    pub(crate) const fn is_new(&self, number: u64) -> bool {
        number > self.events_taken
    }

    /// Whether something about this instance is on its way to the disk.
    pub(crate) fn holds(&self, generation: u64) -> bool {
        let holds = |it: &Content| it.replicas.contains_key(&generation) || it.gone.contains_key(&generation);
        holds(&self.next) || self.under_way.as_ref().is_some_and(|(it, ..)| holds(it))
    }

    /// Notes the newest beat; what it said is in here.
    pub(crate) fn arrived(&mut self, sequence: u64) {
        self.next.sequence = sequence;
    }

    /// Whether everything that was said is durable.
    pub(crate) fn is_empty(&self) -> bool {
        self.under_way.is_none() && self.next.is_empty()
    }

    pub(crate) const fn is_writing(&self) -> bool {
        self.under_way.is_some()
    }

    /// Whether events were let go, and there is room for them now: the agent is to tell them again.
    pub(crate) fn must_resync(&self) -> bool {
        self.overflowed && self.is_empty()
    }

    /// Begins to write what has gathered, unless a write is under way; `false`: there is nothing to write.
    pub(crate) fn write(&mut self, store: &Store, node: &str) -> bool {
        if self.under_way.is_some() || self.next.is_empty() {
            return self.under_way.is_some();
        }
        let mut content = std::mem::take(&mut self.next);
        self.next.sequence = content.sequence;
        if content.events.len() > EVENTS_TOGETHER {
            self.next.events = content.events.split_off(EVENTS_TOGETHER);
            self.next.bytes = content.bytes;
        }
        let mut record = self.record.clone();
        if let Some((last, _)) = content.events.last() {
            record.events_durable = record.events_durable.max(*last);
        }
        let writing = self.start(store, node, &content, &record, Duration::ZERO);
        self.under_way = Some((content, record, writing));
        true
    }

    fn start(
        &self,
        store: &Store,
        node: &str,
        content: &Content,
        record: &SessionRecord,
        pause: Duration,
    ) -> Writing {
        let mut write = Write::default();
        let key = Key::new(Kind::Session, node);
        write.guards.push(Guard::Unchanged { key, revision: self.revision });
        for (seen, since) in content.replicas.values() {
            write.changes.push(Change::Put(Record::Observed(Box::new(seen.record(node, *since)))));
        }
        for (generation, placement_too) in &content.gone {
            let name = generation.to_string();
            if *placement_too {
                write.changes.push(Change::Delete(Key::new(Kind::Placement, name.clone())));
            }
            write.changes.push(Change::Delete(Key::new(Kind::Observed, name)));
        }
        let events = content.events.iter().map(|(_, event)| Change::Event(Box::new(event.clone())));
        write.changes.extend(events);
        if *record != self.durable {
            write.changes.push(Change::Put(Record::Session(record.clone())));
        }
        let store = store.clone();
        Box::pin(async move {
            if !pause.is_zero() {
                sleep(pause).await;
            }
            store.write(write).await
        })
    }

    /// Waits for the write that is under way; for ever when none is.
    pub(crate) async fn written(&mut self) -> Result<Committed, WriteError> {
        match &mut self.under_way {
            Some((.., writing)) => writing.await,
            None => std::future::pending().await,
        }
    }

    /// Takes the end of a write over; `None`: it failed and is tried again.
    ///
    /// # Errors
    /// When the record of the session is not the one that this session wrote: it is over. Or the store was closed.
    pub(crate) fn done(
        &mut self,
        result: Result<Committed, WriteError>,
        store: &Store,
        node: &str,
    ) -> Result<Option<Durable>, WriteError> {
        let Some((mut content, record, _)) = self.under_way.take() else { return Ok(None) };
        let committed = match result {
            Ok(committed) => committed,
            Err(WriteError::Unavailable(detail)) => {
                tracing::error!(node, detail, "what a node said could not be written; it is tried again");
                let writing = self.start(store, node, &content, &record, self.pause);
                self.pause = (self.pause * 2).min(PAUSES.1);
                self.under_way = Some((content, record, writing));
                return Ok(None);
            }
            // Something of it can't be kept at all: without its events the rest may be, and they count as told.
            Err(WriteError::Refused(detail)) => {
                let lost = content.events.len();
                tracing::error!(node, detail, events = lost, "what a node said can't be written as it is");
                if lost > 0 {
                    content.events.clear();
                    let writing = self.start(store, node, &content, &record, Duration::ZERO);
                    self.under_way = Some((content, record, writing));
                }
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        self.pause = PAUSES.0;
        self.record.events_durable = self.record.events_durable.max(record.events_durable);
        if record != self.durable {
            (self.durable, self.revision) = (record, committed.revision);
        }
        Ok(Some(Durable {
            replicas: content.replicas.into_values().map(|(seen, _)| seen).collect(),
            sequence: content.sequence,
            events: self.record.events_durable,
        }))
    }
}
