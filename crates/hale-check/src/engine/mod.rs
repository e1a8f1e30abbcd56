//! The engine: many checks, each on time (H10).
//!
//! Probes are dealt to shards. A shard is one thread with a timer wheel, an epoll set and its own sockets, and owns
//! everything about its probes: there is no barrier and no queue that all checks go through, so a slow check delays
//! nobody. HTTP, HTTPS and TCP checks are made on the shard itself, with a handful of system calls and, but for TLS, no
//! allocation while nothing changes; checks that need more (gRPC, exec, a CA file of their own, a name that isn't
//! resolved yet, a redirect) run as tasks of a tokio runtime and come back to the shard when done.

mod answer;
mod away;
mod fast;
mod secure;
mod shard;
mod sockets;
mod state;
mod wheel;

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::Duration,
};

use hale_health::Time;
use tokio::{runtime::Handle, sync::mpsc};

use crate::{CheckResult, Checker};

/// A check that is made again and again.
#[derive(Debug, Clone)]
pub struct Registration {
    /// Comes back with every result. The receiver drops results whose token it no longer knows.
    pub token: u64,
    /// What is asked.
    pub checker: Arc<Checker>,
    /// From the start of one check to the start of the next; at least a millisecond. A check that takes longer is
    /// followed by the next at once.
    pub period: Duration,
    /// The longest one check may take.
    pub timeout: Duration,
    /// When the first one is made.
    pub start: Start,
}

/// When the first check is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At once: startup and readiness of a new incarnation.
    Now,
    /// After a delay, then every period.
    After(Duration),
    /// Somewhere within a period, always the same place for the same number: liveness, targets and adopted replicas,
    /// which would else all ask at the same moment. The number may be any hash of the probe's name.
    Spread(u64),
    /// As [`Self::Spread`], after a delay.
    SpreadAfter(u64, Duration),
}

/// One check that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Of its registration.
    pub token: u64,
    /// When it began, on the scale of `CLOCK_BOOTTIME`.
    pub started_at: Time,
    /// How much later that was than it should have been.
    pub late: Duration,
    /// What it found; how long it took is in its timings.
    pub result: CheckResult,
}

/// Takes results. Called by the threads of the engine, one call at a time per shard; must not block.
pub trait Deliver: Send + 'static {
    /// Takes results out of the batch, from the front. What is left in it is offered again, within 10 ms; until all
    /// is taken the shard starts no new checks, so that never more than one result per probe waits.
    fn deliver(&mut self, batch: &mut Vec<Finished>);
}

impl Deliver for mpsc::Sender<Finished> {
    /// Sends while there is room. Once the receiver is gone results are dropped.
    fn deliver(&mut self, batch: &mut Vec<Finished>) {
        if self.is_closed() {
            batch.clear();
            return;
        }
        // Another shard may take the room between the two calls: then there is a next time.
        let count = batch.len().min(self.capacity());
        if let Ok(permits) = self.try_reserve_many(count) {
            for (permit, finished) in permits.zip(batch.drain(..count)) {
                permit.send(finished);
            }
        }
    }
}

/// How the engine is built.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// How many threads make checks; at least 1. One carries some 20,000 plain checks a second.
    pub shards: usize,
    /// Checks in flight at once, over all shards. Further ones wait for their turn, in order, and count as late.
    /// `None`: a quarter of the open files this process may have, at most 8192.
    pub max_in_flight: Option<usize>,
    /// Connections kept between checks, over all shards; others are closed after the check. `None`: a quarter of the
    /// open files this process may have.
    pub max_kept: Option<usize>,
    /// Where checks run that need more than a socket. It must drive I/O and time.
    pub runtime: Handle,
}

impl EngineOptions {
    /// One shard, and the rest by the limits of this process.
    #[must_use]
    pub const fn new(runtime: Handle) -> Self {
        Self { shards: 1, max_in_flight: None, max_kept: None, runtime }
    }
}

/// What the engine has done and is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Probes registered.
    pub registered: usize,
    /// Checks under way.
    pub in_flight: usize,
    /// Checks that are due and wait for their turn.
    pub waiting: usize,
    /// Checks started so far.
    pub started: u64,
    /// Of these, how many began more than 50 ms late.
    pub late_starts: u64,
    /// Results that were a prober error.
    pub prober_errors: u64,
    /// Times a check had to wait because this machine lacked descriptors or ports.
    pub held: u64,
}

/// Makes registered checks on time until it is dropped.
#[derive(Debug)]
pub struct Engine {
    shards: Vec<Arc<shard::Shard>>,
    threads: Vec<JoinHandle<()>>,
    next: std::sync::atomic::AtomicUsize,
}

impl Engine {
    /// Starts the threads. Each delivers to a clone of `deliver`.
    ///
    /// # Errors
    /// When the kernel refuses a thread or the few descriptors that each needs.
    pub fn start(options: &EngineOptions, deliver: impl Deliver + Clone) -> io::Result<Self> {
        let count = options.shards.max(1);
        let files = open_files_limit();
        let max_in_flight = options.max_in_flight.unwrap_or_else(|| (files / 4).clamp(16, 8192));
        let max_kept = options.max_kept.unwrap_or(files / 4);
        let mut engine = Self { shards: Vec::new(), threads: Vec::new(), next: 0.into() };
        for nth in 0..count {
            let limits = state::Limits {
                in_flight: max_in_flight.div_ceil(count).max(1),
                kept: max_kept.div_ceil(count),
            };
            let shard = Arc::new(shard::Shard::new(limits, options.runtime.clone())?);
            engine.shards.push(Arc::clone(&shard));
            let deliver = deliver.clone();
            let thread = std::thread::Builder::new().name(format!("hale-check-{nth}"));
            engine.threads.push(thread.spawn(move || shard.run(deliver))?);
        }
        Ok(engine)
    }

    /// Makes a check again and again until the handle is dropped.
    #[must_use = "dropping the handle cancels the probe"]
    pub fn register(&self, registration: Registration) -> ProbeHandle {
        let nth = self.next.fetch_add(1, Ordering::Relaxed) % self.shards.len();
        let shard = Arc::clone(&self.shards[nth]);
        let id = shard.register(registration);
        ProbeHandle { shard, id }
    }

    /// What it has done and is doing.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shards.iter().map(|it| it.counters()).fold(Counters::default(), |sum, one| Counters {
            registered: sum.registered + one.registered,
            in_flight: sum.in_flight + one.in_flight,
            waiting: sum.waiting + one.waiting,
            started: sum.started + one.started,
            late_starts: sum.late_starts + one.late_starts,
            prober_errors: sum.prober_errors + one.prober_errors,
            held: sum.held + one.held,
        })
    }
}

impl Drop for Engine {
    /// Ends all checks, without results, and waits for the threads.
    fn drop(&mut self) {
        for shard in &self.shards {
            shard.shut_down();
        }
        for thread in self.threads.drain(..) {
            // A shard catches its own panics.
            let _ = thread.join();
        }
    }
}

/// A registered probe. Dropping it cancels the probe: a check under way is cut off and is no outcome (H10). A result
/// that was ready by then may still arrive.
#[derive(Debug)]
pub struct ProbeHandle {
    shard: Arc<shard::Shard>,
    id: state::ProbeId,
}

impl ProbeHandle {
    /// Makes a check now, or, when one is under way, as soon as it is done. The period counts from then.
    pub fn trigger_now(&self) {
        self.shard.trigger(self.id);
    }

    /// Asks in another rhythm from now on: the next check begins one new period after the last one began, or now if
    /// that is over.
    pub fn set_period(&self, period: Duration) {
        self.shard.set_period(self.id, period);
    }

    /// Ends the probe. The same as dropping it.
    pub fn cancel(self) {
        drop(self);
    }
}

impl Drop for ProbeHandle {
    fn drop(&mut self) {
        self.shard.cancel(self.id);
    }
}

fn open_files_limit() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.map_or(usize::MAX / 2, |it| usize::try_from(it).unwrap_or(usize::MAX / 2)).min(1 << 20)
}
