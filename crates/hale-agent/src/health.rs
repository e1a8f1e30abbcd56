//! The agent's own `/healthz`, `/readyz` and `/metrics` (N11), without a token, and, where that is asked for, `/probe`.
//!
//! An absent server does not make an agent unready: what it runs does not depend on one.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use crate::{
    blackbox::{self, Blackbox},
    metrics::exposition::PROMETHEUS_TEXT,
};

/// Connections at one time, besides those on which scrapers wait for a check; more wait in the kernel's queue.
const CONNECTIONS: usize = 64;

/// How long a request's head may take, and a connection may be idle.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// How long a whole connection may last: scrapers come back.
const LASTS: Duration = Duration::from_secs(120);

/// Whether something is well: `Ok`, or what is wrong.
pub type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Content type and text of the metrics, for an `Accept`.
pub type Scrape = Arc<dyn Fn(Option<&str>) -> Result<(&'static str, String), String> + Send + Sync>;

/// What is answered.
#[derive(Clone)]
pub struct Answers {
    /// What is said where all is well.
    pub well: &'static str,
    /// Whether the agent is to be restarted if not.
    pub alive: Check,
    /// Whether its runtime answers and its first desired state is loaded.
    pub ready: Check,
    /// The metrics.
    pub metrics: Scrape,
    /// Makes checks for scrapers; `None`: nobody may have any made.
    pub blackbox: Option<Arc<Blackbox>>,
}

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, answers: Answers) {
    // However many checks are slow: who asks how the agent is finds room.
    let checks = if answers.blackbox.is_some() { blackbox::AT_ONCE } else { 0 };
    let room = Arc::new(Semaphore::new(CONNECTIONS + checks));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let answers = answers.clone();
                tokio::spawn(async move {
                    let _ = tokio::time::timeout(LASTS, connection(stream, answers)).await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: others may be given back.
                tracing::warn!(%error, "can't take a connection to the health address");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, answers: Answers) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answers = answers.clone();
        async move { Ok::<_, Infallible>(answers.answer(&request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    // A peer that goes away is none of ours to tell.
    let _ = served.await;
}

impl Answers {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n");
        }
        match request.uri().path() {
            "/healthz" => verdict(self.well, (self.alive)()),
            "/readyz" => verdict(self.well, (self.ready)()),
            "/metrics" => {
                let accept = request.headers().get(header::ACCEPT).and_then(|it| it.to_str().ok());
                match (self.metrics)(accept) {
                    Ok((kind, body)) => answer(StatusCode::OK, kind, body),
                    Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
                }
            }
            "/probe" => match &self.blackbox {
                Some(blackbox) => {
                    let query = request.uri().query().unwrap_or_default();
                    let (status, told) = blackbox.answer(query, request.headers()).await;
                    let mut answer = answer(status, PROMETHEUS_TEXT, told);
                    // The place is for the next one who asks.
                    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                    answer
                }
                None => text(
                    StatusCode::NOT_FOUND,
                    "no checks are made for scrapers here; --probe-endpoint has them made\n",
                ),
            },
            _ => text(StatusCode::NOT_FOUND, "there are /healthz, /readyz and /metrics\n"),
        }
    }
}

fn verdict(well: &str, result: Result<(), String>) -> Response<Full<Bytes>> {
    match result {
        Ok(()) => text(StatusCode::OK, &format!("{well}\n")),
        Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("{why}\n")),
    }
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    answer(status, "text/plain; charset=utf-8", body.to_owned())
}

fn answer(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
