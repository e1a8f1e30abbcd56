//! Opening the file and bringing its schema up to date.

use std::{fs, io, os::unix::fs::OpenOptionsExt, path::Path, time::Duration};

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use crate::StoreError;

/// The steps from one schema to the next; the number of a schema is how many of them it took.
pub(crate) const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/sqlite/0001-first.sql"),
    include_str!("../../migrations/sqlite/0002-records.sql"),
    include_str!("../../migrations/sqlite/0003-texts.sql"),
    include_str!("../../migrations/sqlite/0004-series.sql"),
];

/// How every connection is made.
pub(crate) fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_millis(500))
        .disable_statement_logging()
}

/// Opens the file for writing, making it (mode 0600) when it is not there, and brings its schema up to date.
///
/// A file with an older schema is copied beside itself first (`hale.db.schema-1`).
///
/// # Errors
/// When the schema is newer than the migrations, or the file can't be opened, copied or changed.
pub(crate) async fn open(path: &Path, migrations: &[&str]) -> Result<SqliteConnection, StoreError> {
    let file_error = |source: io::Error| StoreError::File { path: path.display().to_string(), source };
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(file_error)?;
    let mut connection = options(path).connect().await.map_err(StoreError::database("open its file"))?;
    let found = version(&mut connection).await?;
    let known = i64::try_from(migrations.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(StoreError::NewerSchema { path: path.display().to_string(), found, known });
    }
    if found == known {
        return Ok(connection);
    }
    if found > 0 {
        copy(&mut connection, path, found).await?;
    }
    migrate(&mut connection, migrations).await?;
    Ok(connection)
}

async fn version(connection: &mut SqliteConnection) -> Result<i64, StoreError> {
    sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(connection)
        .await
        .map_err(StoreError::database("tell its schema"))
}

/// A consistent copy, whatever is in the write-ahead log.
async fn copy(connection: &mut SqliteConnection, path: &Path, version: i64) -> Result<(), StoreError> {
    let to = path.with_extension(format!("db.schema-{version}"));
    match fs::remove_file(&to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(StoreError::File { path: to.display().to_string(), source: error });
        }
        _ => {}
    }
    sqlx::query("VACUUM INTO $1")
        .bind(to.to_string_lossy())
        .execute(connection)
        .await
        .map_err(StoreError::database("be copied before its schema is changed"))?;
    fs::set_permissions(&to, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .map_err(|source| StoreError::File { path: to.display().to_string(), source })?;
    tracing::info!(copy = %to.display(), "copied the database before changing its schema");
    Ok(())
}

async fn migrate(connection: &mut SqliteConnection, migrations: &[&str]) -> Result<(), StoreError> {
    let failed = StoreError::database("change its schema");
    let result = async {
        // The lock: a second one waits here, and then finds nothing left to do.
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        let found: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *transaction).await?;
        for (number, step) in migrations.iter().enumerate().skip(usize::try_from(found).unwrap_or(0)) {
            let step = format!("{step}\nPRAGMA user_version = {};", number + 1);
            sqlx::raw_sql(AssertSqlSafe(step)).execute(&mut *transaction).await?;
        }
        transaction.commit().await
    };
    result.await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn an_older_database_is_copied_then_migrated_and_keeps_what_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hale.db");
        let mut old = open(&path, MIGRATIONS).await.unwrap();
        sqlx::query("INSERT INTO audit (at, by, action, subject, detail) VALUES (1, 'me', 'stop', 'x', '')")
            .execute(&mut old)
            .await
            .unwrap();
        old.close().await.unwrap();

        let newer = [MIGRATIONS, &["ALTER TABLE audit ADD COLUMN more TEXT;"]].concat();
        let mut migrated = open(&path, &newer).await.unwrap();
        let by: String = sqlx::query_scalar("SELECT by FROM audit WHERE more IS NULL")
            .fetch_one(&mut migrated)
            .await
            .unwrap();
        assert_eq!(by, "me");
        migrated.close().await.unwrap();

        let copy = dir.path().join(format!("hale.db.schema-{}", MIGRATIONS.len()));
        assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
        let mut copy = open(&copy, MIGRATIONS).await.unwrap();
        let by: String = sqlx::query_scalar("SELECT by FROM audit").fetch_one(&mut copy).await.unwrap();
        assert_eq!(by, "me");
    }

    #[tokio::test]
    async fn the_numbers_go_on_from_the_first_schema() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hale.db");
        let mut old = open(&path, &MIGRATIONS[..1]).await.unwrap();
        let filled = "INSERT INTO events (id, at, type, source, subject, severity, data) VALUES (7, 1, '', '', '', 0, '');
            DELETE FROM events;
            INSERT INTO audit (id, at, by, action, subject, detail) VALUES (3, 1, '', '', '', '');
            INSERT INTO outcome_runs VALUES (5, '', '', 1, NULL, 1, 1, 1, 1);";
        sqlx::raw_sql(filled).execute(&mut old).await.unwrap();
        old.close().await.unwrap();
        let mut new = open(&path, MIGRATIONS).await.unwrap();
        let numbers: (i64, i64, i64, i64) =
            sqlx::query_as("SELECT revision, last_event, last_audit, last_run FROM numbers")
                .fetch_one(&mut new)
                .await
                .unwrap();
        assert_eq!(numbers, (0, 7, 3, 5));
    }

    #[tokio::test]
    async fn a_newer_schema_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hale.db");
        let newer = [MIGRATIONS, &["CREATE TABLE later (id INTEGER);"]].concat();
        open(&path, &newer).await.unwrap().close().await.unwrap();
        let error = open(&path, MIGRATIONS).await.unwrap_err();
        assert!(matches!(error, StoreError::NewerSchema { found: 5, known: 4, .. }), "{error}");
        open(&path, &newer).await.unwrap();
    }

    #[tokio::test]
    async fn a_migration_that_fails_leaves_the_schema_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hale.db");
        open(&path, MIGRATIONS).await.unwrap().close().await.unwrap();
        let broken = [MIGRATIONS, &["CREATE TABLE later (id INTEGER); NOT SQL;"]].concat();
        assert!(open(&path, &broken).await.is_err());
        let mut same = open(&path, MIGRATIONS).await.unwrap();
        let later: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_master WHERE name = 'later'")
            .fetch_one(&mut same)
            .await
            .unwrap();
        assert_eq!(later, 0);
    }

    #[tokio::test]
    async fn the_file_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hale.db");
        let _open = open(&path, MIGRATIONS).await.unwrap();
        for file in fs::read_dir(dir.path()).unwrap() {
            let file = file.unwrap();
            assert_eq!(
                file.metadata().unwrap().permissions().mode() & 0o777,
                0o600,
                "{:?}",
                file.file_name()
            );
        }
    }
}
