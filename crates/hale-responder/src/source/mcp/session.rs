//! One session with a server: the handshake, requests, and what is heard meanwhile.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, TryFutureExt};
use hale_model::spec::Remote;
use http::{HeaderName, HeaderValue};
use rmcp::{
    ClientHandler, ServiceError,
    model::{
        CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, Implementation,
        ProtocolVersion,
    },
    service::{
        ClientInitializeError, ClientLifecycleMode, ClientServiceExt, Peer, RoleClient, RunningService,
    },
    transport::{
        StreamableHttpClientTransport,
        common::client_side_sse::NeverRetry,
        streamable_http_client::{StreamableHttpClient, StreamableHttpClientTransportConfig},
    },
};
use serde_json::{Map, Value};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    super::{connect::Failure, decode::MAX_MESSAGE, http::Endpoint, plain},
    unasked::Note,
    wire::{Ear, Stream, Wire},
};

/// How long any one step may take.
const STEP: Duration = Duration::from_secs(30);

/// Notifications that wait for the driver; then the stream is not read on.
const WAITING: usize = 64;

/// Who we say we are.
#[derive(Debug)]
struct Hale;

impl ClientHandler for Hale {
    fn get_info(&self) -> ClientConfig {
        // Servers of before 2026 know this one; a newer version has no stream of its own to listen on.
        ClientConfig::new(
            ClientCapabilities::default(),
            Implementation::new("hale", env!("CARGO_PKG_VERSION")),
        )
        .with_protocol_version(ProtocolVersion::V_2025_06_18)
    }
}

/// A session. Dropped, it is ended at the server too, as well as that can be done.
pub(super) struct Session {
    service: RunningService<RoleClient, Hale>,
    url: String,
    notes: mpsc::Receiver<Note>,
    stream: watch::Receiver<Stream>,
    failure: watch::Receiver<Option<Failure>>,
    /// Reads the stream where the SDK does not.
    listening: Option<AbortOnDropHandle<()>>,
}

impl Session {
    /// `initialize`, `notifications/initialized`, and then the stream, which must be open before anything is asked for:
    /// what a server tells while there is none is lost (R2).
    pub(super) async fn open(remote: &Remote) -> Result<Self, Failure> {
        let endpoint = Arc::new(Endpoint::open(remote).await?);
        let url = endpoint.url().to_owned();
        let (notes, heard) = mpsc::channel(WAITING);
        let (stream, failure) = (watch::Sender::new(Stream::Asked), watch::Sender::new(None));
        let (stream_now, failure_now) = (stream.subscribe(), failure.subscribe());
        let (session, requests) = (watch::Sender::new(false), watch::Sender::default());
        let ear = Arc::new(Ear { notes, stream, failure, session, requests });
        let wire = Wire { endpoint, ear: Arc::clone(&ear) };
        let mut config = StreamableHttpClientTransportConfig::with_uri(url.as_str())
            .reinit_on_expired_session(false)
            .max_sse_event_size(MAX_MESSAGE);
        // Each attempt is a fresh client, and its waits are ours (R3).
        config.retry_config = Arc::new(NeverRetry::default());
        let transport = StreamableHttpClientTransport::with_client(wire.clone(), config);
        let started = Hale.serve_with_lifecycle(transport, ClientLifecycleMode::Initialize);
        let service = match timeout(STEP, started).await {
            Ok(Ok(service)) => service,
            Ok(Err(error)) => return Err(refused(&url, &error, &failure_now)),
            Err(_) => return Err(Failure::timeout(format!("{url}: no handshake within {STEP:?}"))),
        };
        let mut session =
            Self { service, url, notes: heard, stream: stream_now, failure: failure_now, listening: None };
        if !*ear.session.borrow() {
            session.listen_without_session(wire);
        }
        session.wait_for_stream().await?;
        Ok(session)
    }

    /// Opens the stream for a server that gives no session: the SDK does so only within one.
    fn listen_without_session(&mut self, wire: Wire) {
        let version = self.service.peer_info().map(|it| it.protocol_version.to_string());
        let version = version.and_then(|it| HeaderValue::from_str(&it).ok());
        let headers =
            version.map(|it| (HeaderName::from_static("mcp-protocol-version"), it)).into_iter().collect();
        let url = Arc::from(self.url.as_str());
        let listening = async move {
            if let Ok(mut stream) = wire.get_stream(url, None, None, None, headers).await {
                // Notifications are taken out of it on the way; nothing else is for us without a session.
                while stream.next().await.is_some() {}
            }
        };
        self.listening = Some(AbortOnDropHandle::new(tokio::spawn(listening)));
    }

    async fn wait_for_stream(&mut self) -> Result<(), Failure> {
        let answered = timeout(STEP, self.stream.wait_for(|it| *it != Stream::Asked)).await;
        match answered.map(|it| it.map(|it| it.clone())) {
            Ok(Ok(Stream::Open)) => Ok(()),
            Ok(Ok(Stream::Lost(failure))) => Err(failure),
            Ok(Ok(Stream::Asked) | Err(_)) => {
                Err(Failure::network(format!("{}: the session ended", self.url)))
            }
            Err(_) => Err(Failure::timeout(format!("{}: no stream within {STEP:?}", self.url))),
        }
    }

    /// The server's name and version.
    pub(super) fn server(&self) -> (String, String) {
        let info = self.service.peer_info().and_then(|it| it.server_info.clone());
        info.map(|it| (it.name, it.version)).unwrap_or_default()
    }

    /// Whether the server says that it logs.
    pub(super) fn logs(&self) -> bool {
        self.service.peer_info().is_some_and(|it| it.capabilities.logging.is_some())
    }

    /// Whether the server says that it has tools.
    pub(super) fn has_tools(&self) -> bool {
        self.service.peer_info().is_some_and(|it| it.capabilities.tools.is_some())
    }

    /// What is asked through, while [`Self::during`] listens.
    pub(super) fn peer(&self) -> Peer<RoleClient> {
        self.service.peer().clone()
    }

    /// The next thing that is heard.
    pub(super) async fn next(&mut self) -> Result<Note, Failure> {
        let lost = self.stream.wait_for(|it| matches!(it, Stream::Lost(_)));
        tokio::select! {
            biased;
            // What came before the loss first.
            Some(note) = self.notes.recv() => Ok(note),
            lost = lost => Err(match lost.map(|it| it.clone()) {
                Ok(Stream::Lost(failure)) => failure,
                _ => Failure::network(format!("{}: the session ended", self.url)),
            }),
        }
    }

    /// Makes a sentence of what an error means to this connection.
    pub(super) fn failed(&self, what: &str, error: &ServiceError) -> Failure {
        match (self.failure.borrow().clone(), error) {
            (Some(failure), error) if !matches!(error, ServiceError::McpError(_)) => failure,
            (_, ServiceError::McpError(error)) => {
                self.protocol(&format!("{what}: {}", plain::quote(&error.message)))
            }
            (_, ServiceError::Timeout { .. }) => Failure::timeout(format!("{}: {what}: {error}", self.url)),
            (_, error) => Failure::network(format!("{}: {what}: {error}", self.url)),
        }
    }

    pub(super) fn protocol(&self, error: &str) -> Failure {
        Failure::protocol(format!("{}: {error}", self.url))
    }

    pub(super) fn late(&self, what: &str) -> Failure {
        Failure::timeout(format!("{}: {what}: no answer within {STEP:?}", self.url))
    }
}

/// How long a request may take.
pub(super) const fn step() -> Duration {
    STEP
}

fn refused(url: &str, error: &ClientInitializeError, failure: &watch::Receiver<Option<Failure>>) -> Failure {
    let kept = failure.borrow().clone();
    kept.unwrap_or_else(|| {
        Failure::protocol(format!("{url}: the handshake failed: {}", plain::quote(&error.to_string())))
    })
}

/// Calls a tool. An answer that says it failed is told in words.
pub(super) async fn call(
    peer: Peer<RoleClient>,
    tool: &'static str,
    arguments: Map<String, Value>,
) -> Result<Result<Value, String>, ServiceError> {
    let mut params = CallToolRequestParams::new(tool);
    params.arguments = Some(arguments);
    peer.call_tool(params).map_ok(answer).await
}

/// What a tool answered: its structured content, or the JSON that its text is, or its text.
fn answer(result: CallToolResult) -> Result<Value, String> {
    let texts: Vec<&str> = result.content.iter().filter_map(|it| Some(it.as_text()?.text.as_str())).collect();
    let text = texts.join("\n");
    if result.is_error == Some(true) {
        return Err(plain::quote(&text));
    }
    let structured = result.structured_content.filter(|it| it.is_object() || it.is_array());
    Ok(structured.unwrap_or_else(|| serde_json::from_str(&text).unwrap_or(Value::String(text))))
}
