//! What is wrong with a placement, whether it is enough to move it, and when.

use hale_health::{Phase, Status, Time};
use hale_model::cluster::{PlacementCause, Scheduling};
use jiff::Timestamp;

use crate::{
    planner::Planner,
    workload::{Slot, Spec, Workload},
};

/// Why a replica is to be elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) cause: PlacementCause,
    /// When it may be moved; `None`: when something else has changed.
    pub(crate) at: Option<Time>,
}

impl Planner {
    /// What is wrong with a placement. `Err`: nothing yet, and when to look again.
    pub(crate) fn trouble(
        &self,
        now: Time,
        wall: Timestamp,
        spec: &Spec,
        slot: &Slot,
    ) -> Result<Trouble, Option<Time>> {
        let Some(node) = self.nodes.get(&slot.record.node) else { return Err(None) };
        let Some(workload) = self.workloads.get(&slot.record.workload) else { return Err(None) };
        let stopped = workload.stopped(slot.record.ordinal);
        if node.lost() {
            // What a person stopped runs nowhere: it stays where it is to be started again.
            if stopped {
                return Err(None);
            }
            let due = node
                .lost_since
                .zip(spec.declared.disconnect.replace_after)
                .map(|(since, after)| since + after);
            let at = due.filter(|_| node.given_up && self.braked.is_none());
            return Ok(Trouble { cause: PlacementCause::NodeLost, at });
        }
        if node.scheduling() == Scheduling::Draining {
            return Ok(Trouble { cause: PlacementCause::NodeDrained, at: Some(now) });
        }
        if stopped || slot.ready() || slot.ended() || !node.ready() {
            return Err(None);
        }
        let since = slot.placed + self.options.move_wait(if slot.forgiven { 0 } else { slot.record.moves });
        if slot.phase() == Some(Phase::Failed) {
            return Ok(Trouble { cause: PlacementCause::Failed, at: Some(since) });
        }
        // One that runs and was ready waits for something that is not of its node's making.
        let coming = slot.phase() != Some(Phase::Running) || !slot.proven;
        if !coming {
            return Err(None);
        }
        if self.waits(workload, slot.record.ordinal, spec, wall) {
            // Nothing tells when that is over: it is looked at again.
            return Err(Some(now + self.options.lost_after()));
        }
        let deadline = slot.unready_since + spec.declared.rollout.progress_deadline;
        if now < deadline {
            return Err(Some(deadline));
        }
        Ok(Trouble { cause: PlacementCause::Unhealthy, at: Some(since.max(deadline)) })
    }

    /// Whether a person or a dependency keeps a replica from becoming ready.
    fn waits(&self, workload: &Workload, ordinal: u32, spec: &Spec, wall: Timestamp) -> bool {
        workload.paused(ordinal, wall) || self.dependency_down(spec)
    }

    /// Whether something that a workload depends on is known not to work.
    pub(crate) fn dependency_down(&self, spec: &Spec) -> bool {
        spec.declared.depends_on.iter().any(|name| match self.workloads.get(name) {
            Some(it) => {
                let wanted = it.desired() > 0 && it.record.as_ref().is_some_and(|it| it.stopped.is_none());
                wanted && self.ready_of(it) == 0
            }
            // One that is not known holds nothing (H21): another server may hear of it.
            None => self.target_status.get(name) == Some(&Status::Failing),
        })
    }

    /// Whether a placement does what is wanted of it: ready for long enough, ended on purpose, or stopped by a person.
    /// `Err`: not yet, and when it will be if nothing changes.
    pub(crate) fn good(&self, now: Time, spec: &Spec, slot: &Slot) -> Result<(), Option<Time>> {
        let stopped =
            self.workloads.get(&slot.record.workload).is_some_and(|it| it.stopped(slot.record.ordinal));
        if stopped || slot.ended() {
            return Ok(());
        }
        let lost = self.nodes.get(&slot.record.node).is_none_or(|it| it.record.is_none() || it.lost());
        match slot.ready_since.map(|since| since + spec.declared.rollout.min_ready) {
            Some(at) if at <= now && !lost => Ok(()),
            Some(at) if !lost => Err(Some(at)),
            _ => Err(None),
        }
    }

    /// Until when a copy of this replica may still run on a node that is not heard of, where it is known that it ends
    /// (S9).
    pub(crate) fn fenced_until(&self, workload: &str, ordinal: u32) -> Option<Time> {
        let generations = self.workloads.get(workload)?.replicas.get(&ordinal)?;
        let slots = generations.iter().filter_map(|it| self.slots.get(it));
        slots
            .filter_map(|slot| {
                let node =
                    self.nodes.get(&slot.record.node).filter(|it| it.record.is_some() && !it.ready())?;
                let millis = slot.record.fence_ms?;
                Some(node.fence()? + std::time::Duration::from_millis(millis))
            })
            .max()
    }
}
