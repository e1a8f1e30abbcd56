//! Questions to the primary. A question whose host is lost is asked once more, of the primary that is there then.

use std::future::Future;

use hale_api::{events::EventQuery, outcomes::ProbeHistory};
use hale_model::event::Severity;
use sqlx::{PgPool, PgTransaction};

use super::{Primary, bounded};
use crate::{
    AuditRecord, ReplicaRecord,
    cluster::Changes,
    rows::{
        self, AuditTuple, DayTuple, EventRow, EventTuple, LeaseRow, Numbers, NumbersRow, OutcomeTuple,
        RecordTuple, RunTuple, number,
    },
};

const NUMBERS: &str =
    "SELECT revision, floor, last_event, gap_from, gap_to, last_audit, last_run FROM numbers";
const NOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
/// With the time in each row: leases and time are of one moment and one host.
const LEASES: &str = "SELECT name, holder, number, until_at, \
     (extract(epoch FROM clock_timestamp()) * 1000000)::bigint FROM leases ORDER BY name";
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
            " AND ($2::text[] IS NULL OR type = ANY($2)) AND severity >= $3 ORDER BY id ",
            $order,
            " LIMIT $4"
        )
    };
}

/// Reads; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    primary: Primary,
}

impl Reader {
    pub(crate) const fn new(primary: Primary) -> Self {
        Self { primary }
    }

    pub(crate) async fn close(&self) {
        self.primary.close().await;
    }

    /// Asks; and when that fails, looks for the primary and asks again.
    async fn ask<T, F: Future<Output = Result<T, sqlx::Error>>>(
        &self,
        question: impl Fn(PgPool) -> F,
    ) -> Result<T, sqlx::Error> {
        let pool = self.primary.pool().await?;
        match bounded(question(pool)).await {
            Err(_) => {
                self.primary.find().await?;
                bounded(question(self.primary.pool().await?)).await
            }
            answer => answer,
        }
    }

    pub(crate) async fn numbers(&self) -> Result<Numbers, sqlx::Error> {
        let ask = |pool| async move { sqlx::query_as::<_, NumbersRow>(NUMBERS).fetch_one(&pool).await };
        Ok(self.ask(ask).await?.into())
    }

    pub(crate) async fn now(&self) -> Result<i64, sqlx::Error> {
        self.ask(|pool| async move { sqlx::query_scalar(NOW).fetch_one(&pool).await }).await
    }

    pub(crate) async fn leases(&self) -> Result<(Vec<LeaseRow>, i64), sqlx::Error> {
        let ask = |pool: PgPool| async move {
            let rows: Vec<(String, String, i64, i64, i64)> = sqlx::query_as(LEASES).fetch_all(&pool).await?;
            // With no leases it is of no use.
            let now = rows.last().map_or(0, |it| it.4);
            let row = |(name, holder, number, until, _): (String, String, i64, i64, i64)| {
                LeaseRow::from((name, holder, number, until))
            };
            Ok((rows.into_iter().map(row).collect(), now))
        };
        self.ask(ask).await
    }

    /// All records, or those after a revision.
    pub(crate) async fn changes(&self, after: Option<u64>, limit: usize) -> Result<Changes, sqlx::Error> {
        self.ask(|pool| changes(pool, after, limit)).await
    }

    /// The large texts beside records of a kind, by name.
    pub(crate) async fn texts(
        &self,
        kind: &'static str,
        names: &[String],
    ) -> Result<Vec<(String, String)>, sqlx::Error> {
        let ask = |pool: PgPool| {
            let names = names.to_vec();
            async move {
                sqlx::query_as("SELECT name, body FROM texts WHERE kind = $1 AND name = ANY($2)")
                    .bind(kind)
                    .bind(names)
                    .fetch_all(&pool)
                    .await
            }
        };
        self.ask(ask).await
    }

    pub(crate) async fn replicas(&self) -> Result<Vec<ReplicaRecord>, sqlx::Error> {
        let records: Vec<String> = self
            .ask(|pool| async move {
                sqlx::query_scalar("SELECT record FROM replicas ORDER BY name").fetch_all(&pool).await
            })
            .await?;
        Ok(records.iter().filter_map(|it| rows::replica(it)).collect())
    }

    pub(crate) async fn history(&self, subject: &str) -> Result<Vec<ProbeHistory>, sqlx::Error> {
        self.ask(|pool| history(pool, subject)).await
    }

    pub(crate) async fn audit(
        &self,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, AuditRecord)>, sqlx::Error> {
        let ask = |pool| async move {
            sqlx::query_as::<_, AuditTuple>(
                "SELECT id, at, by, action, subject, detail FROM audit WHERE id > $1 ORDER BY id LIMIT $2",
            )
            .bind(number(after))
            .bind(number(limit as u64))
            .fetch_all(&pool)
            .await
        };
        Ok(self.ask(ask).await?.into_iter().map(rows::audit).collect())
    }

    /// Events, oldest first.
    pub(crate) async fn events(
        &self,
        query: &EventQuery,
        limit: usize,
    ) -> Result<Vec<EventRow>, sqlx::Error> {
        self.ask(|pool| events(pool, query, limit)).await
    }

    /// Asks for as little as there is.
    pub(crate) async fn ping(&self) -> Result<(), sqlx::Error> {
        self.ask(|pool| async move {
            sqlx::query("SELECT 1 FROM events LIMIT 1").fetch_optional(&pool).await.map(drop)
        })
        .await
    }
}

/// One moment, for several questions.
async fn snapshot(pool: &PgPool) -> Result<PgTransaction<'static>, sqlx::Error> {
    pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await
}

async fn changes(pool: PgPool, after: Option<u64>, limit: usize) -> Result<Changes, sqlx::Error> {
    let mut snapshot = snapshot(&pool).await?;
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

async fn history(pool: PgPool, subject: &str) -> Result<Vec<ProbeHistory>, sqlx::Error> {
    let mut snapshot = snapshot(&pool).await?;
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

async fn events(pool: PgPool, query: &EventQuery, limit: usize) -> Result<Vec<EventRow>, sqlx::Error> {
    let statement = match (query.subject.is_some(), query.newest) {
        (false, false) => select_events!("id > $1", "ASC"),
        (false, true) => select_events!("id > $1", "DESC"),
        (true, false) => select_events!(about "ASC"),
        (true, true) => select_events!(about "DESC"),
    };
    let mut sql = sqlx::query_as(statement)
        .bind(number(query.after.unwrap_or(0)))
        .bind(query.kind.as_deref().map(rows::types))
        .bind(query.severity.unwrap_or(Severity::Info) as i64)
        .bind(number(limit as u64));
    if let Some(subject) = &query.subject {
        sql = sql.bind(subject);
    }
    let rows: Vec<EventTuple> = sql.fetch_all(&pool).await?;
    let mut events: Vec<EventRow> = rows.into_iter().filter_map(rows::event).collect();
    if query.newest {
        events.reverse();
    }
    Ok(events)
}
