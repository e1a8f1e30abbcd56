//! One workload: its machine, its replicas, and carrying out what the machine decides.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use hale_health::{By, Decision, Dependency, Generation, Incarnation, Note, Phase, ProbeKind, Time};
use hale_model::{
    report::{EndpointReport, Report},
    spec::{Check, Probe, Workload},
};
use tracing::info;

use super::{
    adopt::instance_of,
    assign::Assignment,
    core::World,
    events::guard_name,
    notes, notify,
    roll::Round,
    slot::{Run, Slot},
    start,
};
use crate::{mementos::Kept, prober::Ask};

/// One workload.
pub(super) struct Unit {
    /// What is declared; where replicas are placed one by one, the declaration that was placed last.
    pub(super) spec: Arc<Workload>,
    /// The number of the placement of what is not placed one by one.
    pub(super) generation: Generation,
    pub(super) machine: hale_health::Workload,
    pub(super) slots: BTreeMap<u32, Slot>,
    /// What its machine was told of its dependencies last.
    pub(super) dependency: Dependency,
    /// Restarts that somebody follows.
    pub(super) rounds: Vec<Round>,
    /// No longer declared: forgotten once nothing is left.
    pub(super) leaving: bool,
    /// Declared anew while it was leaving.
    pub(super) again: Option<Arc<Workload>>,
    /// Placements whose replica may be created now.
    pub(super) arriving: Vec<Assignment>,
    /// Told to stop by the shutdown.
    pub(super) stopping: bool,
    /// When it was scheduled to be woken.
    pub(super) due: Option<Time>,
    /// Whether a process has said something before it was asked for.
    pub(super) said: bool,
}

/// The probe of a kind.
pub(super) const fn probe(spec: &Workload, kind: ProbeKind) -> Option<&Probe> {
    match kind {
        ProbeKind::Startup => spec.startup.as_ref(),
        ProbeKind::Liveness => spec.liveness.as_ref(),
        ProbeKind::Readiness => spec.readiness.as_ref(),
    }
}

impl Unit {
    pub(super) fn new(spec: Arc<Workload>, machine: hale_health::Workload, generation: Generation) -> Self {
        Self {
            spec,
            generation,
            machine,
            slots: BTreeMap::new(),
            dependency: Dependency::Ok,
            rounds: Vec::new(),
            leaving: false,
            again: None,
            arriving: Vec::new(),
            stopping: false,
            due: None,
            said: false,
        }
    }

    /// When its machine, or somebody who follows it, wants to be woken.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        let rounds = self.rounds.iter().filter_map(|round| round.until);
        let watchdogs = if self.is_notified() { self.watchdogs_deadline() } else { None };
        let stops =
            self.slots.values().filter(|slot| !slot.wish.is_expired()).filter_map(|slot| slot.stop_at);
        self.machine.next_deadline().into_iter().chain(rounds).chain(stops).chain(watchdogs).min()
    }

    pub(super) fn slot(&mut self, ordinal: u32) -> &mut Slot {
        let (spec, generation) = (&self.spec, self.generation);
        self.slots.entry(ordinal).or_insert_with(|| Slot::new(spec.replica_name(ordinal), generation))
    }

    /// What a replica is a replica of, as it is declared or was placed.
    pub(super) fn spec_of(&self, ordinal: u32) -> &Arc<Workload> {
        self.slots.get(&ordinal).and_then(|slot| slot.spec.as_ref()).unwrap_or(&self.spec)
    }

    /// Carries out what the machine decided, in order; but what consumers of endpoints must know comes first (H13),
    /// and `first`, the outcome that caused it all, before the rest. Returns whether anything has changed that others
    /// may depend on.
    pub(super) fn carry_out(
        &mut self,
        now: Time,
        world: &World,
        decisions: Vec<(u32, Decision)>,
        first: Option<Report>,
    ) -> bool {
        let span = self.trace(&decisions);
        let _inside = span.enter();
        for (ordinal, decision) in &decisions {
            match decision {
                Decision::Ready(change) => self.sync_endpoint(*ordinal, world, &change.reason),
                Decision::Transition { reason, .. } => self.sync_endpoint(*ordinal, world, reason),
                Decision::Drain { .. } => self.sync_endpoint(*ordinal, world, "draining"),
                _ => {}
            }
        }
        if let Some(report) = first {
            world.sink.report(report);
        }
        let kept = if hale_model::trace::is_on() { decisions.clone() } else { Vec::new() };
        let mut changed = false;
        let mut touched = BTreeSet::new();
        for (ordinal, decision) in decisions {
            touched.insert(ordinal);
            changed |= !matches!(decision, Decision::StartProbe { .. } | Decision::StopProbes { .. });
            self.carry_out_one(now, world, ordinal, decision);
        }
        touched.into_iter().for_each(|ordinal| self.keep(world, ordinal));
        self.traced(&kept);
        changed
    }

    /// Tells the runtime when it is to end a replica by itself: once the drain that begins then is over.
    pub(super) fn tell_stop_at(&self, world: &World, ordinal: u32) {
        let Some(slot) = self.slots.get(&ordinal) else { return };
        let Some(run) = slot.run.as_ref().filter(|run| run.started.is_some()) else { return };
        let stop = &self.spec_of(ordinal).policy.stop;
        world.runtime.stop_at(&run.id, slot.stop_at.map(|at| at + stop.drain), stop.grace);
    }

    /// Keeps what a successor has to know of a replica.
    pub(super) fn keep(&self, world: &World, ordinal: u32) {
        let (Some(mementos), Some(slot)) = (&world.mementos, self.slots.get(&ordinal)) else { return };
        let Some(replica) = self.machine.replica(ordinal) else { return };
        // What the present run was started with, not what is declared for the next.
        let spec = slot.run.as_ref().map_or_else(|| self.spec_of(ordinal), |run| &run.spec);
        let kept = Kept {
            generation: slot.generation,
            digest: self.spec_of(ordinal).digest.clone(),
            instance: instance_of(spec),
            wish: slot.wish.clone(),
            ports: slot.run.as_ref().map(|run| run.ports.clone()).unwrap_or_default(),
            stop_signal: spec.stop_signal,
            grace_ms: u64::try_from(spec.policy.stop.grace.as_millis()).unwrap_or(u64::MAX),
            machine: replica.memento(),
        };
        mementos.save(&slot.name, kept);
    }

    fn carry_out_one(&mut self, now: Time, world: &World, ordinal: u32, decision: Decision) {
        match decision {
            Decision::Spawn { incarnation, .. } => start::spawn(self, world, ordinal, incarnation),
            Decision::StartProbe { kind, incarnation, first_after, spread } => {
                self.start_probe(world, ordinal, incarnation, kind, (first_after, spread));
            }
            Decision::StopProbes { incarnation, only } => self.stop_probes(world, ordinal, incarnation, only),
            Decision::Drain { incarnation, at_most } => {
                if let Some(run) = self.slot(ordinal).run_of(incarnation) {
                    start::drain(world, run.id.clone(), now + at_most);
                }
            }
            Decision::Examine { incarnation, at_most } => {
                if let Some(run) = self.slot(ordinal).run_of(incarnation) {
                    start::examine(world, run, at_most, false);
                }
            }
            Decision::Stop { incarnation, grace, reason } => {
                if let Some(run) = self.slot(ordinal).run_of(incarnation) {
                    info!(replica = run.id.replica, %incarnation, ?grace, reason, "a replica is told to stop");
                    let (id, signal) = (run.id.clone(), run.spec.stop_signal);
                    if self.is_leaving(ordinal) {
                        world.runtime.release(&id, signal, grace);
                    } else {
                        world.runtime.stop(&id, signal, grace);
                    }
                }
            }
            Decision::Ready(change) => {
                let instance = self.instance(world, ordinal);
                let name = self.slot(ordinal).name.clone();
                world.tell(&name, notes::ready_event(change, instance));
            }
            Decision::Transition { from, to, reason, .. } => {
                tracing::debug!(replica = self.slot(ordinal).name, %from, %to, reason, "the phase has changed");
            }
            Decision::Note(note) => self.note(world, ordinal, note),
            Decision::Removed => self.removed(world, ordinal),
        }
    }

    pub(super) fn instance(&mut self, world: &World, ordinal: u32) -> hale_model::event::Instance {
        let workload = self.spec.name.clone();
        let runtime = world.runtime.name_for(self.spec_of(ordinal));
        self.slot(ordinal).instance(&workload, &world.node, runtime)
    }

    fn note(&mut self, world: &World, ordinal: u32, note: Note) {
        if let Note::RollingStalled { reason } = &note {
            tracing::warn!(workload = self.spec.name, reason, "a restart of one after the other ended early");
            for round in self.rounds.drain(..) {
                round.stalled(&self.spec.name, reason);
            }
            return;
        }
        if matches!(note, Note::Stopped { .. } | Note::Failed { .. }) {
            self.forget_probes(world, ordinal);
        }
        let mut instance = self.instance(world, ordinal);
        if matches!(note, Note::Starting { .. }) {
            // The run that is about to be, not the one before it: it has no process yet.
            (instance.pid, instance.container_id) = (None, None);
            instance.incarnation =
                self.machine.replica(ordinal).map_or(instance.incarnation, |it| it.incarnation().0);
        }
        let exited_at = self.machine.replica(ordinal).and_then(|it| it.last_exit()).map(|(_, at)| at);
        let slot = self.slot(ordinal);
        let forensics = if matches!(note, Note::Restarted { .. }) { slot.forensics.take() } else { None };
        let name = slot.name.clone();
        if let Some(data) = notes::event(&name, note, instance, exited_at, forensics, &*world.clock) {
            world.tell(&name, data);
        }
    }

    /// Its probes say nothing about the node any more (H22).
    fn forget_probes(&mut self, world: &World, ordinal: u32) {
        let (Some(guard), Some(run)) = (&world.guard, &self.slot(ordinal).run) else { return };
        ProbeKind::ALL.into_iter().for_each(|kind| guard.forget(&guard_name(&run.id, kind)));
    }

    fn removed(&mut self, world: &World, ordinal: u32) {
        self.forget_probes(world, ordinal);
        if let Some(slot) = self.slots.remove(&ordinal) {
            world.ports.release(&slot.name);
            let generation = slot.generation.0;
            if let Some(mementos) = &world.mementos {
                mementos.forget(&slot.name);
            }
            self.arriving.extend(slot.next.map(|it| *it));
            world.sink.report(Report::Removed { replica: slot.name, generation });
        }
    }

    fn start_probe(
        &mut self,
        world: &World,
        ordinal: u32,
        incarnation: Incarnation,
        kind: ProbeKind,
        when: (Duration, bool),
    ) {
        // As declared now: a changed probe is asked of the instances that run, too.
        let spec = Arc::clone(self.spec_of(ordinal));
        let Some(run) = self.slot(ordinal).run_of(incarnation) else { return };
        let (Some(probe), Some(started)) = (probe(&spec, kind), run.started.clone()) else { return };
        let timing = &probe.timing;
        info!(
            replica = run.id.replica,
            probe = kind.as_str(),
            check = probe.check.as_str(),
            period = ?timing.period,
            timeout = ?timing.timeout,
            failure_threshold = timing.failure_threshold,
            "probing starts"
        );
        run.probing[kind as usize] = true;
        let (first_after, spread) = when;
        if matches!(probe.check, Check::Notify) {
            notify::start(run, world.clock.now(), kind, &probe.timing, first_after);
            self.said = true;
            return;
        }
        let ask = start::ask(run, &started, probe, kind);
        world.prober.register(Ask { first_after, spread, ..ask });
    }

    fn stop_probes(
        &mut self,
        world: &World,
        ordinal: u32,
        incarnation: Incarnation,
        only: Option<ProbeKind>,
    ) {
        let why = self.why_probing_ends(ordinal, only);
        let Some(run) = self.slot(ordinal).run_of(incarnation) else { return };
        for kind in ProbeKind::ALL.into_iter().filter(|kind| only.is_none_or(|only| only == *kind)) {
            if std::mem::take(&mut run.probing[kind as usize]) {
                world.prober.cancel(&run.id, kind);
                run.watchdog.stop(Some(kind));
                info!(replica = run.id.replica, probe = kind.as_str(), why, "probing ends");
            }
        }
    }

    /// Whether a replica is stopped because it is not wanted here any more, or hale ends: not by a person, nor to be
    /// started again.
    fn is_leaving(&self, ordinal: u32) -> bool {
        let replica = self.machine.replica(ordinal).filter(|it| it.phase() == Phase::Stopping);
        matches!(replica.and_then(|it| it.stopped_by()), Some(By::Declaration | By::Shutdown))
    }

    /// Asks nothing of a run any more; its machine is not told.
    pub(super) fn cancel_all(&self, world: &World, run: &Run) {
        let asked = ProbeKind::ALL.into_iter().filter(|kind| run.probing[*kind as usize]);
        asked.for_each(|kind| world.prober.cancel(&run.id, kind));
    }

    /// Why a probe is no longer asked, or all of them when no kind is given.
    fn why_probing_ends(&self, ordinal: u32, only: Option<ProbeKind>) -> String {
        let replica = self.machine.replica(ordinal);
        match only {
            Some(ProbeKind::Startup) if replica.is_some_and(|it| it.phase() != Phase::Starting) => {
                "it has started".to_owned()
            }
            Some(_) => "it is not declared any more".to_owned(),
            None => replica
                .and_then(hale_health::Replica::last_transition)
                .map_or_else(|| "its run has ended".to_owned(), |(_, reason)| reason.to_owned()),
        }
    }

    /// What is being asked of a run.
    pub(super) fn asks(&self, ordinal: u32, run: &Run) -> impl Iterator<Item = Ask> {
        let spec = self.spec_of(ordinal);
        ProbeKind::ALL.into_iter().filter(|kind| run.probing[*kind as usize]).filter_map(|kind| {
            let probe = probe(spec, kind).filter(|probe| !matches!(probe.check, Check::Notify))?;
            Some(start::ask(run, run.started.as_ref()?, probe, kind))
        })
    }

    /// Asks the declared check of a kind from now on, of every instance that is asked one now, or of one.
    pub(super) fn ask_anew(&mut self, world: &World, kind: ProbeKind, only: Option<u32>) {
        let asked: Vec<_> = self
            .slots
            .iter()
            .filter(|(ordinal, _)| only.is_none_or(|only| only == **ordinal))
            .filter_map(|(ordinal, slot)| Some((*ordinal, slot.run.as_ref()?)))
            .filter(|(_, run)| run.probing[kind as usize])
            .map(|(ordinal, run)| (ordinal, run.id.clone()))
            .collect();
        for (ordinal, id) in asked {
            world.prober.cancel(&id, kind);
            self.start_probe(world, ordinal, id.incarnation, kind, (Duration::ZERO, true));
        }
    }

    /// Tells where a replica is reached and whether it may be, if that is not what was told last.
    pub(super) fn sync_endpoint(&mut self, ordinal: u32, world: &World, reason: &str) {
        let Some(replica) = self.machine.replica(ordinal) else { return };
        let (ready, serving, draining) = (replica.ready(), replica.serving(), replica.draining());
        let damped = only_damped(replica);
        let workload = self.spec.name.clone();
        let slot = self.slot(ordinal);
        let Some(run) = &slot.run else { return };
        let report = EndpointReport {
            workload,
            replica: slot.name.clone(),
            node: world.node.clone(),
            generation: slot.generation.0,
            incarnation: run.id.incarnation.0,
            address: run.started.as_ref().filter(|_| serving).map(|it| it.address),
            ports: run.ports.clone(),
            ready,
            damped,
            serving,
            draining,
            reason: reason.to_owned(),
            traceparent: slot.traced.parent.clone(),
        };
        let (reason, traceparent) = (&report.reason, &report.traceparent);
        let but_why = |told: &EndpointReport| EndpointReport {
            reason: reason.clone(),
            traceparent: traceparent.clone(),
            ..told.clone()
        };
        let same = slot.told.as_ref().is_some_and(|told| but_why(told) == report);
        let nothing_yet = slot.told.is_none() && !serving;
        if !same && !nothing_yet {
            slot.told = Some(report.clone());
            world.sink.report(Report::Endpoint(report));
        }
    }
}

/// Whether nothing but flap damping keeps a replica from being ready (H31).
fn only_damped(replica: &hale_health::Replica) -> bool {
    let would = replica.probe(ProbeKind::Readiness).is_none_or(|probe| probe.verdict() == Some(true));
    let runs = matches!(replica.phase(), Phase::Running | Phase::Unhealthy);
    replica.flapping() && !replica.ready() && runs && would
}
