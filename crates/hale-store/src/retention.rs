//! Forgetting what is old, a little at a time (S5).

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sqlx::SqliteConnection;

use crate::{Options, batch::Memory};

/// How often it is looked at.
pub(crate) const EVERY: Duration = Duration::from_secs(30);

/// The most rows that one statement takes out: a commit in between lets others write.
const AT_ONCE: i64 = 1000;

/// The most statements in one go; what is left is for the next.
const ROUNDS: u32 = 20;

/// How many run lengths of a probe are kept.
const RUNS: i64 = 1000;

const OLD_EVENTS: &str = "DELETE FROM events WHERE id IN \
     (SELECT id FROM (SELECT id, at FROM events ORDER BY id LIMIT $1) WHERE at < $2 OR id <= $3)";
const OLD_AUDIT: &str = "DELETE FROM audit WHERE id IN \
     (SELECT id FROM (SELECT id, at FROM audit ORDER BY id LIMIT $1) WHERE at < $2)";
const OLD_OUTCOMES: &str = "DELETE FROM outcomes WHERE (subject, probe) IN \
     (SELECT subject, probe FROM outcomes GROUP BY subject, probe HAVING max(at) < $2 LIMIT $1 / 100)";
const OLD_RUNS: &str =
    "DELETE FROM outcome_runs WHERE id IN (SELECT id FROM outcome_runs WHERE until_at < $2 LIMIT $1)";
const MANY_RUNS: &str = "DELETE FROM outcome_runs WHERE subject = $1 AND probe = $2 AND id <= \
     (SELECT id FROM outcome_runs WHERE subject = $1 AND probe = $2 ORDER BY id DESC LIMIT 1 OFFSET $3)";

/// Takes out what is too old or too much. True when more is left than one go takes.
pub(crate) async fn clean(
    connection: &mut SqliteConnection,
    memory: &mut Memory,
    options: &Options,
) -> Result<bool, sqlx::Error> {
    let before = |age: Duration| {
        let age = SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX);
        Timestamp::now().saturating_sub(age).map_or(i64::MIN, |it| it.as_microsecond())
    };
    let surplus = i64::try_from(memory.last_event().saturating_sub(options.max_events)).unwrap_or(i64::MAX);
    let mut more = false;
    for (statement, age) in [
        (OLD_EVENTS, options.event_age),
        (OLD_AUDIT, options.audit_age),
        (OLD_OUTCOMES, options.outcome_age),
        (OLD_RUNS, options.outcome_age),
    ] {
        let mut left = ROUNDS;
        loop {
            let mut sql = sqlx::query(statement).bind(AT_ONCE).bind(before(age));
            if statement == OLD_EVENTS {
                sql = sql.bind(surplus);
            }
            let deleted = sql.execute(&mut *connection).await?.rows_affected();
            left -= 1;
            if deleted < AT_ONCE.cast_unsigned() {
                break;
            }
            if left == 0 {
                more = true;
                break;
            }
        }
    }
    for (subject, probe) in memory.with_many_runs(100) {
        sqlx::query(MANY_RUNS).bind(subject).bind(probe).bind(RUNS).execute(&mut *connection).await?;
    }
    Ok(more)
}

#[cfg(test)]
mod tests {
    use hale_model::{
        Reason,
        event::{EventData, NewEvent, NodeStarted},
        report::OutcomeRecord,
    };

    use super::*;
    use crate::{queue::Fact, schema};

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

    async fn count(connection: &mut SqliteConnection, table: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(connection).await.unwrap()
    }

    #[tokio::test]
    async fn what_is_too_old_or_too_much_goes_and_the_rest_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mut connection = schema::open(&dir.path().join("hale.db"), schema::MIGRATIONS).await.unwrap();
        let mut memory = Memory::load(&mut connection).await.unwrap();
        let old = (0..1500).map(|_| event(SignedDuration::from_hours(48)));
        let new = (0..20).map(|_| event(SignedDuration::ZERO));
        let flapping = (0..3000).map(|n| outcome(n, (n % 2 == 0).then_some(Reason::Timeout)));
        memory.prepare(old.chain(new).collect(), flapping.collect()).write(&mut connection).await.unwrap();

        let options = Options { event_age: Duration::from_secs(24 * 3600), ..Options::default() };
        assert!(!clean(&mut connection, &mut memory, &options).await.unwrap());
        assert_eq!(count(&mut connection, "events").await, 20);
        assert_eq!(count(&mut connection, "outcome_runs").await, RUNS);
        assert_eq!(count(&mut connection, "outcomes").await, 100);

        let options = Options { max_events: 5, outcome_age: Duration::ZERO, ..Options::default() };
        clean(&mut connection, &mut memory, &options).await.unwrap();
        assert_eq!(count(&mut connection, "events").await, 5);
        assert_eq!(count(&mut connection, "outcome_runs").await, 0);
        assert_eq!(count(&mut connection, "outcomes").await, 0);
    }

    #[tokio::test]
    async fn a_full_disk_costs_nothing_once_there_is_room_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut connection = schema::open(&dir.path().join("hale.db"), schema::MIGRATIONS).await.unwrap();
        let mut memory = Memory::load(&mut connection).await.unwrap();
        let events = (0..2000).map(|_| event(SignedDuration::ZERO));
        let flapping = (0..500).map(|n| outcome(n, (n % 2 == 0).then_some(Reason::Timeout)));
        let batch = memory.prepare(events.collect(), flapping.collect());
        // As SQLite does when the disk is full: it ends the whole transaction by itself.
        let full = "CREATE TEMP TRIGGER disk BEFORE INSERT ON main.events
                    BEGIN SELECT RAISE(ROLLBACK, 'the disk is full'); END";
        sqlx::raw_sql(full).execute(&mut connection).await.unwrap();
        for _ in 0..3 {
            let error = batch.write(&mut connection).await.unwrap_err();
            assert!(error.to_string().contains("full"), "{error}");
        }
        sqlx::raw_sql("DROP TRIGGER disk").execute(&mut connection).await.unwrap();
        batch.write(&mut connection).await.unwrap();
        assert_eq!(count(&mut connection, "events").await, 2000, "all of it, and only once");
    }
}
