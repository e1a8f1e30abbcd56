//! What people ask for by name.

use hale_health::{By, Input, Pause as PauseInput, PauseScope, ProbeKind, Time, WorkloadInput};
use hale_model::status::WorkloadStatus;

use super::{
    adopt::{Detached, STARTS_END},
    command::Command,
    core::{Core, Shutdown},
    events::split,
    handle::{Pause, SupervisorError},
    roll::{Rolling, Round},
    start, status,
    unit::probe,
};
use crate::prober::Ask;

/// What a name stands for: a workload, or one replica of it.
struct Named {
    workload: String,
    ordinal: Option<u32>,
}

impl Core {
    fn find(&self, name: &str) -> Result<Named, SupervisorError> {
        if self.units.contains_key(name) {
            return Ok(Named { workload: name.to_owned(), ordinal: None });
        }
        split(name)
            .filter(|(workload, ordinal)| {
                self.units.get(*workload).is_some_and(|unit| unit.machine.replica(*ordinal).is_some())
            })
            .map(|(workload, ordinal)| Named { workload: workload.to_owned(), ordinal: Some(ordinal) })
            .ok_or_else(|| SupervisorError::NotFound { name: name.to_owned() })
    }

    pub(super) fn on_command(&mut self, now: Time, command: Command) {
        // Whoever asked may have gone away; that changes nothing.
        match command {
            Command::Apply { workloads, answer } => drop(answer.send(self.apply(now, workloads))),
            Command::Assign { assignments, answer } => drop(answer.send(self.assign(now, assignments))),
            Command::Restart { name, by, answer } => drop(answer.send(self.restart(now, &name, by))),
            Command::Stop { name, by, answer } => {
                let stop = |by: &By| WorkloadInput::Stop { by: by.clone() };
                let by = By::Person(by);
                let done = self.ask(now, &name, stop(&by), Input::Stop { by });
                drop(answer.send(done));
            }
            Command::Start { name, by, answer } => {
                let by = By::Person(by);
                let done = self.ask(now, &name, WorkloadInput::Start { by: by.clone() }, Input::Start { by });
                drop(answer.send(done));
            }
            Command::Pause { name, pause, answer } => drop(answer.send(self.pause(now, &name, pause))),
            Command::Resume { name, probe, by, answer } => {
                drop(answer.send(self.resume(now, &name, probe, by)));
            }
            Command::Status { name, answer } => drop(answer.send(self.status(now, name.as_deref()))),
            Command::CheckNow { name, answer } => match self.asks_of(&name) {
                Ok(asks) => start::check_now(&self.world, asks, answer),
                Err(error) => drop(answer.send(Err(error))),
            },
            Command::Dependency { name, status } => {
                self.outside.insert(name, status);
                self.unsettled = true;
            }
            Command::StopAt { all, answer } => drop(answer.send(self.set_stop_at(all))),
            Command::Elsewhere { workload, elsewhere } => self.tell_elsewhere(now, workload, elsewhere),
            Command::Detach { answer } => self.detached = Some(Detached { by: now + STARTS_END, answer }),
            Command::Shutdown { hurry, answer } => {
                let shutdown =
                    self.shutdown.get_or_insert(Shutdown { hurry: false, waiting: Vec::new(), done: false });
                shutdown.waiting.push(answer);
                let hurries = hurry && !std::mem::replace(&mut shutdown.hurry, hurry);
                if hurries {
                    self.hurry(now);
                }
                self.unsettled = true;
            }
        }
    }

    /// Tells a workload or one replica of it.
    fn ask(&mut self, now: Time, name: &str, all: WorkloadInput, one: Input) -> Result<(), SupervisorError> {
        self.open()?;
        let named = self.find(name)?;
        match named.ordinal {
            None => self.feed_workload(now, &named.workload, all),
            Some(ordinal) => self.feed(now, &named.workload, ordinal, one),
        }
        self.unsettled = true;
        Ok(())
    }

    /// Whether anything may still be asked for.
    pub(super) fn open(&self) -> Result<(), SupervisorError> {
        if self.shutdown.is_some() { Err(SupervisorError::Closed) } else { Ok(()) }
    }

    fn restart(&mut self, now: Time, name: &str, by: String) -> Result<Rolling, SupervisorError> {
        self.open()?;
        let Named { workload, ordinal } = self.find(name)?;
        let by = By::Person(by);
        let Some(unit) = self.units.get_mut(&workload) else {
            return Err(SupervisorError::NotFound { name: name.to_owned() });
        };
        if ordinal.is_none() {
            unit.rounds.drain(..).for_each(|round| round.superseded("a later restart took its place"));
        }
        let (round, rolling) = Round::follow(unit, name, ordinal, now);
        unit.rounds.push(round);
        match ordinal {
            Some(ordinal) => self.feed(now, &workload, ordinal, Input::Restart { by }),
            None => {
                let rollout = unit.spec.rollout;
                let (min_ready, progress_deadline) = (rollout.min_ready, rollout.progress_deadline);
                self.feed_workload(
                    now,
                    &workload,
                    WorkloadInput::Restart { by, min_ready, progress_deadline },
                );
            }
        }
        self.unsettled = true;
        Ok(rolling)
    }

    fn pause(&mut self, now: Time, name: &str, pause: Pause) -> Result<(), SupervisorError> {
        let named = self.find(name)?;
        let input =
            PauseInput { by: pause.by, reason: pause.reason, until: pause.lasts.map(|lasts| now + lasts) };
        match pause.probe {
            None => {
                let scope = PauseScope::Replica;
                self.ask(now, name, WorkloadInput::Pause(input.clone()), Input::Pause { scope, pause: input })
            }
            Some(kind) => {
                let scope = PauseScope::Probe(kind);
                self.each_probe(now, name, &named, kind, || Input::Pause { scope, pause: input.clone() })
            }
        }
    }

    fn resume(
        &mut self,
        now: Time,
        name: &str,
        kind: Option<ProbeKind>,
        by: String,
    ) -> Result<(), SupervisorError> {
        let named = self.find(name)?;
        match kind {
            None => {
                let scope = PauseScope::Replica;
                self.ask(now, name, WorkloadInput::Resume { by: by.clone() }, Input::Resume { scope, by })
            }
            Some(kind) => {
                let scope = PauseScope::Probe(kind);
                self.each_probe(now, name, &named, kind, || Input::Resume { scope, by: by.clone() })
            }
        }
    }

    /// Tells every replica that a name stands for something about one of its probes.
    fn each_probe(
        &mut self,
        now: Time,
        name: &str,
        named: &Named,
        kind: ProbeKind,
        input: impl Fn() -> Input,
    ) -> Result<(), SupervisorError> {
        self.open()?;
        let Some(unit) = self.units.get(&named.workload) else {
            return Err(SupervisorError::NotFound { name: name.to_owned() });
        };
        let named = |ordinal: &u32| named.ordinal.is_none_or(|only| only == *ordinal);
        let asked = |ordinal: &u32| probe(unit.spec_of(*ordinal), kind).is_some();
        let all = unit.machine.replicas().map(|(ordinal, _)| ordinal);
        let all: Vec<u32> = all.filter(named).filter(asked).collect();
        if all.is_empty() && probe(&unit.spec, kind).is_none() {
            return Err(SupervisorError::NoSuchProbe { name: name.to_owned(), probe: kind });
        }
        let workload = unit.spec.name.clone();
        for ordinal in all {
            self.feed(now, &workload, ordinal, input());
        }
        self.unsettled = true;
        Ok(())
    }

    /// What is being asked of everything that a name stands for.
    fn asks_of(&self, name: &str) -> Result<Vec<Ask>, SupervisorError> {
        let Named { workload, ordinal } = self.find(name)?;
        let Some(unit) = self.units.get(&workload) else { return Ok(Vec::new()) };
        let slots = unit.slots.iter().filter(|(it, _)| ordinal.is_none_or(|only| only == **it));
        let runs = slots.filter_map(|(ordinal, slot)| Some((*ordinal, slot.run.as_ref()?)));
        Ok(runs.flat_map(|(ordinal, run)| unit.asks(ordinal, run)).collect())
    }

    fn status(&self, now: Time, name: Option<&str>) -> Result<Vec<WorkloadStatus>, SupervisorError> {
        let Some(name) = name else {
            let declared = self.units.values().filter(|unit| !unit.leaving);
            return Ok(declared.map(|unit| status::workload(unit, &self.world, now, None)).collect());
        };
        let Named { workload, ordinal } = self.find(name)?;
        let unit = self.units.get(&workload).into_iter();
        Ok(unit.map(|unit| status::workload(unit, &self.world, now, ordinal)).collect())
    }
}
