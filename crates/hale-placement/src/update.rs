//! Rolling update (S11): replica by replica, the new one ready before the old one goes, and back if it never comes.

use std::{sync::Arc, time::Duration};

use hale_model::{
    cluster::{PlacementCause, RolledBack},
    event::{EventData, WorkloadRolledBack, WorkloadUpdateStalled, WorkloadUpdated},
};

use crate::{
    action::WorkloadEdit,
    candidates::Ask,
    draft::Draft,
    planner::Planner,
    replica::{New, Replica},
    workload::Spec,
};

/// How far an update has come.
#[derive(Default)]
struct Standing {
    /// Replicas of an older declaration that need a new instance.
    outdated: Vec<u32>,
    /// Replicas of the present declaration that are good.
    done: u32,
    /// Replicas on the way: the others.
    coming: u32,
}

impl Planner {
    /// Whether an instance of this declaration must make room for one of `spec`. One that is not known any more must.
    pub(crate) fn outdated(&self, spec: &Spec, digest: &str) -> bool {
        digest != spec.digest
            && self.specs.get(digest).is_none_or(|it| it.declared.takes_new_instance(&spec.declared))
    }

    pub(crate) fn decide_update(&mut self, draft: &mut Draft, name: &str, spec: &Arc<Spec>) {
        let standing = self.standing(draft, name, spec);
        let Some(record) = self.workloads.get(name).and_then(|it| it.record.as_ref()) else { return };
        let previous = record.previous.clone();
        let real = previous.as_ref().is_some_and(|it| self.outdated(spec, &it.digest));
        if standing.outdated.is_empty() && (standing.coming == 0 || !real) {
            if let Some(workload) = self.workloads.get_mut(name) {
                workload.progress = None;
            }
            if previous.is_some() {
                let (name, digest) = (name.to_owned(), spec.digest.clone());
                self.edit_workload(draft, WorkloadEdit::Updated { name, digest });
            }
            if real {
                let (digest, replicas) = (spec.digest.clone(), standing.done);
                draft.tell(name, EventData::WorkloadUpdated(WorkloadUpdated { digest, replicas }));
            }
            return;
        }
        if self.braked.is_some() || self.out_of_time(draft, name, spec, standing.done) {
            return;
        }
        let at_once = spec.declared.rollout.max_surge.max(1);
        let mut room = at_once.saturating_sub(standing.coming);
        let mut next = standing.outdated;
        next.sort_by_key(|ordinal| {
            let ready =
                self.wanted(name, *ordinal).iter().any(|it| self.slots.get(it).is_some_and(|it| it.ready()));
            (ready, *ordinal)
        });
        for ordinal in next {
            if room == 0 {
                break;
            }
            let replica = Replica { workload: name.to_owned(), ordinal, spec: Arc::clone(spec) };
            if self.update_one(draft, &replica) {
                room -= 1;
            }
        }
    }

    /// Counts; and what needs no new instance goes on under the new declaration at once.
    fn standing(&mut self, draft: &mut Draft, name: &str, spec: &Spec) -> Standing {
        let mut standing = Standing::default();
        for ordinal in 0..spec.declared.replicas {
            let wanted = self.wanted(name, ordinal);
            let Some(slot) = wanted.last().and_then(|it| self.slots.get(it)) else {
                standing.coming += 1;
                continue;
            };
            let (generation, digest) = (slot.record.generation, slot.record.digest.clone());
            if digest != spec.digest {
                if self.outdated(spec, &digest) {
                    standing.outdated.push(ordinal);
                    continue;
                }
                let reachable = self.nodes.get(&slot.record.node).is_some_and(|it| it.ready());
                if reachable && wanted.len() == 1 {
                    let fence = spec.fence_ms();
                    self.regrant(draft, generation, |it| {
                        it.digest.clone_from(&spec.digest);
                        // Its node may not have heard of a shorter time yet.
                        it.fence_ms = fence.map(|new| it.fence_ms.map_or(new, |old| old.max(new)));
                        "it goes on under the new declaration, which needs no new instance"
                            .clone_into(&mut it.reason);
                    });
                }
                standing.done += 1;
                continue;
            }
            match self.good(draft.now, spec, slot) {
                Ok(()) if wanted.len() == 1 => standing.done += 1,
                Ok(()) => standing.coming += 1,
                Err(at) => {
                    standing.coming += 1;
                    if let Some(at) = at {
                        self.wake(name, at);
                    }
                }
            }
        }
        standing
    }

    /// Whether the update makes no progress for too long; then it is taken back, or that is told once.
    fn out_of_time(&mut self, draft: &mut Draft, name: &str, spec: &Spec, done: u32) -> bool {
        let now = draft.now;
        // What it depends on is down: it is not the update that does not come up.
        let excused = self.dependency_down(spec);
        let Some(workload) = self.workloads.get_mut(name) else { return true };
        let since = match &workload.progress {
            Some((digest, before, since)) if *digest == spec.digest && *before >= done && !excused => *since,
            _ => {
                workload.progress = Some((spec.digest.clone(), done, now));
                now
            }
        };
        let rollout = &spec.declared.rollout;
        let deadline = since + rollout.progress_deadline.saturating_add(rollout.min_ready);
        if now < deadline {
            self.wake(name, deadline);
            return false;
        }
        let within = seconds(rollout.progress_deadline);
        let reason =
            format!("{done} of {} replicas, and no further one within {within}", spec.declared.replicas);
        let previous = workload.record.as_ref().and_then(|it| it.previous.clone());
        if let Some(to) = previous.filter(|_| rollout.auto_rollback) {
            let rolled_back =
                RolledBack { digest: spec.digest.clone(), at: draft.wall, reason: reason.clone() };
            let data = WorkloadRolledBack { digest: spec.digest.clone(), to: to.digest.clone(), reason };
            draft.tell(name, EventData::WorkloadRolledBack(data));
            self.edit_workload(draft, WorkloadEdit::RolledBack { name: name.to_owned(), rolled_back, to });
        } else if self.first_told(draft, name, "stalled") {
            let data = WorkloadUpdateStalled { digest: spec.digest.clone(), reason };
            draft.tell(name, EventData::WorkloadUpdateStalled(data));
        }
        true
    }

    /// Begins the update of one replica; whether it is on its way now.
    fn update_one(&mut self, draft: &mut Draft, replica: &Replica) -> bool {
        let wanted = self.wanted(&replica.workload, replica.ordinal);
        let [current] = wanted[..] else { return true };
        let Some(slot) = self.slots.get(&current) else { return false };
        let (serving, ready, moves) = (slot.serving(), slot.ready(), slot.record.moves);
        let lost = self.nodes.get(&slot.record.node).is_none_or(|it| it.lost());
        if lost && slot.record.fence_ms.is_some() {
            // It is replaced when its node has stopped it for certain (S9).
            return false;
        }
        let reason = "its declaration changed";
        if !serving && !lost {
            self.withdraw(draft, current, reason);
            return true;
        }
        let ask = |ignoring| Ask {
            workload: &replica.workload,
            ordinal: replica.ordinal,
            spec: &replica.spec,
            not_on: None,
            ignoring,
            wall: draft.wall,
        };
        let beside = self.choose(&ask(None)).is_ok();
        if beside && replica.spec.declared.rollout.max_surge > 0 {
            let new = New { cause: PlacementCause::Updated, replaces: Some(current), moves, not_on: None };
            return self.place_new(draft, replica, &new).is_some();
        }
        // There is no room beside it: it goes first, if enough others are ready.
        match self.choose(&ask(Some(current))) {
            Ok(_) => {
                let left = self.workloads.get(&replica.workload).map_or(0, |it| self.ready_of(it));
                let enough = !ready || left > replica.spec.min_available();
                if enough {
                    self.withdraw(draft, current, reason);
                } else if replica.spec.min_available() >= replica.spec.declared.replicas {
                    let why =
                        "minAvailable leaves none to spare, and no other node has room beside it".to_owned();
                    self.nowhere(draft, &replica.workload, replica.ordinal, why);
                }
                enough
            }
            Err(why) => {
                self.nowhere(draft, &replica.workload, replica.ordinal, why);
                false
            }
        }
    }
}

fn seconds(it: Duration) -> String {
    format!("{}s", it.as_secs_f64())
}
