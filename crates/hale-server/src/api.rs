//! The API's parts put together, and its routes.

use std::{num::NonZeroU32, sync::Arc};

use axum::{
    Router,
    body::{Body, HttpBody},
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use futures_util::StreamExt;
use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use hale_api::Code;
use hale_store::Store;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio_util::sync::CancellationToken;

use crate::{
    Cluster, Control, Denied, Registry, TokenSet, access::Access, control::BoxFuture, host,
    idempotency::Answers, operations::Operations, problems::Refusal, routes, stream::Stream,
    surface::Surface, webhooks::Book,
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
    rates: DefaultKeyedRateLimiter<String>,
    pub(crate) answers: Answers,
}

impl std::ops::Deref for Api {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// How many requests of one token are answered a second, after as many as the burst; more are told to wait (S25). Far
/// above what people, pages and scripts ask: it bounds what one that runs wild costs the others.
const PER_SECOND: NonZeroU32 = NonZeroU32::new(200).unwrap();

/// See [`PER_SECOND`].
const BURST: NonZeroU32 = NonZeroU32::new(1000).unwrap();

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
        rates: RateLimiter::keyed(Quota::per_second(PER_SECOND).allow_burst(BURST)),
        answers: Answers::default(),
        parts,
    }));
    let surface = routes::all(Surface::new(&api));
    surface
        .router
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

/// Lets through whoever bears a token that is taken now, of a role that may, and not too often.
pub(crate) async fn authorize(
    State((api, access)): State<(Api, Access)>,
    mut request: Request,
    next: Next,
) -> Response {
    if access == Access::Open {
        return next.run(request).await;
    }
    let caller = match api.parts.tokens.caller(request.headers()) {
        Ok(caller) => caller,
        Err(denied) => return Refusal::new(Code::Unauthorized, denied.to_string()).into_response(),
    };
    if !access.allows(caller.role) {
        let detail =
            format!("a token of role {} can't do this; {} can", caller.role.as_str(), access.needs());
        return Refusal::new(Code::Forbidden, detail).into_response();
    }
    if let Err(wait) = api.rates.check_key(&caller.token) {
        let seconds = wait.wait_time_from(DefaultClock::default().now()).as_secs() + 1;
        return Refusal::too_often(seconds).into_response();
    }
    request.extensions_mut().insert(caller.clone());
    let (tokens, reads) = (api.parts.tokens.clone(), request.method().is_safe());
    let ended = async move { tokens.ended(&caller).await };
    let mut ended = Box::pin(ended);
    let answer = next.run(request);
    // A question that is held long is not answered to who may not ask any more; what changes something is not broken
    // off in the middle.
    let response = if reads {
        tokio::select! {
            response = answer => response,
            () = &mut ended => return Refusal::new(Code::Unauthorized, Denied::Unknown.to_string()).into_response(),
        }
    } else {
        answer.await
    };
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    // A stream: it is cut when the token ends.
    response.map(|body| Body::from_stream(body.into_data_stream().take_until(ended)))
}
