//! What one workload's change means for others: dependencies (H21) and the order of the end (C2).

use std::time::Duration;

use hale_health::{By, Dependency, HoldBy, Input, Phase, Status, Time, WorkloadInput};

use super::{core::Core, unit::Unit};

/// What is known of one thing that something depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Well,
    /// Stopped or paused on purpose, or not heard of: holds nothing (H21).
    Nothing,
    Failing,
}

/// How a workload is for those that depend on it.
fn known(unit: &Unit, now: Time) -> Known {
    let health = unit.machine.health(now);
    let paused = |it: &hale_health::Replica| it.paused() || it.holds().get(HoldBy::Pause).is_some();
    if health.note.is_some() || unit.leaving || unit.machine.replicas().any(|(_, it)| paused(it)) {
        return Known::Nothing;
    }
    match health.status {
        Status::Healthy | Status::Degraded => Known::Well,
        Status::Unknown => Known::Nothing,
        Status::Failing => Known::Failing,
    }
}

impl Core {
    fn known(&self, now: Time, name: &str) -> Known {
        // What is known of all of it counts more than what is known of the part that runs here.
        match (self.outside.get(name), self.units.get(name)) {
            (Some(Some(Status::Healthy | Status::Degraded)), _) => Known::Well,
            (Some(Some(Status::Failing)), _) => Known::Failing,
            (Some(Some(Status::Unknown)), _) => Known::Nothing,
            (_, Some(unit)) => known(unit, now),
            (_, None) => Known::Nothing,
        }
    }

    /// The worst of what a workload depends on.
    fn dependency_of(&self, now: Time, name: &str) -> Dependency {
        let Some(unit) = self.units.get(name) else { return Dependency::Ok };
        let mut worst = Dependency::Ok;
        for on in &unit.spec.depends_on {
            let came_up = self.came_up.contains(on);
            let declared = self.declared.contains(on) || self.outside.contains_key(on);
            match self.known(now, on) {
                Known::Well => {}
                Known::Failing if came_up => return Dependency::Failing { name: on.clone() },
                // It is there but has never been well: it is still coming up.
                Known::Failing => worst = Dependency::NotYet { name: on.clone() },
                Known::Nothing if worst != Dependency::Ok => {}
                Known::Nothing if declared && !came_up && !self.ended_on_purpose(now, on) => {
                    worst = Dependency::NotYet { name: on.clone() };
                }
                Known::Nothing => worst = Dependency::Unknown,
            }
        }
        worst
    }

    fn ended_on_purpose(&self, now: Time, name: &str) -> bool {
        self.units.get(name).is_some_and(|unit| unit.machine.health(now).note.is_some())
    }

    /// Tells a unit what is known of its dependencies, if that has changed.
    pub(super) fn tell_dependency(&mut self, now: Time, name: &str) {
        let dependency = self.dependency_of(now, name);
        let Some(unit) = self.units.get_mut(name).filter(|unit| unit.dependency != dependency) else {
            return;
        };
        unit.dependency = dependency.clone();
        self.feed_workload(now, name, WorkloadInput::Dependency(dependency));
    }

    /// Tells everybody what is known of their dependencies, where that has changed.
    pub(super) fn settle_dependencies(&mut self, now: Time) {
        let on: Vec<String> = self
            .units
            .values()
            .filter(|unit| !unit.spec.depends_on.is_empty())
            .map(|unit| unit.spec.name.clone())
            .collect();
        for name in &on {
            let needs: Vec<String> =
                self.units.get(name).map(|unit| unit.spec.depends_on.clone()).unwrap_or_default();
            for needed in needs {
                if self.known(now, &needed) == Known::Well {
                    self.came_up.insert(needed);
                }
            }
            self.tell_dependency(now, name);
        }
    }

    /// Stops what nothing that still runs depends on; at the end, tells those who wait.
    pub(super) fn settle_shutdown(&mut self, now: Time) {
        if self.shutdown.as_ref().is_none_or(|it| it.done) {
            return;
        }
        let running: Vec<&Unit> = self.units.values().filter(|unit| !is_over(unit)).collect();
        let needed = |name: &str| running.iter().any(|unit| unit.spec.depends_on.iter().any(|on| on == name));
        let free: Vec<String> = running
            .iter()
            .filter(|unit| !unit.stopping && !needed(&unit.spec.name))
            .map(|unit| unit.spec.name.clone())
            .collect();
        let over = running.is_empty();
        for name in free {
            if let Some(unit) = self.units.get_mut(&name) {
                unit.stopping = true;
                unit.rounds.drain(..).for_each(|round| round.superseded("hale stops"));
            }
            self.feed_workload(now, &name, WorkloadInput::Stop { by: By::Shutdown });
            self.unsettled = true;
        }
        if self.shutdown.as_ref().is_some_and(|it| it.hurry) {
            self.hurry(now);
        }
        if let Some(shutdown) = self.shutdown.as_mut().filter(|_| over) {
            shutdown.done = true;
            for waiting in shutdown.waiting.drain(..) {
                let _ = waiting.send(());
            }
        }
    }

    /// Ends what is being stopped now: no drain, no grace.
    pub(super) fn hurry(&mut self, now: Time) {
        let mut runs = Vec::new();
        for (name, unit) in self.units.iter_mut().filter(|(_, unit)| unit.stopping) {
            for (ordinal, slot) in &mut unit.slots {
                let stopping = unit.machine.replica(*ordinal).is_some_and(|it| it.phase() == Phase::Stopping);
                if let Some(run) = slot.run.as_mut().filter(|run| stopping && !run.hurried) {
                    run.hurried = true;
                    runs.push((name.clone(), *ordinal, run.id.clone(), run.spec.stop_signal));
                }
            }
        }
        for (name, ordinal, id, signal) in runs {
            let incarnation = id.incarnation;
            self.feed(now, &name, ordinal, Input::Drained { incarnation });
            self.feed(now, &name, ordinal, Input::Examined { incarnation });
            self.world.runtime.stop(&id, signal, Duration::ZERO);
        }
    }
}

/// Whether nothing of a unit runs or will.
fn is_over(unit: &Unit) -> bool {
    unit.machine.replicas().all(|(_, it)| {
        let gone = matches!(it.phase(), Phase::Stopped);
        gone || (it.phase() == Phase::Failed && !it.serving() && unit.stopping)
    })
}
