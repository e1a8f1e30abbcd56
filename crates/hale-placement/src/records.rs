//! Keeping the view up: what each record changes, and who is to be looked at again because of it.

use std::{collections::BTreeSet, sync::Arc};

use hale_health::Time;
use hale_model::{
    cluster::{
        NodeCondition, NodeRecord, ObservedRecord, PlacementRecord, Scheduling, TargetRecord, WorkloadRecord,
    },
    document::Document,
};

use crate::{
    node::Node,
    planner::Planner,
    workload::{Demand, Slot, Spec},
};

impl Planner {
    pub(crate) fn put_workload(&mut self, record: Box<WorkloadRecord>) {
        let name = record.name.clone();
        if self.workloads.get(&name).and_then(|it| it.record.as_ref()).is_some_and(|it| **it == *record) {
            return;
        }
        let spec = self.spec(&record.document);
        if let Some(previous) = &record.previous {
            self.spec(previous);
        }
        let workload = self.workloads.entry(name.clone()).or_default();
        if workload.record.as_ref().is_none_or(|it| it.document.digest != record.document.digest) {
            workload.nowhere.clear();
            workload.told.clear();
            workload.progress = None;
        }
        (workload.record, workload.spec) = (Some(record), spec);
        let generations: Vec<u64> = workload.replicas.values().flatten().copied().collect();
        for generation in generations {
            self.measure(generation);
        }
        // What a change of `replaceAfter` means for nodes that are lost is found out anew.
        self.give_up_at = self.give_up_at.or_else(|| self.any_lost().then_some(Time::ZERO));
        self.dirty.insert(name);
    }

    /// The declaration, read once per digest.
    fn spec(&mut self, document: &Document) -> Option<Arc<Spec>> {
        if let Some(spec) = self.specs.get(&document.digest) {
            return Some(Arc::clone(spec));
        }
        let spec = Arc::new(Spec::read(document)?);
        self.specs.insert(document.digest.clone(), Arc::clone(&spec));
        if self.specs.len() > 2 * self.workloads.len() + 64 {
            self.drop_unused_specs();
        }
        Some(spec)
    }

    fn drop_unused_specs(&mut self) {
        let mut used: BTreeSet<&str> = self.slots.values().map(|it| it.record.digest.as_str()).collect();
        for record in self.workloads.values().filter_map(|it| it.record.as_ref()) {
            used.insert(&record.document.digest);
            used.extend(record.previous.iter().map(|it| it.digest.as_str()));
        }
        let used: BTreeSet<String> = used.into_iter().map(str::to_owned).collect();
        self.specs.retain(|digest, spec| used.contains(digest) || Arc::strong_count(spec) > 1);
    }

    /// What a placement takes, by the declaration it runs by or, when that is not known any more, by the present one.
    fn demand_of(&self, record: &PlacementRecord) -> Demand {
        let by_digest = self.specs.get(&record.digest);
        let present = || self.workloads.get(&record.workload).and_then(|it| it.spec.as_ref());
        by_digest.or_else(present).map(|it| it.demand.clone()).unwrap_or_default()
    }

    /// Takes the measure of a placement again, now that its declaration may be known.
    fn measure(&mut self, generation: u64) {
        let Some(slot) = self.slots.get(&generation) else { return };
        let demand = self.demand_of(&slot.record);
        let Some(slot) = self.slots.get_mut(&generation) else { return };
        if slot.demand == demand {
            return;
        }
        if let Some(node) = self.nodes.get_mut(&slot.record.node) {
            node.load.remove(&slot.demand);
            node.load.add(&demand);
        }
        slot.demand = demand;
    }

    pub(crate) fn put_placement(&mut self, now: Time, record: PlacementRecord) {
        self.last_generation = self.last_generation.max(record.generation);
        let generation = record.generation;
        if let Some(slot) = self.slots.get_mut(&generation) {
            if slot.record != record {
                self.dirty.insert(record.workload.clone());
                slot.record = record;
            }
            return;
        }
        let demand = self.demand_of(&record);
        let node = self.nodes.entry(record.node.clone()).or_insert_with(|| Node::new(now));
        node.placements.insert(generation);
        node.load.add(&demand);
        let workload = self.workloads.entry(record.workload.clone()).or_default();
        workload.replicas.entry(record.ordinal).or_default().insert(generation);
        workload.nowhere.remove(&record.ordinal);
        self.dirty.insert(record.workload.clone());
        self.slots.insert(generation, Slot::new(now, record, demand));
        if let Some(observed) = self.orphans.remove(&generation) {
            self.put_observed(now, observed);
        }
    }

    pub(crate) fn delete_placement(&mut self, generation: u64) {
        let Some(slot) = self.slots.remove(&generation) else { return };
        let record = slot.record;
        if let Some(node) = self.nodes.get_mut(&record.node) {
            node.placements.remove(&generation);
            node.load.remove(&slot.demand);
            if node.placements.is_empty() {
                self.dirty_nodes.insert(record.node.clone());
            }
        }
        if let Some(workload) = self.workloads.get_mut(&record.workload) {
            if let Some(generations) = workload.replicas.get_mut(&record.ordinal) {
                generations.remove(&generation);
                if generations.is_empty() {
                    workload.replicas.remove(&record.ordinal);
                }
            }
            if workload.record.is_none() && workload.replicas.is_empty() {
                if let Some(at) = workload.wake.take() {
                    self.wakes.remove(&(at, record.workload.clone()));
                }
                self.workloads.remove(&record.workload);
            } else {
                self.dirty.insert(record.workload);
            }
        }
        self.room();
    }

    pub(crate) fn put_observed(&mut self, now: Time, observed: Box<ObservedRecord>) {
        let Some(slot) = self.slots.get_mut(&observed.generation) else {
            self.orphans.insert(observed.generation, observed);
            return;
        };
        let told = |it: &ObservedRecord| (it.ready, it.phase, it.serving, it.digest.clone());
        let changed = slot.observed.as_deref().is_none_or(|it| told(it) != told(&observed));
        match (observed.ready, slot.ready_since) {
            (true, None) => (slot.ready_since, slot.proven) = (Some(now), true),
            (false, Some(since)) => {
                slot.forgiven |= now.since(since) >= self.options.longest_move_wait;
                (slot.ready_since, slot.unready_since) = (None, now);
            }
            _ => {}
        }
        slot.observed = Some(observed);
        if changed {
            self.dirty.insert(slot.record.workload.clone());
        }
    }

    pub(crate) fn put_node(&mut self, now: Time, record: NodeRecord) {
        let name = record.name.clone();
        let features = self.feature_set(&record.facts.features);
        let node = self.nodes.entry(name.clone()).or_insert_with(|| Node::new(now));
        node.features = features;
        let old = node.record.replace(record.clone());
        if old.as_ref() == Some(&record) {
            return;
        }
        match (record.condition == NodeCondition::Lost, node.lost_since) {
            (true, None) => {
                node.lost_since = Some(now);
                self.give_up_at = Some(Time::ZERO);
            }
            (false, Some(_)) => (node.lost_since, node.given_up) = (None, false),
            _ => {}
        }
        if record.scheduling != Scheduling::Draining {
            node.told_drained = false;
        }
        let placing = |it: &NodeRecord| (it.condition, it.scheduling, it.facts.clone());
        if old.as_ref().is_none_or(|it| placing(it) != placing(&record)) {
            self.look_at_node(&name);
            self.room();
        }
    }

    /// The number of a set of features, which is kept once. Sets of agents that are no more are few and small.
    fn feature_set(&mut self, features: &BTreeSet<String>) -> usize {
        self.feature_sets.iter().position(|it| it == features).unwrap_or_else(|| {
            self.feature_sets.push(features.clone());
            self.feature_sets.len() - 1
        })
    }

    /// Everything that is on this node, and the node itself, is looked at again.
    pub(crate) fn look_at_node(&mut self, name: &str) {
        self.dirty_nodes.insert(name.to_owned());
        self.targets_dirty = true;
        let Some(node) = self.nodes.get(name) else { return };
        for slot in node.placements.iter().filter_map(|it| self.slots.get(it)) {
            self.dirty.insert(slot.record.workload.clone());
        }
    }

    pub(crate) fn delete_node(&mut self, now: Time, name: &str) {
        self.look_at_node(name);
        let Some(node) = self.nodes.get_mut(name) else { return };
        if let Some(at) = node.deadline.take() {
            self.node_wakes.remove(&(at, name.to_owned()));
        }
        if node.placements.is_empty() && node.targets.is_empty() {
            self.nodes.remove(name);
        } else {
            let (placements, targets, load) = (
                std::mem::take(&mut node.placements),
                std::mem::take(&mut node.targets),
                std::mem::take(&mut node.load),
            );
            *node = Node { placements, targets, load, ..Node::new(now) };
        }
    }

    pub(crate) fn put_target(&mut self, record: TargetRecord) {
        self.unlink_target(&record.name);
        if let Some(node) = record.node.as_ref().and_then(|it| self.nodes.get_mut(it)) {
            node.targets.insert(record.name.clone());
        }
        self.targets.insert(record.name.clone(), record);
    }

    fn unlink_target(&mut self, name: &str) {
        let node = self.targets.get(name).and_then(|it| it.node.as_ref());
        if let Some(node) = node.and_then(|it| self.nodes.get_mut(it)) {
            node.targets.remove(name);
        }
    }

    pub(crate) fn delete_target(&mut self, name: &str) {
        self.unlink_target(name);
        self.targets.remove(name);
        self.target_status.remove(name);
        self.target_features.remove(name);
        self.targets_dirty = true;
    }

    pub(crate) fn any_lost(&self) -> bool {
        self.nodes.values().any(|it| it.lost_since.is_some())
    }
}
