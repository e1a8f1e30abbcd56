//! The one dispatcher: everything that happens passes [`Core::handle`], and nothing in it waits.
//!
//! What takes time (starts, drains, forensics) runs in tasks of its own, which report back as events. Tests call
//! `handle` with what they like.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use hale_health::{Decision, Elsewhere, Generation, Input, Observer, Status, Time, WorkloadInput};
use hale_model::{
    event::{EventData, Forensics, NewEvent},
    report::Report,
};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    adopt::{Detached, Left},
    command::Command,
    handle::SupervisorError,
    introduce::Introduction,
    unit::Unit,
};
use crate::{
    clock::Clock,
    guard::Guard,
    log::log_event,
    mementos::Mementos,
    ports::Ports,
    prober::{Asked, Prober},
    runtime::{InstanceId, Runtime, RuntimeEvent, SpawnError, Started},
    sink::{Drain, Sink},
};

/// What happens to a supervisor.
pub(super) enum Event {
    /// Somebody asks.
    Command(Command),
    /// The runtime tells.
    Runtime(RuntimeEvent),
    /// A check has a result.
    Asked(Asked),
    /// The node thinks otherwise of its own probes.
    Observer,
    /// Something that was begun is done.
    Back(Back),
}

/// What a task of the driver reports back.
pub(super) enum Back {
    /// A start was carried out, or was not.
    Started { id: InstanceId, result: Result<Started, SpawnError> },
    /// Nobody sends traffic to it any more.
    Drained { id: InstanceId },
    /// The same of one that is no replica any more; or it is too late to wait.
    StrayDrained { id: InstanceId },
    /// What it was doing was kept. `ended`: after its end, when it delays nothing.
    Examined { id: InstanceId, forensics: Box<Forensics>, ended: bool },
    /// Checks that somebody asked for were made.
    CheckedNow { asked: Vec<Asked>, answer: oneshot::Sender<Result<Vec<Asked>, SupervisorError>> },
}

/// The world at the edge.
pub(super) struct World {
    pub(super) node: String,
    pub(super) source: String,
    pub(super) generation: Generation,
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) prober: Arc<dyn Prober>,
    pub(super) sink: Arc<dyn Sink>,
    pub(super) drain: Arc<dyn Drain>,
    pub(super) ports: Arc<dyn Ports>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) guard: Option<Guard>,
    /// Where what a successor has to know is kept.
    pub(super) mementos: Option<Arc<dyn Mementos>>,
    /// How far it goes with what workloads declare.
    pub(super) introduction: Introduction,
    /// What the guard says, where there is one.
    pub(super) observer: Option<watch::Receiver<Observer>>,
    /// Tasks wait when it is full: the dispatcher takes from it before anything that makes more work.
    pub(super) back: mpsc::Sender<Back>,
}

impl World {
    /// Tells an event, and writes its line (O2).
    pub(super) fn tell(&self, subject: &str, data: EventData) {
        log_event(subject, &data);
        let time = self.clock.wall();
        let event = NewEvent { time, source: self.source.clone(), subject: subject.to_owned(), data };
        self.sink.report(Report::Event(Box::new(event)));
    }
}

/// All that a supervisor knows.
pub(super) struct Core {
    pub(super) world: World,
    pub(super) units: BTreeMap<String, Unit>,
    /// When which unit wants to be woken.
    due: BTreeSet<(Time, String)>,
    /// What is known of dependencies beside the units: of targets, and of workloads over all nodes.
    pub(super) outside: HashMap<String, Option<Status>>,
    /// What goes on on other nodes, by workload (H20).
    pub(super) elsewhere: HashMap<String, Elsewhere>,
    /// The names of the last list that was applied: those that are still to be created count as there, too.
    pub(super) declared: BTreeSet<String>,
    /// Dependencies that have been well at least once.
    pub(super) came_up: BTreeSet<String>,
    pub(super) shutdown: Option<Shutdown>,
    /// Ends without touching what it runs.
    pub(super) detached: Option<Detached>,
    /// What an earlier supervisor left.
    pub(super) left: Left,
    version: watch::Sender<u64>,
    pub(super) seed: u64,
    /// Whether something has changed that others may depend on.
    pub(super) unsettled: bool,
}

/// The end of a supervisor.
pub(super) struct Shutdown {
    pub(super) hurry: bool,
    pub(super) waiting: Vec<oneshot::Sender<()>>,
    /// Whether nothing is left.
    pub(super) done: bool,
}

impl Core {
    pub(super) fn new(world: World, version: watch::Sender<u64>, seed: u64) -> Self {
        Self {
            world,
            units: BTreeMap::new(),
            due: BTreeSet::new(),
            outside: HashMap::new(),
            elsewhere: HashMap::new(),
            declared: BTreeSet::new(),
            came_up: BTreeSet::new(),
            shutdown: None,
            detached: None,
            left: Left::default(),
            version,
            seed,
            unsettled: false,
        }
    }

    /// Takes one event, whatever it is.
    pub(super) fn handle(&mut self, event: Event) {
        let now = self.world.clock.now();
        match event {
            Event::Command(command) => self.on_command(now, command),
            Event::Runtime(event) => self.on_runtime(now, event),
            Event::Asked(asked) => self.on_asked(now, asked),
            Event::Back(back) => self.on_back(now, back),
            Event::Observer => self.tell_observer(now),
        }
        self.settle(now);
    }

    /// Wakes every machine whose time has come.
    pub(super) fn tick(&mut self) {
        let now = self.world.clock.now();
        let due = self.due.iter().take_while(|(at, _)| *at <= now);
        let due: Vec<String> = due.map(|(_, name)| name.clone()).collect();
        for name in &due {
            self.feed_all(now, name, |machine, now, out| machine.tick(now, out));
            self.tick_watchdogs(now, name);
            self.expire(now, name);
            // What follows a restart may have waited long enough.
            self.unsettled |= self.units.get(name).is_some_and(|unit| !unit.rounds.is_empty());
        }
        self.settle(now);
        due.iter().for_each(|name| self.reschedule(name));
    }

    /// Tells every unit what the node thinks of its own probes, if that is news.
    pub(super) fn tell_observer(&mut self, now: Time) {
        let Some(observer) = &mut self.world.observer else { return };
        if !observer.has_changed().unwrap_or(false) {
            return;
        }
        let observer = observer.borrow_and_update().clone();
        let all: Vec<String> = self.units.keys().cloned().collect();
        for name in all {
            self.feed_workload(now, &name, WorkloadInput::Observer(observer.clone()));
        }
    }

    /// When [`Core::tick`] is wanted.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        let detached = self.detached.as_ref().map(|it| it.by);
        self.due.first().map(|(at, _)| *at).into_iter().chain(detached).min()
    }

    /// Whether everything has ended, on purpose, or is left as it is.
    pub(super) fn is_over(&self) -> bool {
        self.may_detach() || self.shutdown.as_ref().is_some_and(|it| it.done)
    }

    /// Follows up what an event has changed for others: dependencies, rounds, the shutdown.
    fn settle(&mut self, now: Time) {
        while std::mem::take(&mut self.unsettled) {
            self.settle_dependencies(now);
            self.settle_rounds(now);
            self.settle_removed();
            self.settle_arrivals(now);
            self.settle_shutdown(now);
            self.version.send_modify(|version| *version = version.wrapping_add(1));
        }
    }

    /// Feeds one replica of a unit.
    pub(super) fn feed(&mut self, now: Time, name: &str, ordinal: u32, input: Input) {
        self.feed_all(now, name, |machine, now, out| {
            if let Err(impossible) = machine.handle(now, ordinal, input, out) {
                tracing::debug!(workload = name, ordinal, %impossible, "changes nothing");
            }
        });
    }

    /// Feeds a unit as a whole.
    pub(super) fn feed_workload(&mut self, now: Time, name: &str, input: WorkloadInput) {
        self.feed_all(now, name, |machine, now, out| machine.handle_all(now, input, out));
    }

    /// Feeds a unit and carries out what its machine decides.
    pub(super) fn feed_all(
        &mut self,
        now: Time,
        name: &str,
        feed: impl FnOnce(&mut hale_health::Workload, Time, &mut Vec<(u32, Decision)>),
    ) {
        let Some(unit) = self.units.get_mut(name) else { return };
        let mut decisions = Vec::new();
        feed(&mut unit.machine, now, &mut decisions);
        self.unsettled |= unit.carry_out(now, &self.world, decisions, None);
        self.reschedule(name);
        self.feed_said(now, name);
    }

    /// Notes when a unit wants to be woken.
    pub(super) fn reschedule(&mut self, name: &str) {
        let Some(unit) = self.units.get_mut(name) else { return };
        let next = unit.next_deadline();
        if next == unit.due {
            return;
        }
        if let Some(old) = std::mem::replace(&mut unit.due, next) {
            self.due.remove(&(old, name.to_owned()));
        }
        if let Some(next) = next {
            self.due.insert((next, name.to_owned()));
        }
    }

    /// Forgets a unit.
    pub(super) fn drop_unit(&mut self, name: &str) {
        if let Some(unit) = self.units.remove(name)
            && let Some(due) = unit.due
        {
            self.due.remove(&(due, name.to_owned()));
        }
    }
}
