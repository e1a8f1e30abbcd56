//! A server that behaves as the Kubernetes MCP server with events does, to the letter of R2 and no kinder: nothing is
//! told that is not subscribed to, a subscription needs the stream and the level first, there are no keep-alives, no
//! event ids and no word when a subscription is dropped.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc, watch};

use crate::{server::Server, support::LONG};

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");

/// What it has, and what it refuses.
#[derive(Debug, Clone)]
pub(crate) struct Manners {
    pub(crate) tools: Vec<&'static str>,
    pub(crate) logging: bool,
    /// Whether it says that it has tools, and which.
    pub(crate) tells_tools: bool,
    /// Whether it gives sessions; if not, there is one for all.
    pub(crate) sessions: bool,
    /// The stream ends as soon as it is subscribed to.
    pub(crate) closes: bool,
    /// So many streams are refused with 409 first: as while an old one is open still.
    pub(crate) conflicts: u32,
    /// Every request is answered so: status and `Retry-After`.
    pub(crate) refusal: Option<(u16, Option<&'static str>)>,
}

impl Default for Manners {
    fn default() -> Self {
        let tools = vec!["pods_list", "events_subscribe", "events_list_subscriptions", "events_unsubscribe"];
        Self {
            tools,
            logging: true,
            tells_tools: true,
            sessions: true,
            closes: false,
            conflicts: 0,
            refusal: None,
        }
    }
}

#[derive(Debug, Default)]
struct Session {
    initialized: bool,
    level: bool,
    stream: Option<mpsc::Sender<Result<Bytes, std::io::Error>>>,
    subscriptions: Vec<String>,
}

struct Inner {
    manners: Manners,
    sessions: BTreeMap<String, Session>,
    made: u32,
}

struct Shared {
    inner: Mutex<Inner>,
    /// All that was asked for, in order.
    log: watch::Sender<Vec<String>>,
    /// The arguments of the last subscription.
    arguments: watch::Sender<Value>,
}

pub(crate) struct McpServer {
    server: Option<Server>,
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl McpServer {
    pub(crate) async fn start(manners: Manners) -> Self {
        let inner = Inner { manners, sessions: BTreeMap::new(), made: 0 };
        let shared = Arc::new(Shared {
            inner: Mutex::new(inner),
            log: watch::Sender::new(Vec::new()),
            arguments: watch::Sender::new(Value::Null),
        });
        let server = Server::start(router(&shared)).await;
        Self { address: server.address, server: Some(server), shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// As `kill -9` does; the sessions are gone with it.
    pub(crate) async fn kill(&mut self) {
        self.server.take().unwrap().kill().await;
        self.forget_sessions().await;
    }

    pub(crate) async fn start_again(&mut self) {
        self.server = Some(Server::start_on(self.address, router(&self.shared)).await);
    }

    /// Sessions end, and the connections of their streams stay.
    pub(crate) async fn forget_sessions(&self) {
        let mut inner = self.shared.inner.lock().await;
        let gone = std::mem::take(&mut inner.sessions);
        if self.server.is_some() {
            // Whoever holds the other end of a stream that is never written to again.
            Box::leak(Box::new(gone));
        }
    }

    /// Subscriptions end without a word.
    pub(crate) async fn drop_subscriptions(&self) {
        let mut inner = self.shared.inner.lock().await;
        inner.sessions.values_mut().for_each(|it| it.subscriptions.clear());
    }

    pub(crate) async fn change(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.shared.inner.lock().await.manners);
    }

    /// Tells a fault to those who subscribed; tells to how many.
    pub(crate) async fn fault(&self, name: &str) -> usize {
        let data = json!({
            "cluster": "kind", "faultId": format!("fault-{name}"), "faultType": "CrashLoop", "severity": "warning",
            "resource": {"apiVersion": "v1", "kind": "Pod", "name": name, "namespace": "shop", "uid": "u"},
            "context": {"restarts": 5}, "timestamp": "2026-01-01T00:00:00Z",
        });
        self.tell("warning", "kubernetes/faults", &data).await
    }

    pub(crate) async fn tell(&self, level: &str, logger: &str, data: &Value) -> usize {
        let inner = self.shared.inner.lock().await;
        let mut count = 0;
        for session in inner.sessions.values() {
            let any = !inner.manners.tools.contains(&"events_subscribe");
            let subscription = session.subscriptions.first().cloned().or_else(|| any.then(String::new));
            let (Some(id), Some(stream)) = (subscription, &session.stream) else { continue };
            let mut data = data.clone();
            if !id.is_empty() {
                data["subscriptionId"] = json!(id);
            }
            let message = json!({
                "jsonrpc": "2.0", "method": "notifications/message",
                "params": {"level": level, "logger": logger, "data": data},
            });
            let sent = stream.send(Ok(Bytes::from(format!("event: message\ndata: {message}\n\n")))).await;
            count += usize::from(sent.is_ok());
        }
        count
    }

    /// Says something on every stream, whatever it is, until nobody listens any more.
    pub(crate) async fn say(&self, message: &Value) {
        let inner = self.shared.inner.lock().await;
        let streams: Vec<_> = inner.sessions.values().filter_map(|it| it.stream.clone()).collect();
        drop(inner);
        for stream in streams {
            let _gone = stream.send(Ok(Bytes::from(format!("data: {message}\n\n")))).await;
        }
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.shared.log.borrow().clone()
    }

    pub(crate) fn arguments(&self) -> Value {
        self.shared.arguments.borrow().clone()
    }

    /// Waits until something was asked for so often.
    pub(crate) async fn asked(&self, what: &str, times: usize) {
        let mut log = self.shared.log.subscribe();
        let enough = log.wait_for(|it| it.iter().filter(|it| *it == what).count() >= times);
        tokio::time::timeout(LONG, enough).await.expect(what).unwrap();
    }
}

fn router(shared: &Arc<Shared>) -> Router {
    Router::new().route("/mcp", post(message).get(stream).delete(end)).with_state(Arc::clone(shared))
}

fn refusal(inner: &Inner) -> Option<Response> {
    let (status, after) = inner.manners.refusal?;
    let status = StatusCode::from_u16(status).unwrap();
    Some(match after {
        Some(after) => (status, [(header::RETRY_AFTER, after)], "go away").into_response(),
        None => (status, "go away").into_response(),
    })
}

fn session_of(headers: &HeaderMap, manners: &Manners) -> Option<String> {
    if !manners.sessions {
        assert!(!headers.contains_key(SESSION));
        return Some("session-1".to_owned());
    }
    Some(headers.get(SESSION)?.to_str().ok()?.to_owned())
}

async fn message(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Json(value): Json<Value>,
) -> Response {
    let mut inner = shared.inner.lock().await;
    if let Some(refusal) = refusal(&inner) {
        shared.log.send_modify(|it| it.push("refused".to_owned()));
        return refusal;
    }
    let method = value["method"].as_str().unwrap_or_default().to_owned();
    let tool = value["params"]["name"].as_str().unwrap_or_default().to_owned();
    let asked = if method == "tools/call" { tool.clone() } else { method.clone() };
    shared.log.send_modify(|it| it.push(asked));
    let accept = headers.get(header::ACCEPT).unwrap().to_str().unwrap();
    assert!(accept.contains("application/json") && accept.contains("text/event-stream"), "{accept}");
    if method == "initialize" {
        return initialize(&mut inner, &value);
    }
    let manners = inner.manners.clone();
    let Some(id) = session_of(&headers, &manners) else { return StatusCode::BAD_REQUEST.into_response() };
    let Some(session) = inner.sessions.get_mut(&id) else { return StatusCode::NOT_FOUND.into_response() };
    assert_eq!(headers.get("mcp-protocol-version").unwrap(), "2025-06-18");
    let open = session.stream.as_ref().is_some_and(|it| !it.is_closed());
    let result = match method.as_str() {
        "notifications/initialized" => {
            session.initialized = true;
            return StatusCode::ACCEPTED.into_response();
        }
        "logging/setLevel" if manners.logging => {
            session.level = value["params"]["level"] == "info" && open;
            json!({})
        }
        "tools/list" if manners.tells_tools => {
            let tool = |name: &&str| json!({"name": name, "inputSchema": {"type": "object"}});
            json!({"tools": manners.tools.iter().map(tool).collect::<Vec<_>>()})
        }
        "tools/call" if tool == "events_subscribe" => {
            shared.arguments.send_replace(value["params"]["arguments"].clone());
            if !open || !session.level || !session.initialized {
                text("no stream is open, or the level is not set", true)
            } else {
                let subscription = format!("sub-{}", id);
                session.subscriptions = vec![subscription.clone()];
                if manners.closes {
                    session.stream = None;
                }
                text(&json!({"subscriptionId": subscription, "mode": "faults"}).to_string(), false)
            }
        }
        "tools/call" if tool == "events_list_subscriptions" => {
            let listed: Vec<_> = session.subscriptions.iter().map(|it| json!({"id": it})).collect();
            text(&json!({"subscriptions": listed}).to_string(), false)
        }
        _ => {
            let error = json!({"code": -32601, "message": "method not found"});
            return Json(json!({"jsonrpc": "2.0", "id": value["id"], "error": error})).into_response();
        }
    };
    Json(json!({"jsonrpc": "2.0", "id": value["id"], "result": result})).into_response()
}

fn initialize(inner: &mut Inner, value: &Value) -> Response {
    inner.made += 1;
    let id = format!("session-{}", inner.made);
    inner.sessions.insert(id.clone(), Session::default());
    let mut capabilities = if inner.manners.tells_tools { json!({"tools": {}}) } else { json!({}) };
    if inner.manners.logging {
        capabilities["logging"] = json!({});
    }
    let result = json!({
        "protocolVersion": value["params"]["protocolVersion"], "capabilities": capabilities,
        "serverInfo": {"name": "kubernetes-mcp-server", "version": "test"},
    });
    let answer = Json(json!({"jsonrpc": "2.0", "id": value["id"], "result": result}));
    if inner.manners.sessions { ([(SESSION, id)], answer).into_response() } else { answer.into_response() }
}

fn text(text: &str, is_error: bool) -> Value {
    json!({"content": [{"type": "text", "text": text}], "isError": is_error})
}

async fn stream(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let mut inner = shared.inner.lock().await;
    if let Some(refusal) = refusal(&inner) {
        return refusal;
    }
    shared.log.send_modify(|it| it.push("GET".to_owned()));
    if inner.manners.conflicts > 0 {
        inner.manners.conflicts -= 1;
        return (StatusCode::CONFLICT, "Conflict: Only one SSE stream is allowed per session")
            .into_response();
    }
    let session = session_of(&headers, &inner.manners).and_then(|it| inner.sessions.get_mut(&it));
    let Some(session) = session else { return StatusCode::NOT_FOUND.into_response() };
    if !session.initialized {
        return StatusCode::BAD_REQUEST.into_response();
    }
    if session.stream.as_ref().is_some_and(|it| !it.is_closed()) {
        return StatusCode::CONFLICT.into_response();
    }
    let (sender, receiver) = mpsc::channel(16);
    session.stream = Some(sender);
    let body = futures_util::stream::unfold(receiver, |mut it| async move { Some((it.recv().await?, it)) });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(body)).into_response()
}

async fn end(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let mut inner = shared.inner.lock().await;
    shared.log.send_modify(|it| it.push("DELETE".to_owned()));
    let ended = session_of(&headers, &inner.manners).and_then(|it| inner.sessions.remove(&it));
    if ended.is_some() {
        StatusCode::NO_CONTENT.into_response()
    } else {
        StatusCode::NOT_FOUND.into_response()
    }
}
