//! The sockets of a shard.
//!
//! A connection is made on a socket that has been used before, where there is one: dissolving the association
//! (`connect` to `AF_UNSPEC`) resets the old connection, as a close with zero linger does, and leaves a socket that is
//! set up and in the epoll set already. A fresh connection per probe (H7) then costs four system calls instead of
//! six, and nothing for making and unmaking files.

use std::{io, net::SocketAddr, os::fd::OwnedFd, time::Duration};

use rustix::{
    event::epoll,
    io::Errno,
    net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, sockopt},
};

use super::{
    secure::Secure,
    state::{NONE, Nanos},
};
use crate::http::response::Parser;

/// Sockets without a connection that are kept for the next, per family.
const MAX_IDLE: usize = 256;

/// A socket and what it is used for.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) fd: OwnedFd,
    v6: bool,
    pub(super) using: Use,
    /// The probe it is used for.
    pub(super) probe: u32,
    /// Connected at all, in this use.
    pub(super) connected_at: Option<Nanos>,
    /// When this connection was begun.
    pub(super) opened_at: Nanos,
    pub(super) first_byte_at: Option<Nanos>,
    /// How much of the request is sent.
    pub(super) sent: usize,
    pub(super) parser: Parser,
    /// What was received, when one read did not bring all of it.
    pub(super) received: Vec<u8>,
    /// What is between the socket and the parser, where the check is one over TLS.
    pub(super) secure: Option<Box<Secure>>,
    /// It carried an earlier check.
    pub(super) reused: bool,
    /// The peer has closed, or reset.
    pub(super) ending: bool,
}

/// What a socket is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Nothing.
    Idle,
    /// A check.
    Check,
    /// A connection kept for the next check of its probe.
    Kept,
}

/// All sockets of a shard, and the epoll set they are in.
#[derive(Debug)]
pub(super) struct Sockets {
    epoll: OwnedFd,
    conns: Vec<Option<Box<Conn>>>,
    free: Vec<u32>,
    idle: [Vec<u32>; 2],
    pub(super) kept: usize,
}

impl Sockets {
    pub(super) fn new(epoll: OwnedFd) -> Self {
        Self { epoll, conns: Vec::new(), free: Vec::new(), idle: [Vec::new(), Vec::new()], kept: 0 }
    }

    pub(super) fn get(&mut self, at: u32) -> Option<&mut Conn> {
        self.conns.get_mut(at as usize)?.as_deref_mut()
    }

    /// Begins to connect for a probe.
    pub(super) fn open(&mut self, to: SocketAddr, probe: u32, now: Nanos) -> io::Result<u32> {
        let v6 = to.is_ipv6();
        let at = match self.idle[usize::from(v6)].pop() {
            Some(at) => at,
            None => self.make(v6)?,
        };
        let Some(conn) = self.get(at) else { return Err(io::Error::other("a socket was lost")) };
        conn.begin(probe, now);
        match net::connect(&conn.fd, &to) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(at),
            Err(error) => {
                self.close(at);
                Err(error.into())
            }
        }
    }

    fn make(&mut self, v6: bool) -> io::Result<u32> {
        let family = if v6 { AddressFamily::INET6 } else { AddressFamily::INET };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd = net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        sockopt::set_socket_linger(&fd, Some(Duration::ZERO))?;
        let at = self.free.pop().unwrap_or_else(|| {
            self.conns.push(None);
            u32::try_from(self.conns.len() - 1).unwrap_or(NONE)
        });
        // Edges: whoever is told acts until the kernel says it would block, so that nothing needs to be changed in
        // the set as a connection goes from connecting to sending to receiving.
        let events =
            epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        if let Err(error) = epoll::add(&self.epoll, &fd, epoll::EventData::new_u64(at.into()), events) {
            self.free.push(at);
            return Err(error.into());
        }
        self.conns[at as usize] = Some(Box::new(Conn::new(fd, v6)));
        Ok(at)
    }

    /// Resets a connection; the socket is used again if it can be.
    pub(super) fn recycle(&mut self, at: u32) {
        let room = |idle: &Vec<u32>| idle.len() < MAX_IDLE;
        let Some(Some(conn)) = self.conns.get_mut(at as usize) else { return };
        let idle = &mut self.idle[usize::from(conn.v6)];
        if room(idle) && net::connect_unspec(&conn.fd).is_ok() {
            conn.using = Use::Idle;
            conn.secure = None;
            conn.probe = NONE;
            idle.push(at);
        } else {
            self.close(at);
        }
    }

    /// Closes a socket; with zero linger that resets the connection.
    pub(super) fn close(&mut self, at: u32) {
        let Some(conn) = self.conns.get_mut(at as usize).and_then(Option::take) else { return };
        match conn.using {
            Use::Kept => self.kept -= 1,
            Use::Idle => self.idle[usize::from(conn.v6)].retain(|it| *it != at),
            Use::Check => {}
        }
        self.free.push(at);
    }

    /// Keeps a connection for the next check of its probe.
    pub(super) fn keep(&mut self, at: u32) {
        if let Some(conn) = self.get(at) {
            conn.using = Use::Kept;
            conn.received = Vec::new();
            self.kept += 1;
        }
    }

    /// Uses a kept connection for the next check of its probe.
    pub(super) fn resume(&mut self, at: u32, now: Nanos) {
        if let Some(conn) = self.get(at) {
            let probe = conn.probe;
            conn.begin(probe, now);
            conn.reused = true;
            conn.connected_at = Some(now);
            self.kept -= 1;
        }
    }
}

impl Conn {
    fn new(fd: OwnedFd, v6: bool) -> Self {
        Self {
            fd,
            v6,
            using: Use::Idle,
            probe: NONE,
            connected_at: None,
            opened_at: 0,
            first_byte_at: None,
            sent: 0,
            parser: Parser::default(),
            received: Vec::new(),
            secure: None,
            reused: false,
            ending: false,
        }
    }

    fn begin(&mut self, probe: u32, now: Nanos) {
        self.using = Use::Check;
        self.probe = probe;
        self.connected_at = None;
        self.opened_at = now;
        self.first_byte_at = None;
        self.sent = 0;
        self.parser = Parser::default();
        self.received.clear();
        self.reused = false;
        self.ending = false;
    }

    /// Sends more of a request. `Ok(false)`: not all could be sent yet, or the connection is not there yet.
    pub(super) fn send(&mut self, request: &[u8]) -> rustix::io::Result<bool> {
        while self.sent < request.len() {
            match net::send(&self.fd, &request[self.sent..], SendFlags::NOSIGNAL) {
                Ok(count) => self.sent += count,
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Receives what is there. `None`: nothing yet.
    pub(super) fn receive(&self, into: &mut [u8]) -> rustix::io::Result<Option<usize>> {
        loop {
            match net::recv(&self.fd, &mut *into, RecvFlags::empty()) {
                Ok((count, _)) => return Ok(Some(count)),
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether the connection is there. `Ok(false)`: not yet.
    pub(super) fn established(&self) -> rustix::io::Result<bool> {
        match net::getpeername(&self.fd) {
            Ok(_) => Ok(true),
            Err(Errno::NOTCONN) => sockopt::socket_error(&self.fd)?.map(|()| false),
            Err(error) => Err(error),
        }
    }
}
