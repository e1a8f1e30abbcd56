//! The scripted prober.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hale_health::{Outcome, ProbeKind, Reason, Verdict};
use tokio::{sync::mpsc, task::AbortHandle};

use crate::{
    clock::Clock,
    prober::{Ask, Asked, Prober},
    runtime::{BoxFuture, InstanceId},
};

/// Outcomes that wait for the driver. When so many do, checks wait with telling theirs; none is lost.
const QUEUE: usize = 4096;

/// What a check comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// What it finds.
    pub verdict: Verdict,
    /// How long it takes; past the probe's timeout it is a timeout.
    pub takes: Duration,
}

impl Answer {
    /// Success, at once.
    #[must_use]
    pub const fn well() -> Self {
        Self { verdict: Verdict::Success, takes: Duration::ZERO }
    }

    /// A failure, at once.
    #[must_use]
    pub fn fails(reason: Reason) -> Self {
        Self { verdict: Verdict::failure(reason, "as scripted"), takes: Duration::ZERO }
    }

    /// No answer, ever.
    #[must_use]
    pub const fn hangs() -> Self {
        Self { verdict: Verdict::Success, takes: Duration::MAX }
    }
}

/// A prober that finds what it is told to find: success, unless told otherwise.
pub struct SimProber {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    outcomes: mpsc::Sender<Asked>,
    taken: Mutex<Option<mpsc::Receiver<Asked>>>,
}

#[derive(Default)]
struct State {
    answers: HashMap<(String, ProbeKind), Answer>,
    asking: HashMap<(InstanceId, ProbeKind), AbortHandle>,
}

impl SimProber {
    /// A prober that finds everything well.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        let (outcomes, taken) = mpsc::channel(QUEUE);
        Arc::new(Self { clock, state: Mutex::default(), outcomes, taken: Mutex::new(Some(taken)) })
    }

    /// From now on, checks of this kind of this replica, or of the replicas of this workload, come to that. A
    /// replica's own answer comes before its workload's.
    pub fn answer(&self, name: &str, kind: ProbeKind, answer: Answer) {
        self.lock().answers.insert((name.to_owned(), kind), answer);
    }

    /// How many probes are registered.
    pub fn asking(&self) -> usize {
        self.lock().asking.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer_to(&self, ask: &Ask) -> Answer {
        let state = self.lock();
        let of = |name: &str| state.answers.get(&(name.to_owned(), ask.kind)).cloned();
        of(&ask.id.replica).or_else(|| of(&ask.workload.name)).unwrap_or_else(Answer::well)
    }

    async fn check(&self, ask: &Ask) -> Asked {
        let started_at = self.clock.now();
        let timing = &ask.probe.timing;
        let mut answer = self.answer_to(ask);
        if answer.takes > timing.timeout {
            answer.takes = timing.timeout;
            answer.verdict = Verdict::failure(Reason::Timeout, "no answer");
        }
        self.clock.sleep_until(started_at + answer.takes).await;
        let outcome = Outcome {
            incarnation: ask.id.incarnation,
            probe: ask.kind,
            verdict: answer.verdict,
            started_at,
            took: answer.takes,
        };
        Asked { id: ask.id.clone(), outcome, excerpt: None, traceparent: None }
    }

    async fn keep_asking(self: Arc<Self>, ask: Ask) {
        let timing = ask.probe.timing;
        let spread = if ask.spread { timing.period } else { Duration::ZERO };
        let mut due = self.clock.now() + ask.first_after + spread;
        loop {
            self.clock.sleep_until(due).await;
            let asked = self.check(&ask).await;
            if self.outcomes.send(asked).await.is_err() {
                return;
            }
            due += timing.period;
            due = due.max(self.clock.now());
        }
    }
}

/// The prober as the driver holds it.
impl Prober for Arc<SimProber> {
    fn register(&self, ask: Ask) {
        let key = (ask.id.clone(), ask.kind);
        let task = tokio::spawn(Self::clone(self).keep_asking(ask));
        if let Some(old) = self.lock().asking.insert(key, task.abort_handle()) {
            old.abort();
        }
    }

    fn cancel(&self, id: &InstanceId, kind: ProbeKind) {
        if let Some(task) = self.lock().asking.remove(&(id.clone(), kind)) {
            task.abort();
        }
    }

    fn outcomes(&self) -> Option<mpsc::Receiver<Asked>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn ask_once(&self, ask: Ask) -> BoxFuture<'static, Asked> {
        let this = Self::clone(self);
        Box::pin(async move { this.check(&ask).await })
    }
}
