//! The planner: an indexed view of the cluster that is kept up change by change, and what is to be done next.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use hale_health::{Status, Time};
use hale_model::cluster::{ObservedRecord, TargetRecord};
use jiff::Timestamp;

use crate::{
    action::Plan,
    draft::Draft,
    input::{Key, Noun, Options},
    node::Node,
    workload::{Slot, Spec, Workload},
};

/// Rounds of one decision: what one workload's change allows another is found in the next round; what is left after
/// so many is decided at once the next time.
const ROUNDS: usize = 8;

/// Decides what runs where. See the crate's description for how it is driven.
#[derive(Debug)]
pub struct Planner {
    pub(crate) options: Options,
    pub(crate) nodes: BTreeMap<String, Node>,
    pub(crate) workloads: BTreeMap<String, Workload>,
    pub(crate) slots: BTreeMap<u64, Slot>,
    pub(crate) targets: BTreeMap<String, TargetRecord>,
    pub(crate) target_status: BTreeMap<String, Status>,
    pub(crate) target_features: BTreeMap<String, BTreeSet<String>>,
    pub(crate) specs: BTreeMap<String, Arc<Spec>>,
    /// The different sets of features that agents know: as many as there are releases of them.
    pub(crate) feature_sets: Vec<BTreeSet<String>>,
    /// Observations of generations that are not placed.
    pub(crate) orphans: BTreeMap<u64, Box<ObservedRecord>>,
    /// Instances that nodes run and nobody here placed (S5).
    pub(crate) reported: BTreeMap<u64, Box<ObservedRecord>>,
    pub(crate) last_generation: u64,
    /// Workloads to look at.
    pub(crate) dirty: BTreeSet<String>,
    /// Workloads with a replica that no node takes: looked at whenever a node might.
    pub(crate) stuck: BTreeSet<String>,
    pub(crate) wakes: BTreeSet<(Time, String)>,
    pub(crate) dirty_nodes: BTreeSet<String>,
    pub(crate) node_wakes: BTreeSet<(Time, String)>,
    pub(crate) targets_dirty: bool,
    /// Nothing is judged before (S3).
    pub(crate) patience: Time,
    /// Since when the server suspects itself (S6).
    pub(crate) braked: Option<Time>,
    /// When nodes were given up, within the last interval (S6).
    pub(crate) given_up: VecDeque<Time>,
    /// When to look for nodes to give up.
    pub(crate) give_up_at: Option<Time>,
    /// Servers whose lease lives, as last told.
    pub(crate) live_servers: BTreeSet<String>,
}

impl Planner {
    /// A planner that knows nothing yet and has patience for one lost-interval (S3).
    #[must_use]
    pub fn new(now: Time, options: Options) -> Self {
        let patience = now + options.lost_after();
        let live_servers = BTreeSet::from([options.server.clone()]);
        Self {
            options,
            nodes: BTreeMap::new(),
            workloads: BTreeMap::new(),
            slots: BTreeMap::new(),
            targets: BTreeMap::new(),
            target_status: BTreeMap::new(),
            target_features: BTreeMap::new(),
            specs: BTreeMap::new(),
            feature_sets: vec![BTreeSet::new()],
            orphans: BTreeMap::new(),
            reported: BTreeMap::new(),
            last_generation: 0,
            dirty: BTreeSet::new(),
            stuck: BTreeSet::new(),
            wakes: BTreeSet::new(),
            dirty_nodes: BTreeSet::new(),
            node_wakes: BTreeSet::new(),
            targets_dirty: false,
            patience,
            braked: None,
            given_up: VecDeque::new(),
            give_up_at: None,
            live_servers,
        }
    }

    /// A record is there, or has changed. Putting one that is known changes nothing.
    pub fn put(&mut self, now: Time, wall: Timestamp, noun: Noun) {
        match noun {
            Noun::Cluster(it) => self.last_generation = self.last_generation.max(it.last_generation),
            Noun::Workload(it) => self.put_workload(it),
            Noun::Target(it) => {
                self.targets_dirty = true;
                self.target_features.remove(&it.name);
                self.put_target(*it);
            }
            Noun::Node(it) => self.put_node(now, *it),
            Noun::Session(it) => self.put_session(now, wall, it),
            Noun::Placement(it) => self.put_placement(now, it),
            Noun::Observed(it) => self.put_observed(now, it),
        }
    }

    /// A record is gone.
    pub fn delete(&mut self, now: Time, key: Key<'_>) {
        match key {
            Key::Workload(name) => {
                if let Some(workload) = self.workloads.get_mut(name) {
                    (workload.record, workload.spec, workload.progress) = (None, None, None);
                    self.dirty.insert(name.to_owned());
                }
            }
            Key::Target(name) => self.delete_target(name),
            Key::Node(name) => self.delete_node(now, name),
            Key::Session(name) => self.lose_contact(now, name),
            Key::Placement(generation) => self.delete_placement(generation),
            Key::Observed(generation) => {
                self.orphans.remove(&generation);
                if let Some(slot) = self.slots.get_mut(&generation)
                    && slot.observed.take().is_some()
                {
                    (slot.ready_since, slot.unready_since) = (None, now);
                    self.dirty.insert(slot.record.workload.clone());
                }
            }
        }
    }

    /// The status of a target, as its node says: what depends on it is not moved while it does not answer (S8, H21).
    pub fn target_status(&mut self, name: &str, status: Status) {
        self.target_status.insert(name.to_owned(), status);
    }

    /// What is to be done now. The planner goes on as if it were done.
    pub fn decide(&mut self, now: Time, wall: Timestamp) -> Plan {
        let mut draft = Draft::new(now, wall);
        self.judge_nodes(&mut draft);
        self.give_up_nodes(&mut draft);
        self.decide_targets(&mut draft);
        self.decide_reported(&mut draft);
        self.forget_orphans(&mut draft);
        for _ in 0..ROUNDS {
            for name in self.take_due(now) {
                self.decide_workload(&mut draft, &name);
            }
            if self.dirty.is_empty() {
                break;
            }
        }
        draft.finish(self.last_generation)
    }

    /// When [`Planner::decide`] is to be called at the latest, if nothing changes until then.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        if !self.dirty.is_empty()
            || !self.dirty_nodes.is_empty()
            || self.targets_dirty
            || !self.orphans.is_empty()
            || !self.reported.is_empty()
        {
            return Some(Time::ZERO);
        }
        let wakes = [self.wakes.first(), self.node_wakes.first()].into_iter().flatten().map(|(at, _)| *at);
        wakes.chain(self.give_up_at).min()
    }

    /// Workloads to look at now: those below what must be available first, the emptiest first (S8); then by name.
    fn take_due(&mut self, now: Time) -> Vec<String> {
        while let Some((at, _)) = self.wakes.first()
            && *at <= now
        {
            if let Some((_, name)) = self.wakes.pop_first() {
                if let Some(workload) = self.workloads.get_mut(&name) {
                    workload.wake = None;
                }
                self.dirty.insert(name);
            }
        }
        let mut due: Vec<(i64, String)> = std::mem::take(&mut self.dirty)
            .into_iter()
            .map(|name| (-self.missing(&name).max(0), name))
            .collect();
        due.sort();
        due.into_iter().map(|(_, name)| name).collect()
    }

    /// How many ready replicas a workload lacks to its minimum.
    pub(crate) fn missing(&self, name: &str) -> i64 {
        let Some(workload) = self.workloads.get(name) else { return 0 };
        let Some(spec) = &workload.spec else { return 0 };
        i64::from(spec.min_available()) - i64::from(self.ready_of(workload))
    }

    /// Replicas of a workload that are ready, on nodes that are heard of.
    pub(crate) fn ready_of(&self, workload: &Workload) -> u32 {
        let ready = workload.replicas.values().filter(|generations| {
            generations.iter().filter_map(|it| self.slots.get(it)).any(|slot| {
                slot.record.wanted()
                    && slot.ready()
                    && self.nodes.get(&slot.record.node).is_some_and(|it| !it.lost())
            })
        });
        u32::try_from(ready.count()).unwrap_or(u32::MAX)
    }

    pub(crate) fn wake(&mut self, name: &str, at: Time) {
        let Some(workload) = self.workloads.get_mut(name) else { return };
        if workload.wake.is_some_and(|it| it <= at) {
            return;
        }
        if let Some(old) = workload.wake.replace(at) {
            self.wakes.remove(&(old, name.to_owned()));
        }
        self.wakes.insert((at, name.to_owned()));
    }

    /// A node may take what none could take before.
    pub(crate) fn room(&mut self) {
        self.dirty.append(&mut self.stuck);
    }
}
