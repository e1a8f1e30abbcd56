//! Connecting, and what its failures mean.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use hale_health::Reason;
use rustix::io::Errno;
use tokio::net::{TcpSocket, TcpStream};

use crate::{
    resolve,
    result::{Fault, Timings},
    seen::Seen,
    subject::{Host, Place},
};

/// How far a check got, for its timings and for what a timeout says.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) began: Instant,
    /// When the check's timeout ends it, where that is known: each address of a name gets a part of the time.
    pub(crate) until: Option<Instant>,
    pub(crate) stage: Stage,
    pub(crate) timings: Timings,
    /// What goes with the request, where it can and traces are told (O2).
    pub(crate) parent: Option<String>,
    /// What this machine lacked when the check tried last: it goes on trying until its timeout.
    pub(crate) lacks: Option<Fault>,
    /// What was seen; `None`: nobody wants to know.
    pub(crate) seen: Option<Box<Seen>>,
}

/// What a check is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Dns,
    Connect,
    Tls,
    FirstByte,
    Answer,
}

impl Stage {
    const fn missing(self) -> &'static str {
        match self {
            Self::Dns => "its name was not resolved",
            Self::Connect => "no connection",
            Self::Tls => "the TLS handshake was not finished",
            Self::FirstByte => "connected, but no answer",
            Self::Answer => "the answer began but was not complete",
        }
    }
}

impl Trace {
    pub(crate) fn new() -> Self {
        let parent = hale_model::trace::new();
        Self {
            began: Instant::now(),
            until: None,
            stage: Stage::Dns,
            timings: Timings::default(),
            parent,
            lacks: None,
            seen: None,
        }
    }

    /// For someone who wants to know all of it.
    pub(crate) fn close() -> Self {
        Self { seen: Some(Box::default()), ..Self::new() }
    }

    /// For a check that may take so long since it began.
    pub(crate) fn within(self, timeout: Duration) -> Self {
        Self { until: self.began.checked_add(timeout), ..self }
    }

    /// The timings of a check that ends now.
    pub(crate) fn finish(&self) -> Timings {
        Timings { total: self.began.elapsed(), ..self.timings }
    }

    /// What a check that ran out of time says.
    pub(crate) fn timed_out(&self, place: &impl std::fmt::Display, timeout: Duration) -> Fault {
        // What could not be asked has not failed to answer.
        self.lacks.clone().unwrap_or_else(|| timed_out(self.stage, place, timeout))
    }
}

/// What a check that ran out of time in this stage says.
pub(crate) fn timed_out(stage: Stage, place: &impl std::fmt::Display, timeout: Duration) -> Fault {
    Fault::new(Reason::Timeout, format!("{place}: {} within {timeout:?}", stage.missing()))
}

/// What an error of the kernel means for the check. `doing` fits after "could not".
pub(crate) fn fault(error: &io::Error, doing: &str, place: &impl std::fmt::Display) -> Fault {
    let reason = reason(error);
    let hint = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::MFILE | Errno::NFILE) => "; raise the limit of open files",
        Some(Errno::ADDRNOTAVAIL) => "; no local port or address left to ask from",
        _ => "",
    };
    Fault::new(reason, format!("could not {doing} {place}: {error}{hint}"))
}

/// Whether this machine lacks something that it may have again in a moment: descriptors, ports, buffers. A check waits
/// for it then (N15).
pub(crate) const fn is_lack(error: Errno) -> bool {
    matches!(
        error,
        Errno::MFILE | Errno::NFILE | Errno::ADDRNOTAVAIL | Errno::NOBUFS | Errno::NOMEM | Errno::AGAIN
    )
}

/// How long a check waits for what this machine lacks before it tries again.
const LACK: Duration = Duration::from_millis(20);

/// What an error of the kernel means. What is not known to be the other side's doing is the prober's own (H10).
pub(crate) fn reason(error: &io::Error) -> Reason {
    let Some(errno) = error.raw_os_error().map(Errno::from_raw_os_error) else {
        return match error.kind() {
            io::ErrorKind::TimedOut => Reason::Timeout,
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => Reason::ConnectionReset,
            // What came is not what was agreed on: no error of this machine.
            io::ErrorKind::InvalidData => Reason::Protocol,
            _ => Reason::ProberError,
        };
    };
    match errno {
        Errno::CONNREFUSED => Reason::ConnectionRefused,
        Errno::CONNRESET | Errno::PIPE | Errno::CONNABORTED | Errno::NOTCONN => Reason::ConnectionReset,
        Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::HOSTDOWN | Errno::NETDOWN => Reason::Unreachable,
        Errno::TIMEDOUT => Reason::Timeout,
        _ => Reason::ProberError,
    }
}

/// Whether this machine lacks something for a connection to an address that it may have again in a moment. One that has
/// no address of its own to ask from, as with IPv6 switched off, does not come by it by waiting.
pub(crate) fn lacks(errno: Errno, to: SocketAddr) -> bool {
    is_lack(errno) && (errno != Errno::ADDRNOTAVAIL || has_source(to))
}

/// Whether this machine has an address from which it could ask that one. Nothing is sent for it.
fn has_source(to: SocketAddr) -> bool {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let connected = UdpSocket::bind(any).and_then(|it| it.connect(to));
    !matches!(connected, Err(error) if error.raw_os_error() == Some(Errno::ADDRNOTAVAIL.raw_os_error()))
}

/// What the refusal of the kernel to connect means.
pub(crate) fn unconnected(error: &io::Error, to: SocketAddr, place: &impl std::fmt::Display) -> Fault {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    if errno == Some(Errno::ADDRNOTAVAIL) && !has_source(to) {
        let detail =
            format!("could not connect to {place}: this machine has no address to ask {} from", to.ip());
        return Fault::new(Reason::Unreachable, detail);
    }
    fault(error, "connect to", place)
}

/// Resolves where needed and connects. Of several addresses each is tried in turn, the one that worked last first.
///
/// One that does not answer gets its part of the time and no more. What this machine lacks is waited for, unless an
/// address has told something: that is what the check has found.
pub(crate) async fn connect(place: &Place, trace: &mut Trace) -> Result<TcpStream, Fault> {
    let name = match &place.host {
        Host::Missing => return Err(Fault::prober("the replica has no address yet")),
        Host::Ip(ip) => return connect_to_any(&[*ip], place, trace).await.map(|(stream, _)| stream),
        Host::Name(name) => name,
    };
    trace.stage = Stage::Dns;
    let asked = Instant::now();
    let addresses = lookup(name, trace).await?;
    trace.timings.dns = Some(asked.elapsed());
    let (stream, tried) = connect_to_any(&addresses, place, trace).await?;
    if tried > 0 {
        resolve::prefer(name, addresses[tried]);
    }
    Ok(stream)
}

/// The addresses of a name. What this machine lacks for asking is waited for, as far as the check's timeout goes.
pub(crate) async fn lookup(name: &str, trace: &mut Trace) -> Result<Arc<[IpAddr]>, Fault> {
    loop {
        match resolve::lookup(name, &mut trace.lacks).await {
            Err(fault) if fault.reason == Reason::ProberError => {
                trace.lacks = Some(fault);
                tokio::time::sleep(5 * LACK).await;
            }
            found => {
                trace.lacks = None;
                return found;
            }
        }
    }
}

/// Connects to the first of these that lets us; with its place among them.
async fn connect_to_any(
    addresses: &[IpAddr],
    place: &Place,
    trace: &mut Trace,
) -> Result<(TcpStream, usize), Fault> {
    trace.stage = Stage::Connect;
    loop {
        let mut failed = None;
        for (nth, ip) in addresses.iter().enumerate() {
            let address = SocketAddr::new(*ip, place.port);
            if let Some(seen) = trace.seen.as_deref_mut() {
                seen.peer = Some(address);
            }
            // The last one has all that is left: there the timeout of the check bounds it.
            let others = u32::try_from(addresses.len() - nth).unwrap_or(u32::MAX);
            let share = trace.until.filter(|_| others > 1);
            let share = share.map(|until| until.saturating_duration_since(Instant::now()) / others);
            let tried = try_connect(address, place, trace);
            let tried = match share {
                None => tried.await,
                Some(share) => tokio::time::timeout(share, tried)
                    .await
                    .unwrap_or_else(|_| Err((None, timed_out(Stage::Connect, &address, share)))),
            };
            match tried {
                Ok(stream) => {
                    trace.lacks = None;
                    return Ok((stream, nth));
                }
                Err((Some(errno), fault)) if lacks(errno, address) => {
                    trace.lacks = Some(Fault { reason: Reason::ProberError, ..fault });
                }
                // That there is no way to one says less than what another has told.
                Err((_, fault)) if failed.is_none() || fault.reason != Reason::Unreachable => {
                    failed = Some(fault);
                }
                Err(_) => {}
            }
        }
        if let Some(fault) = failed {
            trace.lacks = None;
            return Err(fault);
        }
        if addresses.is_empty() {
            return Err(Fault::new(Reason::Dns, format!("{place} has no address")));
        }
        // The timeout of the check bounds it.
        tokio::time::sleep(LACK).await;
    }
}

async fn try_connect(
    address: SocketAddr,
    place: &Place,
    trace: &mut Trace,
) -> Result<TcpStream, (Option<Errno>, Fault)> {
    let fault = |error: &io::Error, doing: &str, place: &Place| {
        (error.raw_os_error().map(Errno::from_raw_os_error), fault(error, doing, place))
    };
    let started = Instant::now();
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(|error| fault(&error, "open a socket for", place))?;
    // Zero linger: a closed probe leaves no TIME_WAIT behind, or the ports run out (H7).
    socket.set_zero_linger().map_err(|error| fault(&error, "set up a socket for", place))?;
    let stream = socket.connect(address).await.map_err(|error| {
        (error.raw_os_error().map(Errno::from_raw_os_error), unconnected(&error, address, place))
    })?;
    stream.set_nodelay(true).map_err(|error| fault(&error, "set up a socket for", place))?;
    trace.timings.connect = Some(started.elapsed());
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_the_other_sides_only_where_it_is_known_to_be() {
        let of = |errno: Errno| reason(&errno.into());
        assert_eq!(of(Errno::CONNREFUSED), Reason::ConnectionRefused);
        assert_eq!(of(Errno::PIPE), Reason::ConnectionReset);
        assert_eq!(of(Errno::HOSTUNREACH), Reason::Unreachable);
        assert_eq!(of(Errno::TIMEDOUT), Reason::Timeout);
        for own in
            [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::ACCESS, Errno::INVAL]
        {
            assert_eq!(of(own), Reason::ProberError);
        }
        let garbage = io::Error::new(io::ErrorKind::InvalidData, "no TLS");
        assert_eq!(reason(&garbage), Reason::Protocol);
        let ports = fault(&Errno::ADDRNOTAVAIL.into(), "connect to", &"10.0.0.1:80");
        assert!(ports.detail.contains("10.0.0.1:80") && ports.detail.contains("no local port"), "{ports:?}");
    }
}
