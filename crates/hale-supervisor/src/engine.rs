//! The prober of a node: the engine of `hale-check`, shared by the probes of replicas and by targets.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hale_check::{
    CheckResult, Checker, CompileError, Deliver, Engine, EngineOptions, Finished, ProbeHandle, Registration,
    Start, Subject, User,
};
use hale_health::{Incarnation, Outcome, ProbeKind, ProbeTiming, Reason, Time, Verdict};
use tokio::sync::mpsc;

use crate::{
    clock::{BootClock, Clock},
    prober::{Ask, Asked, Prober},
    runtime::{BoxFuture, InstanceId},
};

/// Outcomes that wait for a driver. When so many do, the engine starts no new checks; none is lost.
const QUEUE: usize = 1024;

/// The most of an answer that goes with an outcome, bytes.
const EXCERPT: usize = 1024;

/// Tokens of targets have this bit, those of probes do not.
const TARGET: u64 = 1 << 63;

/// Whose outcome it is, by token.
type Known = Arc<Mutex<HashMap<u64, (InstanceId, ProbeKind)>>>;

/// Everything that is checked on a node.
#[derive(Debug)]
pub struct Checks {
    /// Asks replicas: give it to the supervisor.
    pub prober: Arc<EngineProber>,
    /// Asks targets.
    pub targets: TargetChecks,
}

impl Checks {
    /// Starts an engine.
    ///
    /// # Errors
    /// When the kernel refuses a thread or the few descriptors that it needs.
    pub fn start(options: &EngineOptions) -> io::Result<Self> {
        let known = Known::default();
        let (outcomes, taken) = mpsc::channel(QUEUE);
        let (target_results, finished) = mpsc::channel(QUEUE);
        let post = Post { known: Arc::clone(&known), outcomes: outcomes.clone(), targets: target_results };
        let engine = Arc::new(Engine::start(options, post)?);
        let prober = EngineProber {
            engine: Arc::clone(&engine),
            known,
            asked: Mutex::default(),
            next: AtomicU64::new(0),
            outcomes,
            taken: Mutex::new(Some(taken)),
        };
        Ok(Self { prober: Arc::new(prober), targets: TargetChecks { engine, next: TARGET, finished } })
    }
}

/// Takes results from the engine's threads to whom they are for.
#[derive(Clone)]
struct Post {
    known: Known,
    outcomes: mpsc::Sender<Asked>,
    targets: mpsc::Sender<Finished>,
}

impl Post {
    /// Gives it away; back when there is no room. Once nobody wants them any more they are dropped.
    fn give(&self, finished: Finished) -> Option<Finished> {
        if finished.token & TARGET != 0 {
            return match self.targets.try_send(finished) {
                Err(mpsc::error::TrySendError::Full(finished)) => Some(finished),
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => None,
            };
        }
        let permit = match self.outcomes.try_reserve() {
            Ok(permit) => permit,
            Err(mpsc::error::TrySendError::Full(())) => return Some(finished),
            Err(mpsc::error::TrySendError::Closed(())) => return None,
        };
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // What was cancelled has no outcome (H10).
        if let Some((id, kind)) = known.get(&finished.token) {
            permit.send(asked(id.clone(), *kind, finished.started_at, finished.result));
        }
        None
    }
}

impl Deliver for Post {
    fn deliver(&mut self, batch: &mut Vec<Finished>) {
        let mut rest = std::mem::take(batch).into_iter();
        while let Some(finished) = rest.next() {
            if let Some(back) = self.give(finished) {
                batch.push(back);
                batch.extend(rest);
                return;
            }
        }
    }
}

fn asked(id: InstanceId, probe: ProbeKind, started_at: Time, result: CheckResult) -> Asked {
    let incarnation: Incarnation = id.incarnation;
    let excerpt = result.snippet.map(|it| it[..it.floor_char_boundary(EXCERPT)].to_owned());
    let took = result.timings.total;
    let traceparent = result.traceparent.map(String::from);
    if let Some(warning) = result.warning {
        tracing::debug!(replica = id.replica, probe = probe.as_str(), %warning, "check succeeded with a warning");
    }
    let outcome = Outcome { incarnation, probe, verdict: result.verdict, started_at, took };
    Asked { id, outcome, excerpt, traceparent }
}

/// The same number for the same name, whenever and wherever.
fn place_of(name: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

/// Asks replicas by the engine.
#[derive(Debug)]
pub struct EngineProber {
    engine: Arc<Engine>,
    known: Known,
    asked: Mutex<HashMap<(InstanceId, ProbeKind), (u64, ProbeHandle)>>,
    next: AtomicU64,
    outcomes: mpsc::Sender<Asked>,
    taken: Mutex<Option<mpsc::Receiver<Asked>>>,
}

impl EngineProber {
    /// The engine, for its counters.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    fn known(&self) -> MutexGuard<'_, HashMap<u64, (InstanceId, ProbeKind)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, old: Option<(u64, ProbeHandle)>) {
        if let Some((token, handle)) = old {
            self.known().remove(&token);
            handle.cancel();
        }
    }
}

/// What a check of a run is made ready with.
fn compile(ask: &Ask) -> Result<Checker, CompileError> {
    let mut subject =
        Subject { address: Some(ask.started.address), ports: ask.ports.clone(), ..Subject::default() };
    if let Some(surroundings) = &ask.started.surroundings {
        subject.env.clone_from(&surroundings.env);
        subject.working_dir = Some(surroundings.working_dir.clone());
        subject.user = surroundings.user.map(|(uid, gid)| User { uid, gid });
        subject.inside.clone_from(&surroundings.inside);
    }
    Checker::compile(&ask.probe.check, &subject)
}

/// A check that can't be made ready can't be made: a prober error, which changes no verdict (H10).
fn not_made(ask: &Ask, error: &CompileError) -> Asked {
    let verdict = Verdict::failure(Reason::ProberError, error.to_string());
    let (incarnation, probe, started_at) = (ask.id.incarnation, ask.kind, BootClock.now());
    let outcome = Outcome { incarnation, probe, verdict, started_at, took: Duration::ZERO };
    Asked { id: ask.id.clone(), outcome, excerpt: None, traceparent: None }
}

/// The prober as the driver holds it.
impl Prober for EngineProber {
    fn register(&self, ask: Ask) {
        let key = (ask.id.clone(), ask.kind);
        let mut all = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        self.forget(all.remove(&key));
        let checker = match compile(&ask) {
            Ok(checker) => Arc::new(checker),
            Err(error) => {
                let (outcomes, asked) = (self.outcomes.clone(), not_made(&ask, &error));
                tokio::spawn(async move { outcomes.send(asked).await });
                return;
            }
        };
        let token = self.next.fetch_add(1, Ordering::Relaxed) & !TARGET;
        self.known().insert(token, key.clone());
        let place = place_of((&ask.id.replica, ask.kind));
        let start = match (ask.spread, ask.first_after) {
            (false, Duration::ZERO) => Start::Now,
            (false, after) => Start::After(after),
            (true, after) => Start::SpreadAfter(place, after),
        };
        let timing = &ask.probe.timing;
        let registration =
            Registration { token, checker, period: timing.period, timeout: timing.timeout, start };
        all.insert(key, (token, self.engine.register(registration)));
    }

    fn cancel(&self, id: &InstanceId, kind: ProbeKind) {
        let old = self.asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&(id.clone(), kind));
        self.forget(old);
    }

    fn outcomes(&self) -> Option<mpsc::Receiver<Asked>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn ask_once(&self, ask: Ask) -> BoxFuture<'static, Asked> {
        Box::pin(async move {
            match compile(&ask) {
                Ok(checker) => {
                    let started_at = BootClock.now();
                    let result = checker.run(ask.probe.timing.timeout).await;
                    asked(ask.id, ask.kind, started_at, result)
                }
                Err(error) => not_made(&ask, &error),
            }
        })
    }
}

/// Asks targets by the engine, for whoever watches them.
#[derive(Debug)]
pub struct TargetChecks {
    engine: Arc<Engine>,
    next: u64,
    finished: mpsc::Receiver<Finished>,
}

impl TargetChecks {
    /// Asks from now on, or after the initial delay, somewhere within a period first, until the handle is dropped. Its
    /// results carry the token.
    ///
    /// # Errors
    /// The check can't be made ready.
    pub fn register(
        &mut self,
        name: &str,
        check: &hale_model::spec::Check,
        timing: &ProbeTiming,
    ) -> Result<(u64, ProbeHandle), CompileError> {
        let checker = Arc::new(Checker::compile(check, &Subject::default())?);
        let token = self.next;
        self.next = self.next.wrapping_add(1) | TARGET;
        let (period, timeout) = (timing.period, timing.timeout);
        let start = Start::SpreadAfter(place_of(name), timing.initial_delay);
        let handle = self.engine.register(Registration { token, checker, period, timeout, start });
        Ok((token, handle))
    }

    /// The next result; `None` once the engine is gone.
    pub async fn next(&mut self) -> Option<Finished> {
        self.finished.recv().await
    }
}
