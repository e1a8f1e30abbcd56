//! The gateway's own health and metrics over HTTP: `/healthz`, `/readyz`, `/metrics`.
//!
//! Ready means: a server once told what there is, and every address is listened on. A gateway whose server has gone
//! stays ready: it serves by what it knows (S4), and says so in the body.

use std::{convert::Infallible, fmt, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{Gateways, follow::Connection};

/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 64;

/// The metrics of the process in the form that `Accept` asks for: content type and text.
pub type Exposition = Arc<dyn Fn(Option<&str>) -> Result<(&'static str, String), String> + Send + Sync>;

/// What is told.
#[derive(Clone)]
pub struct Health {
    /// The listeners.
    pub gateways: Gateways,
    /// The connection to a server.
    pub connection: watch::Receiver<Connection>,
    /// The metrics.
    pub metrics: Exposition,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Health")
    }
}

impl Health {
    /// Answers on `listener` until the end.
    pub async fn serve(self, listener: TcpListener, end: CancellationToken) {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            let accepted = tokio::select! {
                () = end.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                // Out of descriptors, as a rule.
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            let health = self.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| {
                    let answer = health.answer(&request);
                    async move { Ok::<_, Infallible>(answer) }
                });
                let mut builder = http1::Builder::new();
                builder.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10));
                // A scraper that goes away in the middle is its own affair.
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                drop(permit);
            });
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return answer(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "GET only\n".to_owned());
        }
        match request.uri().path() {
            "/healthz" => answer(StatusCode::OK, "application/json", "{\"status\":\"ok\"}\n".to_owned()),
            "/readyz" => self.ready(),
            "/metrics" => {
                let accept = request.headers().get(header::ACCEPT).and_then(|it| it.to_str().ok());
                match (self.metrics)(accept) {
                    Ok((kind, text)) => answer(StatusCode::OK, kind, text),
                    Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", error),
                }
            }
            _ => answer(StatusCode::NOT_FOUND, "text/plain", "/healthz /readyz /metrics\n".to_owned()),
        }
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        let connection = self.connection.borrow().clone();
        let listeners = self.gateways.listeners();
        let ready = connection.informed && listeners.iter().all(|it| it.state.is_ok());
        let listeners: Vec<_> = listeners
            .into_iter()
            .map(|it| {
                let (address, error): (SocketAddr, _) = match it.state {
                    Ok(address) => (address, None),
                    Err(error) => (it.address, Some(error)),
                };
                json!({"service": it.service, "address": address, "listening": error.is_none(), "error": error})
            })
            .collect();
        let body = json!({
            "ready": ready,
            "server": connection.server,
            "since": connection.since.to_string(),
            "why": connection.why,
            "informed": connection.informed,
            "listeners": listeners,
        });
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        answer(status, "application/json", format!("{body}\n"))
    }
}

fn answer(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
