//! Questions to the file.

use hale_api::{events::EventQuery, outcomes::ProbeHistory};
use hale_model::event::Severity;
use jiff::Timestamp;
use sqlx::{SqliteConnection, SqlitePool};

use crate::{
    AuditRecord, ReplicaRecord,
    cluster::Changes,
    rows::{
        self, AuditTuple, DayTuple, EventRow, EventTuple, LeaseRow, LeaseTuple, Numbers, NumbersRow,
        OutcomeTuple, RecordTuple, RunTuple, number,
    },
};

pub(super) const NUMBERS: &str =
    "SELECT revision, floor, last_event, gap_from, gap_to, last_audit, last_run FROM numbers";
pub(super) const RECORDS: &str = "SELECT kind, name, revision, body FROM records \
     WHERE (kind, name) IN (SELECT value ->> 0, value ->> 1 FROM json_each($1))";
pub(super) const LEASES: &str =
    "SELECT name, holder, number, until_at FROM leases WHERE name IN (SELECT value FROM json_each($1))";
pub(super) const REPLICAS_NAMED: &str =
    "SELECT record FROM replicas WHERE name IN (SELECT value FROM json_each($1))";
pub(super) const LAST_OUTCOMES: &str = "SELECT key.value ->> 0, key.value ->> 1, coalesce((SELECT max(seq) \
     FROM outcomes WHERE subject = key.value ->> 0 AND probe = key.value ->> 1), 0) FROM json_each($1) AS key";
pub(super) const LAST_RUNS: &str = "SELECT subject, probe, id, incarnation, reason, count, from_at, until_at, slowest_us \
     FROM outcome_runs WHERE id IN (SELECT (SELECT max(id) FROM outcome_runs AS run \
     WHERE run.subject = key.value ->> 0 AND run.probe = key.value ->> 1) FROM json_each($1) AS key)";
const ALL_RECORDS: &str =
    "SELECT kind, name, revision, body FROM records WHERE body IS NOT NULL ORDER BY revision, kind, name";
const CHANGED_RECORDS: &str = "SELECT kind, name, revision, body FROM records WHERE revision > $1 AND revision <= \
     coalesce((SELECT revision FROM records WHERE revision > $1 ORDER BY revision LIMIT 1 OFFSET $2), \
     9223372036854775807) ORDER BY revision, kind, name";

/// The statement that selects events by a condition, in an order.
macro_rules! select_events {
    (about $order:literal) => {
        select_events!(
            "id IN (SELECT id FROM events WHERE subject = $5 AND id > $1 \
             UNION SELECT id FROM events WHERE workload = $5 AND id > $1)",
            $order
        )
    };
    ($condition:expr, $order:literal) => {
        concat!(
            "SELECT id, at, source, subject, data FROM events WHERE ",
            $condition,
            " AND ($2 IS NULL OR type IN (SELECT value FROM json_each($2))) AND severity >= $3 ORDER BY id ",
            $order,
            " LIMIT $4"
        )
    };
}

/// Reads; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    pool: SqlitePool,
}

impl Reader {
    pub(crate) const fn new(pool: SqlitePool) -> Self {
        Self { pool }
    }

    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }

    pub(crate) async fn numbers(&self) -> Result<Numbers, sqlx::Error> {
        let row: NumbersRow = sqlx::query_as(NUMBERS).fetch_one(&self.pool).await?;
        Ok(row.into())
    }

    #[expect(clippy::unused_async, reason = "the other database has to be asked")]
    pub(crate) async fn now(&self) -> Result<i64, sqlx::Error> {
        Ok(Timestamp::now().as_microsecond())
    }

    pub(crate) async fn leases(&self) -> Result<(Vec<LeaseRow>, i64), sqlx::Error> {
        let rows: Vec<LeaseTuple> =
            sqlx::query_as("SELECT name, holder, number, until_at FROM leases ORDER BY name")
                .fetch_all(&self.pool)
                .await?;
        Ok((rows.into_iter().map(Into::into).collect(), Timestamp::now().as_microsecond()))
    }

    /// All records, or those after a revision.
    pub(crate) async fn changes(&self, after: Option<u64>, limit: usize) -> Result<Changes, sqlx::Error> {
        let mut snapshot = self.pool.begin().await?;
        let numbers: NumbersRow = sqlx::query_as(NUMBERS).fetch_one(&mut *snapshot).await?;
        let numbers = Numbers::from(numbers);
        let after = after.filter(|it| numbers.knows(*it));
        let rows: Vec<RecordTuple> = match after {
            Some(after) => {
                let skip = number(limit.max(1) as u64 - 1);
                let sql = sqlx::query_as(CHANGED_RECORDS).bind(number(after)).bind(skip);
                sql.fetch_all(&mut *snapshot).await?
            }
            None => sqlx::query_as(ALL_RECORDS).fetch_all(&mut *snapshot).await?,
        };
        snapshot.rollback().await?;
        Ok(rows::changes(rows, &numbers, after.is_none(), limit))
    }

    /// The large texts beside records of a kind, by name.
    pub(crate) async fn texts(
        &self,
        kind: &'static str,
        names: &[String],
    ) -> Result<Vec<(String, String)>, sqlx::Error> {
        sqlx::query_as(
            "SELECT name, body FROM texts WHERE kind = $1 AND name IN (SELECT value FROM json_each($2))",
        )
        .bind(kind)
        .bind(serde_json::json!(names).to_string())
        .fetch_all(&self.pool)
        .await
    }

    pub(crate) async fn replicas(&self) -> Result<Vec<ReplicaRecord>, sqlx::Error> {
        let records: Vec<String> =
            sqlx::query_scalar("SELECT record FROM replicas ORDER BY name").fetch_all(&self.pool).await?;
        Ok(records.iter().filter_map(|it| rows::replica(it)).collect())
    }

    pub(crate) async fn history(&self, subject: &str) -> Result<Vec<ProbeHistory>, sqlx::Error> {
        let mut snapshot = self.pool.begin().await?;
        let outcomes: Vec<OutcomeTuple> = sqlx::query_as(
            "SELECT subject, probe, incarnation, at, took_us, reason, detail, consecutive, threshold FROM outcomes \
             WHERE subject = $1 ORDER BY probe, seq",
        )
        .bind(subject)
        .fetch_all(&mut *snapshot)
        .await?;
        let runs: Vec<RunTuple> = sqlx::query_as(
            "SELECT probe, id, incarnation, reason, count, from_at, until_at, slowest_us FROM outcome_runs \
             WHERE subject = $1 ORDER BY probe, id",
        )
        .bind(subject)
        .fetch_all(&mut *snapshot)
        .await?;
        let days: Vec<DayTuple> =
            sqlx::query_as("SELECT probe, day, data FROM series WHERE subject = $1 ORDER BY probe, day")
                .bind(subject)
                .fetch_all(&mut *snapshot)
                .await?;
        snapshot.rollback().await?;
        Ok(rows::history(outcomes, runs, days))
    }

    pub(crate) async fn audit(
        &self,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, AuditRecord)>, sqlx::Error> {
        let rows: Vec<AuditTuple> = sqlx::query_as(
            "SELECT id, at, by, action, subject, detail FROM audit WHERE id > $1 ORDER BY id LIMIT $2",
        )
        .bind(number(after))
        .bind(number(limit as u64))
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(rows::audit).collect())
    }

    /// Events, oldest first.
    pub(crate) async fn events(
        &self,
        query: &EventQuery,
        limit: usize,
    ) -> Result<Vec<EventRow>, sqlx::Error> {
        let mut connection = self.pool.acquire().await?;
        events(&mut connection, query, limit).await
    }

    /// Asks for as little as there is.
    pub(crate) async fn ping(&self) -> Result<(), sqlx::Error> {
        sqlx::query("SELECT 1 FROM events LIMIT 1").fetch_optional(&self.pool).await.map(drop)
    }
}

async fn events(
    connection: &mut SqliteConnection,
    query: &EventQuery,
    limit: usize,
) -> Result<Vec<EventRow>, sqlx::Error> {
    let statement = match (query.subject.is_some(), query.newest) {
        (false, false) => select_events!("id > $1", "ASC"),
        (false, true) => select_events!("id > $1", "DESC"),
        (true, false) => select_events!(about "ASC"),
        (true, true) => select_events!(about "DESC"),
    };
    let types = query.kind.as_deref().map(|wanted| serde_json::json!(rows::types(wanted)).to_string());
    let mut sql = sqlx::query_as(statement)
        .bind(number(query.after.unwrap_or(0)))
        .bind(types)
        .bind(query.severity.unwrap_or(Severity::Info) as i64)
        .bind(number(limit as u64));
    if let Some(subject) = &query.subject {
        sql = sql.bind(subject);
    }
    let rows: Vec<EventTuple> = sql.fetch_all(connection).await?;
    let mut events: Vec<EventRow> = rows.into_iter().filter_map(rows::event).collect();
    if query.newest {
        events.reverse();
    }
    Ok(events)
}
