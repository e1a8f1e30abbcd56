//! One thread of the engine, and the lock between it and those who register.

use std::{
    io,
    os::fd::OwnedFd,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::{
    buffer::spare_capacity,
    event::{EventfdFlags, Timespec, epoll, eventfd},
    io::Errno,
};
use tokio::runtime::Handle;

use super::{
    Counters, Deliver, Finished, Registration,
    away::{Departure, Home},
    fast::Core,
    sockets::Sockets,
    state::{Limits, Nanos, ProbeId, TICK},
};
use crate::CheckResult;

/// The event of being woken, beside those of sockets.
const WAKE: u64 = u64::MAX;

/// Events taken at once.
const EVENTS: usize = 256;

/// A shard: what is registered, and what its thread works on.
///
/// The thread holds the lock while it works and lets go of it to sleep and to deliver, so that a registration or a
/// cancellation is done when the call returns, and nothing needs to be queued.
#[derive(Debug)]
pub(super) struct Shard {
    epoll: OwnedFd,
    wake: OwnedFd,
    runtime: Handle,
    locked: Mutex<Locked>,
}

#[derive(Debug)]
struct Locked {
    core: Core,
    /// The thread sleeps until then, unless woken.
    sleeps_until: Nanos,
    stop: bool,
}

impl Shard {
    pub(super) fn new(limits: Limits, runtime: Handle) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &wake, epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN)?;
        let core = Core::new(Sockets::new(epoll.try_clone()?), limits);
        Ok(Self { epoll, wake, runtime, locked: Mutex::new(Locked { core, sleeps_until: 0, stop: false }) })
    }

    /// A panic of one turn is seen, and ends no other probe.
    fn lock(&self) -> MutexGuard<'_, Locked> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // Fails only when it is woken 2^64 times over.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    pub(super) fn register(&self, registration: Registration) -> ProbeId {
        let mut locked = self.lock();
        let now = locked.core.now();
        let id = locked.core.probes.add(registration, now);
        let due = locked.core.probes.at(id.at).due;
        if due < locked.sleeps_until {
            self.wake();
        }
        id
    }

    pub(super) fn trigger(&self, id: ProbeId) {
        let mut locked = self.lock();
        let now = locked.core.now();
        locked.core.probes.trigger(id, now);
        self.wake();
    }

    pub(super) fn set_period(&self, id: ProbeId, period: Duration) {
        let mut locked = self.lock();
        let now = locked.core.now();
        locked.core.probes.set_period(id, period, now);
        self.wake();
    }

    pub(super) fn cancel(&self, id: ProbeId) {
        let task = self.lock().core.cancel(id);
        if let Some(task) = task {
            task.abort();
        }
    }

    pub(super) fn come_home(&self, id: ProbeId, result: CheckResult) {
        self.lock().core.come_home(id, result);
        self.wake();
    }

    pub(super) fn counters(&self) -> Counters {
        let locked = self.lock();
        Counters { waiting: locked.core.probes.due.len(), ..locked.core.probes.counters }
    }

    pub(super) fn shut_down(&self) {
        let tasks = {
            let mut locked = self.lock();
            locked.stop = true;
            locked.core.shut_down()
        };
        for task in tasks {
            task.abort();
        }
        self.wake();
    }

    /// Starts tasks for checks that need more than a socket. Without the lock: a runtime that is shutting down drops
    /// a task where it stands, and the task then comes home at once.
    fn depart(self: &Arc<Self>, departures: &mut Vec<Departure>) {
        for departure in departures.drain(..) {
            let id = departure.id;
            let home = Home { shard: Arc::downgrade(self), id, result: None };
            let task = self.runtime.spawn(async move {
                let mut home = home;
                home.result = Some(departure.run().await);
            });
            let gone = self.lock().core.departed(id, task.abort_handle());
            if let Some(task) = gone {
                task.abort();
            }
        }
    }

    /// Makes checks until it is shut down.
    pub(super) fn run(self: &Arc<Self>, mut deliver: impl Deliver) {
        let mut batch = Vec::new();
        while let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.turns(&mut deliver, &mut batch))) {
            let said = panic.downcast_ref::<&str>().map(ToString::to_string);
            let said = said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            tracing::error!(panic = said, "a turn of the prober panicked; it goes on with the next");
        }
    }

    fn turns(self: &Arc<Self>, deliver: &mut impl Deliver, batch: &mut Vec<Finished>) {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS);
        let mut departures = Vec::new();
        let mut stalled = false;
        loop {
            let timeout = {
                let mut locked = self.lock();
                if locked.stop {
                    return;
                }
                locked.fall_asleep(stalled)
            };
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "the prober can't wait for its sockets");
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
            {
                let mut locked = self.lock();
                locked.sleeps_until = 0;
                for event in &events {
                    let data = event.data;
                    match u32::try_from(data.u64()) {
                        Ok(conn) => locked.core.on_event(conn, event.flags),
                        Err(_) => {
                            let _ = rustix::io::read(&self.wake, &mut [0_u8; 8]);
                        }
                    }
                }
                locked.core.turn(stalled);
                batch.append(&mut locked.core.probes.finished);
                departures.append(&mut locked.core.departures);
            }
            self.depart(&mut departures);
            if !batch.is_empty() {
                deliver.deliver(batch);
            }
            stalled = !batch.is_empty();
        }
    }
}

impl Locked {
    /// How long the thread may sleep; `None`: until woken.
    fn fall_asleep(&mut self, stalled: bool) -> Option<Timespec> {
        let now = self.core.now();
        let timer = self.core.probes.wheel.next().map(|tick| tick.saturating_mul(TICK));
        let until = if stalled {
            Some(now + TICK)
        } else if self.core.can_start() || !self.core.probes.finished.is_empty() {
            Some(now)
        } else {
            match (timer, self.core.held_until()) {
                (Some(timer), Some(held)) => Some(timer.min(held)),
                (timer, held) => timer.or(held),
            }
        };
        self.sleeps_until = until.unwrap_or(Nanos::MAX);
        let sleep = until?.saturating_sub(now);
        let tv_sec = i64::try_from(sleep / 1_000_000_000).unwrap_or(i64::MAX);
        let tv_nsec = i64::try_from(sleep % 1_000_000_000).unwrap_or(0);
        Some(Timespec { tv_sec, tv_nsec })
    }
}
