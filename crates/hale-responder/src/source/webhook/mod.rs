//! A listener for what others send: Alertmanager, CloudEvents, or alerts in our own form (R1).
//!
//! A sender is answered 202 once the driver has made durable what it sent, and not before; what it is told otherwise
//! says whether to send it again. Every sender is bounded in time and size, and so are all of them together.

mod alertmanager;
mod cloudevents;
mod forms;
mod host;
mod receive;

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use hale_model::spec::WebhookSource;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    ErrorClass,
    connect::{Failure, Line},
};
use receive::Receiver;

/// The most connections at once; further ones wait.
const MAX_CONNECTIONS: usize = 256;

/// The most alerts of one request.
const MAX_ALERTS: usize = 1000;

/// How long a sender may take over the head of its request.
const HEAD: Duration = Duration::from_secs(10);

/// How long a connection may last at all; it carries one request.
const CONNECTION: Duration = Duration::from_secs(60);

/// How long those who wait have to take their answer when the responder ends.
const ENDING: Duration = Duration::from_secs(1);

/// See [`super::verify`].
pub(super) fn verify(name: &str, source: &WebhookSource) -> Result<(), String> {
    if source.listen.ip().is_loopback() || source.token_file.is_some() || source.hmac_file.is_some() {
        return Ok(());
    }
    Err(format!(
        "webhook {name} listens on {} for anyone: set tokenFile or hmacFile, or listen on 127.0.0.1",
        source.listen
    ))
}

/// Listens until `end`.
pub(super) async fn run(
    source: WebhookSource,
    listening: Option<watch::Sender<Option<SocketAddr>>>,
    mut line: Line,
    end: CancellationToken,
) {
    if let Err(error) = verify(line.source(), &source) {
        line.failed(Failure::new(ErrorClass::Auth, error)).await;
        return;
    }
    loop {
        let bound = end.run_until_cancelled(bind(&source, listening.as_ref(), &mut line)).await;
        let Some(bound) = bound else { return };
        let failure = match bound {
            Err(failure) => failure,
            Ok(listener) => {
                let receiver = Arc::new(Receiver::new(source.clone(), line.voice(), end.clone()));
                match serve(listener, receiver, &end).await {
                    Some(error) => Failure::network(format!("{}: {error}", source.listen)),
                    None => return,
                }
            }
        };
        let wait = async { sleep(line.failed(failure).await).await };
        if end.run_until_cancelled(wait).await.is_none() {
            return;
        }
    }
}

async fn bind(
    source: &WebhookSource,
    listening: Option<&watch::Sender<Option<SocketAddr>>>,
    line: &mut Line,
) -> Result<TcpListener, Failure> {
    let failed = |error: io::Error| Failure::network(format!("can't listen on {}: {error}", source.listen));
    let listener = TcpListener::bind(source.listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    tracing::info!(source = line.source(), %address, path = source.path, "a webhook source listens");
    if let Some(listening) = listening {
        listening.send_replace(Some(address));
    }
    line.up().await;
    line.works();
    Ok(listener)
}

/// Serves until `end`, or until the listener breaks.
async fn serve(listener: TcpListener, receiver: Arc<Receiver>, end: &CancellationToken) -> Option<io::Error> {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let broken = loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let accepted = tokio::select! {
            biased;
            () = end.cancelled() => break None,
            Some(_) = connections.join_next() => continue,
            accepted = next => accepted,
        };
        match accepted {
            (Ok(place), Ok((stream, _))) => {
                let (receiver, end) = (Arc::clone(&receiver), end.clone());
                connections.spawn(async move {
                    let _late = timeout(CONNECTION, answer(stream, receiver, end)).await;
                    drop(place);
                });
            }
            (_, Err(error)) if is_of_one_connection(&error) => {
                tracing::debug!(%error, "a connection that could not be taken");
                sleep(Duration::from_millis(50)).await;
            }
            (_, Err(error)) => break Some(error),
            (Err(_), _) => break None,
        }
    };
    drop(listener);
    let _late = timeout(ENDING, async { while connections.join_next().await.is_some() {} }).await;
    broken
}

/// Whether taking the next connection may well work: this one was gone already, or descriptors are short for now.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};

    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
        || matches!(error.raw_os_error(), Some(23 | 24 | 105 | 12))
}

async fn answer(stream: TcpStream, receiver: Arc<Receiver>, end: CancellationToken) {
    let service = service_fn(|request| {
        let receiver = Arc::clone(&receiver);
        async move { Ok::<_, Infallible>(receiver.answer(request).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD).keep_alive(false).max_buf_size(64 << 10);
    let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = end.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a sender's connection broke");
    }
}
