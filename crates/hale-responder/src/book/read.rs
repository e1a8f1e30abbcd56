//! Reading the record.

use std::{collections::BTreeMap, time::Duration};

use hale_api::runs::{Alert, AlertRecord, Run, RunPage, RunQuery};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use sqlx::Row;

use super::{Book, BookError, Known};

/// The most runs of one page, and how many there are unless asked.
const PAGE: (u32, u32) = (1000, 100);

/// The most alerts that are listed.
const ALERTS: i64 = 1000;

/// The most alerts of one run that are shown.
const OF_RUN: i64 = 100;

impl Book {
    /// What a start needs: runs that are not over, those queued within `recent`, and the cursors.
    ///
    /// # Errors
    /// The database can't be read.
    pub async fn load(&self, now: Timestamp, recent: Duration) -> Result<Known, BookError> {
        let recent = i64::try_from(recent.as_micros()).unwrap_or(i64::MAX);
        let rows = sqlx::query(
            "SELECT runs.record, alerts.record FROM runs JOIN alerts ON alerts.id = runs.alert
             WHERE NOT finished OR runs.at >= $1 ORDER BY runs.at, runs.id",
        )
        .bind(now.as_microsecond().saturating_sub(recent))
        .fetch_all(&self.readers)
        .await
        .map_err(BookError::database("read the runs"))?;
        let mut known = Known::default();
        for row in rows {
            let run: Option<Run> = parsed(row.get(0), "run");
            let alert: Option<AlertRecord> = parsed(row.get(1), "alert");
            if let (Some(run), Some(record)) = (run, alert) {
                known.runs.push((run, record.alert));
            }
        }
        known.cursors = self.cursors().await?;
        Ok(known)
    }

    async fn cursors(&self) -> Result<BTreeMap<String, String>, BookError> {
        sqlx::query_as("SELECT source, cursor FROM cursors")
            .fetch_all(&self.readers)
            .await
            .map(|all: Vec<(String, String)>| all.into_iter().collect())
            .map_err(BookError::database("read where sources go on"))
    }

    /// Runs, the newest first.
    ///
    /// # Errors
    /// The database can't be read.
    pub async fn runs(&self, query: &RunQuery) -> Result<RunPage, BookError> {
        let limit = query.limit.unwrap_or(PAGE.1).clamp(1, PAGE.0);
        let rows: Vec<String> = sqlx::query_scalar(
            "SELECT record FROM runs WHERE ($1 IS NULL OR state = $1) AND ($2 IS NULL OR cluster = $2)
             AND ($3 IS NULL OR id < $3) ORDER BY id DESC LIMIT $4",
        )
        .bind(query.state.map(hale_api::runs::RunState::as_str))
        .bind(&query.cluster)
        .bind(&query.before)
        .bind(i64::from(limit) + 1)
        .fetch_all(&self.readers)
        .await
        .map_err(BookError::database("read the runs"))?;
        let more = rows.len() > limit as usize;
        let runs: Vec<Run> =
            rows.into_iter().take(limit as usize).filter_map(|it| parsed(it, "run")).collect();
        let next = more.then(|| runs.last().map(|it| it.id.clone())).flatten();
        Ok(RunPage { runs, next })
    }

    /// One run.
    ///
    /// # Errors
    /// The database can't be read.
    pub async fn run(&self, id: &str) -> Result<Option<Run>, BookError> {
        let row: Option<String> = sqlx::query_scalar("SELECT record FROM runs WHERE id = $1")
            .bind(id)
            .fetch_optional(&self.readers)
            .await
            .map_err(BookError::database("read a run"))?;
        Ok(row.and_then(|it| parsed(it, "run")))
    }

    /// The alerts that a run is for: its own, and those that share its outcome, the newest.
    ///
    /// # Errors
    /// The database can't be read.
    pub async fn alerts_of(&self, run: &Run) -> Result<(Option<Alert>, Vec<Alert>), BookError> {
        let failed = BookError::database;
        let own: Option<String> = sqlx::query_scalar("SELECT record FROM alerts WHERE id = $1")
            .bind(&run.alert)
            .fetch_optional(&self.readers)
            .await
            .map_err(failed("read an alert"))?;
        let rows: Vec<String> = sqlx::query_scalar(
            "SELECT record FROM alerts WHERE run = $1 AND id <> $2 ORDER BY at DESC, id DESC LIMIT $3",
        )
        .bind(&run.id)
        .bind(&run.alert)
        .bind(OF_RUN)
        .fetch_all(&self.readers)
        .await
        .map_err(failed("read alerts"))?;
        let alert = |text: String| parsed::<AlertRecord>(text, "alert").map(|it| it.alert);
        Ok((own.and_then(alert), rows.into_iter().filter_map(alert).collect()))
    }

    /// Alerts, the newest first.
    ///
    /// # Errors
    /// The database can't be read.
    pub async fn alerts(&self) -> Result<Vec<AlertRecord>, BookError> {
        let rows: Vec<String> =
            sqlx::query_scalar("SELECT record FROM alerts ORDER BY at DESC, id DESC LIMIT $1")
                .bind(ALERTS)
                .fetch_all(&self.readers)
                .await
                .map_err(BookError::database("read the alerts"))?;
        Ok(rows.into_iter().filter_map(|it| parsed(it, "alert")).collect())
    }
}

/// One damaged record harms no other.
fn parsed<T: DeserializeOwned>(text: String, what: &str) -> Option<T> {
    serde_json::from_str(&text)
        .inspect_err(|error| tracing::error!(%error, what, "a record can't be read and is passed over"))
        .ok()
}
