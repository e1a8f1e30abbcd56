//! Runs and alerts for people. What others wrote — alerts, outputs — is shown without what would steer a terminal.

use std::io::{self, Write};

use hale_api::{
    describe,
    runs::{Alert, AlertOutcome, AlertRecord, Resource, Run, RunDetail, RunState},
};
use hale_model::{
    event::Severity,
    spec::{AlertSeverity, Autonomy},
};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use owo_colors::{OwoColorize, Style};

use crate::remote::{
    status::ago,
    table::{Cell, Table, dim, of_severity, styled, weighed},
};

/// A state in words.
pub(super) fn words(state: RunState) -> &'static str {
    match state {
        RunState::AwaitingApproval => "waits for a person",
        RunState::TimedOut => "timed out",
        other => other.as_str(),
    }
}

fn style(state: RunState) -> Style {
    match state {
        RunState::Succeeded => Style::new().green(),
        RunState::Queued | RunState::Observed | RunState::Rejected => Style::new().dimmed(),
        RunState::Running | RunState::Recovering => Style::new().blue(),
        RunState::AwaitingApproval | RunState::Expired | RunState::Dropped => Style::new().yellow(),
        RunState::Failed | RunState::TimedOut | RunState::Ineffective | RunState::Interrupted => {
            Style::new().red()
        }
    }
}

fn severity(it: AlertSeverity) -> Cell {
    let weight = match it {
        AlertSeverity::Debug => return dim(it.as_str()),
        AlertSeverity::Info => Severity::Info,
        AlertSeverity::Warning => Severity::Warning,
        AlertSeverity::Error => Severity::Error,
        AlertSeverity::Critical => Severity::Critical,
    };
    weighed(it.as_str(), weight)
}

/// `Pod shop/web-0`.
fn resource(it: &Resource) -> String {
    let namespace = it.namespace.as_ref().map(|it| format!("{it}/")).unwrap_or_default();
    line(&format!("{} {namespace}{}", it.kind, it.name))
}

/// How long its program ran, or has run.
fn took(run: &Run, now: Timestamp) -> Option<String> {
    let started = run.started_at?;
    // Its end is missing of one that was interrupted, too.
    let ended = run.ended_at.or_else(|| (run.state == RunState::Running).then_some(now))?;
    Some(describe::duration(ended.duration_since(started).try_into().unwrap_or_default()))
}

/// Text of others: control characters and those that turn the direction of writing are shown, not obeyed.
fn plain(text: &str) -> String {
    let turns =
        |it: char| matches!(it, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
    let mut plain = String::with_capacity(text.len());
    for it in text.chars() {
        if (it.is_control() && !matches!(it, '\n' | '\t')) || turns(it) {
            plain.extend(it.escape_unicode());
        } else {
            plain.push(it);
        }
    }
    plain
}

/// The same, on one line.
fn line(text: &str) -> String {
    plain(text.trim()).replace(['\n', '\t'], " ")
}

/// The runs, as they come: the newest first.
pub(super) fn list(runs: &[Run], now: Timestamp, out: &mut dyn Write) -> io::Result<()> {
    if runs.is_empty() {
        return writeln!(out, "there are no runs");
    }
    let mut table =
        Table::new(&["RUN", "STATE", "CLUSTER", "RESOURCE", "FAULT", "RULE", "SINCE", "TOOK", "WHY"]);
    for run in runs {
        let rule = if run.step == 0 { run.rule.clone() } else { format!("{} step {}", run.rule, run.step) };
        table.row([
            run.id.as_str().into(),
            styled(run.state.as_str(), style(run.state)),
            line(&run.cluster).into(),
            resource(&run.resource).into(),
            line(&run.fault_type).into(),
            rule.into(),
            ago(run.queued_at, now).into(),
            took(run, now).unwrap_or_default().into(),
            why(run).into(),
        ]);
    }
    table.write(out)
}

fn why(run: &Run) -> String {
    match (run.state, &run.reason) {
        (_, Some(reason)) => line(reason),
        (RunState::AwaitingApproval, None) => format!("`hale runs approve {}` lets it go on", run.id),
        _ => String::new(),
    }
}

/// The alerts, as they come: the newest first.
pub(super) fn alerts(alerts: &[AlertRecord], now: Timestamp, out: &mut dyn Write) -> io::Result<()> {
    if alerts.is_empty() {
        return writeln!(out, "there are no alerts");
    }
    let mut table = Table::new(&[
        "ALERT", "OUTCOME", "SEVERITY", "CLUSTER", "RESOURCE", "FAULT", "RECEIVED", "RUN", "WHY",
    ]);
    for AlertRecord { alert, outcome, reason, run } in alerts {
        let became = match outcome {
            AlertOutcome::Accepted => Cell::from("accepted"),
            AlertOutcome::Duplicate => dim("duplicate"),
            AlertOutcome::Filtered => dim("filtered"),
            AlertOutcome::Refused => weighed("refused", Severity::Warning),
        };
        table.row([
            line(&alert.id).into(),
            became,
            severity(alert.severity),
            line(&alert.cluster).into(),
            resource(&alert.resource).into(),
            line(&alert.fault_type).into(),
            ago(alert.received_at, now).into(),
            run.as_deref().unwrap_or_default().into(),
            line(reason.as_deref().unwrap_or(&alert.message)).into(),
        ]);
    }
    table.write(out)
}

/// One run: how it stands, what it is for, what it did, and when.
pub(super) fn one(found: &RunDetail, now: Timestamp, zone: &TimeZone, out: &mut dyn Write) -> io::Result<()> {
    let run = &found.run;
    let state = words(run.state).style(style(run.state)).to_string();
    let reason = run.reason.as_ref().map(|it| format!(": {}", line(it))).unwrap_or_default();
    field(out, "run", &run.id)?;
    field(out, "state", &format!("{state}{reason}"))?;
    if run.state == RunState::AwaitingApproval {
        let said = format!("`hale runs approve {0}` lets it go on, `hale runs reject {0}` does not", run.id);
        field(out, "", &said)?;
    }
    let about = format!("{} of {} in {}", line(&run.fault_type), resource(&run.resource), line(&run.cluster));
    field(out, "for", &format!("{about} ({})", run.severity.as_str()))?;
    field(out, "by", &rule(run))?;
    if let Some(by) = &run.decided_by {
        field(out, "decided by", &line(by))?;
    }
    if !run.command.is_empty() {
        field(out, "command", &command(&run.command))?;
    }
    if let Some(exit) = exit(run) {
        let after = took(run, now).map(|it| format!(" after {it}")).unwrap_or_default();
        field(out, "exit", &format!("{exit}{after}"))?;
    }
    if let Some(cost) = run.cost {
        field(out, "cost", &cost.to_string())?;
    }
    if let Some(workspace) = &run.workspace {
        field(out, "workspace", &line(&workspace.to_string_lossy()))?;
    }
    for (at, artifact) in run.artifacts.iter().enumerate() {
        let path = line(&artifact.path.to_string_lossy());
        let name = if at == 0 { "artifacts" } else { "" };
        field(out, name, &format!("{path} ({})", describe::size(artifact.bytes)))?;
    }
    if run.duplicates > 0 {
        field(out, "shared by", &format!("{} more alerts", run.duplicates))?;
    }
    timeline(found, zone, out)?;
    if let Some(alert) = &found.alert {
        tell_alert(alert, out)?;
    }
    tail("standard output", &found.stdout, out)?;
    tail("standard error", &found.stderr, out)
}

fn field(out: &mut dyn Write, name: &str, value: &str) -> io::Result<()> {
    writeln!(out, "{}{value}", format!("{name:<12}").dimmed())
}

fn rule(run: &Run) -> String {
    let autonomy = match run.autonomy {
        Autonomy::Observe => "observe",
        Autonomy::Approve => "approve",
        Autonomy::Act => "act",
    };
    let step = if run.step == 0 { String::new() } else { format!(", step {}", run.step) };
    let before = run.escalates.as_ref().map(|it| format!(", goes on from {it}")).unwrap_or_default();
    format!("rule {} of {} ({autonomy}){step}{before}", run.rule, run.responder)
}

/// An argument vector as a shell would take it.
fn command(words: &[String]) -> String {
    let safe = |it: char| it.is_ascii_alphanumeric() || "-_./=:@%+,".contains(it);
    let quoted = |word: &String| {
        if !word.is_empty() && word.chars().all(safe) {
            word.clone()
        } else {
            format!("'{}'", line(word).replace('\'', r"'\''"))
        }
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

fn exit(run: &Run) -> Option<String> {
    match (run.exit_code, run.signal) {
        (_, Some(signal)) => Some(format!("signal {signal}")),
        (Some(code), None) => Some(format!("status {code}")),
        (None, None) => None,
    }
}

fn timeline(found: &RunDetail, zone: &TimeZone, out: &mut dyn Write) -> io::Result<()> {
    let run = &found.run;
    let mut steps: Vec<(Timestamp, String)> = Vec::new();
    let mut step = |at: Option<Timestamp>, text: String| steps.extend(at.map(|at| (at, text)));
    step(found.alert.as_ref().map(|it| it.timestamp), "it happened, as the alert says".to_owned());
    let accepted = found.alert.as_ref().map_or(run.queued_at, |it| it.received_at);
    step(Some(accepted), "its alert was accepted".to_owned());
    // An approval and an escalation queue it anew.
    if run.queued_at.duration_since(accepted) > SignedDuration::from_secs(1) {
        let approved = run.decided_by.as_ref().filter(|_| run.state != RunState::Rejected);
        step(
            Some(run.queued_at),
            approved.map_or("it was queued".to_owned(), |by| format!("it was approved by {}", line(by))),
        );
    }
    step(run.started_at, "its program was started".to_owned());
    let how = exit(run).map(|it| format!(": {it}")).unwrap_or_default();
    step(run.ended_at, format!("its program ended{how}"));
    step(run.finished_at, words(run.state).to_owned());
    match run.state {
        RunState::AwaitingApproval => {
            step(run.approve_until, "it expires unless a person says yes".to_owned())
        }
        RunState::Recovering => step(run.recover_until, "the resource must be healthy by then".to_owned()),
        _ => {}
    }
    steps.sort_by_key(|it| it.0);
    writeln!(out, "\n{}", "timeline".bold())?;
    for (at, text) in steps {
        let at = at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S%.3f").to_string();
        writeln!(out, "  {}  {text}", at.dimmed())?;
    }
    Ok(())
}

fn tell_alert(alert: &Alert, out: &mut dyn Write) -> io::Result<()> {
    let weight = match alert.severity {
        AlertSeverity::Debug | AlertSeverity::Info => Severity::Info,
        AlertSeverity::Warning => Severity::Warning,
        AlertSeverity::Error => Severity::Error,
        AlertSeverity::Critical => Severity::Critical,
    };
    writeln!(out, "\n{}", "alert".bold())?;
    let sent = alert.source_id.as_ref().map(|it| format!(", there {}", line(it))).unwrap_or_default();
    writeln!(out, "  {} ({}{sent})", line(&alert.id), alert.source)?;
    let message = line(&alert.message);
    if !message.is_empty() {
        writeln!(out, "  {}", message.style(of_severity(weight)))?;
    }
    if !alert.labels.is_empty() {
        let labels: Vec<String> = alert.labels.iter().map(|(key, it)| line(&format!("{key}={it}"))).collect();
        writeln!(out, "  {}", labels.join(" ").dimmed())?;
    }
    Ok(())
}

fn tail(name: &str, text: &str, out: &mut dyn Write) -> io::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{}", format!("{name}, its end").bold())?;
    for line in plain(text).lines() {
        writeln!(out, "  {line}")?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "show_tests.rs"]
mod tests;
