//! How the SDK's messages go over HTTP: its `StreamableHttpClient`, over hyper.
//!
//! Notifications are taken out of the streams here, before the SDK: it would write each to the log and start a task for
//! it, so that their order and any bound on their number were lost. Those that are not needed end here. Taken out here they come one by one, and a stream is not read on while
//! the driver is busy. What the connection failed of is kept, with its class: the SDK makes sentences of it.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use rmcp::{
    model::{ClientJsonRpcMessage, ServerJsonRpcMessage},
    transport::streamable_http_client::{
        StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
    },
};
use sse_stream::{Error as SseError, Sse};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout},
};

use super::{
    super::{
        ErrorClass,
        connect::Failure,
        decode::{Decoder, Message},
        http::{Endpoint, chain, is_media_type},
    },
    unasked::{For, MAX_REQUESTS, Note, Requests, WINDOW, sort},
};

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");

/// The largest answer that is no stream.
const MAX_ANSWER: usize = 8 << 20;

/// How long such an answer may take to come.
const ANSWER: Duration = Duration::from_secs(30);

/// How the standalone stream stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Stream {
    /// It is not answered yet.
    Asked,
    /// It is open.
    Open,
    /// It is not, any more or at all.
    Lost(Failure),
}

/// What is heard on a connection, beside answers.
#[derive(Debug)]
pub(super) struct Ear {
    pub(super) notes: mpsc::Sender<Note>,
    pub(super) stream: watch::Sender<Stream>,
    /// The last request that failed.
    pub(super) failure: watch::Sender<Option<Failure>>,
    /// Whether the server gave a session.
    pub(super) session: watch::Sender<bool>,
    /// What the server asked us, on all streams together.
    pub(super) requests: watch::Sender<Requests>,
}

/// One connection's way to a server.
#[derive(Debug, Clone)]
pub(super) struct Wire {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) ear: Arc<Ear>,
}

/// A [`Failure`] as the SDK carries it.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.error)]
pub(super) struct WireError(Failure);

type Refused = StreamableHttpError<WireError>;

impl Wire {
    fn remember(&self, failure: Failure) -> Refused {
        self.ear.failure.send_replace(Some(failure.clone()));
        StreamableHttpError::Client(WireError(failure))
    }

    fn headers(
        &self,
        accept: &'static str,
        session: Option<&str>,
        custom: HashMap<HeaderName, HeaderValue>,
    ) -> Result<HeaderMap, Refused> {
        let mut headers: HeaderMap = custom.into_iter().collect();
        headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        if let Some(session) = session {
            let value = HeaderValue::from_str(session).map_err(|_| {
                self.remember(Failure::protocol("the server's session id can stand in no header"))
            })?;
            headers.insert(SESSION, value);
        }
        Ok(headers)
    }

    /// The server does not know the session: it was restarted, or has ended it (R2).
    fn expired(&self) -> Failure {
        let error = format!("{} answered 404: the session is over there", self.endpoint.url());
        Failure::new(ErrorClass::Server, error)
    }

    async fn post(
        &self,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        custom: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, Refused> {
        let mut headers = self.headers("application/json, text/event-stream", session.as_deref(), custom)?;
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let body = Bytes::from(serde_json::to_vec(&message)?);
        let sent = self.endpoint.send(Method::POST, headers, body).await;
        let response = sent.map_err(|failure| self.remember(failure))?;
        match response.status() {
            StatusCode::ACCEPTED | StatusCode::NO_CONTENT => return Ok(StreamableHttpPostResponse::Accepted),
            StatusCode::NOT_FOUND if session.is_some() => {
                self.ear.failure.send_replace(Some(self.expired()));
                return Err(StreamableHttpError::SessionExpired);
            }
            status if !status.is_success() => {
                return Err(self.remember(self.endpoint.refused(response).await));
            }
            _ => {}
        }
        let given = response.headers().get(SESSION).and_then(|it| it.to_str().ok()).map(str::to_owned);
        if given.is_some() {
            self.ear.session.send_replace(true);
        }
        if is_media_type(response.headers(), "text/event-stream") {
            return Ok(StreamableHttpPostResponse::Sse(self.listen(response.into_body(), false), given));
        }
        let is_request = matches!(message, ClientJsonRpcMessage::Request(_));
        let is_json = is_media_type(response.headers(), "application/json");
        let body = self.collect(response.into_body()).await?;
        if !is_request {
            return Ok(StreamableHttpPostResponse::Accepted);
        }
        let strange = |why: String| Failure::protocol(format!("{}: {why}", self.endpoint.url()));
        if !is_json {
            let why = "the answer is neither JSON nor a stream; is it the URL of an MCP server?".to_owned();
            return Err(self.remember(strange(why)));
        }
        let answer: ServerJsonRpcMessage = serde_json::from_slice(&body)
            .map_err(|error| self.remember(strange(format!("the answer is no message of MCP: {error}"))))?;
        if !matches!(answer, ServerJsonRpcMessage::Response(_) | ServerJsonRpcMessage::Error(_)) {
            return Err(self.remember(strange("a request was answered with none".to_owned())));
        }
        Ok(StreamableHttpPostResponse::Json(answer, given))
    }

    async fn collect(&self, body: Incoming) -> Result<Bytes, Refused> {
        match timeout(ANSWER, Limited::new(body, MAX_ANSWER).collect()).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) => {
                let error = format!("{}: the answer broke off: {error}", self.endpoint.url());
                Err(self.remember(Failure::network(error)))
            }
            Err(_) => {
                let error = format!("{}: the answer did not end within {ANSWER:?}", self.endpoint.url());
                Err(self.remember(Failure::timeout(error)))
            }
        }
    }

    async fn open_stream(
        &self,
        session: Option<Arc<str>>,
        last_id: Option<String>,
        custom: HashMap<HeaderName, HeaderValue>,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, Refused> {
        let mut headers = self.headers("text/event-stream", session.as_deref(), custom)?;
        if let Some(id) = last_id.and_then(|it| HeaderValue::from_str(&it).ok()) {
            headers.insert(HeaderName::from_static("last-event-id"), id);
        }
        let response = self.endpoint.send(Method::GET, headers, Bytes::new()).await;
        let response = response.map_err(|failure| self.remember(failure))?;
        let url = self.endpoint.url();
        match response.status() {
            StatusCode::METHOD_NOT_ALLOWED => Err(self.remember(Failure::protocol(format!(
                "{url} has no stream that it could tell alerts on (405)"
            )))),
            StatusCode::NOT_FOUND => Err(self.remember(self.expired())),
            status if !status.is_success() => Err(self.remember(self.endpoint.refused(response).await)),
            _ if !is_media_type(response.headers(), "text/event-stream") => {
                Err(self.remember(Failure::protocol(format!("{url}: what was to be a stream is none"))))
            }
            _ => Ok(self.listen(response.into_body(), true)),
        }
    }

    /// The messages of a stream without the notifications, which go to the ear.
    fn listen(&self, body: Incoming, standalone: bool) -> BoxStream<'static, Result<Sse, SseError>> {
        let listening = Listening {
            body,
            decoder: Decoder::default(),
            ready: VecDeque::new(),
            url: self.endpoint.url().to_owned(),
            ear: Arc::clone(&self.ear),
            standalone,
        };
        futures_util::stream::unfold(listening, |mut listening| async move {
            let message = listening.next().await?;
            let sse = Sse {
                event: Some(message.event).filter(|it| !it.is_empty()),
                data: Some(message.data),
                id: message.id,
                retry: None,
            };
            Some((Ok(sse), listening))
        })
        .boxed()
    }
}

struct Listening {
    body: Incoming,
    decoder: Decoder,
    ready: VecDeque<Message>,
    url: String,
    ear: Arc<Ear>,
    standalone: bool,
}

impl Listening {
    /// The next message for the SDK; `None` at the end.
    async fn next(&mut self) -> Option<Message> {
        loop {
            while let Some(message) = self.ready.pop_front() {
                match sort(&message) {
                    For::Sdk => return Some(message),
                    // Waits while there are too many: the stream is not read on, and the server is held back.
                    For::Ear(note) => self.ear.notes.send(note).await.ok()?,
                    For::Nobody => {}
                    For::Answering if self.may_ask() => return Some(message),
                    For::Answering => return None,
                }
            }
            let lost = match self.body.frame().await {
                Some(Ok(frame)) => {
                    let piece = frame.into_data().unwrap_or_default();
                    self.decoder.feed(&piece, &mut self.ready);
                    continue;
                }
                Some(Err(error)) => chain(&error),
                None => "the stream ended".to_owned(),
            };
            if self.standalone {
                let failure = Failure::network(format!("{}: {lost}", self.url));
                self.ear.stream.send_replace(Stream::Lost(failure));
            }
            return None;
        }
    }

    /// Whether the server may still ask us something; if not, the whole connection is lost.
    fn may_ask(&self) -> bool {
        let mut within = true;
        self.ear.requests.send_modify(|it| within = it.count(Instant::now()));
        if !within {
            let error = format!("{}: more than {MAX_REQUESTS} requests within {WINDOW:?}", self.url);
            self.ear.stream.send_replace(Stream::Lost(Failure::protocol(error)));
        }
        within
    }
}

impl StreamableHttpClient for Wire {
    type Error = WireError;

    async fn post_message(
        &self,
        _uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        _auth: Option<String>,
        custom: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, Refused> {
        self.post(message, session, custom).await
    }

    async fn delete_session(
        &self,
        _uri: Arc<str>,
        session: Arc<str>,
        _auth: Option<String>,
        custom: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), Refused> {
        let headers = self.headers("application/json", Some(&session), custom)?;
        // It is over for us either way: a server that can't end sessions, or has forgotten it, is no fault.
        match self.endpoint.send(Method::DELETE, headers, Bytes::new()).await {
            Ok(_) => Ok(()),
            Err(failure) => {
                tracing::debug!(error = failure.error, "the session could not be ended at the server");
                Ok(())
            }
        }
    }

    async fn get_stream(
        &self,
        _uri: Arc<str>,
        session: Option<Arc<str>>,
        last_id: Option<String>,
        _auth: Option<String>,
        custom: HashMap<HeaderName, HeaderValue>,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, Refused> {
        let opened = self.open_stream(session, last_id, custom).await;
        let state = match &opened {
            Ok(_) => Stream::Open,
            Err(StreamableHttpError::Client(WireError(failure))) => Stream::Lost(failure.clone()),
            Err(error) => Stream::Lost(Failure::protocol(error.to_string())),
        };
        self.ear.stream.send_replace(state);
        opened
    }
}
