//! The checks of components: closures of the embedding program, and hale's own.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use hale_check::{Checker, Subject};
use hale_health::{Outcome, ProbeKind, Reason, Verdict};
use hale_model::spec::Check;
use tokio::{sync::mpsc, task::AbortHandle};

use super::{
    component::Ask as OneCheck,
    runtime::{Components, CutOff, call},
};
use crate::{
    clock::Clock,
    prober::{Ask, Asked, Prober},
    runtime::{BoxFuture, InstanceId},
};

/// Outcomes that wait for the driver. When so many do, checks wait with telling theirs; none is lost.
const QUEUE: usize = 256;

/// Asks the components of a program.
pub(super) struct Asking {
    clock: Arc<dyn Clock>,
    components: Arc<Components>,
    tasks: Mutex<HashMap<(InstanceId, ProbeKind), AbortHandle>>,
    outcomes: mpsc::Sender<Asked>,
    taken: Mutex<Option<mpsc::Receiver<Asked>>>,
}

impl Asking {
    pub(super) fn new(clock: Arc<dyn Clock>, components: Arc<Components>) -> Self {
        let (outcomes, taken) = mpsc::channel(QUEUE);
        Self { clock, components, tasks: Mutex::default(), outcomes, taken: Mutex::new(Some(taken)) }
    }

    fn tasks(&self) -> MutexGuard<'_, HashMap<(InstanceId, ProbeKind), AbortHandle>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All checks of a purpose at once; the first that fails, in their order, is the outcome.
    async fn check(&self, ask: &Ask) -> Asked {
        let started_at = self.clock.now();
        let limit = ask.probe.timing.timeout;
        let component = self.components.get(&ask.workload.name);
        let asks = component.and_then(|component| component.asks_of(ask.kind).cloned());
        let checks = asks.map(|asks| asks.asks).unwrap_or_default();
        let answers = join_all(checks.iter().map(|check| self.one(check, limit))).await;
        let verdict = answers.into_iter().find(|verdict| !verdict.is_success()).unwrap_or(Verdict::Success);
        let took = self.clock.now().since(started_at);
        let outcome = Outcome { incarnation: ask.id.incarnation, probe: ask.kind, verdict, started_at, took };
        Asked { id: ask.id.clone(), outcome, excerpt: None, traceparent: None }
    }

    async fn one(&self, check: &OneCheck, limit: Duration) -> Verdict {
        match check {
            OneCheck::Closure(closure) => match call(&self.clock, closure, limit).await {
                Ok(Ok(())) => Verdict::Success,
                Ok(Err(error)) => Verdict::failure(Reason::CheckFailed, error),
                Err(CutOff::TimedOut) => {
                    Verdict::failure(Reason::Timeout, format!("no answer within {limit:?}"))
                }
                Err(CutOff::Panicked) => Verdict::failure(Reason::CheckFailed, "the check panicked"),
            },
            OneCheck::BuiltIn(check) => built_in(check, limit).await,
        }
    }

    async fn keep_asking(self: Arc<Self>, ask: Ask) {
        let period = ask.probe.timing.period;
        // Components are few: half a period is spread enough.
        let spread = if ask.spread { period / 2 } else { Duration::ZERO };
        let mut due = self.clock.now() + ask.first_after + spread;
        loop {
            self.clock.sleep_until(due).await;
            let asked = self.check(&ask).await;
            if self.outcomes.send(asked).await.is_err() {
                return;
            }
            due = (due + period).max(self.clock.now());
        }
    }
}

async fn built_in(check: &Check, limit: Duration) -> Verdict {
    let subject = Subject { address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), ..Subject::default() };
    match Checker::compile(check, &subject) {
        Ok(checker) => checker.run(limit).await.verdict,
        Err(error) => Verdict::failure(Reason::ProberError, error.to_string()),
    }
}

impl Prober for Arc<Asking> {
    fn register(&self, ask: Ask) {
        let key = (ask.id.clone(), ask.kind);
        let task = tokio::spawn(Self::clone(self).keep_asking(ask));
        if let Some(old) = self.tasks().insert(key, task.abort_handle()) {
            old.abort();
        }
    }

    fn cancel(&self, id: &InstanceId, kind: ProbeKind) {
        if let Some(task) = self.tasks().remove(&(id.clone(), kind)) {
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
