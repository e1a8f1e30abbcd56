//! The one connection of this server that writes: the steps of a transaction.
//!
//! After any error but a refusal of what was given the connection is dropped, and the primary looked for again.

use sqlx::{Connection, PgConnection, Row};

use super::{Primary, bounded, schema, within, write};
use crate::{
    StoreError,
    engine::{Begun, is_refusal},
    history::ProbeKey,
    plan::{Plan, State},
    retention::{Limit, Old},
    rows::{self, LastRunTuple, LeaseTuple, Numbers, RecordTuple},
    work::Needs,
};

/// The lock of the numbers, then the time: in this order, so that it is the time of who has the lock.
const BEGIN: &str = "BEGIN; \
     SELECT revision, floor, last_event, gap_from, gap_to, last_audit, last_run FROM numbers FOR UPDATE; \
     SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
const RECORDS: &str = "SELECT kind, name, revision, body \
     FROM unnest($1::text[], $2::text[]) AS wanted (kind, name) JOIN records USING (kind, name)";
const LEASES: &str = "SELECT name, holder, number, until_at FROM leases WHERE name = ANY($1)";
const REPLICAS: &str = "SELECT record FROM replicas WHERE name = ANY($1)";
const LAST_OUTCOMES: &str = "SELECT wanted.subject, wanted.probe, coalesce((SELECT max(seq) FROM outcomes AS it \
     WHERE it.subject = wanted.subject AND it.probe = wanted.probe), 0) \
     FROM unnest($1::text[], $2::text[]) AS wanted (subject, probe)";
const LAST_RUNS: &str = "SELECT run.subject, run.probe, id, incarnation, reason, count, from_at, until_at, slowest_us \
     FROM unnest($1::text[], $2::text[]) AS wanted (subject, probe) CROSS JOIN LATERAL \
     (SELECT * FROM outcome_runs AS it WHERE it.subject = wanted.subject AND it.probe = wanted.probe \
     ORDER BY id DESC LIMIT 1) AS run";

/// See the module.
#[derive(Debug)]
pub(crate) struct Engine {
    primary: Primary,
    connection: Option<PgConnection>,
    /// The count of changes of the primary that the connection was made at.
    change: u64,
    writer: String,
    /// By the database's clock, as the transaction that is going on began.
    now: i64,
}

impl Engine {
    /// Connects, and brings the schema up to date.
    pub(crate) async fn open(primary: Primary, writer: String) -> Result<Self, StoreError> {
        let connected = primary.connect().await;
        let mut connection = connected.map_err(StoreError::database("be reached"))?;
        schema::migrate(&mut connection, schema::MIGRATIONS, &primary.names()).await?;
        let change = primary.change();
        Ok(Self { primary, connection: Some(connection), change, writer, now: 0 })
    }

    /// Runs something on the connection, within bounds, and drops the connection when that fails.
    async fn on<T>(
        &mut self,
        ask: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        let Some(connection) = &mut self.connection else {
            return Err(sqlx::Error::protocol("the connection to the database was lost"));
        };
        let answer = bounded(ask(connection)).await;
        if answer.as_ref().is_err_and(|error| !is_refusal(error)) {
            self.connection = None;
        }
        answer
    }

    /// Takes the lock.
    pub(crate) async fn begin(&mut self) -> Result<Begun, sqlx::Error> {
        if self.connection.is_none() || self.change != self.primary.change() {
            self.connection = Some(self.primary.connect().await?);
            self.change = self.primary.change();
        }
        let rows = self.on(async |it| sqlx::raw_sql(BEGIN).fetch_all(it).await).await?;
        let [numbers, now] = rows.as_slice() else {
            self.connection = None;
            return Err(sqlx::Error::protocol("the numbers are not in the database"));
        };
        let at = |index: usize| numbers.try_get::<i64, _>(index);
        let row = (at(0)?, at(1)?, at(2)?, at(3)?, at(4)?, at(5)?, at(6)?);
        self.now = now.try_get(0)?;
        Ok(Begun { numbers: Numbers::from(row) })
    }

    /// The last batch that this writer committed.
    pub(crate) async fn batch(&mut self) -> Result<Option<u64>, sqlx::Error> {
        let writer = self.writer.clone();
        let asked = self.on(async |it| {
            sqlx::query_scalar("SELECT batch FROM writers WHERE writer = $1")
                .bind(writer)
                .fetch_optional(it)
                .await
        });
        Ok(asked.await?.map(i64::cast_unsigned))
    }

    /// What a batch touches.
    pub(crate) async fn state(&mut self, needs: &Needs) -> Result<State, sqlx::Error> {
        let now = self.now;
        let state = self.on(async |it| state(it, needs).await).await?;
        Ok(State { now, ..state })
    }

    /// Writes all of a batch, in the transaction.
    pub(crate) async fn write(&mut self, plan: &Plan, batch: u64) -> Result<(), sqlx::Error> {
        let writer = self.writer.clone();
        self.on(async |it| write::all(it, plan, &writer, batch).await).await
    }

    pub(crate) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        self.on(async |it| sqlx::raw_sql("COMMIT").execute(it).await.map(drop)).await
    }

    pub(crate) async fn rollback(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        let patience = std::time::Duration::from_secs(1);
        if within(patience, sqlx::raw_sql("ROLLBACK").execute(connection)).await.is_err() {
            self.connection = None;
        }
    }

    /// Takes some of what is old out.
    pub(crate) async fn forget(&mut self, old: Old, limit: Limit) -> Result<u64, sqlx::Error> {
        self.on(async |it| write::forget(it, old, limit).await).await
    }

    /// Makes days of series coarser.
    pub(crate) async fn coarsen(&mut self, before: i64, most: i64) -> Result<u64, sqlx::Error> {
        self.on(async |it| write::coarsen(it, before, most).await).await
    }

    /// Keeps only the newest runs of a probe.
    pub(crate) async fn trim(&mut self, probe: &ProbeKey, keep: i64) -> Result<(), sqlx::Error> {
        self.on(async |it| {
            let sql = sqlx::query(write::MANY_RUNS).bind(&probe.subject).bind(probe.probe).bind(keep);
            sql.execute(it).await.map(drop)
        })
        .await
    }

    pub(crate) async fn close(self) -> Result<(), sqlx::Error> {
        match self.connection {
            Some(connection) => within(std::time::Duration::from_secs(1), connection.close()).await,
            None => Ok(()),
        }
    }
}

async fn state(connection: &mut PgConnection, needs: &Needs) -> Result<State, sqlx::Error> {
    let mut state = State::default();
    if !needs.records.is_empty() {
        let kinds: Vec<&str> = needs.records.iter().map(|it| it.kind.as_str()).collect();
        let names: Vec<&str> = needs.records.iter().map(|it| it.name.as_str()).collect();
        let rows: Vec<RecordTuple> =
            sqlx::query_as(RECORDS).bind(kinds).bind(names).fetch_all(&mut *connection).await?;
        state.records.extend(rows.into_iter().filter_map(rows::stored));
    }
    if !needs.leases.is_empty() {
        let names: Vec<&String> = needs.leases.iter().collect();
        let rows: Vec<LeaseTuple> = sqlx::query_as(LEASES).bind(names).fetch_all(&mut *connection).await?;
        state.leases = rows.into_iter().map(|row| (row.0.clone(), row.into())).collect();
    }
    if !needs.replicas.is_empty() {
        let names: Vec<&String> = needs.replicas.iter().collect();
        let rows: Vec<String> = sqlx::query_scalar(REPLICAS).bind(names).fetch_all(&mut *connection).await?;
        state.replicas =
            rows.iter().filter_map(|it| rows::replica(it)).map(|it| (it.name.clone(), it)).collect();
    }
    if !needs.probes.is_empty() {
        let subjects: Vec<&str> = needs.probes.iter().map(|it| it.subject.as_str()).collect();
        let probes: Vec<&str> = needs.probes.iter().map(|it| it.probe).collect();
        let last: Vec<(String, String, i64)> =
            sqlx::query_as(LAST_OUTCOMES).bind(&subjects).bind(&probes).fetch_all(&mut *connection).await?;
        let runs: Vec<LastRunTuple> =
            sqlx::query_as(LAST_RUNS).bind(&subjects).bind(&probes).fetch_all(&mut *connection).await?;
        state.probes = rows::probes(last, runs);
    }
    Ok(state)
}
