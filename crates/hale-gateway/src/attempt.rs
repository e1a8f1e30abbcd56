//! One try at one endpoint: a connection, kept or fresh, and the head of its response.

use std::{future::Future, io, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1},
};
use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use tokio::{net::TcpStream, time::timeout};

use crate::{
    Options,
    body::{Progress, Upload},
    clock,
    instance::{Instance, Sender},
};

/// A kept connection is used for a request that can't be repeated only if it was used so lately: servers close
/// connections that have been idle, and the request could meet the close on its way.
const FRESH_ENOUGH: Duration = Duration::from_secs(1);

/// What came of a try.
#[derive(Debug)]
pub(crate) enum Tried {
    /// The head of a response came.
    Answered(Response<Incoming>, Sender),
    /// No connection could be made. Nothing was sent.
    NoConnection(Box<Request<Upload>>, io::Error),
    /// A kept connection was closed already. Nothing was sent.
    Stale(Box<Request<Upload>>),
    /// The connection broke after something was sent, and before the response.
    Broke {
        /// What is known of it.
        why: String,
        /// Whether it was a kept connection: then it may be that only the connection was at an end.
        kept: bool,
    },
    /// No response in time.
    TimedOut,
}

/// How a try is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How<'a> {
    pub(crate) options: &'a Options,
    /// Whether the request may be sent again if it fails half way.
    pub(crate) repeatable: bool,
    /// Whether a fresh connection is wanted.
    pub(crate) fresh: bool,
}

/// Sends a request to an instance and waits for the head of the response.
pub(crate) async fn send(
    instance: &Arc<Instance>,
    request: Request<Upload>,
    progress: Option<&Progress>,
    how: How<'_>,
) -> Tried {
    let most = if how.repeatable { how.options.idle_timeout } else { FRESH_ENOUGH };
    let kept = if how.fresh { None } else { instance.take_idle(clock::now(), most) };
    let was_kept = kept.is_some();
    let mut sender = match kept {
        Some(sender) => sender,
        None => match connect(instance, how.options).await {
            Ok(sender) => sender,
            Err(error) => return Tried::NoConnection(Box::new(request), error),
        },
    };
    let response = sender.try_send_request(request);
    match within(response, how.options.response_timeout, progress).await {
        None => Tried::TimedOut,
        Some(Ok(response)) => Tried::Answered(response, sender),
        Some(Err(mut error)) => match error.take_message() {
            Some(request) if was_kept => Tried::Stale(Box::new(request)),
            Some(request) => Tried::NoConnection(Box::new(request), io::ErrorKind::ConnectionReset.into()),
            None => Tried::Broke { why: chain(error.error()), kept: was_kept },
        },
    }
}

/// Waits for a response, for `limit` from the time on that the request last moved.
async fn within<T>(
    response: impl Future<Output = Result<T, TrySendError<Request<Upload>>>>,
    limit: Duration,
    progress: Option<&Progress>,
) -> Option<Result<T, TrySendError<Request<Upload>>>> {
    tokio::pin!(response);
    let frames = || progress.map_or(0, Progress::frames);
    loop {
        let before = frames();
        match timeout(limit, response.as_mut()).await {
            Ok(response) => return Some(response),
            Err(_) if frames() != before => {}
            Err(_) => return None,
        }
    }
}

/// Makes a connection to an instance. A task of its own drives it until either side lets go.
async fn connect(instance: &Instance, options: &Options) -> io::Result<Sender> {
    let stream = timeout(options.connect_timeout, TcpStream::connect(instance.address))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no connection in time"))??;
    stream.set_nodelay(true)?;
    keep_alive(&stream);
    let mut builder = http1::Builder::new();
    builder
        .max_buf_size(options.max_head_bytes.max(MIN_BUFFER))
        .max_headers(options.max_headers.max(MIN_HEADERS));
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(async move {
        // How it ended is told to whoever waits for a response on it.
        let _ = connection.with_upgrades().await;
    });
    Ok(sender)
}

/// Has the kernel ask a quiet peer whether it is there, so that a tunnel to one that vanished ends within three minutes.
pub(crate) fn keep_alive(stream: &TcpStream) {
    let set = sockopt::set_tcp_keepidle(stream, Duration::from_secs(60))
        .and_then(|()| sockopt::set_tcp_keepintvl(stream, Duration::from_secs(20)))
        .and_then(|()| sockopt::set_tcp_keepcnt(stream, 5))
        .and_then(|()| sockopt::set_socket_keepalive(stream, true));
    if let Err(error) = set {
        tracing::debug!(%error, "a connection is not asked whether it lives");
    }
}

/// The least that hyper takes as the size of its buffer.
pub(crate) const MIN_BUFFER: usize = 8192;

/// Responses may have as many headers as this, whatever the limit on requests.
const MIN_HEADERS: usize = 200;

/// An error with all of its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
