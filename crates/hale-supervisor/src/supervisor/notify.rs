//! What a process says of itself over its notify socket (H9), as outcomes of its `notify` probes.

use std::time::Duration;

use hale_health::{Input, Outcome, ProbeKind, Time};

use hale_model::spec::Check;

use super::{core::Core, slot::Run, unit::Unit};
use crate::{prober::Asked, runtime::InstanceId};

impl Core {
    pub(super) fn on_notify(&mut self, now: Time, id: &InstanceId, name: &str, value: &str) {
        let Some(run) = self.run_mut(id) else { return };
        let mut inputs = Vec::new();
        run.watchdog.notify(now, name, value, &mut inputs);
        if name == "STATUS" {
            let masker = run.masker();
            run.status_text = run.watchdog.status().map(|text| masker.line(text));
        }
        self.said(now, id, inputs);
    }

    /// Feeds what watchdogs have to say now: what was missed, what goes on.
    pub(super) fn tick_watchdogs(&mut self, now: Time, name: &str) {
        let Some(unit) = self.units.get_mut(name) else { return };
        let mut all = Vec::new();
        for run in unit.slots.values_mut().filter_map(|slot| slot.run.as_mut()) {
            let mut inputs = Vec::new();
            run.watchdog.tick(now, &mut inputs);
            if !inputs.is_empty() {
                all.push((run.id.clone(), inputs));
            }
        }
        for (id, inputs) in all {
            self.said(now, &id, inputs);
        }
        self.reschedule(name);
    }

    /// Feeds what processes had said before they were asked for.
    pub(super) fn feed_said(&mut self, now: Time, name: &str) {
        let Some(unit) = self.units.get_mut(name).filter(|unit| unit.said) else { return };
        unit.said = false;
        let runs = unit.slots.values_mut().filter_map(|slot| slot.run.as_mut());
        let all: Vec<_> = runs.map(|run| (run.id.clone(), std::mem::take(&mut run.said))).collect();
        for (id, inputs) in all.into_iter().filter(|(_, inputs)| !inputs.is_empty()) {
            self.said(now, &id, inputs);
        }
    }

    fn said(&mut self, now: Time, id: &InstanceId, inputs: Vec<Input>) {
        for input in inputs {
            match input {
                // As any other outcome: it is told and logged, too.
                Input::Outcome(outcome) => self.on_asked(now, asked(id, outcome)),
                input => self.feed_run(now, id, |_| input),
            }
        }
        if let Some((workload, _)) = super::events::split(&id.replica) {
            let workload = workload.to_owned();
            self.reschedule(&workload);
        }
    }
}

fn asked(id: &InstanceId, outcome: Outcome) -> Asked {
    Asked { id: id.clone(), outcome, excerpt: None, traceparent: None }
}

impl Unit {
    /// Whether a process may have something to say.
    pub(super) fn is_notified(&self) -> bool {
        let own = self.slots.values().filter_map(|slot| slot.spec.as_ref());
        let specs = std::iter::once(&self.spec).chain(own);
        let mut probes = specs.flat_map(|spec| [&spec.startup, &spec.liveness, &spec.readiness]).flatten();
        probes.any(|probe| matches!(probe.check, Check::Notify))
    }

    /// Watches an adopted run as often as it had asked for.
    pub(super) fn watch_as_told(&mut self, ordinal: u32, now: Time) {
        let Some(run) = self.slots.get_mut(&ordinal).and_then(|slot| slot.run.as_mut()) else { return };
        if let Some(micros) = run.notified.get("WATCHDOG_USEC") {
            run.watchdog.notify(now, "WATCHDOG_USEC", micros, &mut Vec::new());
        }
    }

    /// When the first watchdog of its runs wants to be woken.
    pub(super) fn watchdogs_deadline(&self) -> Option<Time> {
        let runs = self.slots.values().filter_map(|slot| slot.run.as_ref());
        runs.filter_map(|run| run.watchdog.next_deadline()).min()
    }
}

/// Begins a probe of kind `notify`. What the process said before is remembered: that outcome is due now.
pub(super) fn start(
    run: &mut Run,
    now: Time,
    kind: ProbeKind,
    timing: &hale_health::ProbeTiming,
    after: Duration,
) {
    let mut inputs = Vec::new();
    run.watchdog.start(now, kind, timing, after, &mut inputs);
    run.said.extend(inputs);
}
