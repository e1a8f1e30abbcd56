//! What is placed here, replica by replica, each with the number of its placement (S9).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hale_health::{
    Arrival, By, Elsewhere, Generation, Input, Pause as PauseInput, PauseScope, ProbeKind, Time,
    WorkloadInput,
};
use hale_model::spec::Workload;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{
    apply::takes_new_instance,
    core::Core,
    events::split,
    handle::{Applied, Change, SupervisorError},
    slot::Slot,
    unit::probe,
};
use crate::clock::Clock;

/// One replica that is to run here.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// What it is a replica of. Two replicas of one workload may be declared differently, while a change goes through.
    pub workload: Arc<Workload>,
    /// Which replica.
    pub ordinal: u32,
    /// The number of its placement.
    pub generation: Generation,
    /// Who stopped it, if a person did: it is not run.
    pub stopped: Option<String>,
    /// What is paused of it.
    pub pauses: Vec<PlacedPause>,
    /// When it is to be ended unless it is told otherwise until then (S9): past that moment another node may have it. Its
    /// runtime knows of it, too, and ends it even if this supervisor is dead. One that was ended so comes back only by
    /// another [`super::SupervisorHandle::assign`] with a later moment, or none.
    pub stop_at: Option<Time>,
    /// It is being given up: it is drained and ended, and shown as stopped for as long as it is placed here.
    pub draining: bool,
}

impl Assignment {
    /// A replica that is simply to run.
    #[must_use]
    pub const fn new(workload: Arc<Workload>, ordinal: u32, generation: Generation) -> Self {
        Self {
            workload,
            ordinal,
            generation,
            stopped: None,
            pauses: Vec::new(),
            stop_at: None,
            draining: false,
        }
    }

    pub(super) fn name(&self) -> String {
        self.workload.replica_name(self.ordinal)
    }

    pub(super) fn wish(&self, now: Time) -> Wish {
        Wish {
            stopped: self.stopped.clone(),
            draining: self.draining,
            expired: self.stop_at.is_some_and(|at| at <= now),
            pauses: self.pauses.clone(),
        }
    }
}

/// A pause by a person, as it is on record (H24).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedPause {
    /// One probe, or everything of the replica.
    pub probe: Option<ProbeKind>,
    /// When it ends by itself. One that is over already is no pause.
    pub until: Option<Timestamp>,
    /// Why.
    pub reason: String,
    /// Who.
    pub by: String,
}

/// On whose behalf what was placed as stopped or paused goes on: the placement does not say who it was.
const OPERATOR: &str = "an operator";

/// What is wished of a replica beside running.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Wish {
    stopped: Option<String>,
    draining: bool,
    expired: bool,
    pauses: Vec<PlacedPause>,
}

impl Wish {
    /// Whether its time without word is over.
    pub(super) const fn is_expired(&self) -> bool {
        self.expired
    }

    pub(super) fn stop(&self) -> Option<By> {
        self.stopped.clone().map(By::Person).or((self.draining || self.expired).then_some(By::Declaration))
    }

    fn pauses(&self, now: Time, clock: &dyn Clock) -> Vec<(PauseScope, PauseInput)> {
        let wall = clock.wall();
        let input = |pause: &PlacedPause| {
            let left = pause.until.map(|until| until.duration_since(wall).try_into());
            // Negative: it is over.
            let until = left.transpose().ok()?.map(|left: std::time::Duration| now + left);
            let input = PauseInput { by: pause.by.clone(), reason: pause.reason.clone(), until };
            Some((scope(pause), input))
        };
        self.pauses.iter().filter_map(input).collect()
    }

    /// What a replica of which this was wished before is to be told now.
    pub(super) fn since(&self, before: &Self, now: Time, clock: &dyn Clock) -> Vec<Input> {
        let mut inputs = Vec::new();
        let news = |pause: &&PlacedPause| !before.pauses.contains(pause);
        let fresh = Self { pauses: self.pauses.iter().filter(news).cloned().collect(), ..Self::default() };
        for over in
            before.pauses.iter().map(scope).filter(|old| !self.pauses.iter().any(|it| scope(it) == *old))
        {
            inputs.push(Input::Resume { scope: over, by: OPERATOR.to_owned() });
        }
        inputs
            .extend(fresh.pauses(now, clock).into_iter().map(|(scope, pause)| Input::Pause { scope, pause }));
        match (before.stop(), self.stop()) {
            (old, Some(by)) if old.as_ref() != Some(&by) => inputs.push(Input::Stop { by }),
            (Some(By::Person(_)), None) => {
                inputs.push(Input::Start { by: By::Person(OPERATOR.to_owned()) });
            }
            (Some(by), None) => inputs.push(Input::Start { by }),
            _ => {}
        }
        inputs
    }
}

const fn scope(pause: &PlacedPause) -> PauseScope {
    match pause.probe {
        Some(kind) => PauseScope::Probe(kind),
        None => PauseScope::Replica,
    }
}

/// The placements of one workload, by ordinal.
pub(super) type Placed = BTreeMap<u32, Assignment>;

impl Core {
    pub(super) fn assign(
        &mut self,
        now: Time,
        list: Vec<Assignment>,
    ) -> Result<Vec<Applied>, SupervisorError> {
        self.open()?;
        let mut placed: BTreeMap<String, Placed> = BTreeMap::new();
        for mut it in list {
            it.workload = self.world.introduction.introduce(it.workload);
            let of_one = placed.entry(it.workload.name.clone()).or_default();
            match of_one.get(&it.ordinal) {
                Some(other) if other.generation == it.generation => {
                    return Err(SupervisorError::Duplicate { name: it.name() });
                }
                Some(other) if other.generation > it.generation => {}
                _ => drop(of_one.insert(it.ordinal, it)),
            }
        }
        self.declared = placed.keys().cloned().collect();
        let gone: Vec<String> = self.units.keys().filter(|it| !placed.contains_key(*it)).cloned().collect();
        let (mut applied, mut deleted) = (Vec::new(), Vec::new());
        for (name, placed) in placed {
            self.place(now, &name, placed, (&mut applied, &mut deleted));
        }
        for name in gone {
            self.place(now, &name, Placed::new(), (&mut applied, &mut deleted));
        }
        self.end_what_is_left();
        applied.extend(deleted);
        self.unsettled = true;
        Ok(applied)
    }

    /// Makes these the replicas of one workload that are placed here.
    fn place(
        &mut self,
        now: Time,
        name: &str,
        placed: Placed,
        (applied, deleted): (&mut Vec<Applied>, &mut Vec<Applied>),
    ) {
        let latest = placed.values().max_by_key(|it| it.generation).map(|it| Arc::clone(&it.workload));
        if let Some(spec) = &latest {
            self.declare_placed(now, spec);
        }
        let Some(unit) = self.units.get_mut(name) else { return };
        unit.leaving = placed.is_empty();
        unit.again = None;
        if unit.leaving {
            unit.rounds.drain(..).for_each(|round| round.superseded("it is no longer placed here"));
        }
        let of = unit.spec.replicas;
        unit.arriving.retain(|it| placed.contains_key(&it.ordinal));
        self.left.forget_arrivals(name, &placed);
        for (ordinal, slot) in unit.slots.iter_mut().filter(|(ordinal, _)| !placed.contains_key(ordinal)) {
            slot.next = None;
            if unit.machine.wants(*ordinal) {
                deleted.push(Applied { name: slot.name.clone(), change: Change::Deleted });
            }
        }
        let (mut wanted, mut replaced) = (BTreeSet::new(), BTreeSet::new());
        for (ordinal, it) in placed {
            let (replica, was_wanted) = (it.name(), self.wants(name, ordinal));
            let change = self.place_one(now, name, it, &mut replaced);
            let waits = self
                .units
                .get(name)
                .is_some_and(|unit| unit.slots.get(&ordinal).is_none_or(|slot| slot.next.is_some()));
            if !waits {
                wanted.insert(ordinal);
            }
            let change = if was_wanted || waits { change } else { Change::Created };
            applied.push(Applied { name: replica, change });
        }
        self.feed_all(now, name, |machine, now, out| machine.set_ordinals(now, wanted, of, out));
        self.settle_adopted(now, &mut replaced);
        if let Some(spec) = latest.filter(|_| !replaced.is_empty()) {
            let times = (spec.rollout.min_ready, spec.rollout.progress_deadline);
            self.feed_all(now, name, |machine, now, out| {
                machine.restart_some(now, replaced, times, By::Declaration, out);
            });
        }
    }

    fn wants(&self, name: &str, ordinal: u32) -> bool {
        self.units.get(name).is_some_and(|unit| unit.machine.wants(ordinal))
    }

    /// Makes this the declaration of a workload as a whole, whose replicas keep theirs.
    fn declare_placed(&mut self, now: Time, spec: &Arc<Workload>) {
        let name = &spec.name;
        let Some(unit) = self.units.get_mut(name) else { return self.enter(now, spec) };
        if unit.spec.digest == spec.digest {
            return;
        }
        let old = std::mem::replace(&mut unit.spec, Arc::clone(spec));
        // What was declared without a declaration of its own keeps the one it had.
        for slot in unit.slots.values_mut() {
            slot.spec.get_or_insert_with(|| Arc::clone(&old));
        }
        unit.machine.set_together(spec.together);
        self.tell_dependency(now, name);
    }

    /// Places one replica. Those that are to be restarted for a changed declaration are added to `replaced`.
    fn place_one(&mut self, now: Time, name: &str, it: Assignment, replaced: &mut BTreeSet<u32>) -> Change {
        let Some(unit) = self.units.get_mut(name) else { return Change::Unchanged };
        let ordinal = it.ordinal;
        let old_spec = Arc::clone(unit.spec_of(ordinal));
        let wanted = unit.machine.wants(ordinal);
        let Some(slot) = unit.slots.get_mut(&ordinal) else {
            unit.arriving.retain(|waiting| waiting.ordinal != ordinal);
            self.arrive(now, name, it);
            return Change::Created;
        };
        let same = old_spec.digest == it.workload.digest;
        let granted = slot.generation != it.generation;
        if granted && !same {
            slot.next = Some(Box::new(it));
            return Change::Updated;
        }
        slot.next = None;
        slot.generation = it.generation;
        slot.spec = Some(Arc::clone(&it.workload));
        // One that was on its way out has nothing left of what was wished of it.
        let before = if wanted { slot.wish.clone() } else { Wish::default() };
        slot.stop_at = it.stop_at;
        slot.wish = it.wish(now);
        let inputs = slot.wish.since(&before, now, &*self.world.clock);
        if granted {
            unit.sync_endpoint(ordinal, &self.world, "its placement was granted anew");
        }
        unit.tell_stop_at(&self.world, ordinal);
        unit.keep(&self.world, ordinal);
        if !same {
            self.redeclare(now, name, ordinal, &old_spec, replaced);
        }
        if !wanted {
            let (mut all, of) = (BTreeSet::from([ordinal]), it.workload.replicas);
            let unit = self.units.get(name);
            all.extend(unit.into_iter().flat_map(|unit| unit.machine.wanted()));
            self.feed_all(now, name, |machine, now, out| machine.set_ordinals(now, all, of, out));
        }
        for input in inputs {
            self.feed(now, name, ordinal, input);
        }
        match (same, granted) {
            (false, _) => Change::Updated,
            (true, true) => Change::Granted,
            (true, false) => Change::Unchanged,
        }
    }

    /// A changed declaration takes effect on a replica.
    fn redeclare(
        &mut self,
        now: Time,
        name: &str,
        ordinal: u32,
        old: &Workload,
        replaced: &mut BTreeSet<u32>,
    ) {
        let Some(new) = self.units.get(name).map(|unit| Arc::clone(unit.spec_of(ordinal))) else { return };
        let policy = new.policy.clone();
        self.feed_all(now, name, |machine, now, out| machine.set_policy_of(now, ordinal, policy, out));
        if takes_new_instance(old, &new) {
            replaced.insert(ordinal);
            return;
        }
        let Some(unit) = self.units.get_mut(name) else { return };
        for kind in ProbeKind::ALL {
            if probe(old, kind).map(|it| &it.check) != probe(&new, kind).map(|it| &it.check) {
                unit.ask_anew(&self.world, kind, Some(ordinal));
            }
        }
    }

    /// Makes a replica ready to be created under its placement.
    /// False: something that was there before has to end first.
    fn arrive(&mut self, now: Time, name: &str, it: Assignment) -> bool {
        let Some(it) = self.adopt(now, name, it) else { return true };
        if self.left.ends(&it.name()) {
            self.left.wait(it);
            return false;
        }
        let Some(unit) = self.units.get_mut(name) else { return false };
        let wish = it.wish(now);
        let arrival = Arrival {
            policy: Some(Arc::new(it.workload.policy.clone())),
            stopped: wish.stop(),
            pauses: wish.pauses(now, &*self.world.clock),
            resumed: None,
        };
        unit.machine.arrive(it.ordinal, arrival);
        let slot = unit.slot(it.ordinal);
        (slot.generation, slot.spec, slot.wish) = (it.generation, Some(it.workload), wish);
        slot.stop_at = it.stop_at;
        true
    }

    /// Creates what waited for its predecessor's end.
    pub(super) fn settle_arrivals(&mut self, now: Time) {
        let ready: Vec<(String, Vec<Assignment>)> = self
            .units
            .iter_mut()
            .filter(|(_, unit)| !unit.arriving.is_empty())
            .map(|(name, unit)| (name.clone(), std::mem::take(&mut unit.arriving)))
            .collect();
        for (name, arriving) in ready {
            if self.shutdown.is_some() {
                continue;
            }
            let mut wanted: BTreeSet<u32> =
                self.units.get(&name).into_iter().flat_map(|unit| unit.machine.wanted()).collect();
            let of = self.units.get(&name).map_or(0, |unit| unit.spec.replicas);
            for it in arriving {
                let ordinal = it.ordinal;
                if self.arrive(now, &name, it) {
                    wanted.insert(ordinal);
                }
            }
            self.feed_all(now, &name, |machine, now, out| machine.set_ordinals(now, wanted, of, out));
            self.unsettled = true;
        }
    }

    /// Puts off when replicas are to be ended, or no longer ends them. Those whose moment has come are not brought back:
    /// their names.
    pub(super) fn set_stop_at(&mut self, all: Vec<(String, Option<Time>)>) -> Vec<String> {
        let mut over = Vec::new();
        for (replica, at) in all {
            let Some((workload, ordinal)) = split(&replica) else { continue };
            let Some(unit) = self.units.get_mut(workload) else { continue };
            if let Some(slot) = unit.slots.get_mut(&ordinal) {
                slot.stop_at = at;
                let expired = slot.wish.is_expired();
                unit.tell_stop_at(&self.world, ordinal);
                self.reschedule(workload);
                if expired {
                    over.push(replica);
                }
            }
        }
        over
    }

    /// Ends what nobody has said otherwise of.
    pub(super) fn expire(&mut self, now: Time, name: &str) {
        let Some(unit) = self.units.get_mut(name) else { return };
        let due = |slot: &&mut Slot| !slot.wish.expired && slot.stop_at.is_some_and(|at| at <= now);
        let mut over = Vec::new();
        for (ordinal, slot) in &mut unit.slots {
            if let Some(slot) = Some(slot).filter(due) {
                warn!(replica = slot.name, "its time without word of a server is over: it is ended");
                let stopped = slot.wish.stop().is_some();
                slot.wish.expired = true;
                over.extend((!stopped).then_some(*ordinal));
            }
        }
        for ordinal in over {
            self.feed(now, name, ordinal, Input::Stop { by: By::Declaration });
            self.unsettled = true;
        }
    }

    pub(super) fn tell_elsewhere(&mut self, now: Time, workload: String, elsewhere: Elsewhere) {
        self.feed_workload(now, &workload, WorkloadInput::Elsewhere(elsewhere));
        if elsewhere == Elsewhere::default() {
            self.elsewhere.remove(&workload);
        } else {
            self.elsewhere.insert(workload, elsewhere);
        }
    }
}
