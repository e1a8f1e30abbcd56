//! The operations.

use std::{path::Path, sync::Arc, time::Duration};

use hale_api::{
    events::{EventQuery, type_matches},
    outcomes::ProbeHistory,
};
use hale_model::{
    event::{Event, NewEvent, Severity},
    report::OutcomeRecord,
};
use sqlx::{SqlitePool, sqlite::SqlitePoolOptions};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};

use crate::{
    AuditRecord, Counters, ReplicaRecord, StoreError,
    batch::Memory,
    queue::{Fact, Queue},
    read, schema,
    tail::Tail,
    writer::{Shared, Writer},
};

/// What is kept, and for how long.
#[derive(Debug, Clone)]
pub struct Options {
    /// Events older than this are forgotten. 30 days.
    pub event_age: Duration,
    /// The most events kept. A million.
    pub max_events: u64,
    /// Outcomes older than this are forgotten. 30 days.
    pub outcome_age: Duration,
    /// Audit records older than this are forgotten. 400 days.
    pub audit_age: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let days = |days: u64| Duration::from_secs(days * 24 * 60 * 60);
        Self { event_age: days(30), max_events: 1_000_000, outcome_age: days(30), audit_age: days(400) }
    }
}

/// The database. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
    readers: SqlitePool,
    writer: Arc<std::sync::Mutex<Option<JoinHandle<()>>>>,
}

impl Store {
    /// Opens the database at `path`, making it when it is not there, and starts its writer. One at a time may have it
    /// open for writing; who does is decided by the lock of the data directory.
    ///
    /// # Errors
    /// When it is of a newer hale, or can't be opened, copied or migrated.
    pub async fn open(path: &Path, options: Options) -> Result<Self, StoreError> {
        let mut connection = schema::open(path, schema::MIGRATIONS).await?;
        let memory = Memory::load(&mut connection).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(4)
            .acquire_timeout(Duration::from_secs(5))
            .connect_lazy_with(schema::options(path).pragma("query_only", "on"));
        let shared = Arc::new(Shared {
            queue: Queue::default(),
            tail: Tail::default(),
            latest: watch::Sender::new(memory.last_event()),
            trouble: watch::Sender::new(None),
        });
        let writer = Writer { shared: Arc::clone(&shared), connection, memory, options };
        let writer = Arc::new(std::sync::Mutex::new(Some(tokio::spawn(writer.run()))));
        Ok(Self { shared, readers, writer })
    }

    /// Takes an event; it gets its number when it is written, and is told to readers then. Returns at once. Up to
    /// 100,000 wait for a disk that takes none; false when this one is lost for that.
    pub fn append(&self, event: NewEvent) -> bool {
        self.shared.queue.fact(Fact::Event(Box::new(event)))
    }

    /// Takes an outcome. Returns at once; when 20,000 wait the oldest gives way and is counted.
    pub fn outcome(&self, outcome: OutcomeRecord) {
        self.shared.queue.outcome(outcome);
    }

    /// Takes down who asked for what (S26). Returns at once, kept as events are.
    pub fn audit(&self, record: AuditRecord) -> bool {
        self.shared.queue.fact(Fact::Audit(Box::new(record)))
    }

    /// Forgets the record and outcomes of a replica that is no longer declared; its events stay.
    pub fn forget(&self, replica: &str) -> bool {
        self.shared.queue.fact(Fact::Removed(replica.to_owned()))
    }

    /// Waits until everything taken before is durable, for as long as that takes.
    ///
    /// # Errors
    /// When the store was closed.
    pub async fn flush(&self) -> Result<(), StoreError> {
        let (ack, done) = oneshot::channel();
        self.shared.queue.fact(Fact::Barrier(ack));
        done.await.map_err(|_| StoreError::Closed)
    }

    /// The id of the newest durable event; 0 before the first.
    #[must_use]
    pub fn latest(&self) -> u64 {
        *self.shared.latest.borrow()
    }

    /// Follows [`Self::latest`]: wakes when there is something new to read.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.shared.latest.subscribe()
    }

    /// Events after `query.after`, at most `limit` (`query.limit` is not looked at), oldest first, and the id up to
    /// which all were looked at: what to ask `after` next.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn events(
        &self,
        query: &EventQuery,
        limit: usize,
    ) -> Result<(Vec<Arc<Event>>, u64), StoreError> {
        let after = query.after.unwrap_or(0);
        let latest = self.latest();
        if after >= latest || limit == 0 {
            return Ok((Vec::new(), after));
        }
        if !query.newest
            && let Some(found) = self.shared.tail.after(after, limit, |event| wanted(query, event))
        {
            return Ok(found);
        }
        let mut connection = self.readers.acquire().await.map_err(StoreError::database("be read"))?;
        let events =
            read::events(&mut connection, query, limit).await.map_err(StoreError::database("be read"))?;
        let seen = match events.last() {
            Some(last) if events.len() == limit || query.newest => last.id,
            last => last.map_or(latest, |it| it.id.max(latest)),
        };
        Ok((events.into_iter().map(Arc::new).collect(), seen))
    }

    /// The probe history of a replica or target.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn history(&self, subject: &str) -> Result<Vec<ProbeHistory>, StoreError> {
        let mut connection = self.readers.acquire().await.map_err(StoreError::database("be read"))?;
        read::history(&mut connection, subject).await.map_err(StoreError::database("be read"))
    }

    /// What is known of each replica, by name.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn replicas(&self) -> Result<Vec<ReplicaRecord>, StoreError> {
        let mut connection = self.readers.acquire().await.map_err(StoreError::database("be read"))?;
        read::replicas(&mut connection).await.map_err(StoreError::database("be read"))
    }

    /// Whether it can be read and written; the error says what fails.
    ///
    /// # Errors
    /// When a read fails now, or the last write did.
    pub async fn check(&self) -> Result<(), StoreError> {
        if let Some(detail) = self.shared.trouble.borrow().clone() {
            return Err(StoreError::Database { what: "be written to", detail });
        }
        if !self.is_writing() {
            return Err(StoreError::Closed);
        }
        let asked = sqlx::query("SELECT 1 FROM events LIMIT 1").fetch_optional(&self.readers).await;
        asked.map(drop).map_err(StoreError::database("be read"))
    }

    fn is_writing(&self) -> bool {
        let writer = self.writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        writer.as_ref().is_some_and(|it| !it.is_finished())
    }

    /// What was lost, and what waits.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.queue.counters()
    }

    /// Writes what waits, and closes the file. Tries for 3 s at most when it can't be written to.
    pub async fn close(&self) {
        self.shared.queue.close();
        let writer = self.writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(writer) = writer
            && let Err(error) = writer.await
        {
            tracing::error!(%error, "the database's writer ended badly");
        }
        self.readers.close().await;
    }
}

/// Whether an event is one of those asked for, `after` aside.
fn wanted(query: &EventQuery, event: &Event) -> bool {
    let about = |subject: &String| {
        event.subject == *subject || event.data.instance().is_some_and(|it| it.workload == *subject)
    };
    query.kind.as_deref().is_none_or(|it| type_matches(it, event.data.kind()))
        && query.subject.as_ref().is_none_or(about)
        && event.severity >= query.severity.unwrap_or(Severity::Info)
}
