//! What an earlier supervisor left (N6): taken over by the first list of what is to run, ended where nothing asks for it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use hale_health::{Arrival, By, Found, Generation, Input, Phase, Resumed, Time};
use hale_model::{report::Report, spec::Workload};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::{
    assign::{Assignment, Placed, Wish},
    core::Core,
    slot::{Run, Slot},
    start,
};
use crate::{
    mementos::Kept,
    runtime::{AdoptedInstance, InstanceId, Launch},
};

/// How long consumers have to let go of what nothing asks for any more.
const STRAY_DRAIN: Duration = Duration::from_secs(5);

/// How long a supervisor that is to end waits for starts that are under way: what it does not hear of, its successor has
/// to find out.
pub(super) const STARTS_END: Duration = Duration::from_secs(5);

/// The end of a supervisor that leaves what it runs.
#[derive(Debug)]
pub(super) struct Detached {
    /// When it waits no longer.
    pub(super) by: Time,
    pub(super) answer: oneshot::Sender<()>,
}

/// What an earlier supervisor left.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// By replica.
    replicas: HashMap<String, LeftReplica>,
    /// Those that were taken over and whose wishes have not been told yet.
    adopted: Vec<(String, u32, Option<Kept>)>,
    /// Those whose end was taken note of.
    gone: Vec<InstanceId>,
    /// Instances that are being ended.
    strays: HashMap<InstanceId, Stray>,
}

#[derive(Debug, Default)]
struct LeftReplica {
    kept: Option<Kept>,
    instance: Option<AdoptedInstance>,
}

/// An instance that no replica stands for any more.
#[derive(Debug)]
struct Stray {
    generation: Generation,
    signal: i32,
    grace: Duration,
    /// What takes its place once it is gone.
    next: Option<Assignment>,
}

impl LeftReplica {
    fn lives(&self) -> bool {
        self.instance.as_ref().is_some_and(|it| !it.gone)
    }

    /// Whether it is what is placed here now, if under another number.
    fn is(&self, it: &Assignment) -> bool {
        match (&self.kept, &self.instance) {
            (Some(kept), _) => kept.generation == it.generation || kept.digest == it.workload.digest,
            (None, Some(instance)) => instance.id.generation == it.generation,
            (None, None) => false,
        }
    }
}

impl Left {
    /// Whether an instance of this replica is being ended.
    pub(super) fn ends(&self, replica: &str) -> bool {
        self.strays.keys().any(|id| id.replica == replica)
    }

    /// Waits with a placement until that is done.
    pub(super) fn wait(&mut self, it: Assignment) {
        let replica = it.name();
        if let Some((_, stray)) = self.strays.iter_mut().find(|(id, _)| id.replica == replica) {
            stray.next = Some(it);
        }
    }

    /// Placements of a workload that are no longer wanted wait for nothing.
    pub(super) fn forget_arrivals(&mut self, workload: &str, placed: &Placed) {
        for stray in self.strays.values_mut() {
            let stays = |it: &Assignment| it.workload.name != workload || placed.contains_key(&it.ordinal);
            stray.next = stray.next.take().filter(stays);
        }
    }
}

/// Tells whether a declaration takes another instance: the same number for what runs the same.
pub(super) fn instance_of(spec: &Workload) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{:?} {:?} {:?}", spec.run, spec.ports, spec.resources).hash(&mut hasher);
    hasher.finish()
}

impl Core {
    /// Asks for what an earlier supervisor left.
    pub(super) async fn inherit(&mut self) {
        let instances = self.world.runtime.adopt().await;
        let kept = match &self.world.mementos {
            Some(mementos) => mementos.load().await,
            None => Vec::new(),
        };
        let mut all: BTreeMap<String, Vec<AdoptedInstance>> = BTreeMap::new();
        for it in instances {
            all.entry(it.id.replica.clone()).or_default().push(it);
        }
        for (replica, kept) in kept {
            self.left.replicas.entry(replica).or_default().kept = Some(kept);
        }
        for (replica, mut of_one) in all {
            // The last start counts, but never beside one that still lives.
            of_one.sort_by_key(|it| (!it.gone, it.id.generation, it.id.incarnation));
            let Some(mut last) = of_one.pop() else { continue };
            let left = self.left.replicas.entry(replica.clone()).or_default();
            for older in of_one {
                if older.gone {
                    self.world.runtime.forget(&older.id);
                } else {
                    warn!(replica, "two instances of a replica were found: the older one is ended");
                    self.world.runtime.stop(
                        &older.id,
                        rustix::process::Signal::KILL.as_raw(),
                        Duration::ZERO,
                    );
                }
            }
            if last.ports.is_empty() {
                last.ports = left.kept.as_ref().map(|kept| kept.ports.clone()).unwrap_or_default();
            }
            if !last.gone {
                self.world.ports.reserve(&replica, &last.ports);
            }
            left.instance = Some(last);
        }
    }

    /// Takes over what was left of a replica; the placement is given back where there is nothing to take over.
    pub(super) fn adopt(&mut self, now: Time, name: &str, it: Assignment) -> Option<Assignment> {
        let Some(left) = self.left.replicas.remove(&it.name()) else { return Some(it) };
        let Some(unit) = self.units.get_mut(name) else { return Some(it) };
        let ordinal = it.ordinal;
        let (numbered, started) = (left.kept.as_ref(), left.instance.as_ref());
        let last = numbered.map(|kept| kept.machine.incarnation());
        let last = last.max(started.map(|it| it.id.incarnation)).unwrap_or_default();
        unit.machine.number_from(ordinal, last);
        let anything = left.instance.is_some()
            || left.kept.as_ref().is_some_and(|kept| kept.machine.phase() != Phase::Pending);
        if !(anything && left.is(&it)) {
            self.end_stray(left);
            return Some(it);
        }
        info!(replica = it.name(), lives = left.lives(), "a replica is taken over");
        let LeftReplica { kept, instance } = left;
        let found = instance.as_ref().map(|it| Found {
            incarnation: it.id.incarnation,
            started_at: it.started_at,
            stopping: it.stopping,
            exit: it.exit,
            gone: it.gone,
        });
        let memento = kept.as_ref().map(|kept| kept.machine.clone());
        let policy = Some(Arc::new(it.workload.policy.clone()));
        let resumed = Some(Resumed { memento, found });
        let stopped = it.wish(now).stop();
        unit.machine.arrive(ordinal, Arrival { policy, stopped, resumed, ..Arrival::default() });
        if kept.as_ref().is_some_and(|kept| kept.machine.phase() != Phase::Pending) {
            self.came_up.extend(it.workload.depends_on.iter().cloned());
        }
        let slot = unit.slot(ordinal);
        (slot.generation, slot.wish) = (it.generation, it.wish(now));
        slot.stop_at = it.stop_at;
        slot.spec = Some(Arc::clone(&it.workload));
        if let Some(instance) = instance.filter(|it| it.id.incarnation >= last) {
            if instance.gone {
                self.left.gone.push(instance.id.clone());
            }
            let said = self.run_of(instance, &it.workload);
            if let Some(unit) = self.units.get_mut(name) {
                unit.said |= !said.said.is_empty();
                unit.slot(ordinal).run = Some(said);
            }
        }
        self.left.adopted.push((name.to_owned(), ordinal, kept));
        None
    }

    /// Takes over what was left of a workload that is declared as a whole.
    pub(super) fn adopt_declared(&mut self, now: Time, spec: &Arc<Workload>) {
        for ordinal in 0..spec.replicas {
            let it = Assignment::new(Arc::clone(spec), ordinal, self.world.generation);
            if let Some(left) = self.left.replicas.get_mut(&it.name()) {
                // It is not placed: whatever was left under this name is what is declared.
                let kept = left.kept.get_or_insert_default();
                kept.generation = it.generation;
                self.adopt(now, &spec.name, it);
                if let Some(unit) = self.units.get_mut(&spec.name) {
                    unit.slot(ordinal).spec = None;
                }
            }
        }
        let wanted = (0..spec.replicas).collect();
        if !self.left.adopted.is_empty() {
            self.feed_all(now, &spec.name, |machine, now, out| {
                machine.set_ordinals(now, wanted, spec.replicas, out);
            });
            let mut replaced = BTreeSet::new();
            self.settle_adopted(now, &mut replaced);
            let times = (spec.rollout.min_ready, spec.rollout.progress_deadline);
            self.feed_all(now, &spec.name, |machine, now, out| {
                machine.restart_some(now, replaced, times, By::Declaration, out);
            });
        }
    }

    /// The run of an instance that was started by somebody else.
    fn run_of(&self, instance: AdoptedInstance, spec: &Arc<Workload>) -> Run {
        let AdoptedInstance { id, mut started, started_wall, ports, gone, notified, .. } = instance;
        if !gone {
            let launch =
                Launch { id: id.clone(), workload: Arc::clone(spec), ports: ports.clone(), stop_at: None };
            started.surroundings = self.world.runtime.surroundings(&launch);
        }
        let mut run = Run::new(id, Arc::clone(spec), ports);
        (run.started, run.started_at) = (Some(started), started_wall);
        let now = self.world.clock.now();
        for (name, value) in &notified {
            // What it asked for a moment is over.
            if matches!(name.as_str(), "READY" | "STATUS" | "STOPPING") {
                let mut said = Vec::new();
                run.watchdog.notify(now, name, value, &mut said);
                run.said.extend(said);
            }
        }
        let masker = run.masker();
        run.status_text = run.watchdog.status().map(|text| masker.line(text));
        run.notified = notified;
        run
    }

    /// Lets the runtime forget records once what they led to is kept.
    fn forget_once_kept(&mut self) {
        let gone = std::mem::take(&mut self.left.gone);
        if gone.is_empty() {
            return;
        }
        let (runtime, mementos) = (Arc::clone(&self.world.runtime), self.world.mementos.clone());
        tokio::spawn(async move {
            if let Some(mementos) = mementos {
                mementos.flush().await;
            }
            gone.iter().for_each(|id| runtime.forget(id));
        });
    }

    /// Tells the replicas that were taken over what is wished of them now, and others where they are. Those that are to
    /// be restarted for a changed declaration are added to `replaced`.
    pub(super) fn settle_adopted(&mut self, now: Time, replaced: &mut BTreeSet<u32>) {
        for (name, ordinal, kept) in std::mem::take(&mut self.left.adopted) {
            let Some(unit) = self.units.get_mut(&name) else { continue };
            unit.watch_as_told(ordinal, now);
            unit.tell_stop_at(&self.world, ordinal);
            unit.sync_endpoint(ordinal, &self.world, "taken over by another agent");
            let wish = unit.slots.get(&ordinal).map(|slot| slot.wish.clone()).unwrap_or_default();
            let before = kept.as_ref().map_or_else(Wish::default, |kept| kept.wish.clone());
            let spec = Arc::clone(unit.spec_of(ordinal));
            if kept.is_some_and(|kept| kept.digest != spec.digest && kept.instance != instance_of(&spec)) {
                replaced.insert(ordinal);
            }
            let mut inputs = wish.since(&before, now, &*self.world.clock);
            let phase = unit.machine.replica(ordinal).map(hale_health::Replica::phase);
            if wish.stop().is_none() && matches!(phase, Some(Phase::Stopping | Phase::Stopped)) {
                // It was on its way out, and is placed here again. A person's stop stays one.
                inputs.push(Input::Start { by: By::Declaration });
            }
            for input in inputs {
                self.feed(now, &name, ordinal, input);
            }
            if let Some(unit) = self.units.get(&name) {
                unit.keep(&self.world, ordinal);
            }
            self.feed_said(now, &name);
            self.reschedule(&name);
            self.unsettled = true;
        }
        self.forget_once_kept();
    }

    /// Ends what nothing asks for.
    pub(super) fn end_what_is_left(&mut self) {
        for (replica, left) in std::mem::take(&mut self.left.replicas) {
            info!(replica, lives = left.lives(), "a replica is no longer wanted here");
            let (generation, lives) = (left.kept.as_ref().map(|kept| kept.generation), left.lives());
            self.end_stray(left);
            // Of one that nothing is remembered of all has been told.
            if let Some(generation) = generation.filter(|_| !lives) {
                self.over(&replica, generation);
            }
        }
    }

    /// Ends what was left of a replica, if it lives.
    fn end_stray(&mut self, left: LeftReplica) {
        let LeftReplica { kept, instance } = left;
        let Some(instance) = instance else { return };
        if instance.gone {
            return self.world.runtime.forget(&instance.id);
        }
        let id = instance.id;
        let stray = Stray {
            generation: kept.as_ref().map_or(id.generation, |kept| kept.generation),
            signal: kept.as_ref().map_or(15, |kept| kept.stop_signal),
            grace: kept.map_or(Duration::from_secs(30), |kept| Duration::from_millis(kept.grace_ms)),
            next: None,
        };
        self.left.strays.insert(id.clone(), stray);
        start::drain_stray(&self.world, id, self.world.clock.now() + STRAY_DRAIN);
    }

    /// Nobody sends traffic to it any more, or it is too late to wait for that.
    pub(super) fn stop_stray(&self, id: &InstanceId) {
        if let Some(stray) = self.left.strays.get(id) {
            self.world.runtime.release(id, stray.signal, stray.grace);
        }
    }

    /// Whether what is gone was no replica any more; what waited for that comes now.
    pub(super) fn stray_gone(&mut self, id: &InstanceId) -> bool {
        let Some(stray) = self.left.strays.remove(id) else { return false };
        self.over(&id.replica, stray.generation);
        if let Some(next) = stray.next
            && let Some(unit) = self.units.get_mut(&next.workload.name)
        {
            unit.arriving.push(next);
        }
        self.unsettled = true;
        true
    }

    /// Tells that a placement is over.
    fn over(&self, replica: &str, generation: Generation) {
        if let Some(mementos) = &self.world.mementos {
            mementos.forget(replica);
        }
        self.world.ports.release(replica);
        let report = Report::Removed { replica: replica.to_owned(), generation: generation.0 };
        self.world.sink.report(report);
    }

    /// Whether a supervisor that is to leave what it runs may end now.
    pub(super) fn may_detach(&self) -> bool {
        let mut runs = self.units.values().flat_map(|unit| &unit.slots);
        let starts = |slot: &Slot| slot.run.as_ref().is_some_and(|run| run.started.is_none() && !run.failed);
        self.detached
            .as_ref()
            .is_some_and(|it| it.by <= self.world.clock.now() || !runs.any(|(_, slot)| starts(slot)))
    }

    /// The end: what a successor has to know is kept.
    pub(super) async fn finish(&mut self) {
        let detached = self.detached.take();
        if detached.is_some() {
            for unit in self.units.values() {
                unit.slots.keys().for_each(|ordinal| unit.keep(&self.world, *ordinal));
                for run in unit.slots.values().filter_map(|slot| slot.run.as_ref()) {
                    unit.cancel_all(&self.world, run);
                }
            }
        }
        if let Some(mementos) = &self.world.mementos {
            mementos.flush().await;
        }
        if let Some(detached) = detached {
            let _ = detached.answer.send(());
        }
    }
}
