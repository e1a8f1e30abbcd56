//! Whether the agent lives: it asks its own supervisor, and tells systemd (N11).

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hale_agent::systemd::Notifier;
use hale_supervisor::{
    clock::{BootClock, Clock},
    supervisor::{SupervisorError, SupervisorHandle},
};

/// How often it is asked.
const EVERY: Duration = Duration::from_secs(1);

/// After so long without an answer it does not live.
const SILENT: Duration = Duration::from_secs(15);

/// A name that nothing has.
const NOBODY: &str = "\0";

/// When the supervisor answered last.
#[derive(Debug, Clone)]
pub(super) struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// Asks from now on.
    pub(super) fn watch(supervisor: SupervisorHandle, notifier: Arc<Notifier>) -> Self {
        let pulse = Self(Arc::new(AtomicU64::new(BootClock.now().as_nanos())));
        tokio::spawn(pulse.clone().ask(supervisor, notifier));
        pulse
    }

    async fn ask(self, supervisor: SupervisorHandle, notifier: Arc<Notifier>) {
        let mut every =
            tokio::time::interval(notifier.sign_of_life_every().map_or(EVERY, |it| it.min(EVERY)));
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            match tokio::time::timeout(SILENT, supervisor.status_of(NOBODY)).await {
                // It ends on purpose.
                Ok(Err(SupervisorError::Closed)) => return,
                Ok(_) => {
                    self.0.store(BootClock.now().as_nanos(), Ordering::Relaxed);
                    if notifier.sign_of_life_every().is_some() {
                        notifier.alive();
                    }
                }
                Err(_) => tracing::error!(seconds = SILENT.as_secs(), "the supervisor does not answer"),
            }
        }
    }

    /// Whether the supervisor has answered lately.
    pub(super) fn check(&self) -> Result<(), String> {
        let since = BootClock.now().as_nanos().saturating_sub(self.0.load(Ordering::Relaxed));
        let since = Duration::from_nanos(since);
        if since <= SILENT {
            return Ok(());
        }
        Err(format!("the supervisor has not answered for {} s", since.as_secs()))
    }
}
