//! The API's parts put together, and its routes.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use hale_api::Code;
use hale_store::Store;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio_util::sync::CancellationToken;

use crate::{
    Cluster, Control, Registry, Runs, TokenSet, control::BoxFuture, gate::Gate, host, operations::Operations,
    problems::Refusal, routes, stream::Stream, surface::Surface, webhooks::Book,
};

/// Gives the metrics in the form that the scraper's `Accept` asks for: content type and text.
pub type Metrics = Arc<dyn Fn(Option<&str>) -> Result<(&'static str, String), String> + Send + Sync>;

/// Makes a check for a scraper: given the query and the headers of its request, the status and text of the answer.
pub type Probing = Arc<dyn Fn(String, HeaderMap) -> BoxFuture<'static, (StatusCode, String)> + Send + Sync>;

/// What the API is made of.
pub struct Parts {
    /// The node.
    pub control: Arc<dyn Control>,
    /// The cluster, where declarations and nodes are changed; `None`: what runs here is declared by files alone.
    pub cluster: Option<Cluster>,
    /// The database.
    pub store: Store,
    /// The endpoints of services.
    pub registry: Arc<Registry>,
    /// The metrics.
    pub metrics: Metrics,
    /// Makes checks for scrapers; `None`: nobody may have any made.
    pub probing: Option<Probing>,
    /// Who may ask.
    pub tokens: TokenSet,
    /// Who is told of events by webhooks; `None`: nobody can be.
    pub webhooks: Option<Book>,
    /// The runs of a responder; `None`: none runs here.
    pub runs: Option<Arc<dyn Runs>>,
    /// What sees to Kubernetes; `None`: nothing does.
    pub kube: Option<crate::kube::Kube>,
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
    pub(crate) stream: Stream,
    pub(crate) log_streams: Arc<tokio::sync::Semaphore>,
}

impl std::ops::Deref for Api {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Shared {
    /// Where declarations and nodes are changed.
    ///
    /// # Errors
    /// When there is no such place.
    pub(crate) fn cluster(&self) -> Result<&Cluster, Refusal> {
        let detail = "this hale runs what its files declare: change them, and start it again";
        self.parts.cluster.as_ref().ok_or_else(|| Refusal::new(Code::NotApplicable, detail))
    }
}

/// The most log streams at once: each has a thread.
const LOG_STREAMS: usize = 64;

/// The API, ready to be served. Starts the task that its event streams share: is called inside a runtime.
pub fn router(parts: Parts) -> Router {
    let stream = Stream::new(parts.store.clone());
    tokio::spawn(stream.clone().run(parts.end.clone()));
    let api = Api(Arc::new(Shared {
        stream,
        operations: Operations::default(),
        log_streams: Arc::new(tokio::sync::Semaphore::new(LOG_STREAMS)),
        parts,
    }));
    let surface = routes::all(Surface::new(&Gate::new(api.parts.tokens.clone())));
    finished(surface.router, api.parts.loopback).with_state(api)
}

/// Routes with what is answered beside them, and what goes with every answer. `loopback`: the `Host` header must name
/// this machine.
pub(crate) fn finished<S: Clone + Send + Sync + 'static>(router: Router<S>, loopback: bool) -> Router<S> {
    router
        .fallback(unknown_route)
        .method_not_allowed_fallback(unknown_method)
        .layer(middleware::from_fn_with_state(loopback, check_host))
}

async fn unknown_route(request: Request) -> Refusal {
    let path = request.uri().path();
    let hint = match path.starts_with("/api/v1/") {
        true => "; another release may have it, and a `hale responder` by itself answers `hale runs` alone",
        false => "",
    };
    Refusal::new(Code::NotFound, format!("there is nothing at {path}{hint}"))
}

async fn unknown_method(request: Request) -> Refusal {
    let detail = format!("{} can't be done at {}", request.method(), request.uri().path());
    Refusal::new(Code::MethodNotAllowed, detail)
}

async fn check_host(State(loopback): State<bool>, request: Request, next: Next) -> Response {
    let mut response = if loopback && !host::is_local(&request) {
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
