//! What a node can't know of itself: how the replicas of its workloads are elsewhere (H20), and how what they depend
//! on is (H21).
//!
//! Each workload is summed up once when something of it has changed, some milliseconds later so that changes gather,
//! and only the nodes that it concerns are told.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hale_api::proto;
use hale_model::{
    Phase, Status,
    cluster::PlacementState,
    spec::{ListSource, TargetList, Workload},
};
use tokio::{sync::Notify, time::sleep};

use super::{Shared, seen::Seen, snapshot::Snapshot, status};

/// How long changes gather.
const GATHER: Duration = Duration::from_millis(10);

/// One workload, summed up.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sum {
    status: Status,
    /// By node: ready, and restarting because of a probe.
    nodes: BTreeMap<Arc<str>, (u32, u32)>,
    /// Its replicas that run, as the list of a target has them (N12).
    members: Vec<proto::ServiceMember>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Arounds {
    sums: Mutex<HashMap<Arc<str>, Arc<Sum>>>,
    dirty: Mutex<BTreeSet<Arc<str>>>,
    wake: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Arounds {
    /// Something of these workloads or targets may have changed.
    pub(crate) fn changed(&self, names: impl IntoIterator<Item = Arc<str>>) {
        let mut dirty = lock(&self.dirty);
        let before = dirty.len();
        dirty.extend(names);
        if dirty.len() != before {
            self.wake.notify_one();
        }
    }

    /// Sums up what has changed, and has the nodes told that it concerns.
    pub(crate) async fn run(shared: Arc<Shared>) {
        loop {
            tokio::select! {
                () = shared.arounds.wake.notified() => {}
                () = shared.end.cancelled() => return,
            }
            sleep(GATHER).await;
            let dirty = std::mem::take(&mut *lock(&shared.arounds.dirty));
            let snapshot = shared.feed.current();
            let mut concerned = BTreeSet::new();
            for name in dirty {
                let sum = shared.sum(&snapshot, &name).map(Arc::new);
                let mut sums = lock(&shared.arounds.sums);
                if sums.get(&name) == sum.as_ref() {
                    continue;
                }
                match sum {
                    Some(sum) => drop(sums.insert(Arc::clone(&name), sum)),
                    None => drop(sums.remove(&name)),
                }
                drop(sums);
                add_concerned(&snapshot, &name, &mut concerned);
            }
            concerned.iter().for_each(|node| shared.sessions.wake(node));
        }
    }
}

/// A replica as an entry of a list, while it runs; ready or not.
fn member(seen: &Seen, port: &str) -> Option<proto::ServiceMember> {
    let runs = matches!(seen.status.phase, Phase::Starting | Phase::Running | Phase::Unhealthy);
    let port = seen.status.ports.get(port).filter(|_| runs && !seen.draining)?;
    Some(proto::ServiceMember {
        replica: seen.status.name.clone(),
        address: SocketAddr::new(seen.address?, *port).to_string(),
        container_id: seen.status.container_id.clone(),
    })
}

/// The services whose replicas a node probes as targets, and the workloads that have them.
fn probed_services(snapshot: &Snapshot, node: &str) -> BTreeMap<String, Option<String>> {
    let mut all = BTreeMap::new();
    for record in snapshot.targets.values().filter(|it| it.node.as_deref() == Some(node)) {
        let list = snapshot.target_specs.get(record.name.as_str()).and_then(|it| it.list.as_ref());
        if let Some(TargetList { source: ListSource::Service(service), .. }) = list {
            let has = |it: &&Arc<Workload>| it.service.as_ref().is_some_and(|it| it.name == *service);
            let workload = snapshot.specs.values().find(has).map(|it| it.name.clone());
            all.insert(service.clone(), workload);
        }
    }
    all
}

/// Nodes that run the workload, or something that depends on it, or probe the replicas of its service.
fn add_concerned(snapshot: &Snapshot, name: &str, nodes: &mut BTreeSet<String>) {
    let mut lists = Vec::new();
    let mut add = |workload: &str| nodes.extend(snapshot.placements_of(workload).map(|it| it.node.clone()));
    add(name);
    if let Some(service) = snapshot.specs.get(name).and_then(|it| it.service.as_ref()) {
        for record in snapshot.targets.values() {
            let list = snapshot.target_specs.get(record.name.as_str()).and_then(|it| it.list.as_ref());
            if list.is_some_and(|it| it.source == ListSource::Service(service.name.clone())) {
                lists.extend(record.node.clone());
            }
        }
    }
    for (workload, spec) in &*snapshot.specs {
        if spec.depends_on.iter().any(|it| it == name) {
            add(workload);
        }
    }
    nodes.extend(lists);
}

impl Shared {
    /// `None`: there is no such workload or target.
    fn sum(&self, snapshot: &Snapshot, name: &str) -> Option<Sum> {
        if let Some(target) = snapshot.targets.get(name) {
            let status = status::target(self, target).status;
            return Some(Sum { status, nodes: BTreeMap::new(), members: Vec::new() });
        }
        let workload = snapshot.workloads.get(name)?;
        let mut nodes: BTreeMap<Arc<str>, (u32, u32)> = BTreeMap::new();
        let service = snapshot.specs.get(name).and_then(|it| it.service.clone());
        let mut members = Vec::new();
        for it in snapshot.placements_of(name) {
            let entry = nodes.entry(Arc::from(it.node.as_str())).or_default();
            let known = status::is_heard(snapshot, &it.node);
            if let Some(seen) = self.live.seen(snapshot, it).filter(|_| known) {
                entry.0 += u32::from(seen.status.ready && !seen.draining);
                entry.1 += u32::from(seen.restarting);
                members.extend(service.as_ref().and_then(|it| member(&seen, &it.port)));
            }
        }
        Some(Sum { status: status::workload(self, snapshot, workload).status, nodes, members })
    }

    fn summed(&self, snapshot: &Snapshot, name: &str) -> Option<Arc<Sum>> {
        if let Some(sum) = lock(&self.arounds.sums).get(name) {
            return Some(Arc::clone(sum));
        }
        let sum = Arc::new(self.sum(snapshot, name)?);
        lock(&self.arounds.sums).insert(Arc::from(name), Arc::clone(&sum));
        Some(sum)
    }

    /// What a node is to know of others, all of it.
    pub(crate) fn around(&self, snapshot: &Snapshot, node: &str) -> proto::Around {
        let here: BTreeSet<&str> = snapshot
            .placed_on(node)
            .filter(|it| it.state == PlacementState::Wanted)
            .map(|it| it.workload.as_str())
            .collect();
        let mut around = proto::Around::default();
        let mut names = BTreeSet::new();
        for name in here {
            names.extend(snapshot.specs.get(name).into_iter().flat_map(|it| it.depends_on.clone()));
            let Some(sum) = self.summed(snapshot, name) else { continue };
            let mut elsewhere = sum.nodes.iter().filter(|(it, _)| &***it != node).peekable();
            if elsewhere.peek().is_some() {
                let (ready, restarting) = elsewhere.fold((0, 0), |sum, (_, it)| (sum.0 + it.0, sum.1 + it.1));
                around.elsewhere.push(proto::Elsewhere { workload: name.to_owned(), ready, restarting });
            }
        }
        for (service, workload) in probed_services(snapshot, node) {
            let sum = workload.and_then(|it| self.summed(snapshot, &it));
            let members = sum.map(|it| it.members.clone()).unwrap_or_default();
            around.services.push(proto::ServiceMembers { service, members });
        }
        for name in names {
            let sum = self.summed(snapshot, &name);
            let only_here = sum
                .as_ref()
                .is_some_and(|it| !it.nodes.is_empty() && it.nodes.keys().all(|it| &**it == node));
            if !only_here {
                let status = sum.map_or(Status::Unknown, |it| it.status).as_str().to_owned();
                around.dependencies.push(proto::Dependency { name, status });
            }
        }
        around
    }
}
