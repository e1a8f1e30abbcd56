//! What a responder is allowed but probably not meant to do (C5).

use std::time::Duration;

use super::{Warning, Warnings};
use crate::spec::{Autonomy, Match, Program, Remote, Responder, Rule, SourceKind, Step};

/// An approval waits for so long unless the file says otherwise.
const APPROVAL: Duration = Duration::from_secs(60 * 60);
/// Programs that take a script after `-c`.
const SHELLS: [&str; 7] = ["sh", "ash", "bash", "dash", "fish", "ksh", "zsh"];
/// Placeholders whose text is written by whoever sends alerts.
const FOREIGN: [&str; 7] = [
    "HALE_FAULT_TYPE",
    "HALE_KIND",
    "HALE_NAME",
    "HALE_NAMESPACE",
    "HALE_UID",
    "HALE_MESSAGE",
    "HALE_PROMPT",
];

/// Looks a valid responder over.
#[must_use]
pub fn lint_responder(responder: &Responder) -> Vec<Warning> {
    let mut all = Warnings::of(&responder.name);
    for source in &responder.sources {
        let remote = match &source.kind {
            SourceKind::Mcp(it) => Some(&it.remote),
            SourceKind::Hale(it) => it.remote.as_ref(),
            SourceKind::Sse(it) => Some(&it.remote),
            SourceKind::Webhook(_) => None,
        };
        if let Some(remote) = remote {
            in_clear(remote, &format!("sources.{}", source.name), &mut all);
        }
    }
    for (at, rule) in responder.rules.iter().enumerate() {
        if let Some(first) = responder.rules[..at].iter().find(|it| covers(&it.matches, &rule.matches)) {
            let message = format!("rule {} before it takes every alert that this one would", first.name);
            let help = "put the narrower rule first";
            all.warn("unreachable_rule", &format!("rules.{}", rule.name), message, help);
        }
        lint_rule(rule, responder, &mut all);
    }
    limits(responder, &mut all);
    all.all
}

fn limits(responder: &Responder, all: &mut Warnings) {
    let limits = &responder.limits;
    let acts = responder.rules.iter().find(|it| it.autonomy == Autonomy::Act);
    if let (Some(rule), None, None) = (acts, limits.runs_per_hour, limits.cost_per_hour) {
        let message =
            format!("rule {} acts by itself, as often as alerts come: there is no budget", rule.name);
        all.warn("no_budget", "limits.runsPerHour", message, "for example runsPerHour: 30");
    }
    if limits.max_per_cluster > limits.max_concurrent_runs {
        let (per, most) = (limits.max_per_cluster, limits.max_concurrent_runs);
        let message = format!("{per} runs of one cluster can't go on at once where {most} can over all");
        all.warn("no_effect", "limits.maxPerCluster", message, "raise maxConcurrentRuns");
    }
}

fn lint_rule(rule: &Rule, responder: &Responder, all: &mut Warnings) {
    let field = format!("rules.{}", rule.name);
    if rule.autonomy != Autonomy::Approve && rule.approval_timeout != APPROVAL {
        let message = "nobody is asked before the program runs".to_owned();
        all.warn("no_effect", &format!("{field}.approvalTimeout"), message, "add autonomy: approve");
    }
    let within = format!("{field}.successWhen.recoveredWithin");
    if rule.success.recovered_within.is_some() {
        if rule.escalate.is_empty() {
            let message = "when the resource does not recover, it is written down and nothing else is done";
            all.warn("no_escalation", &within, message.to_owned(), "add escalate");
        }
        let silent = responder
            .sources
            .iter()
            .filter(|it| matches!(it.kind, SourceKind::Mcp(_)))
            .find(|it| takes_cluster(&rule.matches, &it.name));
        if let Some(source) = silent.filter(|_| rule.success.recovered_when.is_none()) {
            let message = format!(
                "source {} tells of faults and never that a resource is healthy again: its runs would be ineffective",
                source.name
            );
            let help = "add recoveredWhen: {command: […]}, a program that asks";
            all.warn("recovery_unseen", &within, message, help);
        }
    }
    in_shell(&rule.run, &format!("{field}.run.command"), all);
    if let Some(program) = &rule.success.recovered_when {
        in_shell(program, &format!("{field}.successWhen.recoveredWhen.command"), all);
    }
    for (n, step) in rule.escalate.iter().enumerate() {
        match step {
            Step::Program(program) => in_shell(program, &format!("{field}.escalate[{n}].command"), all),
            Step::Webhook(remote) => in_clear(remote, &format!("{field}.escalate[{n}].webhook"), all),
        }
    }
}

/// A token over plain HTTP to another machine is anybody's.
fn in_clear(remote: &Remote, field: &str, all: &mut Warnings) {
    let Ok((false, host, ..)) = crate::file::parse_url(&remote.url) else { return };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let here = bare == "localhost" || bare.parse().is_ok_and(|it: std::net::IpAddr| it.is_loopback());
    if remote.token_file.is_some() && !here {
        let message = format!("the token is sent to {host} for everyone on the way to read");
        all.warn("token_in_clear", &format!("{field}.tokenFile"), message, "use an https:// url");
    }
}

/// What an alert says becomes a part of a script, and is run.
fn in_shell(program: &Program, field: &str, all: &mut Warnings) {
    let name = program.command.first().map_or("", |it| it.rsplit('/').next().unwrap_or(it));
    if !SHELLS.contains(&name) {
        return;
    }
    let takes_script = |it: &&String| it.starts_with('-') && !it.starts_with("--") && it.ends_with('c');
    let mut words = program.command.iter().skip(1);
    let Some(script) = words.find(takes_script).and_then(|_| words.next()) else { return };
    let foreign =
        |it: &String| FOREIGN.contains(&it.as_str()) || it.starts_with(crate::spec::LABEL_PLACEHOLDER);
    if let Some(name) = crate::names_in(script).into_iter().find(foreign) {
        let message =
            format!("$({name}) becomes a part of the script: whoever sends alerts can have anything run");
        let help = match name.as_str() {
            "HALE_PROMPT" => "read the file \"$HALE_PROMPT_FILE\"".to_owned(),
            _ => format!("write \"${name}\": the shell reads it from the environment"),
        };
        all.warn("shell_injection", field, message, &help);
    }
}

fn takes_cluster(matches: &Match, name: &str) -> bool {
    matches.clusters.is_empty() || matches.clusters.iter().any(|it| within(name, it))
}

/// Whether the first takes every alert that the second would. `false` where that is not plain.
fn covers(wide: &Match, narrow: &Match) -> bool {
    let lists = [
        (&wide.clusters, &narrow.clusters),
        (&wide.fault_types, &narrow.fault_types),
        (&wide.kinds, &narrow.kinds),
        (&wide.namespaces, &narrow.namespaces),
        (&wide.names, &narrow.names),
    ];
    let list = |(wide, narrow): &(&Vec<String>, &Vec<String>)| {
        wide.is_empty()
            || (!narrow.is_empty() && narrow.iter().all(|it| wide.iter().any(|pattern| within(it, pattern))))
    };
    let label = |(key, value): (&String, &String)| narrow.labels.get(key).is_some_and(|it| within(it, value));
    wide.severity <= narrow.severity
        && lists.iter().all(list)
        && wide.labels.iter().all(label)
        && (wide.schedule.is_empty() || wide.schedule == narrow.schedule)
}

/// Whether everything that `it` (a text, or a pattern) matches is matched by `pattern`, which has a star at its end or
/// none.
fn within(it: &str, pattern: &str) -> bool {
    let begin = pattern.strip_suffix('*').filter(|it| !it.contains(['*', '?']));
    it == pattern || begin.is_some_and(|begin| it.starts_with(begin))
}
