//! What a node must know of others: replicas of its workloads elsewhere (H20), and how that is which they depend on
//! (H21). Every server keeps one of these for the nodes that are connected to it.

use std::collections::{BTreeMap, BTreeSet};

use hale_health::{Phase, Status, WorkloadHealth};
use hale_model::cluster::{NodeCondition, ObservedRecord, PlacementRecord, WorkloadRecord};

use crate::input::{Key, Noun};

/// What one node is told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Around {
    /// By workload that has a replica there.
    pub elsewhere: BTreeMap<String, Elsewhere>,
    /// By name of a workload or target that one of them depends on. A target that nobody told of is unknown.
    pub dependencies: BTreeMap<String, Status>,
}

/// Replicas of a workload on other nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Elsewhere {
    /// That are ready.
    pub ready: u32,
    /// That a probe restarts now.
    pub restarting: u32,
}

#[derive(Debug, Default)]
struct Group {
    record: Option<Known>,
    placements: BTreeSet<u64>,
    /// Nodes with a replica that depends on it are told of its status.
    status: Option<Status>,
}

#[derive(Debug)]
struct Known {
    digest: String,
    replicas: u32,
    stopped: bool,
    stopped_replicas: BTreeSet<u32>,
    depends_on: Vec<String>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Surroundings {
    groups: BTreeMap<String, Group>,
    placements: BTreeMap<u64, PlacementRecord>,
    observed: BTreeMap<u64, Box<ObservedRecord>>,
    lost: BTreeSet<String>,
    targets: BTreeMap<String, Status>,
    /// Workloads of each node.
    on: BTreeMap<String, BTreeMap<String, u32>>,
    changed: BTreeSet<String>,
    told: BTreeMap<String, Around>,
}

impl Surroundings {
    /// Knows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A record is there, or has changed. Sessions and the cluster's own record are not needed here.
    pub fn put(&mut self, noun: Noun) {
        match noun {
            Noun::Workload(it) => self.put_workload(&it),
            Noun::Node(it) => {
                let lost = it.condition == NodeCondition::Lost;
                let changed =
                    if lost { self.lost.insert(it.name.clone()) } else { self.lost.remove(&it.name) };
                if changed {
                    self.changed.extend(self.on.get(&it.name).into_iter().flat_map(BTreeMap::keys).cloned());
                }
            }
            Noun::Placement(it) => self.put_placement(it),
            Noun::Observed(it) => {
                let told = |it: &ObservedRecord| (it.ready, it.restarting, it.phase);
                let old = self.observed.get(&it.generation).map(|it| told(it));
                if old != Some(told(&it)) {
                    self.changed.insert(it.workload.clone());
                }
                self.observed.insert(it.generation, it);
            }
            Noun::Cluster(_) | Noun::Session(_) | Noun::Target(_) => {}
        }
    }

    /// A record is gone.
    pub fn delete(&mut self, key: &Key<'_>) {
        match *key {
            Key::Workload(name) => {
                if let Some(group) = self.groups.get_mut(name) {
                    group.record = None;
                    self.changed.insert(name.to_owned());
                }
            }
            Key::Target(name) => {
                self.targets.remove(name);
                self.changed.insert(name.to_owned());
            }
            Key::Node(name) => {
                self.lost.insert(name.to_owned());
                self.changed.extend(self.on.get(name).into_iter().flat_map(BTreeMap::keys).cloned());
            }
            Key::Placement(generation) => self.drop_placement(generation),
            Key::Observed(generation) => {
                if let Some(old) = self.observed.remove(&generation) {
                    self.changed.insert(old.workload);
                }
            }
            Key::Session(_) => {}
        }
    }

    /// What the node that probes a target says of it.
    pub fn target_status(&mut self, name: &str, status: Status) {
        if self.targets.insert(name.to_owned(), status) != Some(status) {
            self.changed.insert(name.to_owned());
        }
    }

    fn put_workload(&mut self, record: &WorkloadRecord) {
        let group = self.groups.entry(record.name.clone()).or_default();
        let stopped = record.stopped.is_some();
        let stopped_replicas: BTreeSet<u32> = record.stopped_replicas.keys().copied().collect();
        let same = group.record.as_ref().is_some_and(|it| {
            it.digest == record.document.digest
                && it.stopped == stopped
                && it.stopped_replicas == stopped_replicas
        });
        if same {
            return;
        }
        let digest = record.document.digest.clone();
        let (replicas, depends_on) = match group.record.take() {
            Some(it) if it.digest == digest => (it.replicas, it.depends_on),
            _ => record
                .document
                .workload()
                .map_or_else(Default::default, |it| (it.replicas, it.depends_on.clone())),
        };
        group.record = Some(Known { digest, replicas, stopped, stopped_replicas, depends_on });
        self.changed.insert(record.name.clone());
    }

    fn put_placement(&mut self, record: PlacementRecord) {
        self.changed.insert(record.workload.clone());
        if !self.placements.contains_key(&record.generation) {
            self.groups.entry(record.workload.clone()).or_default().placements.insert(record.generation);
            *self.on.entry(record.node.clone()).or_default().entry(record.workload.clone()).or_default() += 1;
        }
        self.placements.insert(record.generation, record);
    }

    fn drop_placement(&mut self, generation: u64) {
        let Some(record) = self.placements.remove(&generation) else { return };
        self.observed.remove(&generation);
        if let Some(on) = self.on.get_mut(&record.node)
            && let Some(count) = on.get_mut(&record.workload)
        {
            *count -= 1;
            if *count == 0 {
                on.remove(&record.workload);
            }
        }
        if let Some(group) = self.groups.get_mut(&record.workload) {
            group.placements.remove(&generation);
            if group.placements.is_empty() && group.record.is_none() {
                self.groups.remove(&record.workload);
            }
        }
        self.changed.insert(record.workload);
    }

    /// What is to be told to which node, because it is not what was told last.
    pub fn changes(&mut self) -> Vec<(String, Around)> {
        let nodes = self.nodes_to_tell();
        let mut changes = Vec::new();
        for node in nodes {
            let around = self.of(&node);
            if around == Around::default() && !self.told.contains_key(&node) {
                continue;
            }
            if self.told.get(&node) != Some(&around) {
                self.told.insert(node.clone(), around.clone());
                changes.push((node, around));
            }
        }
        changes
    }

    /// Nodes that what has changed could be told to.
    fn nodes_to_tell(&mut self) -> BTreeSet<String> {
        let mut about = std::mem::take(&mut self.changed);
        let mut dependents: BTreeSet<String> = BTreeSet::new();
        for name in &about {
            let status = self.status(name);
            let known = self.groups.get_mut(name);
            let same = known.is_some_and(|group| std::mem::replace(&mut group.status, status) == status);
            if !same {
                dependents.insert(name.clone());
            }
        }
        let depends = |group: &Group| {
            group.record.as_ref().is_some_and(|it| it.depends_on.iter().any(|name| dependents.contains(name)))
        };
        if !dependents.is_empty() {
            about
                .extend(self.groups.iter().filter(|(_, group)| depends(group)).map(|(name, _)| name.clone()));
        }
        let groups = about.iter().filter_map(|name| self.groups.get(name));
        groups
            .flat_map(|it| &it.placements)
            .filter_map(|it| self.placements.get(it))
            .map(|it| it.node.clone())
            .collect()
    }

    /// What a node is to know now: for one that has just registered.
    #[must_use]
    pub fn of(&self, node: &str) -> Around {
        let mut around = Around::default();
        for name in self.on.get(node).into_iter().flat_map(BTreeMap::keys) {
            let Some(group) = self.groups.get(name) else { continue };
            around.elsewhere.insert(name.clone(), self.elsewhere(group, node));
            for dependency in group.record.iter().flat_map(|it| &it.depends_on) {
                let status = self.status(dependency).unwrap_or(Status::Unknown);
                around.dependencies.insert(dependency.clone(), status);
            }
        }
        around
    }

    fn elsewhere(&self, group: &Group, node: &str) -> Elsewhere {
        let mut elsewhere = Elsewhere::default();
        let mut ready = BTreeSet::new();
        for (placement, observed) in self.seen(group).filter(|(it, _)| it.node != node) {
            // Two generations of one replica are one replica.
            if observed.ready && ready.insert(placement.ordinal) {
                elsewhere.ready += 1;
            }
            elsewhere.restarting += u32::from(observed.restarting);
        }
        elsewhere
    }

    /// Wanted placements on nodes that are heard of, with what was observed.
    fn seen<'a>(
        &'a self,
        group: &'a Group,
    ) -> impl Iterator<Item = (&'a PlacementRecord, &'a ObservedRecord)> {
        let placements = group.placements.iter().filter_map(|it| self.placements.get(it));
        placements
            .filter(|it| it.wanted() && !self.lost.contains(&it.node))
            .filter_map(|it| Some((it, self.observed.get(&it.generation)?.as_ref())))
    }

    /// The status of a workload over all nodes, by counting (H28), or of a target; `None`: there is no such thing.
    #[must_use]
    pub fn status(&self, name: &str) -> Option<Status> {
        if let Some(status) = self.targets.get(name) {
            return Some(*status);
        }
        let group = self.groups.get(name)?;
        let known = group.record.as_ref()?;
        let (mut ready, mut unknown, mut completed) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for placement in
            group.placements.iter().filter_map(|it| self.placements.get(it)).filter(|it| it.wanted())
        {
            match self.observed.get(&placement.generation) {
                _ if self.lost.contains(&placement.node) => drop(unknown.insert(placement.ordinal)),
                Some(it) if it.ready => drop(ready.insert(placement.ordinal)),
                Some(it) if it.phase == Phase::Stopped => drop(completed.insert(placement.ordinal)),
                _ => {}
            }
        }
        let count = |it: usize| u32::try_from(it).unwrap_or(u32::MAX);
        let stopped = if known.stopped { known.replicas } else { count(known.stopped_replicas.len()) };
        completed.retain(|it| !known.stopped && !known.stopped_replicas.contains(it));
        let unknown = unknown.difference(&ready).count();
        let health = WorkloadHealth::by_counting(
            known.replicas,
            count(ready.len()),
            count(unknown),
            stopped,
            count(completed.len()),
        );
        Some(health.status)
    }
}
