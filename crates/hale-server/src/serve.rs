//! Serving the API on TCP and on the data directory's socket.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

use axum::Router;
use bytes::Bytes;
use hale_api::SocketPath;
use http::{Request, header};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use crate::{guard::Guarded, tls::Tls};

/// Bounds of serving.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most connections at once on TCP; more wait to be accepted. The socket has as many of its own, so that the
    /// command line gets in.
    pub connections: usize,
    /// How long a reader may leave what is sent to it unread before it is cut off.
    pub stalled_write: Duration,
    /// How long the head of a request may take to come, and how long a kept connection may be idle.
    pub head: Duration,
    /// How long answers may go on once serving was told to end.
    pub end: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            stalled_write: Duration::from_secs(30),
            head: Duration::from_secs(30),
            end: Duration::from_secs(3),
        }
    }
}

/// Binds the socket of a data directory, for its owner alone. A socket that nobody answers at is replaced.
///
/// # Errors
/// [`io::ErrorKind::AddrInUse`] when somebody answers there; else what the system says.
pub fn bind_socket(data_dir: &Path) -> io::Result<UnixListener> {
    let socket = SocketPath::new(data_dir)?;
    if std::os::unix::net::UnixStream::connect(socket.path()).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another hale answers at this socket"));
    }
    match fs::remove_file(socket.path()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket.path())?;
    fs::set_permissions(socket.path(), fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Where the API is served.
#[derive(Debug, Default)]
pub struct Listeners {
    /// TCP.
    pub tcp: Option<TcpListener>,
    /// What TCP is met with; readable HTTP without.
    pub tls: Option<Tls>,
    /// The socket of a data directory.
    pub socket: Option<UnixListener>,
}

/// Who is at the other end of a connection, as it goes into records: an address, or `this machine`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer(pub(crate) Arc<str>);

/// The API and gRPC as one: what comes as gRPC goes there.
pub fn with_grpc(rest: Router, grpc: tonic::service::Routes) -> Router {
    let grpc = grpc.prepare().into_axum_router();
    Router::new().fallback(move |request: axum::extract::Request| {
        let kind = request.headers().get(header::CONTENT_TYPE);
        let is_grpc = kind.is_some_and(|it| it.as_bytes().starts_with(b"application/grpc"));
        let router = if is_grpc { grpc.clone() } else { rest.clone() };
        router.oneshot(request)
    })
}

/// Serves a router until `end` is cancelled, then lets what is being answered end. HTTP/1 and HTTP/2 on the same port.
///
/// Streams are to end by themselves when `end` is cancelled (the API's do).
pub async fn serve(router: Router, listeners: Listeners, limits: Limits, end: CancellationToken) {
    let connections = TaskTracker::new();
    let tcp_places = Arc::new(Semaphore::new(limits.connections));
    let socket_places = Arc::new(Semaphore::new(limits.connections));
    let Listeners { tcp, tls, socket } = listeners;
    let on_tcp = async {
        let Some(listener) = &tcp else { return std::future::pending().await };
        loop {
            let Ok(permit) = Arc::clone(&tcp_places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, address)) => {
                    // Small answers at once; a failure costs only that.
                    let _late = stream.set_nodelay(true);
                    let accept = tls.as_ref().map(|it| TlsAcceptor::from(it.config()));
                    let (router, end) = (router.clone(), end.clone());
                    let peer = Peer(address.ip().to_string().into());
                    connections.spawn(async move {
                        let _permit = permit;
                        tcp_connection(stream, accept, peer, router, limits, end).await;
                    });
                }
                Err(error) => accept_failed(&error).await,
            }
        }
    };
    let on_socket = async {
        let Some(listener) = &socket else { return std::future::pending().await };
        let peer = Peer("this machine".into());
        loop {
            let Ok(permit) = Arc::clone(&socket_places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (router, end, peer) = (router.clone(), end.clone(), peer.clone());
                    connections.spawn(async move {
                        let _permit = permit;
                        connection(Guarded::new(stream, limits), peer, router, limits, end).await;
                    });
                }
                Err(error) => accept_failed(&error).await,
            }
        }
    };
    tokio::select! {
        () = end.cancelled() => {}
        () = on_tcp => {}
        () = on_socket => {}
    }
    connections.close();
    if timeout(limits.end, connections.wait()).await.is_err() {
        tracing::debug!(left = connections.len(), "connections were cut off at the end");
    }
}

/// Out of file descriptors, most likely: goes on when some are free again.
async fn accept_failed(error: &io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    sleep(Duration::from_millis(100)).await;
}

async fn tcp_connection(
    stream: tokio::net::TcpStream,
    accept: Option<TlsAcceptor>,
    peer: Peer,
    router: Router,
    limits: Limits,
    end: CancellationToken,
) {
    let Some(accept) = accept else {
        return connection(Guarded::new(stream, limits), peer, router, limits, end).await;
    };
    match timeout(limits.head, accept.accept(stream)).await {
        Ok(Ok(stream)) => connection(Guarded::new(stream, limits), peer, router, limits, end).await,
        Ok(Err(error)) => tracing::debug!(%error, peer = %peer.0, "no TLS with this client"),
        Err(_) => tracing::debug!(peer = %peer.0, "a client did not come to an end with TLS"),
    }
}

async fn connection<S>(stream: S, peer: Peer, router: Router, limits: Limits, end: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(peer.clone());
        router.clone().oneshot(request)
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(64 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        // A peer that is gone is told from one that is silent.
        .keep_alive_interval(limits.head)
        .keep_alive_timeout(limits.head)
        .max_concurrent_streams(STREAMS)
        .max_send_buf_size(64 * 1024)
        .max_header_list_size(64 * 1024);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let mut ending = false;
    loop {
        tokio::select! {
            result = &mut connection => {
                if let Err(error) = result {
                    tracing::debug!(%error, "a connection broke off");
                }
                return;
            }
            () = end.cancelled(), if !ending => {
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
            () = sleep(limits.end), if ending => return,
        }
    }
}

/// The most streams of one HTTP/2 connection at once.
const STREAMS: u32 = 200;

/// What streams put in when there is nothing to tell, so that both ends know the other is there.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// An empty line: a sign of life in a stream of lines.
pub(crate) const EMPTY_LINE: Bytes = Bytes::from_static(b"\n");
