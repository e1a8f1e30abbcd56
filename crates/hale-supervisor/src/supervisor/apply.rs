//! What is declared: only what changed changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hale_health::{By, Observer, ProbeKind, Time, WorkloadInput};
use hale_model::{
    event::{EventData, WorkloadApplied},
    spec::Workload,
};

use super::{
    core::Core,
    handle::{Applied, Change, SupervisorError},
    unit::{Unit, probe},
};

/// Whether a changed declaration takes a new instance; other changes (probes, thresholds, policy, number) take effect
/// on those that run.
pub(super) fn takes_new_instance(old: &Workload, new: &Workload) -> bool {
    old.run != new.run || old.ports != new.ports || old.resources != new.resources
}

impl Core {
    pub(super) fn apply(
        &mut self,
        now: Time,
        list: Vec<Arc<Workload>>,
    ) -> Result<Vec<Applied>, SupervisorError> {
        self.open()?;
        let mut declared = BTreeMap::new();
        for workload in list {
            let workload = self.world.introduction.introduce(workload);
            let name = workload.name.clone();
            if declared.insert(name.clone(), workload).is_some() {
                return Err(SupervisorError::Duplicate { name });
            }
        }
        self.declared = declared.keys().cloned().collect();
        let present = self.units.iter().filter(|(_, unit)| !unit.leaving || unit.again.is_some());
        let gone: BTreeSet<String> =
            present.map(|(name, _)| name.clone()).filter(|name| !declared.contains_key(name)).collect();
        let mut applied = Vec::new();
        for (name, workload) in declared {
            let change = self.declare(now, workload);
            applied.push(Applied { name, change });
        }
        for name in gone {
            self.undeclare(now, &name);
            applied.push(Applied { name, change: Change::Deleted });
        }
        self.end_what_is_left();
        self.unsettled = true;
        Ok(applied)
    }

    fn declare(&mut self, now: Time, spec: Arc<Workload>) -> Change {
        let name = spec.name.clone();
        let Some(unit) = self.units.get_mut(&name) else {
            self.create(now, spec);
            return Change::Created;
        };
        if unit.leaving {
            unit.again = Some(spec);
            return Change::Created;
        }
        if unit.spec.digest == spec.digest {
            return Change::Unchanged;
        }
        self.change(now, &name, spec);
        Change::Updated
    }

    pub(super) fn create(&mut self, now: Time, spec: Arc<Workload>) {
        self.tell_applied(&spec, Change::Created);
        self.enter(now, &spec);
        self.adopt_declared(now, &spec);
        self.feed_all(now, &spec.name, |machine, now, out| machine.set_replicas(now, spec.replicas, out));
        self.unsettled = true;
    }

    /// Enters a unit without replicas.
    pub(super) fn enter(&mut self, now: Time, spec: &Arc<Workload>) {
        let name = spec.name.clone();
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let machine = hale_health::Workload::new(spec.together, spec.policy.clone(), self.seed);
        self.units.insert(name.clone(), Unit::new(Arc::clone(spec), machine, self.world.generation));
        // What it depends on, and whether probes can be believed, is told before it could start.
        let observer = self.world.observer.as_ref().map(|it| it.borrow().clone());
        if let Some(observer) = observer.filter(|it| *it != Observer::Sound) {
            self.feed_workload(now, &name, WorkloadInput::Observer(observer));
        }
        if let Some(elsewhere) = self.elsewhere.get(&name).copied() {
            self.feed_workload(now, &name, WorkloadInput::Elsewhere(elsewhere));
        }
        self.tell_dependency(now, &name);
    }

    fn change(&mut self, now: Time, name: &str, spec: Arc<Workload>) {
        let Some(unit) = self.units.get_mut(name) else { return };
        self.world.tell(
            name,
            EventData::WorkloadApplied(WorkloadApplied {
                change: Change::Updated.as_str().to_owned(),
                replicas: spec.replicas,
            }),
        );
        let old = std::mem::replace(&mut unit.spec, Arc::clone(&spec));
        self.tell_dependency(now, name);
        let policy = spec.policy.clone();
        self.feed_all(now, name, |machine, now, out| machine.set_policy(now, spec.together, policy, out));
        self.feed_all(now, name, |machine, now, out| machine.set_replicas(now, spec.replicas, out));
        if old.takes_new_instance(&spec) {
            if let Some(unit) = self.units.get_mut(name) {
                unit.rounds.drain(..).for_each(|round| round.superseded("its declaration changed"));
            }
            let (min_ready, progress_deadline) = (spec.rollout.min_ready, spec.rollout.progress_deadline);
            let by = By::Declaration;
            self.feed_workload(now, name, WorkloadInput::Restart { by, min_ready, progress_deadline });
        } else if let Some(unit) = self.units.get_mut(name) {
            let asks_otherwise = |kind: &ProbeKind| {
                probe(&old, *kind).map(|it| &it.check) != probe(&spec, *kind).map(|it| &it.check)
            };
            for kind in ProbeKind::ALL.into_iter().filter(asks_otherwise) {
                unit.ask_anew(&self.world, kind, None);
            }
        }
    }

    fn undeclare(&mut self, now: Time, name: &str) {
        let Some(unit) = self.units.get_mut(name) else { return };
        unit.again = None;
        if std::mem::replace(&mut unit.leaving, true) {
            return;
        }
        let spec = Arc::clone(&unit.spec);
        unit.rounds.drain(..).for_each(|round| round.superseded("it is no longer declared"));
        self.tell_applied(&spec, Change::Deleted);
        self.feed_all(now, name, |machine, now, out| machine.set_replicas(now, 0, out));
    }

    fn tell_applied(&self, spec: &Workload, change: Change) {
        let data = WorkloadApplied { change: change.as_str().to_owned(), replicas: spec.replicas };
        self.world.tell(&spec.name, EventData::WorkloadApplied(data));
    }

    /// Forgets units that are no longer declared and of which nothing is left.
    pub(super) fn settle_removed(&mut self) {
        let now = self.world.clock.now();
        let over: Vec<String> = self
            .units
            .iter()
            .filter(|(_, unit)| unit.leaving && unit.machine.replicas().next().is_none())
            .map(|(name, _)| name.clone())
            .collect();
        for name in over {
            let again = self.units.get_mut(&name).and_then(|unit| unit.again.take());
            self.drop_unit(&name);
            self.unsettled = true;
            match again {
                Some(spec) => self.create(now, spec),
                None => {
                    self.came_up.remove(&name);
                }
            }
        }
    }
}
