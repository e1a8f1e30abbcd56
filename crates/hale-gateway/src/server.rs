//! The listener of one service, its connections, and the handle on it.

use std::{
    convert::Infallible,
    future::Future,
    hash::{BuildHasher, Hasher, RandomState},
    io,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use hale_api::endpoints::EndpointSet;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Metrics, Options, Run,
    attempt::{MIN_BUFFER, keep_alive},
    clock,
    metrics::Connected,
    proxy::Proxy,
    stall::Patient,
    table::Table,
};

/// Why a gateway can't serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address can't be listened on.
    #[error("cannot listen on {address} for service {service}: {source}{}", listen_hint(source, *address))]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// The service it was for.
        service: String,
        /// What the system said.
        source: io::Error,
    },
}

/// What to try when an address can't be listened on, as the end of a sentence; empty where the error says it all.
#[must_use]
pub fn listen_hint(error: &io::Error, address: SocketAddr) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; is something else listening there?",
        io::ErrorKind::PermissionDenied if address.port() < 1024 => {
            "; ports below 1024 are root's: take another, or run hale as root"
        }
        io::ErrorKind::AddrNotAvailable => "; no interface of this machine has that address",
        _ => "",
    }
}

/// Takes requests of one service to its ready endpoints.
#[derive(Debug, Clone, Copy)]
pub struct Gateway;

/// A gateway that serves. Dropping it stops it at once; [`Self::shutdown`] lets requests finish.
#[derive(Debug)]
pub struct GatewayHandle {
    local_addr: SocketAddr,
    table: Arc<Table>,
    proxy: Arc<Proxy>,
    metrics: Metrics,
    tasks: TaskTracker,
    /// No new connections and no new requests on kept ones.
    closing: CancellationToken,
    /// Everything ends now.
    end: CancellationToken,
}

impl Gateway {
    /// Listens on `address` (port 0: one that is free) and serves the service that `endpoints` is about.
    ///
    /// # Errors
    /// When the address can't be listened on.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn serve(
        address: SocketAddr,
        endpoints: watch::Receiver<Arc<EndpointSet>>,
        options: Options,
        metrics: &Metrics,
    ) -> Result<GatewayHandle, ServeError> {
        let service = endpoints.borrow().service.clone();
        let listen = listen(address).and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (local_addr, listener) =
            listen.map_err(|source| ServeError::Listen { address, service: service.clone(), source })?;
        let seed = options.seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        let table = Arc::new(Table::new(endpoints, &options, seed, clock::now()));
        let (tasks, closing, end) = (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
        let proxy = Arc::new(Proxy {
            metrics: metrics.of(&service),
            service,
            table: Arc::clone(&table),
            options,
            tunnels: tasks.clone(),
            end: end.clone(),
        });
        let door = Door {
            proxy: Arc::clone(&proxy),
            tasks: tasks.clone(),
            closing: closing.clone(),
            end: end.clone(),
        };
        tokio::spawn(follow(Arc::clone(&table), proxy.options.idle_timeout, end.clone()));
        tasks.spawn(door.accept(listener));
        tracing::info!(service = %proxy.service, address = %local_addr, "gateway listens");
        Ok(GatewayHandle { local_addr, table, proxy, metrics: metrics.clone(), tasks, closing, end })
    }
}

impl GatewayHandle {
    /// Where it listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Requests in flight at one run of a replica, WebSocket connections among them.
    #[must_use]
    pub fn in_flight(&self, run: &Run) -> usize {
        self.table.in_flight(run)
    }

    /// Completes once no set that is in force names this run of a replica ready, and no request is in flight there
    /// (S18). Completes at once for one that this gateway does not know. It does not bound the wait.
    pub fn drained(&self, run: Run) -> impl Future<Output = ()> + Send + use<> {
        Arc::clone(&self.table).drained(run)
    }

    /// Goes by another source of sets from now on. What it says now is in force when this returns; requests that are
    /// in flight go on.
    pub fn follow(&self, endpoints: watch::Receiver<Arc<EndpointSet>>) {
        self.table.follow(endpoints, clock::now());
    }

    /// The endpoints in force and their requests, also once this handle is gone.
    pub(crate) fn table(&self) -> Weak<Table> {
        Arc::downgrade(&self.table)
    }

    /// Ends it: takes no new connection, lets requests finish for `limit`, then cuts off what is left.
    pub async fn shutdown(self, limit: Duration) {
        self.closing.cancel();
        self.tasks.close();
        if timeout(limit, self.tasks.wait()).await.is_err() {
            self.end.cancel();
            self.tasks.wait().await;
        }
    }
}

impl Drop for GatewayHandle {
    fn drop(&mut self) {
        self.closing.cancel();
        self.end.cancel();
        self.metrics.forget(&self.proxy.service);
    }
}

/// Takes new sets over when no request does, so that a drain ends without traffic, and sweeps idle connections.
async fn follow(table: Arc<Table>, idle: Duration, end: CancellationToken) {
    let mut source = table.source();
    let mut sweep = interval(Duration::from_secs(5));
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut registry = true;
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            changed = source.changed(), if registry => registry = changed.is_ok(),
            () = table.swapped() => (source, registry) = (table.source(), true),
            _ = sweep.tick() => {}
        }
        table.tidy(clock::now(), idle);
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restarted hale may listen again at once, though old connections of it linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(4096)
}

/// The place of one connection of a client among those that are let in. A tunnel that it becomes keeps it.
#[derive(Debug)]
pub(crate) struct Place {
    _counted: Connected,
    _permit: OwnedSemaphorePermit,
}

/// Takes connections in.
struct Door {
    proxy: Arc<Proxy>,
    tasks: TaskTracker,
    closing: CancellationToken,
    end: CancellationToken,
}

impl Door {
    async fn accept(self, listener: TcpListener) {
        // Full: the next waits in the kernel's queue, and is refused there when that is full too.
        let room = Arc::new(Semaphore::new(self.proxy.options.max_connections));
        loop {
            let next = async {
                let permit = Arc::clone(&room).acquire_owned().await;
                (permit, listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                () = self.closing.cancelled() => return,
                next = next => next,
            };
            match (permit, accepted) {
                (Ok(permit), Ok((stream, client))) => {
                    self.tasks.spawn(self.connection(stream, client, permit));
                }
                (_, Err(error)) => {
                    // Out of descriptors, as a rule: it passes when a connection ends, not by trying faster.
                    tracing::warn!(service = %self.proxy.service, %error, "cannot accept a connection");
                    sleep(Duration::from_millis(50)).await;
                }
                (Err(_), _) => return,
            }
        }
    }

    /// One connection of a client, until it ends.
    fn connection(
        &self,
        stream: TcpStream,
        client: SocketAddr,
        permit: OwnedSemaphorePermit,
    ) -> impl Future<Output = ()> + Send + use<> {
        let proxy = Arc::clone(&self.proxy);
        let (closing, end) = (self.closing.clone(), self.end.clone());
        async move {
            let place = Arc::new(Place { _counted: proxy.metrics.connection(), _permit: permit });
            // Without it, a small answer would wait for an acknowledgement; if it can't be set, it is only slower.
            let _ = stream.set_nodelay(true);
            keep_alive(&stream);
            let options = &proxy.options;
            let io = TokioIo::new(Patient::new(stream, options.stall_timeout));
            let mut builder = http1::Builder::new();
            builder
                .timer(TokioTimer::new())
                .header_read_timeout(options.header_timeout)
                .max_headers(options.max_headers)
                .max_header_size(options.max_head_bytes)
                .max_buf_size(options.max_head_bytes.max(MIN_BUFFER));
            let service = service_fn(|request| {
                let answer = Arc::clone(&proxy).answer(request, client.ip(), Arc::clone(&place));
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let connection = builder.serve_connection(io, service).with_upgrades();
            tokio::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = closing.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    tokio::select! {
                        ended = connection.as_mut() => ended,
                        () = end.cancelled() => Ok(()),
                    }
                }
            };
            if let Err(error) = ended {
                tracing::debug!(service = %proxy.service, %client, %error, "connection of a client ended");
            }
        }
    }
}
