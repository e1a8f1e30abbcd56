//! Forgetting what is old, a little at a time (S5).

use std::time::Duration;

use hale_model::series;
use jiff::{SignedDuration, Timestamp};

use crate::{Options, engine::Engine, history::Probes, queue::Queue, rows::number};

/// How often it is looked at.
pub(crate) const EVERY: Duration = Duration::from_secs(30);

/// How soon it is looked at again when more is left than one go takes.
pub(crate) const AGAIN: Duration = Duration::from_millis(100);

/// The lease under which it is done, and for how long that is taken.
pub(crate) const LEASE: (&str, Duration) = ("retention", Duration::from_secs(90));

/// The most rows that one statement takes out: a commit in between lets others write.
const AT_ONCE: i64 = 1000;

/// The most statements of a kind in one go; what is left is for the next.
const ROUNDS: u32 = 20;

/// How many run lengths of a probe are kept.
const RUNS: i64 = 1000;

/// How long it is told that a record was deleted.
const DELETED_AGE: Duration = Duration::from_secs(60 * 60);

/// How long after its last commit a writer is remembered.
const WRITER_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// What grows old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Old {
    Events,
    Audit,
    Outcomes,
    Runs,
    /// Days of series.
    Series,
    /// Records that were deleted.
    Deleted,
    Writers,
}

/// How much of it goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    /// At most so many at once.
    pub(crate) rows: i64,
    /// What is from before this, microseconds.
    pub(crate) before: i64,
    /// All but so many of the newest, whatever their age; 0: no matter how many. Of events only.
    pub(crate) keep: i64,
}

/// Takes out what is too old or too much: of each kind once in any case, and more while nothing waits to be written.
/// True when more is left than one go takes.
pub(crate) async fn clean(
    engine: &mut Engine,
    probes: &mut Probes,
    options: &Options,
    queue: &Queue,
) -> Result<bool, sqlx::Error> {
    let before = |age: Duration| {
        let age = SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX);
        Timestamp::now().saturating_sub(age).map_or(i64::MIN, |it| it.as_microsecond())
    };
    let keep = i64::try_from(options.max_events.max(1)).unwrap_or(i64::MAX);
    let mut more = false;
    for (old, age) in [
        (Old::Events, options.event_age),
        (Old::Audit, options.audit_age),
        (Old::Outcomes, options.outcome_age),
        (Old::Runs, options.outcome_age),
        (Old::Series, options.outcome_age),
        (Old::Deleted, DELETED_AGE),
        (Old::Writers, WRITER_AGE),
    ] {
        let limit = Limit { rows: AT_ONCE, before: before(age), keep };
        for round in 1.. {
            let deleted = engine.forget(old, limit).await?;
            if deleted < AT_ONCE.cast_unsigned() {
                break;
            }
            if round == ROUNDS || queue.presses() {
                more = true;
                break;
            }
        }
    }
    let fine = Timestamp::now().as_second().cast_unsigned() / series::DAY;
    let fine = number(fine.saturating_sub(series::FINE_DAYS));
    for round in 1.. {
        let made = engine.coarsen(fine, AT_ONCE).await?;
        if made < AT_ONCE.cast_unsigned() {
            break;
        }
        if round == ROUNDS || queue.presses() {
            more = true;
            break;
        }
    }
    for probe in probes.with_many_runs(100, 100) {
        engine.trim(&probe, RUNS).await?;
    }
    Ok(more)
}

#[cfg(test)]
mod tests {
    use hale_model::{
        Reason,
        event::{EventData, NewEvent, NodeStarted},
        report::{OutcomeRecord, SeriesPiece},
    };

    use hale_api::events::EventQuery;
    use sqlx::SqliteConnection;
    use tokio::sync::oneshot;

    use super::*;
    use crate::{
        engine::Batches,
        plan::cluster_key,
        postgres,
        queue::{Fact, Prepared, Step},
        reader::Reader,
        sqlite::schema,
        work::Work,
    };

    fn event(age: SignedDuration) -> Fact {
        Fact::Event(Box::new(NewEvent {
            time: Timestamp::now().saturating_sub(age).unwrap(),
            source: "/nodes/local".to_owned(),
            subject: "local".to_owned(),
            data: EventData::NodeStarted(NodeStarted { version: "1".to_owned() }),
        }))
    }

    fn outcome(n: u32, reason: Option<Reason>) -> OutcomeRecord {
        OutcomeRecord {
            subject: "web-0".to_owned(),
            probe: None,
            incarnation: 1,
            at: Timestamp::now(),
            took_ms: 1.0,
            reason,
            detail: None,
            consecutive: n,
            threshold: 1,
        }
    }

    fn piece(start: u64) -> SeriesPiece {
        let mut bucket = series::Bucket::new(start, series::FINE);
        bucket.successes = 1;
        SeriesPiece { subject: "api".to_owned(), probe: None, bucket }
    }

    async fn engine(dir: &tempfile::TempDir) -> Engine {
        let connection = schema::open(&dir.path().join("hale.db"), schema::MIGRATIONS).await.unwrap();
        Engine::Sqlite(Box::new(crate::sqlite::Engine::new(connection, "me".to_owned())))
    }

    async fn raw(dir: &tempfile::TempDir) -> SqliteConnection {
        schema::open(&dir.path().join("hale.db"), schema::MIGRATIONS).await.unwrap()
    }

    async fn count(connection: &mut SqliteConnection, table: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(connection).await.unwrap()
    }

    #[tokio::test]
    async fn what_is_too_old_or_too_much_goes_and_the_rest_stays_in_sqlite() {
        let dir = tempfile::tempdir().unwrap();
        let pool = crate::sqlite::readers(&dir.path().join("hale.db"));
        forgets(engine(&dir).await, Reader::Sqlite(crate::sqlite::Reader::new(pool))).await;
    }

    #[tokio::test]
    async fn what_is_too_old_or_too_much_goes_and_the_rest_stays_in_postgresql() {
        let server = hale_testkit::Postgres::start();
        let primary = postgres::Primary::new(&server.database()).unwrap();
        let engine = postgres::Engine::open(primary.clone(), "me".to_owned()).await.unwrap();
        forgets(Engine::Postgres(Box::new(engine)), Reader::Postgres(postgres::Reader::new(primary))).await;
    }

    async fn events(reader: &Reader) -> usize {
        reader.events(&EventQuery::default(), 10_000).await.unwrap().len()
    }

    async fn forgets(mut engine: Engine, reader: Reader) {
        let (mut probes, mut batches) = (Probes::default(), Batches::default());
        let old = (0..1500).map(|_| event(SignedDuration::from_hours(48)));
        let new = (0..20).map(|_| event(SignedDuration::ZERO));
        let flapping = (0..3000).map(|n| outcome(n, (n % 2 == 0).then_some(Reason::Timeout)));
        let work = Work { items: old.chain(new).collect(), outcomes: flapping.collect(), ..Work::default() };
        let plan = engine.run(&work, &probes, &mut batches).await.unwrap();
        probes.learn(plan.probes, &[], true);

        let queue = Queue::default();
        let options = Options { event_age: Duration::from_secs(24 * 3600), ..Options::default() };
        assert!(!clean(&mut engine, &mut probes, &options, &queue).await.unwrap());
        assert_eq!(events(&reader).await, 20);
        let history = reader.history("web-0").await.unwrap();
        assert_eq!((history[0].runs.len(), history[0].outcomes.len()), (1000, 100));

        let today = Timestamp::now().as_second().cast_unsigned() / series::DAY;
        let days = [today, today - 1, today - 2, today - 29, today - 40];
        let made =
            days.iter().flat_map(|day| (0..12).map(move |n| piece(day * series::DAY + n * series::FINE)));
        let work = Work { series: made.collect(), ..Work::default() };
        engine.run(&work, &probes, &mut batches).await.unwrap();
        assert!(!clean(&mut engine, &mut probes, &options, &queue).await.unwrap());
        let kept = reader.history("api").await.unwrap();
        let buckets = |(day, data): &(u64, String)| (today - day, series::text::read(*day, data).len());
        let kept: Vec<(u64, usize)> = kept[0].series.iter().map(buckets).collect();
        assert_eq!(kept, [(29, 1), (2, 1), (1, 12), (0, 12)], "older days by the hour, none for ever");

        let options = Options { max_events: 5, outcome_age: Duration::ZERO, ..Options::default() };
        clean(&mut engine, &mut probes, &options, &queue).await.unwrap();
        assert_eq!(events(&reader).await, 5);
        assert!(reader.history("web-0").await.unwrap().is_empty());

        let put = Step::Put(cluster_key(), "{}".to_owned());
        for step in [put, Step::Delete(cluster_key())] {
            let (to, _answer) = oneshot::channel();
            let write = Prepared { changes: vec![step], guards: Vec::new(), size: 0, room: None };
            let work = Work { items: vec![Fact::Write(Box::new(write), to)], ..Work::default() };
            engine.run(&work, &probes, &mut batches).await.unwrap();
        }
        assert!(!reader.changes(Some(1), 10).await.unwrap().reset, "a deletion is told for a while");
        let all = Limit { rows: 1000, before: i64::MAX, keep: 0 };
        assert_eq!(engine.forget(Old::Deleted, all).await.unwrap(), 1);
        assert!(reader.changes(Some(1), 10).await.unwrap().reset, "it is not told any more");
        assert!(!reader.changes(Some(2), 10).await.unwrap().reset, "who knows of it needs nothing");
        assert_eq!(engine.forget(Old::Writers, all).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn of_each_kind_some_goes_although_more_waits_to_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let (mut engine, mut raw) = (engine(&dir).await, raw(&dir).await);
        let (mut probes, mut batches) = (Probes::default(), Batches::default());
        let events = (0..2500).map(|_| event(SignedDuration::from_hours(48)));
        let outcomes = (0..50).map(|n| outcome(n, (n % 2 == 0).then_some(Reason::Timeout)));
        let work = Work { items: events.collect(), outcomes: outcomes.collect(), ..Work::default() };
        let plan = engine.run(&work, &probes, &mut batches).await.unwrap();
        probes.learn(plan.probes, &[], true);

        let queue = Queue::default();
        assert!(queue.fact(event(SignedDuration::ZERO)));
        let day = Duration::from_secs(24 * 3600);
        let options = Options { event_age: day, outcome_age: Duration::ZERO, ..Options::default() };
        assert!(clean(&mut engine, &mut probes, &options, &queue).await.unwrap(), "more is left");
        assert_eq!(count(&mut raw, "events").await, 1500, "one statement of them, then others may write");
        assert_eq!(count(&mut raw, "outcomes").await, 0);
        assert_eq!(count(&mut raw, "outcome_runs").await, 0);
        queue.take(1);
        assert!(!clean(&mut engine, &mut probes, &options, &queue).await.unwrap());
        assert_eq!(count(&mut raw, "events").await, 0);
    }

    #[tokio::test]
    async fn a_full_disk_costs_nothing_once_there_is_room_again() {
        let dir = tempfile::tempdir().unwrap();
        let (mut engine, mut raw) = (engine(&dir).await, raw(&dir).await);
        let (probes, mut batches) = (Probes::default(), Batches::default());
        let events = (0..2000).map(|_| event(SignedDuration::ZERO));
        let flapping = (0..500).map(|n| outcome(n, (n % 2 == 0).then_some(Reason::Timeout)));
        let work = Work { items: events.collect(), outcomes: flapping.collect(), ..Work::default() };
        // As SQLite does when the disk is full: it ends the whole transaction by itself.
        let full = "CREATE TRIGGER disk BEFORE INSERT ON events
                    BEGIN SELECT RAISE(ROLLBACK, 'the disk is full'); END";
        sqlx::raw_sql(full).execute(&mut raw).await.unwrap();
        for _ in 0..3 {
            let error = engine.run(&work, &probes, &mut batches).await.unwrap_err();
            assert!(error.to_string().contains("full"), "{error}");
        }
        sqlx::raw_sql("DROP TRIGGER disk").execute(&mut raw).await.unwrap();
        engine.run(&work, &probes, &mut batches).await.unwrap();
        assert_eq!(count(&mut raw, "events").await, 2000, "all of it, and only once");
    }
}
