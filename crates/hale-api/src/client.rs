//! The typed client.

mod admin;
mod kube;
mod runs;
mod stream;
mod webhooks;

use std::{io, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use hale_model::status::Overview;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Code, Problem, TOKEN_FILE,
    endpoints::EndpointSet,
    events::{EventPage, EventQuery},
    explain::Explanation,
    logs::LogQuery,
    operation::{ActionRequest, Operation, Verb},
    outcomes::{History, HistoryQuery, OutcomeHistory},
    retry_after,
    tls::{ClientTls, take_apart},
    transport::Transport,
};

pub use kube::{AgentPush, AgentStream};
pub use stream::{EventStream, Followed, LogStream, Told};

/// From the request to the head of its answer; long-polls are held for less.
const ANSWER: Duration = Duration::from_secs(30);

/// The largest answer that is not a stream.
const MAX_ANSWER: usize = 256 << 20;

/// Why hale could not be asked, or did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing answers there (exit status 6).
    #[error("{0}")]
    Unreachable(String),
    /// Something accepted the request and never answered (exit status 6).
    #[error("{0}")]
    Timeout(String),
    /// There is no such thing (exit status 4).
    #[error("{0}")]
    NotFound(Problem),
    /// The token is missing, unknown, or does not allow it (exit status 5).
    #[error("{0}")]
    NotAllowed(Problem),
    /// A declaration is wrong (exit status 3).
    #[error("{0}")]
    Invalid(Problem),
    /// Any other refusal (exit status 1).
    #[error("{0}")]
    Refused(Problem),
    /// The answer makes no sense: something else than hale, or another version of it (exit status 1).
    #[error("{0}")]
    Protocol(String),
}

impl From<Problem> for ClientError {
    fn from(problem: Problem) -> Self {
        match (problem.code, problem.status) {
            (Code::NotFound, _) => Self::NotFound(problem),
            (Code::InvalidDocument, _) => Self::Invalid(problem),
            (Code::Unauthorized | Code::Forbidden, _) | (_, 401 | 403) => Self::NotAllowed(problem),
            _ => Self::Refused(problem),
        }
    }
}

/// What an action is about: the collection in its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collection {
    /// Workloads.
    Workloads,
    /// Replicas.
    Replicas,
    /// Targets.
    Targets,
}

impl Collection {
    /// Its word in paths.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Workloads => "workloads",
            Self::Replicas => "replicas",
            Self::Targets => "targets",
        }
    }
}

/// Asks a running hale.
#[derive(Debug, Clone)]
pub struct Client {
    transport: Transport,
    token: String,
}

impl Client {
    /// The hale that runs on this data directory, with the token it left there.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] when no token is there: no hale has run on it. [`ClientError::NotAllowed`] when it
    /// may not be read.
    pub fn local(data_dir: &Path) -> Result<Self, ClientError> {
        let path = data_dir.join(TOKEN_FILE);
        let token = match std::fs::read_to_string(&path) {
            Ok(token) => token.trim().to_owned(),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let detail =
                    format!("{} can't be read: {error}; ask as the user hale runs as", path.display());
                return Err(ClientError::NotAllowed(Problem::new(Code::Forbidden, detail)));
            }
            Err(error) => {
                let detail = format!(
                    "no hale runs on {}: {} can't be read: {error}; start one with `hale up`, or name another \
                     directory with --data-dir",
                    data_dir.display(),
                    path.display()
                );
                return Err(ClientError::Unreachable(detail));
            }
        };
        Ok(Self { transport: Transport::Local(data_dir.to_owned()), token })
    }

    /// The hale at a URL: `http://127.0.0.1:7450`, `https://hale.example:7450` with an authority that the system trusts.
    ///
    /// # Errors
    /// [`ClientError::Protocol`] when it is not such a URL.
    pub fn remote(url: &str, token: &str) -> Result<Self, ClientError> {
        Self::remote_with(url, token, &ClientTls::default())
    }

    /// Like [`Self::remote`], with what is trusted and shown.
    ///
    /// # Errors
    /// [`ClientError::Protocol`] when it is not such a URL, or the files can't be used.
    pub fn remote_with(url: &str, token: &str, tls: &ClientTls) -> Result<Self, ClientError> {
        let (secure, authority) = take_apart(url)?;
        let tls = if secure { Some(tls.config(b"http/1.1")?) } else { None };
        Ok(Self { transport: Transport::Tcp { authority, tls }, token: token.trim().to_owned() })
    }

    /// Like [`Self::remote`], with TLS as it is set up already.
    ///
    /// # Errors
    /// [`ClientError::Protocol`] when it is not such a URL.
    pub fn remote_over(url: &str, token: &str, tls: Arc<rustls::ClientConfig>) -> Result<Self, ClientError> {
        let (secure, authority) = take_apart(url)?;
        let transport = Transport::Tcp { authority, tls: secure.then_some(tls) };
        Ok(Self { transport, token: token.trim().to_owned() })
    }

    /// What the other side is called, in messages.
    #[must_use]
    pub fn name(&self) -> String {
        self.transport.name()
    }

    /// Everything that runs, as it is now.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn overview(&self) -> Result<Overview, ClientError> {
        self.get("/api/v1/status").await
    }

    /// Why a replica, workload or target is as it is.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn explain(&self, name: &str) -> Result<Explanation, ClientError> {
        self.get(&format!("/api/v1/explain/{}", encode(name))).await
    }

    /// One page of events.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn events(&self, query: &EventQuery) -> Result<EventPage, ClientError> {
        self.get(&with_query("/api/v1/events", query)).await
    }

    /// Follows events as they happen, from after `query.after` or from now on. Goes on by itself after a lost
    /// connection, without a gap.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn follow(&self, query: EventQuery) -> Result<EventStream, ClientError> {
        EventStream::open(self.clone(), query).await
    }

    /// What a replica, or all replicas of a workload, printed.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn logs(&self, name: &str, query: &LogQuery) -> Result<LogStream, ClientError> {
        let path = with_query(&format!("/api/v1/logs/{}", encode(name)), query);
        Ok(LogStream::new(self.open(&path, None, None).await?))
    }

    /// The probe history of a replica or target.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn outcomes(&self, name: &str) -> Result<OutcomeHistory, ClientError> {
        self.get(&format!("/api/v1/outcomes/{}", encode(name))).await
    }

    /// Availability and durations of the checks of a replica or target over days.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn history(
        &self,
        of: Collection,
        name: &str,
        query: &HistoryQuery,
    ) -> Result<History, ClientError> {
        let path = format!("/api/v1/{}/{}/history", of.as_str(), encode(name));
        self.get(&with_query(&path, query)).await
    }

    /// The endpoints of a service.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn endpoints(&self, service: &str) -> Result<EndpointSet, ClientError> {
        self.get(&format!("/api/v1/services/{}/endpoints", encode(service))).await
    }

    /// Asks for something. The answer comes at once; [`Self::operation`] tells how it goes.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn act(
        &self,
        on: Collection,
        name: &str,
        verb: Verb,
        request: &ActionRequest,
    ) -> Result<Operation, ClientError> {
        let path = format!("/api/v1/{}/{}/{}", on.as_str(), encode(name), verb.as_str());
        let body = serde_json::to_vec(request).map_err(|error| ClientError::Protocol(error.to_string()))?;
        decode(self.send(Method::POST, &path, Some(body), &[]).await?).await
    }

    /// How an operation goes. With `after`, waits (for some seconds at most) until its revision is above that.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn operation(&self, id: u64, after: Option<u64>) -> Result<Operation, ClientError> {
        let after = after.map(|it| format!("?after={it}")).unwrap_or_default();
        self.get(&format!("/api/v1/operations/{id}{after}")).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        decode(self.send(Method::GET, path, None, &[]).await?).await
    }

    /// Begins a stream.
    async fn open(
        &self,
        path: &str,
        accept: Option<&'static str>,
        last_id: Option<u64>,
    ) -> Result<Response<Incoming>, ClientError> {
        let mut headers = Vec::new();
        if let Some(accept) = accept {
            headers.push((header::ACCEPT, HeaderValue::from_static(accept)));
        }
        if let Some(id) = last_id {
            headers.push((header::HeaderName::from_static("last-event-id"), HeaderValue::from(id)));
        }
        let response = self.send(Method::GET, path, None, &headers).await?;
        if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        headers: &[(header::HeaderName, HeaderValue)],
    ) -> Result<Response<Incoming>, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::USER_AGENT, concat!("hale/", env!("CARGO_PKG_VERSION")));
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|error| ClientError::Protocol(format!("not a valid request: {error}")))?;
        self.transport.send(request, ANSWER).await
    }
}

async fn decode<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T, ClientError> {
    if !response.status().is_success() {
        return Err(refusal(response).await);
    }
    let body = collect(response).await?;
    serde_json::from_slice(&body)
        .map_err(|error| ClientError::Protocol(format!("the answer is not what was asked for: {error}")))
}

async fn refusal(response: Response<Incoming>) -> ClientError {
    let status = response.status();
    let retry_after = retry_after(response.headers(), Timestamp::now());
    match collect(response).await {
        Ok(body) => match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Problem { retry_after, ..problem }.into(),
            Err(_) => foreign(status, retry_after),
        },
        Err(error) => error,
    }
}

/// An error in a form that is not ours: something else than hale answers there, maybe a proxy that can't reach it.
fn foreign(status: StatusCode, retry_after: Option<Duration>) -> ClientError {
    let text =
        format!("the answer was {status}, and not in the form hale uses; is it hale that answers there?");
    if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
        let problem = Problem::new(Code::Unavailable, text);
        return ClientError::Refused(Problem { retry_after, status: status.as_u16(), ..problem });
    }
    ClientError::Protocol(text)
}

async fn collect(response: Response<Incoming>) -> Result<Bytes, ClientError> {
    match tokio::time::timeout(ANSWER, Limited::new(response.into_body(), MAX_ANSWER).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) => Err(ClientError::Protocol(format!("the answer broke off: {error}"))),
        Err(_) => Err(ClientError::Timeout(format!("the answer did not end within {ANSWER:?}"))),
    }
}

fn with_query(path: &str, query: &impl Serialize) -> String {
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(query) else { return path.to_owned() };
    let pairs: Vec<String> = fields
        .iter()
        .map(|(name, value)| match value {
            serde_json::Value::String(text) => format!("{name}={}", encode(text)),
            other => format!("{name}={other}"),
        })
        .collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

/// Percent-encodes what may not stand as it is in a path segment or query value.
#[must_use]
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_keeps_what_was_meant_whatever_is_in_it() {
        let query =
            EventQuery { after: Some(3), subject: Some("a&b=c d/é".to_owned()), ..EventQuery::default() };
        assert_eq!(
            with_query("/api/v1/events", &query),
            "/api/v1/events?after=3&subject=a%26b%3Dc%20d%2F%C3%A9"
        );
        assert_eq!(with_query("/x", &EventQuery::default()), "/x");
    }

    #[tokio::test]
    async fn a_data_directory_no_hale_ran_on_is_unreachable_and_says_what_to_try() {
        let dir = tempfile::tempdir().unwrap();
        let error = Client::local(dir.path()).unwrap_err();
        assert!(matches!(&error, ClientError::Unreachable(text) if text.contains("hale up")), "{error}");

        std::fs::write(dir.path().join(TOKEN_FILE), "t\n").unwrap();
        let error = Client::local(dir.path()).unwrap().overview().await.unwrap_err();
        assert!(matches!(error, ClientError::Unreachable(_)), "{error}");
    }

    #[test]
    fn a_remote_is_an_http_url() {
        for url in ["hale", "ftp://x", "http://"] {
            assert!(matches!(Client::remote(url, "t"), Err(ClientError::Protocol(_))), "{url}");
        }
        assert_eq!(Client::remote("http://[::1]:7450/", "t").unwrap().name(), "http://[::1]:7450");
        assert_eq!(Client::remote("https://hale", "t").unwrap().name(), "https://hale:443");
    }
}
