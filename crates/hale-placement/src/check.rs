//! What must hold of every plan, checked apart from what made it.

use std::collections::BTreeMap;

use hale_health::Time;
use hale_model::cluster::Scheduling;

use crate::{
    action::{Action, Plan},
    planner::Planner,
};

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub rule: &'static str,
    /// Where.
    pub detail: String,
}

/// What is wrong with a plan and with the planner's view after it; nothing, unless there is a bug. For tests and
/// simulations: it costs as much as the cluster is large.
#[must_use]
pub fn check(planner: &Planner, now: Time, plan: &Plan) -> Vec<Broken> {
    let mut broken = Vec::new();
    check_replicas(planner, &mut broken);
    check_nodes(planner, &mut broken);
    for action in &plan.actions {
        match action {
            Action::Place(record) => check_placed(planner, now, record.generation, &mut broken),
            Action::Withdraw(record) => check_withdrawn(planner, record.generation, &mut broken),
            _ => {}
        }
    }
    broken
}

/// At most two placements of a replica are wanted, and then one is to replace the other.
fn check_replicas(planner: &Planner, broken: &mut Vec<Broken>) {
    for (name, workload) in &planner.workloads {
        for ordinal in workload.replicas.keys() {
            let related = match planner.wanted(name, *ordinal)[..] {
                [] | [_] => true,
                [old, new] => planner.slots.get(&new).is_some_and(|it| it.record.replaces == Some(old)),
                _ => false,
            };
            if !related {
                broken.push(Broken { rule: "one of each", detail: format!("{name}-{ordinal}") });
            }
        }
    }
}

/// The books of every node balance, and no fixed port is given twice to what is wanted.
fn check_nodes(planner: &Planner, broken: &mut Vec<Broken>) {
    let mut ports: BTreeMap<(&str, u16), u32> = BTreeMap::new();
    let mut loads: BTreeMap<&str, crate::node::Load> = BTreeMap::new();
    for slot in planner.slots.values() {
        loads.entry(&slot.record.node).or_default().add(&slot.demand);
        for port in slot.demand.ports.iter().filter(|_| slot.record.wanted()) {
            *ports.entry((&slot.record.node, *port)).or_default() += 1;
        }
    }
    for ((node, port), _) in ports.into_iter().filter(|(_, count)| *count > 1) {
        broken.push(Broken { rule: "a port once", detail: format!("{port} on {node}") });
    }
    for (name, node) in &planner.nodes {
        if node.load != loads.remove(name.as_str()).unwrap_or_default() {
            broken.push(Broken { rule: "books balance", detail: name.clone() });
        }
    }
}

/// New placements are on nodes that are ready and open, know what they need, and never beside a copy that may still
/// run where `stopAfter` promises that there are never two (S9).
fn check_placed(planner: &Planner, now: Time, generation: u64, broken: &mut Vec<Broken>) {
    let Some(slot) = planner.slots.get(&generation) else { return };
    let record = &slot.record;
    let mut no = |rule, detail: String| broken.push(Broken { rule, detail });
    let Some(node) = planner.nodes.get(&record.node) else {
        return no("a node that is there", record.node.clone());
    };
    if !node.ready() || node.scheduling() != Scheduling::Open {
        no("ready nodes only", format!("{generation} on {}", record.node));
    }
    let facts = node.record.as_ref().map(|it| &it.facts);
    if let (Some(spec), Some(facts)) = (planner.specs.get(&record.digest), facts)
        && !spec.features.is_subset(&facts.features)
    {
        no("features are known", format!("{generation} on {}", record.node));
    }
    if planner.fenced_until(&record.workload, record.ordinal).is_some_and(|until| now < until) {
        no("never two", format!("{}-{}", record.workload, record.ordinal));
    }
}

/// A ready replica goes only when it is not wanted, when another of it is ready, or when an update or a drain leaves
/// enough others.
fn check_withdrawn(planner: &Planner, generation: u64, broken: &mut Vec<Broken>) {
    let Some(slot) = planner.slots.get(&generation).filter(|it| it.ready()) else { return };
    let record = &slot.record;
    let node_lost = planner.nodes.get(&record.node).is_none_or(|it| it.lost());
    let Some(workload) = planner.workloads.get(&record.workload) else { return };
    let wanted = record.ordinal < workload.desired() && !workload.stopped(record.ordinal);
    if !wanted || node_lost {
        return;
    }
    let others = planner.wanted(&record.workload, record.ordinal);
    let another = others.iter().filter_map(|it| planner.slots.get(it)).any(|it| it.ready());
    let minimum = workload.spec.as_ref().map_or(0, |it| it.min_available());
    if !another && planner.ready_of(workload) < minimum {
        let detail = format!("{generation} of {}-{}", record.workload, record.ordinal);
        broken.push(Broken { rule: "ready ones stay", detail });
    }
}
