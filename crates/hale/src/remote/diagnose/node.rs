//! What was collected of a replica or target on a node, for people (K12).

use std::io::{self, Write};

use hale_api::{
    describe,
    kube::ReplicaBundle,
    outcomes::{OutcomeRun, ProbeHistory},
};
use hale_model::event::EventData;
use jiff::Timestamp;
use owo_colors::OwoColorize;

use super::cluster::missing;
use crate::remote::{
    status::ago,
    table::{Table, of_status, weighed},
};

/// Draws all of it.
pub(super) fn draw(bundle: &ReplicaBundle, out: &mut dyn Write, now: Timestamp) -> io::Result<()> {
    state(bundle, out, now)?;
    if bundle.probes.iter().any(|it| !it.runs.is_empty()) {
        writeln!(out)?;
        probes(&bundle.probes, now).write(out)?;
    }
    if !bundle.exits.is_empty() {
        writeln!(out)?;
        let mut table = Table::new(&["EXITED", "HOW"]);
        for it in &bundle.exits {
            table.row([ago(it.at, now).into(), describe::exit(it).into()]);
        }
        table.write(out)?;
    }
    if !bundle.events.is_empty() {
        writeln!(out)?;
        let mut table = Table::new(&["WHEN", "WHAT"]);
        for it in &bundle.events {
            table.row([ago(it.time, now).into(), weighed(describe::event(&it.data), it.data.severity())]);
            if let EventData::ReplicaRestarted(restarted) = &it.data
                && let Some(line) = restarted.forensics.as_deref().and_then(describe::forensics)
            {
                table.row(["".into(), format!("before it was ended: {line}").into()]);
            }
        }
        table.write(out)?;
    }
    if !bundle.log_tail.is_empty() {
        writeln!(out, "\n{} {}", "LOG".dimmed(), bundle.subject.bold())?;
        for line in &bundle.log_tail {
            writeln!(out, "  {}", line.text)?;
        }
    }
    missing(&bundle.collection, out)
}

fn state(bundle: &ReplicaBundle, out: &mut dyn Write, now: Timestamp) -> io::Result<()> {
    let node = bundle.node.as_deref().map(|it| format!(" on {it}")).unwrap_or_default();
    if let Some(it) = &bundle.replica {
        let status = it.status.style(of_status(it.status));
        let ready = if it.ready { "ready" } else { "not ready" };
        writeln!(
            out,
            "  {} is {status}{node}: {}, {ready}, a {}, restarted {} times",
            bundle.subject, it.phase, it.runtime, it.restarts
        )?;
        if let Some(why) = &it.last_error {
            writeln!(out, "  {why}")?;
        }
        if let Some(hold) = &it.held_by {
            writeln!(out, "  {}", describe::hold(hold))?;
        }
    }
    if let Some(it) = &bundle.target {
        let status = it.status.style(of_status(it.status));
        let since = it.since.map(|at| format!(" since {}", ago(at, now))).unwrap_or_default();
        writeln!(out, "  {} is {status}{since}, probed{node}", bundle.subject)?;
    }
    if let Some(it) = &bundle.resources {
        let (memory, cpu) = (describe::size(it.memory_bytes), describe::seconds(it.cpu_seconds));
        writeln!(out, "  uses {memory} in {} processes, and has used {cpu} of processor time", it.processes)?;
    }
    Ok(())
}

/// The last runs of outcomes of each probe.
fn probes(all: &[ProbeHistory], now: Timestamp) -> Table {
    const SHOWN: usize = 5;
    let mut table = Table::new(&["PROBE", "OUTCOME", "TIMES", "LAST", "SLOWEST"]);
    for history in all {
        let name = history.probe.map_or("target", |it| it.as_str());
        let from = history.runs.len().saturating_sub(SHOWN);
        for OutcomeRun { reason, count, until, slowest_ms, .. } in &history.runs[from..] {
            table.row([
                name.into(),
                reason.map_or_else(|| "ok".to_owned(), |it| it.to_string()).into(),
                count.to_string().into(),
                ago(*until, now).into(),
                describe::seconds(slowest_ms / 1000.0).into(),
            ]);
        }
    }
    table
}
