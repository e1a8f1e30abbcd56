//! The supervisor: drives the lifecycle machines of `hale-health` over a runtime and a prober.
//!
//! One task, the dispatcher, owns every machine. Everything that happens (an end, an outcome, a request, a moment that
//! has come) is an event that passes [`core::Core::handle`]; the machine it is for decides, and the dispatcher carries
//! the decisions out. It never waits: what takes time runs in a task of its own that reports back. So a hanging start,
//! drain or check delays nobody else, and there is one place where a phase or a ready flag changes.
//!
//! What consumers of endpoints must know is told before anything else that an event brings about (H13), then the
//! outcome that caused it, then events, in the order they were decided.
//!
//! ```text
//! runtime ── exits, notify ──┐                            ┌─► runtime: start, stop
//! prober ──── outcomes ──────┼─► handle ─► machine ─► carry out ─► prober: register, cancel
//! handle ──── requests ──────┤                            ├─► sink: endpoints, outcomes, events
//! tasks ───── done ──────────┘                            └─► tasks: drain, forensics
//! ```

mod adopt;
mod apply;
mod assign;
mod command;
mod commands;
mod core;
mod events;
mod handle;
mod introduce;
mod notes;
mod notify;
mod roll;
mod settle;
mod slot;
mod start;
mod status;
mod traces;
mod unit;

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
};

use hale_health::{Generation, Observer};
use tokio::sync::{mpsc, watch};
use tracing::error;

pub use self::{
    assign::{Assignment, PlacedPause, Wish},
    handle::{Applied, Change, Pause, SupervisorError, SupervisorHandle},
    introduce::{HealthProbes, Introduction},
    roll::Rolling,
};
use self::{
    command::Command,
    core::{Back, Core, Event, World},
};
use crate::{
    clock::{BootClock, Clock},
    guard::Guard,
    mementos::Mementos,
    ports::Ports,
    prober::{Asked, Prober},
    process::PortPool,
    runtime::{Runtime, RuntimeEvent},
    sink::{Drain, NoTraffic, Sink},
};

/// Requests that wait for the dispatcher; whoever asks waits when it is full.
const COMMANDS: usize = 256;

/// Reports of the dispatcher's own tasks that wait; the tasks wait when it is full.
const BACK: usize = 1024;

/// What a supervisor stands on.
#[derive(Clone)]
pub struct Options {
    /// The name of the node, in status and events.
    pub node: String,
    /// The number of the placement of everything it runs; 1 where no server gives one.
    pub generation: Generation,
    /// What runs replicas.
    pub runtime: Arc<dyn Runtime>,
    /// What asks them how they are.
    pub prober: Arc<dyn Prober>,
    /// Who is told.
    pub sink: Arc<dyn Sink>,
    /// Who is asked before a stop.
    pub drain: Arc<dyn Drain>,
    /// Where ports come from.
    pub ports: Arc<dyn Ports>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// What doubts the node's own probes (H22), if anything does.
    pub guard: Option<Guard>,
    /// Where it keeps what its successor has to know (N6), if there is to be one.
    pub mementos: Option<Arc<dyn Mementos>>,
    /// How far it goes with what workloads declare (N18).
    pub introduction: Introduction,
    /// For jitter and spread.
    pub seed: u64,
}

impl Options {
    /// A node of this name by the machine's clock, whose replicas nobody sends traffic to.
    #[must_use]
    pub fn new(
        node: impl Into<String>,
        runtime: Arc<dyn Runtime>,
        prober: Arc<dyn Prober>,
        sink: Arc<dyn Sink>,
        seed: u64,
    ) -> Self {
        Self {
            node: node.into(),
            generation: Generation(1),
            runtime,
            prober,
            sink,
            drain: Arc::new(NoTraffic),
            ports: Arc::new(Mutex::new(PortPool::default())),
            clock: Arc::new(BootClock),
            guard: None,
            mementos: None,
            introduction: Introduction::default(),
            seed,
        }
    }
}

/// Starts supervisors.
#[derive(Debug)]
pub struct Supervisor;

impl Supervisor {
    /// Starts one, without workloads: [`SupervisorHandle::apply`] or [`SupervisorHandle::assign`] gives it some. It runs
    /// until [`SupervisorHandle::shutdown`] or [`SupervisorHandle::detach`], or until every handle is dropped, which
    /// leaves replicas as they are.
    ///
    /// What an earlier one left on the same runtime is asked for first (N6). The first list of what is to run takes it
    /// over, with what [`Options::mementos`] remembers of it, and ends the rest.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(options: Options) -> SupervisorHandle {
        let (commands, asked_for) = mpsc::channel(COMMANDS);
        let (back, reports) = mpsc::channel(BACK);
        let (versions, version) = watch::channel(0);
        let clock = Arc::clone(&options.clock);
        let inbox = Inbox {
            back: reports,
            commands: asked_for,
            runtime: options.runtime.events(),
            outcomes: options.prober.outcomes(),
            observer: options.guard.as_ref().map(Guard::observer),
        };
        let world = World {
            source: format!("/nodes/{}", options.node),
            node: options.node,
            generation: options.generation,
            runtime: options.runtime,
            prober: options.prober,
            sink: options.sink,
            drain: options.drain,
            ports: options.ports,
            clock: Arc::clone(&clock),
            observer: options.guard.as_ref().map(Guard::observer),
            guard: options.guard,
            mementos: options.mementos,
            introduction: options.introduction,
            back,
        };
        tokio::spawn(dispatch(Core::new(world, versions, options.seed), inbox, Arc::clone(&clock)));
        SupervisorHandle { commands, version, clock }
    }
}

/// Where events come from, in order of precedence: ends before requests, both before outcomes.
struct Inbox {
    runtime: Option<mpsc::Receiver<RuntimeEvent>>,
    back: mpsc::Receiver<Back>,
    commands: mpsc::Receiver<Command>,
    outcomes: Option<mpsc::Receiver<Asked>>,
    observer: Option<watch::Receiver<Observer>>,
}

async fn receive<T>(from: &mut Option<mpsc::Receiver<T>>) -> T {
    if let Some(receiver) = from {
        if let Some(event) = receiver.recv().await {
            return event;
        }
        *from = None;
    }
    std::future::pending().await
}

async fn changed(observer: &mut Option<watch::Receiver<Observer>>) {
    if let Some(receiver) = observer {
        if receiver.changed().await.is_ok() {
            return;
        }
        *observer = None;
    }
    std::future::pending().await
}

impl Inbox {
    /// The next event; `None`: nobody can ask any more.
    async fn next(&mut self) -> Option<Event> {
        tokio::select! {
            biased;
            event = receive(&mut self.runtime) => Some(Event::Runtime(event)),
            Some(back) = self.back.recv() => Some(Event::Back(back)),
            () = changed(&mut self.observer) => Some(Event::Observer),
            command = self.commands.recv() => command.map(Event::Command),
            asked = receive(&mut self.outcomes) => Some(Event::Asked(asked)),
        }
    }
}

async fn dispatch(mut core: Core, mut inbox: Inbox, clock: Arc<dyn Clock>) {
    core.inherit().await;
    while !core.is_over() {
        let due = core.next_deadline();
        let step = if due.is_some_and(|due| due <= clock.now()) {
            None
        } else {
            tokio::select! {
                event = inbox.next() => match event {
                    Some(event) => Some(event),
                    None => return,
                },
                () = sleep(&*clock, due) => None,
            }
        };
        // A bug that panics for one replica must not end the supervision of all others.
        let guarded = std::panic::catch_unwind(AssertUnwindSafe(|| match step {
            Some(event) => core.handle(event),
            None => core.tick(),
        }));
        if guarded.is_err() {
            error!("the supervisor panicked over an event and goes on: please report this");
        }
        // A flood of events must not keep other tasks of this thread from running.
        tokio::task::consume_budget().await;
    }
    core.finish().await;
}

async fn sleep(clock: &dyn Clock, until: Option<hale_health::Time>) {
    match until {
        Some(until) => clock.sleep_until(until).await,
        None => std::future::pending().await,
    }
}
