//! Events in words: one line each, for people. What and why; who and when stand beside it.

use std::time::Duration;

use hale_health::ProbeKind;
use jiff::Timestamp;

use crate::{
    event::{
        AlertResource, EventData, Forensics, ReplicaReleased, ReplicaRestarting, ReplicaUnhealthy, RunFacts,
        RunFailed, RunFailure,
    },
    status::{ExitStatus, HoldStatus},
};

/// What happened and why, in one line.
#[must_use]
pub fn event(data: &EventData) -> String {
    match data {
        EventData::ReplicaStarting(it) => {
            format!("starting{}: {}", pid(it.instance.pid), it.reason)
        }
        EventData::ReplicaRunning(it) => {
            format!("running after {}: {}", seconds(it.startup_seconds), it.reason)
        }
        EventData::ReplicaReady(it) => match it.not_ready_seconds {
            Some(gone) => format!("ready again after {}: {}", seconds(gone), it.reason),
            None => format!("ready: {}", it.reason),
        },
        EventData::ReplicaNotReady(it) => format!("not ready: {}", it.reason),
        EventData::ReplicaUnhealthy(it) => unhealthy(it),
        EventData::ReplicaRecovered(it) => format!(
            "{} recovered after {} failures in {}",
            it.probe,
            it.prior_failure_count,
            seconds(it.down_seconds)
        ),
        EventData::ReplicaExited(it) => {
            let expected = if it.expected { ", as asked" } else { "" };
            format!("exited{expected}: {} after {}", exit(&it.exit), seconds(it.uptime_seconds))
        }
        EventData::ReplicaRestarting(it) => restarting(it),
        EventData::ReplicaRestarted(it) => format!(
            "restarted{} after {} ({} of {} in the window): {}",
            pid(it.instance.pid),
            seconds(it.down_seconds),
            it.restarts_in_window,
            it.max_restarts,
            it.reason
        ),
        EventData::ReplicaRestartSucceeded(it) => {
            format!("the restart succeeded: healthy for {}", seconds(it.min_uptime_seconds))
        }
        EventData::ReplicaRestartFailed(it) => format!(
            "the restart failed after {}, {} in a row: {}",
            seconds(it.uptime_seconds),
            it.failed_in_a_row,
            it.reason
        ),
        other => held_and_ended(other),
    }
}

fn held_and_ended(data: &EventData) -> String {
    match data {
        EventData::ReplicaHeld(it) => format!("{} held by {}", it.action, hold(&it.hold)),
        EventData::ReplicaReleased(it) => released(it),
        EventData::ReplicaFailed(it) => format!("given up: {}; {}", it.reason, it.hint),
        EventData::ReplicaStopped(it) => match &it.exit {
            Some(status) => format!("stopped ({}): {}", exit(status), it.reason),
            None => format!("stopped: {}", it.reason),
        },
        EventData::ReplicaStopFailed(it) => format!("could not be stopped: {}", it.detail),
        EventData::ReplicaFlapping(it) => {
            format!("flapping, held out of traffic: penalty {:.1} above {:.1}", it.penalty, it.suppress)
        }
        EventData::ReplicaFlappingEnded(it) => {
            format!("no longer flapping after {}: penalty {:.1}", seconds(it.held_seconds), it.penalty)
        }
        EventData::ReplicaPaused(it) => paused(it.probe, &it.by, it.until, &it.reason),
        EventData::TargetPaused(it) => paused(None, &it.by, it.until, &it.reason),
        EventData::ReplicaResumed(it) => resumed(it.probe, &it.by),
        EventData::TargetResumed(it) => resumed(None, &it.by),
        EventData::ReplicaWouldHave(it) => {
            format!("would {} (observing only): {}", it.action, it.reason)
        }
        EventData::ReplicaOutOfMemory(it) => match it.limit_bytes {
            Some(limit) => format!("out of memory: something of it was killed at its limit of {limit} bytes"),
            None => "out of memory: something of it was killed".to_owned(),
        },
        EventData::ReplicaWarning(it) => format!("warning: {}", it.detail),
        EventData::ReplicaProberError(it) => format!("{} could not be checked: {}", it.probe, it.detail),
        EventData::WorkloadApplied(it) => format!("{}, {} replicas asked for", it.change, it.replicas),
        EventData::TargetProbeFailed(it) => {
            format!("failing: {} ×{}: {}", it.last_reason, it.consecutive_failures, it.last_error)
        }
        EventData::TargetProbeRecovered(it) => {
            format!("recovered after {} failures in {}", it.prior_failure_count, seconds(it.down_for))
        }
        EventData::TargetForgotten(it) => format!("no longer watched: {}", it.reason),
        EventData::NodeStarted(it) => format!("hale {} started", it.version),
        EventData::NodeStopping(it) => format!("hale stops: {}", it.reason),
        EventData::NodeObserverSuspect(it) => {
            format!(
                "{} of {} probes failed at once; the node checked itself: {}",
                it.failing, it.probes, it.verdict
            )
        }
        other => decided(other),
    }
}

/// What the server decided.
fn decided(data: &EventData) -> String {
    match data {
        EventData::ReplicaPlaced(it) => {
            format!("placed on {} ({}): {}", it.instance.node, it.cause.as_str(), it.reason)
        }
        EventData::ReplicaWithdrawn(it) => format!("withdrawn from {}: {}", it.instance.node, it.reason),
        EventData::ReplicaUnplaceable(it) => format!("no node takes it: {}", it.reason),
        EventData::WorkloadUpdated(it) => format!("updated: all {} replicas are ready", it.replicas),
        EventData::WorkloadRolledBack(it) => format!("the update was taken back: {}", it.reason),
        EventData::WorkloadUpdateStalled(it) => format!("the update goes no further: {}", it.reason),
        EventData::NodeLost(it) => {
            format!("lost: not heard of for {}, {} replicas on it", seconds(it.silent_seconds), it.replicas)
        }
        EventData::NodeReady(it) => format!("heard of again, was {}", it.was.as_str()),
        EventData::NodeDrained(_) => "drained: nothing runs on it any more".to_owned(),
        EventData::ClusterBraked(it) => format!(
            "{} of {} nodes are silent at once: the server suspects itself and moves nothing",
            it.silent, it.nodes
        ),
        EventData::ClusterBrakeReleased(it) => format!(
            "only {} of {} nodes are silent: replicas are moved again after {}",
            it.silent,
            it.nodes,
            seconds(it.held_seconds)
        ),
        other => deployed(other),
    }
}

/// What is told of deployments in clusters.
fn deployed(data: &EventData) -> String {
    match data {
        EventData::DeploymentDegraded(it)
        | EventData::DeploymentFailing(it)
        | EventData::DeploymentRecovered(it) => {
            format!("{} in {}: {}", it.to, it.agent, it.reason)
        }
        EventData::DiagnosticsCompleted(it) => {
            let of = it.deployment_object_id.as_ref().or(it.replica.as_ref());
            let of = of.map(|it| format!(" of {it}")).unwrap_or_default();
            let why = it.error.as_ref().map(|it| format!(": {it}")).unwrap_or_default();
            format!("diagnostics{of} for {} {}{why}", it.requested_by, it.status.as_str())
        }
        other => responded(other),
    }
}

/// What responders tell.
fn responded(data: &EventData) -> String {
    match data {
        EventData::RunStarted(it) => format!("{} runs for {}", step(&it.run), about(&it.run)),
        EventData::RunSucceeded(it) => format!(
            "{} succeeded after {} for {}{}",
            step(&it.run),
            seconds(it.run_seconds),
            about(&it.run),
            why(&it.reason)
        ),
        EventData::RunFailed(it) => run_failed(it),
        EventData::RunAwaitingApproval(it) => {
            let until = it.until.map(|until| format!(" until {}", clock(until))).unwrap_or_default();
            format!("{} waits for a person{until}, for {}", step(&it.run), about(&it.run))
        }
        EventData::RunDecided(it) => {
            format!("{} for {} is {}", step(&it.run), about(&it.run), it.reason)
        }
        EventData::RunWouldHave(it) => {
            format!("would run {:?} (observing only) for {}", it.command.join(" "), about(&it.run))
        }
        EventData::RunEscalated(it) => {
            format!("{} goes on with {} for {}: {}", step(&it.run), it.next, about(&it.run), it.reason)
        }
        EventData::AlertExpired(it) => format!(
            "expired after {}, at most {}: {}: {}",
            seconds(it.age_seconds),
            seconds(it.max_age_seconds),
            about(&it.run),
            it.reason
        ),
        EventData::AlertDropped(it) => format!("dropped: {}: {}", about(&it.run), it.reason),
        EventData::BreakerOpened(it) => format!("the {} breaker has opened: {}", it.breaker, it.reason),
        EventData::BreakerClosed(it) => {
            format!("the {} breaker has closed after {}: {}", it.breaker, seconds(it.open_seconds), it.reason)
        }
        // The others are above; a new one at least says its name.
        other => other.kind().to_owned(),
    }
}

fn run_failed(it: &RunFailed) -> String {
    let how = match it.state {
        RunFailure::Failed => "failed",
        RunFailure::TimedOut => "ran for too long",
        RunFailure::Ineffective => "was of no effect",
        RunFailure::Interrupted => "was interrupted",
    };
    let after = it.run_seconds.map(|it| format!(" after {}", seconds(it))).unwrap_or_default();
    format!("{} {how}{after} for {}{}", step(&it.run), about(&it.run), why(&it.reason))
}

/// A reason behind what is told, where there is one.
fn why(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {reason}") }
}

/// The rule, and which step of it.
fn step(run: &RunFacts) -> String {
    if run.step == 0 { run.rule.clone() } else { format!("{} step {}", run.rule, run.step) }
}

/// `CrashLoop of Pod shop/web-0 in eu-1`.
fn about(run: &RunFacts) -> String {
    let AlertResource { kind, namespace, name } = &run.resource;
    let namespace = namespace.as_ref().map(|it| format!("{it}/")).unwrap_or_default();
    format!("{} of {kind} {namespace}{name} in {}", run.fault_type, run.cluster)
}

fn paused(probe: Option<ProbeKind>, by: &str, until: Option<Timestamp>, reason: &str) -> String {
    let what = probe.map(|probe| format!("{probe} ")).unwrap_or_default();
    let until = until.map(|until| format!(" until {}", clock(until))).unwrap_or_default();
    let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    format!("{what}paused by {by}{until}{why}")
}

fn resumed(probe: Option<ProbeKind>, by: &str) -> String {
    let what = probe.map(|probe| format!("{probe} ")).unwrap_or_default();
    // The word a pause that ran out ends with, in place of a person's name.
    match by {
        "expired" => format!("{what}resumed: the pause has run out"),
        by => format!("{what}resumed by {by}"),
    }
}

fn unhealthy(it: &ReplicaUnhealthy) -> String {
    let detail = if it.detail.is_empty() { String::new() } else { format!(": {}", it.detail) };
    format!(
        "unhealthy: {} {} {}/{}{detail}",
        it.probe, it.probe_reason, it.consecutive_failures, it.failure_threshold
    )
}

fn restarting(it: &ReplicaRestarting) -> String {
    let backoff =
        if it.backoff_seconds > 0.0 { format!(" in {}", seconds(it.backoff_seconds)) } else { String::new() };
    format!(
        "restarting{backoff} ({} of {} in the window): {}",
        it.restarts_in_window, it.max_restarts, it.reason
    )
}

fn released(it: &ReplicaReleased) -> String {
    format!("{} no longer held by {} after {}: {}", it.action, it.by, seconds(it.held_seconds), it.outcome)
}

/// What holds an action back, and until when.
#[must_use]
pub fn hold(hold: &HoldStatus) -> String {
    let until = hold.until.map(|until| format!(" until {} at the latest", clock(until))).unwrap_or_default();
    format!("{}{until}: {}", hold.by, hold.reason)
}

/// How a run ended.
#[must_use]
pub fn exit(status: &ExitStatus) -> String {
    let oom = if status.oom { "out of memory, " } else { "" };
    match (status.code, status.signal) {
        (Some(code), _) => format!("{oom}exit {code}"),
        (None, Some(signal)) => format!("{oom}signal {signal}"),
        (None, None) => format!("{oom}exit status lost"),
    }
}

/// What an instance was doing when it was ended, in one line; `None` when nothing is known.
#[must_use]
pub fn forensics(it: &Forensics) -> Option<String> {
    let mut parts: Vec<String> = it.state.first().into_iter().cloned().collect();
    if let Some(bytes) = it.memory_bytes {
        parts.push(format!("{} in memory", size(bytes)));
    }
    if let Some(files) = it.open_files {
        parts.push(format!("{files} open files"));
    }
    if let Some(threads) = it.threads {
        parts.push(format!("{threads} threads"));
    }
    if let Some(waiting) = it.waiting_in.first() {
        parts.push(format!("waiting in {}", without_stack(waiting)));
    }
    if let Some(line) = it.log_tail.last() {
        parts.push(format!("last printed {line:?}"));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Where a thread waits, without its registers and kernel stack: those are with the event.
fn without_stack(waiting: &str) -> &str {
    let end = [", system call", "; kernel stack"].iter().filter_map(|it| waiting.find(it)).min();
    &waiting[..end.unwrap_or(waiting.len())]
}

/// A size, with two or three digits of it.
#[must_use]
pub fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 || value >= 100.0 {
        format!("{value:.0} {}", units[unit])
    } else {
        format!("{value:.1} {}", units[unit])
    }
}

/// A length of time for people: `230ms`, `4.2s`, `3m12s`, `5h2m`, `3d4h`.
#[must_use]
pub fn duration(length: Duration) -> String {
    let millis = length.as_millis();
    let whole = length.as_secs();
    let (days, hours, minutes) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60);
    match whole {
        0 => format!("{millis}ms"),
        1..10 => {
            let tenths = millis / 100;
            if tenths.is_multiple_of(10) {
                format!("{}s", tenths / 10)
            } else {
                format!("{}.{}s", tenths / 10, tenths % 10)
            }
        }
        10..60 => format!("{whole}s"),
        60..3600 => format!("{minutes}m{}s", whole % 60),
        3600..86_400 => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

/// As [`duration`], of seconds.
#[must_use]
pub fn seconds(seconds: f64) -> String {
    duration(Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX))
}

/// The time of day (UTC) to the second; the day belongs beside it where it matters.
fn clock(at: Timestamp) -> String {
    at.strftime("%H:%M:%SZ").to_string()
}

fn pid(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_read_well_on_both_sides_of_every_boundary() {
        let cases = [
            (0.0, "0ms"),
            (0.2304, "230ms"),
            (0.9999, "999ms"),
            (1.0, "1s"),
            (4.27, "4.2s"),
            (9.99, "9.9s"),
            (10.0, "10s"),
            (59.9, "59s"),
            (60.0, "1m0s"),
            (3599.0, "59m59s"),
            (3600.0, "1h0m"),
            (86_399.0, "23h59m"),
            (86_400.0, "1d0h"),
            (-1.0, "0ms"),
        ];
        for (given, expected) in cases {
            assert_eq!(seconds(given), expected, "{given}");
        }
        assert_eq!(size(512), "512 B");
        assert_eq!(size(12_900_000), "12.3 MiB");
    }
}
