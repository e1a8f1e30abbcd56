//! The API's parts put together, and its routes.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use hale_api::Code;
use hale_store::Store;
use http::{HeaderValue, header};
use tokio_util::sync::CancellationToken;

use crate::{
    Control, Registry, Tokens, host,
    operations::Operations,
    problems::Refusal,
    routes::{actions, events, explain, health, logs, outcomes, page, services, status},
};

/// Gives the metrics in the form that the scraper's `Accept` asks for: content type and text.
pub type Metrics = Arc<dyn Fn(Option<&str>) -> Result<(&'static str, String), String> + Send + Sync>;

/// What the API is made of.
pub struct Parts {
    /// The node.
    pub control: Arc<dyn Control>,
    /// The database.
    pub store: Store,
    /// The endpoints of services.
    pub registry: Arc<Registry>,
    /// The metrics.
    pub metrics: Metrics,
    /// Who may ask.
    pub tokens: Tokens,
    /// Whether it is served on a loopback address, so that the `Host` header must name this machine (S25).
    pub loopback: bool,
    /// Cancelled when serving is to end: streams end then.
    pub end: CancellationToken,
}

/// The parts, shared by all requests.
#[derive(Clone)]
pub(crate) struct Api(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) parts: Parts,
    pub(crate) operations: Operations,
    pub(crate) log_streams: Arc<tokio::sync::Semaphore>,
}

impl std::ops::Deref for Api {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// The most log streams at once: each has a thread.
const LOG_STREAMS: usize = 64;

/// The API, ready to be served.
pub fn router(parts: Parts) -> Router {
    let api = Api(Arc::new(Shared {
        operations: Operations::default(),
        log_streams: Arc::new(tokio::sync::Semaphore::new(LOG_STREAMS)),
        parts,
    }));
    let closed = Router::new()
        .route("/api/v1/status", get(status::overview))
        .route("/api/v1/workloads", get(status::workloads))
        .route("/api/v1/workloads/{name}", get(status::workload))
        .route("/api/v1/workloads/{name}/{verb}", post(actions::on_workload))
        .route("/api/v1/replicas", get(status::replicas))
        .route("/api/v1/replicas/{name}", get(status::replica))
        .route("/api/v1/replicas/{name}/{verb}", post(actions::on_replica))
        .route("/api/v1/targets", get(status::targets))
        .route("/api/v1/targets/{name}", get(status::target))
        .route("/api/v1/targets/{name}/{verb}", post(actions::on_target))
        .route("/api/v1/nodes", get(status::nodes))
        .route("/api/v1/operations/{id}", get(actions::operation))
        .route("/api/v1/explain/{name}", get(explain::explain))
        .route("/api/v1/outcomes/{name}", get(outcomes::outcomes))
        .route("/api/v1/events", get(events::events))
        .route("/api/v1/logs/{name}", get(logs::logs))
        .route("/api/v1/services", get(services::services))
        .route("/api/v1/services/{name}/endpoints", get(services::endpoints))
        .route("/metrics", get(health::metrics))
        .layer(middleware::from_fn_with_state(api.clone(), authenticate));
    let open = Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/", get(page::index))
        .route("/assets/{file}", get(page::asset));
    closed
        .merge(open)
        .fallback(unknown_route)
        .method_not_allowed_fallback(unknown_method)
        .layer(middleware::from_fn_with_state(api.clone(), check_host))
        .with_state(api)
}

async fn unknown_route(request: Request) -> Refusal {
    Refusal::new(Code::NotFound, format!("there is nothing at {}", request.uri().path()))
}

async fn unknown_method(request: Request) -> Refusal {
    let detail = format!("{} can't be done at {}", request.method(), request.uri().path());
    Refusal::new(Code::MethodNotAllowed, detail)
}

async fn check_host(State(api): State<Api>, request: Request, next: Next) -> Response {
    let mut response = if api.parts.loopback && !host::is_local(&request) {
        let detail = "this address is for this machine alone: ask for localhost, 127.0.0.1 or [::1]";
        Refusal::new(Code::HostNotAllowed, detail).into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn authenticate(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    match api.parts.tokens.caller(request.headers()) {
        Some(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        None => {
            let detail = if request.headers().contains_key(header::AUTHORIZATION) {
                "the token is not known here"
            } else {
                "send a token as `Authorization: Bearer hale_…`; a local one is in cli.token in the data directory"
            };
            Refusal::new(Code::Unauthorized, detail).into_response()
        }
    }
}
