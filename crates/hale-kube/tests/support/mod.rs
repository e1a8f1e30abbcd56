//! A cluster, a server and an agent between them, all of the test's own.

#![expect(dead_code, reason = "each test uses a part of it")]

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, patch, post},
};
use hale_kube::{
    agent::{Agent, Metrics, Mode, Options, ServerOptions},
    cluster::Cluster,
    diagnose,
};
use hale_testkit::kubernetes::FakeCluster;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

/// How long anything may take on a machine that has much else to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// Waits until something is there.
pub(crate) async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[derive(Default)]
pub(crate) struct Told {
    pub(crate) registrations: Vec<Value>,
    pub(crate) stacks: Vec<Value>,
    pub(crate) mode: String,
    pub(crate) revision: u64,
    /// Of each object the entries that were told, oldest first.
    pub(crate) entries: BTreeMap<String, Vec<Value>>,
    pub(crate) reports: usize,
    pub(crate) pending: BTreeMap<String, String>,
    pub(crate) claimed: BTreeSet<String>,
    pub(crate) results: BTreeMap<String, Value>,
    pub(crate) no_stream: bool,
    pub(crate) down: bool,
}

/// A server of hale, as far as an agent sees it.
pub(crate) struct Server {
    told: Arc<Mutex<Told>>,
    pushed: watch::Sender<u64>,
    url: String,
    serving: JoinHandle<()>,
    dir: tempfile::TempDir,
}

#[derive(Clone)]
struct Shared {
    told: Arc<Mutex<Told>>,
    pushed: watch::Sender<u64>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let told = Arc::new(Mutex::new(Told { mode: "apply".to_owned(), ..Told::default() }));
        let pushed = watch::Sender::new(0);
        let shared = Shared { told: Arc::clone(&told), pushed: pushed.clone() };
        let router = Router::new()
            .route("/api/v1/agents/register", post(register))
            .route("/api/v1/agents/{agent}/desired", get(desired))
            .route("/api/v1/agents/{agent}/stream", get(stream))
            .route("/api/v1/agents/{agent}/health-status", patch(report))
            .route("/api/v1/agents/{agent}/diagnostics/pending", get(pending))
            .route("/api/v1/diagnostics/{id}/claim", post(claim))
            .route("/api/v1/diagnostics/{id}/result", post(result))
            .with_state(shared);
        let serving = tokio::spawn(async move { drop(axum::serve(listener, router).await) });
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), "hale_test\n").unwrap();
        Self { told, pushed, url, serving, dir }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self) {
        self.pushed.send_modify(|it| *it += 1);
    }

    /// Has a stack hold one deployment object.
    pub(crate) fn give(&self, stack: &str, object: &str, yaml: &str) {
        self.set(stack, object, yaml, false);
    }

    pub(crate) fn set(&self, stack: &str, object: &str, yaml: &str, deleting: bool) {
        let mut told = self.lock();
        told.stacks.retain(|it| it["id"] != stack);
        told.stacks.push(json!({"id": stack, "name": stack, "labels": {}, "objects": [
            {"id": object, "sequence": 1, "checksum": "", "yaml": yaml, "deletion_marker": deleting}]}));
        told.revision += 1;
        drop(told);
        self.push();
    }

    pub(crate) fn mode(&self, mode: &str) {
        self.lock().mode = mode.to_owned();
    }

    /// Asks for diagnostics.
    pub(crate) fn ask(&self, id: &str, object: &str) {
        self.lock().pending.insert(id.to_owned(), object.to_owned());
        self.push();
    }

    /// Ends the stream there is, and gives none any more.
    pub(crate) async fn end_streams(&self) {
        {
            let mut told = self.lock();
            (told.no_stream, told.down) = (true, true);
        }
        self.push();
        until("the streams have ended", || (self.pushed.receiver_count() == 0).then_some(())).await;
        self.lock().down = false;
    }

    /// The newest that was told of an object.
    pub(crate) fn entry(&self, object: &str) -> Option<Value> {
        self.lock().entries.get(object)?.last().cloned()
    }

    pub(crate) async fn status(&self, object: &str, status: &str) -> Value {
        let seen = || self.entry(object).filter(|it| it["status"] == status);
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(entry) = seen() {
                return entry;
            }
            assert!(Instant::now() < end, "{object} never {status}: {:?}", self.entry(object));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn result(&self, id: &str) -> Value {
        until(&format!("result of {id}"), || self.lock().results.get(id).cloned()).await
    }

    pub(crate) fn options(&self) -> ServerOptions {
        ServerOptions {
            urls: vec![self.url.clone()],
            token_file: self.token_file(),
            tls: hale_api::ClientTls::default(),
        }
    }

    pub(crate) fn token_file(&self) -> PathBuf {
        self.dir.path().join("token")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[expect(clippy::result_large_err, reason = "a response is what a handler ends with")]
fn down(shared: &Shared) -> Result<(), Response> {
    if shared.lock().down { Err(StatusCode::SERVICE_UNAVAILABLE.into_response()) } else { Ok(()) }
}

async fn register(State(shared): State<Shared>, Json(body): Json<Value>) -> Result<Json<Value>, Response> {
    down(&shared)?;
    let mut told = shared.lock();
    told.registrations.push(body);
    Ok(Json(json!({"agent_id": "a1", "name": "c1", "mode": told.mode, "stale_after_seconds": 180})))
}

async fn desired(State(shared): State<Shared>) -> Result<Json<Value>, Response> {
    down(&shared)?;
    let told = shared.lock();
    Ok(Json(json!({"revision": told.revision.to_string(), "mode": told.mode, "stacks": told.stacks})))
}

async fn stream(State(shared): State<Shared>) -> Result<Response, Response> {
    down(&shared)?;
    if shared.lock().no_stream {
        return Err(StatusCode::SERVICE_UNAVAILABLE.into_response());
    }
    let (tell, told) = tokio::sync::mpsc::channel::<Result<Bytes, Infallible>>(16);
    tokio::spawn(async move {
        let mut pushed = shared.pushed.subscribe();
        let mut asked = BTreeSet::new();
        loop {
            let lines: Vec<String> = {
                let told = shared.lock();
                let mut lines =
                    vec![format!("event: desired\ndata: {{\"revision\":\"{}\"}}\n\n", told.revision)];
                for (id, object) in &told.pending {
                    if asked.insert(id.clone()) {
                        let data = json!({"id": id, "deployment_object_id": object});
                        lines.push(format!("event: diagnostics\ndata: {data}\n\n"));
                    }
                }
                lines
            };
            for line in lines {
                if tell.send(Ok(Bytes::from(line))).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                _ = pushed.changed() => {}
                () = tell.closed() => return,
                () = tokio::time::sleep(Duration::from_secs(5)) => {}
            }
            if shared.lock().down {
                return;
            }
        }
    });
    let body = Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(told));
    Ok(([("content-type", "text/event-stream")], body).into_response())
}

async fn report(State(shared): State<Shared>, Json(body): Json<Value>) -> Result<Json<Value>, Response> {
    down(&shared)?;
    let mut told = shared.lock();
    told.reports += 1;
    let entries = body["deployment_objects"].as_array().cloned().unwrap_or_default();
    let accepted = entries.len();
    for entry in entries {
        let id = entry["id"].as_str().unwrap_or_default().to_owned();
        told.entries.entry(id).or_default().push(entry);
    }
    Ok(Json(json!({"accepted": accepted, "errors": [], "clock_skew": false})))
}

async fn pending(State(shared): State<Shared>) -> Result<Json<Value>, Response> {
    down(&shared)?;
    let told = shared.lock();
    let all: Vec<Value> =
        told.pending.iter().map(|(id, it)| json!({"id": id, "deployment_object_id": it})).collect();
    Ok(Json(json!({"requests": all})))
}

fn request(id: &str, object: &str, status: &str) -> Value {
    let now = "2026-01-01T00:00:00Z";
    json!({"request_id": id, "deployment_object_id": object, "agent_id": "a1", "status": status,
        "requested_by": "t", "created_at": now, "claimed_at": now, "completed_at": null, "expires_at": now,
        "error": null, "claims": 1})
}

async fn claim(State(shared): State<Shared>, Path(id): Path<String>) -> Result<Json<Value>, Response> {
    down(&shared)?;
    let mut told = shared.lock();
    let object = told.pending.get(&id).cloned();
    match object {
        Some(object) if told.claimed.insert(id.clone()) => Ok(Json(request(&id, &object, "claimed"))),
        _ => {
            let problem = json!({"type": "about:blank", "title": "Conflict", "status": 409, "code": "conflict",
                "detail": "it is taken"});
            Err((StatusCode::CONFLICT, Json(problem)).into_response())
        }
    }
}

async fn result(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Response> {
    down(&shared)?;
    let mut told = shared.lock();
    let object = told.pending.remove(&id).unwrap_or_default();
    told.results.insert(id.clone(), body);
    Ok(Json(request(&id, &object, "completed")))
}

/// An agent that runs until it is dropped.
pub(crate) struct Running {
    pub(crate) state: watch::Receiver<hale_kube::agent::State>,
    end: CancellationToken,
    task: Option<JoinHandle<Result<(), String>>>,
}

impl Running {
    pub(crate) async fn stop(mut self) {
        self.end.cancel();
        if let Some(task) = self.task.take() {
            tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap().unwrap();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

pub(crate) fn options() -> Options {
    Options {
        name: None,
        version: "test".to_owned(),
        labels: Vec::new(),
        mode: Mode::Apply,
        stacks: Vec::new(),
        match_labels: Vec::new(),
        health: true,
        diagnostics: true,
        interval: Duration::from_secs(60),
        collect: diagnose::Options::default(),
        namespaces: Vec::new(),
        default_namespace: None,
    }
}

/// Starts an agent between the two.
pub(crate) async fn agent(cluster: &FakeCluster, server: &Server, options: Options) -> Running {
    let found = Cluster::at(&format!("http://{}", cluster.address())).unwrap();
    let metrics = Metrics::register(&mut Registry::default());
    let agent = Agent::new(found, server.options(), options, metrics);
    let (state, end) = (agent.state(), CancellationToken::new());
    let task = tokio::spawn(agent.run(end.clone()));
    Running { state, end, task: Some(task) }
}

/// Where the recorded objects of a situation are.
pub(crate) fn situation(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/objects/{name}.json"))
}
