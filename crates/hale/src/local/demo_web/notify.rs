//! Reporting over `NOTIFY_SOCKET`, as programs written for systemd do (`sd_notify(3)`).

use std::{
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    time::Duration,
};

use tokio::time::Interval;

/// Tells whoever started this process how it is; silent where nobody asked.
pub(super) struct Notifier {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// Twice within the time that a sign of life is expected in.
    alive: Option<Interval>,
}

impl Notifier {
    /// As the environment says: `NOTIFY_SOCKET` and `WATCHDOG_USEC`.
    pub(super) fn from_environment() -> Self {
        let address = |name: String| match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(name),
        };
        let to = std::env::var("NOTIFY_SOCKET")
            .ok()
            .and_then(|name| Some((UnixDatagram::unbound().ok()?, address(name).ok()?)));
        let micros = std::env::var("WATCHDOG_USEC").ok().and_then(|it| it.parse::<u64>().ok());
        let alive = micros
            .filter(|_| to.is_some())
            .map(|it| tokio::time::interval(Duration::from_micros((it / 2).max(1000))));
        Self { to, alive }
    }

    /// Sends variables. Nobody is there to be told when that fails; the missing report says it itself.
    pub(super) fn say(&self, variables: &str) {
        if let Some((socket, to)) = &self.to {
            let _ = socket.send_to_addr(variables.as_bytes(), to);
        }
    }

    /// When the next sign of life is due; never, where none is expected.
    pub(super) async fn due(&mut self) {
        match &mut self.alive {
            Some(alive) => drop(alive.tick().await),
            None => std::future::pending().await,
        }
    }
}
