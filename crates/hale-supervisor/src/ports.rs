//! Ports for replicas that declare `port: 0` (N4).

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, TcpListener},
    ops::RangeInclusive,
    sync::{Mutex, PoisonError},
};

use crate::runtime::SpawnError;

/// Where ports come from.
pub trait Ports: Send + Sync + 'static {
    /// A port that nobody else was given and that can be bound now: `prefer` when it is one, which is then kept by
    /// whoever held it before.
    ///
    /// # Errors
    /// `port_unavailable` when there is none.
    fn take(&self, prefer: Option<u16>) -> Result<u16, SpawnError>;

    /// The port may be given to another.
    fn give_back(&self, port: u16);
}

/// The pool: 20000 to 29999, outside the range that the kernel gives to outgoing connections.
#[derive(Debug)]
pub struct PortPool {
    range: RangeInclusive<u16>,
    state: Mutex<Pool>,
}

#[derive(Debug)]
struct Pool {
    taken: BTreeSet<u16>,
    next: u16,
}

/// The range of N4.
const RANGE: RangeInclusive<u16> = 20_000..=29_999;

impl PortPool {
    /// The pool, with a place to begin looking, so that two nodes on one machine rarely want the same port.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::within(RANGE, seed)
    }

    /// A pool of these ports.
    fn within(range: RangeInclusive<u16>, seed: u64) -> Self {
        let size = u64::from(range.end() - range.start()) + 1;
        let offset = u16::try_from(seed % size).unwrap_or(0);
        let next = range.start() + offset;
        Self { range, state: Mutex::new(Pool { taken: BTreeSet::new(), next }) }
    }
}

/// Whether a program could listen there now. Old connections that linger do not count, someone who listens does.
fn can_be_bound(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

impl Ports for PortPool {
    fn take(&self, prefer: Option<u16>) -> Result<u16, SpawnError> {
        let mut pool = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(port) = prefer {
            if can_be_bound(port) {
                pool.taken.insert(port);
                return Ok(port);
            }
            pool.taken.remove(&port);
        }
        for _ in self.range.clone() {
            let port = pool.next;
            pool.next = if port == *self.range.end() { *self.range.start() } else { port + 1 };
            if Some(port) != prefer && !pool.taken.contains(&port) && can_be_bound(port) {
                pool.taken.insert(port);
                return Ok(port);
            }
        }
        let (from, to) = (self.range.start(), self.range.end());
        let detail = format!(
            "no free port from {from} to {to}: {} are given out, others use the rest",
            pool.taken.len()
        );
        Err(SpawnError { code: "port_unavailable", detail })
    }

    fn give_back(&self, port: u16) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).taken.remove(&port);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ports of a range that no other test of this machine uses.
    const TEST_RANGE: RangeInclusive<u16> = 19_980..=19_989;

    #[test]
    fn a_port_that_somebody_listens_on_is_replaced() {
        let pool = PortPool::within(TEST_RANGE, 0);
        let port = pool.take(None).unwrap();
        assert_eq!(pool.take(Some(port)), Ok(port), "a free one is kept");
        let other = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert_ne!(pool.take(Some(port)), Ok(port));
        drop(other);
    }

    #[test]
    fn an_empty_pool_says_so() {
        let pool = PortPool::within(19_990..=19_991, 1);
        while let Ok(port) = pool.take(None) {
            assert!((19_990..=19_991).contains(&port));
        }
        assert_eq!(pool.take(None).unwrap_err().code, "port_unavailable");
        pool.give_back(19_990);
        assert_eq!(pool.take(None), Ok(19_990));
    }
}
