//! The notify sockets (H9): `sd_notify` datagrams, and who sent them.
//!
//! A socket per replica that asks for one, in the abstract namespace: its name is short and a replica that runs as
//! another user can reach it, whatever the data directory allows.

use std::{
    ffi::OsString,
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::fd::OwnedFd,
};

use rustix::{
    cmsg_space,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix, SocketFlags,
        SocketType, UCred, bind, recvmsg, socket_with, sockopt,
    },
};

/// The longest datagram read; longer ones are cut.
const DATAGRAM_MAX: usize = 4096;
/// The longest value kept.
const VALUE_MAX: usize = 1024;
/// The most variables of one datagram that are kept.
const VARIABLES_MAX: usize = 16;

/// A socket of this name, and the `NOTIFY_SOCKET` that leads to it.
pub(crate) fn open(name: &str) -> io::Result<(OwnedFd, OsString)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    sockopt::set_socket_passcred(&socket, true)?;
    bind(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
    Ok((socket, OsString::from(format!("@{name}"))))
}

/// Who sent it, and its `NAME=value` lines.
type Datagram = (Option<UCred>, Vec<(String, String)>);

/// One datagram: who sent it, and its `NAME=value` lines. `None` when there is none now.
pub(crate) fn receive(socket: &OwnedFd) -> io::Result<Option<Datagram>> {
    let mut bytes = [0_u8; DATAGRAM_MAX];
    // Room for file descriptors too (FDSTORE=1): they are received and closed.
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmCredentials(1), ScmRights(16))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC,
    );
    let length = match message {
        Ok(message) => message.bytes,
        Err(rustix::io::Errno::AGAIN) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let mut sender = None;
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmCredentials(credentials) = part {
            sender = Some(credentials);
        }
    }
    Ok(Some((sender, parse(&bytes[..length]))))
}

fn parse(datagram: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(datagram);
    let lines = text.lines().filter_map(|line| line.split_once('=')).filter(|(name, _)| !name.is_empty());
    let cut = |value: &str| {
        let end = (0..=VALUE_MAX.min(value.len())).rev().find(|at| value.is_char_boundary(*at)).unwrap_or(0);
        value[..end].to_owned()
    };
    lines.take(VARIABLES_MAX).map(|(name, value)| (cut(name), cut(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_is_read_line_by_line_and_cut() {
        let long = format!("READY=1\nno sign\n=empty\nSTATUS={}\n", "é".repeat(600));
        let lines = parse(long.as_bytes());
        assert_eq!(lines[0], ("READY".to_owned(), "1".to_owned()));
        assert_eq!((lines[1].0.as_str(), lines[1].1.len()), ("STATUS", 1024));
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn the_sender_is_told_by_the_kernel() {
        let name = format!("hale-test/{}", std::process::id());
        let (socket, path) = open(&name).unwrap();
        assert_eq!(path, OsString::from(format!("@{name}")));
        assert!(receive(&socket).unwrap().is_none());
        let client = std::os::unix::net::UnixDatagram::unbound().unwrap();
        let address =
            <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name);
        client.send_to_addr(b"WATCHDOG=1", &address.unwrap()).unwrap();
        let (sender, lines) = receive(&socket).unwrap().unwrap();
        assert_eq!(sender.unwrap().pid.as_raw_nonzero().get().unsigned_abs(), std::process::id());
        assert_eq!(lines, [("WATCHDOG".to_owned(), "1".to_owned())]);
    }
}
