//! From what waits to one transaction.
//!
//! Everything is decided in memory first: ids, what replicas' events add up to, which outcomes lengthen a run. What is
//! left for the database is a handful of statements, each of which takes all its rows as one JSON array, and which
//! can be repeated as they are when the transaction failed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry},
    sync::Arc,
};

use hale_api::outcomes::OutcomeRun;
use hale_model::{
    ProbeKind,
    event::{Event, NewEvent},
    report::OutcomeRecord,
};
use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::SqliteConnection;
use tokio::sync::oneshot;

use crate::{ReplicaRecord, StoreError, project, queue::Fact, read};

/// How many outcomes of a probe are kept whole (H27).
pub(crate) const WHOLE: u64 = 100;

/// What the writer remembers between batches.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    last_event: u64,
    last_run: i64,
    replicas: HashMap<String, ReplicaRecord>,
    probes: HashMap<(String, &'static str), Probe>,
}

/// Where the history of one probe stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Probe {
    seq: u64,
    run: Option<(i64, OutcomeRun)>,
    /// Runs begun since those of this probe were last trimmed.
    pub(crate) new_runs: u32,
}

/// One transaction, ready to be written as often as it takes.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) events: Vec<(Arc<Event>, usize)>,
    pub(crate) acks: Vec<oneshot::Sender<()>>,
    event_rows: Vec<Value>,
    audit_rows: Vec<Value>,
    removed: Vec<String>,
    touched: BTreeSet<String>,
    replica_rows: Vec<Value>,
    outcome_rows: Vec<Value>,
    runs: BTreeMap<i64, Value>,
}

/// The column `probe` of an outcome.
pub(crate) const fn probe_column(probe: Option<ProbeKind>) -> &'static str {
    match probe {
        Some(kind) => kind.as_str(),
        None => "",
    }
}

/// To the microsecond, as it is stored: what is told live and what is read later are the same.
fn stored(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

fn micros(milliseconds: f64) -> i64 {
    // Saturates; a check does not take 300,000 years.
    (milliseconds * 1000.0).round() as i64
}

impl Memory {
    /// What an earlier hale left.
    pub(crate) async fn load(connection: &mut SqliteConnection) -> Result<Self, StoreError> {
        let result = async {
            let last_event: Option<i64> =
                sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = 'events'")
                    .fetch_optional(&mut *connection)
                    .await?;
            let last_run: Option<i64> =
                sqlx::query_scalar("SELECT max(id) FROM outcome_runs").fetch_one(&mut *connection).await?;
            let replicas = read::replicas(&mut *connection).await?;
            Ok(Self {
                last_event: last_event.map_or(0, i64::cast_unsigned),
                last_run: last_run.unwrap_or(0),
                replicas: replicas.into_iter().map(|it| (it.name.clone(), it)).collect(),
                probes: HashMap::new(),
            })
        };
        result.await.map_err(StoreError::database("tell what it holds"))
    }

    /// The id of the newest event.
    pub(crate) const fn last_event(&self) -> u64 {
        self.last_event
    }

    /// Probes with so many new runs that theirs should be trimmed.
    pub(crate) fn with_many_runs(&mut self, many: u32) -> Vec<(String, &'static str)> {
        let probes = self.probes.iter_mut().filter(|(_, probe)| probe.new_runs >= many);
        probes
            .map(|(key, probe)| {
                probe.new_runs = 0;
                key.clone()
            })
            .collect()
    }

    /// Learns where the histories of these outcomes' probes stand, of those not known yet.
    pub(crate) async fn recall(
        &mut self,
        connection: &mut SqliteConnection,
        outcomes: &[OutcomeRecord],
    ) -> Result<(), sqlx::Error> {
        for outcome in outcomes {
            let column = probe_column(outcome.probe);
            if let Entry::Vacant(unknown) = self.probes.entry((outcome.subject.clone(), column)) {
                let (seq, run) = read::last_outcome(connection, &outcome.subject, column).await?;
                unknown.insert(Probe { seq, run, new_runs: 0 });
            }
        }
        Ok(())
    }

    /// Makes a batch of what waited.
    pub(crate) fn prepare(&mut self, facts: Vec<Fact>, outcomes: Vec<OutcomeRecord>) -> Batch {
        let mut batch = Batch::default();
        for fact in facts {
            match fact {
                Fact::Event(event) => self.event(*event, &mut batch),
                Fact::Audit(it) => batch.audit_rows.push(json!([
                    it.at.as_microsecond(),
                    it.by,
                    it.action,
                    it.subject,
                    it.detail
                ])),
                Fact::Removed(name) => {
                    self.replicas.remove(&name);
                    self.probes.retain(|(subject, _), _| *subject != name);
                    batch.touched.remove(&name);
                    batch.removed.push(name);
                }
                Fact::Barrier(ack) => batch.acks.push(ack),
            }
        }
        for name in &batch.touched {
            let Some(record) = self.replicas.get(name) else { continue };
            let row = json!([name, record.workload, to_text(record)]);
            batch.replica_rows.push(row);
        }
        for outcome in outcomes {
            self.outcome(outcome, &mut batch);
        }
        batch
    }

    fn event(&mut self, mut event: NewEvent, batch: &mut Batch) {
        event.time = stored(event.time);
        if let Some(record) = project::apply(self.replicas.get(&event.subject), &event) {
            batch.touched.insert(record.name.clone());
            batch.removed.retain(|name| *name != record.name);
            self.replicas.insert(record.name.clone(), record);
        }
        self.last_event += 1;
        let event = Event::new(self.last_event, event);
        let data = to_text(&event.data);
        let size = data.len() + 256;
        batch.event_rows.push(json!([
            event.id,
            event.time.as_microsecond(),
            event.data.kind(),
            event.source,
            event.subject,
            event.data.instance().map(|it| it.workload.as_str()),
            event.severity as i64,
            data,
        ]));
        batch.events.push((Arc::new(event), size));
    }

    fn outcome(&mut self, outcome: OutcomeRecord, batch: &mut Batch) {
        let column = probe_column(outcome.probe);
        let took = micros(outcome.took_ms);
        let probe = self.probes.entry((outcome.subject.clone(), column)).or_default();
        probe.seq += 1;
        batch.outcome_rows.push(json!([
            outcome.subject,
            column,
            probe.seq % WHOLE,
            probe.seq,
            outcome.incarnation,
            outcome.at.as_microsecond(),
            took,
            outcome.reason.map(|it| it.as_str()),
            outcome.detail,
            outcome.consecutive,
            outcome.threshold,
        ]));
        let same = |run: &OutcomeRun| run.incarnation == outcome.incarnation && run.reason == outcome.reason;
        let (id, run) = match probe.run.take() {
            Some((id, mut run)) if same(&run) => {
                run.count += 1;
                run.until = outcome.at;
                run.slowest_ms = run.slowest_ms.max(outcome.took_ms);
                (id, run)
            }
            _ => {
                self.last_run += 1;
                probe.new_runs += 1;
                let run = OutcomeRun {
                    incarnation: outcome.incarnation,
                    reason: outcome.reason,
                    count: 1,
                    from: outcome.at,
                    until: outcome.at,
                    slowest_ms: outcome.took_ms,
                };
                (self.last_run, run)
            }
        };
        let row = json!([
            id,
            outcome.subject,
            column,
            run.incarnation,
            run.reason.map(|it| it.as_str()),
            run.count,
            run.from.as_microsecond(),
            run.until.as_microsecond(),
            micros(run.slowest_ms),
        ]);
        batch.runs.insert(id, row);
        probe.run = Some((id, run));
    }
}

/// JSON of what always has a JSON form.
fn to_text(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

const INSERT_EVENTS: &str = "INSERT INTO events (id, at, type, source, subject, workload, severity, data) \
     SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7 \
     FROM json_each($1)";
const INSERT_AUDIT: &str = "INSERT INTO audit (at, by, action, subject, detail) \
     SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 FROM json_each($1)";
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

impl Batch {
    /// Whether there is nothing to write, only to answer.
    pub(crate) fn is_empty(&self) -> bool {
        self.event_rows.is_empty()
            && self.audit_rows.is_empty()
            && self.removed.is_empty()
            && self.replica_rows.is_empty()
            && self.outcome_rows.is_empty()
    }

    /// Writes it all, or nothing.
    pub(crate) async fn write(&self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let removed: Vec<Value> = self.removed.iter().map(|name| json!(name)).collect();
        let runs: Vec<Value> = self.runs.values().cloned().collect();
        let statements: [(&'static str, &[Value]); 8] = [
            (INSERT_EVENTS, &self.event_rows),
            (INSERT_AUDIT, &self.audit_rows),
            (REMOVE_REPLICAS, &removed),
            (REMOVE_OUTCOMES, &removed),
            (REMOVE_RUNS, &removed),
            (PUT_REPLICAS, &self.replica_rows),
            (PUT_OUTCOMES, &self.outcome_rows),
            (PUT_RUNS, &runs),
        ];
        // Not sqlx's own transactions: SQLite ends one by itself when the disk is full, and sqlx then counts on one
        // that is no more, and refuses every later one of this connection.
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut *connection).await?;
        let written = async {
            for (statement, rows) in statements {
                if !rows.is_empty() {
                    sqlx::query(statement).bind(to_text(&rows)).execute(&mut *connection).await?;
                }
            }
            sqlx::raw_sql("COMMIT").execute(&mut *connection).await
        }
        .await;
        if written.is_err() {
            // Fails where SQLite has rolled back already; a connection that is broken says so at the next write.
            let _ = sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await;
        }
        written.map(drop)
    }
}
