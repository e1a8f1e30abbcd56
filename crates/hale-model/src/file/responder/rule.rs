//! Rules (R4, R10, R11).

use std::{
    path::{Component, Path, PathBuf},
    time::Duration,
};

use super::{
    Names,
    program::program,
    source::{entry_name, needed},
    time,
};
use crate::{
    file::{
        convert::{invalid, missing},
        de::{At, Cx, Field, shorten, suggest},
        error::{Code, Problem, Span},
        raw_responder::{RawArtifact, RawMatch, RawRule, RawStep, RawSuccessWhen},
        scalar::{Many, Text},
        target::{labels, windows},
    },
    spec::{ArtifactRule, Match, Rule, Step, SuccessWhen},
};

/// How long a run waits for a person, unless the file says otherwise.
const APPROVAL: Duration = Duration::from_secs(60 * 60);

/// Reads a rule, and takes its name.
pub(super) fn rule(
    at: At<RawRule>,
    what: &str,
    clusters: &Names,
    names: &mut Names,
    cx: &Cx<'_>,
) -> Option<Rule> {
    let At { span, value: raw } = at;
    let name = entry_name(&raw.name, span, what, cx);
    names.take(&name, what, cx);
    let matches = raw
        .matches
        .value()
        .map_or_else(Match::default, |it| matches(it, &format!("{what}.match"), clusters, cx));
    let run = match raw.run {
        Field::Bad => None,
        Field::Absent => {
            let problem = missing(span, format!("{what}.run: missing, what is run on an alert"));
            cx.note(problem.help("for example {command: [\"./triage.sh\", \"$(HALE_CLUSTER)\"]}"));
            None
        }
        Field::Set(at) => Some(program(at, &format!("{what}.run"), cx)),
    };
    let approval_timeout = time(&raw.approval_timeout, &format!("{what}.approvalTimeout"), cx);
    let success = raw
        .success_when
        .value()
        .map_or_else(SuccessWhen::default, |it| success(it, &format!("{what}.successWhen"), cx));
    let steps = raw.escalate.value().map(|it| it.0).unwrap_or_default();
    let escalate = steps
        .into_iter()
        .enumerate()
        .filter_map(|(n, field)| step(field.set()?, &format!("{what}.escalate[{n}]"), cx))
        .collect();
    Some(Rule {
        name: name.value,
        matches,
        run: run?,
        autonomy: raw.autonomy.value().unwrap_or_default(),
        approval_timeout: approval_timeout.unwrap_or(APPROVAL),
        success,
        escalate,
    })
}

fn matches(raw: RawMatch, what: &str, clusters: &Names, cx: &Cx<'_>) -> Match {
    let texts = |field: Field<Many<Field<Text>>>, name: &str| -> Vec<String> {
        let given = field.value().map(|it| it.0).unwrap_or_default().into_iter().filter_map(Field::set);
        let note = |at: &At<Text>| {
            if at.value.0.is_empty() {
                let problem = invalid(at.span, format!("{what}.{name}: an empty text matches nothing"));
                cx.note(problem.help("leave it out to match everything"));
            } else if name == "clusters" {
                known_cluster(at, what, clusters, cx);
            }
        };
        given.inspect(note).map(|at| at.value.0).collect()
    };
    Match {
        severity: raw.severity.value().unwrap_or_default(),
        clusters: texts(raw.clusters, "clusters"),
        labels: labels(raw.labels, &format!("{what}.labels"), cx),
        fault_types: texts(raw.fault_types, "faultTypes"),
        kinds: texts(raw.kinds, "kinds"),
        namespaces: texts(raw.namespaces, "namespaces"),
        names: texts(raw.names, "names"),
        schedule: windows(raw.schedule, &format!("{what}.schedule"), cx),
    }
}

/// A cluster is a source of the responder; a pattern may match those to come.
fn known_cluster(at: &At<Text>, what: &str, clusters: &Names, cx: &Cx<'_>) {
    let name = at.value.0.as_str();
    if name.contains(['*', '?']) || clusters.has(name) {
        return;
    }
    let found = shorten(name);
    let message = match suggest(name, clusters.all()) {
        Some(meant) => format!("{what}.clusters: no source is named {found}, did you mean {meant}?"),
        None => format!("{what}.clusters: no source is named {found}"),
    };
    cx.note(Problem::new(at.span, Code::UnknownName, message));
}

fn success(raw: RawSuccessWhen, what: &str, cx: &Cx<'_>) -> SuccessWhen {
    let recovered_within = time(&raw.recovered_within, &format!("{what}.recoveredWithin"), cx);
    if let Some(at) = raw.recovered_when.as_set().filter(|_| !raw.recovered_within.is_written()) {
        let message = format!("{what}.recoveredWhen: means nothing without recoveredWithin");
        cx.note(Problem::new(at.span, Code::Conflict, message).help("add recoveredWithin: 10m"));
    }
    SuccessWhen {
        artifact: raw.artifact.set().and_then(|at| artifact(at, &format!("{what}.artifact"), cx)),
        recovered_within,
        recovered_when: raw.recovered_when.set().map(|at| program(at, &format!("{what}.recoveredWhen"), cx)),
    }
}

fn artifact(at: At<RawArtifact>, what: &str, cx: &Cx<'_>) -> Option<ArtifactRule> {
    let At { span, value: raw } = at;
    let path = match raw.path {
        Field::Bad => None,
        Field::Absent => {
            cx.note(missing(span, format!("{what}.path: missing")).help("for example output/report.md"));
            None
        }
        Field::Set(at) => inside(&at, what, cx),
    };
    Some(ArtifactRule { path: path?, min_bytes: raw.min_bytes.value().map_or(1, |it| it.0) })
}

/// A path that stays within the workspace.
fn inside(at: &At<Text>, what: &str, cx: &Cx<'_>) -> Option<PathBuf> {
    let text = at.value.0.as_str();
    let normal = |it: &Component<'_>| matches!(it, Component::Normal(_));
    let fine = |it: Component<'_>| normal(&it) || it == Component::CurDir;
    let path = Path::new(text);
    if text.contains('\0') || !path.components().all(fine) || !path.components().any(|it| normal(&it)) {
        let message = format!("{what}.path: `{}` is not the path of a file in the workspace", shorten(text));
        cx.note(invalid(at.span, message).help("relative, and without `..`: output/report.md"));
        return None;
    }
    Some(path.components().filter(normal).collect())
}

fn step(at: At<RawStep>, what: &str, cx: &Cx<'_>) -> Option<Step> {
    let At { span, value: mut raw } = at;
    let field = raw.program_fields().into_iter().find(|it| it.1).map(|it| it.0);
    match (std::mem::take(&mut raw.webhook), field) {
        (Field::Absent, None) => {
            let problem = missing(span, format!("{what}: expected a command or a webhook"));
            cx.note(problem.help("for example {command: [\"./page.sh\"]}"));
            None
        }
        (Field::Absent, Some(_)) => {
            Some(Step::Program(Box::new(program(At { span, value: raw.into_program() }, what, cx))))
        }
        (Field::Bad, None) => None,
        (Field::Set(at), None) => webhook(&at, what, cx),
        (webhook, Some(field)) => {
            let span = webhook.as_set().map_or(span, |at: &At<_>| at.span);
            let message = format!("{what}: webhook and {field}, expected a webhook or a program");
            cx.note(Problem::new(span, Code::Conflict, message).help("make two steps of them"));
            None
        }
    }
}

fn webhook(at: &At<crate::file::raw_responder::RawRemote>, what: &str, cx: &Cx<'_>) -> Option<Step> {
    let span: Span = at.span;
    let what = format!("{what}.webhook");
    needed(&at.value, span, &what, "https://example.com/hook", cx).map(Step::Webhook)
}
