//! The registry: per service its endpoints, at one revision for every consumer (S12, S13).
//!
//! It lives in memory and is driven by readiness alone. A change is visible to every watcher when [`Registry::apply`]
//! returns; the disk is not asked. Revisions start from the wall clock in milliseconds, so that they go on rising over
//! a restart without being stored.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
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
    /// By workload: the newest report of each of its replicas, by name.
    replicas: HashMap<String, BTreeMap<String, EndpointReport>>,
    /// By service.
    services: BTreeMap<String, Declared>,
    lost_nodes: BTreeSet<String>,
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
                revision,
                replicas: HashMap::new(),
                services: BTreeMap::new(),
                lost_nodes: BTreeSet::new(),
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
        inner.services.retain(|service, it| it.workload != workload || Some(service.as_str()) == name);
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
    }

    /// Takes over where a replica is reached and whether it may be. A report about an older run than the known one
    /// changes nothing.
    pub fn apply(&self, report: &EndpointReport) -> Vec<Change> {
        let mut inner = self.lock();
        let replicas = inner.replicas.entry(report.workload.clone()).or_default();
        let stale = replicas
            .get(&report.replica)
            .is_some_and(|it| (it.generation, it.incarnation) > (report.generation, report.incarnation));
        if stale {
            return Vec::new();
        }
        replicas.insert(report.replica.clone(), report.clone());
        inner.publish(&report.workload)
    }

    /// Takes a replica out that is no longer declared.
    pub fn remove(&self, replica: &str) -> Vec<Change> {
        let mut inner = self.lock();
        let workloads: Vec<String> = inner
            .replicas
            .iter_mut()
            .filter_map(|(workload, replicas)| replicas.remove(replica).map(|_| workload.clone()))
            .collect();
        workloads.iter().flat_map(|workload| inner.publish(workload)).collect()
    }

    /// Takes the endpoints of a node out while it is lost, and back in when it is not; H31 holds.
    pub fn node_lost(&self, node: &str, lost: bool) -> Vec<Change> {
        let mut inner = self.lock();
        let changed =
            if lost { inner.lost_nodes.insert(node.to_owned()) } else { inner.lost_nodes.remove(node) };
        if !changed {
            return Vec::new();
        }
        let workloads: Vec<String> = inner.replicas.keys().cloned().collect();
        workloads.iter().flat_map(|workload| inner.publish(workload)).collect()
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
    /// Computes the endpoints of a workload's service anew, and tells them when they changed.
    fn publish(&mut self, workload: &str) -> Vec<Change> {
        let none = BTreeMap::new();
        let mut changes = Vec::new();
        for (name, declared) in self.services.iter().filter(|(_, it)| it.workload == workload) {
            let replicas = self.replicas.get(workload).unwrap_or(&none);
            let endpoints = endpoints(&declared.service.port, replicas, &self.lost_nodes);
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
            };
            let ready = set.ready().count();
            if ready == 0 {
                set.none_ready_since = old.none_ready_since.or_else(|| Some(Timestamp::now()));
            }
            declared.set.send_replace(Arc::new(set));
            changes.push(Change { service: name.clone(), revision: self.revision, ready });
        }
        changes
    }
}

/// The endpoints of a service by replica name. When none is ready, those are that only damping or the loss of their
/// node keeps out, marked so (H31).
fn endpoints(
    port: &str,
    replicas: &BTreeMap<String, EndpointReport>,
    lost: &BTreeSet<String>,
) -> Vec<Endpoint> {
    let mut endpoints: Vec<Endpoint> = replicas.values().filter_map(|it| endpoint(port, it, lost)).collect();
    endpoints.sort_by(|a, b| ordinal(&a.replica).cmp(&ordinal(&b.replica)));
    if endpoints.iter().any(|it| it.ready && !it.draining) {
        return endpoints;
    }
    for endpoint in &mut endpoints {
        let Some(report) = replicas.get(&endpoint.replica) else { continue };
        let might_serve = (report.ready || report.damped) && report.serving && !report.draining;
        if might_serve {
            let why = if report.ready { "node_lost" } else { "damping" };
            endpoint.ready = true;
            endpoint.kept = Some(why.to_owned());
        }
    }
    endpoints
}

fn endpoint(port: &str, report: &EndpointReport, lost: &BTreeSet<String>) -> Option<Endpoint> {
    Some(Endpoint {
        replica: report.replica.clone(),
        node: report.node.clone(),
        address: report.address?,
        port: *report.ports.get(port)?,
        weight: 1,
        zone: None,
        ready: report.ready && !lost.contains(&report.node),
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
