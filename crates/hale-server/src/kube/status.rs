//! From what agents report to what is known: pure (K8, K13).
//!
//! Which report counts, what changes by it, which event it makes, and how several agents add up. Time and records come
//! in, records and events go out.

use hale_api::kube::{HealthChange, HealthEntry, HealthSummary};
use hale_model::{
    Status,
    cluster::{DeploymentObjectRecord, KubeAgentRecord, ObjectHealthRecord, StackRecord},
    event::{DeploymentChanged, EventData},
};
use jiff::{SignedDuration, Timestamp};

/// A report may be so far ahead of the server's clock before it is taken as of its receipt (K13).
const AHEAD: SignedDuration = SignedDuration::from_secs(60);

/// Changes of status that are kept (K8).
const HISTORY: usize = 50;

/// The word of the judgement for a rollout that goes on within its deadline (K7).
const PROGRESSING: &str = "progressing";

/// Bounds of a report (K13).
const MOST_CONDITIONS: usize = 100;
const MOST_RESOURCES: usize = 1000;
const LONGEST_WORD: usize = 253;
const LONGEST_MESSAGE: usize = 1024;

/// What a record is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About<'a> {
    pub(crate) agent: &'a KubeAgentRecord,
    pub(crate) stack: &'a StackRecord,
    pub(crate) object: &'a DeploymentObjectRecord,
}

/// What an entry of a report comes to.
#[derive(Debug, PartialEq)]
pub(crate) enum Taken {
    /// It is older than what is known: nothing.
    Older,
    /// Everything is as it was, looked at again.
    Same {
        /// When.
        checked_at: Timestamp,
    },
    /// Something is another.
    Changed {
        /// As it is now.
        record: Box<ObjectHealthRecord>,
        /// What is told of that.
        event: Option<Box<EventData>>,
    },
}

/// Takes an entry over what is known. `checked` is when it was last looked at, which may be later than the record says.
pub(crate) fn take(
    about: About<'_>,
    known: Option<&ObjectHealthRecord>,
    checked: Option<Timestamp>,
    entry: &HealthEntry,
    now: Timestamp,
) -> Taken {
    let clock_skew = entry.checked_at.duration_since(now) > AHEAD;
    let checked_at = if clock_skew { now } else { entry.checked_at };
    let last = checked.max(known.and_then(|it| it.checked_at));
    if last.is_some_and(|last| checked_at < last) {
        return Taken::Older;
    }
    if let Some(known) = known
        && known.checked_at.is_some()
        && (known.status, &known.summary, known.clock_skew) == (entry.status, &entry.summary, clock_skew)
    {
        return Taken::Same { checked_at };
    }
    let why = reason(&entry.summary);
    let mut record = known.cloned().unwrap_or_else(|| unheard(about, now));
    let from = known.filter(|it| it.checked_at.is_some()).map(|it| it.status);
    let event = tell(about, &mut record, from, entry, &why).map(Box::new);
    if from != Some(entry.status) {
        change(&mut record, from, entry.status, now, why);
    }
    record.summary = entry.summary.clone();
    record.checked_at = Some(checked_at);
    record.clock_skew = clock_skew;
    Taken::Changed { record: Box::new(record), event }
}

/// Of what nothing was told yet.
pub(crate) fn unheard(about: About<'_>, now: Timestamp) -> ObjectHealthRecord {
    ObjectHealthRecord {
        agent_id: about.agent.id.clone(),
        object_id: about.object.id.clone(),
        stack_id: about.stack.id.clone(),
        status: Status::Unknown,
        summary: HealthSummary::default(),
        checked_at: None,
        clock_skew: false,
        since: now,
        told: None,
        history: Vec::new(),
    }
}

/// The record when its agent is silent; `None` when it is unknown already (K8). What was last seen of the pods stays.
pub(crate) fn silence(
    known: &ObjectHealthRecord,
    silent_for: u32,
    now: Timestamp,
) -> Option<ObjectHealthRecord> {
    if known.status == Status::Unknown {
        return None;
    }
    let mut record = known.clone();
    let why = format!("the agent is silent: nothing was heard of it for {silent_for} s");
    change(&mut record, Some(known.status), Status::Unknown, now, why);
    Some(record)
}

fn change(record: &mut ObjectHealthRecord, from: Option<Status>, to: Status, at: Timestamp, why: String) {
    record.status = to;
    record.since = at;
    record.history.push(HealthChange { at, from, to, why });
    let over = record.history.len().saturating_sub(HISTORY);
    record.history.drain(..over);
}

/// Which event a report makes, if any, and what was told then. A first rollout that goes on makes none (K7); what is
/// unknown makes none; recovered is told only of what was told to be bad.
fn tell(
    about: About<'_>,
    record: &mut ObjectHealthRecord,
    from: Option<Status>,
    entry: &HealthEntry,
    why: &str,
) -> Option<EventData> {
    let only_progressing = entry.summary.conditions.iter().all(|it| it == PROGRESSING);
    let is_rollout = entry.status == Status::Degraded
        && only_progressing
        && !entry.summary.conditions.is_empty()
        && record.told.is_none();
    let (make, told): (fn(DeploymentChanged) -> EventData, _) = match entry.status {
        Status::Degraded if is_rollout => return None,
        Status::Degraded => (EventData::DeploymentDegraded, Some(Status::Degraded)),
        Status::Failing => (EventData::DeploymentFailing, Some(Status::Failing)),
        Status::Healthy => (EventData::DeploymentRecovered, None),
        Status::Unknown => return None,
    };
    if told == record.told {
        return None;
    }
    record.told = told;
    Some(make(DeploymentChanged {
        stack: about.stack.name.clone(),
        stack_id: about.stack.id.clone(),
        deployment_object_id: about.object.id.clone(),
        agent: about.agent.name.clone(),
        agent_id: about.agent.id.clone(),
        from,
        to: entry.status,
        pods_ready: entry.summary.pods_ready,
        pods_total: entry.summary.pods_total,
        conditions: entry.summary.conditions.clone(),
        reason: why.to_owned(),
    }))
}

/// In one line: `1/3 pods ready, CrashLoopBackOff`.
fn reason(summary: &HealthSummary) -> String {
    let mut words = format!("{}/{} pods ready", summary.pods_ready, summary.pods_total);
    for condition in summary.conditions.iter().take(10) {
        words.push_str(", ");
        words.push_str(condition);
    }
    if let Some(it) = summary.resources.iter().find(|it| !it.ready && it.message.is_some()) {
        let message = it.message.as_deref().unwrap_or_default();
        words.push_str(&format!("; {} {}: {message}", it.kind, it.name));
    }
    cut(&words, 200).to_owned()
}

/// The beginning of a text, at most so many bytes.
fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Whether an entry is as it should be; what is only too long is cut (K13).
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn check(entry: &mut HealthEntry) -> Result<(), String> {
    let summary = &mut entry.summary;
    if summary.pods_ready > summary.pods_total {
        return Err(format!(
            "pods_ready is {}, more than pods_total, which is {}",
            summary.pods_ready, summary.pods_total
        ));
    }
    if summary.conditions.len() > MOST_CONDITIONS || summary.resources.len() > MOST_RESOURCES {
        return Err(format!("at most {MOST_CONDITIONS} conditions and {MOST_RESOURCES} resources are taken"));
    }
    if let Some(word) = wrong_word(summary) {
        return Err(format!(
            "conditions, kinds and names have 1 to {LONGEST_WORD} bytes, and {:?} has {}",
            cut(word, 40),
            word.len()
        ));
    }
    for message in summary.resources.iter_mut().filter_map(|it| it.message.as_mut()) {
        let end = cut(message, LONGEST_MESSAGE).len();
        message.truncate(end);
    }
    Ok(())
}

fn wrong_word(summary: &HealthSummary) -> Option<&String> {
    let names = summary.resources.iter().flat_map(|it| [&it.kind, &it.name]);
    let namespaces = summary.resources.iter().filter_map(|it| it.namespace.as_ref());
    let mut words = summary.conditions.iter().chain(names).chain(namespaces);
    words.find(|it| it.len() > LONGEST_WORD || it.is_empty())
}

/// Several statuses as one: the worst (failing, degraded, unknown, healthy); of none it is unknown.
pub(crate) fn worst(all: impl IntoIterator<Item = Status>) -> Status {
    all.into_iter().max().unwrap_or(Status::Unknown)
}

/// Several summaries as one: sums of pods, all conditions, all resources.
pub(crate) fn sum<'a>(all: impl IntoIterator<Item = &'a HealthSummary>) -> HealthSummary {
    all.into_iter().fold(HealthSummary::default(), |mut sum, it| {
        sum.pods_ready = sum.pods_ready.saturating_add(it.pods_ready);
        sum.pods_total = sum.pods_total.saturating_add(it.pods_total);
        sum.conditions.extend(it.conditions.iter().cloned());
        sum.resources.extend(it.resources.iter().cloned());
        sum
    })
}

#[cfg(test)]
mod tests;
