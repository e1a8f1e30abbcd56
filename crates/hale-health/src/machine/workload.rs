//! A workload: its replicas together, arbitrating what each of them may do.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    By, Decision, Dependency, Elsewhere, Handled, Input, Note, Observer, Pause, PauseScope, Replica,
    WorkloadInput,
    around::Around,
    placed::{Arrival, Resumed},
    rolling::Rolling,
};
use crate::{Chance, Impossible, Incarnation, Phase, ReplicaPolicy, Time, WorkloadHealth, WorkloadPolicy};

/// One replica and what its workload keeps of it.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) replica: Replica,
    /// No longer wanted: forgotten once it has stopped.
    pub(super) leaving: bool,
    deadline: Option<Time>,
    /// Counted as ready, as restarting for a probe, as waiting for others.
    counted: (bool, bool, bool),
}

/// The replicas of one workload on one node (H20, H21, H31).
///
/// Give it inputs, carry out the decisions in their order, and wake it at [`Workload::next_deadline`] with
/// [`Workload::tick`]. Time must not run backwards; if it does, the latest moment seen stands.
#[derive(Debug)]
pub struct Workload {
    pub(super) together: WorkloadPolicy,
    policy: Arc<ReplicaPolicy>,
    /// Those that are wanted here.
    pub(super) wanted: BTreeSet<u32>,
    /// How many are wanted over all nodes.
    of: u32,
    pub(super) slots: BTreeMap<u32, Slot>,
    timers: BTreeSet<(Time, u32)>,
    ready: u32,
    restarting: u32,
    /// Those whose decision depends on others.
    waiting: BTreeSet<u32>,
    dependency: Dependency,
    observer: Observer,
    elsewhere: Elsewhere,
    pause: Option<Pause>,
    stopped: Option<By>,
    pub(super) rolling: Option<Rolling>,
    numbers: BTreeMap<u32, Incarnation>,
    /// What was said of replicas that are yet to be created.
    pub(super) arrivals: BTreeMap<u32, Arrival>,
    chance: Chance,
    now: Time,
}

impl Workload {
    /// A workload without replicas. The seed is for jitter and spread.
    #[must_use]
    pub fn new(together: WorkloadPolicy, policy: ReplicaPolicy, seed: u64) -> Self {
        Self {
            together,
            policy: Arc::new(policy),
            wanted: BTreeSet::new(),
            of: 0,
            slots: BTreeMap::new(),
            timers: BTreeSet::new(),
            ready: 0,
            restarting: 0,
            waiting: BTreeSet::new(),
            dependency: Dependency::default(),
            observer: Observer::default(),
            elsewhere: Elsewhere::default(),
            pause: None,
            stopped: None,
            rolling: None,
            numbers: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            chance: Chance::new(seed),
            now: Time::ZERO,
        }
    }

    /// Continues the numbering of starts after `last` for a replica that is yet to be created.
    pub fn number_from(&mut self, ordinal: u32, last: Incarnation) {
        self.numbers.insert(ordinal, last);
        if let Some(slot) = self.slots.get_mut(&ordinal) {
            slot.replica.number_from(last);
        }
    }

    /// Changes how many replicas are wanted: new ones are started, the highest ordinals are stopped and then
    /// [`Decision::Removed`].
    pub fn set_replicas(&mut self, now: Time, desired: u32, out: &mut Vec<(u32, Decision)>) {
        self.set_ordinals(now, (0..desired).collect(), desired, out);
    }

    /// Changes which replicas are wanted here, out of `of` over all nodes: new ones are started, those that are gone
    /// are stopped and then [`Decision::Removed`]. Rules that count the replicas of a workload (H20) count by `of`.
    pub fn set_ordinals(
        &mut self,
        now: Time,
        ordinals: BTreeSet<u32>,
        of: u32,
        out: &mut Vec<(u32, Decision)>,
    ) {
        let now = self.advance(now);
        self.of = of;
        self.wanted = ordinals;
        let gone: Vec<u32> = self.slots.keys().copied().filter(|it| !self.wanted.contains(it)).collect();
        for ordinal in gone {
            if let Some(slot) = self.slots.get_mut(&ordinal).filter(|slot| !slot.leaving) {
                slot.leaving = true;
                self.tell(now, ordinal, Input::Stop { by: By::Declaration }, out);
            }
        }
        for ordinal in self.wanted.clone() {
            match self.slots.get_mut(&ordinal) {
                None => self.create(now, ordinal, out),
                Some(slot) if slot.leaving => {
                    slot.leaving = false;
                    self.tell(now, ordinal, Input::Start { by: By::Declaration }, out);
                }
                Some(_) => {}
            }
        }
        self.settle_waiting(now, out);
    }

    fn create(&mut self, now: Time, ordinal: u32, out: &mut Vec<(u32, Decision)>) {
        let last = self.numbers.get(&ordinal).copied().unwrap_or_default();
        let Arrival { policy, stopped, pauses, resumed } = self.arrivals.remove(&ordinal).unwrap_or_default();
        let mut replica = Replica::new(policy.unwrap_or_else(|| Arc::clone(&self.policy)), last);
        replica.blind = matches!(self.observer, Observer::Blind { .. });
        let slot = Slot { replica, leaving: false, deadline: None, counted: (false, false, false) };
        self.slots.insert(ordinal, slot);
        if let Some(Resumed { memento, found }) = resumed {
            let took = self.touch_with(now, ordinal, out, |replica, around, out| {
                memento.into_iter().for_each(|memento| replica.recall(memento));
                replica.resume(now, found.as_ref(), around, out)?;
                // Before anything that waits could be started.
                stopped.map_or(Ok(()), |by| replica.handle(now, Input::Stop { by }, around, out).map(drop))
            });
            debug_assert!(matches!(took, Some(Ok(()))), "{took:?}");
            return;
        }
        let of_all = self.pause.clone().map(|pause| (PauseScope::Workload, pause));
        for (scope, pause) in of_all.into_iter().chain(pauses) {
            self.tell(now, ordinal, Input::Pause { scope, pause }, out);
        }
        let first = match stopped.or_else(|| self.stopped.clone()) {
            Some(by) => Input::Stop { by },
            None => Input::Start { by: By::Declaration },
        };
        self.tell(now, ordinal, first, out);
    }

    /// Changes the settings of all. Probes whose timing changed begin anew; all else holds from now on.
    pub fn set_policy(
        &mut self,
        now: Time,
        together: WorkloadPolicy,
        policy: ReplicaPolicy,
        out: &mut Vec<(u32, Decision)>,
    ) {
        let now = self.advance(now);
        self.together = together;
        self.policy = Arc::new(policy);
        let policy = Arc::clone(&self.policy);
        self.each(now, out, |replica, now, out| replica.set_policy(now, Arc::clone(&policy), out));
    }

    /// Tells one replica something. A replica that is not there drops it.
    ///
    /// # Errors
    /// A person asked for something that its phase does not allow (a start of what runs); nothing has changed.
    pub fn handle(
        &mut self,
        now: Time,
        ordinal: u32,
        input: Input,
        out: &mut Vec<(u32, Decision)>,
    ) -> Result<Handled, Impossible> {
        let now = self.advance(now);
        let handled = self.touch(now, ordinal, Some(input), out);
        self.settle_waiting(now, out);
        self.roll(now, out);
        handled
    }

    /// Tells the workload as a whole something.
    pub fn handle_all(&mut self, now: Time, input: WorkloadInput, out: &mut Vec<(u32, Decision)>) {
        let now = self.advance(now);
        match input {
            WorkloadInput::Dependency(dependency) => self.on_dependency(now, dependency, out),
            WorkloadInput::Observer(observer) => self.on_observer(now, observer, out),
            WorkloadInput::Elsewhere(elsewhere) => self.elsewhere = elsewhere,
            WorkloadInput::Start { by } => {
                self.stopped = None;
                self.tell_all(now, &Input::Start { by }, out);
            }
            WorkloadInput::Stop { by } => {
                self.rolling = None;
                self.stopped = Some(by.clone());
                self.tell_all(now, &Input::Stop { by }, out);
            }
            WorkloadInput::Restart { by, min_ready, progress_deadline } => {
                if by.is_person() {
                    self.stopped = None;
                }
                let ordinals = self.slots.iter().filter(|(_, slot)| !slot.leaving).map(|(it, _)| *it);
                self.rolling = Some(Rolling::new(by, min_ready, progress_deadline, ordinals));
            }
            WorkloadInput::Pause(pause) => {
                self.pause = Some(pause.clone());
                self.tell_all(now, &Input::Pause { scope: PauseScope::Workload, pause }, out);
            }
            WorkloadInput::Resume { by } => {
                self.pause = None;
                self.tell_all(now, &Input::Resume { scope: PauseScope::Workload, by }, out);
            }
        }
        let all: Vec<u32> = self.slots.keys().copied().collect();
        for ordinal in all {
            let _ = self.touch(now, ordinal, None, out);
        }
        self.settle_waiting(now, out);
        self.roll(now, out);
    }

    /// Does what is due now.
    pub fn tick(&mut self, now: Time, out: &mut Vec<(u32, Decision)>) {
        let now = self.advance(now);
        if self.pause.as_ref().and_then(|pause| pause.until).is_some_and(|until| now >= until) {
            self.pause = None;
        }
        while let Some((at, ordinal)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            let _ = self.touch(now, ordinal, None, out);
            // A deadline that stays would be a bug of the machine; it must not become a loop of the driver.
            self.timers.remove(&(at, ordinal));
        }
        self.settle_waiting(now, out);
        self.roll(now, out);
    }

    /// When [`Workload::tick`] is due; `None`: only inputs change anything.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let rolling = self.rolling.as_ref().and_then(Rolling::next_deadline);
        self.timers.first().map(|(at, _)| *at).into_iter().chain(rolling).min()
    }

    /// One of its replicas.
    #[must_use]
    pub fn replica(&self, ordinal: u32) -> Option<&Replica> {
        self.slots.get(&ordinal).map(|slot| &slot.replica)
    }

    /// Its replicas by ordinal, those that are on their way out too.
    pub fn replicas(&self) -> impl Iterator<Item = (u32, &Replica)> {
        self.slots.iter().map(|(ordinal, slot)| (*ordinal, &slot.replica))
    }

    /// How many replicas are wanted here.
    #[must_use]
    pub fn desired(&self) -> u32 {
        u32::try_from(self.wanted.len()).unwrap_or(u32::MAX)
    }

    /// Whether this replica is wanted here.
    #[must_use]
    pub fn wants(&self, ordinal: u32) -> bool {
        self.wanted.contains(&ordinal)
    }

    /// Those that are wanted here.
    pub fn wanted(&self) -> impl Iterator<Item = u32> {
        self.wanted.iter().copied()
    }

    /// How many are ready.
    #[must_use]
    pub const fn ready(&self) -> u32 {
        self.ready
    }

    /// What is known of its dependencies.
    #[must_use]
    pub const fn dependency(&self) -> &Dependency {
        &self.dependency
    }

    /// Whether a rolling restart goes on.
    #[must_use]
    pub const fn is_rolling(&self) -> bool {
        self.rolling.is_some()
    }

    /// How it is, by counting its replicas (H28).
    #[must_use]
    pub fn health(&self, now: Time) -> WorkloadHealth {
        let wanted = self.slots.iter().filter(|(ordinal, _)| self.wants(**ordinal));
        WorkloadHealth::of(self.desired(), wanted.map(|(_, slot)| &slot.replica), now)
    }

    fn on_dependency(&mut self, now: Time, dependency: Dependency, out: &mut Vec<(u32, Decision)>) {
        let failing = |it: &Dependency| matches!(it, Dependency::Failing { .. });
        let released = failing(&self.dependency) && !failing(&dependency);
        self.dependency = dependency;
        if released {
            self.each(now, out, |replica, now, out| replica.dependency_released(now, out));
        }
    }

    fn on_observer(&mut self, now: Time, observer: Observer, out: &mut Vec<(u32, Decision)>) {
        let blind = matches!(observer, Observer::Blind { .. });
        let doubted =
            |it: &Observer| matches!(it, Observer::Blind { .. } | Observer::Suspect { confirmed: true, .. });
        let was_blind = matches!(self.observer, Observer::Blind { .. });
        let forgets = blind != was_blind || (doubted(&self.observer) && !doubted(&observer));
        self.observer = observer;
        if forgets {
            self.each(now, out, |replica, now, out| replica.observer_changed(now, blind, out));
        }
    }

    pub(super) fn advance(&mut self, now: Time) -> Time {
        self.now = self.now.max(now);
        self.now
    }

    fn tell_all(&mut self, now: Time, input: &Input, out: &mut Vec<(u32, Decision)>) {
        let all: Vec<u32> = self.slots.iter().filter(|(_, slot)| !slot.leaving).map(|(it, _)| *it).collect();
        for ordinal in all {
            self.tell(now, ordinal, input.clone(), out);
        }
    }

    /// Tells a replica what it may refuse.
    pub(super) fn tell(&mut self, now: Time, ordinal: u32, input: Input, out: &mut Vec<(u32, Decision)>) {
        let _ = self.touch(now, ordinal, Some(input), out);
    }

    fn each(
        &mut self,
        now: Time,
        out: &mut Vec<(u32, Decision)>,
        mut change: impl FnMut(&mut Replica, Time, &mut Vec<Decision>),
    ) {
        let all: Vec<u32> = self.slots.keys().copied().collect();
        for ordinal in all {
            let mut decisions = Vec::new();
            if let Some(slot) = self.slots.get_mut(&ordinal) {
                change(&mut slot.replica, now, &mut decisions);
            }
            out.extend(decisions.into_iter().map(|it| (ordinal, it)));
            let _ = self.touch(now, ordinal, None, out);
        }
    }

    /// Gives a replica an input, lets it settle, and counts it anew.
    pub(super) fn touch(
        &mut self,
        now: Time,
        ordinal: u32,
        input: Option<Input>,
        out: &mut Vec<(u32, Decision)>,
    ) -> Result<Handled, Impossible> {
        self.touch_with(now, ordinal, out, |replica, around, out| match input {
            Some(input) => replica.handle(now, input, around, out),
            None => Ok(Handled::Applied),
        })
        .unwrap_or(Ok(Handled::Dropped))
    }

    /// Changes a replica, lets it settle, and counts it anew. `None`: it is not there.
    fn touch_with<T>(
        &mut self,
        now: Time,
        ordinal: u32,
        out: &mut Vec<(u32, Decision)>,
        change: impl FnOnce(&mut Replica, &mut Around<'_>, &mut Vec<Decision>) -> T,
    ) -> Option<T> {
        let slot = self.slots.get_mut(&ordinal)?;
        let replica = &mut slot.replica;
        let others_here = self.ready - u32::from(slot.counted.0);
        let (ready_elsewhere, restarting_elsewhere, reachable) = match self.elsewhere {
            Elsewhere::Known { ready, restarting } => (ready, restarting, true),
            Elsewhere::Unreachable => (0, 0, false),
        };
        let mut around = Around {
            dependency: &self.dependency,
            observer: &self.observer,
            others_ready_here: others_here,
            others_ready: others_here.saturating_add(ready_elsewhere),
            others_restarting: (self.restarting - u32::from(slot.counted.1))
                .saturating_add(restarting_elsewhere),
            reachable,
            min_available: self.together.min_available(self.of),
            max_concurrent: self.together.max_concurrent_restarts(self.of),
            max_hold: self.together.max_hold,
            chance: &mut self.chance,
        };
        let mut decisions = Vec::new();
        let changed = change(replica, &mut around, &mut decisions);
        let settled = replica.settle(now, &mut around, &mut decisions);
        debug_assert!(settled.is_ok(), "{settled:?}");
        out.extend(decisions.into_iter().map(|it| (ordinal, it)));
        self.count(ordinal, out);
        Some(changed)
    }

    fn count(&mut self, ordinal: u32, out: &mut Vec<(u32, Decision)>) {
        let Some(slot) = self.slots.get_mut(&ordinal) else { return };
        let replica = &slot.replica;
        let counted = (replica.ready, replica.in_probe_restart, replica.trip.is_some() || replica.flapping());
        let deadline = replica.next_deadline();
        self.ready = self.ready + u32::from(counted.0) - u32::from(slot.counted.0);
        self.restarting = self.restarting + u32::from(counted.1) - u32::from(slot.counted.1);
        slot.counted = counted;
        if let Some(old) = std::mem::replace(&mut slot.deadline, deadline) {
            self.timers.remove(&(old, ordinal));
        }
        self.timers.extend(deadline.map(|at| (at, ordinal)));
        if counted.2 {
            self.waiting.insert(ordinal);
        } else {
            self.waiting.remove(&ordinal);
        }
        if slot.leaving && slot.replica.phase() == Phase::Stopped {
            self.numbers.insert(ordinal, slot.replica.incarnation());
            self.forget(ordinal);
            out.push((ordinal, Decision::Removed));
        }
    }

    fn forget(&mut self, ordinal: u32) {
        let Some(slot) = self.slots.remove(&ordinal) else { return };
        if let Some(at) = slot.deadline {
            self.timers.remove(&(at, ordinal));
        }
        self.waiting.remove(&ordinal);
        self.ready -= u32::from(slot.counted.0);
        self.restarting -= u32::from(slot.counted.1);
    }

    /// Lets those that wait for others look again, those that tripped first before the rest, until nothing changes.
    pub(super) fn settle_waiting(&mut self, now: Time, out: &mut Vec<(u32, Decision)>) {
        for _ in 0..=self.slots.len() {
            let before = (self.ready, self.restarting);
            let mut order: Vec<(Option<Time>, u32)> = self
                .waiting
                .iter()
                .map(|it| (self.replica(*it).and_then(|it| it.trip.as_ref()).map(|trip| trip.at), *it))
                .collect();
            order.sort_unstable();
            for (_, ordinal) in order {
                let _ = self.touch(now, ordinal, None, out);
            }
            if before == (self.ready, self.restarting) {
                return;
            }
        }
    }

    /// Takes the next steps of a rolling restart.
    pub(super) fn roll(&mut self, now: Time, out: &mut Vec<(u32, Decision)>) {
        while let Some(mut rolling) = self.rolling.take() {
            let step = rolling.step(now, |ordinal| self.replica(ordinal));
            match step {
                super::rolling::Step::Wait => {
                    self.rolling = Some(rolling);
                    return;
                }
                super::rolling::Step::Restart(ordinal) => {
                    let by = rolling.by().clone();
                    self.rolling = Some(rolling);
                    self.tell(now, ordinal, Input::Restart { by }, out);
                    self.settle_waiting(now, out);
                }
                super::rolling::Step::Stalled { ordinal, reason } => {
                    out.push((ordinal, Decision::Note(Note::RollingStalled { reason })));
                }
                super::rolling::Step::Done => {}
            }
        }
    }
}
