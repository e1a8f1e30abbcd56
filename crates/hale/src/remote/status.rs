//! `hale status`: how everything is, or one thing.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use hale_api::{Client, ClientError, Collection, describe, events::EventQuery};
use hale_model::{
    Phase, Status,
    status::{Overview, ReplicaStatus, TargetStatus, WorkloadStatus},
};
use jiff::Timestamp;
use owo_colors::OwoColorize;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    block, client, find, history, output_closed,
    stacks::{self, Watched},
    table::{Cell, Table, dim, of_status, status, weighed},
};
use crate::{
    cli::{Format, StatusArgs},
    failure::Failure,
    output,
};

/// How often it is looked at while waiting.
const EVERY: Duration = Duration::from_millis(100);

/// How often a watched status is drawn again when nothing happens: its ages rise.
const REDRAW: Duration = Duration::from_secs(2);

/// Runs the command.
///
/// # Errors
/// As its exit status says (C7).
pub(crate) fn run(args: &StatusArgs) -> Result<(), Failure> {
    block(async {
        if let Some(watched) = in_clusters(args).await? {
            let client = client(&args.server)?;
            return match args.wait {
                Some(wanted) => watched.wait(&client, wanted, args.timeout, args.output.output).await,
                None if args.watch => watched.watch(&client, args.output.output).await,
                None => watched.show(&client, args.output.output).await,
            };
        }
        match args.wait {
            Some(wanted) => wait(args, wanted).await,
            None if args.watch => watch(args).await,
            None => {
                let overview = look(args).await?;
                show(&overview, args.output.output)?;
                match args.name.as_deref().filter(|_| args.output.output == Format::Table) {
                    Some(name) => history::show(&client(&args.server)?, &overview, name).await,
                    None => Ok(()),
                }
            }
        }
    })
}

/// The stack or deployment object that is meant; `None`: something of hale's own, or nothing, or nobody can be asked.
async fn in_clusters(args: &StatusArgs) -> Result<Option<Watched>, Failure> {
    let Some(name) = &args.name else { return Ok(None) };
    let Ok(client) = client(&args.server) else { return Ok(None) };
    match client.overview().await {
        // What can't be asked is waited for, or told, where hale's own is looked for.
        Err(_) => return Ok(None),
        Ok(overview) if find(&overview, name).is_ok() => return Ok(None),
        Ok(_) => {}
    }
    stacks::find(&client, name).await
}

async fn look(args: &StatusArgs) -> Result<Overview, Failure> {
    only(client(&args.server)?.overview().await?, args.name.as_deref())
}

/// An overview of what a name stands for alone, with its status as the status of all.
fn only(mut overview: Overview, name: Option<&str>) -> Result<Overview, Failure> {
    let Some(name) = name else { return Ok(overview) };
    match find(&overview, name)? {
        Collection::Workloads => {
            overview.workloads.retain(|it| it.name == name);
            overview.targets.clear();
        }
        Collection::Replicas => {
            overview.targets.clear();
            overview.workloads.retain_mut(|it| {
                it.replicas.retain(|it| it.name == name);
                !it.replicas.is_empty()
            });
        }
        Collection::Targets => {
            overview.workloads.clear();
            overview.targets.retain(|it| it.name == name);
        }
    }
    let replica = overview.workloads.iter().flat_map(|it| &it.replicas).find(|it| it.name == name);
    let whole = overview.workloads.iter().find(|it| it.name == name).map(|it| it.status);
    let target = overview.targets.first().map(|it| it.status);
    overview.status = whole.or(replica.map(|it| it.status)).or(target).unwrap_or(overview.status);
    Ok(overview)
}

async fn wait(args: &StatusArgs, wanted: Status) -> Result<(), Failure> {
    let until = Instant::now() + args.timeout;
    loop {
        // A hale that is just starting is waited for as well.
        let seen = match look(args).await {
            Ok(overview) if overview.status == wanted => return show(&overview, args.output.output),
            Ok(overview) => Failure::Failed(format!(
                "{} is {}, not {wanted}, after {}",
                args.name.as_deref().unwrap_or("the whole"),
                overview.status,
                describe::duration(args.timeout)
            )),
            Err(failure @ Failure::Unreachable(_)) => failure,
            Err(failure) => return Err(failure),
        };
        if Instant::now() >= until {
            return Err(seen);
        }
        sleep_until(until.min(Instant::now() + EVERY)).await;
    }
}

async fn watch(args: &StatusArgs) -> Result<(), Failure> {
    let client = client(&args.server)?;
    let mut events = client.follow(EventQuery::default()).await?;
    let clears = io::stdout().is_terminal() && args.output.output == Format::Table;
    let mut last = None;
    loop {
        let overview = look_again(&client, args.name.as_deref()).await?;
        // Away from a terminal, only what is new is worth another copy.
        let told = serde_json::to_string(&without_ages(overview.clone())).map_err(Failure::failed)?;
        if clears {
            write!(output::stdout(), "\x1b[H\x1b[2J")?;
            show(&overview, Format::Table)?;
        } else if last.as_ref() != Some(&told) {
            show(&overview, args.output.output)?;
        }
        last = Some(told);
        tokio::select! {
            event = events.next() => {
                event?;
                // What happens together is shown together.
                sleep(EVERY).await;
            }
            () = sleep(REDRAW) => {}
            closed = output_closed() => return Err(closed),
        }
    }
}

/// Over a short absence of hale, such as its restart.
async fn look_again(client: &Client, name: Option<&str>) -> Result<Overview, Failure> {
    let mut tries = 0;
    loop {
        match client.overview().await {
            Err(ClientError::Unreachable(_)) if tries < 20 => {
                tries += 1;
                sleep(EVERY * 5).await;
            }
            other => return only(other?, name),
        }
    }
}

/// What changes with time alone, left out.
fn without_ages(mut overview: Overview) -> Overview {
    overview.at = Timestamp::UNIX_EPOCH;
    for node in &mut overview.nodes {
        node.last_heartbeat_at = Timestamp::UNIX_EPOCH;
    }
    for target in &mut overview.targets {
        target.last_outcome_at = None;
    }
    for replica in overview.workloads.iter_mut().flat_map(|it| &mut it.replicas) {
        replica.observed_at = Timestamp::UNIX_EPOCH;
        replica.uptime_seconds = None;
        for probe in replica.probes.values_mut() {
            probe.last_outcome_at = None;
            probe.last_duration_ms = None;
            probe.consecutive_successes = 0;
        }
    }
    overview
}

fn show(overview: &Overview, format: Format) -> Result<(), Failure> {
    output::write_value(overview, format, |out| table(overview, out))
}

fn table(overview: &Overview, out: &mut dyn Write) -> io::Result<()> {
    let now = overview.at;
    if overview.workloads.is_empty() && overview.targets.is_empty() {
        return writeln!(out, "{}: nothing is declared", overview.status.style(of_status(overview.status)));
    }
    if !overview.workloads.is_empty() {
        // Of one node alone there is nothing to tell apart.
        let nodes = overview.nodes.len() > 1;
        let head = ["WORKLOAD", "STATUS", "READY", "PHASE", "RESTARTS", "PID", "UP", "NODE", "WHY"];
        let mut table = Table::new(&head.into_iter().filter(|it| nodes || *it != "NODE").collect::<Vec<_>>());
        for workload in &overview.workloads {
            workload_rows(&mut table, workload, nodes, now);
        }
        table.write(out)?;
    }
    if !overview.targets.is_empty() {
        if !overview.workloads.is_empty() {
            writeln!(out)?;
        }
        let mut table = Table::new(&["TARGET", "STATUS", "SINCE", "WHY"]);
        for it in &overview.targets {
            let since = it.since.map(|since| ago(since, now)).unwrap_or_default();
            table.row([it.name.as_str().into(), status(it.status), since.into(), target_why(it)]);
        }
        table.write(out)?;
    }
    Ok(())
}

fn workload_rows(table: &mut Table, workload: &WorkloadStatus, nodes: bool, now: Timestamp) {
    let ready = format!("{}/{}", workload.ready, workload.desired);
    let note = workload.note.as_deref().or(workload.address.as_deref()).unwrap_or_default();
    let mut cells = vec![workload.name.as_str().into(), status(workload.status), ready.into()];
    cells.resize_with(if nodes { 8 } else { 7 }, Cell::default);
    cells.push(dim(note));
    table.cells(cells);
    for it in &workload.replicas {
        let ready = if it.ready { "yes" } else { "no" };
        let up = it.uptime_seconds.map(describe::seconds).unwrap_or_default();
        let mut cells = vec![
            format!("  {}", it.name).into(),
            status(it.status),
            ready.into(),
            it.phase.to_string().into(),
            it.restarts.to_string().into(),
            it.pid.map(|pid| pid.to_string()).unwrap_or_default().into(),
            up.into(),
        ];
        if nodes {
            cells.push(dim(it.node.as_str()));
        }
        cells.push(replica_why(it, now));
        table.cells(cells);
    }
}

/// What is out of the ordinary about a replica.
fn replica_why(it: &ReplicaStatus, now: Timestamp) -> Cell {
    use hale_model::event::Severity;

    let mut parts = Vec::new();
    for (is, word) in [(it.stale, "stale"), (it.paused, "paused"), (it.flapping, "flapping")] {
        if is {
            parts.push(word.to_owned());
        }
    }
    // What went wrong before is not why a replica that serves and is well is degraded.
    if it.status != Status::Healthy && (!it.ready || it.phase == Phase::Unhealthy) {
        let why = it.last_error.as_ref().or(it.last_transition.as_ref().map(|it| &it.reason));
        parts.extend(why.cloned());
    }
    for (kind, probe) in &it.probes {
        if probe.paused && !it.paused {
            parts.push(format!("{kind} paused"));
        }
        if probe.prober_errors > 0 {
            parts.push(format!("{kind} could not be asked ×{}", probe.prober_errors));
        }
    }
    let due = it.next_start_at.filter(|at| *at > now);
    // A wait between two starts says all there is to say.
    if let Some(hold) = it.held_by.as_ref().filter(|hold| hold.by != "backoff" || due.is_none()) {
        let left = hold.until.filter(|until| *until > now);
        let left = left.map(|until| format!(" for {} at most", span(now, until))).unwrap_or_default();
        let why = if it.last_error.as_ref() == Some(&hold.reason) { "" } else { &hold.reason };
        let why = if why.is_empty() { String::new() } else { format!(": {why}") };
        parts.push(format!("held by {}{left}{why}", hold.by));
    }
    if let Some(at) = due {
        parts.push(format!("next start in {}", span(now, at)));
    }
    let severity = match it.status {
        Status::Failing => Severity::Error,
        Status::Healthy => Severity::Info,
        Status::Unknown | Status::Degraded => Severity::Warning,
    };
    match (parts.is_empty(), &it.status_text) {
        (true, Some(text)) => dim(text.as_str()),
        _ => weighed(parts.join("; "), severity),
    }
}

fn target_why(it: &TargetStatus) -> Cell {
    let mut parts = Vec::new();
    if it.paused {
        parts.push("paused".to_owned());
    }
    if let Some(members) = it.members {
        parts.push(format!("a list of {members}"));
    }
    if it.prober_errors > 0 {
        parts.push(format!("could not be asked ×{}", it.prober_errors));
    }
    parts.extend(it.last_reason.map(|reason| {
        let detail = it.last_detail.as_deref().map(|it| format!(": {it}")).unwrap_or_default();
        format!("{reason} ×{}{detail}", it.consecutive_failures)
    }));
    parts.join("; ").into()
}

/// How long ago something was.
pub(super) fn ago(at: Timestamp, now: Timestamp) -> String {
    format!("{} ago", span(at, now))
}

fn span(from: Timestamp, to: Timestamp) -> String {
    describe::duration(to.duration_since(from).try_into().unwrap_or_default())
}
