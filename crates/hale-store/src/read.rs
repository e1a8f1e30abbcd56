//! Questions to the database.

use hale_api::events::{EventQuery, type_matches};
use hale_api::outcomes::{OutcomeRun, ProbeHistory};
use hale_model::{
    Reason,
    event::{Event, EventData, NewEvent, Severity},
    report::OutcomeRecord,
};
use jiff::Timestamp;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::ReplicaRecord;

/// Every replica's record, by name.
pub(crate) async fn replicas(connection: &mut SqliteConnection) -> Result<Vec<ReplicaRecord>, sqlx::Error> {
    let records: Vec<String> =
        sqlx::query_scalar("SELECT record FROM replicas ORDER BY name").fetch_all(connection).await?;
    Ok(records.iter().filter_map(|text| decoded(serde_json::from_str(text), "a replica's record")).collect())
}

/// Where the history of a probe stands: the number of its last outcome, and the run that belongs to.
pub(crate) async fn last_outcome(
    connection: &mut SqliteConnection,
    subject: &str,
    probe: &str,
) -> Result<(u64, Option<(i64, OutcomeRun)>), sqlx::Error> {
    let seq: Option<i64> =
        sqlx::query_scalar("SELECT max(seq) FROM outcomes WHERE subject = $1 AND probe = $2")
            .bind(subject)
            .bind(probe)
            .fetch_one(&mut *connection)
            .await?;
    let run = sqlx::query(
        "SELECT id, incarnation, reason, count, from_at, until_at, slowest_us FROM outcome_runs \
         WHERE subject = $1 AND probe = $2 ORDER BY id DESC LIMIT 1",
    )
    .bind(subject)
    .bind(probe)
    .fetch_optional(connection)
    .await?;
    let run = run.map(|row| Ok::<_, sqlx::Error>((row.try_get("id")?, run_of(&row)?))).transpose()?;
    Ok((seq.map_or(0, i64::cast_unsigned), run))
}

/// The history of each probe of a replica or target.
pub(crate) async fn history(
    connection: &mut SqliteConnection,
    subject: &str,
) -> Result<Vec<ProbeHistory>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT subject, probe, incarnation, at, took_us, reason, detail, consecutive, threshold FROM outcomes \
         WHERE subject = $1 ORDER BY probe, seq",
    )
    .bind(subject)
    .fetch_all(&mut *connection)
    .await?;
    let mut probes: Vec<ProbeHistory> = Vec::new();
    for row in rows {
        let outcome = outcome_of(&row)?;
        match probes.last_mut() {
            Some(last) if last.probe == outcome.probe => last.outcomes.push(outcome),
            _ => {
                probes.push(ProbeHistory { probe: outcome.probe, outcomes: vec![outcome], runs: Vec::new() })
            }
        }
    }
    for history in &mut probes {
        let rows = sqlx::query(
            "SELECT incarnation, reason, count, from_at, until_at, slowest_us FROM outcome_runs \
             WHERE subject = $1 AND probe = $2 ORDER BY id",
        )
        .bind(subject)
        .bind(crate::batch::probe_column(history.probe))
        .fetch_all(&mut *connection)
        .await?;
        history.runs = rows.iter().map(run_of).collect::<Result<_, _>>()?;
    }
    probes.sort_by_key(|it| it.probe);
    Ok(probes)
}

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

/// Events, oldest first.
pub(crate) async fn events(
    connection: &mut SqliteConnection,
    query: &EventQuery,
    limit: usize,
) -> Result<Vec<Event>, sqlx::Error> {
    let statement = match (query.subject.is_some(), query.newest) {
        (false, false) => select_events!("id > $1", "ASC"),
        (false, true) => select_events!("id > $1", "DESC"),
        (true, false) => select_events!(about "ASC"),
        (true, true) => select_events!(about "DESC"),
    };
    let types = query.kind.as_deref().map(|wanted| {
        let types: Vec<&str> =
            EventData::TYPES.into_iter().filter(|kind| type_matches(wanted, kind)).collect();
        serde_json::Value::from(types).to_string()
    });
    let mut sql = sqlx::query(statement)
        .bind(i64::try_from(query.after.unwrap_or(0)).unwrap_or(i64::MAX))
        .bind(types)
        .bind(query.severity.unwrap_or(Severity::Info) as i64)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX));
    if let Some(subject) = &query.subject {
        sql = sql.bind(subject);
    }
    let rows = sql.fetch_all(connection).await?;
    let mut events = Vec::with_capacity(rows.len());
    for row in &rows {
        events.extend(event_of(row)?);
    }
    if query.newest {
        events.reverse();
    }
    Ok(events)
}

fn event_of(row: &SqliteRow) -> Result<Option<Event>, sqlx::Error> {
    let id: i64 = row.try_get("id")?;
    let data: String = row.try_get("data")?;
    let Some(data) = decoded::<EventData, _>(serde_json::from_str(&data), "an event") else {
        return Ok(None);
    };
    let event = NewEvent {
        time: time(row, "at")?,
        source: row.try_get("source")?,
        subject: row.try_get("subject")?,
        data,
    };
    Ok(Some(Event::new(id.cast_unsigned(), event)))
}

fn outcome_of(row: &SqliteRow) -> Result<OutcomeRecord, sqlx::Error> {
    let probe: String = row.try_get("probe")?;
    Ok(OutcomeRecord {
        subject: row.try_get("subject")?,
        probe: probe.parse().ok(),
        incarnation: row.try_get::<i64, _>("incarnation")?.cast_unsigned(),
        at: time(row, "at")?,
        took_ms: milliseconds(row.try_get("took_us")?),
        reason: reason(row)?,
        detail: row.try_get("detail")?,
        consecutive: row.try_get("consecutive")?,
        threshold: row.try_get("threshold")?,
    })
}

fn run_of(row: &SqliteRow) -> Result<OutcomeRun, sqlx::Error> {
    Ok(OutcomeRun {
        incarnation: row.try_get::<i64, _>("incarnation")?.cast_unsigned(),
        reason: reason(row)?,
        count: row.try_get::<i64, _>("count")?.cast_unsigned(),
        from: time(row, "from_at")?,
        until: time(row, "until_at")?,
        slowest_ms: milliseconds(row.try_get("slowest_us")?),
    })
}

fn milliseconds(micros: i64) -> f64 {
    micros as f64 / 1000.0
}

fn time(row: &SqliteRow, column: &str) -> Result<Timestamp, sqlx::Error> {
    let micros: i64 = row.try_get(column)?;
    Timestamp::from_microsecond(micros).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

fn reason(row: &SqliteRow) -> Result<Option<Reason>, sqlx::Error> {
    let word: Option<String> = row.try_get("reason")?;
    // A word that is not on the list is still a failure; the nearest that claims nothing about what was probed.
    Ok(word.map(|word| word.parse().unwrap_or(Reason::ProberError)))
}

/// A row that can't be read is left out, and said so, rather than hide all others.
fn decoded<T, E: std::fmt::Display>(result: Result<T, E>, what: &str) -> Option<T> {
    result.inspect_err(|error| tracing::warn!(%error, "the database holds {what} that can't be read")).ok()
}
