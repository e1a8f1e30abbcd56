//! Ports for replicas (N4): from a pool outside the kernel's ephemeral range, each tried before it is given.
//!
//! Between the trial and the moment the replica listens the port is free for all to see. So that two hale on one
//! machine do not both give it away, each port that is given is claimed by the name of an abstract socket: whoever
//! shares the ports (the network namespace) shares those names, and a claim ends with the process that holds it.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener},
    ops::RangeInclusive,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

use hale_model::spec::Port;

/// The pool when nobody says otherwise: below where the kernel takes ports for outgoing connections (32768 and up).
const DEFAULT: RangeInclusive<u16> = 20_000..=29_999;

/// No port could be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no port is free for {replica} ({port}) between {first} and {last}: {tried} tried, the others are given away"
)]
pub struct PortError {
    /// For which replica.
    pub replica: String,
    /// For which of its ports.
    pub port: String,
    /// The first of the pool.
    pub first: u16,
    /// The last of the pool.
    pub last: u16,
    /// How many could not be bound.
    pub tried: usize,
}

/// Gives ports to replicas, and keeps each replica's for its next start while nobody else has taken it.
#[derive(Debug)]
pub struct PortPool {
    range: RangeInclusive<u16>,
    /// By replica and port name.
    given: HashMap<(String, String), Given>,
    next: u16,
}

/// A port of a replica, and the claim on it. A machine that has no such names does without.
#[derive(Debug)]
struct Given {
    port: u16,
    _claim: Option<UnixDatagram>,
}

impl Default for PortPool {
    fn default() -> Self {
        Self::new(DEFAULT)
    }
}

impl PortPool {
    /// A pool of this range, less what of it the kernel uses for outgoing connections.
    #[must_use]
    pub fn new(range: RangeInclusive<u16>) -> Self {
        let range = outside_ephemeral(range, ephemeral());
        let next = *range.start();
        Self { range, given: HashMap::new(), next }
    }

    /// The ports of one start: fixed ones as they are, the others from the pool, the same as last time where they can
    /// still be bound. Binds and lets go of sockets.
    ///
    /// # Errors
    /// The pool is exhausted.
    pub fn assign(&mut self, replica: &str, ports: &[Port]) -> Result<BTreeMap<String, u16>, PortError> {
        let mut assigned = BTreeMap::new();
        for port in ports {
            // Of a container's port what counts is where it is published.
            let number = match port.host_port.unwrap_or(port.port) {
                0 => self.pick(replica, &port.name)?,
                fixed => fixed,
            };
            assigned.insert(port.name.clone(), number);
        }
        Ok(assigned)
    }

    /// A replica that was there before has these: its next start gets the same, and nobody else does. Those outside of
    /// the pool are its own affair.
    pub fn reserve(&mut self, replica: &str, ports: &BTreeMap<String, u16>) {
        for (name, port) in ports.iter().filter(|(_, port)| self.range.contains(port)) {
            // A claim that somebody holds is that of an agent that is just about to end.
            let claim = claim(*port).flatten();
            self.given.insert((replica.to_owned(), name.clone()), Given { port: *port, _claim: claim });
        }
    }

    /// The replica is no more: its ports are free for others.
    pub fn release(&mut self, replica: &str) {
        self.given.retain(|(of, _), _| of != replica);
    }

    fn pick(&mut self, replica: &str, name: &str) -> Result<u16, PortError> {
        let key = (replica.to_owned(), name.to_owned());
        if let Some(port) = self.given.get(&key).map(|it| it.port) {
            if can_bind(port) {
                return Ok(port);
            }
            self.given.remove(&key);
        }
        let mut tried = 0;
        for _ in self.range.clone() {
            let port = self.next;
            self.next = if port >= *self.range.end() { *self.range.start() } else { port + 1 };
            if self.given.values().any(|it| it.port == port) {
                continue;
            }
            // Not even tried: the trial would be in the way of the one it was given to.
            let Some(claim) = claim(port) else { continue };
            if can_bind(port) {
                self.given.insert(key, Given { port, _claim: claim });
                return Ok(port);
            }
            tried += 1;
        }
        let (first, last) = (*self.range.start(), *self.range.end());
        Err(PortError { replica: key.0, port: key.1, first, last, tried })
    }
}

/// Claims a port among all hale of this machine; `None` if it is given to a replica already, by this pool or another.
fn claim(port: u16) -> Option<Option<UnixDatagram>> {
    let claimed = SocketAddr::from_abstract_name(format!("hale/port/{port}"))
        .and_then(|name| UnixDatagram::bind_addr(&name));
    match claimed {
        Ok(claim) => Some(Some(claim)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => None,
        Err(_) => Some(None),
    }
}

/// Whether a replica could listen there, on loopback or everywhere, by IPv4 or IPv6.
fn can_bind(port: u16) -> bool {
    let addresses: [IpAddr; 3] =
        [Ipv4Addr::LOCALHOST.into(), Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    addresses.iter().all(|address| match TcpListener::bind((*address, port)) {
        Ok(_) => true,
        // A machine without IPv6 takes nothing away.
        Err(error) => address.is_ipv6() && error.kind() != io::ErrorKind::AddrInUse,
    })
}

/// The kernel's range for outgoing connections.
fn ephemeral() -> RangeInclusive<u16> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_ascii_whitespace().filter_map(|it| it.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(first), Some(last)) => first..=last,
        _ => 32_768..=60_999,
    }
}

/// The longer of the two parts that lie outside; the range itself if none does, as a collision that is tried for is
/// better than no port.
fn outside_ephemeral(range: RangeInclusive<u16>, ephemeral: RangeInclusive<u16>) -> RangeInclusive<u16> {
    let (first, last) = (*range.start(), *range.end());
    if *ephemeral.start() > last || *ephemeral.end() < first {
        return range;
    }
    let below = ephemeral.start().checked_sub(1).filter(|it| *it >= first).map(|it| first..=it);
    let above = ephemeral.end().checked_add(1).filter(|it| *it <= last).map(|it| it..=last);
    [below, above].into_iter().flatten().max_by_key(ExactSizeIterator::len).unwrap_or(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports() -> Vec<Port> {
        let port = |name: &str, port| Port { name: name.to_owned(), port, host_port: None };
        vec![port("http", 0), port("admin", 0), port("fixed", 7)]
    }

    #[test]
    fn a_replica_keeps_its_ports_and_others_get_others() {
        let mut pool = PortPool::default();
        let first = pool.assign("web-0", &ports()).unwrap();
        let other = pool.assign("web-1", &ports()).unwrap();
        assert_eq!(first["fixed"], 7);
        assert!(first.values().all(|it| *it == 7 || (20_000..=29_999).contains(it)));
        assert!(first["http"] != first["admin"] && first["http"] != other["http"]);
        assert_eq!(pool.assign("web-0", &ports()).unwrap(), first);
    }

    #[test]
    fn a_port_that_somebody_took_is_replaced() {
        let mut pool = PortPool::default();
        let first = pool.assign("web-0", &ports()).unwrap();
        let _taken = TcpListener::bind(("127.0.0.1", first["http"])).unwrap();
        let second = pool.assign("web-0", &ports()).unwrap();
        assert_ne!(second["http"], first["http"]);
        assert_eq!(second["admin"], first["admin"]);
    }

    #[test]
    fn a_port_is_given_to_one_replica_of_the_machine_even_before_it_listens() {
        let (mut here, mut there) = (PortPool::default(), PortPool::default());
        let (mine, theirs) =
            (here.assign("web-0", &ports()).unwrap(), there.assign("web-0", &ports()).unwrap());
        assert!(mine["http"] != theirs["http"] && mine["admin"] != theirs["admin"], "{mine:?} {theirs:?}");
        assert_eq!(there.assign("web-0", &ports()).unwrap(), theirs, "each keeps its own");
    }

    #[test]
    fn an_exhausted_pool_says_so_and_a_released_port_is_given_again() {
        let base = *PortPool::default().range.start() + 9_000;
        let mut pool = PortPool::new(base..=base + 2);
        let free = (base..=base + 2).filter(|it| can_bind(*it)).count();
        let one = vec![Port { name: "p".to_owned(), port: 0, host_port: None }];
        for number in 0..free {
            pool.assign(&format!("a-{number}"), &one).unwrap();
        }
        let error = pool.assign("b-0", &one).unwrap_err();
        assert_eq!((error.first, error.last), (base, base + 2));
        pool.release("a-0");
        assert!(pool.assign("b-0", &one).is_ok());
    }

    #[test]
    fn the_pool_keeps_out_of_the_kernels_own_range() {
        assert_eq!(outside_ephemeral(20_000..=29_999, 32_768..=60_999), 20_000..=29_999);
        assert_eq!(outside_ephemeral(20_000..=29_999, 25_000..=65_535), 20_000..=24_999);
        assert_eq!(outside_ephemeral(20_000..=29_999, 1_024..=22_000), 22_001..=29_999);
        assert_eq!(outside_ephemeral(20_000..=29_999, 1_024..=65_535), 20_000..=29_999);
    }
}
