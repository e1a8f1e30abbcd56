//! Statements that change something. Each takes all its rows at once, as one array for each column.

use sqlx::PgConnection;

use super::CHANNEL;
use crate::{
    plan::Plan,
    retention::{Limit, Old},
    rows::{SeriesTuple, coarser, micros, number, probe_column, to_text},
};

const INSERT_EVENTS: &str = "INSERT INTO events (id, at, type, source, subject, workload, severity, data) \
     SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], \
     $8::text[])";
const INSERT_AUDIT: &str = "INSERT INTO audit (id, at, by, action, subject, detail) \
     SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[])";
const PUT_RECORDS: &str = "INSERT INTO records (kind, name, revision, at, body) \
     SELECT kind, name, revision, $4, body \
     FROM unnest($1::text[], $2::text[], $3::bigint[], $5::text[]) AS new (kind, name, revision, body) \
     ON CONFLICT (kind, name) DO UPDATE SET revision = excluded.revision, at = excluded.at, body = excluded.body";
const PUT_TEXTS: &str = "INSERT INTO texts (kind, name, body) \
     SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) \
     ON CONFLICT (kind, name) DO UPDATE SET body = excluded.body";
const REMOVE_TEXTS: &str = "DELETE FROM texts WHERE (kind, name) IN \
     (SELECT * FROM unnest($1::text[], $2::text[]))";
const PUT_LEASES: &str = "INSERT INTO leases (name, holder, number, until_at) \
     SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) ON CONFLICT (name) \
     DO UPDATE SET holder = excluded.holder, number = excluded.number, until_at = excluded.until_at";
const ADD_SERIES: &str = "INSERT INTO series AS old (subject, probe, day, coarse, data) \
     SELECT subject, probe, day, false, data \
     FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[]) AS new (subject, probe, day, data) \
     ON CONFLICT (subject, probe, day) DO UPDATE SET data = old.data || excluded.data, coarse = false \
     WHERE length(old.data) < 65536";
const FINE_SERIES: &str =
    "SELECT subject, probe, day, data FROM series WHERE NOT coarse AND day < $1 LIMIT $2";
/// Not of one that was added to since it was read.
const COARSEN: &str = "UPDATE series SET coarse = true, data = new.data \
     FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[]) \
     AS new (subject, probe, day, old, data) WHERE series.subject = new.subject AND series.probe = new.probe \
     AND series.day = new.day AND series.data = new.old";
const REMOVE: [&str; 4] = [
    "DELETE FROM replicas WHERE name = ANY($1)",
    "DELETE FROM outcomes WHERE subject = ANY($1)",
    "DELETE FROM outcome_runs WHERE subject = ANY($1)",
    "DELETE FROM series WHERE subject = ANY($1)",
];
const PUT_REPLICAS: &str = "INSERT INTO replicas (name, workload, record) \
     SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) \
     ON CONFLICT (name) DO UPDATE SET workload = excluded.workload, record = excluded.record";
const PUT_OUTCOMES: &str = "INSERT INTO outcomes AS old \
     (subject, probe, slot, seq, incarnation, at, took_us, reason, detail, consecutive, threshold) \
     SELECT DISTINCT ON (subject, probe, slot) * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], \
     $5::bigint[], $6::bigint[], $7::bigint[], $8::text[], $9::text[], $10::bigint[], $11::bigint[]) \
     AS new (subject, probe, slot, seq, incarnation, at, took_us, reason, detail, consecutive, threshold) \
     ORDER BY subject, probe, slot, seq DESC \
     ON CONFLICT (subject, probe, slot) DO UPDATE SET seq = excluded.seq, incarnation = excluded.incarnation, \
     at = excluded.at, took_us = excluded.took_us, reason = excluded.reason, detail = excluded.detail, \
     consecutive = excluded.consecutive, threshold = excluded.threshold";
const PUT_RUNS: &str = "INSERT INTO outcome_runs \
     (id, subject, probe, incarnation, reason, count, from_at, until_at, slowest_us) \
     SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::bigint[], $7::bigint[], \
     $8::bigint[], $9::bigint[]) ON CONFLICT (id) DO UPDATE SET count = excluded.count, \
     until_at = excluded.until_at, slowest_us = excluded.slowest_us";
/// The numbers, the mark of the batch, and the word to the other servers: told once it is committed.
const CLOSE: &str = "WITH raised AS (UPDATE numbers SET revision = $1, floor = $2, last_event = $3, gap_from = $4, \
     gap_to = $5, last_audit = $6, last_run = $7), marked AS (INSERT INTO writers (writer, batch, at) \
     VALUES ($8, $9, $10) ON CONFLICT (writer) DO UPDATE SET batch = excluded.batch, at = excluded.at) \
     SELECT pg_notify($11, $8)";

const OLD_EVENTS: &str = "DELETE FROM events WHERE id IN \
     (SELECT id FROM (SELECT id, at FROM events ORDER BY id LIMIT $1) AS oldest WHERE at < $2 OR id <= \
     coalesce((SELECT id FROM events ORDER BY id DESC LIMIT 1 OFFSET $3), 0))";
const OLD_AUDIT: &str = "DELETE FROM audit WHERE id IN \
     (SELECT id FROM (SELECT id, at FROM audit ORDER BY id LIMIT $1) AS oldest WHERE at < $2)";
const OLD_OUTCOMES: &str = "DELETE FROM outcomes WHERE (subject, probe) IN \
     (SELECT subject, probe FROM outcomes GROUP BY subject, probe HAVING max(at) < $2 LIMIT $1 / 100)";
const OLD_RUNS: &str =
    "DELETE FROM outcome_runs WHERE id IN (SELECT id FROM outcome_runs WHERE until_at < $2 LIMIT $1)";
const OLD_SERIES: &str = "DELETE FROM series WHERE (subject, probe, day) IN \
     (SELECT subject, probe, day FROM series WHERE day < $2 / 86400000000 LIMIT $1)";
const OLD_WRITERS: &str =
    "DELETE FROM writers WHERE writer IN (SELECT writer FROM writers WHERE at < $2 LIMIT $1)";
/// The lock under which revisions are given, before any row: whoever writes takes them in this order.
const LOCK: &str = "BEGIN; SELECT 1 FROM numbers FOR UPDATE";
const OLD_DELETED: &str = "WITH cut AS (SELECT max(revision) AS at FROM \
     (SELECT revision FROM records WHERE body IS NULL AND at < $2 ORDER BY revision LIMIT $1) AS oldest), \
     raised AS (UPDATE numbers SET floor = greatest(floor, cut.at) FROM cut WHERE cut.at IS NOT NULL) \
     DELETE FROM records USING cut WHERE body IS NULL AND revision <= cut.at";

/// All runs of a probe but the newest.
pub(super) const MANY_RUNS: &str = "DELETE FROM outcome_runs WHERE subject = $1 AND probe = $2 AND id <= \
     (SELECT id FROM outcome_runs WHERE subject = $1 AND probe = $2 ORDER BY id DESC LIMIT 1 OFFSET $3)";

/// All of a batch.
pub(super) async fn all(
    connection: &mut PgConnection,
    plan: &Plan,
    writer: &str,
    batch: u64,
) -> Result<(), sqlx::Error> {
    events(connection, plan).await?;
    audit(connection, plan).await?;
    records(connection, plan).await?;
    texts(connection, plan).await?;
    leases(connection, plan).await?;
    if !plan.removed.is_empty() {
        for statement in REMOVE {
            sqlx::query(statement).bind(&plan.removed).execute(&mut *connection).await?;
        }
    }
    replicas(connection, plan).await?;
    outcomes(connection, plan).await?;
    runs(connection, plan).await?;
    series(connection, plan).await?;
    let mut sql = sqlx::query(CLOSE);
    for number in plan.numbers.row() {
        sql = sql.bind(number);
    }
    sql.bind(writer).bind(number(batch)).bind(plan.now).bind(CHANNEL).execute(connection).await.map(drop)
}

/// One column of all rows.
fn column<'a, R, T>(rows: &'a [R], of: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(of).collect()
}

async fn events(connection: &mut PgConnection, plan: &Plan) -> Result<(), sqlx::Error> {
    let rows = &plan.events;
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(INSERT_EVENTS)
        .bind(column(rows, |it| number(it.event.id)))
        .bind(column(rows, |it| it.event.time.as_microsecond()))
        .bind(column(rows, |it| it.event.data.kind()))
        .bind(column(rows, |it| it.event.source.as_str()))
        .bind(column(rows, |it| it.event.subject.as_str()))
        .bind(column(rows, |it| it.event.data.instance().map(|it| it.workload.as_str())))
        .bind(column(rows, |it| it.event.severity as i64))
        .bind(column(rows, |it| it.data.as_str()))
        .execute(connection)
        .await
        .map(drop)
}

async fn audit(connection: &mut PgConnection, plan: &Plan) -> Result<(), sqlx::Error> {
    let rows = &plan.audit;
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(INSERT_AUDIT)
        .bind(column(rows, |it| number(it.0)))
        .bind(column(rows, |it| it.1.at.as_microsecond()))
        .bind(column(rows, |it| it.1.by.as_str()))
        .bind(column(rows, |it| it.1.action.as_str()))
        .bind(column(rows, |it| it.1.subject.as_str()))
        .bind(column(rows, |it| it.1.detail.as_str()))
        .execute(connection)
        .await
        .map(drop)
}

async fn records(connection: &mut PgConnection, plan: &Plan) -> Result<(), sqlx::Error> {
    let rows = &plan.records;
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(PUT_RECORDS)
        .bind(column(rows, |it| it.key.kind.as_str()))
        .bind(column(rows, |it| it.key.name.as_str()))
        .bind(column(rows, |it| number(it.revision)))
        .bind(plan.now)
        .bind(column(rows, |it| it.body.as_deref()))
        .execute(connection)
        .await
        .map(drop)
}

async fn texts(connection: &mut PgConnection, plan: &Plan) -> Result<(), sqlx::Error> {
    let put: Vec<_> = plan.texts.iter().filter(|it| it.1.is_some()).collect();
    if !put.is_empty() {
        sqlx::query(PUT_TEXTS)
            .bind(column(&put, |it| it.0.kind.as_str()))
            .bind(column(&put, |it| it.0.name.as_str()))
            .bind(column(&put, |it| it.1.as_deref()))
            .execute(&mut *connection)
            .await?;
    }
    let removed: Vec<_> = plan.texts.iter().filter(|it| it.1.is_none()).map(|it| it.0).collect();
    if !removed.is_empty() {
        sqlx::query(REMOVE_TEXTS)
            .bind(column(&removed, |it| it.kind.as_str()))
            .bind(column(&removed, |it| it.name.as_str()))
            .execute(connection)
            .await?;
    }
    Ok(())
}

async fn leases(connection: &mut PgConnection, plan: &Plan) -> Result<(), sqlx::Error> {
    let rows = &plan.leases;
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(PUT_LEASES)
        .bind(column(rows, |it| it.name.as_str()))
        .bind(column(rows, |it| it.holder.as_str()))
        .bind(column(rows, |it| number(it.number)))
        .bind(column(rows, |it| it.until))
        .execute(connection)
        .await
        .map(drop)
}

async fn replicas(connection: &mut PgConnection, plan: &Plan) -> Result<(), sqlx::Error> {
    let rows = &plan.replicas;
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(PUT_REPLICAS)
        .bind(column(rows, |it| it.name.as_str()))
        .bind(column(rows, |it| it.workload.as_str()))
        .bind(column(rows, to_text))
        .execute(connection)
        .await
        .map(drop)
}

async fn outcomes(connection: &mut PgConnection, plan: &Plan) -> Result<(), sqlx::Error> {
    let rows = &plan.outcomes;
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(PUT_OUTCOMES)
        .bind(column(rows, |it| it.outcome.subject.as_str()))
        .bind(column(rows, |it| probe_column(it.outcome.probe)))
        .bind(column(rows, |it| number(it.slot)))
        .bind(column(rows, |it| number(it.seq)))
        .bind(column(rows, |it| number(it.outcome.incarnation)))
        .bind(column(rows, |it| it.outcome.at.as_microsecond()))
        .bind(column(rows, |it| micros(it.outcome.took_ms)))
        .bind(column(rows, |it| it.outcome.reason.map(|it| it.as_str())))
        .bind(column(rows, |it| it.outcome.detail.as_deref()))
        .bind(column(rows, |it| i64::from(it.outcome.consecutive)))
        .bind(column(rows, |it| i64::from(it.outcome.threshold)))
        .execute(connection)
        .await
        .map(drop)
}

async fn runs(connection: &mut PgConnection, plan: &Plan) -> Result<(), sqlx::Error> {
    let rows = &plan.runs;
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(PUT_RUNS)
        .bind(column(rows, |it| number(it.id)))
        .bind(column(rows, |it| it.subject.as_str()))
        .bind(column(rows, |it| it.probe))
        .bind(column(rows, |it| number(it.run.incarnation)))
        .bind(column(rows, |it| it.run.reason.map(|it| it.as_str())))
        .bind(column(rows, |it| number(it.run.count)))
        .bind(column(rows, |it| it.run.from.as_microsecond()))
        .bind(column(rows, |it| it.run.until.as_microsecond()))
        .bind(column(rows, |it| micros(it.run.slowest_ms)))
        .execute(connection)
        .await
        .map(drop)
}

async fn series(connection: &mut PgConnection, plan: &Plan) -> Result<(), sqlx::Error> {
    let rows = &plan.series;
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(ADD_SERIES)
        .bind(column(rows, |it| it.subject.as_str()))
        .bind(column(rows, |it| it.probe))
        .bind(column(rows, |it| number(it.day)))
        .bind(column(rows, |it| it.data.as_str()))
        .execute(connection)
        .await
        .map(drop)
}

/// Makes days of series coarser.
pub(super) async fn coarsen(
    connection: &mut PgConnection,
    before: i64,
    most: i64,
) -> Result<u64, sqlx::Error> {
    let rows: Vec<SeriesTuple> =
        sqlx::query_as(FINE_SERIES).bind(before).bind(most).fetch_all(&mut *connection).await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let done = sqlx::query(COARSEN)
        .bind(column(&rows, |it| it.0.as_str()))
        .bind(column(&rows, |it| it.1.as_str()))
        .bind(column(&rows, |it| it.2))
        .bind(column(&rows, |it| it.3.as_str()))
        .bind(column(&rows, coarser))
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}

/// Takes some of what is old out; how many rows.
pub(super) async fn forget(
    connection: &mut PgConnection,
    old: Old,
    limit: Limit,
) -> Result<u64, sqlx::Error> {
    let statement = match old {
        Old::Events => OLD_EVENTS,
        Old::Audit => OLD_AUDIT,
        Old::Outcomes => OLD_OUTCOMES,
        Old::Runs => OLD_RUNS,
        Old::Series => OLD_SERIES,
        Old::Writers => OLD_WRITERS,
        Old::Deleted => OLD_DELETED,
    };
    let mut sql = sqlx::query(statement).bind(limit.rows).bind(limit.before);
    if old == Old::Events {
        sql = sql.bind(limit.keep);
    }
    if old != Old::Deleted {
        return Ok(sql.execute(connection).await?.rows_affected());
    }
    // When one of these fails, the connection is dropped, and with it the transaction.
    sqlx::raw_sql(LOCK).execute(&mut *connection).await?;
    let deleted = sql.execute(&mut *connection).await?.rows_affected();
    sqlx::raw_sql("COMMIT").execute(connection).await?;
    Ok(deleted)
}
