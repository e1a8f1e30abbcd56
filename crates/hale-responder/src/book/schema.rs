//! Opening the file.

use std::{fs, os::unix::fs::OpenOptionsExt, path::Path, time::Duration};

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use super::BookError;

/// The steps from one schema to the next; the number of a schema is how many of them it took.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE alerts (id TEXT PRIMARY KEY, run TEXT, at INTEGER NOT NULL, record TEXT NOT NULL);
    CREATE INDEX alerts_at ON alerts (at);
    CREATE INDEX alerts_run ON alerts (run);
    CREATE TABLE runs (id TEXT PRIMARY KEY, state TEXT NOT NULL, cluster TEXT NOT NULL, alert TEXT NOT NULL,
        at INTEGER NOT NULL, finished INTEGER NOT NULL, record TEXT NOT NULL);
    CREATE INDEX runs_at ON runs (at);
    CREATE INDEX runs_live ON runs (alert) WHERE NOT finished;
    CREATE TABLE cursors (source TEXT PRIMARY KEY, cursor TEXT NOT NULL);
"];

/// How every connection is made.
pub(super) fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_millis(500))
        .disable_statement_logging()
}

/// Opens the file for writing, making it (mode 0600) when it is not there, and brings its schema up to date.
pub(super) async fn open(path: &Path) -> Result<SqliteConnection, BookError> {
    let failed = BookError::database;
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|source| BookError::File { path: path.display().to_string(), source })?;
    let mut file = options(path).connect().await.map_err(failed("open the record"))?;
    let found: i64 = sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(&mut file)
        .await
        .map_err(failed("tell the record's schema"))?;
    let steps = usize::try_from(found).ok().and_then(|found| MIGRATIONS.get(found..));
    let Some(steps) = steps else { return Err(BookError::Newer { path: path.display().to_string() }) };
    let mut whole = file.begin().await.map_err(failed("begin to change the record's schema"))?;
    for step in steps {
        sqlx::raw_sql(*step).execute(&mut *whole).await.map_err(failed("change the record's schema"))?;
    }
    sqlx::raw_sql(AssertSqlSafe(format!("PRAGMA user_version = {}", MIGRATIONS.len())))
        .execute(&mut *whole)
        .await
        .map_err(failed("note the record's schema"))?;
    whole.commit().await.map_err(failed("change the record's schema"))?;
    Ok(file)
}
