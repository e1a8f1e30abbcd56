//! An engine made for the benchmark: it speaks the API over a Unix socket, and its containers are addresses of loopback on
//! which one server answers. Every tenth of a second one of them ends.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::{
    BodyExt, Full, StreamBody,
    combinators::{BoxBody, UnsyncBoxBody},
};
use hyper::{Method, Request, Response, body::Frame, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, io::AsyncWriteExt, net::TcpListener, net::UnixListener, sync::broadcast};

type Body = BoxBody<Bytes, Infallible>;

struct Made {
    name: String,
    labels: Value,
    number: u32,
    running: bool,
    code: i32,
}

struct Engine {
    all: Mutex<(u32, BTreeMap<String, Made>)>,
    events: broadcast::Sender<(String, String)>,
}

/// Runs until it is killed.
pub(crate) fn run(socket: &Path, port: u16) {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio.block_on(async {
        let engine = Arc::new(Engine { all: Mutex::default(), events: broadcast::channel(10_000).0 });
        tokio::spawn(answer_probes(port));
        tokio::spawn(end_some(Arc::clone(&engine)));
        let listener = UnixListener::bind(socket).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let engine = Arc::clone(&engine);
            let service = service_fn(move |request| {
                let engine = Arc::clone(&engine);
                async move { Ok::<_, Infallible>(engine.answer(request).await) }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });
}

async fn answer_probes(port: u16) {
    let listener = TcpListener::bind(("0.0.0.0", port)).await.unwrap();
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { continue };
        tokio::spawn(async move {
            let mut asked = [0; 1024];
            let _ = stream.read(&mut asked).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
                .await;
        });
    }
}

async fn end_some(engine: Arc<Engine>) {
    let mut turn = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let id = {
            let all = engine.all.lock().unwrap();
            let running: Vec<&String> = all.1.iter().filter(|it| it.1.running).map(|it| it.0).collect();
            if running.len() < 100 {
                continue;
            }
            turn += 37;
            running[turn % running.len()].clone()
        };
        engine.end(&id, 1);
    }
}

fn whole(status: u16, body: &Value) -> Response<Body> {
    let body = if status == 204 { Bytes::new() } else { Bytes::from(body.to_string()) };
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Full::new(body).boxed())
        .unwrap()
}

impl Engine {
    fn end(&self, id: &str, code: i32) {
        if let Some(it) = self.all.lock().unwrap().1.get_mut(id) {
            (it.running, it.code) = (false, code);
            let event = json!({
                "Type": "container", "Action": "die",
                "Actor": { "ID": id, "Attributes": { "exitCode": code.to_string() } }
            });
            let _ = self.events.send((id.to_owned(), format!("{event}\n")));
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let query = request.uri().query().unwrap_or_default().to_owned();
        let parts: Vec<&str> = path.trim_start_matches("/v1.41").trim_matches('/').split('/').collect();
        match (&method, parts.as_slice()) {
            (&Method::GET, ["version"]) => whole(200, &json!({ "Version": "made", "ApiVersion": "1.41" })),
            (&Method::GET, ["info"]) => whole(200, &json!({ "LoggingDriver": "json-file" })),
            (&Method::GET, ["images", ..]) => {
                whole(200, &json!({ "Id": "sha256:0", "Config": { "Env": [] } }))
            }
            (&Method::GET, ["events"]) => self.stream(None),
            (&Method::GET, ["containers", "json"]) => self.list(&query),
            (&Method::POST, ["containers", "create"]) => self.create(request, &query).await,
            (&Method::GET, ["containers", id, "json"]) => self.inspect(id),
            (&Method::GET, ["containers", id, "logs"]) => self.stream(Some((*id).to_owned())),
            (&Method::POST, ["containers", id, "start"]) => {
                if let Some(it) = self.all.lock().unwrap().1.get_mut(*id) {
                    it.running = true;
                }
                whole(204, &Value::Null)
            }
            (&Method::POST, ["containers", id, "kill"]) => {
                self.end(id, 137);
                whole(204, &Value::Null)
            }
            (&Method::DELETE, ["containers", id]) => {
                self.all.lock().unwrap().1.remove(*id);
                whole(204, &Value::Null)
            }
            _ => whole(404, &json!({ "message": format!("no such container: {path}") })),
        }
    }

    /// Events as they come; or, of one container, nothing until it ends.
    fn stream(&self, of: Option<String>) -> Response<Body> {
        let events = self.events.subscribe();
        let frames = stream::unfold((events, of), |(mut events, of)| async move {
            loop {
                let (id, event) = events.recv().await.ok()?;
                match &of {
                    None => {
                        let frame = Ok::<_, Infallible>(Frame::data(Bytes::from(event)));
                        return Some((frame, (events, of)));
                    }
                    Some(of) if *of == id => return None,
                    Some(_) => {}
                }
            }
        });
        let first = stream::iter([Ok(Frame::data(Bytes::new()))]);
        let body = UnsyncBoxBody::new(StreamBody::new(first.chain(frames)));
        Response::new(BoxBody::new(SyncBody(Mutex::new(body))))
    }

    fn list(&self, query: &str) -> Response<Body> {
        let all = self.all.lock().unwrap();
        let wanted =
            query.find("replica%3D").map(|at| query[at + 10..].split('%').next().unwrap_or_default());
        let listed: Vec<Value> = all
            .1
            .iter()
            .filter(|(_, it)| wanted.is_none_or(|wanted| it.labels["dev.hale.replica"] == wanted))
            .map(|(id, it)| {
                let state = if it.running { "running" } else { "exited" };
                json!({ "Id": id, "Names": [it.name], "Labels": it.labels, "State": state, "Status": "Up" })
            })
            .collect();
        whole(200, &Value::from(listed))
    }

    async fn create(&self, request: Request<Incoming>, query: &str) -> Response<Body> {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let asked: Value = serde_json::from_slice(&body).unwrap();
        let mut all = self.all.lock().unwrap();
        all.0 += 1;
        let number = all.0;
        let id = format!("{number:064x}");
        let name = query.trim_start_matches("name=").to_owned();
        let made = Made { name, labels: asked["Labels"].clone(), number, running: false, code: 0 };
        all.1.insert(id.clone(), made);
        whole(201, &json!({ "Id": id, "Warnings": [] }))
    }

    fn inspect(&self, id: &str) -> Response<Body> {
        let all = self.all.lock().unwrap();
        let Some(it) = all.1.get(id) else { return whole(404, &json!({ "message": "no such container" })) };
        let address = format!("127.1.{}.{}", it.number / 250 % 250, it.number % 250 + 1);
        whole(
            200,
            &json!({
                "Id": id, "Name": it.name,
                "State": {
                    "Status": if it.running { "running" } else { "exited" }, "Running": it.running, "Pid": 0,
                    "ExitCode": it.code, "StartedAt": "2026-11-22T14:00:00Z"
                },
                "NetworkSettings": { "Networks": { "bridge": { "IPAddress": address } } }
            }),
        )
    }
}

/// A stream's body is not to be shared; a lock makes it so.
struct SyncBody(Mutex<UnsyncBoxBody<Bytes, Infallible>>);

impl hyper::body::Body for SyncBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut body = self.0.lock().unwrap();
        std::pin::Pin::new(&mut *body).poll_frame(context)
    }
}
