//! Responders: where alerts come from, what is run on them, and how much of that there may be (R1–R11).

mod program;
mod rule;
mod source;

use std::{collections::BTreeMap, time::Duration};

use super::{
    convert::{Placed, invalid, missing, name},
    de::{At, Cx, Field},
    error::{Code, Problem, Span},
    raw_responder::{RawLimits, RawOverflow, RawResponder},
    scalar::{LongSpan, Size},
};
use crate::spec::{Overflow, Responder, ResponderLimits};

/// A responder, with the places of the addresses that its sources listen on, by the index of the source.
pub(super) struct PlacedResponder {
    pub(super) placed: Placed<Responder>,
    pub(super) listens: Vec<(usize, Span)>,
}

/// Makes a responder of what was written. Mistakes are noted; the value counts only when there were none.
pub(super) fn responder(raw: RawResponder, whole: Span, digest: String, cx: &Cx<'_>) -> PlacedResponder {
    let (name, name_span) = name(raw.name, whole, "responder", cx);
    let (mut sources, mut listens) = (Vec::new(), Vec::new());
    let mut names = Names::default();
    let example = "for example {name: prod-eu, kind: mcp, url: \"http://127.0.0.1:8383/mcp\"}";
    for (at, raw) in list(raw.sources, whole, "sources", example, cx) {
        let listen = raw.value.listen.as_set().map(|it| it.span);
        let what = format!("sources[{at}]");
        if let Some(source) = source::source(raw, &what, &mut names, cx) {
            listens.extend(listen.map(|span| (sources.len(), span)));
            sources.push(source);
        }
    }
    let clusters = names;
    let mut names = Names::default();
    let mut rules = Vec::new();
    let example = "for example {name: crash-loops, match: {kinds: [Pod]}, run: {command: [\"./triage.sh\"]}}";
    for (at, raw) in list(raw.rules, whole, "rules", example, cx) {
        rules.extend(rule::rule(raw, &format!("rules[{at}]"), &clusters, &mut names, cx));
    }
    let limits = raw.limits.value().map_or_else(ResponderLimits::default, |it| limits(it, cx));
    let value = Responder { name, sources, rules, limits, digest };
    let placed = Placed { value, name: name_span, depends_on: Vec::new(), service: None };
    PlacedResponder { placed, listens }
}

/// Names that may be there once only, of sources or of rules.
#[derive(Default)]
struct Names {
    all: BTreeMap<String, String>,
}

impl Names {
    /// Takes the name of the entry `what`.
    fn take(&mut self, at: &At<String>, what: &str, cx: &Cx<'_>) {
        if at.value.is_empty() {
            return;
        }
        if let Some(first) = self.all.get(&at.value) {
            let message = format!("{what}.name: {} is the name of {first}, too", at.value);
            cx.note(Problem::new(at.span, Code::Duplicate, message).help("give each a name of its own"));
            return;
        }
        self.all.insert(at.value.clone(), what.to_owned());
    }

    fn has(&self, name: &str) -> bool {
        self.all.contains_key(name)
    }

    fn all(&self) -> impl Iterator<Item = &str> {
        self.all.keys().map(String::as_str)
    }
}

/// The entries of a list that must have one, each with its index.
fn list<T>(
    field: Field<Vec<Field<T>>>,
    whole: Span,
    what: &str,
    example: &str,
    cx: &Cx<'_>,
) -> Vec<(usize, At<T>)> {
    match field {
        Field::Bad => Vec::new(),
        Field::Absent => {
            let problem = missing(whole, format!("{what}: missing, a responder has at least one"));
            cx.note(problem.help(example));
            Vec::new()
        }
        Field::Set(At { span, value }) => {
            if value.is_empty() {
                cx.note(
                    invalid(span, format!("{what}: is empty, a responder has at least one")).help(example),
                );
            }
            let mut all = Vec::with_capacity(value.len());
            for (at, field) in value.into_iter().enumerate() {
                match field {
                    Field::Bad => {}
                    Field::Absent => cx.note(missing(span, format!("{what}[{at}]: is empty")).help(example)),
                    Field::Set(it) => all.push((at, it)),
                }
            }
            all
        }
    }
}

/// A time that is not zero, if one was written.
fn time(field: &Field<LongSpan>, what: &str, cx: &Cx<'_>) -> Option<Duration> {
    let at = field.as_set()?;
    if at.value.0.is_zero() {
        cx.note(invalid(at.span, format!("{what}: must be above 0")));
    }
    Some(at.value.0)
}

/// A number of bytes that is not zero, if one was written.
fn size(field: &Field<Size>, what: &str, cx: &Cx<'_>) -> Option<u64> {
    let at = field.as_set()?;
    if at.value.0 == 0 {
        cx.note(invalid(at.span, format!("{what}: must be above 0")));
    }
    Some(at.value.0)
}

/// A number that is not zero, if one was written. More than 32 bits hold is as much as no limit.
fn count(field: &Field<u64>, what: &str, cx: &Cx<'_>) -> Option<u32> {
    let at = field.as_set()?;
    if at.value == 0 {
        cx.note(invalid(at.span, format!("{what}: must be above 0")));
    }
    Some(u32::try_from(at.value).unwrap_or(u32::MAX))
}

fn limits(raw: RawLimits, cx: &Cx<'_>) -> ResponderLimits {
    let default = ResponderLimits::default();
    let count = |field: &Field<u64>, name: &str| count(field, &format!("limits.{name}"), cx);
    let time = |field: &Field<LongSpan>, name: &str| time(field, &format!("limits.{name}"), cx);
    if let Some(at) = raw.cost_per_hour.as_set().filter(|at| at.value <= 0.0) {
        cx.note(invalid(at.span, format!("limits.costPerHour: must be above 0, found {}", at.value)));
    }
    ResponderLimits {
        max_concurrent_runs: count(&raw.max_concurrent_runs, "maxConcurrentRuns")
            .unwrap_or(default.max_concurrent_runs),
        max_per_cluster: count(&raw.max_per_cluster, "maxPerCluster").unwrap_or(default.max_per_cluster),
        queue_size: count(&raw.queue_size, "queueSize").unwrap_or(default.queue_size),
        global_queue_size: count(&raw.global_queue_size, "globalQueueSize")
            .unwrap_or(default.global_queue_size),
        overflow: match raw.overflow.value() {
            Some(RawOverflow::Reject) => Overflow::Reject,
            _ => Overflow::DropOldest,
        },
        max_queue_age: time(&raw.max_queue_age, "maxQueueAge"),
        duplicate_window: time(&raw.duplicate_window, "duplicateWindow").unwrap_or(default.duplicate_window),
        failure_breaker: count(&raw.failure_breaker, "failureBreaker").unwrap_or(default.failure_breaker),
        failure_breaker_reset: time(&raw.failure_breaker_reset, "failureBreakerReset")
            .unwrap_or(default.failure_breaker_reset),
        runs_per_hour: count(&raw.runs_per_hour, "runsPerHour"),
        cost_per_hour: raw.cost_per_hour.value(),
        keep_workspaces: time(&raw.keep_workspaces, "keepWorkspaces").unwrap_or(default.keep_workspaces),
        workspace_bytes: size(&raw.workspace_bytes, "limits.workspaceBytes", cx)
            .unwrap_or(default.workspace_bytes),
    }
}
