//! The chain of what led to the present state (H26). Pure: status, events and outcomes in, steps out.
//!
//! Outcomes are folded: equal ones in a row are one link, ended where their count reached the threshold, so that the
//! link stands right before what it caused. Of successes only those are told that changed something, and the last.

use std::sync::Arc;

use hale_api::{
    describe,
    explain::{Explanation, Step, StepKind, SubjectKind},
    outcomes::ProbeHistory,
};
use hale_model::{
    Phase, Reason, Status,
    event::{Event, EventData, Severity},
    report::OutcomeRecord,
    status::{ProbeStatus, ReplicaStatus, TargetStatus, WorkloadStatus},
};
use jiff::{SignedDuration, Timestamp};

/// What is on record of a subject.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    /// Its events, oldest first.
    pub(crate) events: Vec<Arc<Event>>,
    /// Whether there are older events that are left out.
    pub(crate) cut: bool,
    /// Its outcomes.
    pub(crate) history: Vec<ProbeHistory>,
}

/// Explains a replica.
pub(crate) fn replica(status: &ReplicaStatus, evidence: &Evidence, now: Timestamp) -> Explanation {
    let summary = replica_summary(status, now);
    chain(&status.name, SubjectKind::Replica, status.status, summary, next(status, now), evidence, now)
}

/// Explains a workload by its replicas.
pub(crate) fn workload(
    status: &WorkloadStatus,
    evidence: &Evidence,
    replicas: Vec<Explanation>,
    now: Timestamp,
) -> Explanation {
    let note = status.note.as_ref().map(|it| format!("{it}, ")).unwrap_or_default();
    let summary = format!("{note}{} of {} replicas are ready", status.ready, status.desired);
    let mut explanation =
        chain(&status.name, SubjectKind::Workload, status.status, summary, Vec::new(), evidence, now);
    explanation.replicas = replicas;
    explanation
}

/// Explains a target.
pub(crate) fn target(status: &TargetStatus, evidence: &Evidence, now: Timestamp) -> Explanation {
    let mut parts = Vec::new();
    if status.paused {
        parts.push("paused".to_owned());
    }
    if let Some(since) = status.since {
        parts.push(format!("for {}", between(since, now)));
    }
    if let Some(reason) = status.last_reason {
        let detail = status.last_detail.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
        parts.push(format!("{reason} ×{}{detail}", status.consecutive_failures));
    }
    let summary = parts.join(", ");
    chain(&status.name, SubjectKind::Target, status.status, summary, Vec::new(), evidence, now)
}

/// Explains what is no longer declared, from what is still on record.
pub(crate) fn vanished(name: &str, evidence: &Evidence, now: Timestamp) -> Explanation {
    let told = |of: &str| evidence.events.iter().any(|it| it.data.kind().starts_with(of));
    let kind = match (told("dev.hale.target."), told("dev.hale.workload.")) {
        (true, _) => SubjectKind::Target,
        (false, true) => SubjectKind::Workload,
        (false, false) => SubjectKind::Replica,
    };
    let summary = "not declared now; this is what is on record of it".to_owned();
    chain(name, kind, Status::Unknown, summary, Vec::new(), evidence, now)
}

fn chain(
    subject: &str,
    kind: SubjectKind,
    status: Status,
    summary: String,
    pending: Vec<String>,
    evidence: &Evidence,
    now: Timestamp,
) -> Explanation {
    let mut links: Vec<(Timestamp, Step)> = Vec::new();
    let begin = evidence.events.first().filter(|_| evidence.cut).map(|it| it.time);
    for history in &evidence.history {
        for link in outcome_steps(history) {
            // Where the events of its time are left out an outcome explains nothing.
            if begin.is_none_or(|begin| link.0 >= begin) {
                links.push(link);
            }
        }
    }
    for event in &evidence.events {
        links.extend(event_steps(event).map(|step| (event.time, step)));
    }
    // Stable: of one moment, outcomes stand before the events they caused.
    links.sort_by_key(|(at, _)| *at);
    let severity = match status {
        Status::Healthy => Severity::Info,
        Status::Unknown | Status::Degraded => Severity::Warning,
        Status::Failing => Severity::Error,
    };
    let mut steps: Vec<Step> = links.into_iter().map(|(_, step)| step).collect();
    let text = format!("{status}: {summary}");
    steps.push(Step { at: now, until: None, kind: StepKind::Now, severity, text, event: None });
    Explanation {
        subject: subject.to_owned(),
        kind,
        status,
        summary,
        at: now,
        steps,
        pending,
        replicas: Vec::new(),
        placement: Vec::new(),
    }
}

fn event_steps(event: &Event) -> impl Iterator<Item = Step> {
    let step = |text: String| Step {
        at: event.time,
        until: None,
        kind: StepKind::Event,
        severity: event.severity,
        text,
        event: Some(event.id),
    };
    let was = match &event.data {
        EventData::ReplicaRestarted(it) => it.forensics.as_deref().and_then(describe::forensics),
        _ => None,
    };
    let was = was.map(|was| step(format!("before that, the old one: {was}")));
    was.into_iter().chain([step(describe::event(&event.data))])
}

/// One link per fold of outcomes, each with the moment its last outcome was known.
fn outcome_steps(history: &ProbeHistory) -> Vec<(Timestamp, Step)> {
    let name = history.probe.map_or("check", |probe| probe.as_str());
    let mut folds: Vec<Vec<&OutcomeRecord>> = Vec::new();
    for outcome in &history.outcomes {
        match folds.last_mut() {
            Some(fold) if continues(fold, outcome) => fold.push(outcome),
            _ => folds.push(vec![outcome]),
        }
    }
    let last = folds.len().saturating_sub(1);
    let mut steps = Vec::new();
    for (index, fold) in folds.iter().enumerate() {
        let (Some(first), Some(end)) = (fold.first(), fold.last()) else { continue };
        let turned = end.consecutive == end.threshold;
        let told = end.reason.is_some() || index == last || (turned && changes_something(&folds, index));
        if told {
            steps.push((known_at(end), outcome_step(name, fold, first, end)));
        }
    }
    steps
}

/// Whether an outcome belongs to a fold: of the same run and result, and the fold's threshold not just reached.
fn continues(fold: &[&OutcomeRecord], outcome: &OutcomeRecord) -> bool {
    fold.last().is_some_and(|last| {
        last.incarnation == outcome.incarnation
            && last.reason == outcome.reason
            && last.consecutive != last.threshold
    })
}

/// Whether successes follow failures, or are the first of their run.
fn changes_something(folds: &[Vec<&OutcomeRecord>], index: usize) -> bool {
    let Some(end) = folds[index].last() else { return false };
    let before = index.checked_sub(1).and_then(|before| folds[before].last());
    before.is_none_or(|before| before.incarnation != end.incarnation || before.reason.is_some())
}

fn outcome_step(name: &str, fold: &[&OutcomeRecord], first: &OutcomeRecord, end: &OutcomeRecord) -> Step {
    let what = end.reason.map_or("ok", Reason::as_str);
    let times = if fold.len() > 1 { format!(" ×{}", fold.len()) } else { String::new() };
    let count = if end.consecutive <= end.threshold {
        format!(" ({}/{})", end.consecutive, end.threshold)
    } else {
        format!(" ({} in a row)", end.consecutive)
    };
    let detail =
        end.detail.as_ref().filter(|it| !it.is_empty()).map(|it| format!(": {it}")).unwrap_or_default();
    Step {
        at: first.at,
        until: (fold.len() > 1).then_some(end.at),
        kind: StepKind::Outcome,
        severity: if end.reason.is_some() { Severity::Warning } else { Severity::Info },
        text: format!("{name} {what}{times}{count}{detail}"),
        event: None,
    }
}

/// When an outcome was known: when its check ended.
fn known_at(outcome: &OutcomeRecord) -> Timestamp {
    let took = SignedDuration::try_from_secs_f64(outcome.took_ms / 1000.0).unwrap_or_default();
    outcome.at.saturating_add(took).unwrap_or(outcome.at)
}

/// What is held, what is waited for, and what would change it.
fn next(it: &ReplicaStatus, now: Timestamp) -> Vec<String> {
    let mut next = Vec::new();
    let name = &it.name;
    if let Some(hold) = &it.held_by {
        next.push(format!("held by {}", describe::hold(hold)));
    }
    let due = it.next_start_at.filter(|at| *at > now);
    if let Some(at) = due {
        next.push(format!("the next start is due in {}", between(now, at)));
    }
    match it.phase {
        Phase::Stopped => next.push(format!("`hale start {name}` starts it")),
        Phase::Failed if due.is_none() => {
            next.push(format!("nothing more is tried: mend the cause, then `hale restart {name}`"));
        }
        Phase::Starting if it.probes.contains_key("startup") => {
            next.push("it has started once its startup probe succeeds".to_owned());
        }
        _ => {}
    }
    if it.paused {
        next.push(format!("`hale resume {name}` ends the pause"));
    }
    if matches!(it.phase, Phase::Running | Phase::Unhealthy) {
        next.extend(it.probes.iter().filter_map(|(kind, probe)| probe_next(kind, probe)));
    }
    next
}

fn probe_next(kind: &str, probe: &ProbeStatus) -> Option<String> {
    if probe.prober_errors > 0 {
        let times = probe.prober_errors;
        return Some(format!("{kind} could not be asked ×{times}; it is tried again and changes nothing"));
    }
    let (count, threshold) = (probe.consecutive_failures, probe.failure_threshold);
    match (kind, probe.ok) {
        ("readiness", Some(false)) => {
            Some("it gets no traffic until its readiness probe succeeds".to_owned())
        }
        ("readiness", None) => Some("it gets no traffic before its readiness probe has succeeded".to_owned()),
        ("liveness", ok) if ok != Some(false) && count > 0 => {
            Some(format!("liveness has failed {count} in a row; it is restarted at {threshold}"))
        }
        _ => None,
    }
}

fn replica_summary(it: &ReplicaStatus, now: Timestamp) -> String {
    let ready = if it.ready { "ready" } else { "not ready" };
    let mut text = format!("{}, {ready}", it.phase);
    if let Some(transition) = &it.last_transition {
        text.push_str(&format!(" for {} ({})", between(transition.at, now), transition.reason));
    }
    for (is, word) in [(it.flapping, "flapping"), (it.paused, "paused"), (it.stale, "stale")] {
        if is {
            text.push_str(&format!("; {word}"));
        }
    }
    if it.status != Status::Healthy
        && let Some(error) = &it.last_error
        && it.last_transition.as_ref().is_none_or(|transition| transition.reason != *error)
    {
        text.push_str(&format!("; {error}"));
    }
    text
}

fn between(from: Timestamp, to: Timestamp) -> String {
    describe::duration(to.duration_since(from).try_into().unwrap_or_default())
}

#[cfg(test)]
mod tests;
