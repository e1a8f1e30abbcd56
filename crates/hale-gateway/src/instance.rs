//! One run of one replica, as the gateway sees it: an address, requests in flight, and connections kept.

use std::{
    net::SocketAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use hale_api::endpoints::Endpoint;
use hale_health::Time;
use hyper::client::conn::http1::SendRequest;

use crate::body::Upload;

/// The sending half of a connection to an endpoint.
pub(crate) type Sender = SendRequest<Upload>;

/// Names one run of one replica.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Run {
    /// Workload and ordinal: `web-0`.
    pub replica: String,
    /// The number of its placement.
    pub generation: u64,
    /// The number of its start.
    pub incarnation: u64,
}

impl From<&Endpoint> for Run {
    fn from(endpoint: &Endpoint) -> Self {
        let Endpoint { replica, generation, incarnation, .. } = endpoint;
        Self { replica: replica.clone(), generation: *generation, incarnation: *incarnation }
    }
}

/// One run of one replica, and the way there.
#[derive(Debug)]
pub(crate) struct Instance {
    /// As it was told first.
    pub(crate) run: Run,
    /// The number of its placement as it was told last: a placement may be granted anew while its run goes on.
    granted: AtomicU64,
    pub(crate) address: SocketAddr,
    /// Whether new requests come here; connections are kept only then.
    open: AtomicBool,
    in_flight: AtomicUsize,
    failures: AtomicU32,
    idle: Mutex<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    sender: Sender,
    since: Time,
}

impl Instance {
    pub(crate) fn new(endpoint: &Endpoint) -> Self {
        Self {
            run: Run::from(endpoint),
            granted: AtomicU64::new(endpoint.generation),
            address: SocketAddr::new(endpoint.address, endpoint.port),
            open: AtomicBool::new(true),
            in_flight: AtomicUsize::new(0),
            failures: AtomicU32::new(0),
            idle: Mutex::default(),
        }
    }

    /// Whether the endpoint is this very run, at this address, perhaps under a later number.
    pub(crate) fn is(&self, endpoint: &Endpoint) -> bool {
        self.run.incarnation == endpoint.incarnation
            && self.run.generation <= endpoint.generation
            && self.address == SocketAddr::new(endpoint.address, endpoint.port)
            && self.run.replica == endpoint.replica
    }

    /// Notes the number that its placement has now.
    pub(crate) fn grant(&self, generation: u64) {
        self.granted.fetch_max(generation, Ordering::Relaxed);
    }

    /// Whether it was ever told under this name: who wants it ended may know it by the number it was started under.
    pub(crate) fn was(&self, run: &Run) -> bool {
        self.run.incarnation == run.incarnation
            && (self.run.generation..=self.granted.load(Ordering::Relaxed)).contains(&run.generation)
            && self.run.replica == run.replica
    }

    /// Requests that have been sent there, or are about to be, and have not ended.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    pub(crate) fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
    }

    /// Ends one; true when it was the last and no more will come.
    pub(crate) fn end(&self) -> bool {
        self.in_flight.fetch_sub(1, Ordering::SeqCst) == 1 && !self.is_open()
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst)
    }

    /// Lets new requests come, or closes what is kept for them.
    pub(crate) fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::SeqCst);
        if !open {
            self.pool().clear();
        }
    }

    /// A request went well.
    pub(crate) fn succeeded(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// A request failed; how many in a row have now.
    pub(crate) fn failed(&self) -> u32 {
        self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// Forgets failures: what comes after an ejection is counted anew.
    pub(crate) fn forgive(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }

    /// A kept connection that has been idle for less than `most`; the one used last, for it is the least likely to
    /// be closed from the other side.
    pub(crate) fn take_idle(&self, now: Time, most: Duration) -> Option<Sender> {
        let mut idle = self.pool();
        idle.retain(|kept| !kept.sender.is_closed());
        let at = idle.iter().rposition(|kept| kept.sender.is_ready() && now.since(kept.since) < most)?;
        Some(idle.swap_remove(at).sender)
    }

    /// Keeps a connection for the next request, unless the endpoint is on its way out or enough are kept.
    pub(crate) fn keep(&self, sender: Sender, now: Time, most: usize) {
        if sender.is_closed() || !self.is_open() {
            return;
        }
        let mut idle = self.pool();
        if idle.len() < most {
            idle.push(Idle { sender, since: now });
        }
        drop(idle);
        // Closed in between: nobody would look here again.
        if !self.is_open() {
            self.pool().clear();
        }
    }

    /// Closes what has been idle for too long.
    pub(crate) fn sweep(&self, now: Time, most: Duration) {
        self.pool().retain(|kept| !kept.sender.is_closed() && now.since(kept.since) < most);
    }

    /// The kept connections. A panic while they are held leaves nothing half done: the list is whole at any moment.
    fn pool(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
