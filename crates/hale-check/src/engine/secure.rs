//! TLS on the shard's own sockets: records go in and out of buffers, and nothing waits.
//!
//! The request is given to TLS before the handshake is over, so that it leaves with the last message of it: a fresh
//! check then costs connect, two sends, two receives and the dissolving, and a kept one a send and a receive.

use std::{io::Read, sync::Arc};

use rustix::{event::epoll::EventFlags, io::Errno, net::SendFlags};
use rustls::ClientConnection;

use super::{
    answer::{judge, timings},
    fast::Core,
    sockets::Conn,
    state::{NONE, Nanos},
};
use crate::{
    Checker,
    http::HttpCheck,
    result::Fault,
    tls::{self, Trust},
};

/// The TLS of a connection.
#[derive(Debug)]
pub(super) struct Secure {
    connection: ClientConnection,
    /// Records that the kernel has not taken yet.
    unsent: Vec<u8>,
    /// When the handshake was over.
    pub(super) shaken_at: Option<Nanos>,
    /// The peer has said that it says no more.
    ended: bool,
}

impl Secure {
    /// Begins a handshake.
    fn new(trust: &Trust, check: &HttpCheck) -> Result<Self, Fault> {
        let config = trust.ready().ok_or_else(|| Fault::prober("TLS is not set up yet"))?;
        let name = trust.server_name(&check.place)?;
        let connection = ClientConnection::new(config, name)
            .map_err(|error| Fault::prober(format!("could not set up TLS: {error}")))?;
        Ok(Self { connection, unsent: Vec::new(), shaken_at: None, ended: false })
    }

    /// Gives it what is to be sent, as soon as that can be.
    fn say(&mut self, request: &[u8]) -> Result<(), Fault> {
        std::io::Write::write_all(&mut self.connection.writer(), request)
            .map_err(|error| Fault::prober(format!("a request does not fit into TLS: {error}")))
    }

    /// Takes what was received, and appends what it says to `into`. Nothing received: the connection has ended.
    fn take(&mut self, mut received: &[u8], into: &mut Vec<u8>) -> Result<(), rustls::Error> {
        self.ended |= received.is_empty();
        while !received.is_empty() && !self.ended {
            let broken = |error: std::io::Error| rustls::Error::General(error.to_string());
            if self.connection.read_tls(&mut received).map_err(broken)? == 0 {
                self.ended = true;
            }
            let state = self.connection.process_new_packets()?;
            let (count, from) = (state.plaintext_bytes_to_read(), into.len());
            self.ended |= state.peer_has_closed();
            if count > 0 {
                into.resize(from + count, 0);
                self.connection.reader().read_exact(&mut into[from..]).map_err(broken)?;
            }
        }
        Ok(())
    }

    pub(super) fn is_shaking_hands(&self) -> bool {
        self.connection.is_handshaking()
    }
}

impl Conn {
    /// Hands the request to TLS, which begins with a handshake where the connection is fresh.
    fn begin_to_say(&mut self, check: &HttpCheck) -> Result<(), Fault> {
        let Some(trust) = check.trust.as_deref() else { return Ok(()) };
        if self.secure.is_none() {
            self.secure = Some(Box::new(Secure::new(trust, check)?));
        }
        if let Some(secure) = self.secure.as_deref_mut() {
            secure.say(&check.request)?;
        }
        self.sent = check.request.len();
        Ok(())
    }

    /// Whether the handshake is not over yet.
    pub(super) fn is_shaking_hands(&self) -> bool {
        self.secure.as_deref().is_some_and(Secure::is_shaking_hands)
    }

    /// Sends what TLS has to say. What the kernel does not take now goes with the next.
    fn flush(&mut self) -> rustix::io::Result<()> {
        let Some(secure) = self.secure.as_deref_mut() else { return Ok(()) };
        while secure.connection.wants_write() {
            // Into memory: this can't fail.
            let _ = secure.connection.write_tls(&mut secure.unsent);
        }
        while !secure.unsent.is_empty() {
            match rustix::net::send(&self.fd, &secure.unsent, SendFlags::NOSIGNAL) {
                Ok(count) => drop(secure.unsent.drain(..count)),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Core {
    /// As for a plain check, with TLS between.
    pub(super) fn ask_in_secret(
        &mut self,
        at: u32,
        checker: &Arc<Checker>,
        check: &HttpCheck,
        flags: EventFlags,
    ) {
        let Some(conn) = self.sockets.get(at) else { return };
        if conn.sent == 0
            && let Err(fault) = conn.begin_to_say(check)
        {
            return self.failed(at, fault);
        }
        if let Err(error) = conn.flush() {
            return self.broken(at, checker, &check.place, error);
        }
        let unconnected = conn.connected_at.is_none();
        let unsent = conn.secure.as_deref().is_some_and(|it| !it.unsent.is_empty());
        if unconnected && !unsent {
            let now = self.now();
            self.sockets.get(at).map(|conn| conn.connected_at.replace(now));
        }
        let news = EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        if flags.intersects(news) {
            self.hear_in_secret(at, checker, check);
        }
    }

    /// Reads until the answer is whole, or there is no more for now.
    fn hear_in_secret(&mut self, at: u32, checker: &Arc<Checker>, check: &HttpCheck) {
        loop {
            let Some(conn) = self.sockets.get(at) else { return };
            let count = match conn.receive(&mut self.buffer) {
                Ok(Some(count)) => count,
                Ok(None) => return,
                Err(error) => return self.broken(at, checker, &check.place, error),
            };
            let now = self.now();
            let Some(conn) = self.sockets.get(at) else { return };
            let Some(secure) = conn.secure.as_deref_mut() else { return };
            let (before, mut received) = (conn.received.len(), std::mem::take(&mut conn.received));
            let was_shaking = secure.is_shaking_hands();
            let took = secure.take(&self.buffer[..count], &mut received);
            let (shaking, ended) = (secure.is_shaking_hands(), secure.ended);
            if was_shaking && !shaking {
                secure.shaken_at = Some(now);
            }
            if received.len() > before && conn.first_byte_at.is_none() {
                conn.first_byte_at = Some(now);
            }
            // An alert, the end of the handshake with the request, or nothing.
            let sent = conn.flush();
            if let Err(error) = took {
                let fault = tls::refused(&error, &check.place, was_shaking);
                return self.failed(at, fault);
            }
            if shaking && ended {
                return self.failed(at, tls::hung_up(&check.place));
            }
            if let Err(error) = sent {
                return self.broken(at, checker, &check.place, error);
            }
            if (received.len() > before || ended) && self.heard(at, checker, check, &received, ended) {
                return;
            }
            let Some(conn) = self.sockets.get(at) else { return };
            conn.received = received;
            // The kernel had no more than that; of more it tells by another edge.
            if count < self.buffer.len() && !conn.ending {
                return;
            }
        }
    }

    /// Looks at the answer as far as it came. `true`: the check is over.
    fn heard(
        &mut self,
        at: u32,
        checker: &Arc<Checker>,
        check: &HttpCheck,
        received: &[u8],
        ended: bool,
    ) -> bool {
        let now = self.now();
        let Some(conn) = self.sockets.get(at) else { return true };
        match conn.parser.advance(received, ended) {
            Ok(Some(complete)) => {
                let timings = timings(conn, self.probes.at(conn.probe).began, now);
                let judged = judge(check, conn, received, timings);
                conn.ending |= ended;
                self.answered(at, checker, complete, judged, check.keep_alive);
            }
            Ok(None) => return false,
            Err(_) if conn.reused && conn.first_byte_at.is_none() => {
                self.broken(at, checker, &check.place, Errno::CONNRESET);
            }
            Err(fault) => {
                let detail = format!("{}: {}", check.place, fault.detail);
                self.failed(at, Fault { detail, ..fault });
            }
        }
        true
    }

    /// Something came on a connection that is kept, and nothing was asked. A message of TLS itself, like a ticket, is
    /// no harm; after anything else it is of no more use.
    pub(super) fn stir(&mut self, at: u32, flags: EventFlags) {
        let mut said = Vec::new();
        let Some(conn) = self.sockets.get(at) else { return };
        let probe = conn.probe;
        let gone = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        let harmless = !gone
            && match conn.receive(&mut self.buffer) {
                Ok(None) => true,
                Ok(Some(count)) if count < self.buffer.len() => {
                    conn.secure.as_deref_mut().is_some_and(|it| {
                        it.take(&self.buffer[..count], &mut said).is_ok() && !it.ended && said.is_empty()
                    })
                }
                _ => false,
            };
        if !harmless {
            self.sockets.close(at);
            self.probes.at(probe).kept = NONE;
        }
    }
}
