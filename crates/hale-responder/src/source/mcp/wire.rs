//! How the SDK's messages go over HTTP: its `StreamableHttpClient`, over hyper.
//!
//! Notifications are taken out of the streams here, before the SDK: it would start a task for each, so that their order
//! and any bound on their number were lost. Taken out here they come one by one, and a stream is not read on while
//! the driver is busy. What the connection failed of is kept, with its class: the SDK makes sentences of it.

use std::{collections::HashMap, collections::VecDeque, sync::Arc, time::Duration};

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
use serde_json::Value;
use sse_stream::{Error as SseError, Sse};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use super::super::{
    ErrorClass,
    connect::Failure,
    decode::{Decoder, Message},
    http::{Endpoint, chain, is_media_type},
};

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");

/// The largest answer that is no stream.
const MAX_ANSWER: usize = 8 << 20;

/// How long such an answer may take to come.
const ANSWER: Duration = Duration::from_secs(30);

/// What a server says unasked.
#[derive(Debug)]
pub(super) enum Note {
    /// `notifications/message`.
    Log {
        /// The word of syslog.
        level: String,
        /// Who says it.
        logger: Option<String>,
        /// What.
        data: Value,
    },
    /// Something too large to be read.
    TooLarge,
}

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
                match note(&message) {
                    None => return Some(message),
                    // Waits while there are too many: the stream is not read on, and the server is held back.
                    Some(note) => self.ear.notes.send(note).await.ok()?,
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
}

/// What a message is if it is for the ear.
fn note(message: &Message) -> Option<Note> {
    if message.too_large {
        return Some(Note::TooLarge);
    }
    // Spares reading every answer twice.
    if !message.data.contains("notifications/message") {
        return None;
    }
    let mut value: Value = serde_json::from_str(&message.data).ok()?;
    if value.get("method")?.as_str()? != "notifications/message" || value.get("id").is_some() {
        return None;
    }
    let params = value.get_mut("params")?;
    let text = |name: &str| params.get(name).and_then(Value::as_str).map(str::to_owned);
    let (level, logger) = (text("level").unwrap_or_default(), text("logger"));
    Some(Note::Log { level, logger, data: params.get_mut("data").map(Value::take).unwrap_or_default() })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn of(data: &str) -> Option<Note> {
        note(&Message { data: data.to_owned(), ..Message::default() })
    }

    #[test]
    fn notifications_are_taken_out_and_nothing_else_is() {
        let told = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"warning","logger":"kubernetes/faults","data":{"a":1}}}"#;
        let Some(Note::Log { level, logger, data }) = of(told) else { panic!("no note") };
        assert_eq!((level.as_str(), logger.as_deref()), ("warning", Some("kubernetes/faults")));
        assert_eq!(data, serde_json::json!({"a": 1}));
        for other in [
            r#"{"jsonrpc":"2.0","id":1,"result":{"text":"notifications/message"}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"message":"notifications/message"}}"#,
            r#"{"jsonrpc":"2.0","id":3,"method":"ping"}"#,
            "notifications/message",
        ] {
            assert!(of(other).is_none(), "{other}");
        }
    }
}
