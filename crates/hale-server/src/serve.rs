//! Serving the API on TCP and on the data directory's socket.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

use axum::Router;
use bytes::Bytes;
use hale_api::SocketPath;
use http::Request;
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener, UnixStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use crate::guard::Guarded;

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
            connections: 1024,
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

/// Serves a router until `end` is cancelled, then lets what is being answered end.
///
/// Streams are to end by themselves when `end` is cancelled (the API's do).
pub async fn serve(
    router: Router,
    tcp: Option<TcpListener>,
    socket: Option<UnixListener>,
    limits: Limits,
    end: CancellationToken,
) {
    let connections = TaskTracker::new();
    let spawn = |stream: Stream, permit| {
        let (router, end) = (router.clone(), end.clone());
        connections.spawn(async move {
            let _permit = permit;
            match stream {
                Stream::Tcp(stream) => {
                    connection(Guarded::new(stream, limits.stalled_write), router, limits, end).await
                }
                Stream::Unix(stream) => {
                    connection(Guarded::new(stream, limits.stalled_write), router, limits, end).await
                }
            }
        });
    };
    let tcp_places = Arc::new(Semaphore::new(limits.connections));
    let socket_places = Arc::new(Semaphore::new(limits.connections));
    let on_tcp = async {
        let Some(listener) = &tcp else { return std::future::pending().await };
        loop {
            let Ok(permit) = Arc::clone(&tcp_places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    // Small answers at once; a failure costs only that.
                    let _late = stream.set_nodelay(true);
                    spawn(Stream::Tcp(stream), permit);
                }
                Err(error) => accept_failed(&error).await,
            }
        }
    };
    let on_socket = async {
        let Some(listener) = &socket else { return std::future::pending().await };
        loop {
            let Ok(permit) = Arc::clone(&socket_places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => spawn(Stream::Unix(stream), permit),
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

enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(UnixStream),
}

/// Out of file descriptors, most likely: goes on when some are free again.
async fn accept_failed(error: &io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    sleep(Duration::from_millis(100)).await;
}

async fn connection<S>(stream: S, router: Router, limits: Limits, end: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        router.clone().oneshot(request.map(axum::body::Body::new))
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(64 * 1024);
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

/// What streams put in when there is nothing to tell, so that both ends know the other is there.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// An empty line: a sign of life in a stream of lines.
pub(crate) const EMPTY_LINE: Bytes = Bytes::from_static(b"\n");
