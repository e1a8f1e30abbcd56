//! How everything is (C8), from what is recorded and what is heard.

use std::{collections::BTreeMap, sync::Arc};

use hale_health::{WorkloadHealth, if_fresh, worst_of};
use hale_model::{
    Phase, Status,
    cluster::{
        NodeCondition, NodeRecord, PlacementRecord, PlacementState, SessionState, TargetRecord,
        WorkloadRecord,
    },
    status::{NodeStatus, Overview, ReplicaStatus, TargetStatus, WorkloadStatus},
};
use jiff::Timestamp;

use super::{Shared, seen::Seen, snapshot::Snapshot};

/// Everything.
pub(crate) fn overview(shared: &Shared, snapshot: &Snapshot) -> Overview {
    let workloads: Vec<WorkloadStatus> =
        snapshot.workloads.values().map(|it| workload(shared, snapshot, it)).collect();
    let targets = targets(shared, snapshot);
    let nodes = snapshot.nodes.values().map(|it| node(shared, snapshot, it)).collect();
    let all = workloads.iter().map(|it| it.status).chain(targets.iter().map(|it| it.status));
    Overview { status: worst_of(all), at: Timestamp::now(), workloads, targets, nodes }
}

/// Whether what a node last said still goes for it: it is heard of, or said that it would be away, or is at least not
/// given up.
pub(crate) fn is_heard(snapshot: &Snapshot, node: &str) -> bool {
    snapshot.nodes.get(node).is_some_and(|it| it.condition != NodeCondition::Lost)
}

/// When a node was last heard of.
fn heard_at(shared: &Shared, snapshot: &Snapshot, node: &str) -> Timestamp {
    if let Some(live) = shared.live.node(node) {
        return live.last_beat_at();
    }
    match snapshot.sessions.get(node) {
        Some(it) => match it.state {
            // The server that has it would say if it were silent.
            SessionState::Connected if is_heard(snapshot, node) => Timestamp::now(),
            SessionState::Connected | SessionState::Away { .. } => it.since,
            SessionState::Silent { last_beat } | SessionState::Disconnected { last_beat } => last_beat,
        },
        None => snapshot.nodes.get(node).map_or(Timestamp::UNIX_EPOCH, |it| it.condition_since),
    }
}

/// One workload.
pub(crate) fn workload(shared: &Shared, snapshot: &Snapshot, record: &WorkloadRecord) -> WorkloadStatus {
    let spec = snapshot.specs.get(record.name.as_str());
    let desired = spec.map_or(0, |it| it.replicas);
    let mut by_ordinal: BTreeMap<u32, Vec<&PlacementRecord>> =
        (0..desired).map(|it| (it, Vec::new())).collect();
    for it in snapshot.placements_of(&record.name) {
        by_ordinal.entry(it.ordinal).or_default().push(it);
    }
    let mut counts = Counts::default();
    let replicas = by_ordinal.iter().map(|(ordinal, placements)| {
        let told = replica(shared, snapshot, record, *ordinal, placements);
        if *ordinal < desired {
            counts.add(&told);
        }
        told.status
    });
    let replicas: Vec<ReplicaStatus> = replicas.collect();
    let health =
        WorkloadHealth::by_counting(desired, counts.ready, counts.unknown, counts.stopped, counts.completed);
    WorkloadStatus {
        name: record.name.clone(),
        // What this release does not understand is not known to be well.
        status: if spec.is_some() { health.status } else { Status::Unknown },
        note: health.note.map(|it| it.as_str().to_owned()),
        desired,
        ready: health.ready,
        address: spec.and_then(|it| it.service.as_ref()?.listen).map(|listen| format!("http://{listen}")),
        replicas,
    }
}

#[derive(Default)]
struct Counts {
    ready: u32,
    unknown: u32,
    stopped: u32,
    completed: u32,
}

impl Counts {
    fn add(&mut self, it: &Told) {
        match it.status.phase {
            Phase::Stopped if it.completed => self.completed += 1,
            Phase::Stopped | Phase::Stopping if !it.status.stale => self.stopped += 1,
            _ if it.status.stale => self.unknown += 1,
            _ => self.ready += u32::from(it.status.ready),
        }
    }
}

struct Told {
    status: ReplicaStatus,
    completed: bool,
}

/// One replica: of several generations the newest that is ready, or else the newest that is wanted.
fn replica(
    shared: &Shared,
    snapshot: &Snapshot,
    record: &WorkloadRecord,
    ordinal: u32,
    placements: &[&PlacementRecord],
) -> Told {
    let mut seen: Vec<(&PlacementRecord, Option<Arc<Seen>>, bool)> = placements
        .iter()
        .map(|it| (*it, shared.live.seen(snapshot, it), is_heard(snapshot, &it.node)))
        .collect();
    seen.sort_by_key(|(it, ..)| it.generation);
    let ready = |it: &&(&PlacementRecord, Option<Arc<Seen>>, bool)| {
        it.2 && it.1.as_ref().is_some_and(|it| it.status.ready && !it.draining)
    };
    let wanted = |it: &&(&PlacementRecord, Option<Arc<Seen>>, bool)| it.0.state == PlacementState::Wanted;
    let newest = || seen.iter().rev();
    let shown = newest().find(ready).or_else(|| newest().find(wanted)).or_else(|| newest().next());
    let Some((placement, told, heard)) = shown else {
        let status = pending(record, ordinal, "", 0);
        return Told { status, completed: false };
    };
    let at = heard_at(shared, snapshot, &placement.node);
    let mut status = match told {
        Some(seen) => seen.status.clone(),
        None => pending(record, ordinal, &placement.node, placement.generation),
    };
    if let Some(why) = out_of_reach(snapshot, &status, &record.name) {
        // It runs well, and nobody will ever reach it.
        status.status = if status.status == Status::Healthy { Status::Degraded } else { status.status };
        status.last_error = Some(why);
    }
    status.ready &= takes_requests(shared, snapshot, &status, &record.name);
    status.stale = !heard;
    status.observed_at = at;
    status.status = stale(status.status, status.stale);
    status.uptime_seconds =
        status.started_at.map(|it| Timestamp::now().duration_since(it).as_secs_f64().max(0.0));
    let elsewhere = newest().filter(|it| it.0.generation != placement.generation && !it.2);
    status.possibly_running_on = elsewhere.map(|it| it.0.node.clone()).collect();
    status.possibly_running_on.sort();
    status.possibly_running_on.dedup();
    let completed = told.as_ref().is_some_and(|it| it.completed()) && record.stopped.is_none();
    Told { status, completed }
}

/// Whether requests may be sent to an instance that says it is ready: gateways are told of that once it is durable,
/// which is a little later (S2), and nobody is to be told before them. Yes for one of a workload without a service.
fn takes_requests(shared: &Shared, snapshot: &Snapshot, it: &ReplicaStatus, workload: &str) -> bool {
    let service = snapshot.specs.get(workload).and_then(|spec| spec.service.as_ref());
    let Some(set) = service.and_then(|service| shared.registry.endpoints(&service.name)) else { return true };
    set.ready().any(|endpoint| {
        endpoint.replica == it.name
            && (endpoint.generation, endpoint.incarnation) == (it.generation, it.incarnation)
    })
}

/// Why what is ready is no endpoint of its service for anybody (S12), if so.
fn out_of_reach(snapshot: &Snapshot, it: &ReplicaStatus, workload: &str) -> Option<String> {
    let service = snapshot.specs.get(workload)?.service.as_ref().filter(|_| it.ready)?;
    let node = super::reached_at(&snapshot.nodes.get(it.node.as_str())?.facts)?;
    let address: std::net::IpAddr = it.address.as_deref()?.parse().ok()?;
    (address != node).then(|| {
        format!(
            "{address} is reached from its own machine alone: port {} is not published (hostPort)",
            service.port
        )
    })
}

/// A replica of which nothing has been heard.
fn pending(record: &WorkloadRecord, ordinal: u32, node: &str, generation: u64) -> ReplicaStatus {
    ReplicaStatus {
        name: format!("{}-{ordinal}", record.name),
        status: Status::Unknown,
        node: node.to_owned(),
        phase: Phase::Pending,
        ready: false,
        flapping: false,
        paused: false,
        held_by: None,
        pid: None,
        address: None,
        ports: BTreeMap::new(),
        container_id: None,
        runtime: "process".to_owned(),
        restarts: 0,
        restarts_in_window: 0,
        last_exit: None,
        last_error: None,
        status_text: None,
        observed_at: Timestamp::now(),
        stale: false,
        started_at: None,
        uptime_seconds: None,
        next_start_at: None,
        generation,
        incarnation: 0,
        probes: BTreeMap::new(),
        last_transition: None,
        restarting: false,
        possibly_running_on: Vec::new(),
    }
}

fn stale(status: Status, stale: bool) -> Status {
    use std::time::Duration;
    if_fresh(status, if stale { Duration::MAX } else { Duration::ZERO }, Duration::ZERO)
}

/// All targets by name: those that are declared, and those that stand in the lists of such.
fn targets(shared: &Shared, snapshot: &Snapshot) -> Vec<TargetStatus> {
    let mut all: BTreeMap<String, TargetStatus> = BTreeMap::new();
    for record in snapshot.targets.values() {
        let is_list = snapshot.target_specs.get(record.name.as_str()).is_some_and(|it| it.list.is_some());
        if let Some(node) = record.node.as_deref().filter(|_| is_list) {
            let heard = is_heard(snapshot, node);
            for mut member in shared.live.members(node, &record.name) {
                member.status = stale(member.status, !heard);
                all.insert(member.name.clone(), member);
            }
        }
    }
    // What is declared comes last: nothing takes its name.
    all.extend(snapshot.targets.values().map(|it| (it.name.clone(), target(shared, it))));
    all.into_values().collect()
}

/// One target.
pub(crate) fn target(shared: &Shared, record: &TargetRecord) -> TargetStatus {
    let told = record.node.as_deref().and_then(|node| shared.live.target(node, &record.name));
    let snapshot = shared.feed.current();
    let heard = record.node.as_deref().is_some_and(|it| is_heard(&snapshot, it));
    let mut status = told.unwrap_or_else(|| TargetStatus {
        paused: !record.pauses.is_empty(),
        ..TargetStatus::unknown(&record.name)
    });
    status.status = stale(status.status, !heard);
    status
}

/// One node.
pub(crate) fn node(shared: &Shared, snapshot: &Snapshot, record: &NodeRecord) -> NodeStatus {
    let status = match record.condition {
        NodeCondition::Ready => Status::Healthy,
        NodeCondition::Suspect => Status::Degraded,
        NodeCondition::Lost => Status::Failing,
        NodeCondition::Away => Status::Unknown,
    };
    let replicas = snapshot.placed_on(&record.name).filter(|it| it.state == PlacementState::Wanted).count();
    NodeStatus {
        condition: record.condition,
        scheduling: record.scheduling,
        replicas: u32::try_from(replicas).unwrap_or(u32::MAX),
        version: record.facts.version.clone(),
        address: record.facts.address.map(|it| it.to_string()),
        region: record.facts.region.clone(),
        zone: record.facts.zone.clone(),
        labels: record.facts.labels.clone(),
        clock_skew_ms: shared.live.node(&record.name).map(|it| it.skew_ms()),
        ..NodeStatus::new(&record.name, status, heard_at(shared, snapshot, &record.name))
    }
}
