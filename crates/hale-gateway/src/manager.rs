//! All listeners of a gateway: opened, moved and closed as services come, change and go.
//!
//! The manager is told the services there are as a whole ([`Offers`]) and makes the listeners so. An address that
//! can't be listened on is tried again, less and less often, and never ends the process: the other services go on.

use std::{
    collections::BTreeMap,
    future::Future,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use hale_api::endpoints::EndpointSet;
use hale_health::{Backoff, BackoffPolicy, Time};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Gateway, GatewayHandle, Metrics, Options, Run, clock, table::Table};

/// How long requests have to finish at a listener that closes because its service went or moved.
const LAST_REQUESTS: Duration = Duration::from_secs(30);

/// The waits between attempts to listen: a listener of ours that is just closing is out of the way within the first.
const LISTEN_AGAIN: BackoffPolicy = BackoffPolicy {
    initial: Duration::from_millis(20),
    max: Duration::from_secs(5),
    multiplier: 2.0,
    jitter: 0.0,
};

/// One service as a registry offers it.
#[derive(Debug, Clone)]
pub struct Offer {
    /// Where it is listened for; `None`: nowhere.
    pub listen: Option<SocketAddr>,
    /// Its endpoints as they change.
    pub endpoints: watch::Receiver<Arc<EndpointSet>>,
}

/// All services, by name.
pub type Offers = BTreeMap<String, Offer>;

/// The listener of one service, as told to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The service.
    pub service: String,
    /// Where it is to be listened for.
    pub address: SocketAddr,
    /// Where it is listened for: the same, but for a port 0; or why it is not.
    pub state: Result<SocketAddr, String>,
}

/// The listeners of a gateway. Cheap to clone; [`Self::shutdown`] ends them.
#[derive(Debug, Clone)]
pub struct Gateways {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    options: Options,
    metrics: Metrics,
    /// Counts how often the listeners were made as wanted.
    settled: watch::Sender<u64>,
    /// Listeners that close.
    leaving: TaskTracker,
    end: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    services: BTreeMap<String, Served>,
    /// Of listeners that close: requests may still be in flight there.
    leaving: Vec<Weak<Table>>,
    closed: bool,
}

#[derive(Debug)]
struct Served {
    address: SocketAddr,
    source: watch::Receiver<Arc<EndpointSet>>,
    open: Result<GatewayHandle, Failed>,
}

/// An address that can't be listened on now.
#[derive(Debug)]
struct Failed {
    why: String,
    backoff: Backoff,
    again: Time,
}

impl Gateways {
    /// Serves what is offered, until [`Self::shutdown`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start(offers: watch::Receiver<Arc<Offers>>, options: Options, metrics: &Metrics) -> Self {
        let inner = Arc::new(Inner {
            state: Mutex::default(),
            options,
            metrics: metrics.clone(),
            settled: watch::Sender::new(0),
            leaving: TaskTracker::new(),
            end: CancellationToken::new(),
        });
        tokio::spawn(Arc::clone(&inner).keep(offers));
        Self { inner }
    }

    /// The services that are to be listened for, by name.
    #[must_use]
    pub fn listeners(&self) -> Vec<Listener> {
        let state = self.inner.state();
        let listener = |(service, served): (&String, &Served)| Listener {
            service: service.clone(),
            address: served.address,
            state: served.open.as_ref().map(GatewayHandle::local_addr).map_err(|failed| failed.why.clone()),
        };
        state.services.iter().map(listener).collect()
    }

    /// Rises each time the listeners were made as wanted.
    #[must_use]
    pub fn settled(&self) -> watch::Receiver<u64> {
        self.inner.settled.subscribe()
    }

    /// Requests in flight at one run of a replica.
    #[must_use]
    pub fn in_flight(&self, run: &Run) -> usize {
        self.inner.tables().iter().map(|table| table.in_flight(run)).sum()
    }

    /// Completes once no listener sends new requests to this run of a replica, and none is in flight there (H18).
    /// Completes at once for one that no listener knows. It does not bound the wait.
    pub fn drained(&self, run: Run) -> impl Future<Output = ()> + Send + use<> {
        let tables = self.inner.tables();
        async move {
            for table in tables {
                table.drained(run.clone()).await;
            }
        }
    }

    /// Closes all: takes no new connections, lets requests finish for `limit`, then cuts off what is left.
    pub async fn shutdown(&self, limit: Duration) {
        self.inner.end.cancel();
        let services = {
            let mut state = self.inner.state();
            state.closed = true;
            std::mem::take(&mut state.services)
        };
        for (name, served) in services {
            self.inner.metrics.not_wanted(&name);
            if let Ok(handle) = served.open {
                self.inner.leaving.spawn(handle.shutdown(limit));
            }
        }
        self.inner.leaving.close();
        // Those that were closing before are bounded by their own time, or by this one.
        let _ = tokio::time::timeout(limit + Duration::from_secs(1), self.inner.leaving.wait()).await;
    }
}

impl Inner {
    /// The state. A panic while it is held leaves it usable: each change of it is a whole one.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tables(&self) -> Vec<Arc<Table>> {
        let mut state = self.state();
        state.leaving.retain(|table| table.strong_count() > 0);
        let open = state.services.values().filter_map(|served| served.open.as_ref().ok());
        open.map(GatewayHandle::table)
            .chain(state.leaving.iter().cloned())
            .filter_map(|it| it.upgrade())
            .collect()
    }

    async fn keep(self: Arc<Self>, mut offers: watch::Receiver<Arc<Offers>>) {
        let mut offered = true;
        loop {
            let wanted = Arc::clone(&offers.borrow_and_update());
            let again = self.settle(&wanted);
            self.settled.send_modify(|count| *count += 1);
            // Far away when nothing is to be tried again.
            let wait = again.map_or(Duration::from_secs(3600), |at| at.since(clock::now()));
            tokio::select! {
                () = self.end.cancelled() => return,
                changed = offers.changed(), if offered => offered = changed.is_ok(),
                () = sleep_until(Instant::now() + wait) => {}
            }
        }
    }

    /// Makes the listeners so; when to try again what did not work.
    fn settle(&self, wanted: &Offers) -> Option<Time> {
        let mut state = self.state();
        if state.closed {
            return None;
        }
        self.close_unwanted(&mut state, wanted);
        let now = clock::now();
        let mut again = None;
        for (name, offer) in wanted {
            let Some(address) = offer.listen else { continue };
            match state.services.get_mut(name) {
                Some(served) => self.renew(name, served, offer, now),
                None => {
                    let open = self.open(name, address, &offer.endpoints, Backoff::new(), now);
                    let served = Served { address, source: offer.endpoints.clone(), open };
                    state.services.insert(name.clone(), served);
                }
            }
            let failed = state.services.get(name).and_then(|served| served.open.as_ref().err());
            again = [again, failed.map(|it| it.again)].into_iter().flatten().min();
        }
        again
    }

    /// Closes the listeners of services that went or moved. First, so that an address one service had can be had by
    /// another.
    fn close_unwanted(&self, state: &mut State, wanted: &Offers) {
        let services = std::mem::take(&mut state.services);
        for (name, served) in services {
            let offer = wanted.get(&name).filter(|offer| offer.listen == Some(served.address));
            if offer.is_some() {
                state.services.insert(name, served);
                continue;
            }
            let moved = wanted.get(&name).is_some_and(|offer| offer.listen.is_some());
            tracing::info!(service = %name, address = %served.address, moved, "gateway stops listening");
            if let Ok(handle) = served.open {
                state.leaving.push(handle.table());
                match wanted.get(&name) {
                    Some(offer) => handle.follow(offer.endpoints.clone()),
                    None => handle.follow(nobody(&served.source)),
                }
                self.leaving.spawn(handle.shutdown(LAST_REQUESTS));
            }
            if !moved {
                self.metrics.not_wanted(&name);
            }
        }
    }

    /// Goes by another source of endpoints if there is one, and tries again to listen if that has failed.
    fn renew(&self, name: &str, served: &mut Served, offer: &Offer, now: Time) {
        if !served.source.same_channel(&offer.endpoints) {
            served.source = offer.endpoints.clone();
            if let Ok(handle) = &served.open {
                handle.follow(offer.endpoints.clone());
            }
        }
        if let Err(failed) = &served.open
            && now >= failed.again
        {
            served.open = self.open(name, served.address, &served.source, failed.backoff, now);
        }
    }

    fn open(
        &self,
        name: &str,
        address: SocketAddr,
        source: &watch::Receiver<Arc<EndpointSet>>,
        mut backoff: Backoff,
        now: Time,
    ) -> Result<GatewayHandle, Failed> {
        let opened = Gateway::serve(address, source.clone(), self.options.clone(), &self.metrics);
        self.metrics.listening(name, opened.is_ok());
        opened.map_err(|error| {
            let attempts = backoff.attempts();
            let wait = backoff.next(&LISTEN_AGAIN, 0.5);
            // The first ones fail while a listener of our own is closing.
            if attempts >= 3 {
                let retry_seconds = wait.as_secs_f64();
                tracing::error!(service = %name, %address, retry_seconds, "{error}; it is tried again");
            }
            Failed { why: error.to_string(), backoff, again: now + wait }
        })
    }
}

/// No endpoints, from now on and for good: for a service that is gone.
fn nobody(last: &watch::Receiver<Arc<EndpointSet>>) -> watch::Receiver<Arc<EndpointSet>> {
    let mut set = (**last.borrow()).clone();
    set.endpoints.clear();
    set.none_ready_since.get_or_insert_with(jiff::Timestamp::now);
    watch::channel(Arc::new(set)).1
}
