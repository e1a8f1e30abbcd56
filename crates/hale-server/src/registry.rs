//! The registry: per service its endpoints, at one revision for every consumer (S12, S13).
//!
//! It lives in memory and is driven by readiness alone. A change is visible to every watcher when [`Registry::apply`]
//! returns; the disk is not asked. Revisions start from the wall clock in milliseconds, so that they go on rising over
//! a restart without being stored.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hale_api::endpoints::{Endpoint, EndpointSet};
use hale_model::{report::EndpointReport, spec::Service};
use jiff::Timestamp;
use tokio::sync::watch;

/// The endpoints of all services. Cheap to share; every call returns at once.
#[derive(Debug)]
pub struct Registry {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    revision: u64,
    /// Rises whenever a service comes, goes, or has other endpoints.
    told: watch::Sender<u64>,
    /// By workload: the newest report of each generation of its replicas, by name. An old generation and the one that
    /// takes its place may both live.
    replicas: HashMap<String, BTreeMap<String, Generations>>,
    /// By service.
    services: BTreeMap<String, Declared>,
    nodes: HashMap<String, Node>,
    /// The trace of the change that is published now (O2).
    cause: Option<String>,
}

type Generations = BTreeMap<u64, EndpointReport>;

/// What of a node concerns the endpoints on it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// Whether nothing is heard of it any more: its endpoints are out, as far as H31 lets them.
    pub lost: bool,
    /// Its zone.
    pub zone: Option<String>,
    /// The share of traffic of its endpoints relative to others; 0 counts as 1.
    pub weight: u32,
    /// Where what runs on it is reached from other machines; absent: everything that asks is on this one.
    pub address: Option<IpAddr>,
}

#[derive(Debug)]
struct Declared {
    workload: String,
    service: Service,
    set: watch::Sender<Arc<EndpointSet>>,
}

/// What a report changed, for the log (O2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The service.
    pub service: String,
    /// The revision of its endpoints now.
    pub revision: u64,
    /// How many of them are ready now.
    pub ready: usize,
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl Registry {
    /// No services yet.
    #[must_use]
    pub fn new() -> Self {
        let revision = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0);
        Self {
            inner: Mutex::new(Inner {
                told: watch::Sender::new(0),
                revision,
                replicas: HashMap::new(),
                services: BTreeMap::new(),
                nodes: HashMap::new(),
                cause: None,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every critical section leaves the state whole, so that a panic elsewhere does no harm.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Declares a workload: its service, if it has one, can be watched from now on. Declaring it again takes over what
    /// changed; a service it no longer has is gone, and its watchers see their channel close.
    pub fn declare(&self, workload: &str, service: Option<&Service>) -> Vec<Change> {
        let mut inner = self.lock();
        let name = service.map(|it| it.name.as_str());
        let before = inner.services.len();
        inner.services.retain(|service, it| it.workload != workload || Some(service.as_str()) == name);
        if inner.services.len() != before || name.is_some_and(|it| !inner.services.contains_key(it)) {
            inner.told.send_modify(|it| *it += 1);
        }
        let Some(service) = service else { return Vec::new() };
        if let Some(declared) = inner.services.get_mut(&service.name) {
            workload.clone_into(&mut declared.workload);
            declared.service = service.clone();
        } else {
            let set = EndpointSet {
                service: service.name.clone(),
                revision: inner.revision,
                balance: service.balance,
                none_ready_since: Some(Timestamp::now()),
                endpoints: Vec::new(),
                traceparent: None,
            };
            let declared = Declared {
                workload: workload.to_owned(),
                service: service.clone(),
                set: watch::Sender::new(Arc::new(set)),
            };
            inner.services.insert(service.name.clone(), declared);
        }
        inner.publish(workload)
    }

    /// Forgets a workload and its service.
    pub fn forget(&self, workload: &str) {
        let mut inner = self.lock();
        inner.replicas.remove(workload);
        inner.services.retain(|_, it| it.workload != workload);
        inner.told.send_modify(|it| *it += 1);
    }

    /// Takes over where a replica is reached and whether it may be. A report about an older run of the same generation
    /// than the known one changes nothing.
    pub fn apply(&self, report: &EndpointReport) -> Vec<Change> {
        let mut inner = self.lock();
        let replicas = inner.replicas.entry(report.workload.clone()).or_default();
        let generations = replicas.entry(report.replica.clone()).or_default();
        let known = generations.get(&report.generation);
        if known.is_some_and(|it| it.incarnation > report.incarnation || it == report) {
            return Vec::new();
        }
        generations.insert(report.generation, report.clone());
        inner.cause.clone_from(&report.traceparent);
        let changes = inner.publish(&report.workload);
        inner.cause = None;
        changes
    }

    /// Takes one generation of a replica out: its instance is gone.
    pub fn remove_generation(&self, workload: &str, replica: &str, generation: u64) -> Vec<Change> {
        let mut inner = self.lock();
        let Some(replicas) = inner.replicas.get_mut(workload) else { return Vec::new() };
        let Some(generations) = replicas.get_mut(replica) else { return Vec::new() };
        if generations.remove(&generation).is_none() {
            return Vec::new();
        }
        if generations.is_empty() {
            replicas.remove(replica);
        }
        inner.publish(workload)
    }

    /// Takes one generation out, of whatever replica it is.
    pub fn remove_placement(&self, generation: u64) -> Vec<Change> {
        let inner = self.lock();
        let of = inner.replicas.iter().find_map(|(workload, replicas)| {
            let replica = replicas.iter().find(|(_, it)| it.contains_key(&generation))?.0;
            Some((workload.clone(), replica.clone()))
        });
        drop(inner);
        of.map_or_else(Vec::new, |(workload, replica)| {
            self.remove_generation(&workload, &replica, generation)
        })
    }

    /// Takes over how a node is: its endpoints are out while it is lost, and back in when it is not; H31 holds.
    pub fn set_node(&self, name: &str, node: Node) -> Vec<Change> {
        let mut inner = self.lock();
        if inner.nodes.get(name) == Some(&node) {
            return Vec::new();
        }
        inner.nodes.insert(name.to_owned(), node);
        inner.publish_node(name)
    }

    /// Forgets a node that was deleted.
    pub fn forget_node(&self, name: &str) -> Vec<Change> {
        let mut inner = self.lock();
        if inner.nodes.remove(name).is_none() {
            return Vec::new();
        }
        inner.publish_node(name)
    }

    /// What is declared of a service.
    #[must_use]
    pub fn declared(&self, service: &str) -> Option<Service> {
        self.lock().services.get(service).map(|it| it.service.clone())
    }

    /// Rises whenever a service comes, goes, or has other endpoints.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.lock().told.subscribe()
    }

    /// The services, by name.
    #[must_use]
    pub fn services(&self) -> Vec<String> {
        self.lock().services.keys().cloned().collect()
    }

    /// The endpoints of a service now; `None`: no such service.
    #[must_use]
    pub fn endpoints(&self, service: &str) -> Option<Arc<EndpointSet>> {
        self.lock().services.get(service).map(|it| Arc::clone(&it.set.borrow()))
    }

    /// Follows the endpoints of a service; `None`: no such service. The channel closes when the service goes.
    #[must_use]
    pub fn watch(&self, service: &str) -> Option<watch::Receiver<Arc<EndpointSet>>> {
        self.lock().services.get(service).map(|it| it.set.subscribe())
    }
}

impl Inner {
    fn publish_node(&mut self, node: &str) -> Vec<Change> {
        let is_there = |replicas: &BTreeMap<String, Generations>| {
            replicas.values().flat_map(Generations::values).any(|it| it.node == node)
        };
        let workloads: Vec<String> = self
            .replicas
            .iter()
            .filter(|(_, it)| is_there(it))
            .map(|(workload, _)| workload.clone())
            .collect();
        workloads.iter().flat_map(|workload| self.publish(workload)).collect()
    }

    /// Computes the endpoints of a workload's service anew, and tells them when they changed.
    fn publish(&mut self, workload: &str) -> Vec<Change> {
        let none = BTreeMap::new();
        let mut changes = Vec::new();
        for (name, declared) in self.services.iter().filter(|(_, it)| it.workload == workload) {
            let replicas = self.replicas.get(workload).unwrap_or(&none);
            let endpoints = endpoints(&declared.service, replicas, &self.nodes);
            let old = Arc::clone(&declared.set.borrow());
            if old.endpoints == endpoints && old.balance == declared.service.balance {
                continue;
            }
            self.revision += 1;
            let mut set = EndpointSet {
                service: name.clone(),
                revision: self.revision,
                balance: declared.service.balance,
                none_ready_since: None,
                endpoints,
                traceparent: self.cause.clone(),
            };
            let ready = set.ready().count();
            if ready == 0 {
                set.none_ready_since = old.none_ready_since.or_else(|| Some(Timestamp::now()));
            }
            declared.set.send_replace(Arc::new(set));
            changes.push(Change { service: name.clone(), revision: self.revision, ready });
        }
        if !changes.is_empty() {
            self.told.send_modify(|it| *it += 1);
        }
        changes
    }
}

/// The endpoints of a service by replica name. Where too few are ready (S15), or none (H31), those that still run are
/// served, marked so.
fn endpoints(
    service: &Service,
    replicas: &BTreeMap<String, Generations>,
    nodes: &HashMap<String, Node>,
) -> Vec<Endpoint> {
    let serving = |generations: &Generations| one_of(generations, nodes).cloned();
    let reports: Vec<EndpointReport> = replicas.values().filter_map(serving).collect();
    let mut endpoints: Vec<Endpoint> =
        reports.iter().filter_map(|it| endpoint(&service.port, it, nodes)).collect();
    endpoints.sort_by(|a, b| ordinal(&a.replica).cmp(&ordinal(&b.replica)));
    let ready = endpoints.iter().filter(|it| it.ready && !it.draining).count();
    let panics = ready * 100 < usize::from(service.panic_threshold) * endpoints.len();
    for endpoint in &mut endpoints {
        if endpoint.ready || endpoint.draining || !endpoint.serving {
            continue;
        }
        let Some(report) = reports.iter().find(|it| it.replica == endpoint.replica) else { continue };
        let why = match () {
            () if ready == 0 && report.ready => "node_lost",
            () if ready == 0 && report.damped => "damping",
            () if panics => "panic",
            () => continue,
        };
        endpoint.ready = true;
        endpoint.kept = Some(why.to_owned());
    }
    endpoints
}

/// Which generation of a replica is told: the newest that is ready, so that an old one serves until the one that takes
/// its place may; none being ready, the newest that still runs, or the newest.
fn one_of<'a>(generations: &'a Generations, nodes: &HashMap<String, Node>) -> Option<&'a EndpointReport> {
    let lost = |it: &EndpointReport| nodes.get(&it.node).is_some_and(|it| it.lost);
    let newest = || generations.values().rev();
    newest()
        .find(|it| it.ready && !it.draining && !lost(it))
        .or_else(|| newest().find(|it| it.serving && !it.draining && (it.ready || it.damped)))
        .or_else(|| newest().find(|it| it.serving && !it.draining))
        .or_else(|| newest().next())
}

fn endpoint(port: &str, report: &EndpointReport, nodes: &HashMap<String, Node>) -> Option<Endpoint> {
    let node = nodes.get(&report.node);
    // A container's own address, which its port was not published beside: gateways elsewhere would never reach it (S12).
    if node.and_then(|it| it.address).is_some_and(|it| report.address.is_some_and(|at| at != it)) {
        return None;
    }
    Some(Endpoint {
        replica: report.replica.clone(),
        node: report.node.clone(),
        address: report.address?,
        port: *report.ports.get(port)?,
        weight: node.map_or(1, |it| it.weight.max(1)),
        zone: node.and_then(|it| it.zone.clone()),
        ready: report.ready && !node.is_some_and(|it| it.lost),
        kept: None,
        serving: report.serving,
        draining: report.draining,
        generation: report.generation,
        incarnation: report.incarnation,
    })
}

/// What replicas are sorted by: name, then ordinal as a number (C12).
pub(crate) fn ordinal(replica: &str) -> (&str, u64) {
    replica
        .rsplit_once('-')
        .and_then(|(name, ordinal)| Some((name, ordinal.parse().ok()?)))
        .unwrap_or((replica, 0))
}

#[cfg(test)]
mod tests;
