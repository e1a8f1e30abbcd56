//! The durable record: alerts, runs, and where each source goes on (R5, R12).
//!
//! One file, one writer. What belongs together is written in one transaction, and nothing is done about it before that is
//! on the disk: an alert that was accepted is still there after a `kill -9`, and a program that may have been started is
//! known to have been.

mod read;
mod schema;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, path::Path, time::Duration};

use hale_api::runs::{Alert, AlertRecord, Run};
use jiff::Timestamp;
use sqlx::{Connection, SqliteConnection, SqlitePool, sqlite::SqlitePoolOptions};
use tokio::sync::Mutex;

/// Why the record could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// It was written by a newer hale, and is left as it is.
    #[error("{path} was written by a newer hale; use that version, or another data directory")]
    Newer {
        /// The file.
        path: String,
    },
    /// The file can't be made.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The database refuses, or is damaged.
    #[error("can't {what}: {source}")]
    Database {
        /// What was tried.
        what: &'static str,
        /// What it said.
        source: sqlx::Error,
    },
}

impl BookError {
    fn database(what: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Database { what, source }
    }
}

/// What is written at once.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Alerts, new ones.
    pub alerts: Vec<AlertRecord>,
    /// Runs as they are now, the last of each counts.
    pub runs: Vec<Run>,
    /// Where sources go on.
    pub cursors: BTreeMap<String, String>,
}

impl Batch {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.alerts.is_empty() && self.runs.is_empty() && self.cursors.is_empty()
    }
}

/// What is on record at a start.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Runs that are not over, and those of the last hour or the time asked for, with their alerts; the oldest first.
    pub runs: Vec<(Run, Alert)>,
    /// Where each source goes on.
    pub cursors: BTreeMap<String, String>,
}

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub struct Keep {
    /// How long what is over is kept.
    pub age: Duration,
    /// The most alerts that are kept; runs that are not over keep theirs.
    pub alerts: u32,
}

impl Default for Keep {
    fn default() -> Self {
        Self { age: Duration::from_secs(30 * 24 * 60 * 60), alerts: 100_000 }
    }
}

/// The record of one responder.
#[derive(Debug)]
pub struct Book {
    writer: Mutex<SqliteConnection>,
    readers: SqlitePool,
}

impl Book {
    /// Opens the file, making it (mode 0600) when it is not there.
    ///
    /// # Errors
    /// A newer hale has written it, or it can't be opened or made.
    pub async fn open(path: &Path) -> Result<Self, BookError> {
        let writer = schema::open(path).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(2)
            .acquire_timeout(Duration::from_secs(5))
            .connect_lazy_with(schema::options(path).pragma("query_only", "on"));
        Ok(Self { writer: Mutex::new(writer), readers })
    }

    /// Writes all of it, or nothing. It is durable when this returns.
    ///
    /// # Errors
    /// The disk is full, or does not answer.
    pub async fn commit(&self, batch: &Batch) -> Result<(), BookError> {
        let failed = BookError::database;
        let mut writer = self.writer.lock().await;
        let mut whole = writer.begin().await.map_err(failed("begin to write the record"))?;
        for record in &batch.alerts {
            sqlx::query(
                "INSERT INTO alerts (id, run, at, record) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (id) DO UPDATE SET run = excluded.run, record = excluded.record",
            )
            .bind(&record.alert.id)
            .bind(&record.run)
            .bind(record.alert.received_at.as_microsecond())
            .bind(json(record))
            .execute(&mut *whole)
            .await
            .map_err(failed("write an alert"))?;
        }
        for run in &batch.runs {
            sqlx::query(
                "INSERT INTO runs (id, state, cluster, alert, at, finished, record)
                 VALUES ($1, $2, $3, $4, $5, $6, $7)
                 ON CONFLICT (id) DO UPDATE SET state = excluded.state, at = excluded.at,
                 finished = excluded.finished, record = excluded.record",
            )
            .bind(&run.id)
            .bind(run.state.as_str())
            .bind(&run.cluster)
            .bind(&run.alert)
            .bind(run.queued_at.as_microsecond())
            .bind(run.state.is_final())
            .bind(json(run))
            .execute(&mut *whole)
            .await
            .map_err(failed("write a run"))?;
        }
        for (source, cursor) in &batch.cursors {
            sqlx::query(
                "INSERT INTO cursors (source, cursor) VALUES ($1, $2)
                 ON CONFLICT (source) DO UPDATE SET cursor = excluded.cursor",
            )
            .bind(source)
            .bind(cursor)
            .execute(&mut *whole)
            .await
            .map_err(failed("write where a source goes on"))?;
        }
        whole.commit().await.map_err(failed("write the record"))
    }

    /// Forgets what is over and old, and the oldest alerts beyond the bound. Returns how many runs went.
    ///
    /// # Errors
    /// The database can't be written.
    pub async fn retain(&self, now: Timestamp, keep: Keep) -> Result<u64, BookError> {
        let failed = BookError::database;
        let age = i64::try_from(keep.age.as_micros()).unwrap_or(i64::MAX);
        let before = now.as_microsecond().saturating_sub(age);
        let mut writer = self.writer.lock().await;
        let mut whole = writer.begin().await.map_err(failed("begin to tidy up the record"))?;
        let gone = sqlx::query("DELETE FROM runs WHERE finished AND at < $1")
            .bind(before)
            .execute(&mut *whole)
            .await
            .map_err(failed("forget old runs"))?;
        // A live run's alert is needed to run it; of the rest the newest are kept.
        sqlx::query(
            "DELETE FROM alerts WHERE id NOT IN (SELECT alert FROM runs WHERE NOT finished)
             AND (at < $1 OR id IN (SELECT id FROM alerts ORDER BY at DESC, id DESC LIMIT -1 OFFSET $2))",
        )
        .bind(before)
        .bind(i64::from(keep.alerts))
        .execute(&mut *whole)
        .await
        .map_err(failed("forget old alerts"))?;
        whole.commit().await.map_err(failed("tidy up the record"))?;
        Ok(gone.rows_affected())
    }

    /// Closes the file.
    pub async fn close(&self) {
        self.readers.close().await;
    }
}

fn json<T: serde::Serialize>(value: &T) -> String {
    // These types always have a JSON form.
    serde_json::to_string(value).unwrap_or_default()
}
