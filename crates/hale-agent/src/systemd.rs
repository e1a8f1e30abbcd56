//! Talking to systemd over its notify socket (N11): ready, alive, stopping. Without one nothing is said.

use std::{
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

/// The socket of the unit this process is of.
#[derive(Debug)]
pub struct Notifier {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// The socket that `NOTIFY_SOCKET` names, and how often `WATCHDOG_USEC` wants a sign of life.
    ///
    /// # Errors
    /// The name can't be one of a socket.
    pub fn from_environment() -> io::Result<Self> {
        let own = std::env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
        let watchdog = std::env::var("WATCHDOG_USEC").ok().filter(|_| own);
        let watchdog = watchdog.and_then(|it| it.parse().ok()).filter(|it| *it > 0);
        Self::new(std::env::var_os("NOTIFY_SOCKET").as_deref(), watchdog.map(Duration::from_micros))
    }

    /// A socket by name: a path, or after `@` an abstract name.
    ///
    /// # Errors
    /// As [`Self::from_environment`].
    pub fn new(name: Option<&OsStr>, watchdog: Option<Duration>) -> io::Result<Self> {
        let socket = match name.filter(|name| !name.is_empty()) {
            Some(name) => {
                let address = match name.as_bytes().strip_prefix(b"@") {
                    Some(name) => SocketAddr::from_abstract_name(name)?,
                    None => SocketAddr::from_pathname(name)?,
                };
                let socket = UnixDatagram::unbound()?;
                socket.set_nonblocking(true)?;
                Some((socket, address))
            }
            None => None,
        };
        Ok(Self { socket, watchdog })
    }

    /// How often it wants to hear [`Notifier::alive`]: twice as often as it would act.
    #[must_use]
    pub fn sign_of_life_every(&self) -> Option<Duration> {
        self.socket.as_ref().and(self.watchdog).map(|it| it / 2)
    }

    /// The service has started.
    pub fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={status}"));
    }

    /// It lives.
    pub fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    /// It ends, on purpose.
    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    fn say(&self, text: &str) {
        let Some((socket, address)) = &self.socket else { return };
        if let Err(error) = socket.send_to_addr(text.as_bytes(), address) {
            tracing::debug!(%error, "can't tell systemd");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_arrives_at_a_path_and_at_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("hale-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let by_name = UnixDatagram::bind_addr(&address).unwrap();
        for (socket, name) in [(by_path, path.into_os_string()), (by_name, format!("@{name}").into())] {
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let notifier = Notifier::new(Some(&name), Some(Duration::from_secs(10))).unwrap();
            notifier.ready("connected");
            let mut text = [0; 64];
            let read = socket.recv(&mut text).unwrap();
            assert_eq!(&text[..read], b"READY=1\nSTATUS=connected");
            assert_eq!(notifier.sign_of_life_every(), Some(Duration::from_secs(5)));
        }
    }

    #[test]
    fn without_systemd_nothing_is_said() {
        let notifier = Notifier::new(None, Some(Duration::from_secs(10))).unwrap();
        notifier.ready("");
        assert_eq!(notifier.sign_of_life_every(), None);
    }
}
