//! How a cluster is, as its records have it.

use std::collections::BTreeMap;

use hale_model::cluster::NodeCondition;
use hale_store::Store;

use super::{Source, State, WorkloadSample};
use crate::cluster::Cluster;

/// Reads a cluster and its store.
#[derive(Clone)]
pub struct ClusterSource {
    /// The server's part in the cluster.
    pub cluster: Cluster,
    /// The database.
    pub store: Store,
}

impl Source for ClusterSource {
    /// Goes through all that is observed: some milliseconds for a hundred thousand replicas.
    fn state(&self) -> State {
        let snapshot = self.cluster.snapshot();
        let mut state = State {
            sessions: self.cluster.sessions() as u64,
            gateways: self.cluster.gateways() as u64,
            store: self.store.counters(),
            cluster: Some(self.cluster.counters()),
            ..State::default()
        };
        let mut lost = Vec::new();
        for node in snapshot.nodes.values() {
            *state.nodes.entry(node.condition.as_str()).or_default() += 1;
            if node.condition == NodeCondition::Lost {
                lost.push(node.name.as_str());
            }
        }
        lost.sort_unstable();
        let mut ready: BTreeMap<&str, u64> = BTreeMap::new();
        for observed in snapshot.observed.iter() {
            let heard_of = lost.binary_search(&observed.node.as_str()).is_err();
            let phase = if heard_of { observed.phase.as_str() } else { "unknown" };
            *state.phases.entry(phase).or_default() += 1;
            if observed.ready && heard_of && snapshot.placements.get(observed.generation).is_some() {
                *ready.entry(observed.workload.as_str()).or_default() += 1;
            }
        }
        for (name, spec) in snapshot.specs.iter() {
            let stopped = snapshot.workloads.get(name).is_none_or(|it| it.stopped.is_some());
            let desired = if stopped { 0 } else { u64::from(spec.replicas) };
            let needed = if stopped {
                0
            } else {
                u64::from(spec.together.min_available(spec.replicas)).clamp(1, desired.max(1))
            };
            let ready = ready.get(&**name).copied().unwrap_or(0);
            state.workloads.insert(name.to_string(), WorkloadSample { desired, ready, needed });
        }
        state
    }
}

impl std::fmt::Debug for ClusterSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClusterSource")
    }
}
