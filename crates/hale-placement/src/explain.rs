//! Why a replica is where it is, or why it is nowhere (S7): for `hale explain`.

use std::fmt;

use hale_health::Time;
use hale_model::cluster::{PlacementCause, PlacementState};
use jiff::Timestamp;

use crate::{
    candidates::{Ask, Verdict},
    planner::Planner,
};

/// What decisions know of a replica.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// `web-0`.
    pub replica: String,
    /// Where it is placed, oldest first: more than one while it moves.
    pub placements: Vec<Placed>,
    /// Why it is nowhere, or stays where it is not well.
    pub waits: Option<String>,
    /// What is said of each node for this replica now, the best first, then those that refuse, by name.
    pub nodes: Vec<NodeExplanation>,
}

/// One placement of a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Its generation.
    pub generation: u64,
    /// Where.
    pub node: String,
    /// What made it be placed.
    pub cause: PlacementCause,
    /// What spoke for this node then.
    pub reason: String,
    /// Why it is on its way out, if it is.
    pub withdrawn: Option<String>,
    /// Whether its node is not heard of, so that it may run there unseen (S9).
    pub possibly_running: bool,
}

/// What is said of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeExplanation {
    /// Which.
    pub node: String,
    /// What.
    pub verdict: Verdict,
}

impl Planner {
    /// Why a replica is where it is, or nowhere. `None`: there is no such workload.
    #[must_use]
    pub fn explain(&self, now: Time, wall: Timestamp, workload: &str, ordinal: u32) -> Option<Explanation> {
        let it = self.workloads.get(workload)?;
        let generations = it.replicas.get(&ordinal).into_iter().flatten();
        let slots = generations.filter_map(|generation| self.slots.get(generation));
        let placements = slots.map(|slot| Placed {
            generation: slot.record.generation,
            node: slot.record.node.clone(),
            cause: slot.record.cause,
            reason: slot.record.reason.clone(),
            withdrawn: match &slot.record.state {
                PlacementState::Wanted => None,
                PlacementState::Withdrawn { reason, .. } => Some(reason.clone()),
            },
            possibly_running: self.nodes.get(&slot.record.node).is_none_or(|it| it.lost()),
        });
        let fenced = self.fenced_until(workload, ordinal).filter(|until| now < *until).map(|until| {
            format!("its node stops it by itself: certain in {:.0}s", until.since(now).as_secs_f64().ceil())
        });
        let braked = self.braked.map(|_| "most nodes are silent at once: nothing is moved".to_owned());
        Some(Explanation {
            replica: format!("{workload}-{ordinal}"),
            placements: placements.collect(),
            waits: it.nowhere.get(&ordinal).cloned().or(fenced).or(braked),
            nodes: self.explain_nodes(wall, workload, ordinal),
        })
    }

    fn explain_nodes(&self, wall: Timestamp, workload: &str, ordinal: u32) -> Vec<NodeExplanation> {
        let Some(spec) = self.workloads.get(workload).and_then(|it| it.spec.as_ref()) else {
            return Vec::new();
        };
        // Where it is counts as if it were to be placed anew.
        let ignoring = self.wanted(workload, ordinal).last().copied();
        let ask = Ask { workload, ordinal, spec, not_on: None, ignoring, wall };
        let spread = self.spread(&ask);
        let unknown = self.unknown_features(spec);
        let known = self.nodes.iter().filter(|(_, it)| it.record.is_some());
        let mut nodes: Vec<NodeExplanation> = known
            .map(|(name, node)| NodeExplanation {
                node: name.clone(),
                verdict: self.verdict(&ask, &spread, &unknown, name, node),
            })
            .collect();
        nodes.sort_by_key(|it| match &it.verdict {
            Verdict::Yes(score) => (0, Some(*score), it.node.clone()),
            Verdict::No { .. } => (1, None, it.node.clone()),
        });
        nodes
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.placements.is_empty() {
            writeln!(f, "{} is nowhere", self.replica)?;
        }
        for it in &self.placements {
            write!(
                f,
                "{} is on {} (generation {}, {})",
                self.replica,
                it.node,
                it.generation,
                it.cause.as_str()
            )?;
            writeln!(f, ": {}", it.reason)?;
            if let Some(why) = &it.withdrawn {
                writeln!(f, "  withdrawn: {why}")?;
            }
            if it.possibly_running {
                writeln!(f, "  its node is not heard of: it may run there unseen")?;
            }
        }
        if let Some(why) = &self.waits {
            writeln!(f, "waits: {why}")?;
        }
        for it in &self.nodes {
            match &it.verdict {
                Verdict::Yes(score) => writeln!(
                    f,
                    "  {}: fits: {} failures, {} in region, {} in zone, {} on node, {}/20 taken, {} replicas",
                    it.node,
                    score.failures,
                    score.in_region,
                    score.in_zone,
                    score.on_node,
                    score.taken,
                    score.replicas
                )?,
                Verdict::No { filter, why } => writeln!(f, "  {}: no ({filter}): {why}", it.node)?,
            }
        }
        Ok(())
    }
}
