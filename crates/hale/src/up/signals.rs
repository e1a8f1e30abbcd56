//! SIGINT and SIGTERM: the first one ends hale in order, a second one hurries (C2). SIGHUP ends nothing (C12).

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// Hears them.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Hears them from now on.
    ///
    /// # Errors
    /// The system does not let us.
    pub(crate) fn new() -> Result<Self, Failure> {
        let hear =
            |kind| signal(kind).map_err(|error| Failure::failed(format!("can't hear signals: {error}")));
        Ok(Self { interrupt: hear(SignalKind::interrupt())?, terminate: hear(SignalKind::terminate())? })
    }

    /// The same, and from now on SIGHUP does not end this process: what it has to read again, it reads at each
    /// connection or hears of itself (C12).
    ///
    /// # Errors
    /// The system does not let us.
    pub(crate) fn of_service() -> Result<Self, Failure> {
        let mut hangups = signal(SignalKind::hangup())
            .map_err(|error| Failure::failed(format!("can't hear signals: {error}")))?;
        tokio::spawn(async move {
            while hangups.recv().await.is_some() {
                tracing::info!("SIGHUP: tokens and certificates are read anew at the next connection");
            }
        });
        Self::new()
    }

    /// Waits for the next one; its name.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
