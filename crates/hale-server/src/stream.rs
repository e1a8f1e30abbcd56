//! The event stream as all its readers share it: read once, written down once (S21).
//!
//! One task follows the store. It encodes each new event and keeps the newest ones in that form; ten thousand readers
//! take clones of the same bytes. A reader who is further behind reads from the store, at its own pace. A wake-up
//! carries the end of the stream and a beat for keep-alives, so that a reader has no timer of its own.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use hale_api::events::{EventQuery, type_matches};
use hale_model::event::{Event, Severity};
use hale_store::{Store, StoreError};
use tokio::{sync::watch, time::sleep_until};
use tokio_util::sync::CancellationToken;

use crate::serve::KEEP_ALIVE;

/// The most events kept in the form they are told in, and the most bytes of them.
const KEPT: (usize, usize) = (4096, 16 << 20);

/// The most events, and about the most bytes, in one piece for one reader: what waits for a reader is no more.
const PIECE: (usize, usize) = (100, 64 << 10);

/// The most events taken from the store at once.
const PAGE: usize = 500;

/// How long until a store that can't be read is asked again.
const RETRY: Duration = Duration::from_millis(500);

/// What wakes readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Beat {
    /// The newest event that is here.
    pub(crate) end: u64,
    /// Rises with time: who has told nothing since the one before tells that it is there.
    pub(crate) beat: u64,
}

#[derive(Debug)]
struct Written {
    event: Arc<Event>,
    text: Bytes,
}

/// A run of events as one piece of bytes: from after one id up to another.
#[derive(Debug, Clone)]
struct Piece {
    after: u64,
    seen: u64,
    text: Bytes,
}

#[derive(Debug, Default)]
struct Newest {
    /// In order, without a hole; after `from`.
    events: VecDeque<Written>,
    from: u64,
    end: u64,
    bytes: usize,
    /// What readers without a filter were given last: most are at the same place.
    last: Option<Piece>,
}

/// The stream, shared by its readers.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    store: Store,
    newest: Arc<Mutex<Newest>>,
    beat: watch::Sender<Beat>,
}

impl Stream {
    /// Begins at the end of what there is.
    pub(crate) fn new(store: Store) -> Self {
        let end = store.latest();
        let newest = Newest { from: end, end, ..Newest::default() };
        let beat = watch::Sender::new(Beat { end, beat: 0 });
        Self { store, newest: Arc::new(Mutex::new(newest)), beat }
    }

    fn lock(&self) -> MutexGuard<'_, Newest> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id of the newest event.
    pub(crate) fn end(&self) -> u64 {
        self.beat.borrow().end.max(self.store.latest())
    }

    /// Wakes when there is more, or when it is time to say that one is there.
    pub(crate) fn follow(&self) -> watch::Receiver<Beat> {
        self.beat.subscribe()
    }

    /// Follows the store until `end` is cancelled.
    pub(crate) async fn run(self, end: CancellationToken) {
        let mut latest = self.store.follow();
        let mut due = tokio::time::Instant::now() + KEEP_ALIVE;
        while !end.is_cancelled() {
            latest.mark_unchanged();
            match self.take().await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => {
                    // Readers wait, and get everything once it can be read again.
                    tracing::warn!(%error, "the newest events can't be read; tried again");
                    tokio::time::sleep(RETRY).await;
                    latest.mark_changed();
                }
            }
            tokio::select! {
                changed = latest.changed() => if changed.is_err() { return },
                () = sleep_until(due) => {
                    due += KEEP_ALIVE;
                    self.beat.send_modify(|it| it.beat += 1);
                }
                () = end.cancelled() => return,
            }
        }
    }

    /// Takes over what is new; true when there may be more.
    async fn take(&self) -> Result<bool, StoreError> {
        let after = self.lock().end;
        let query = EventQuery { after: Some(after), ..EventQuery::default() };
        let (events, seen) = self.store.events(&query, PAGE).await?;
        if seen == after {
            return Ok(false);
        }
        let written: Vec<Written> = events.into_iter().map(Written::new).collect();
        let mut newest = self.lock();
        newest.extend(written, seen);
        drop(newest);
        self.beat.send_modify(|it| it.end = seen);
        Ok(true)
    }

    /// What comes after an id for a reader with this filter, in pieces' size, and up to which was looked at.
    ///
    /// # Errors
    /// When it is no longer here, and the store can't be read.
    pub(crate) async fn after(&self, query: &EventQuery) -> Result<(Bytes, u64), StoreError> {
        let after = query.after.unwrap_or(0);
        if let Some(found) = self.lock().after(after, query) {
            return Ok(found);
        }
        let (events, seen) = self.store.events(query, PIECE.0).await?;
        Ok((events.into_iter().map(|it| Written::new(it).text).collect::<Vec<_>>().concat().into(), seen))
    }
}

impl Newest {
    fn extend(&mut self, written: Vec<Written>, seen: u64) {
        for one in written {
            self.bytes += one.text.len();
            self.events.push_back(one);
        }
        self.end = seen;
        while self.events.len() > KEPT.0 || self.bytes > KEPT.1 {
            let Some(gone) = self.events.pop_front() else { break };
            self.bytes -= gone.text.len();
            self.from = gone.event.id;
        }
    }

    fn after(&mut self, after: u64, query: &EventQuery) -> Option<(Bytes, u64)> {
        if after < self.from {
            return None;
        }
        let all = query.kind.is_none() && query.subject.is_none() && query.severity.is_none();
        if let Some(last) = self.last.as_ref().filter(|it| all && it.after == after && it.seen == self.end) {
            return Some((last.text.clone(), last.seen));
        }
        let first = self.events.partition_point(|it| it.event.id <= after);
        let (mut parts, mut bytes, mut seen) = (Vec::new(), 0, self.end.max(after));
        for (at, one) in self.events.range(first..).enumerate() {
            if parts.len() >= PIECE.0 || bytes >= PIECE.1 {
                seen = self.events[first + at - 1].event.id;
                break;
            }
            if all || wanted(query, &one.event) {
                bytes += one.text.len();
                parts.push(one.text.clone());
            }
        }
        let text = if let [one] = &parts[..] { one.clone() } else { Bytes::from(parts.concat()) };
        if all && seen == self.end {
            self.last = Some(Piece { after, seen, text: text.clone() });
        }
        Some((text, seen))
    }
}

impl Written {
    fn new(event: Arc<Event>) -> Self {
        let mut text = format!("id: {}\ndata: ", event.id).into_bytes();
        // JSON has no line ends in it, so that one `data` line holds it all. Events are always written as JSON.
        if let Ok(json) = serde_json::to_vec(&*event) {
            text.extend_from_slice(&json);
        }
        text.extend_from_slice(b"\n\n");
        Self { event, text: Bytes::from(text) }
    }
}

/// Whether an event is one of those asked for, `after` aside.
pub(crate) fn wanted(query: &EventQuery, event: &Event) -> bool {
    let about = |subject: &String| {
        event.subject == *subject || event.data.instance().is_some_and(|it| it.workload == *subject)
    };
    query.kind.as_deref().is_none_or(|it| type_matches(it, event.data.kind()))
        && query.subject.as_ref().is_none_or(about)
        && event.severity >= query.severity.unwrap_or(Severity::Info)
}

#[cfg(test)]
mod tests {
    use hale_model::event::{EventData, NewEvent, NodeStarted};
    use jiff::Timestamp;

    use super::*;

    fn newest(ids: std::ops::RangeInclusive<u64>) -> Newest {
        let mut newest = Newest { from: ids.start() - 1, end: ids.start() - 1, ..Newest::default() };
        let last = *ids.end();
        let written = ids.map(|id| {
            let (source, subject) = ("/nodes/a".into(), format!("n{}", id % 2));
            let data = EventData::NodeStarted(NodeStarted { version: "1".into() });
            let time = Timestamp::UNIX_EPOCH;
            Written::new(Arc::new(Event::new(id, NewEvent { time, source, subject, data })))
        });
        newest.extend(written.collect(), last);
        newest
    }

    fn ids(text: &Bytes) -> Vec<u64> {
        let text = std::str::from_utf8(text).unwrap();
        text.lines().filter_map(|line| line.strip_prefix("id: ")?.parse().ok()).collect()
    }

    #[test]
    fn readers_at_one_place_are_given_the_same_bytes() {
        let mut newest = newest(11..=20);
        let all = EventQuery::default();
        let (first, seen) = newest.after(15, &all).unwrap();
        assert_eq!((ids(&first), seen), ((16..=20).collect(), 20));
        assert_eq!(newest.after(15, &all).unwrap().0.as_ptr(), first.as_ptr());
        assert_eq!(newest.after(20, &all).unwrap(), (Bytes::new(), 20));
        assert_eq!(newest.after(10, &all).unwrap().1, 20);
        assert_eq!(newest.after(9, &all), None, "that is no longer here");
    }

    #[test]
    fn a_filter_passes_over_the_rest() {
        let mut newest = newest(11..=20);
        let query = EventQuery { subject: Some("n0".into()), ..EventQuery::default() };
        let (text, seen) = newest.after(15, &query).unwrap();
        assert_eq!((ids(&text), seen), (vec![16, 18, 20], 20));
    }

    #[test]
    fn who_is_far_behind_gets_it_in_pieces_without_a_hole() {
        let mut newest = newest(1..=1000);
        let (mut got, mut after) = (Vec::new(), 0);
        while after < 1000 {
            let (text, seen) = newest.after(after, &EventQuery::default()).unwrap();
            assert!(seen > after);
            got.extend(ids(&text));
            after = seen;
        }
        assert_eq!(got, (1..=1000).collect::<Vec<_>>());
    }

    #[test]
    fn no_more_than_the_bound_is_kept() {
        let mut newest = newest(1..=10_000);
        assert_eq!(newest.events.len(), KEPT.0);
        assert_eq!(newest.after(10_000 - KEPT.0 as u64 - 1, &EventQuery::default()), None);
        assert!(newest.after(10_000 - KEPT.0 as u64, &EventQuery::default()).is_some());
    }
}
