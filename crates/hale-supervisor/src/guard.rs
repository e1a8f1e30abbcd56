//! The observer guard of a node (H22): before it believes that everything is broken, it looks at itself.
//!
//! The rule is `hale-health`'s; this keeps one of them for all network probes of a node, makes the self-check, and
//! tells supervisor and targets. An outcome is shown to the guard before it meets its own machine, so that the failure
//! that raises the suspicion is already held.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hale_health::{GuardDecision, Observer, ObserverGuard, ObserverPolicy};
use hale_model::{
    event::{EventData, NewEvent, NodeObserverSuspect},
    report::Report,
    spec::Check,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
};

use crate::{clock::Clock, log::log_event, runtime::BoxFuture, sink::Sink};

/// How a node checks itself: `Ok`, or what is wrong with it.
pub type SelfCheck = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// A task that is this much late on a timer says that the node has no time to probe.
const SCHEDULING_DELAY: Duration = Duration::from_millis(250);

/// Watches the outcomes of all network probes of a node. Cheap to clone.
#[derive(Clone)]
pub struct Guard {
    shared: Arc<Shared>,
}

struct Shared {
    rule: Mutex<ObserverGuard<String, String>>,
    told: watch::Sender<Observer>,
    node: String,
    sink: Arc<dyn Sink>,
    clock: Arc<dyn Clock>,
    check: SelfCheck,
    /// Wakes the task that watches over the rule's deadlines.
    changed: Notify,
}

impl Guard {
    /// A guard of a node, with the checks that every node can make of itself: its own loopback, and whether its timers
    /// are on time.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(node: &str, sink: Arc<dyn Sink>, clock: Arc<dyn Clock>) -> Self {
        Self::start_with(node, sink, clock, ObserverPolicy::default(), Arc::new(|| Box::pin(check_self())))
    }

    /// A guard with another policy and self-check.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start_with(
        node: &str,
        sink: Arc<dyn Sink>,
        clock: Arc<dyn Clock>,
        policy: ObserverPolicy,
        check: SelfCheck,
    ) -> Self {
        let shared = Arc::new(Shared {
            rule: Mutex::new(ObserverGuard::new(policy)),
            told: watch::Sender::new(Observer::Sound),
            node: node.to_owned(),
            sink,
            clock,
            check,
            changed: Notify::new(),
        });
        tokio::spawn(keep_time(Arc::downgrade(&shared)));
        Self { shared }
    }

    /// Shows it an outcome of a network probe: of which probe, asking which host. Errors of the prober are none.
    pub fn outcome(&self, probe: &str, host: &str, healthy: bool) {
        self.shared.decide(|rule, now, out| {
            rule.outcome(now, &probe.to_owned(), &host.to_owned(), healthy, out);
        });
    }

    /// A probe has failed: the node may be at fault. See [`ObserverGuard::doubt`].
    pub fn doubt(&self, probe: &str) {
        self.shared.decide(|rule, now, out| rule.doubt(now, &probe.to_owned(), out));
    }

    /// The node has seen what is wrong with itself.
    pub fn found_unwell(&self, reason: String) {
        self.shared.decide(|rule, now, out| rule.found_unwell(now, reason, out));
    }

    /// A probe is no more.
    pub fn forget(&self, probe: &str) {
        self.shared.rule().forget(&probe.to_owned());
    }

    /// What the node thinks of its own probes, now and from now on.
    #[must_use]
    pub fn observer(&self) -> watch::Receiver<Observer> {
        self.shared.told.subscribe()
    }
}

impl Shared {
    fn rule(&self) -> MutexGuard<'_, ObserverGuard<String, String>> {
        self.rule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decide(
        self: &Arc<Self>,
        ask: impl FnOnce(&mut ObserverGuard<String, String>, hale_health::Time, &mut Vec<GuardDecision>),
    ) {
        let mut decisions = Vec::new();
        ask(&mut self.rule(), self.clock.now(), &mut decisions);
        if !decisions.is_empty() {
            self.carry_out(decisions);
        }
    }

    fn carry_out(self: &Arc<Self>, decisions: Vec<GuardDecision>) {
        for decision in decisions {
            match decision {
                GuardDecision::CheckSelf => {
                    let this = Arc::clone(self);
                    tokio::spawn(async move {
                        let found = (this.check)().await;
                        let mut decisions = Vec::new();
                        this.rule().self_checked(this.clock.now(), found, &mut decisions);
                        this.carry_out(decisions);
                    });
                }
                GuardDecision::Tell(observer) => drop(self.told.send_replace(observer)),
                GuardDecision::Note { failing, probes, verdict } => self.note(failing, probes, verdict),
            }
        }
        self.changed.notify_one();
    }

    fn note(&self, failing: u32, probes: u32, verdict: String) {
        let data = EventData::NodeObserverSuspect(NodeObserverSuspect { failing, probes, verdict });
        log_event(&self.node, &data);
        let source = format!("/nodes/{}", self.node);
        let event = NewEvent { time: self.clock.wall(), source, subject: self.node.clone(), data };
        self.sink.report(Report::Event(Box::new(event)));
    }
}

/// Wakes the rule when it wants to be, until the guard is gone.
async fn keep_time(guard: std::sync::Weak<Shared>) {
    loop {
        let Some(shared) = guard.upgrade() else { return };
        let due = shared.rule().next_deadline();
        match due {
            Some(due) => {
                tokio::select! {
                    () = shared.clock.sleep_until(due) => {}
                    () = shared.changed.notified() => continue,
                }
                shared.decide(|rule, now, out| rule.tick(now, out));
            }
            // A suspicion is always noticed by whoever raises it; this only keeps the task from living for ever.
            None => {
                let waited = shared.clock.sleep_until(shared.clock.now() + Duration::from_secs(60));
                tokio::select! {
                    () = waited => {}
                    () = shared.changed.notified() => {}
                }
            }
        }
    }
}

/// Connects to a listener of its own, and sees whether its timers are on time. Whoever asks bounds the time.
async fn check_self() -> Result<(), String> {
    let before = tokio::time::Instant::now();
    let nap = Duration::from_millis(20);
    tokio::time::sleep(nap).await;
    let late = before.elapsed().saturating_sub(nap);
    if late > SCHEDULING_DELAY {
        return Err(format!("its timers are {} ms late", late.as_millis()));
    }
    let failed =
        |what: &'static str| move |error: std::io::Error| format!("its own loopback: can't {what}: {error}");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed("listen"))?;
    let address = listener.local_addr().map_err(failed("listen"))?;
    let (connected, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    connected.map_err(failed("connect"))?;
    accepted.map(drop).map_err(failed("accept"))
}

/// The host that a check of a replica or target asks, where it goes over the network; `own`: the replica's address.
#[must_use]
pub fn network_host(check: &Check, own: Option<std::net::IpAddr>) -> Option<String> {
    let host = match check {
        Check::HttpGet(it) => &it.host,
        Check::TcpSocket(it) => &it.host,
        Check::Grpc(it) => &it.host,
        // The server that answers is what is reached; the machine's own ones are no address of the check.
        Check::Dns(it) => return it.server.as_ref().map(|(host, _)| host.clone()),
        Check::Tls(it) => return Some(it.host.clone()),
        Check::Exec(_) | Check::Notify => return None,
    };
    host.clone().or_else(|| own.map(|own| own.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_machine_that_is_well_finds_itself_well() {
        assert_eq!(check_self().await, Ok(()));
    }
}
