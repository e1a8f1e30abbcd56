//! Where a replica may run, and where best (S7): filters that say no, then a score by which the rest are ordered.

use std::collections::{BTreeMap, BTreeSet};

use hale_model::cluster::{FailureMemory, NodeCondition, Scheduling};
use jiff::Timestamp;

use crate::{
    node::{Load, Node},
    planner::Planner,
    workload::{Demand, Spec},
};

/// What is said of a node for one replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may not run there.
    No {
        /// The filter that says so: `lost`, `cordoned`, `features`, `port`, …
        filter: &'static str,
        /// In words.
        why: String,
    },
    /// It may; the smallest score is the best.
    Yes(Score),
}

/// How well a replica would be placed on a node: compared field by field, smaller is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score {
    /// What the node is blamed for with this workload, decayed to now, rounded.
    pub failures: u32,
    /// Other replicas of the workload in its region.
    pub in_region: u32,
    /// Other replicas of the workload in its zone.
    pub in_zone: u32,
    /// Other replicas of the workload on it.
    pub on_node: u32,
    /// How much of its CPUs or memory would be taken, in twentieths; 0 where it is not known.
    pub taken: u32,
    /// Replicas on it.
    pub replicas: u32,
    /// By the names of replica and node: so that ties are always broken the same way, and not by the alphabet.
    pub tie: u64,
}

/// One replica that looks for a node.
pub(crate) struct Ask<'a> {
    pub(crate) workload: &'a str,
    pub(crate) ordinal: u32,
    pub(crate) spec: &'a Spec,
    /// Not on this one.
    pub(crate) not_on: Option<&'a str>,
    /// As if this placement were gone.
    pub(crate) ignoring: Option<u64>,
    pub(crate) wall: Timestamp,
}

/// Where the other replicas of a workload are.
#[derive(Default)]
pub(crate) struct Spread<'a> {
    regions: BTreeMap<&'a str, u32>,
    zones: BTreeMap<(&'a str, &'a str), u32>,
    nodes: BTreeMap<&'a str, u32>,
    /// Where the replica itself serves: a node runs one instance of a replica at a time, and would stop the old one
    /// before the new one is there.
    own: BTreeSet<&'a str>,
}

impl Planner {
    /// The best node and why, or why there is none.
    pub(crate) fn choose(&self, ask: &Ask<'_>) -> Result<(String, String), String> {
        let spread = self.spread(ask);
        let unknown = self.unknown_features(ask.spec);
        let mut best: Option<(Score, &str)> = None;
        let (mut fit, mut all) = (0, 0);
        let mut against: BTreeMap<String, u32> = BTreeMap::new();
        for (name, node) in self.nodes.iter().filter(|(_, it)| it.record.is_some()) {
            all += 1;
            match self.verdict(ask, &spread, &unknown, name, node) {
                Verdict::Yes(score) => {
                    fit += 1;
                    if best.is_none_or(|(it, _)| score < it) {
                        best = Some((score, name));
                    }
                }
                Verdict::No { why, .. } => *against.entry(why).or_default() += 1,
            }
        }
        match best {
            Some((score, name)) => {
                Ok((name.to_owned(), format!("{fit} of {all} nodes fit; here {}", score.words())))
            }
            None if all == 0 => Err("there is no node".to_owned()),
            None => {
                let against: Vec<_> = against.iter().map(|(why, count)| format!("{count} {why}")).collect();
                Err(format!("0 of {all} nodes fit: {}", against.join(", ")))
            }
        }
    }

    /// Counts the other replicas of the workload, without those on lost nodes; and finds where this one serves.
    pub(crate) fn spread<'a>(&'a self, ask: &Ask<'_>) -> Spread<'a> {
        let mut spread = Spread::default();
        let Some(workload) = self.workloads.get(ask.workload) else { return spread };
        let own =
            workload.replicas.get(&ask.ordinal).into_iter().flatten().filter(|it| Some(**it) != ask.ignoring);
        let serving = own.filter_map(|it| self.slots.get(it)).filter(|it| it.serving());
        spread.own = serving.map(|it| it.record.node.as_str()).collect();
        let others = workload.replicas.iter().filter(|(ordinal, _)| **ordinal != ask.ordinal);
        for slot in others.flat_map(|(_, it)| it).filter_map(|it| self.slots.get(it)) {
            let Some(node) = self.nodes.get(&slot.record.node) else { continue };
            let Some(record) = node.record.as_ref().filter(|_| slot.record.wanted() && !node.lost()) else {
                continue;
            };
            let (region, zone) = (record.facts.region.as_str(), record.facts.zone.as_str());
            *spread.regions.entry(region).or_default() += 1;
            *spread.zones.entry((region, zone)).or_default() += 1;
            *spread.nodes.entry(slot.record.node.as_str()).or_default() += 1;
        }
        spread
    }

    /// Of each set of features that agents know, the first that a declaration needs and is not in it.
    pub(crate) fn unknown_features<'a>(&self, spec: &'a Spec) -> Vec<Option<&'a str>> {
        let first = |known: &BTreeSet<String>| spec.features.iter().find(|it| !known.contains(*it));
        self.feature_sets.iter().map(|known| first(known).map(String::as_str)).collect()
    }

    pub(crate) fn verdict(
        &self,
        ask: &Ask<'_>,
        spread: &Spread<'_>,
        unknown: &[Option<&str>],
        name: &str,
        node: &Node,
    ) -> Verdict {
        let no = |filter, why: String| Verdict::No { filter, why };
        if let Some((filter, why)) = node_refuses(node) {
            return no(filter, why.to_owned());
        }
        let Some(record) = &node.record else { return no("unknown", "unknown".to_owned()) };
        if ask.not_on == Some(name) {
            return no("same", "is where it does not run well".to_owned());
        }
        if spread.own.contains(name) {
            return no("own", "where it runs already".to_owned());
        }
        let facts = &record.facts;
        let selector = &ask.spec.declared.node_selector;
        if let Some((key, value)) =
            selector.iter().find(|(key, value)| facts.labels.get(*key) != Some(*value))
        {
            return no("labels", format!("without the label {key}={value}"));
        }
        if !facts.runtimes.contains(ask.spec.runtime()) {
            return no("runtime", without(ask.spec.runtime()));
        }
        if let Some(feature) = unknown.get(node.features).copied().flatten() {
            return no("features", format!("whose agent does not know {feature}"));
        }
        let ignored = ask.ignoring.and_then(|it| self.slots.get(&it)).filter(|it| it.record.node == name);
        let mut load = std::borrow::Cow::Borrowed(&node.load);
        if let Some(slot) = ignored {
            load.to_mut().remove(&slot.demand);
        }
        let demand = &ask.spec.demand;
        if let Some(port) = demand.ports.iter().find(|it| load.ports.contains_key(it)) {
            return no("port", format!("where port {port} is taken"));
        }
        let (cpu, memory) = (capacity(facts.cpu), facts.memory);
        if demand.cpu > 0 && cpu > 0 && load.cpu + demand.cpu > cpu {
            return no("cpu", "with too little CPU".to_owned());
        }
        if demand.memory > 0 && memory > 0 && load.memory + demand.memory > memory {
            return no("memory", "with too little memory".to_owned());
        }
        let blamed = record.failures.get(ask.workload);
        let (region, zone) = (facts.region.as_str(), facts.zone.as_str());
        Verdict::Yes(Score {
            failures: blamed.map_or(0, |it| round(self.decayed(it, ask.wall))),
            in_region: spread.regions.get(region).copied().unwrap_or_default(),
            in_zone: spread.zones.get(&(region, zone)).copied().unwrap_or_default(),
            on_node: spread.nodes.get(name).copied().unwrap_or_default(),
            taken: taken(&load, demand, cpu, memory),
            replicas: load.count,
            tie: tie(ask.workload, ask.ordinal, name),
        })
    }

    /// What is left of a blame: half of it after each half-life (S7).
    pub(crate) fn decayed(&self, memory: &FailureMemory, wall: Timestamp) -> f64 {
        let age = wall.duration_since(memory.at).as_secs_f64().max(0.0);
        memory.weight * 0.5_f64.powf(age / self.options.failure_half_life.as_secs_f64().max(1.0))
    }
}

/// Why a node that lacks a runtime takes no replica of it.
fn without(runtime: &str) -> String {
    match runtime {
        // Agents of a release that knows containers register the runtime while an engine answers them.
        "container" => "where no container engine answers".to_owned(),
        other => format!("without the {other} runtime"),
    }
}

/// Why a node takes no replica at all.
pub(crate) fn node_refuses(node: &Node) -> Option<(&'static str, &'static str)> {
    match (node.condition(), node.scheduling()) {
        (NodeCondition::Lost, _) => Some(("lost", "lost")),
        (NodeCondition::Suspect, _) => Some(("suspect", "suspect")),
        (NodeCondition::Away, _) => Some(("away", "away")),
        (_, Scheduling::Cordoned) => Some(("cordoned", "cordoned")),
        (_, Scheduling::Draining) => Some(("draining", "draining")),
        _ if !node.connected() => Some(("disconnected", "not connected")),
        _ => None,
    }
}

impl Score {
    fn words(&self) -> String {
        let mut words = vec![
            format!("{} others in its zone", self.in_zone),
            format!("{} on the node", self.on_node),
            format!("{} replicas on it in all", self.replicas),
        ];
        if self.failures > 0 {
            words.insert(0, format!("it failed here {}×", self.failures));
        }
        words.join(", ")
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn capacity(cpu: f64) -> u64 {
    (cpu * 1000.0).floor() as u64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn round(weight: f64) -> u32 {
    weight.round() as u32
}

/// The larger share of CPUs and memory that would be taken, in twentieths.
fn taken(load: &Load, demand: &Demand, cpu: u64, memory: u64) -> u32 {
    let share = |used: u64, of: u64| used.saturating_mul(20).checked_div(of).unwrap_or_default();
    let taken = share(load.cpu + demand.cpu, cpu).max(share(load.memory + demand.memory, memory));
    u32::try_from(taken).unwrap_or(u32::MAX)
}

/// FNV-1a: the same on every machine and release.
pub(crate) fn tie(workload: &str, ordinal: u32, node: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let number = ordinal.to_le_bytes();
    for byte in workload.bytes().chain([0]).chain(number).chain([0]).chain(node.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    // The last bytes of the names hardly reach the upper bits by themselves.
    hash ^= hash >> 32;
    hash.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
