//! One replica: placed, moved, replaced, withdrawn (S7–S9).

use std::{collections::BTreeSet, sync::Arc};

use hale_model::cluster::{FailureMemory, PlacementCause, PlacementRecord, PlacementState};

use crate::{candidates::Ask, draft::Draft, planner::Planner, workload::Spec};

/// The replica that is decided.
pub(crate) struct Replica {
    pub(crate) workload: String,
    pub(crate) ordinal: u32,
    pub(crate) spec: Arc<Spec>,
}

/// A placement that takes another's place, or none's.
pub(crate) struct New<'a> {
    pub(crate) cause: PlacementCause,
    pub(crate) replaces: Option<u64>,
    pub(crate) moves: u32,
    pub(crate) not_on: Option<&'a str>,
}

impl Planner {
    pub(crate) fn decide_workload(&mut self, draft: &mut Draft, name: &str) {
        let Some(workload) = self.workloads.get(name) else { return };
        if let (Some(_), None) = (&workload.record, &workload.spec) {
            let reason = "this release of the server does not understand its declaration".to_owned();
            self.nowhere(draft, name, 0, reason);
            return;
        }
        let (desired, spec) = (workload.desired(), workload.spec.clone());
        let ordinals: BTreeSet<u32> = workload.replicas.keys().copied().chain(0..desired).collect();
        for ordinal in ordinals {
            self.forget_where_nodes_are_gone(draft, name, ordinal);
            match &spec {
                Some(spec) if ordinal < desired => {
                    let replica = Replica { workload: name.to_owned(), ordinal, spec: Arc::clone(spec) };
                    self.decide_replica(draft, &replica);
                }
                _ => {
                    let reason =
                        if spec.is_some() { "scaled down" } else { "its workload is no longer wanted" };
                    for generation in self.wanted(name, ordinal) {
                        self.withdraw(draft, generation, reason);
                    }
                }
            }
        }
        if let Some(spec) = spec {
            self.decide_update(draft, name, &spec);
        }
    }

    /// Wanted generations of a replica, oldest first.
    pub(crate) fn wanted(&self, name: &str, ordinal: u32) -> Vec<u64> {
        let generations = self.workloads.get(name).and_then(|it| it.replicas.get(&ordinal));
        let wanted = |it: &u64| self.slots.get(it).is_some_and(|slot| slot.record.wanted());
        generations.into_iter().flatten().copied().filter(wanted).collect()
    }

    /// A node that was deleted is believed to be gone with all that ran on it: a person said so.
    fn forget_where_nodes_are_gone(&mut self, draft: &mut Draft, name: &str, ordinal: u32) {
        let generations = self.workloads.get(name).and_then(|it| it.replicas.get(&ordinal));
        let gone = |it: &u64| {
            let node = self.slots.get(it).and_then(|slot| self.nodes.get(&slot.record.node));
            node.is_none_or(|it| it.record.is_none())
        };
        let gone: Vec<u64> = generations.into_iter().flatten().copied().filter(gone).collect();
        for generation in gone {
            self.forget(draft, generation);
        }
    }

    fn decide_replica(&mut self, draft: &mut Draft, replica: &Replica) {
        let mut wanted = self.wanted(&replica.workload, replica.ordinal);
        // Only one may stand beside another, to take its place; of strangers the newest stays.
        while let [.., older, newer] = wanted[..] {
            let related = self.slots.get(&newer).is_some_and(|it| it.record.replaces == Some(older));
            if wanted.len() == 2 && related {
                break;
            }
            let surplus = if related { wanted[0] } else { older };
            wanted.retain(|it| *it != surplus);
            self.withdraw(draft, surplus, "another placement of the same replica is newer");
        }
        match wanted[..] {
            [] => self.decide_missing(draft, replica),
            [one] => self.decide_one(draft, replica, one),
            [old, new, ..] => self.decide_pair(draft, replica, old, new),
        }
    }

    fn decide_missing(&mut self, draft: &mut Draft, replica: &Replica) {
        let Some(workload) = self.workloads.get(&replica.workload) else { return };
        // The one before it is still on its way out, on a node that will say when it is gone.
        let leaving = workload.replicas.get(&replica.ordinal).into_iter().flatten();
        let leaving = leaving.filter_map(|it| self.slots.get(it));
        if leaving.filter_map(|it| self.nodes.get(&it.record.node)).any(|it| !it.lost()) {
            return;
        }
        let updating = workload.record.as_ref().is_some_and(|it| it.previous.is_some());
        let cause = if updating { PlacementCause::Updated } else { PlacementCause::Wanted };
        self.place_new(draft, replica, &New { cause, replaces: None, moves: 0, not_on: None });
    }

    /// Places it on the best node; `None`: it must wait, or no node takes it, which is told.
    pub(crate) fn place_new(&mut self, draft: &mut Draft, replica: &Replica, new: &New<'_>) -> Option<()> {
        if let Some(until) = self.fenced_until(&replica.workload, replica.ordinal)
            && draft.now < until
        {
            self.wake(&replica.workload, until);
            return None;
        }
        let ask = Ask {
            workload: &replica.workload,
            ordinal: replica.ordinal,
            spec: &replica.spec,
            not_on: new.not_on,
            ignoring: None,
            wall: draft.wall,
        };
        match self.choose(&ask) {
            Ok((node, reason)) => {
                self.place(
                    draft,
                    PlacementRecord {
                        generation: 0,
                        workload: replica.workload.clone(),
                        ordinal: replica.ordinal,
                        node,
                        digest: replica.spec.digest.clone(),
                        state: PlacementState::Wanted,
                        placed_at: draft.wall,
                        reason,
                        replaces: new.replaces,
                        cause: new.cause,
                        moves: new.moves,
                        continues: Vec::new(),
                        fence_ms: replica.spec.fence_ms(),
                    },
                );
                Some(())
            }
            Err(why) => {
                self.nowhere(draft, &replica.workload, replica.ordinal, why);
                None
            }
        }
    }

    fn decide_one(&mut self, draft: &mut Draft, replica: &Replica, one: u64) {
        let Some(slot) = self.slots.get(&one) else { return };
        let trouble = match self.trouble(draft.now, draft.wall, &replica.spec, slot) {
            Ok(trouble) => trouble,
            Err(look_again) => {
                self.all_well(replica, look_again);
                return;
            }
        };
        let Some(at) = trouble.at.filter(|_| self.braked.is_none()) else { return };
        if draft.now < at {
            self.wake(&replica.workload, at);
            return;
        }
        let (serving, node, moves, fenced) =
            (slot.serving(), slot.record.node.clone(), slot.record.moves, slot.record.fence_ms.is_some());
        let stopped = self.workloads.get(&replica.workload).is_some_and(|it| it.stopped(replica.ordinal));
        let moved = matches!(trouble.cause, PlacementCause::Failed | PlacementCause::Unhealthy);
        let new = New {
            cause: trouble.cause,
            replaces: Some(one),
            moves: if moved { self.moves_after(one, moves) } else { moves },
            not_on: moved.then_some(node.as_str()),
        };
        if self.place_new(draft, replica, &new).is_none() {
            return;
        }
        if moved {
            self.blame_node(draft, &node, &replica.workload);
        }
        // Where a lost node stops it by itself it has done so by now, and it must not begin again when it is heard of.
        // Otherwise it runs on until the new one is ready (S8, S9).
        let give_up_now = match trouble.cause {
            PlacementCause::NodeLost => fenced,
            _ => !serving || stopped,
        };
        if give_up_now {
            self.withdraw(draft, one, reason_of(trouble.cause));
        }
    }

    /// Nothing is wrong with it (any more).
    fn all_well(&mut self, replica: &Replica, look_again: Option<hale_health::Time>) {
        if let Some(at) = look_again {
            self.wake(&replica.workload, at);
        }
        if let Some(workload) = self.workloads.get_mut(&replica.workload) {
            workload.nowhere.remove(&replica.ordinal);
        }
    }

    /// How often it has been moved in a row, with this move.
    fn moves_after(&self, generation: u64, moves: u32) -> u32 {
        let forgiven = self.slots.get(&generation).is_some_and(|it| it.forgiven);
        if forgiven { 1 } else { moves.saturating_add(1) }
    }

    fn decide_pair(&mut self, draft: &mut Draft, replica: &Replica, old: u64, new: u64) {
        let Some(new_slot) = self.slots.get(&new) else { return };
        let cause = new_slot.record.cause;
        match self.good(draft.now, &replica.spec, new_slot) {
            Ok(()) if new_slot.record.digest == replica.spec.digest => {
                self.withdraw(draft, old, reason_of(cause));
                return;
            }
            Ok(()) => {}
            Err(at) => {
                if let Some(at) = at {
                    self.wake(&replica.workload, at);
                }
            }
        }
        let (Some(old_slot), Some(new_slot)) = (self.slots.get(&old), self.slots.get(&new)) else { return };
        let outdated = self.outdated(&replica.spec, &old_slot.record.digest);
        let trouble = self.trouble(draft.now, draft.wall, &replica.spec, old_slot);
        let well = match cause {
            PlacementCause::Failed | PlacementCause::Unhealthy => old_slot.ready(),
            _ => true,
        };
        if trouble.is_err() && !outdated && well {
            self.withdraw(draft, new, "what it was to replace is well again");
            if cause == PlacementCause::NodeLost {
                self.regrant(draft, old, |it| {
                    "its node came back before its replacement was ready".clone_into(&mut it.reason)
                });
            }
            return;
        }
        if new_slot.record.digest != replica.spec.digest {
            let (replaces, moves) = (Some(old), new_slot.record.moves);
            self.withdraw(draft, new, "its declaration has changed again");
            self.place_new(
                draft,
                replica,
                &New { cause: PlacementCause::Updated, replaces, moves, not_on: None },
            );
            return;
        }
        self.replace_replacement(draft, replica, old, new);
    }

    /// A replacement that does not come up is itself replaced; what it was to replace stays meanwhile.
    fn replace_replacement(&mut self, draft: &mut Draft, replica: &Replica, old: u64, new: u64) {
        let Some(slot) = self.slots.get(&new) else { return };
        let trouble = match self.trouble(draft.now, draft.wall, &replica.spec, slot) {
            Ok(trouble) => trouble,
            Err(look_again) => {
                if let Some(at) = look_again {
                    self.wake(&replica.workload, at);
                }
                return;
            }
        };
        let Some(at) = trouble.at.filter(|_| self.braked.is_none()) else { return };
        if draft.now < at {
            self.wake(&replica.workload, at);
            return;
        }
        // A new declaration that does not come up is for the update to take back.
        let may_go_back = self.workloads.get(&replica.workload).and_then(|it| it.record.as_ref());
        let may_go_back = may_go_back
            .is_some_and(|it| it.previous.is_some() && replica.spec.declared.rollout.auto_rollback);
        if slot.record.cause == PlacementCause::Updated
            && trouble.cause == PlacementCause::Unhealthy
            && may_go_back
        {
            return;
        }
        let (node, moves) = (slot.record.node.clone(), slot.record.moves);
        let moved = matches!(trouble.cause, PlacementCause::Failed | PlacementCause::Unhealthy);
        let another = New {
            cause: slot.record.cause,
            replaces: Some(old),
            moves: if moved { self.moves_after(new, moves) } else { moves },
            not_on: moved.then_some(node.as_str()),
        };
        if self.place_new(draft, replica, &another).is_some() {
            if moved {
                self.blame_node(draft, &node, &replica.workload);
            }
            self.withdraw(draft, new, reason_of(trouble.cause));
        }
    }

    /// Remembers that a workload failed on a node; what was there before has decayed (S7).
    fn blame_node(&mut self, draft: &mut Draft, node: &str, workload: &str) {
        let Some(record) = self.nodes.get(node).and_then(|it| it.record.as_ref()) else { return };
        let mut failures = record.failures.clone();
        let before = failures.get(workload).map_or(0.0, |it| self.decayed(it, draft.wall));
        // What has decayed to nothing, and what is no longer wanted, is forgotten.
        failures.retain(|name, it| self.decayed(it, draft.wall) >= 0.1 && self.workloads.contains_key(name));
        failures.insert(workload.to_owned(), FailureMemory { weight: before + 1.0, at: draft.wall });
        self.blame(draft, node, failures);
    }
}

/// Why a placement is withdrawn.
const fn reason_of(cause: PlacementCause) -> &'static str {
    match cause {
        PlacementCause::Wanted | PlacementCause::Continued => "it was replaced",
        PlacementCause::NodeLost => "its node was lost, and it runs elsewhere",
        PlacementCause::Failed => "it was given up here, and is placed elsewhere",
        PlacementCause::Unhealthy => "it was not well here for too long, and is placed elsewhere",
        PlacementCause::NodeDrained => "its node is drained, and it runs elsewhere",
        PlacementCause::Updated => "its declaration changed",
    }
}
