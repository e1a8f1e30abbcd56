//! From what waits, and how the database stands, to what is to be written: pure, between the two halves of a
//! transaction.
//!
//! The transaction takes the lock of the numbers, reads what the batch touches ([`Needs`] → [`State`]), lets this decide,
//! and writes the [`Plan`]. When it fails, all of it is done again on what the database then holds. A write whose guard
//! does not hold is left out and answered; its neighbours are not touched by that.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use hale_model::event::{Event, NewEvent};
use jiff::Timestamp;

use crate::{
    AuditRecord, ReplicaRecord,
    cluster::{Committed, Guard, Key, Kind, Lease, Record, WriteError},
    history::{Probe, ProbeKey, Probes},
    project,
    queue::{Fact, Prepared, Step, Wish},
    rows::{self, EventRow, LeaseRow, Numbers, OutcomeRow, RecordRow, RunRow, SeriesRow, to_text},
    work::Work,
};

/// So many numbers are left out when a database was restored: more than can have been given since the backup, so that
/// none is given twice.
const JUMP: u64 = 1 << 32;

/// A record as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) revision: u64,
    pub(crate) body: Option<String>,
}

/// How the database stands, as far as a batch touches it.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// By its clock, microseconds.
    pub(crate) now: i64,
    pub(crate) numbers: Numbers,
    pub(crate) records: HashMap<Key, Stored>,
    pub(crate) leases: HashMap<String, LeaseRow>,
    pub(crate) replicas: HashMap<String, ReplicaRecord>,
    pub(crate) probes: HashMap<ProbeKey, Probe>,
}

/// What a batch does to the database.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) now: i64,
    pub(crate) numbers: Numbers,
    pub(crate) events: Vec<EventRow>,
    pub(crate) audit: Vec<(u64, AuditRecord)>,
    pub(crate) records: Vec<RecordRow>,
    /// Large texts; none: it goes.
    pub(crate) texts: BTreeMap<Key, Option<String>>,
    pub(crate) leases: Vec<LeaseRow>,
    pub(crate) replicas: Vec<ReplicaRecord>,
    pub(crate) removed: Vec<String>,
    pub(crate) outcomes: Vec<OutcomeRow>,
    pub(crate) runs: Vec<RunRow>,
    pub(crate) series: Vec<SeriesRow>,
    /// Where the histories then stand.
    pub(crate) probes: HashMap<ProbeKey, Probe>,
    /// One for each item of the work, in order.
    pub(crate) answers: Vec<Answer>,
}

/// What an item is answered once the batch is durable.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    Done,
    Write(Result<Committed, WriteError>),
    Lease(Option<Lease>),
    Epoch(u64),
}

impl Plan {
    /// Whether there is nothing to write, only to answer.
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
            && self.audit.is_empty()
            && self.records.is_empty()
            && self.texts.is_empty()
            && self.leases.is_empty()
            && self.replicas.is_empty()
            && self.removed.is_empty()
            && self.outcomes.is_empty()
            && self.series.is_empty()
    }
}

/// Decides what a batch does.
pub(crate) fn make(work: &Work, state: State, known: &Probes) -> Plan {
    let plan = Plan { now: state.now, numbers: state.numbers, ..Plan::default() };
    let mut planner = Planner { state, plan, ..Planner::default() };
    for item in &work.items {
        let answer = planner.item(item);
        planner.plan.answers.push(answer);
    }
    planner.finish(work, known)
}

#[derive(Debug, Default)]
struct Planner {
    state: State,
    plan: Plan,
    records: BTreeSet<Key>,
    leases: BTreeSet<String>,
    replicas: BTreeSet<String>,
}

/// To the microsecond, as it is stored: what is told live and what is read later are the same.
fn stored(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

/// PostgreSQL keeps no NUL in a text, and nobody needs one.
pub(crate) fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

impl Planner {
    fn item(&mut self, item: &Fact) -> Answer {
        match item {
            Fact::Event(event) => self.event(event),
            Fact::Audit(record) => self.audit(record),
            Fact::Removed(name) => {
                let name = clean(name);
                self.state.replicas.remove(&name);
                self.replicas.remove(&name);
                self.plan.removed.push(name);
            }
            Fact::Barrier(_) => {}
            Fact::Write(write, _) => return Answer::Write(self.write(write)),
            // Who gave up waiting does not get what it would not know of.
            Fact::Lease(_, to) if to.is_closed() => return Answer::Lease(None),
            Fact::Lease(wish, _) => return Answer::Lease(self.lease(wish)),
            Fact::Release(name, number, _) => self.release(name, *number),
            Fact::RaiseEpoch(_) => return Answer::Epoch(self.raise_epoch()),
        }
        Answer::Done
    }

    fn event(&mut self, event: &NewEvent) {
        let event = NewEvent {
            time: stored(event.time),
            source: clean(&event.source),
            subject: clean(&event.subject),
            data: event.data.clone(),
        };
        if let Some(record) = project::apply(self.state.replicas.get(&event.subject), &event) {
            self.replicas.insert(record.name.clone());
            self.plan.removed.retain(|name| *name != record.name);
            self.state.replicas.insert(record.name.clone(), record);
        }
        self.plan.numbers.last_event += 1;
        let event = Event::new(self.plan.numbers.last_event, event);
        let data = to_text(&event.data);
        self.plan.events.push(EventRow { event: Arc::new(event), data });
    }

    fn audit(&mut self, record: &AuditRecord) {
        self.plan.numbers.last_audit += 1;
        let record = AuditRecord {
            at: stored(record.at),
            by: clean(&record.by),
            action: clean(&record.action),
            subject: clean(&record.subject),
            detail: clean(&record.detail),
        };
        self.plan.audit.push((self.plan.numbers.last_audit, record));
    }

    fn write(&mut self, write: &Prepared) -> Result<Committed, WriteError> {
        if let Some(guard) = write.guards.iter().find(|it| !self.holds(it)) {
            return Err(WriteError::Conflict { what: words(guard) });
        }
        let revision = self.plan.numbers.revision + 1;
        for step in &write.changes {
            match step {
                Step::Put(key, body) => self.put(key, Some(body), revision),
                Step::Delete(key) => {
                    self.put(key, None, revision);
                    if key.kind.has_text() {
                        self.plan.texts.insert(key.clone(), None);
                    }
                }
                Step::Text(key, body) => drop(self.plan.texts.insert(key.clone(), Some(body.clone()))),
                Step::Event(event) => self.event(event),
                Step::Audit(record) => self.audit(record),
            }
        }
        Ok(Committed { revision: self.plan.numbers.revision, last_event: self.plan.numbers.last_event })
    }

    /// What is there already is not written again.
    fn put(&mut self, key: &Key, body: Option<&String>, revision: u64) {
        if self.state.records.get(key).and_then(|it| it.body.as_ref()) == body {
            return;
        }
        self.state.records.insert(key.clone(), Stored { revision, body: body.cloned() });
        self.records.insert(key.clone());
        self.plan.numbers.revision = revision;
    }

    fn holds(&self, guard: &Guard) -> bool {
        let there = |key| self.state.records.get(key).filter(|it| it.body.is_some());
        match guard {
            Guard::Lease { name, number } => {
                // Not by the clock: as long as nobody else has taken it, nobody else has written under it.
                let lease = self.state.leases.get(name);
                lease.is_some_and(|it| it.number == *number && !it.holder.is_empty())
            }
            Guard::Unchanged { key, revision } => there(key).is_some_and(|it| it.revision <= *revision),
            Guard::Absent(key) => there(key).is_none(),
        }
    }

    fn lease(&mut self, wish: &Wish) -> Option<Lease> {
        let (name, holder) = (clean(&wish.name), clean(&wish.holder));
        let ttl = i64::try_from(wish.ttl.as_micros()).unwrap_or(i64::MAX);
        let known = self.state.leases.get(&name);
        let number = match known {
            Some(it) if it.holder == holder => it.number,
            Some(it) if !it.holder.is_empty() && it.until > self.state.now => return None,
            other => other.map_or(0, |it| it.number) + 1,
        };
        let until = self.state.now.saturating_add(ttl);
        let row = LeaseRow { name: name.clone(), holder: holder.clone(), number, until };
        self.state.leases.insert(name.clone(), row);
        self.leases.insert(name.clone());
        let left_ms = u64::try_from(wish.ttl.as_millis()).unwrap_or(u64::MAX);
        Some(Lease { name, holder, number, left_ms })
    }

    fn release(&mut self, name: &str, number: u64) {
        if let Some(row) = self.state.leases.get_mut(name).filter(|it| it.number == number) {
            row.holder.clear();
            row.until = 0;
            self.leases.insert(name.to_owned());
        }
    }

    fn raise_epoch(&mut self) -> u64 {
        let key = cluster_key();
        let body = self.state.records.get(&key).and_then(|it| it.body.as_deref());
        let record = body.and_then(|it| Record::from_json(Kind::Cluster, it).ok());
        let numbers = &mut self.plan.numbers;
        numbers.gap = (numbers.last_event, numbers.last_event + JUMP);
        numbers.last_event += JUMP;
        numbers.revision += JUMP;
        numbers.floor = numbers.revision;
        let revision = numbers.revision;
        let Some(Record::Cluster(mut record)) = record else { return 0 };
        record.epoch += 1;
        // Agents may hold generations and sessions that were given after the backup: none of them is given again.
        record.last_generation += JUMP;
        record.last_session += JUMP;
        record.adoptable_below = record.last_generation;
        let epoch = record.epoch;
        self.put(&key, Some(&Record::Cluster(record).to_json()), revision);
        epoch
    }

    fn finish(self, work: &Work, known: &Probes) -> Plan {
        let Self { mut state, mut plan, records, leases, replicas } = self;
        plan.records = records
            .into_iter()
            .filter_map(|key| {
                let Stored { revision, body } = state.records.remove(&key)?;
                Some(RecordRow { key, revision, body })
            })
            .collect();
        plan.leases = leases.iter().filter_map(|it| state.leases.remove(it)).collect();
        plan.replicas = replicas.iter().filter_map(|it| state.replicas.remove(it)).collect();
        let mut runs = BTreeMap::new();
        let removed: HashSet<&String> = plan.removed.iter().collect();
        // What is left of one that is gone is not written behind it.
        for outcome in work.outcomes.iter().filter(|it| !removed.contains(&it.subject)) {
            let key = ProbeKey::of(outcome);
            let probe = plan.probes.entry(key.clone()).or_insert_with(|| {
                known.get(&key).or_else(|| state.probes.get(&key)).cloned().unwrap_or_default()
            });
            let (outcome, run) = probe.add(outcome, &mut plan.numbers.last_run);
            plan.outcomes.push(outcome);
            runs.insert(run.id, run);
        }
        plan.runs = runs.into_values().collect();
        plan.series = rows::series(work.series.iter().filter(|it| !removed.contains(&it.subject)));
        plan
    }
}

/// Where the cluster's own record is.
pub(crate) fn cluster_key() -> Key {
    Key::new(Kind::Cluster, "cluster")
}

fn words(guard: &Guard) -> String {
    match guard {
        Guard::Lease { name, .. } => format!("the lease {name}"),
        Guard::Unchanged { key, .. } | Guard::Absent(key) => format!("{} {}", key.kind.as_str(), key.name),
    }
}
