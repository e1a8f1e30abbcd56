//! Instances that nodes report and nobody here placed: after the database was restored from a backup (S5).

use hale_health::Time;
use hale_model::cluster::{ObservedRecord, PlacementCause, PlacementRecord, PlacementState};

use crate::{draft::Draft, planner::Planner};

impl Planner {
    /// After the epoch rose: a node reports an instance under a generation that is not known here. When its replica is
    /// wanted and no newer placement of it is known, it is taken over under a new generation, without a restart;
    /// otherwise nothing comes of it, and the node is to be told that the generation is not wanted.
    ///
    /// Report everything that nodes found running before they are told what is desired of them: of what they are not
    /// told they would stop what runs.
    pub fn adopt(&mut self, now: Time, reported: Box<ObservedRecord>) {
        if self.slots.contains_key(&reported.generation) {
            self.put_observed(now, reported);
        } else {
            self.last_generation = self.last_generation.max(reported.generation);
            self.reported.insert(reported.generation, reported);
        }
    }

    /// Decides on what was reported: the newest generation of a replica wins.
    pub(crate) fn decide_reported(&mut self, draft: &mut Draft) {
        // Newest first, so that an older instance of the same replica finds it placed.
        for (_, observed) in std::mem::take(&mut self.reported).into_iter().rev() {
            let Some(workload) = self.workloads.get(&observed.workload) else { continue };
            let (ordinal, wanted) = (observed.ordinal, self.wanted(&observed.workload, observed.ordinal));
            let known = self.nodes.get(&observed.node).is_some_and(|it| it.record.is_some());
            let Some(spec) = workload.spec.clone().filter(|_| known && ordinal < workload.desired()) else {
                continue;
            };
            // A placement that was taken over is as old as what it was taken over from.
            let age = |it: &u64| {
                let slot = self.slots.get(it);
                slot.and_then(|slot| slot.record.continues.first().copied()).unwrap_or(*it)
            };
            if wanted.iter().map(age).any(|it| it >= observed.generation) {
                continue;
            }
            for generation in wanted {
                self.withdraw(
                    draft,
                    generation,
                    "a node runs a newer placement of it, from before the restore",
                );
            }
            let placement = PlacementRecord {
                generation: 0,
                workload: observed.workload.clone(),
                ordinal,
                node: observed.node.clone(),
                digest: observed.digest.clone(),
                state: PlacementState::Wanted,
                placed_at: draft.wall,
                reason: "it was found running there after the database was restored".to_owned(),
                replaces: None,
                cause: PlacementCause::Continued,
                moves: 0,
                continues: vec![observed.generation],
                fence_ms: spec.fence_ms(),
            };
            self.adopt_instance(draft, placement, observed);
        }
    }

    /// What was observed of a generation that is neither placed nor reported by a node belongs to nothing.
    pub(crate) fn forget_orphans(&mut self, draft: &mut Draft) {
        let orphans: Vec<u64> = self.orphans.keys().copied().collect();
        for generation in orphans {
            self.forget(draft, generation);
        }
    }
}
