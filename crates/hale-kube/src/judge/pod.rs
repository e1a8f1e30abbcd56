//! What is found on one pod (K6), and whether it is ready.

use jiff::{SignedDuration, Timestamp};

use super::{
    Moment,
    container::{Case, EARLY, SAYS_NOTHING},
    event::{Event, Events},
    finding::Finding,
    objects::{Condition, Kind, Phase, Pod, Restarts, Role, State},
};

/// A pod, seen at a moment.
pub(super) struct Seen<'a> {
    pub(super) pod: &'a Pod,
    /// Whether it can take work, as far as its own words can be believed.
    pub(super) ready: bool,
    /// It has been ready at some time.
    pub(super) was_ready: bool,
    /// It has ended, and all went well.
    pub(super) done: bool,
    /// It has ended, and not well.
    pub(super) failed: bool,
    /// It is being deleted: nobody counts on it.
    pub(super) leaving: bool,
    pub(super) findings: Vec<Finding>,
}

impl<'a> Seen<'a> {
    /// Looks at it.
    pub(super) fn at(
        pod: &'a Pod,
        events: &Events<'_>,
        node_ready: Option<bool>,
        moment: Moment<'_>,
    ) -> Self {
        let leaving = pod.meta.deleting.is_some();
        let ready = is_ready(pod);
        let mut findings = if leaving { Vec::new() } else { find(pod, events, node_ready, moment) };
        findings.sort();
        findings.dedup();
        let findings = findings.into_iter().map(|it| it.of(&pod.meta.name)).collect();
        Self {
            pod,
            ready: ready && !leaving,
            was_ready: ready || has_been_ready(pod),
            done: pod.phase == Phase::Succeeded,
            failed: pod.phase == Phase::Failed,
            leaving,
            findings,
        }
    }

    /// Neither gone, nor going, nor done.
    pub(super) fn active(&self) -> bool {
        !self.leaving && !self.done && !self.failed
    }

    /// When it failed: when its `Ready` turned for the last time, or its last container ended.
    pub(super) fn failed_at(&self) -> Option<Timestamp> {
        let ends = self.pod.containers.iter().filter_map(|it| match &it.state {
            State::Ended(ended) => ended.finished,
            _ => None,
        });
        let turned = self.pod.conditions.get("Ready").and_then(|it| it.since);
        // The earlier one: a controller replaces a pod before all is cleaned up.
        ends.max().into_iter().chain(turned).min().or(self.pod.meta.created)
    }

    /// What it is, in a few words, for lists.
    pub(super) fn words(&self) -> String {
        let first = self.findings.iter().find(|it| it.degrades()).or_else(|| self.findings.first());
        match first {
            Some(it) => [it.condition.as_deref().unwrap_or_default(), &it.part, &it.says]
                .into_iter()
                .filter(|it| !it.is_empty())
                .collect::<Vec<_>>()
                .join(": "),
            None if self.leaving => "being deleted".to_owned(),
            None if self.done => "completed".to_owned(),
            None => String::new(),
        }
    }
}

/// The `Ready` condition says it, unless a container says otherwise: on a lost node containers go on saying that they
/// are ready, and just after a container exited the condition may still hold.
fn is_ready(pod: &Pod) -> bool {
    let main = || pod.containers.iter().filter(|it| it.role == Role::Main);
    let up = |state: &State| match state {
        State::Running { .. } => true,
        State::Ended(ended) => ended.code == 0 && pod.restarts != Restarts::Always,
        State::Waiting { .. } => false,
    };
    let said = match pod.conditions.get("Ready") {
        Some(condition) => condition.holds == Some(true),
        None => main().count() > 0 && main().all(|it| it.ready),
    };
    pod.phase == Phase::Running && said && main().all(|it| up(&it.state))
}

/// `Ready` is False from the moment a kubelet takes a pod on; a later turn means that it was True in between.
fn has_been_ready(pod: &Pod) -> bool {
    let began = pod.started.or(pod.meta.created);
    pod.conditions.get("Ready").is_some_and(|it| match (it.since, began) {
        (Some(turned), Some(began)) => turned.duration_since(began) > SignedDuration::from_secs(1),
        _ => false,
    })
}

fn find(pod: &Pod, events: &Events<'_>, node_ready: Option<bool>, moment: Moment<'_>) -> Vec<Finding> {
    let events: Vec<&Event> = events.about(Kind::Pod, &pod.meta).collect();
    match pod.phase {
        Phase::Succeeded => Vec::new(),
        Phase::Failed => failed(pod),
        Phase::Lost => vec![Finding::new("NodeNotReady", "", "nothing is heard of it: its phase is Unknown")],
        Phase::Pending | Phase::Running => {
            let mut found: Vec<Finding> = unplaced(pod, moment).into_iter().collect();
            let placed = placed(pod);
            for container in &pod.containers {
                found.extend(Case { pod, container, events: &events, moment, placed }.findings());
            }
            found.extend(unmade(pod, &events, moment, placed));
            found.extend(on_a_lost_node(pod, &events, node_ready));
            found.extend(gated(pod, moment));
            found
        }
    }
}

/// Failed for good: evicted, past its deadline, or because its containers failed. What its containers then say is
/// `Error` or `ContainerStatusUnknown`, 137, and says nothing; but that memory ran out does.
fn failed(pod: &Pod) -> Vec<Finding> {
    let reason = pod.reason.as_deref().unwrap_or_default();
    let condition = match reason {
        "Evicted" | "DeadlineExceeded" => reason,
        _ => "PodFailed",
    };
    let mut found = Vec::new();
    let mut says = Vec::new();
    if condition != reason && !reason.is_empty() {
        says.push(reason.to_owned());
    }
    if !pod.message.is_empty() {
        says.push(pod.message.clone());
    }
    for container in &pod.containers {
        let State::Ended(ended) = &container.state else { continue };
        if ended.code == 0 || condition == "Evicted" {
            continue;
        }
        says.push(format!(
            "container {} ended with exit code {} ({})",
            container.name, ended.code, ended.reason
        ));
        if !SAYS_NOTHING.contains(&ended.reason.as_str()) {
            let init = if container.role == Role::Main { "" } else { "Init:" };
            let words = format!("it ended with exit code {}", ended.code);
            let part = format!("container {}", container.name);
            found.push(Finding::new(format!("{init}{}", ended.reason), part, words));
        }
    }
    if says.is_empty() {
        says.push("it has failed, and does not say why".to_owned());
    }
    found.push(Finding::new(condition, "", says.join("; ")));
    found
}

/// Not on a node yet.
fn unplaced(pod: &Pod, moment: Moment<'_>) -> Option<Finding> {
    let scheduled = pod.conditions.get("PodScheduled");
    let refused = |it: &&Condition| it.holds == Some(false);
    if let Some(it) = scheduled.filter(refused).filter(|it| it.reason == "Unschedulable") {
        return Some(Finding::new("Unschedulable", "", it.message.clone()));
    }
    if pod.phase != Phase::Pending || !pod.containers.is_empty() {
        return None;
    }
    let says = match scheduled.filter(refused) {
        Some(it) if !it.message.is_empty() => it.message.clone(),
        Some(it) if !it.reason.is_empty() => it.reason.clone(),
        _ if pod.node.is_some() => "its node has not taken it on yet".to_owned(),
        _ => "not placed on a node yet".to_owned(),
    };
    let late = moment.past_grace(pod.meta.created);
    Some(if late { Finding::new("Pending", "", says) } else { Finding::progress("", says) })
}

/// When a node was found for it.
fn placed(pod: &Pod) -> Option<Timestamp> {
    let scheduled =
        pod.conditions.get("PodScheduled").filter(|it| it.holds == Some(true)).and_then(|it| it.since);
    [scheduled, pod.started, pod.meta.created].into_iter().flatten().max()
}

/// Its containers can't be made: volumes or the sandbox are missing. Only events say so, and they stay when it is over:
/// they count while no container was made.
fn unmade(pod: &Pod, events: &[&Event], moment: Moment<'_>, placed: Option<Timestamp>) -> Vec<Finding> {
    let early = |it: &State| matches!(it, State::Waiting { reason, .. } if EARLY.contains(&reason.as_str()));
    let none_yet = pod.containers.iter().all(|it| early(&it.state)) && pod.node.is_some();
    if !none_yet || pod.conditions.holds("PodReadyToStartContainers") {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (condition, reasons) in [
        ("FailedMount", &["FailedMount", "FailedAttachVolume", "FailedMapVolume"][..]),
        ("FailedCreatePodSandBox", &["FailedCreatePodSandBox"][..]),
    ] {
        let those = || events.iter().filter(|it| reasons.contains(&it.reason.as_str()));
        let times = those().fold(0_u32, |sum, it| sum.saturating_add(it.count));
        // A volume often takes two attempts: the kubelet hears of its secrets and config maps just then.
        let sure = times >= 2 || (times == 1 && (condition != "FailedMount" || moment.past_grace(placed)));
        if let Some(newest) = those().max_by_key(|it| (it.last, it.count, &it.message)).filter(|_| sure) {
            found.push(Finding::new(condition, "", format!("{} ({times} times)", newest.message)));
        }
    }
    found
}

/// Its containers are ready, as far as was heard; but it is not, because its node is not heard of any more. The control
/// plane says so by its `Ready`; node or event only say why.
fn on_a_lost_node(pod: &Pod, events: &[&Event], node_ready: Option<bool>) -> Option<Finding> {
    let ready = pod.conditions.get("Ready");
    let turned = ready.filter(|it| it.holds != Some(true) && pod.conditions.holds("ContainersReady"));
    let said = |since: Option<Timestamp>| {
        // The event is written in the same moment, and may bear the second before.
        let from = since.and_then(|it| it.checked_sub(SignedDuration::from_secs(5)).ok());
        events.iter().any(|it| it.reason == "NodeNotReady" && it.seen_from(from))
    };
    let lost = turned.is_some_and(|it| node_ready.map_or_else(|| said(it.since), |ready| !ready));
    lost.then(|| {
        let node = pod.node.as_deref().unwrap_or("its node");
        Finding::new(
            "NodeNotReady",
            "",
            format!("nothing is heard of {node}: what its containers say is old"),
        )
    })
}

/// Its containers are ready, and something outside of it is not.
fn gated(pod: &Pod, moment: Moment<'_>) -> Option<Finding> {
    let ready = pod.conditions.get("Ready").filter(|it| it.reason == "ReadinessGatesNotReady")?;
    let says = if ready.message.is_empty() { "a readiness gate is closed" } else { &ready.message };
    let began = pod.conditions.get("ContainersReady").and_then(|it| it.since);
    let late = moment.past_grace(began.or(pod.started));
    Some(if late { Finding::new("ReadinessFailing", "", says) } else { Finding::progress("", says) })
}
