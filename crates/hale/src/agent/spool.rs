//! Events and outcomes of a node on its own disk: a database in the data directory, which outlives the agent (N9).
//!
//! The ids that it gives to events are their numbers on the way to a server: without a gap, and never given twice. It
//! keeps what it keeps by age and number; an outage that lasts longer than that costs the oldest events, and no state.

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use hale_agent::{
    spool::{Outcomes, Spool, SpoolCounters, SpoolError, spooled},
    targets::Told,
};
use hale_api::{events::EventQuery, outcomes::ProbeHistory, proto};
use hale_model::{
    cluster::ClusterRecord,
    event::{Event, NewEvent},
    report::{OutcomeRecord, SeriesPiece},
};
use hale_store::{
    Store,
    cluster::{Change, Guard, Record, Write},
};
use hale_supervisor::runtime::BoxFuture;
use tokio::sync::watch;

use super::{random_id, told};
use crate::failure::Failure;

/// The most events that are kept.
const MOST_EVENTS: u64 = 100_000;

/// How long they are kept, whether a server has them or not.
const KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The database of a node.
#[derive(Debug)]
pub(crate) struct StoreSpool {
    store: Store,
    id: String,
    acknowledged: AtomicU64,
}

impl StoreSpool {
    /// Opens `agent.db`, making it when it is not there.
    ///
    /// # Errors
    /// It can't be opened or written.
    pub(crate) async fn open(dir: &Path) -> Result<Self, Failure> {
        let path = dir.join("agent.db");
        let failed =
            |error: &dyn std::fmt::Display| Failure::failed(format!("can't use {}: {error}", path.display()));
        let options = hale_store::Options {
            event_age: KEPT_FOR,
            max_events: MOST_EVENTS,
            ..hale_store::Options::default()
        };
        let store = Store::open(&path, options).await.map_err(|error| failed(&error))?;
        let known = store.load().await.map_err(|error| failed(&error))?;
        let known = known.records.into_iter().find_map(|it| match it.record {
            Some(Record::Cluster(record)) => Some(record.id),
            _ => None,
        });
        let id = match known {
            Some(id) => id,
            None => name(&store).await.map_err(|error| failed(&error))?,
        };
        Ok(Self { store, id, acknowledged: AtomicU64::new(0) })
    }

    /// Which failures of this node's targets were told, and their ends not.
    ///
    /// # Errors
    /// The database can't be read.
    pub(crate) async fn told(&self, node: &str) -> Result<Told, Failure> {
        told::load(&self.store, node)
            .await
            .map_err(|error| Failure::failed(format!("can't read what was told: {error}")))
    }

    /// Writes what waits, and closes the file.
    pub(crate) async fn close(&self) {
        self.store.close().await;
    }
}

/// Gives the database a name of its own, which goes with it: numbers of another one are never taken for its own.
async fn name(store: &Store) -> Result<String, String> {
    let id = random_id().map_err(|error| error.to_string())?;
    let record = Record::Cluster(ClusterRecord {
        id: id.clone(),
        epoch: 1,
        last_generation: 0,
        last_session: 0,
        adoptable_below: 0,
    });
    let guards = vec![Guard::Absent(record.key())];
    let write = Write { changes: vec![Change::Put(record)], guards };
    store.write(write).await.map_err(|error| error.to_string())?;
    Ok(id)
}

fn on_the_way(event: &Event) -> proto::SpooledEvent {
    let whole = NewEvent {
        time: event.time,
        source: event.source.clone(),
        subject: event.subject.clone(),
        data: event.data.clone(),
    };
    spooled(event.id, &whole)
}

impl Spool for StoreSpool {
    fn id(&self) -> String {
        self.id.clone()
    }

    fn append(&self, event: NewEvent) {
        // One that is lost is counted and told there.
        self.store.append(event);
    }

    fn read(&self, after: u64, limit: usize) -> BoxFuture<'_, Result<Vec<proto::SpooledEvent>, SpoolError>> {
        Box::pin(async move {
            let query = EventQuery { after: Some(after), ..EventQuery::default() };
            let read = self.store.events(&query, limit).await;
            let (events, _) = read.map_err(|error| SpoolError(error.to_string()))?;
            Ok(events.iter().map(|event| on_the_way(event)).collect())
        })
    }

    fn acknowledged(&self, up_to: u64) {
        self.acknowledged.fetch_max(up_to, Ordering::Relaxed);
    }

    fn follow(&self) -> watch::Receiver<u64> {
        self.store.follow()
    }

    fn counters(&self) -> SpoolCounters {
        let counters = self.store.counters();
        let written = self.store.latest().saturating_sub(self.acknowledged.load(Ordering::Relaxed));
        SpoolCounters {
            waiting: written.saturating_add(counters.facts_waiting as u64),
            lost: counters.facts_lost.saturating_add(written.saturating_sub(MOST_EVENTS)),
        }
    }

    fn flush(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // Closed: everything was written.
            let _ = self.store.flush().await;
        })
    }
}

impl Outcomes for StoreSpool {
    fn outcome(&self, outcome: OutcomeRecord) {
        self.store.outcome(outcome);
    }

    fn series(&self, piece: SeriesPiece) {
        self.store.series(piece);
    }

    fn forget(&self, subject: &str) {
        self.store.forget(subject);
    }

    fn history(&self, subject: String) -> BoxFuture<'_, Result<Vec<ProbeHistory>, String>> {
        Box::pin(async move { self.store.history(&subject).await.map_err(|error| error.to_string()) })
    }
}

#[cfg(test)]
mod tests {
    use hale_model::event::{EventData, NodeStarted};
    use jiff::Timestamp;

    use super::*;

    fn event(version: u32) -> NewEvent {
        let data = EventData::NodeStarted(NodeStarted { version: version.to_string() });
        NewEvent { time: Timestamp::now(), source: "/nodes/n1".into(), subject: "n1".into(), data }
    }

    #[tokio::test]
    async fn numbers_go_on_without_a_gap_when_the_agent_starts_again() {
        let dir = tempfile::tempdir().unwrap();
        let spool = StoreSpool::open(dir.path()).await.unwrap();
        let id = spool.id();
        for n in 0..3 {
            spool.append(event(n));
        }
        spool.flush().await;
        spool.acknowledged(2);
        assert_eq!(spool.counters(), SpoolCounters { waiting: 1, lost: 0 });
        spool.close().await;
        let spool = StoreSpool::open(dir.path()).await.unwrap();
        assert_eq!(spool.id(), id);
        spool.append(event(3));
        spool.flush().await;
        let numbers: Vec<u64> = spool.read(1, 10).await.unwrap().iter().map(|it| it.number).collect();
        assert_eq!(numbers, [2, 3, 4]);
        spool.close().await;
    }

    #[tokio::test]
    async fn a_database_that_is_made_anew_has_another_name() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = StoreSpool::open(one.path()).await.unwrap();
        let second = StoreSpool::open(other.path()).await.unwrap();
        assert_ne!(first.id(), second.id());
    }
}
