//! The operations.

mod cluster;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hale_api::{
    events::{EventQuery, type_matches},
    outcomes::ProbeHistory,
};
use hale_model::{
    event::{Event, NewEvent, Severity},
    report::{OutcomeRecord, SeriesPiece},
};
use jiff::Timestamp;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    AuditRecord, Counters, ReplicaRecord, StoreError,
    cluster::{Changes, Committed, Kind, Lease, Write, WriteError},
    engine::{Batches, Engine},
    history::Probes,
    postgres,
    queue::{Fact, Prepared, Queue, Wish},
    reader::Reader,
    rows::Numbers,
    sqlite::{self, schema},
    tail::Tail,
    writer::{Shared, Writer},
};

/// How long a new write waits for a database that takes nothing, before it is told so. One that was taken is tried for
/// as long as it takes.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a lease is waited for.
const LEASE_PATIENCE: Duration = Duration::from_secs(5);

/// The most bytes of writes that wait, in shares of [`SHARE`].
const MOST_SHARES: u32 = 16_384;

/// See [`MOST_SHARES`].
const SHARE: usize = 4096;

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
    reader: Reader,
    /// The file, if it is one.
    file: Option<PathBuf>,
    /// The room for writes that wait.
    room: Arc<Semaphore>,
    writer: Arc<std::sync::Mutex<Option<JoinHandle<()>>>>,
    /// Follows other servers; ends with the last clone.
    follower: Option<Arc<AbortOnDrop>>,
}

#[derive(Debug)]
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Store {
    /// Opens the database at `path`, making it when it is not there, and starts its writer. One at a time may have it
    /// open for writing; who does is decided by the lock of the data directory. Leases of an earlier run end here.
    ///
    /// # Errors
    /// When it is of a newer hale, or can't be opened, copied or migrated.
    pub async fn open(path: &Path, options: Options) -> Result<Self, StoreError> {
        let connection = schema::open(path, schema::MIGRATIONS).await?;
        let name = random_name()?;
        let mut engine = sqlite::Engine::new(connection, name.clone());
        engine.end_leases().await.map_err(StoreError::database("end the leases of an earlier run"))?;
        let reader = Reader::Sqlite(sqlite::Reader::new(sqlite::readers(path)));
        let numbers = reader.numbers().await.map_err(StoreError::database("tell what it holds"))?;
        let mut store = Self::start(Engine::Sqlite(Box::new(engine)), reader, name, numbers, options);
        store.file = Some(path.to_owned());
        Ok(store)
    }

    /// Connects to PostgreSQL, brings its schema up to date, and starts a writer. Any number of servers may do so.
    ///
    /// `url` is `postgres://user:password@h1:5432,h2:5433/db?sslmode=…`, with one host or several, of which the one
    /// that takes writes is found, and found again after a failover. For failovers that lose nothing the standby has to
    /// be a synchronous one.
    ///
    /// # Errors
    /// When the address makes no sense, no host takes writes now, or the schema is of a newer hale.
    pub async fn connect(url: &str, options: Options) -> Result<Self, StoreError> {
        let primary = postgres::Primary::new(url)?;
        let name = random_name()?;
        let engine = postgres::Engine::open(primary.clone(), name.clone()).await?;
        let reader = Reader::Postgres(postgres::Reader::new(primary.clone()));
        let numbers = reader.numbers().await.map_err(StoreError::database("tell what it holds"))?;
        let engine = Engine::Postgres(Box::new(engine));
        let mut store = Self::start(engine, reader.clone(), name.clone(), numbers, options);
        let shared = Arc::clone(&store.shared);
        let follower = tokio::spawn(postgres::follow(primary, reader, shared, name));
        store.follower = Some(Arc::new(AbortOnDrop(follower)));
        Ok(store)
    }

    fn start(engine: Engine, reader: Reader, name: String, numbers: Numbers, options: Options) -> Self {
        let shared = Arc::new(Shared {
            queue: Queue::default(),
            tail: Tail::default(),
            latest: watch::Sender::new(0),
            revision: watch::Sender::new(0),
            trouble: watch::Sender::new(None),
        });
        shared.publish([], numbers.last_event, numbers.revision);
        let writer = Writer {
            shared: Arc::clone(&shared),
            engine,
            reader: reader.clone(),
            probes: Probes::default(),
            batches: Batches::default(),
            options,
            name,
        };
        let writer = Arc::new(std::sync::Mutex::new(Some(tokio::spawn(writer.run()))));
        let room = Arc::new(Semaphore::new(MOST_SHARES as usize));
        Self { shared, reader, file: None, room, writer, follower: None }
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

    /// Takes a piece of a series, to be added to what there is of it. Returns at once; when 200,000 wait the oldest gives
    /// way and is counted.
    pub fn series(&self, piece: SeriesPiece) {
        self.shared.queue.series(piece);
    }

    /// Takes down who asked for what (S26). Returns at once, kept as events are.
    pub fn audit(&self, record: AuditRecord) -> bool {
        self.shared.queue.fact(Fact::Audit(Box::new(record)))
    }

    /// Forgets the record, outcomes and series of a replica or target that is no longer declared; its events stay.
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
        let rows = self.reader.events(query, limit).await.map_err(StoreError::database("be read"))?;
        let events: Vec<Arc<Event>> = rows.into_iter().map(|it| it.event).collect();
        let seen = match events.last() {
            Some(last) if events.len() == limit || query.newest => last.id,
            last => last.map_or(latest, |it| it.id.max(latest)),
        };
        Ok((events, seen))
    }

    /// Whether an event after which somebody wants to go on was never given in this database, which is then one that was
    /// restored: such a reader is told so, and begins anew (S20).
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn is_beyond_end(&self, after: u64) -> Result<bool, StoreError> {
        let numbers = self.reader.numbers().await.map_err(StoreError::database("be read"))?;
        Ok(numbers.is_beyond_end(after))
    }

    /// The probe history of a replica or target.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn history(&self, subject: &str) -> Result<Vec<ProbeHistory>, StoreError> {
        self.reader.history(subject).await.map_err(StoreError::database("be read"))
    }

    /// What is known of each replica, by name.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn replicas(&self) -> Result<Vec<ReplicaRecord>, StoreError> {
        self.reader.replicas().await.map_err(StoreError::database("be read"))
    }

    /// Who asked for what, after a number, oldest first, at most `limit`; each with its number (S26).
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn audit_log(&self, after: u64, limit: usize) -> Result<Vec<(u64, AuditRecord)>, StoreError> {
        self.reader.audit(after, limit).await.map_err(StoreError::database("be read"))
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
        self.reader.ping().await.map_err(StoreError::database("be read"))
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
        if let Some(follower) = &self.follower {
            follower.0.abort();
        }
        self.reader.close().await;
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

/// A name that nobody else has.
fn random_name() -> Result<String, StoreError> {
    let mut bytes = [0_u8; 16];
    let filled = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes);
    filled.map_err(|_| StoreError::Database {
        what: "be opened",
        detail: "no random numbers here".to_owned(),
    })?;
    Ok(bytes.iter().map(|it| format!("{it:02x}")).collect())
}
