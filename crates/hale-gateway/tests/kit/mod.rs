//! Endpoints of plain TCP that do as they are told, clients that count, and a gateway in front.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::allow_attributes,
    reason = "each test file uses a part of it, and what can't be set up ends the test"
)]

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use hale_api::{
    endpoints::{Endpoint, EndpointSet},
    model::spec::Balance,
};
use hale_gateway::{Gateway, GatewayHandle, Metrics, Options, Run};
use prometheus_client::registry::Registry;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// The longest that anything here may take.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// What an endpoint does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Does {
    /// Sends these bytes and goes on with the connection.
    Answers(String),
    /// Sends these bytes and closes the connection.
    AnswersAndCloses(String),
    /// Closes the connection.
    Breaks,
    /// Waits until [`Backend::release`], then answers 200.
    Waits,
    /// Never answers.
    Hangs,
}

/// An answer of 200 with a body.
pub(crate) fn ok(body: &str) -> Does {
    Does::Answers(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
}

/// One endpoint.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    closed: Arc<Mutex<usize>>,
    changed: Arc<Notify>,
    released: Arc<Notify>,
    dead: CancellationToken,
}

impl Backend {
    /// Listens, and does with each request what `script` says.
    pub(crate) async fn start(script: impl Fn(&str) -> Does + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let backend = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            closed: Arc::default(),
            changed: Arc::default(),
            released: Arc::default(),
            dead: CancellationToken::new(),
        };
        let (dead, script) = (backend.dead.clone(), Arc::new(script));
        let (seen, changed) = (Arc::clone(&backend.seen), Arc::clone(&backend.changed));
        let (released, closed) = (Arc::clone(&backend.released), Arc::clone(&backend.closed));
        tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    () = dead.cancelled() => return,
                    accepted = listener.accept() => {
                        let Ok((stream, _)) = accepted else { return };
                        let (script, seen, changed) = (Arc::clone(&script), Arc::clone(&seen), Arc::clone(&changed));
                        let (released, closed) = (Arc::clone(&released), Arc::clone(&closed));
                        connections.spawn(async move {
                            serve(stream, &*script, &seen, &changed, &released).await;
                            *closed.lock().unwrap() += 1;
                            changed.notify_waiters();
                        });
                    }
                }
            }
        });
        backend
    }

    /// Always answers with its name.
    pub(crate) async fn named(name: &'static str) -> Self {
        Self::start(move |_| ok(name)).await
    }

    /// The requests it has seen, each with its body.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// Connections that have ended.
    pub(crate) fn closed(&self) -> usize {
        *self.closed.lock().unwrap()
    }

    /// Waits until something is so.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if is_so(self) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(SOON, wait)
            .await
            .unwrap_or_else(|_| panic!("not so in time: {what}; saw {:?}", self.seen()));
    }

    /// Lets all that wait answer.
    pub(crate) fn release(&self) {
        self.released.notify_waiters();
    }

    /// Ends listener and connections at once, as a kill does.
    pub(crate) fn kill(&self) {
        self.dead.cancel();
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.dead.cancel();
    }
}

async fn serve(
    mut stream: TcpStream,
    script: &(dyn Fn(&str) -> Does + Send + Sync),
    seen: &Mutex<Vec<String>>,
    changed: &Notify,
    released: &Notify,
) {
    stream.set_nodelay(true).unwrap();
    let mut buffer = Vec::new();
    while let Some(request) = read_message(&mut stream, &mut buffer).await {
        let release = released.notified();
        tokio::pin!(release);
        release.as_mut().enable();
        seen.lock().unwrap().push(request.clone());
        changed.notify_waiters();
        match script(&request) {
            Does::Answers(answer) => {
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
            Does::AnswersAndCloses(answer) => {
                let _ = stream.write_all(answer.as_bytes()).await;
                return;
            }
            Does::Breaks => return,
            Does::Waits => {
                // Or the other side goes away.
                let mut byte = [0];
                tokio::select! {
                    () = release => {}
                    _ = stream.read(&mut byte) => return,
                }
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate").await;
            }
            Does::Hangs => {
                let mut byte = [0];
                let _ = stream.read(&mut byte).await;
                return;
            }
        }
    }
}

/// Reads one message, head and body, by `Content-Length` or chunks. `None` at the end of the stream.
pub(crate) async fn read_message(
    stream: &mut (impl AsyncReadExt + Unpin),
    buffer: &mut Vec<u8>,
) -> Option<String> {
    read_reply(stream, buffer, true).await
}

async fn read_reply(
    stream: &mut (impl AsyncReadExt + Unpin),
    buffer: &mut Vec<u8>,
    has_body: bool,
) -> Option<String> {
    let head = loop {
        if let Some(at) = buffer.windows(4).position(|it| it == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
    let length =
        text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    let chunked = text.contains("transfer-encoding: chunked");
    loop {
        let whole = match length {
            _ if !has_body => Some(head),
            Some(length) => (buffer.len() >= head + length).then_some(head + length),
            None if chunked => {
                let end = buffer[head..].windows(5).position(|it| it == b"0\r\n\r\n");
                end.map(|at| head + at + 5)
            }
            None => Some(head),
        };
        if let Some(end) = whole {
            let rest = buffer.split_off(end);
            let message = std::mem::replace(buffer, rest);
            return Some(String::from_utf8_lossy(&message).into_owned());
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

/// A connection of a client that is kept.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), buffer: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).await.unwrap();
    }

    /// The next answer; empty when the connection ended without one.
    pub(crate) async fn read(&mut self) -> String {
        let read = read_message(&mut self.stream, &mut self.buffer);
        tokio::time::timeout(SOON, read).await.expect("no answer in time").unwrap_or_default()
    }

    pub(crate) async fn ask(&mut self, request: &str) -> String {
        self.send(request).await;
        self.read().await
    }

    pub(crate) async fn get(&mut self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: web\r\n\r\n")).await
    }

    pub(crate) async fn post(&mut self, body: &str) -> String {
        self.ask(&format!("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
            .await
    }

    /// Everything until the connection ends.
    pub(crate) async fn rest(mut self) -> String {
        let mut bytes = std::mem::take(&mut self.buffer);
        let read = self.stream.read_to_end(&mut bytes);
        let _ = tokio::time::timeout(SOON, read).await.expect("the connection did not end");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }
}

/// The status of an answer; 0 when there was none.
pub(crate) fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or(0)
}

/// A gateway, and the registry's side of it.
pub(crate) struct Site {
    pub(crate) gateway: GatewayHandle,
    pub(crate) sets: watch::Sender<Arc<EndpointSet>>,
    pub(crate) registry: Registry,
}

pub(crate) fn endpoint(replica: &str, incarnation: u64, address: SocketAddr) -> Endpoint {
    Endpoint {
        replica: replica.into(),
        node: "local".into(),
        address: address.ip(),
        port: address.port(),
        weight: 1,
        zone: None,
        ready: true,
        serving: true,
        draining: false,
        generation: 1,
        incarnation,
        kept: None,
    }
}

pub(crate) fn run(replica: &str, incarnation: u64) -> Run {
    Run { replica: replica.to_owned(), generation: 1, incarnation }
}

pub(crate) fn set(endpoints: Vec<Endpoint>) -> Arc<EndpointSet> {
    let none_ready_since = endpoints.is_empty().then(|| "2026-01-02T03:04:05Z".parse().unwrap());
    Arc::new(EndpointSet {
        service: "web".into(),
        revision: 1,
        balance: Balance::RoundRobin,
        none_ready_since,
        endpoints,
        traceparent: None,
    })
}

impl Site {
    pub(crate) fn new(endpoints: Vec<Endpoint>, options: Options) -> Self {
        let (sets, source) = watch::channel(set(endpoints));
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let gateway = Gateway::serve("127.0.0.1:0".parse().unwrap(), source, options, &metrics).unwrap();
        Self { gateway, sets, registry }
    }

    /// A gateway in front of these, named `web-0`, `web-1`, …
    pub(crate) fn over(backends: &[&Backend]) -> Self {
        Self::with(backends, Options::default())
    }

    pub(crate) fn with(backends: &[&Backend], options: Options) -> Self {
        let endpoints = backends.iter().enumerate();
        Self::new(endpoints.map(|(at, it)| endpoint(&format!("web-{at}"), 1, it.address)).collect(), options)
    }

    pub(crate) fn publish(&self, endpoints: Vec<Endpoint>) {
        self.sets.send_replace(set(endpoints));
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.gateway.local_addr()).await
    }

    /// One request on a connection of its own, and everything that comes back.
    pub(crate) async fn ask(&self, request: &str) -> String {
        self.client().await.ask(request).await
    }

    /// The answer to a `HEAD`, which has no body whatever its head says.
    pub(crate) async fn head(&self, path: &str) -> String {
        let mut client = self.client().await;
        client.send(&format!("HEAD {path} HTTP/1.1\r\nHost: web\r\n\r\n")).await;
        read_reply(&mut client.stream, &mut client.buffer, false).await.unwrap()
    }

    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

/// Waits until something is so, looking again and again.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(SOON, wait).await.unwrap_or_else(|_| panic!("not so in time: {what}"));
}
