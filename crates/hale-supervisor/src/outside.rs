//! Whether a node has lost its own way to other machines, for what it probes there (H22).
//!
//! When a check of another machine fails, the node looks at its own links and default routes before that failure meets
//! its target, and where references are named it asks them. What runs on the node itself is none of this: a workload of
//! a node without a network is judged as before.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hale_health::{Network, Observer, ObserverPolicy, Time, Uplink};
use tokio::{net::TcpStream, sync::watch, task::JoinSet, time::timeout};

use crate::{clock::Clock, guard::Guard, sink::Sink};

mod netlink;

pub use netlink::look;

/// What a node sees of its network; `None`: it can't be told, which is nothing to hold against it.
pub type Look = Arc<dyn Fn() -> Option<Network> + Send + Sync>;

/// How often it is looked at most, for failures.
const LOOKS: Duration = Duration::from_millis(100);

/// How long a reference may take to answer: less than a check of itself may take.
const ANSWERS_WITHIN: Duration = Duration::from_millis(800);

/// Watches the way to other machines. Cheap to clone.
#[derive(Clone)]
pub struct Outside {
    guard: Guard,
    watch: Arc<Watch>,
}

struct Watch {
    look: Look,
    references: Vec<String>,
    clock: Arc<dyn Clock>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    uplink: Uplink,
    looked_at: Option<Time>,
    found: Option<String>,
}

impl Outside {
    /// Of this machine; `references`: `host:port` each, of which at least one answers while the network is there.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(node: &str, sink: Arc<dyn Sink>, clock: Arc<dyn Clock>, references: Vec<String>) -> Self {
        Self::start_with(node, sink, clock, references, Arc::new(look))
    }

    /// With another view of the network.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start_with(
        node: &str,
        sink: Arc<dyn Sink>,
        clock: Arc<dyn Clock>,
        references: Vec<String>,
        look: Look,
    ) -> Self {
        let known = Mutex::default();
        let watch = Arc::new(Watch { look, references, clock: Arc::clone(&clock), known });
        // What the node has now it can lose.
        let _ = watch.look(false);
        let asked = Arc::clone(&watch);
        let check = Arc::new(move || -> crate::runtime::BoxFuture<'static, Result<(), String>> {
            let watch = Arc::clone(&asked);
            Box::pin(async move { watch.check().await })
        });
        // Whether many fail at once is the other guard's question.
        let policy = ObserverPolicy { at_least: u32::MAX, ..ObserverPolicy::default() };
        Self { guard: Guard::start_with(node, sink, clock, policy, check), watch }
    }

    /// Shows it an outcome, before it is judged: of which probe, asking which host. Errors of the prober are none.
    pub fn outcome(&self, probe: &str, host: &str, healthy: bool) {
        if !is_elsewhere(host) {
            return;
        }
        if healthy {
            self.watch.known().uplink.reached(self.watch.clock.now());
        } else if let Err(reason) = self.watch.look(true) {
            self.guard.found_unwell(reason);
        }
        self.guard.outcome(probe, host, healthy);
        if !healthy && !self.watch.references.is_empty() {
            self.guard.doubt(probe);
        }
    }

    /// A probe is no more.
    pub fn forget(&self, probe: &str) {
        self.guard.forget(probe);
    }

    /// What the node thinks of its checks of other machines, now and from now on.
    #[must_use]
    pub fn observer(&self) -> watch::Receiver<Observer> {
        self.guard.observer()
    }
}

impl Watch {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is lost. `again`: what was seen just now will do.
    fn look(&self, again: bool) -> Result<(), String> {
        let now = self.clock.now();
        let mut known = self.known();
        if !again || known.looked_at.is_none_or(|at| now.since(at) >= LOOKS) {
            known.looked_at = Some(now);
            if let Some(network) = (self.look)() {
                known.found = known.uplink.look(now, &network).err();
            }
        }
        known.found.clone().map_or(Ok(()), Err)
    }

    async fn check(&self) -> Result<(), String> {
        self.look(false)?;
        if self.references.is_empty() {
            return Ok(());
        }
        let mut asked = JoinSet::new();
        for reference in self.references.clone() {
            asked.spawn(answers(reference));
        }
        let mut whys = Vec::new();
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(why)) => whys.push(why),
                Err(error) => whys.push(error.to_string()),
            }
        }
        whys.sort_unstable();
        Err(format!("none of its references answers: {}", whys.join("; ")))
    }
}

/// Whether a machine answers there: one that refuses a connection is there, too.
async fn answers(reference: String) -> Result<(), String> {
    match timeout(ANSWERS_WITHIN, TcpStream::connect(&reference)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
        Ok(Err(error)) => Err(format!("{reference}: {error}")),
        Err(_) => Err(format!("{reference}: no answer within {} ms", ANSWERS_WITHIN.as_millis())),
    }
}

/// Whether a host is another machine, as far as its name tells.
#[must_use]
pub fn is_elsewhere(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) => !ip.to_canonical().is_loopback(),
        Ok(ip) => !ip.is_loopback(),
        Err(_) => {
            let name = host.trim_end_matches('.');
            !(name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost"))
        }
    }
}

#[cfg(test)]
mod tests;
