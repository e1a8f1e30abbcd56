//! What agents report of health, taken in (K8, K13).
//!
//! What changes is written with its event in one commit. What does not is looked at again: of all that one small record
//! per agent and report is written, so that every server knows how fresh it is.

use std::collections::BTreeMap;

use hale_api::{
    Code,
    kube::{EntryError, EntryErrorCode, HealthEntry, HealthReportAnswer, MAX_ENTRIES},
};
use hale_model::{
    cluster::{KubeAgentRecord, KubeSeenRecord, ObjectHealthRecord},
    event::{EventData, NewEvent},
};
use hale_store::cluster::{Change, Guard, Key, Kind, Record, Write};
use jiff::Timestamp;
use serde_json::Value;

use super::{
    Kube,
    status::{About, Taken, check, take},
    unchanged, unchanged_or_absent, view,
};
use crate::{
    cluster::snapshot::{Kept, KubeRecords},
    problems::{Answer, Refusal},
};

/// An entry as it came: good, or what is wrong with it.
type Entry = Result<HealthEntry, EntryError>;

/// The entries of a report's body, each by itself.
///
/// # Errors
/// When the body is no report at all, or has too many entries.
pub(crate) fn entries(body: &Value) -> Answer<Vec<Entry>> {
    let all = body.get("deployment_objects").and_then(Value::as_array).ok_or_else(|| {
        Refusal::new(Code::BadRequest, "a report is an object with a list of `deployment_objects`")
    })?;
    if all.len() > MAX_ENTRIES {
        let detail =
            format!("at most {MAX_ENTRIES} deployment objects are taken in one report, not {}", all.len());
        return Err(Refusal::new(Code::BadRequest, detail));
    }
    let read = |(index, value): (u32, &Value)| {
        let id = value.get("id").and_then(Value::as_str).map(|it| crate::cluster::short(it).to_owned());
        let wrong = |message| EntryError { index, id: id.clone(), code: EntryErrorCode::Invalid, message };
        let mut entry: HealthEntry =
            serde_json::from_value(value.clone()).map_err(|error| wrong(error.to_string()))?;
        check(&mut entry).map_err(wrong)?;
        Ok(entry)
    };
    Ok((0..).zip(all).map(read).collect())
}

impl Kube {
    /// Takes a report in. Durable when it returns.
    ///
    /// # Errors
    /// When the database takes nothing, or the agent was forgotten.
    pub(crate) async fn report(&self, agent: &str, entries: &[Entry]) -> Answer<HealthReportAnswer> {
        let now = Timestamp::now();
        let (_, answer) = self.attempt(|kube| decide(kube, agent, entries, now)).await?;
        self.counted.reports.inc();
        self.counted.entries(&answer);
        Ok(answer)
    }
}

fn decide(
    kube: &KubeRecords,
    agent: &str,
    entries: &[Entry],
    now: Timestamp,
) -> Answer<(Write, HealthReportAnswer)> {
    let agent = kube.agent(agent).ok_or_else(super::agents::unregistered)?;
    let mut deciding = Deciding::new(kube, agent, now);
    for (index, entry) in (0..).zip(entries) {
        match entry {
            Ok(entry) => deciding.entry(index, entry),
            Err(error) => deciding.answer.errors.push(error.clone()),
        }
    }
    Ok(deciding.finish())
}

/// A report that is being taken in.
struct Deciding<'a> {
    kube: &'a KubeRecords,
    agent: &'a Kept<KubeAgentRecord>,
    now: Timestamp,
    seen: KubeSeenRecord,
    /// Records that are another, by key: one object may stand in a report twice.
    changed: BTreeMap<Key, ObjectHealthRecord>,
    events: Vec<Change>,
    guards: Vec<Guard>,
    answer: HealthReportAnswer,
}

impl<'a> Deciding<'a> {
    fn new(kube: &'a KubeRecords, agent: &'a Kept<KubeAgentRecord>, now: Timestamp) -> Self {
        let known = kube.seen.get(agent.id.as_str());
        let mut checked = known.map(|it| it.checked.clone()).unwrap_or_default();
        // What is told of no more is not kept.
        checked.retain(|object, _| kube.health_at(object, &agent.id).is_some());
        let seen = KubeSeenRecord { agent_id: agent.id.clone(), last_seen: now, checked, silent: false };
        let guards = vec![
            unchanged(agent, Key::new(Kind::KubeAgent, &agent.name)),
            unchanged_or_absent(known, Key::new(Kind::KubeSeen, &agent.id)),
        ];
        let (changed, events, answer) = Default::default();
        Self { kube, agent, now, seen, changed, events, guards, answer }
    }

    fn refuse(&mut self, index: u32, entry: &HealthEntry, code: EntryErrorCode, message: &str) {
        let id = Some(crate::cluster::short(&entry.id).to_owned());
        self.answer.errors.push(EntryError { index, id, code, message: message.to_owned() });
    }

    fn entry(&mut self, index: u32, entry: &HealthEntry) {
        let object = self.kube.objects.get(entry.id.as_str());
        let stack = object.and_then(|it| self.kube.stack(&it.stack_id)).filter(|it| self.agent.is_given(it));
        let (Some(object), Some(stack)) = (object, stack) else {
            // The same words for another's and for none (K14).
            let message = "this agent is given no such deployment object";
            return self.refuse(index, entry, EntryErrorCode::NotYours, message);
        };
        if stack.current() != Some(&object.id) {
            let message = "its stack has a newer deployment object: ask for what is desired";
            return self.refuse(index, entry, EntryErrorCode::Superseded, message);
        }
        let kept = self.kube.health_at(&object.id, &self.agent.id);
        let key = Key::new(Kind::ObjectHealth, format!("{}/{}", object.id, self.agent.id));
        let known = self.changed.get(&key).or_else(|| kept.map(|it| &*it.record));
        let later = self.seen.checked.get(&object.id).and_then(|it| Timestamp::from_microsecond(*it).ok());
        let about = About { agent: self.agent, stack, object };
        match take(about, known, later, entry, self.now) {
            Taken::Older => {}
            Taken::Same { checked_at } => {
                self.seen.checked.insert(object.id.clone(), checked_at.as_microsecond());
            }
            Taken::Changed { record, event } => {
                self.answer.clock_skew |= record.clock_skew;
                self.seen.checked.remove(&object.id);
                self.guards.push(unchanged(stack, Key::new(Kind::Stack, &stack.name)));
                self.guards.push(unchanged_or_absent(kept, key.clone()));
                self.changed.insert(key, *record);
                self.events.extend(event.map(|it| self.event(&stack.name, *it)));
            }
        }
        let skewed = |it: &ObjectHealthRecord| it.clock_skew;
        self.answer.clock_skew |= kept.is_some_and(|it| skewed(it));
        self.answer.accepted += 1;
    }

    fn event(&self, stack: &str, data: EventData) -> Change {
        let source = format!("/agents/{}", self.agent.name);
        Change::Event(Box::new(NewEvent { time: self.now, source, subject: stack.to_owned(), data }))
    }

    fn finish(self) -> (Write, HealthReportAnswer) {
        let records = self.changed.into_values().map(|it| Change::Put(Record::ObjectHealth(Box::new(it))));
        let mut changes: Vec<Change> = records.collect();
        changes.extend(self.events);
        changes.push(Change::Put(Record::KubeSeen(self.seen)));
        (Write { changes, guards: self.guards }, self.answer)
    }
}

impl Kube {
    /// An agent is heard, although it reports nothing: it holds a stream open.
    pub(crate) async fn heard(&self, agent: &str) -> Answer<()> {
        let now = Timestamp::now();
        let touched = self.attempt(|kube| {
            let agent = kube.agent(agent).ok_or_else(super::agents::unregistered)?;
            let known = kube.seen.get(agent.id.as_str());
            let mut seen = known.map_or_else(
                || KubeSeenRecord {
                    agent_id: agent.id.clone(),
                    last_seen: now,
                    checked: BTreeMap::new(),
                    silent: false,
                },
                |it| (*it.record).clone(),
            );
            seen.last_seen = now;
            seen.silent = false;
            let guards = vec![
                unchanged(agent, Key::new(Kind::KubeAgent, &agent.name)),
                unchanged_or_absent(known, Key::new(Kind::KubeSeen, &agent.id)),
            ];
            Ok((Write { changes: vec![Change::Put(Record::KubeSeen(seen))], guards }, ()))
        });
        touched.await.map(drop)
    }

    /// What an agent told last, as the API tells it.
    pub(crate) fn reported(
        &self,
        agent: &KubeAgentRecord,
        status: Option<hale_model::Status>,
    ) -> hale_api::kube::ReportedHealths {
        view::reported(&self.snapshot().kube, agent, status)
    }
}
