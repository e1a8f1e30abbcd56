//! What was collected of a deployment object, for people (K10).

use std::io::{self, Write};

use hale_api::kube::{Bundle, BundleEvent, Collected, CollectedState, ContainerStatus, LastState, PodStatus};
use hale_model::event::Severity;
use jiff::Timestamp;
use owo_colors::OwoColorize;

use crate::remote::{
    status::ago,
    table::{Cell, Table, dim, of_severity, weighed},
};

/// Draws all of it.
pub(super) fn draw(bundle: &Bundle, out: &mut dyn Write, now: Timestamp) -> io::Result<()> {
    if !bundle.resources.is_empty() {
        writeln!(out)?;
        let mut table = Table::new(&["RESOURCE", "NAMESPACE", "READY", "MESSAGE"]);
        for it in &bundle.resources {
            table.row([
                format!("{}/{}", it.kind, it.name).into(),
                it.namespace.as_deref().unwrap_or_default().into(),
                weighed(if it.ready { "yes" } else { "no" }, severity(it.ready)),
                it.message.as_deref().unwrap_or_default().into(),
            ]);
        }
        table.write(out)?;
    }
    if !bundle.pod_statuses.is_empty() {
        writeln!(out)?;
        pods(&bundle.pod_statuses).write(out)?;
    }
    if !bundle.events.is_empty() {
        writeln!(out)?;
        events(&bundle.events, now).write(out)?;
    }
    for (container, lines) in bundle.log_tails.iter().filter(|(_, lines)| !lines.is_empty()) {
        writeln!(out, "\n{} {}", "LOG".dimmed(), container.bold())?;
        for line in lines {
            writeln!(out, "  {line}")?;
        }
    }
    missing(&bundle.collection, out)
}

fn severity(well: bool) -> Severity {
    if well { Severity::Info } else { Severity::Warning }
}

fn pods(all: &[PodStatus]) -> Table {
    let mut table =
        Table::new(&["POD", "PHASE", "CONTAINER", "READY", "STATE", "RESTARTS", "BEFORE", "MESSAGE"]);
    for pod in all {
        let trouble = pod.conditions.iter().find(|it| it.status != "True" && it.message.is_some());
        let said = trouble.and_then(|it| it.message.clone()).unwrap_or_default();
        if pod.container_statuses.is_empty() {
            let none = Cell::default;
            table.row([
                pod.name.as_str().into(),
                pod.phase.as_str().into(),
                none(),
                none(),
                none(),
                none(),
                none(),
                said.into(),
            ]);
            continue;
        }
        for (place, it) in pod.container_statuses.iter().enumerate() {
            let first = |text: &str| if place == 0 { Cell::from(text) } else { Cell::default() };
            let message = it.message.as_deref().unwrap_or(if place == 0 { said.as_str() } else { "" });
            table.row([
                first(&pod.name),
                first(&pod.phase),
                if it.init { format!("{} (init)", it.name) } else { it.name.clone() }.into(),
                weighed(if it.ready { "yes" } else { "no" }, severity(it.ready)),
                state(it).into(),
                it.restarts.to_string().into(),
                it.last_state.as_ref().map(before).unwrap_or_default().into(),
                one_line(message).into(),
            ]);
        }
    }
    table
}

fn state(it: &ContainerStatus) -> String {
    let code = it.exit_code.map(|it| format!(" {it}")).unwrap_or_default();
    match &it.reason {
        Some(reason) => format!("{}: {reason}{code}", it.state),
        None => format!("{}{code}", it.state),
    }
}

fn before(it: &LastState) -> String {
    let code = it.exit_code.map(|it| format!(" {it}")).unwrap_or_default();
    format!("{}{code}", it.reason.as_deref().unwrap_or(&it.state))
}

fn events(all: &[BundleEvent], now: Timestamp) -> Table {
    let mut table = Table::new(&["SEEN", "TYPE", "REASON", "TIMES", "OBJECT", "MESSAGE"]);
    for it in all {
        let weight = severity(it.kind != "Warning");
        table.row([
            it.last_seen.or(it.first_seen).map(|at| ago(at, now)).unwrap_or_default().into(),
            weighed(it.kind.as_str(), weight),
            weighed(it.reason.as_str(), weight),
            it.count.max(1).to_string().into(),
            it.object.as_str().into(),
            one_line(&it.message).into(),
        ]);
    }
    table
}

/// Messages of clusters may have several lines; a table has one.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What there was nothing of, and what could not be had: nothing is silently missing.
pub(super) fn missing(parts: &[Collected], out: &mut dyn Write) -> io::Result<()> {
    let empty: Vec<&str> =
        parts.iter().filter(|it| it.state == CollectedState::Empty).map(|it| it.part.as_str()).collect();
    let failed: Vec<&Collected> = parts.iter().filter(|it| it.state == CollectedState::Error).collect();
    if !empty.is_empty() {
        let mut table = Table::new(&["NOTHING OF"]);
        table.row([dim(empty.join(", "))]);
        writeln!(out)?;
        table.write(out)?;
    }
    if failed.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{}", "NOT COLLECTED".style(of_severity(Severity::Error)))?;
    for it in failed {
        writeln!(out, "  {}: {}", it.part, it.error.as_deref().unwrap_or("no reason is known"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_bundle_is_drawn_with_what_is_missing_from_it() {
        let bundle: Bundle = serde_json::from_value(json!({
            "collected_at": "2026-01-01T00:00:00Z",
            "pod_statuses": [{"name": "web-1", "namespace": "shop", "phase": "Running", "container_statuses": [
                {"name": "app", "ready": false, "state": "waiting", "reason": "CrashLoopBackOff",
                 "message": "back-off 10s\nrestarting", "restarts": 3,
                 "last_state": {"state": "terminated", "reason": "Error", "exit_code": 3}}]}],
            "events": [{"type": "Warning", "reason": "BackOff", "message": "Back-off", "object": "Pod/shop/web-1",
                "last_seen": "2025-12-31T23:59:50Z", "count": 4}],
            "log_tails": {"web-1/app (previous)": ["about to crash"]},
            "collection": [{"part": "logs web-1/app", "state": "empty"},
                {"part": "events", "state": "error", "error": "forbidden"}],
        }))
        .unwrap();
        let mut out = Vec::new();
        draw(&bundle, &mut out, "2026-01-01T00:00:00Z".parse().unwrap()).unwrap();
        let text = String::from_utf8(anstream::adapter::strip_bytes(&out).into_vec()).unwrap();
        let wanted = [
            "POD    PHASE    CONTAINER  READY  STATE                      RESTARTS  BEFORE   MESSAGE",
            "web-1  Running  app        no     waiting: CrashLoopBackOff  3         Error 3  back-off 10s restarting",
            "",
            "SEEN     TYPE     REASON   TIMES  OBJECT          MESSAGE",
            "10s ago  Warning  BackOff  4      Pod/shop/web-1  Back-off",
            "",
            "LOG web-1/app (previous)",
            "  about to crash",
            "",
            "NOTHING OF",
            "logs web-1/app",
            "",
            "NOT COLLECTED",
            "  events: forbidden",
        ];
        assert_eq!(text.trim().lines().collect::<Vec<_>>(), wanted, "{text}");
    }
}
