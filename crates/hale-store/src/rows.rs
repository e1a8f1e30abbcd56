//! What crosses the line between the neutral part and a database: rows to write, and what rows that were read mean.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use hale_api::{
    events::type_matches,
    outcomes::{OutcomeRun, ProbeHistory},
};
use hale_model::{
    ProbeKind, Reason,
    event::{Event, EventData, NewEvent},
    report::{OutcomeRecord, SeriesPiece},
    series,
};
use jiff::Timestamp;

use crate::{
    AuditRecord, ReplicaRecord,
    cluster::{Changes, Key, Kind, Record, Versioned},
    history::{Probe, ProbeKey},
    plan::{Stored, clean},
};

/// The last of every number that is given: one row of the database, locked by the transaction that gives new ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Numbers {
    pub(crate) revision: u64,
    /// Deletions up to this revision are no longer told.
    pub(crate) floor: u64,
    pub(crate) last_event: u64,
    /// Ids between these belong to a time that the database was restored away from.
    pub(crate) gap: (u64, u64),
    pub(crate) last_audit: u64,
    pub(crate) last_run: u64,
}

/// The row of [`Numbers`]: `revision, floor, last_event, gap_from, gap_to, last_audit, last_run`.
pub(crate) type NumbersRow = (i64, i64, i64, i64, i64, i64, i64);

impl From<NumbersRow> for Numbers {
    fn from(row: NumbersRow) -> Self {
        Self {
            revision: row.0.cast_unsigned(),
            floor: row.1.cast_unsigned(),
            last_event: row.2.cast_unsigned(),
            gap: (row.3.cast_unsigned(), row.4.cast_unsigned()),
            last_audit: row.5.cast_unsigned(),
            last_run: row.6.cast_unsigned(),
        }
    }
}

impl Numbers {
    /// See [`NumbersRow`].
    pub(crate) fn row(self) -> [i64; 7] {
        let Self { revision, floor, last_event, gap, last_audit, last_run } = self;
        [revision, floor, last_event, gap.0, gap.1, last_audit, last_run].map(number)
    }

    /// Whether an event after which somebody wants to go on was never given in this database.
    pub(crate) const fn is_beyond_end(&self, after: u64) -> bool {
        after > self.last_event || (after > self.gap.0 && after < self.gap.1)
    }

    /// Whether all that changed after a revision can be told.
    pub(crate) const fn knows(&self, revision: u64) -> bool {
        revision >= self.floor && revision <= self.revision
    }
}

/// As a database keeps it.
pub(crate) fn number(it: u64) -> i64 {
    i64::try_from(it).unwrap_or(i64::MAX)
}

/// An event and its JSON form.
#[derive(Debug, Clone)]
pub(crate) struct EventRow {
    pub(crate) event: Arc<Event>,
    pub(crate) data: String,
}

impl EventRow {
    /// About what it takes of memory.
    pub(crate) fn size(&self) -> usize {
        self.data.len() + 256
    }
}

/// A record as it is after a batch; no body: deleted.
#[derive(Debug, Clone)]
pub(crate) struct RecordRow {
    pub(crate) key: Key,
    pub(crate) revision: u64,
    pub(crate) body: Option<String>,
}

/// A lease as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeaseRow {
    pub(crate) name: String,
    /// Empty: nobody.
    pub(crate) holder: String,
    pub(crate) number: u64,
    pub(crate) until: i64,
}

/// `name, holder, number, until_at`.
pub(crate) type LeaseTuple = (String, String, i64, i64);

impl From<LeaseTuple> for LeaseRow {
    fn from((name, holder, number, until): LeaseTuple) -> Self {
        Self { name, holder, number: number.cast_unsigned(), until }
    }
}

/// An outcome that takes the place of the one a hundred before it.
#[derive(Debug, Clone)]
pub(crate) struct OutcomeRow {
    pub(crate) seq: u64,
    pub(crate) slot: u64,
    pub(crate) outcome: OutcomeRecord,
}

/// What is added to a day of a series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SeriesRow {
    pub(crate) subject: String,
    pub(crate) probe: &'static str,
    /// Days since 1970.
    pub(crate) day: u64,
    pub(crate) data: String,
}

/// A row for each day of each series that has something new.
pub(crate) fn series<'a>(pieces: impl Iterator<Item = &'a SeriesPiece>) -> Vec<SeriesRow> {
    let mut rows: BTreeMap<(&str, &'static str, u64), String> = BTreeMap::new();
    for piece in pieces {
        let key = (piece.subject.as_str(), probe_column(piece.probe), piece.bucket.day());
        piece.bucket.write(rows.entry(key).or_default());
    }
    let row = |((subject, probe, day), data): ((&str, _, _), _)| {
        let subject = clean(subject);
        SeriesRow { subject, probe, day, data }
    };
    rows.into_iter().map(row).collect()
}

/// `subject, probe, day, data`.
pub(crate) type SeriesTuple = (String, String, i64, String);

/// A day that is old enough, by the hour.
pub(crate) fn coarser(row: &SeriesTuple) -> String {
    series::text::coarser(row.2.cast_unsigned(), &row.3)
}

/// A run of outcomes, new or grown.
#[derive(Debug, Clone)]
pub(crate) struct RunRow {
    pub(crate) id: u64,
    pub(crate) subject: String,
    pub(crate) probe: &'static str,
    pub(crate) run: OutcomeRun,
}

/// The column `probe` of an outcome.
pub(crate) const fn probe_column(probe: Option<ProbeKind>) -> &'static str {
    match probe {
        Some(kind) => kind.as_str(),
        None => "",
    }
}

/// Microseconds.
pub(crate) fn micros(milliseconds: f64) -> i64 {
    // Saturates; a check does not take 300,000 years.
    (milliseconds * 1000.0).round() as i64
}

/// JSON of what always has a JSON form.
pub(crate) fn to_text(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// A row that can't be read is left out, and said so, rather than hide all others.
pub(crate) fn decoded<T, E: std::fmt::Display>(result: Result<T, E>, what: &str) -> Option<T> {
    result.inspect_err(|error| tracing::warn!(%error, "the database holds {what} that can't be read")).ok()
}

fn time(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or_default()
}

fn milliseconds(micros: i64) -> f64 {
    micros as f64 / 1000.0
}

fn reason(word: Option<String>) -> Option<Reason> {
    // A word that is not on the list is still a failure; the nearest that claims nothing about what was probed.
    word.map(|word| word.parse().unwrap_or(Reason::ProberError))
}

/// `id, at, source, subject, data`.
pub(crate) type EventTuple = (i64, i64, String, String, String);

pub(crate) fn event((id, at, source, subject, data): EventTuple) -> Option<EventRow> {
    let known: EventData = decoded(serde_json::from_str(&data), "an event")?;
    let event = NewEvent { time: time(at), source, subject, data: known };
    Some(EventRow { event: Arc::new(Event::new(id.cast_unsigned(), event)), data })
}

/// `id, at, by, action, subject, detail`.
pub(crate) type AuditTuple = (i64, i64, String, String, String, String);

pub(crate) fn audit((id, at, by, action, subject, detail): AuditTuple) -> (u64, AuditRecord) {
    (id.cast_unsigned(), AuditRecord { at: time(at), by, action, subject, detail })
}

/// `kind, name, revision, body`.
pub(crate) type RecordTuple = (String, String, i64, Option<String>);

/// A record; `None` when it is of a kind that a newer hale knows, or can't be read.
pub(crate) fn versioned((kind, name, revision, body): RecordTuple) -> Option<Versioned> {
    let kind = Kind::from_word(&kind)?;
    let record = match body {
        Some(body) => Some(decoded(Record::from_json(kind, &body), "a record")?),
        None => None,
    };
    Some(Versioned { revision: revision.cast_unsigned(), key: Key { kind, name }, record })
}

/// A page of records, or all of them.
pub(crate) fn changes(rows: Vec<RecordTuple>, numbers: &Numbers, reset: bool, limit: usize) -> Changes {
    let last = rows.last().map(|row| row.2.cast_unsigned());
    let revision = match last {
        Some(last) if !reset && rows.len() >= limit.max(1) => last,
        _ => numbers.revision,
    };
    Changes { revision, reset, records: rows.into_iter().filter_map(versioned).collect() }
}

/// A record as a batch needs it.
pub(crate) fn stored((kind, name, revision, body): RecordTuple) -> Option<(Key, Stored)> {
    let kind = Kind::from_word(&kind)?;
    Some((Key { kind, name }, Stored { revision: revision.cast_unsigned(), body }))
}

/// The types of events that `type=` asks for.
pub(crate) fn types(wanted: &str) -> Vec<&'static str> {
    EventData::TYPES.into_iter().filter(|kind| type_matches(wanted, kind)).collect()
}

pub(crate) fn replica(text: &str) -> Option<ReplicaRecord> {
    decoded(serde_json::from_str(text), "a replica's record")
}

/// `subject, probe, incarnation, at, took_us, reason, detail, consecutive, threshold`.
pub(crate) type OutcomeTuple = (String, String, i64, i64, i64, Option<String>, Option<String>, i64, i64);

fn outcome(row: OutcomeTuple) -> OutcomeRecord {
    let small = |it: i64| u32::try_from(it).unwrap_or(u32::MAX);
    OutcomeRecord {
        subject: row.0,
        probe: row.1.parse().ok(),
        incarnation: row.2.cast_unsigned(),
        at: time(row.3),
        took_ms: milliseconds(row.4),
        reason: reason(row.5),
        detail: row.6,
        consecutive: small(row.7),
        threshold: small(row.8),
    }
}

/// `probe, id, incarnation, reason, count, from_at, until_at, slowest_us`.
pub(crate) type RunTuple = (String, i64, i64, Option<String>, i64, i64, i64, i64);

pub(crate) fn run(row: RunTuple) -> (u64, OutcomeRun) {
    let run = OutcomeRun {
        incarnation: row.2.cast_unsigned(),
        reason: reason(row.3),
        count: row.4.cast_unsigned(),
        from: time(row.5),
        until: time(row.6),
        slowest_ms: milliseconds(row.7),
    };
    (row.1.cast_unsigned(), run)
}

/// `subject, probe, id, incarnation, reason, count, from_at, until_at, slowest_us`.
pub(crate) type LastRunTuple = (String, String, i64, i64, Option<String>, i64, i64, i64, i64);

/// Where histories stand: `subject, probe, seq` of the last outcomes, and the last runs.
pub(crate) fn probes(last: Vec<(String, String, i64)>, runs: Vec<LastRunTuple>) -> HashMap<ProbeKey, Probe> {
    let key = |subject: String, probe: &str| ProbeKey { subject, probe: probe_column(probe.parse().ok()) };
    let mut runs: HashMap<ProbeKey, _> = runs
        .into_iter()
        .map(|it| {
            let found = key(it.0, &it.1);
            (found, run((it.1, it.2, it.3, it.4, it.5, it.6, it.7, it.8)))
        })
        .collect();
    let last = last.into_iter().map(|(subject, probe, seq)| {
        let key = key(subject, &probe);
        let run = runs.remove(&key);
        (key, Probe::new(seq.cast_unsigned(), run))
    });
    last.collect()
}

/// `probe, day, data`.
pub(crate) type DayTuple = (String, i64, String);

/// The history of each probe, of outcomes, runs and days in the order of their numbers.
pub(crate) fn history(
    outcomes: Vec<OutcomeTuple>,
    runs: Vec<RunTuple>,
    days: Vec<DayTuple>,
) -> Vec<ProbeHistory> {
    let mut probes: Vec<ProbeHistory> = Vec::new();
    let of = |probe: Option<ProbeKind>, probes: &mut Vec<ProbeHistory>| {
        probes.iter().position(|it| it.probe == probe).unwrap_or_else(|| {
            probes.push(ProbeHistory { probe, outcomes: Vec::new(), runs: Vec::new(), series: Vec::new() });
            probes.len() - 1
        })
    };
    for outcome in outcomes.into_iter().map(outcome) {
        let at = of(outcome.probe, &mut probes);
        probes[at].outcomes.push(outcome);
    }
    for row in runs {
        let at = of(row.0.parse().ok(), &mut probes);
        probes[at].runs.push(run(row).1);
    }
    for (probe, day, data) in days {
        let at = of(probe.parse().ok(), &mut probes);
        probes[at].series.push((day.cast_unsigned(), data));
    }
    probes.retain(|it| !it.outcomes.is_empty() || !it.series.is_empty());
    probes.sort_by_key(|it| it.probe);
    probes
}
