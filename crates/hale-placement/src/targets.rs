//! Which node probes which target: one ready node each, evenly, and moved only when it must be.

use hale_model::cluster::{NodeCondition, Scheduling};

use crate::{
    action::TargetEdit,
    candidates::{node_refuses, tie},
    draft::Draft,
    planner::Planner,
};

impl Planner {
    pub(crate) fn decide_targets(&mut self, draft: &mut Draft) {
        if !std::mem::take(&mut self.targets_dirty) || self.braked.is_some() {
            return;
        }
        let homeless: Vec<String> = self
            .targets
            .values()
            .filter(|it| !self.stays(it.node.as_deref()))
            .map(|it| it.name.clone())
            .collect();
        for name in homeless {
            // Where no other takes it, it stays: its node may be back in a moment, and goes on where it was.
            let Some(node) = self.prober_for(&name).or_else(|| self.probed_by(&name)) else {
                if self.targets.get(&name).is_some_and(|it| it.node.is_some()) {
                    self.edit_target(draft, TargetEdit { name, node: None });
                }
                continue;
            };
            if self.targets.get(&name).is_some_and(|it| it.node.as_deref() != Some(&node)) {
                let node = Some(node);
                self.edit_target(draft, TargetEdit { name, node });
            }
        }
    }

    /// The node that probes it now, while there is a record of that.
    fn probed_by(&self, name: &str) -> Option<String> {
        let node = self.targets.get(name)?.node.as_deref()?;
        self.nodes.get(node).filter(|it| it.record.is_some()).map(|_| node.to_owned())
    }

    /// A target stays where it is until its node is lost, drained or gone.
    fn stays(&self, node: Option<&str>) -> bool {
        node.and_then(|it| self.nodes.get(it)).is_some_and(|it| {
            it.record.is_some()
                && it.condition() != NodeCondition::Lost
                && it.scheduling() != Scheduling::Draining
        })
    }

    /// The node with the fewest targets of those that take anything and know all its fields.
    fn prober_for(&mut self, name: &str) -> Option<String> {
        if !self.target_features.contains_key(name) {
            let features = self.targets.get(name)?.document.features();
            self.target_features.insert(name.to_owned(), features);
        }
        let features = self.target_features.get(name)?;
        let fit = self.nodes.iter().filter(|(_, it)| {
            node_refuses(it).is_none()
                && it.record.as_ref().is_some_and(|it| features.is_subset(&it.facts.features))
        });
        fit.min_by_key(|(node, it)| (it.targets.len(), tie(name, 0, node))).map(|(node, _)| node.clone())
    }
}
