//! Statements that change something. Each takes all its rows as one JSON array.

use serde_json::{Value, json};
use sqlx::SqliteConnection;

use super::engine::array;
use crate::{
    plan::Plan,
    retention::{Limit, Old},
    rows::{SeriesTuple, coarser, micros, probe_column, to_text},
};

const INSERT_EVENTS: &str = "INSERT INTO events (id, at, type, source, subject, workload, severity, data) \
     SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7 \
     FROM json_each($1)";
const INSERT_AUDIT: &str = "INSERT INTO audit (id, at, by, action, subject, detail) \
     SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5 FROM json_each($1)";
const PUT_RECORDS: &str = "INSERT INTO records (kind, name, revision, at, body) \
     SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 FROM json_each($1) WHERE true \
     ON CONFLICT (kind, name) DO UPDATE SET revision = excluded.revision, at = excluded.at, body = excluded.body";
const PUT_TEXTS: &str = "INSERT OR REPLACE INTO texts (kind, name, body) \
     SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each($1)";
const REMOVE_TEXTS: &str = "DELETE FROM texts WHERE (kind, name) IN \
     (SELECT value ->> 0, value ->> 1 FROM json_each($1))";
const PUT_LEASES: &str = "INSERT OR REPLACE INTO leases (name, holder, number, until_at) \
     SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each($1)";
const REMOVE_REPLICAS: &str = "DELETE FROM replicas WHERE name IN (SELECT value FROM json_each($1))";
const REMOVE_OUTCOMES: &str = "DELETE FROM outcomes WHERE subject IN (SELECT value FROM json_each($1))";
const REMOVE_RUNS: &str = "DELETE FROM outcome_runs WHERE subject IN (SELECT value FROM json_each($1))";
const PUT_REPLICAS: &str = "INSERT OR REPLACE INTO replicas (name, workload, record) \
     SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each($1)";
const PUT_OUTCOMES: &str = "INSERT OR REPLACE INTO outcomes \
     (subject, probe, slot, seq, incarnation, at, took_us, reason, detail, consecutive, threshold) \
     SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7, \
     value ->> 8, value ->> 9, value ->> 10 FROM json_each($1)";
const PUT_RUNS: &str = "INSERT OR REPLACE INTO outcome_runs \
     (id, subject, probe, incarnation, reason, count, from_at, until_at, slowest_us) \
     SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7, \
     value ->> 8 FROM json_each($1)";
const REMOVE_SERIES: &str = "DELETE FROM series WHERE subject IN (SELECT value FROM json_each($1))";
/// One that has grown beyond what thirty days may take is not added to until its day is made coarser.
const ADD_SERIES: &str = "INSERT INTO series (subject, probe, day, coarse, data) \
     SELECT value ->> 0, value ->> 1, value ->> 2, 0, value ->> 3 FROM json_each($1) WHERE true \
     ON CONFLICT (subject, probe, day) DO UPDATE SET data = data || excluded.data, coarse = 0 \
     WHERE length(data) < 65536";
const FINE_SERIES: &str =
    "SELECT subject, probe, day, data FROM series WHERE coarse = 0 AND day < $1 LIMIT $2";
const COARSEN: &str =
    "UPDATE series SET coarse = 1, data = $4 WHERE subject = $1 AND probe = $2 AND day = $3";
const SET_NUMBERS: &str = "UPDATE numbers SET (revision, floor, last_event, gap_from, gap_to, last_audit, last_run) = \
     (SELECT $1 ->> 0, $1 ->> 1, $1 ->> 2, $1 ->> 3, $1 ->> 4, $1 ->> 5, $1 ->> 6)";

/// Which batch was the last.
pub(super) const PUT_WRITER: &str = "INSERT OR REPLACE INTO writers (writer, batch, at) VALUES ($1, $2, $3)";

const OLD_EVENTS: &str = "DELETE FROM events WHERE id IN \
     (SELECT id FROM (SELECT id, at FROM events ORDER BY id LIMIT $1) WHERE at < $2 OR id <= \
     coalesce((SELECT id FROM events WHERE $3 > 0 ORDER BY id DESC LIMIT 1 OFFSET $3), 0))";
const OLD_AUDIT: &str = "DELETE FROM audit WHERE id IN \
     (SELECT id FROM (SELECT id, at FROM audit ORDER BY id LIMIT $1) WHERE at < $2)";
const OLD_OUTCOMES: &str = "DELETE FROM outcomes WHERE (subject, probe) IN \
     (SELECT subject, probe FROM outcomes GROUP BY subject, probe HAVING max(at) < $2 LIMIT $1 / 100)";
const OLD_RUNS: &str =
    "DELETE FROM outcome_runs WHERE id IN (SELECT id FROM outcome_runs WHERE until_at < $2 LIMIT $1)";
const OLD_SERIES: &str = "DELETE FROM series WHERE (subject, probe, day) IN \
     (SELECT subject, probe, day FROM series WHERE day < $2 / 86400000000 LIMIT $1)";
const OLD_WRITERS: &str = "DELETE FROM writers WHERE writer IN \
     (SELECT writer FROM writers WHERE at < $2 LIMIT $1)";
const CUT: &str = "SELECT max(revision) FROM \
     (SELECT revision FROM records WHERE body IS NULL AND at < $2 ORDER BY revision LIMIT $1)";
const OLD_DELETED: &str = "DELETE FROM records WHERE body IS NULL AND revision <= $1";
const RAISE_FLOOR: &str = "UPDATE numbers SET floor = max(floor, $1)";

/// All runs of a probe but the newest.
pub(super) const MANY_RUNS: &str = "DELETE FROM outcome_runs WHERE subject = $1 AND probe = $2 AND id <= \
     (SELECT id FROM outcome_runs WHERE subject = $1 AND probe = $2 ORDER BY id DESC LIMIT 1 OFFSET $3)";

/// All of a batch.
pub(super) async fn all(connection: &mut SqliteConnection, plan: &Plan) -> Result<(), sqlx::Error> {
    let removed: Vec<Value> = plan.removed.iter().map(|name| json!(name)).collect();
    let statements: [(&'static str, Vec<Value>); 14] = [
        (INSERT_EVENTS, events(plan)),
        (INSERT_AUDIT, audit(plan)),
        (PUT_RECORDS, records(plan)),
        (PUT_TEXTS, texts(plan, true)),
        (REMOVE_TEXTS, texts(plan, false)),
        (PUT_LEASES, leases(plan)),
        (REMOVE_REPLICAS, removed.clone()),
        (REMOVE_OUTCOMES, removed.clone()),
        (REMOVE_RUNS, removed.clone()),
        (REMOVE_SERIES, removed),
        (PUT_REPLICAS, replicas(plan)),
        (PUT_OUTCOMES, outcomes(plan)),
        (PUT_RUNS, runs(plan)),
        (ADD_SERIES, plan.series.iter().map(|it| json!([it.subject, it.probe, it.day, it.data])).collect()),
    ];
    for (statement, rows) in statements {
        if !rows.is_empty() {
            sqlx::query(statement).bind(array(rows.into_iter())).execute(&mut *connection).await?;
        }
    }
    sqlx::query(SET_NUMBERS).bind(json!(plan.numbers.row()).to_string()).execute(connection).await.map(drop)
}

fn events(plan: &Plan) -> Vec<Value> {
    let row = |it: &crate::rows::EventRow| {
        let event = &it.event;
        json!([
            event.id,
            event.time.as_microsecond(),
            event.data.kind(),
            event.source,
            event.subject,
            event.data.instance().map(|it| it.workload.as_str()),
            event.severity as i64,
            it.data,
        ])
    };
    plan.events.iter().map(row).collect()
}

fn audit(plan: &Plan) -> Vec<Value> {
    let rows = plan.audit.iter();
    rows.map(|(id, it)| json!([id, it.at.as_microsecond(), it.by, it.action, it.subject, it.detail]))
        .collect()
}

fn records(plan: &Plan) -> Vec<Value> {
    let rows = plan.records.iter();
    rows.map(|it| json!([it.key.kind.as_str(), it.key.name, it.revision, plan.now, it.body])).collect()
}

/// Those to put, or those to remove.
fn texts(plan: &Plan, put: bool) -> Vec<Value> {
    let rows = plan.texts.iter().filter(|(_, body)| body.is_some() == put);
    rows.map(|(key, body)| json!([key.kind.as_str(), key.name, body])).collect()
}

fn leases(plan: &Plan) -> Vec<Value> {
    plan.leases.iter().map(|it| json!([it.name, it.holder, it.number, it.until])).collect()
}

fn replicas(plan: &Plan) -> Vec<Value> {
    plan.replicas.iter().map(|it| json!([it.name, it.workload, to_text(it)])).collect()
}

fn outcomes(plan: &Plan) -> Vec<Value> {
    let row = |row: &crate::rows::OutcomeRow| {
        let it = &row.outcome;
        json!([
            it.subject,
            probe_column(it.probe),
            row.slot,
            row.seq,
            it.incarnation,
            it.at.as_microsecond(),
            micros(it.took_ms),
            it.reason.map(|it| it.as_str()),
            it.detail,
            it.consecutive,
            it.threshold,
        ])
    };
    plan.outcomes.iter().map(row).collect()
}

fn runs(plan: &Plan) -> Vec<Value> {
    let row = |row: &crate::rows::RunRow| {
        let it = &row.run;
        json!([
            row.id,
            row.subject,
            row.probe,
            it.incarnation,
            it.reason.map(|it| it.as_str()),
            it.count,
            it.from.as_microsecond(),
            it.until.as_microsecond(),
            micros(it.slowest_ms),
        ])
    };
    plan.runs.iter().map(row).collect()
}

/// Takes some of what is old out; how many rows.
pub(super) async fn forget(
    connection: &mut SqliteConnection,
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
        Old::Deleted => return deleted(connection, limit).await,
    };
    let mut sql = sqlx::query(statement).bind(limit.rows).bind(limit.before);
    if old == Old::Events {
        sql = sql.bind(limit.keep);
    }
    Ok(sql.execute(connection).await?.rows_affected())
}

/// Makes days of series coarser.
pub(super) async fn coarsen(
    connection: &mut SqliteConnection,
    before: i64,
    most: i64,
) -> Result<u64, sqlx::Error> {
    let rows: Vec<SeriesTuple> =
        sqlx::query_as(FINE_SERIES).bind(before).bind(most).fetch_all(&mut *connection).await?;
    if rows.is_empty() {
        return Ok(0);
    }
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    let done = async {
        for row in &rows {
            let sql = sqlx::query(COARSEN).bind(&row.0).bind(&row.1).bind(row.2).bind(coarser(row));
            sql.execute(&mut *connection).await?;
        }
        sqlx::raw_sql("COMMIT").execute(&mut *connection).await.map(drop)
    }
    .await;
    if done.is_err() {
        let _ = sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await;
    }
    done.map(|()| rows.len() as u64)
}

/// Records that were deleted long ago; who asks from before that is told everything.
async fn deleted(connection: &mut SqliteConnection, limit: Limit) -> Result<u64, sqlx::Error> {
    let cut: Option<i64> =
        sqlx::query_scalar(CUT).bind(limit.rows).bind(limit.before).fetch_one(&mut *connection).await?;
    let Some(cut) = cut else { return Ok(0) };
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    let done = async {
        let rows = sqlx::query(OLD_DELETED).bind(cut).execute(&mut *connection).await?.rows_affected();
        sqlx::query(RAISE_FLOOR).bind(cut).execute(&mut *connection).await?;
        sqlx::raw_sql("COMMIT").execute(&mut *connection).await?;
        Ok(rows)
    }
    .await;
    if done.is_err() {
        let _ = sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await;
    }
    done
}
