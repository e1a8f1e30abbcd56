//! A cluster's API, as far as the agent asks it: raw requests with typed refusals.
//!
//! `kube` brings what is hard (kubeconfig, service accounts, tokens that are made anew, TLS); the requests are our own,
//! because what matters here is how each can be refused (403 of one kind, 410, 429 with a time to wait), that no full
//! objects are kept, and that every answer has an end.

mod access;
mod discovery;
mod lines;
mod read;
mod token;
mod trim;
mod watch;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use kube::client::Body;
use serde_json::Value;

pub use access::{Right, Verb};
pub use discovery::{Catalog, Resource};
pub(crate) use lines::Lines;
pub(crate) use read::LogOf;
pub use watch::{Seen, WATCHED, Watch, watch};

/// From a request to the head of its answer, and for an answer that is no stream to its end.
pub const ANSWER: Duration = Duration::from_secs(30);

/// The largest answer that is no stream: a page of a list.
const LARGEST: usize = 128 << 20;

/// The name under which hale owns fields.
pub const FIELD_MANAGER: &str = "hale";

/// Why the cluster's API did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// 401: it does not know who asks. A token that has run out is followed by a new one.
    #[error("{0}")]
    Unauthorized(String),
    /// 403: it may not be asked that.
    #[error("{0}")]
    Forbidden(String),
    /// 404: there is no such object, or no such kind.
    #[error("{0}")]
    NotFound(String),
    /// 410: the revision is too old to go on from.
    #[error("{0}")]
    Gone(String),
    /// 429, 503: it has too much to do, and may have said when to ask again.
    #[error("{message}")]
    Busy {
        /// When to ask again.
        after: Option<Duration>,
        /// What it said.
        message: String,
    },
    /// 409: somebody else owns that, or it has changed.
    #[error("{0}")]
    Conflict(String),
    /// 400, 422: what was sent is wrong, or can't be changed so.
    #[error("{0}")]
    Invalid(String),
    /// Any other refusal.
    #[error("{0}")]
    Refused(String),
    /// It can't be reached.
    #[error("{0}")]
    Unreachable(String),
    /// It did not answer in time.
    #[error("{0}")]
    Timeout(String),
    /// It answered something else than its API does.
    #[error("{0}")]
    Garbage(String),
}

/// Asks a cluster.
#[derive(Clone)]
pub struct Cluster {
    client: kube::Client,
    /// Where the token is, when it is in a file.
    token: Option<Arc<token::TokenFile>>,
    name: String,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Cluster {
    /// The cluster of the kubeconfig (`$KUBECONFIG`, `~/.kube/config`), of the context that is named or is current;
    /// without one the cluster that this runs in.
    ///
    /// # Errors
    /// Neither is there, or it can't be used: says why.
    pub async fn find(context: Option<&str>) -> Result<Self, String> {
        let config = match context {
            None => kube::Config::infer().await.map_err(|error| chain(&error))?,
            Some(context) => {
                let options = kube::config::KubeConfigOptions {
                    context: Some(context.to_owned()),
                    ..Default::default()
                };
                let config = kube::Config::from_kubeconfig(&options).await;
                config.map_err(|error| chain(&error))?
            }
        };
        Self::of(config)
    }

    /// The cluster at a URL, that asks nobody who he is.
    ///
    /// # Errors
    /// It is no URL.
    pub fn at(url: &str) -> Result<Self, String> {
        let url = url.parse().map_err(|error| format!("{url} is no URL: {error}"))?;
        Self::of(kube::Config::new(url))
    }

    fn of(mut config: kube::Config) -> Result<Self, String> {
        // Whoever asks knows best how long to wait, and what else to do meanwhile.
        config.default_retry = false;
        config.connect_timeout = Some(Duration::from_secs(10));
        let token = match &config.auth_info.token {
            None => config.auth_info.token_file.take().map(|it| Arc::new(token::TokenFile::new(it))),
            Some(_) => None,
        };
        let name = config.cluster_url.to_string();
        let client = kube::Client::try_from(config).map_err(|error| chain(&error))?;
        Ok(Self { client, token, name })
    }

    /// Where it is.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace that things are meant to be in where nothing is said.
    #[must_use]
    pub fn default_namespace(&self) -> &str {
        self.client.default_namespace()
    }

    /// Begins an answer.
    pub(crate) async fn open(
        &self,
        mut request: Request<Body>,
        within: Duration,
    ) -> Result<Response<Body>, ClusterError> {
        if let Some(token) = &self.token {
            let token = token.header().await.map_err(ClusterError::Unauthorized)?;
            request.headers_mut().insert(header::AUTHORIZATION, token);
        }
        let what = format!("{} {}", request.method(), request.uri().path());
        let response = match tokio::time::timeout(within, self.client.send(request)).await {
            Err(_) => return Err(ClusterError::Timeout(format!("no answer to {what} within {within:?}"))),
            Ok(Err(error)) => return Err(ClusterError::Unreachable(format!("{what}: {}", chain(&error)))),
            Ok(Ok(response)) => response,
        };
        if response.status().is_success() {
            return Ok(response);
        }
        Err(refusal(response, &what, within).await)
    }

    /// The bytes of an answer.
    pub(crate) async fn bytes(
        &self,
        request: Request<Body>,
        within: Duration,
    ) -> Result<Bytes, ClusterError> {
        let what = format!("{} {}", request.method(), request.uri().path());
        let response = self.open(request, within).await?;
        collect(response, within, &what).await
    }

    /// The answer to a `GET`, as JSON.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, ClusterError> {
        let bytes = self.bytes(request(Method::GET, path, None, Body::empty())?, ANSWER).await?;
        json(&bytes, path)
    }

    /// Applies an object on the server's side, as its owner.
    pub(crate) async fn apply(&self, path: &str, object: &Value) -> Result<Value, ClusterError> {
        let path = format!("{path}?fieldManager={FIELD_MANAGER}&force=true");
        // JSON is YAML.
        let body = Body::from(object.to_string().into_bytes());
        let kind = "application/apply-patch+yaml";
        let bytes = self.bytes(request(Method::PATCH, &path, Some(kind), body)?, ANSWER).await?;
        json(&bytes, &path)
    }

    /// Deletes an object, and what it controls after it; of that uid alone, where one is given.
    pub(crate) async fn delete(&self, path: &str, uid: Option<&str>) -> Result<(), ClusterError> {
        let mut options = serde_json::json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background",
        });
        if let Some(uid) = uid {
            options["preconditions"] = serde_json::json!({ "uid": uid });
        }
        let body = Body::from(options.to_string().into_bytes());
        self.bytes(request(Method::DELETE, path, Some("application/json"), body)?, ANSWER).await.map(drop)
    }
}

pub(crate) fn request(
    method: Method,
    path: &str,
    content: Option<&str>,
    body: Body,
) -> Result<Request<Body>, ClusterError> {
    let mut request = Request::builder().method(method).uri(path).header(header::ACCEPT, "application/json");
    if let Some(content) = content {
        request = request.header(header::CONTENT_TYPE, content);
    }
    request.body(body).map_err(|error| ClusterError::Invalid(format!("{path} is no valid request: {error}")))
}

pub(crate) fn json(bytes: &[u8], path: &str) -> Result<Value, ClusterError> {
    serde_json::from_slice(bytes)
        .map_err(|error| ClusterError::Garbage(format!("the answer to {path} is not JSON: {error}")))
}

async fn collect(response: Response<Body>, within: Duration, what: &str) -> Result<Bytes, ClusterError> {
    match tokio::time::timeout(within, Limited::new(response.into_body(), LARGEST).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) => Err(ClusterError::Unreachable(format!("the answer to {what} broke off: {error}"))),
        Err(_) => Err(ClusterError::Timeout(format!("the answer to {what} did not end within {within:?}"))),
    }
}

async fn refusal(response: Response<Body>, what: &str, within: Duration) -> ClusterError {
    let status = response.status();
    let header = response.headers().get(header::RETRY_AFTER).and_then(|it| it.to_str().ok());
    let header = header.and_then(|it| it.parse().ok());
    let body = collect(response, within, what).await.unwrap_or_default();
    let told: Value = serde_json::from_slice(&body).unwrap_or_default();
    let seconds = header.or_else(|| told["details"]["retryAfterSeconds"].as_u64());
    let said = told["message"].as_str().unwrap_or_default();
    let message = if said.is_empty() { format!("{what} was answered {status}") } else { said.to_owned() };
    of_status(status, message, seconds)
}

/// What a status means, in an answer or in the middle of a watch.
pub(crate) fn of_status(status: StatusCode, message: String, seconds: Option<u64>) -> ClusterError {
    match status {
        StatusCode::UNAUTHORIZED => ClusterError::Unauthorized(message),
        StatusCode::FORBIDDEN => ClusterError::Forbidden(message),
        StatusCode::NOT_FOUND => ClusterError::NotFound(message),
        StatusCode::GONE => ClusterError::Gone(message),
        StatusCode::CONFLICT => ClusterError::Conflict(message),
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => ClusterError::Invalid(message),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            ClusterError::Busy { after: seconds.map(Duration::from_secs), message }
        }
        _ => ClusterError::Refused(message),
    }
}

/// An error and what caused it, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        source = error.source();
    }
    words
}

/// Percent-encodes what may not stand as it is in a query's value.
pub(crate) fn encode(text: &str) -> String {
    hale_api::encode(text)
}
