//! A plan in the making: every change goes through here, so that the planner's view and the plan say the same.

use std::collections::BTreeMap;

use hale_health::Time;
use hale_model::{
    cluster::{
        FailureMemory, NodeCondition, ObservedRecord, PlacementCause, PlacementRecord, PlacementState,
        WorkloadRecord,
    },
    event::{EventData, Instance, NewEvent, ReplicaPlaced, ReplicaUnplaceable, ReplicaWithdrawn},
};
use jiff::Timestamp;

use crate::{
    action::{Action, Before, NodeEdit, Plan, Regranted, TargetEdit, WorkloadEdit},
    input::{Key, Noun},
    planner::Planner,
};

/// Who tells of decisions.
const SOURCE: &str = "/server";

/// See the module.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) now: Time,
    pub(crate) wall: Timestamp,
    actions: Vec<Action>,
    before: Vec<Before>,
    numbered: bool,
}

impl Draft {
    pub(crate) const fn new(now: Time, wall: Timestamp) -> Self {
        Self { now, wall, actions: Vec::new(), before: Vec::new(), numbered: false }
    }

    pub(crate) fn finish(mut self, last_generation: u64) -> Plan {
        self.before.reverse();
        Plan {
            actions: self.actions,
            last_generation: self.numbered.then_some(last_generation),
            before: self.before,
        }
    }

    pub(crate) fn tell(&mut self, subject: impl Into<String>, data: EventData) {
        self.actions.push(Action::Event(Box::new(NewEvent {
            time: self.wall,
            source: SOURCE.to_owned(),
            subject: subject.into(),
            data,
        })));
    }
}

fn instance(record: &PlacementRecord, observed: Option<&ObservedRecord>) -> Instance {
    Instance {
        workload: record.workload.clone(),
        node: record.node.clone(),
        runtime: observed.map(|it| it.runtime.clone()).unwrap_or_default(),
        pid: observed.and_then(|it| it.pid),
        container_id: observed.and_then(|it| it.container_id.clone()),
        generation: record.generation,
        incarnation: observed.map(|it| it.incarnation).unwrap_or_default(),
    }
}

fn replica_name(record: &PlacementRecord) -> String {
    format!("{}-{}", record.workload, record.ordinal)
}

impl Planner {
    fn next_generation(&mut self, draft: &mut Draft) -> u64 {
        if !draft.numbered {
            draft.numbered = true;
            draft.before.push(Before::LastGeneration(self.last_generation));
        }
        self.last_generation += 1;
        self.last_generation
    }

    /// A new placement; its generation is given here.
    pub(crate) fn place(&mut self, draft: &mut Draft, mut record: PlacementRecord) {
        record.generation = self.next_generation(draft);
        draft.before.push(Before::AbsentPlacement(record.generation));
        draft.tell(
            replica_name(&record),
            EventData::ReplicaPlaced(ReplicaPlaced {
                instance: instance(&record, None),
                cause: record.cause,
                reason: record.reason.clone(),
                replaces: record.replaces,
            }),
        );
        draft.actions.push(Action::Place(record.clone()));
        self.put(draft.now, draft.wall, Noun::Placement(record));
    }

    pub(crate) fn withdraw(&mut self, draft: &mut Draft, generation: u64, reason: &str) {
        let Some(slot) = self.slots.get(&generation) else { return };
        let mut record = slot.record.clone();
        draft.before.push(Before::Was(Noun::Placement(record.clone())));
        record.state = PlacementState::Withdrawn { at: draft.wall, reason: reason.to_owned() };
        let data = ReplicaWithdrawn {
            instance: instance(&record, slot.observed.as_deref()),
            reason: reason.to_owned(),
        };
        draft.tell(replica_name(&record), EventData::ReplicaWithdrawn(data));
        draft.actions.push(Action::Withdraw(record.clone()));
        self.put(draft.now, draft.wall, Noun::Placement(record));
    }

    /// Gives an instance that runs on a new generation, in which `change` may differ.
    pub(crate) fn regrant(
        &mut self,
        draft: &mut Draft,
        generation: u64,
        change: impl FnOnce(&mut PlacementRecord),
    ) {
        let Some(slot) = self.slots.get(&generation) else { return };
        let (old, observed) = (slot.record.clone(), slot.observed.clone());
        let mut placement = old.clone();
        placement.cause = PlacementCause::Continued;
        placement.state = PlacementState::Wanted;
        placement.placed_at = draft.wall;
        placement.replaces = None;
        placement.continues.push(generation);
        let excess = placement.continues.len().saturating_sub(MOST_CONTINUED);
        placement.continues.drain(..excess);
        change(&mut placement);
        placement.generation = self.next_generation(draft);
        draft.before.extend(observed.clone().map(|it| Before::Was(Noun::Observed(it))));
        draft.before.push(Before::Was(Noun::Placement(old)));
        draft.before.push(Before::AbsentPlacement(placement.generation));
        let observed = observed.map(|mut it| {
            it.generation = placement.generation;
            it
        });
        self.carry_on(draft, generation, placement.clone(), observed.clone());
        draft.actions.push(Action::Regrant(Box::new(Regranted {
            from: vec![generation],
            placement,
            observed,
        })));
    }

    /// An instance that nobody knew of becomes a placement (S5).
    pub(crate) fn adopt_instance(
        &mut self,
        draft: &mut Draft,
        mut placement: PlacementRecord,
        mut observed: Box<ObservedRecord>,
    ) {
        let unknown = observed.generation;
        draft.before.push(Before::Reported(observed.clone()));
        placement.generation = self.next_generation(draft);
        draft.before.push(Before::AbsentPlacement(placement.generation));
        observed.generation = placement.generation;
        draft.tell(
            replica_name(&placement),
            EventData::ReplicaPlaced(ReplicaPlaced {
                instance: instance(&placement, Some(&observed)),
                cause: placement.cause,
                reason: placement.reason.clone(),
                replaces: None,
            }),
        );
        self.put(draft.now, draft.wall, Noun::Placement(placement.clone()));
        self.put(draft.now, draft.wall, Noun::Observed(observed.clone()));
        draft.actions.push(Action::Regrant(Box::new(Regranted {
            from: vec![unknown],
            placement,
            observed: Some(observed),
        })));
    }

    /// The view after a regrant: what is known of the instance stays known.
    fn carry_on(
        &mut self,
        draft: &Draft,
        from: u64,
        placement: PlacementRecord,
        observed: Option<Box<ObservedRecord>>,
    ) {
        let known = self.slots.get(&from).map(|it| (it.ready_since, it.unready_since, it.proven));
        self.delete(draft.now, Key::Placement(from));
        let to = placement.generation;
        self.put(draft.now, draft.wall, Noun::Placement(placement));
        if let Some(observed) = observed {
            self.put(draft.now, draft.wall, Noun::Observed(observed));
        }
        if let (Some(slot), Some(known)) = (self.slots.get_mut(&to), known) {
            (slot.ready_since, slot.unready_since, slot.proven) = known;
        }
    }

    pub(crate) fn forget(&mut self, draft: &mut Draft, generation: u64) {
        if let Some(observed) = self.orphans.remove(&generation) {
            draft.before.push(Before::Was(Noun::Observed(observed)));
        }
        if let Some(slot) = self.slots.get(&generation) {
            draft.before.extend(slot.observed.clone().map(|it| Before::Was(Noun::Observed(it))));
            draft.before.push(Before::Was(Noun::Placement(slot.record.clone())));
        }
        self.delete(draft.now, Key::Placement(generation));
        draft.actions.push(Action::Forget(generation));
    }

    pub(crate) fn set_condition(&mut self, draft: &mut Draft, name: &str, condition: NodeCondition) {
        self.edit_node(
            draft,
            NodeEdit { name: name.to_owned(), condition: Some((condition, draft.wall)), failures: None },
        );
    }

    pub(crate) fn blame(&mut self, draft: &mut Draft, name: &str, failures: BTreeMap<String, FailureMemory>) {
        self.edit_node(draft, NodeEdit { name: name.to_owned(), condition: None, failures: Some(failures) });
    }

    fn edit_node(&mut self, draft: &mut Draft, edit: NodeEdit) {
        let Some(mut record) = self.nodes.get(&edit.name).and_then(|it| it.record.clone()) else { return };
        draft.before.push(Before::Was(Noun::Node(Box::new(record.clone()))));
        edit.apply(&mut record);
        draft.actions.push(Action::Node(edit));
        self.put(draft.now, draft.wall, Noun::Node(Box::new(record)));
    }

    pub(crate) fn edit_workload(&mut self, draft: &mut Draft, edit: WorkloadEdit) {
        let record = self.workloads.get(edit.name()).and_then(|it| it.record.clone());
        let Some(mut record): Option<Box<WorkloadRecord>> = record else { return };
        draft.before.push(Before::Was(Noun::Workload(record.clone())));
        if edit.apply(&mut record) {
            draft.actions.push(Action::Workload(Box::new(edit)));
            self.put(draft.now, draft.wall, Noun::Workload(record));
        }
    }

    pub(crate) fn edit_target(&mut self, draft: &mut Draft, edit: TargetEdit) {
        let Some(mut record) = self.targets.get(&edit.name).cloned() else { return };
        draft.before.push(Before::Was(Noun::Target(Box::new(record.clone()))));
        edit.apply(&mut record);
        draft.actions.push(Action::Target(edit));
        self.put_target(record);
    }

    /// No node takes a replica: told once per spell; it is looked at again whenever a node might.
    pub(crate) fn nowhere(&mut self, draft: &mut Draft, name: &str, ordinal: u32, reason: String) {
        self.stuck.insert(name.to_owned());
        let Some(workload) = self.workloads.get_mut(name) else { return };
        if workload.nowhere.insert(ordinal, reason.clone()).is_none() {
            draft.before.push(Before::Told(name.to_owned(), format!("nowhere {ordinal}")));
            let data = ReplicaUnplaceable { workload: name.to_owned(), reason };
            draft.tell(format!("{name}-{ordinal}"), EventData::ReplicaUnplaceable(data));
        }
    }

    /// Whether this is told for the first time.
    pub(crate) fn first_told(&mut self, draft: &mut Draft, name: &str, what: &str) -> bool {
        let first = self.workloads.get_mut(name).is_some_and(|it| it.told.insert(what.to_owned()));
        if first {
            draft.before.push(Before::Told(name.to_owned(), what.to_owned()));
        }
        first
    }

    pub(crate) fn set_brake(&mut self, draft: &mut Draft, braked: Option<Time>) {
        draft.before.push(Before::Brake(self.braked));
        self.braked = braked;
    }

    /// Undoes what [`Planner::decide`] took for done, because it could not be written. What was put since stands.
    pub fn take_back(&mut self, now: Time, wall: Timestamp, plan: &Plan) {
        for before in &plan.before {
            match before {
                Before::Was(noun) => self.put(now, wall, noun.clone()),
                Before::AbsentPlacement(generation) => {
                    self.delete(now, Key::Placement(*generation));
                    self.orphans.remove(generation);
                }
                Before::Reported(observed) => {
                    self.reported.insert(observed.generation, observed.clone());
                }
                Before::LastGeneration(last) => self.last_generation = *last,
                Before::Brake(braked) => {
                    self.braked = *braked;
                    self.dirty_nodes.extend(self.nodes.keys().cloned());
                }
                Before::Told(name, what) => {
                    if let Some(workload) = self.workloads.get_mut(name) {
                        workload.told.remove(what);
                        if let Some(ordinal) = what.strip_prefix("nowhere ").and_then(|it| it.parse().ok()) {
                            let _: Option<String> = workload.nowhere.remove(&ordinal);
                        }
                        self.dirty.insert(name.clone());
                    }
                }
            }
        }
    }
}

/// Former generations kept of an instance that runs on: its node is asked by any of them.
const MOST_CONTINUED: usize = 16;
