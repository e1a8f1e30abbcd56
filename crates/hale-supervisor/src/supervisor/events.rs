//! What the world tells: ends, outcomes, and what became of what was begun.

use std::{collections::BTreeMap, time::Duration};

use hale_health::{Exit, Handled, Incarnation, Input, Outcome, ProbeKind, Time, Verdict};
use hale_model::{
    event::{EventData, ReplicaOutOfMemory, ReplicaWarning},
    report::{OutcomeRecord, Report},
};
use tracing::{debug, warn};

use super::{
    core::{Back, Core, World},
    slot::{Run, Slot},
    start,
    unit::{Unit, probe},
};
use crate::{
    guard,
    prober::Asked,
    runtime::{InstanceId, RuntimeEvent, SpawnError, Started},
};

/// How long forensics may take, after an end too (H25).
const EXAMINE: Duration = Duration::from_secs(2);

/// Start errors that no second attempt mends by itself.
const PERMANENT: [&str; 4] = ["not_found", "not_executable", "no_such_user", "not_allowed"];

/// Start errors of what a replica needs, not of itself: trying again costs it no budget.
const EXCUSED: [&str; 3] = ["runtime_unavailable", "registry_unreachable", "no_such_container"];

/// A replica's name apart: its workload and its ordinal.
pub(super) fn split(replica: &str) -> Option<(&str, u32)> {
    let (workload, ordinal) = replica.rsplit_once('-')?;
    Some((workload, ordinal.parse().ok()?))
}

/// The unit and ordinal of a run, if it is the last run of its replica.
fn present<'a>(units: &'a mut BTreeMap<String, Unit>, id: &InstanceId) -> Option<(&'a mut Unit, u32)> {
    let (workload, ordinal) = split(&id.replica)?;
    let unit = units.get_mut(workload)?;
    unit.slots.get(&ordinal)?.run.as_ref().filter(|run| run.id == *id)?;
    Some((unit, ordinal))
}

/// What the node's guard knows a probe by.
pub(super) fn guard_name(id: &InstanceId, kind: ProbeKind) -> String {
    format!("{}/{kind}", id.replica)
}

impl Core {
    pub(super) fn run_mut(&mut self, id: &InstanceId) -> Option<&mut Run> {
        let (unit, ordinal) = present(&mut self.units, id)?;
        unit.slot(ordinal).run_of(id.incarnation)
    }

    pub(super) fn feed_run(&mut self, now: Time, id: &InstanceId, input: impl FnOnce(Incarnation) -> Input) {
        if let Some((unit, ordinal)) = present(&mut self.units, id) {
            let name = unit.spec.name.clone();
            self.feed(now, &name, ordinal, input(id.incarnation));
        }
    }

    pub(super) fn on_runtime(&mut self, now: Time, event: RuntimeEvent) {
        match event {
            RuntimeEvent::Exited { id, exit, at } => self.on_exited(now, &id, exit, at),
            RuntimeEvent::Gone { id } if self.stray_gone(&id) => {}
            RuntimeEvent::Gone { id } => self.on_gone(now, &id),
            RuntimeEvent::StopFailed { id, detail } => {
                self.feed_run(now, &id, |incarnation| Input::StopFailed { incarnation, detail });
            }
            RuntimeEvent::Notify { id, name, value, .. } => self.on_notify(now, &id, &name, &value),
            RuntimeEvent::Health { id, healthy, detail, .. } => self.on_health(now, &id, healthy, detail),
            RuntimeEvent::OutOfMemory { id } => self.on_out_of_memory(&id),
            RuntimeEvent::Warning { id, code, detail } => self.on_warning(&id, code, detail),
        }
    }

    fn on_exited(&mut self, now: Time, id: &InstanceId, exit: Exit, at: Time) {
        let Some((unit, ordinal)) = present(&mut self.units, id) else { return };
        let Some(run) = unit.slot(ordinal).run_of(id.incarnation) else { return };
        if run.started.is_none() {
            run.early.exit = Some((exit, at));
            return;
        }
        self.feed_run(now, id, |incarnation| Input::Exited { incarnation, exit });
        let Some((unit, ordinal)) = present(&mut self.units, id) else { return };
        let unasked = unit.machine.replica(ordinal).is_some_and(|it| it.next_start().is_some());
        let Some(slot) = unit.slots.get(&ordinal).filter(|slot| unasked && slot.forensics.is_none()) else {
            return;
        };
        if let Some(run) = &slot.run {
            start::examine(&self.world, run, EXAMINE, true);
        }
    }

    fn on_gone(&mut self, now: Time, id: &InstanceId) {
        let Some((unit, ordinal)) = present(&mut self.units, id) else { return };
        let Some(run) = unit.slot(ordinal).run_of(id.incarnation) else { return };
        if run.started.is_none() {
            run.early.gone = true;
            return;
        }
        self.feed_run(now, id, |incarnation| Input::Gone { incarnation });
    }

    /// What runs it checks it, too.
    fn on_health(&mut self, now: Time, id: &InstanceId, healthy: bool, detail: String) {
        let Some(run) = self.run_mut(id) else { return };
        let detail = run.masker().given(detail);
        if run.started.is_none() {
            run.early.health = Some((healthy, detail));
            return;
        }
        run.remember(format!("{detail}: {}", if healthy { "healthy" } else { "unhealthy" }));
        self.feed_run(now, id, |incarnation| Input::Reported { incarnation, healthy, detail });
    }

    fn on_out_of_memory(&mut self, id: &InstanceId) {
        let Some((unit, ordinal)) = present(&mut self.units, id) else { return };
        let instance = unit.instance(&self.world, ordinal);
        let limit_bytes = unit.spec_of(ordinal).resources.memory;
        self.world
            .tell(&id.replica, EventData::ReplicaOutOfMemory(ReplicaOutOfMemory { instance, limit_bytes }));
    }

    fn on_warning(&mut self, id: &InstanceId, code: &str, detail: String) {
        let Some((unit, ordinal)) = present(&mut self.units, id) else { return };
        let instance = unit.instance(&self.world, ordinal);
        let warning = ReplicaWarning { instance, code: code.to_owned(), detail };
        self.world.tell(&id.replica, EventData::ReplicaWarning(warning));
    }

    pub(super) fn on_back(&mut self, now: Time, back: Back) {
        match back {
            Back::Started { id, result } => self.on_started(now, &id, result),
            Back::Drained { id } => self.feed_run(now, &id, |incarnation| Input::Drained { incarnation }),
            Back::StrayDrained { id } => self.stop_stray(&id),
            Back::CheckedNow { asked, answer } => {
                let asked: Vec<Asked> = asked.into_iter().map(|it| self.without_secrets(it)).collect();
                asked.iter().for_each(|asked| self.on_asked(now, asked.clone()));
                drop(answer.send(Ok(asked)));
            }
            Back::Examined { id, forensics, ended } => {
                if let Some((unit, ordinal)) = present(&mut self.units, &id) {
                    unit.slot(ordinal).forensics = Some(forensics);
                }
                if !ended {
                    self.feed_run(now, &id, |incarnation| Input::Examined { incarnation });
                }
            }
        }
    }

    fn on_started(&mut self, now: Time, id: &InstanceId, result: Result<Started, SpawnError>) {
        let wall = self.world.clock.wall();
        let Some((unit, ordinal)) = present(&mut self.units, id) else {
            // Nobody wants it any more: its replica was forgotten meanwhile.
            if result.is_ok() {
                warn!(replica = id.replica, "started after its replica was forgotten: ended again");
                self.world.runtime.stop(id, rustix::process::Signal::KILL.as_raw(), Duration::ZERO);
            }
            return;
        };
        let name = unit.spec.name.clone();
        let Some(run) = unit.slot(ordinal).run_of(id.incarnation) else { return };
        let started = match result {
            Ok(started) => started,
            Err(error) => {
                run.failed = true;
                let permanent = PERMANENT.contains(&error.code);
                let excused = EXCUSED.contains(&error.code);
                let detail = format!("{}: {}", error.code, error.detail);
                return self.feed(
                    now,
                    &name,
                    ordinal,
                    Input::SpawnFailed { incarnation: id.incarnation, permanent, excused, detail },
                );
            }
        };
        if !started.ports.is_empty() {
            run.ports.clone_from(&started.ports);
        }
        run.started = Some(started);
        run.started_at = Some(wall);
        let early = std::mem::take(&mut run.early);
        self.feed_run(now, id, |incarnation| Input::Spawned { incarnation });
        if let Some(unit) = self.units.get_mut(&name) {
            unit.sync_endpoint(ordinal, &self.world, "started");
            // It may have been put off while it was started.
            let is_bound = |slot: &Slot| {
                slot.stop_at.is_some() || slot.run.as_ref().is_some_and(|run| run.stop_at.is_some())
            };
            if unit.slots.get(&ordinal).is_some_and(is_bound) {
                unit.tell_stop_at(&self.world, ordinal);
            }
        }
        if let Some((healthy, detail)) = early.health {
            self.on_health(now, id, healthy, detail);
        }
        if let Some((exit, at)) = early.exit {
            self.on_exited(now, id, exit, at);
        }
        if early.gone {
            self.on_gone(now, id);
        }
    }

    /// The node's guard sees an outcome first: the failure that makes it suspicious is held already (H22).
    fn show_guard(&mut self, now: Time, id: &InstanceId, outcome: &Outcome) {
        let Some(guard) = self.world.guard.clone() else { return };
        let Some((unit, ordinal)) = present(&mut self.units, id) else { return };
        let Some(check) = probe(unit.spec_of(ordinal), outcome.probe).map(|probe| &probe.check) else {
            return;
        };
        let run = unit.slots.get(&ordinal).and_then(|slot| slot.run.as_ref());
        let own = run.and_then(|run| run.started.as_ref()).map(|started| started.address);
        let failed = match &outcome.verdict {
            Verdict::Failure { reason, .. } if reason.is_prober_error() => return,
            verdict => !verdict.is_success(),
        };
        if let Some(host) = guard::network_host(check, own) {
            guard.outcome(&guard_name(id, outcome.probe), &host, !failed);
            self.tell_observer(now);
        }
    }

    /// What a check brought back may hold what its replica was told in confidence (N4).
    fn without_secrets(&mut self, mut asked: Asked) -> Asked {
        let Some(run) = self.run_mut(&asked.id) else { return asked };
        let masker = run.masker();
        if let Verdict::Failure { detail, .. } = &mut asked.outcome.verdict {
            *detail = masker.given(std::mem::take(detail));
        }
        asked.excerpt = asked.excerpt.map(|excerpt| masker.given(excerpt));
        asked
    }

    /// An outcome meets the machine of its replica exactly once, and is told exactly once.
    pub(super) fn on_asked(&mut self, now: Time, asked: Asked) {
        let Asked { id, outcome, excerpt, traceparent } = self.without_secrets(asked);
        self.show_guard(now, &id, &outcome);
        let Some((unit, ordinal)) = present(&mut self.units, &id) else { return };
        let name = unit.spec.name.clone();
        let mut decisions = Vec::new();
        let taken = unit.machine.handle(now, ordinal, Input::Outcome(outcome.clone()), &mut decisions);
        if matches!(taken, Ok(Handled::Dropped)) && decisions.is_empty() {
            return;
        }
        let Some((unit, ordinal)) = present(&mut self.units, &id) else { return };
        let record = record(&self.world, unit, ordinal, &id, &outcome);
        log_failure(&record);
        if let Some(run) = unit.slot(ordinal).run_of(id.incarnation) {
            run.remember(in_one_line(&record, excerpt.as_deref()));
        }
        // A success that changes nothing is not worth keeping.
        let counts = !outcome.verdict.is_success();
        unit.slot(ordinal).traced.asked = traceparent;
        let changed = unit.carry_out(now, &self.world, decisions, Some(Report::Outcome(record)));
        if counts {
            unit.keep(&self.world, ordinal);
        }
        self.unsettled |= changed;
        self.reschedule(&name);
        self.feed_said(now, &name);
    }
}

/// An outcome for the record, with its count.
fn record(world: &World, unit: &Unit, ordinal: u32, id: &InstanceId, outcome: &Outcome) -> OutcomeRecord {
    let state = unit.machine.replica(ordinal).and_then(|it| it.probe(outcome.probe));
    let (reason, detail) = match &outcome.verdict {
        Verdict::Success => (None, None),
        Verdict::Failure { reason, detail } => (Some(*reason), Some(detail.clone())),
    };
    let (consecutive, threshold) = state.map_or((1, 1), |state| match reason {
        None => (state.consecutive_successes(), state.success_threshold()),
        Some(reason) if reason.is_prober_error() => (state.prober_errors(), state.failure_threshold()),
        Some(_) => (state.consecutive_failures(), state.failure_threshold()),
    });
    OutcomeRecord {
        subject: id.replica.clone(),
        probe: Some(outcome.probe),
        incarnation: id.incarnation.0,
        at: world.clock.wall_at(outcome.started_at),
        took_ms: outcome.took.as_secs_f64() * 1000.0,
        reason,
        detail,
        consecutive,
        threshold,
    }
}

fn log_failure(record: &OutcomeRecord) {
    if let (Some(reason), Some(probe)) = (record.reason, record.probe) {
        debug!(
            replica = record.subject,
            probe = probe.as_str(),
            count = record.consecutive,
            threshold = record.threshold,
            reason = reason.as_str(),
            detail = record.detail,
            "a check failed"
        );
    }
}

/// `12:00:01.5Z liveness: timeout 2/3, 3000 ms: no answer`, and what came back, for forensics.
fn in_one_line(record: &OutcomeRecord, excerpt: Option<&str>) -> String {
    let probe = record.probe.map_or("check", |it| it.as_str());
    let (at, took) = (record.at, record.took_ms);
    let told = match (record.reason, &record.detail) {
        (Some(reason), Some(detail)) => {
            format!("{reason} {}/{}, {took:.1} ms: {detail}", record.consecutive, record.threshold)
        }
        _ => format!("success, {took:.1} ms"),
    };
    let excerpt = excerpt.map(|it| format!("; answered {it:?}")).unwrap_or_default();
    format!("{at} {probe}: {told}{excerpt}")
}
