//! Bringing the schema up to date while other servers, of this release or the one before, are running.
//!
//! Steps only add: the previous release goes on with a schema that is one step further. One server at a time migrates,
//! under an advisory lock.

use sqlx::{AssertSqlSafe, PgConnection};

use crate::StoreError;

/// The steps from one schema to the next; the number of a schema is how many of them it took.
pub(crate) const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/postgres/0001-first.sql"),
    include_str!("../../migrations/postgres/0002-texts.sql"),
    include_str!("../../migrations/postgres/0003-series.sql"),
];

/// Names the lock: `hale` in ASCII.
const LOCK: i64 = 0x6861_6c65;

/// Brings the database up to date.
///
/// # Errors
/// When its schema is newer than the migrations, or it can't be changed; then it is as it was.
pub(super) async fn migrate(
    connection: &mut PgConnection,
    migrations: &[&str],
    name: &str,
) -> Result<(), StoreError> {
    let failed = StoreError::database("change its schema");
    let known = i64::try_from(migrations.len()).unwrap_or(i64::MAX);
    let done = async {
        // It may wait for another server's migration, longer than for other locks.
        let begin = format!("BEGIN; SET LOCAL lock_timeout = '5min'; SELECT pg_advisory_xact_lock({LOCK})");
        sqlx::raw_sql(AssertSqlSafe(begin)).execute(&mut *connection).await?;
        let there: bool = sqlx::query_scalar("SELECT to_regclass('hale_schema') IS NOT NULL")
            .fetch_one(&mut *connection)
            .await?;
        let found: i64 = if there {
            sqlx::query_scalar("SELECT version FROM hale_schema").fetch_one(&mut *connection).await?
        } else {
            let create =
                "CREATE TABLE hale_schema (version BIGINT NOT NULL); INSERT INTO hale_schema VALUES (0)";
            sqlx::raw_sql(create).execute(&mut *connection).await?;
            0
        };
        if found < known {
            for step in migrations.iter().skip(usize::try_from(found).unwrap_or(0)) {
                sqlx::raw_sql(AssertSqlSafe((*step).to_owned())).execute(&mut *connection).await?;
            }
            sqlx::query("UPDATE hale_schema SET version = $1").bind(known).execute(&mut *connection).await?;
        }
        sqlx::raw_sql("COMMIT").execute(&mut *connection).await?;
        Ok(found)
    }
    .await;
    if done.is_err() {
        let _ = sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await;
    }
    match done {
        Ok(found) if found > known => Err(StoreError::NewerSchema { path: name.to_owned(), found, known }),
        Ok(_) => Ok(()),
        Err(error) => Err(failed(error)),
    }
}
