//! Events on their way to a server: kept, numbered without a gap, until the server says that they are durable (N9).
//!
//! A node without a server goes on, and what it must know later waits here. The memory of [`MemorySpool`] is bounded:
//! when it is full the oldest event of a replica that a newer one of the same replica follows gives way, and is
//! counted. The state of replicas does not depend on it: that is told whole, whenever it changed.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use hale_api::{outcomes::ProbeHistory, proto};
use hale_model::{
    event::NewEvent,
    report::{OutcomeRecord, SeriesPiece},
};
use hale_supervisor::runtime::BoxFuture;
use tokio::sync::watch;

/// The most events that a [`MemorySpool`] keeps by default.
pub const MOST_EVENTS: usize = 10_000;

/// Why a spool could not be read; it is tried again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("can't read the spooled events: {0}")]
pub struct SpoolError(pub String);

/// How much waits, and what was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpoolCounters {
    /// Events that no server has made durable yet.
    pub waiting: u64,
    /// Events that gave way because too many waited.
    pub lost: u64,
}

/// Keeps events until a server has them.
pub trait Spool: Send + Sync + 'static {
    /// Names the log; changes when it is made anew, so that numbers of two logs are never compared.
    fn id(&self) -> String;

    /// Takes an event. Returns at once; when too many wait an older one gives way and is counted.
    fn append(&self, event: NewEvent);

    /// Events after a number, in order, at most `limit`. What was given once keeps its number.
    fn read(&self, after: u64, limit: usize) -> BoxFuture<'_, Result<Vec<proto::SpooledEvent>, SpoolError>>;

    /// A server has made events up to this number durable.
    fn acknowledged(&self, up_to: u64);

    /// Wakes when there may be more to read.
    fn follow(&self) -> watch::Receiver<u64>;

    /// How much waits, and what was lost.
    fn counters(&self) -> SpoolCounters;

    /// Waits until what was taken survives the end of this process, where it can.
    fn flush(&self) -> BoxFuture<'_, ()>;
}

/// Keeps outcomes, for `hale explain`.
pub trait Outcomes: Send + Sync + 'static {
    /// Takes an outcome. Returns at once.
    fn outcome(&self, outcome: OutcomeRecord);

    /// Takes what became of checks for a while. Returns at once.
    fn series(&self, piece: SeriesPiece);

    /// A replica or target is no more.
    fn forget(&self, subject: &str);

    /// The probe history of a replica or target.
    fn history(&self, subject: String) -> BoxFuture<'_, Result<Vec<ProbeHistory>, String>>;
}

/// An event as it goes over the wire.
#[must_use]
pub fn spooled(number: u64, event: &NewEvent) -> proto::SpooledEvent {
    proto::SpooledEvent {
        number,
        time: event.time.as_microsecond(),
        source: event.source.clone(),
        subject: event.subject.clone(),
        // An event always has a JSON form.
        data: serde_json::to_string(&event.data).unwrap_or_default(),
    }
}

#[derive(Debug, Default)]
struct Kept {
    /// Have been read, and have their numbers.
    numbered: VecDeque<proto::SpooledEvent>,
    /// Not read yet: numbers are given when they are, so that one that gives way leaves no gap.
    fresh: VecDeque<NewEvent>,
    /// How many of a subject are among the fresh.
    of_subject: HashMap<String, usize>,
    last: u64,
    lost: u64,
}

/// Events in memory: what a process has spooled ends with it.
#[derive(Debug)]
pub struct MemorySpool {
    id: String,
    most: usize,
    kept: Mutex<Kept>,
    changed: watch::Sender<u64>,
}

impl MemorySpool {
    /// An empty log of this name, for at most so many events.
    #[must_use]
    pub fn new(id: impl Into<String>, most: usize) -> Self {
        Self { id: id.into(), most: most.max(1), kept: Mutex::default(), changed: watch::Sender::new(0) }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// One of the fresh gives way: the oldest that a newer one of the same subject follows, else the oldest.
    fn give_way(&mut self) {
        let followed =
            self.fresh.iter().position(|it| self.of_subject.get(&it.subject).is_some_and(|n| *n > 1));
        if let Some(event) = self.fresh.remove(followed.unwrap_or(0)) {
            self.uncount(&event.subject);
            self.lost += 1;
        }
    }

    fn uncount(&mut self, subject: &str) {
        if let Some(n) = self.of_subject.get_mut(subject) {
            *n -= 1;
            if *n == 0 {
                self.of_subject.remove(subject);
            }
        }
    }
}

impl Spool for MemorySpool {
    fn id(&self) -> String {
        self.id.clone()
    }

    fn append(&self, event: NewEvent) {
        let mut kept = self.kept();
        if kept.fresh.len() >= self.most {
            kept.give_way();
        }
        *kept.of_subject.entry(event.subject.clone()).or_default() += 1;
        kept.fresh.push_back(event);
        drop(kept);
        self.changed.send_modify(|it| *it = it.wrapping_add(1));
    }

    fn read(&self, after: u64, limit: usize) -> BoxFuture<'_, Result<Vec<proto::SpooledEvent>, SpoolError>> {
        let mut kept = self.kept();
        // What has its number stays within the bound, too: no more are given out before some are durable.
        let mut room = self.most.saturating_sub(kept.numbered.len());
        let numbered = kept.numbered.iter().filter(|it| it.number > after).count();
        let wanted = limit.saturating_sub(numbered);
        room = room.min(wanted);
        while room > 0
            && let Some(event) = kept.fresh.pop_front()
        {
            kept.uncount(&event.subject);
            kept.last += 1;
            let event = spooled(kept.last, &event);
            kept.numbered.push_back(event);
            room -= 1;
        }
        let read = kept.numbered.iter().filter(|it| it.number > after).take(limit).cloned().collect();
        Box::pin(std::future::ready(Ok(read)))
    }

    fn acknowledged(&self, up_to: u64) {
        let mut kept = self.kept();
        while kept.numbered.front().is_some_and(|it| it.number <= up_to) {
            kept.numbered.pop_front();
        }
    }

    fn follow(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn counters(&self) -> SpoolCounters {
        let kept = self.kept();
        SpoolCounters { waiting: (kept.numbered.len() + kept.fresh.len()) as u64, lost: kept.lost }
    }

    fn flush(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// The most outcomes of one subject that [`RecentOutcomes`] keeps.
const RECENT: usize = 300;

/// The most subjects that [`RecentOutcomes`] keeps outcomes of.
const SUBJECTS: usize = 10_000;

/// The last outcomes in memory, whole.
#[derive(Debug, Default)]
pub struct RecentOutcomes(Mutex<HashMap<String, VecDeque<OutcomeRecord>>>);

impl Outcomes for RecentOutcomes {
    fn outcome(&self, outcome: OutcomeRecord) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= SUBJECTS && !all.contains_key(&outcome.subject) {
            return;
        }
        let recent = all.entry(outcome.subject.clone()).or_default();
        if recent.len() >= RECENT {
            recent.pop_front();
        }
        recent.push_back(outcome);
    }

    /// Nothing is kept: what is being filled is known all the same.
    fn series(&self, _piece: SeriesPiece) {}

    fn forget(&self, subject: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(subject);
    }

    fn history(&self, subject: String) -> BoxFuture<'_, Result<Vec<ProbeHistory>, String>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut histories: Vec<ProbeHistory> = Vec::new();
        for outcome in all.get(&subject).into_iter().flatten() {
            match histories.iter_mut().find(|it| it.probe == outcome.probe) {
                Some(history) => history.outcomes.push(outcome.clone()),
                None => histories.push(ProbeHistory {
                    probe: outcome.probe,
                    outcomes: vec![outcome.clone()],
                    runs: Vec::new(),
                    series: Vec::new(),
                }),
            }
        }
        Box::pin(std::future::ready(Ok(histories)))
    }
}

#[cfg(test)]
mod tests {
    use hale_model::event::{EventData, NodeStarted};
    use jiff::Timestamp;

    use super::*;

    fn event(subject: &str, version: u32) -> NewEvent {
        let data = EventData::NodeStarted(NodeStarted { version: version.to_string() });
        NewEvent { time: Timestamp::UNIX_EPOCH, source: "/nodes/n".into(), subject: subject.into(), data }
    }

    async fn numbers(spool: &MemorySpool, after: u64, limit: usize) -> Vec<u64> {
        spool.read(after, limit).await.unwrap().iter().map(|it| it.number).collect()
    }

    #[tokio::test]
    async fn numbers_have_no_gap_and_what_was_read_keeps_its_own() {
        let spool = MemorySpool::new("s", 10);
        for n in 0..4 {
            spool.append(event("web-0", n));
        }
        assert_eq!(numbers(&spool, 0, 2).await, [1, 2]);
        let first = spool.read(0, 10).await.unwrap();
        assert_eq!(first.iter().map(|it| it.number).collect::<Vec<_>>(), [1, 2, 3, 4]);
        spool.acknowledged(3);
        assert_eq!(spool.read(0, 10).await.unwrap(), first[3..]);
        assert_eq!(spool.counters(), SpoolCounters { waiting: 1, lost: 0 });
    }

    #[tokio::test]
    async fn over_an_outage_older_events_of_a_busy_replica_give_way_and_the_last_of_each_stays() {
        let spool = MemorySpool::new("s", 5);
        spool.append(event("db-0", 0));
        for n in 0..50 {
            spool.append(event("web-0", n));
        }
        let kept = spool.read(0, 100).await.unwrap();
        assert_eq!(kept.iter().map(|it| it.number).collect::<Vec<_>>(), [1, 2, 3, 4, 5], "no gap");
        assert_eq!(kept[0].subject, "db-0", "the only one of its replica stays");
        assert!(kept[4].data.contains("49"), "the newest stays");
        assert_eq!(spool.counters(), SpoolCounters { waiting: 5, lost: 46 });
    }

    #[tokio::test]
    async fn what_was_given_out_is_never_lost_and_bounded() {
        let spool = MemorySpool::new("s", 3);
        for n in 0..3 {
            spool.append(event("web-0", n));
        }
        assert_eq!(numbers(&spool, 0, 100).await, [1, 2, 3]);
        for n in 0..9 {
            spool.append(event("web-0", n));
        }
        assert_eq!(numbers(&spool, 0, 100).await, [1, 2, 3], "no more until some are durable");
        spool.acknowledged(2);
        assert_eq!(numbers(&spool, 2, 100).await, [3, 4, 5]);
        assert_eq!(spool.counters().waiting, 4);
    }
}
