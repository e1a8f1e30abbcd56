//! The one connection that writes: the steps of a transaction.

use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection};

use super::{read, write};
use crate::{
    engine::Begun,
    history::ProbeKey,
    plan::{Plan, State},
    retention::{Limit, Old},
    rows::{self, LastRunTuple, LeaseTuple, NumbersRow, RecordTuple},
    work::Needs,
};

/// See the module.
#[derive(Debug)]
pub(crate) struct Engine {
    connection: SqliteConnection,
    writer: String,
}

impl Engine {
    /// Over a connection whose schema is up to date.
    pub(crate) const fn new(connection: SqliteConnection, writer: String) -> Self {
        Self { connection, writer }
    }

    /// Nobody else has the file open for writing, so that whoever held a lease is gone.
    pub(crate) async fn end_leases(&mut self) -> Result<(), sqlx::Error> {
        sqlx::raw_sql("UPDATE leases SET holder = '', until_at = 0")
            .execute(&mut self.connection)
            .await
            .map(drop)
    }

    /// Takes the lock.
    pub(crate) async fn begin(&mut self) -> Result<Begun, sqlx::Error> {
        // Not sqlx's own transactions: SQLite ends one by itself when the disk is full, and sqlx then counts on one
        // that is no more, and refuses every later one of this connection.
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut self.connection).await?;
        let numbers = sqlx::query_as::<_, NumbersRow>(read::NUMBERS).fetch_one(&mut self.connection).await;
        match numbers {
            Ok(numbers) => Ok(Begun { numbers: numbers.into() }),
            Err(error) => {
                self.rollback().await;
                Err(error)
            }
        }
    }

    /// The last batch that this writer committed.
    pub(crate) async fn batch(&mut self) -> Result<Option<u64>, sqlx::Error> {
        let sql = sqlx::query_scalar("SELECT batch FROM writers WHERE writer = $1").bind(&self.writer);
        let batch: Option<i64> = sql.fetch_optional(&mut self.connection).await?;
        Ok(batch.map(i64::cast_unsigned))
    }

    /// What a batch touches.
    pub(crate) async fn state(&mut self, needs: &Needs) -> Result<State, sqlx::Error> {
        let mut state = State { now: Timestamp::now().as_microsecond(), ..State::default() };
        let connection = &mut self.connection;
        if !needs.records.is_empty() {
            let keys = array(needs.records.iter().map(|it| json!([it.kind.as_str(), it.name])));
            let rows: Vec<RecordTuple> =
                sqlx::query_as(read::RECORDS).bind(keys).fetch_all(&mut *connection).await?;
            state.records.extend(rows.into_iter().filter_map(rows::stored));
        }
        if !needs.leases.is_empty() {
            let rows: Vec<LeaseTuple> =
                sqlx::query_as(read::LEASES).bind(names(&needs.leases)).fetch_all(&mut *connection).await?;
            state.leases = rows.into_iter().map(|row| (row.0.clone(), row.into())).collect();
        }
        if !needs.replicas.is_empty() {
            let rows: Vec<String> = sqlx::query_scalar(read::REPLICAS_NAMED)
                .bind(names(&needs.replicas))
                .fetch_all(&mut *connection)
                .await?;
            state.replicas =
                rows.iter().filter_map(|it| rows::replica(it)).map(|it| (it.name.clone(), it)).collect();
        }
        if !needs.probes.is_empty() {
            let keys = array(needs.probes.iter().map(|it| json!([it.subject, it.probe])));
            let last: Vec<(String, String, i64)> =
                sqlx::query_as(read::LAST_OUTCOMES).bind(&keys).fetch_all(&mut *connection).await?;
            let runs: Vec<LastRunTuple> =
                sqlx::query_as(read::LAST_RUNS).bind(&keys).fetch_all(&mut *connection).await?;
            state.probes = rows::probes(last, runs);
        }
        Ok(state)
    }

    /// Writes all of a batch, in the transaction.
    pub(crate) async fn write(&mut self, plan: &Plan, batch: u64) -> Result<(), sqlx::Error> {
        write::all(&mut self.connection, plan).await?;
        sqlx::query(write::PUT_WRITER)
            .bind(&self.writer)
            .bind(rows::number(batch))
            .bind(plan.now)
            .execute(&mut self.connection)
            .await
            .map(drop)
    }

    pub(crate) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        sqlx::raw_sql("COMMIT").execute(&mut self.connection).await.map(drop)
    }

    pub(crate) async fn rollback(&mut self) {
        // Fails where SQLite has rolled back already; a connection that is broken says so at the next write.
        let _ = sqlx::raw_sql("ROLLBACK").execute(&mut self.connection).await;
    }

    /// Takes some of what is old out.
    pub(crate) async fn forget(&mut self, old: Old, limit: Limit) -> Result<u64, sqlx::Error> {
        write::forget(&mut self.connection, old, limit).await
    }

    /// Makes days of series coarser.
    pub(crate) async fn coarsen(&mut self, before: i64, most: i64) -> Result<u64, sqlx::Error> {
        write::coarsen(&mut self.connection, before, most).await
    }

    /// Keeps only the newest runs of a probe.
    pub(crate) async fn trim(&mut self, probe: &ProbeKey, keep: i64) -> Result<(), sqlx::Error> {
        let sql = sqlx::query(write::MANY_RUNS).bind(&probe.subject).bind(probe.probe).bind(keep);
        sql.execute(&mut self.connection).await.map(drop)
    }

    pub(crate) async fn close(self) -> Result<(), sqlx::Error> {
        self.connection.close().await
    }
}

/// A JSON array: how a statement takes all its rows at once.
pub(super) fn array(rows: impl Iterator<Item = Value>) -> String {
    Value::Array(rows.collect()).to_string()
}

fn names<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    array(names.into_iter().map(|it| json!(it)))
}
