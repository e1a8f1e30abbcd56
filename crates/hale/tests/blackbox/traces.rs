//! Traces, as a collector gets them: a real OTLP receiver over gRPC, and a real application that is probed.

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    trace::v1::Span,
};
use tonic::{Request, Response, Status};

use crate::harness::{Up, wait_for};

/// A collector that keeps what it is told.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let spans = request.into_inner().resource_spans.into_iter().flat_map(|it| it.scope_spans);
        self.0.lock().unwrap().extend(spans.flat_map(|it| it.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Serves until the test ends; its URL.
    fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let service = TraceServiceServer::new(self.clone());
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let incoming = tonic::transport::server::TcpIncoming::from(listener);
                tonic::transport::Server::builder()
                    .add_service(service)
                    .serve_with_incoming(incoming)
                    .await
                    .unwrap();
            });
        });
        url
    }

    /// The spans of the first trace that has all of these, once it is there.
    fn trace_with(&self, names: &[&str]) -> Vec<Span> {
        let mut last = Vec::new();
        let found = wait_for(|| {
            let spans = self.0.lock().unwrap().clone();
            last = spans.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
            for root in spans.iter().filter(|it| it.parent_span_id.is_empty()) {
                let trace: Vec<Span> =
                    spans.iter().filter(|it| it.trace_id == root.trace_id).cloned().collect();
                if names.iter().all(|name| trace.iter().any(|it| it.name == *name)) {
                    return Ok(trace);
                }
            }
            Err(None)
        });
        found.unwrap_or_else(|_: Option<String>| panic!("no trace has {names:?}; there are {last:?}"))
    }
}

/// An application that keeps the `traceparent` of each request and is well until it is told not to be.
struct App {
    port: u16,
    well: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl App {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (well, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::new(Vec::new())));
        let (is_well, keep) = (Arc::clone(&well), Arc::clone(&asked));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, mut buffer) = (stream.unwrap(), [0; 4096]);
                let Ok(count) = stream.read(&mut buffer) else { continue };
                let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
                let parent = text.lines().find_map(|line| line.strip_prefix("traceparent: "));
                keep.lock().unwrap().extend(parent.map(str::to_owned));
                let status = if is_well.load(Ordering::Relaxed) { "200 OK" } else { "500 Broken" };
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                drop(stream.write_all(answer.as_bytes()));
            }
        });
        Self { port, well, asked }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn one_trace_goes_from_the_request_of_the_probe_that_tipped_the_threshold_to_the_new_instance() {
    let (collector, app) = (Collector::default(), App::start());
    let yaml = format!(
        "kind: Workload\nname: web\nprocess: {{command: [sleep, '1000']}}\nlivenessProbe: {{httpGet: {{host: 127.0.0.1, \
         port: {}, path: /}}, periodSeconds: 0.2, failureThreshold: 2}}\nrestart: {{initialBackoff: 0s}}\n\
         terminationGracePeriodSeconds: 1\n",
        app.port
    );
    let url = collector.serve();
    let env = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "200"),
        ("HALE_LOG", "info"),
        ("HALE_LOG_FORMAT", "json"),
    ];
    let up = Up::start_tracing(&yaml, &env);
    up.wait_replica("web-0", "running", |replica| replica["phase"] == "running");
    app.well.store(false, Ordering::Relaxed);
    up.wait_events("replica.restarted", "web-0", 1);
    app.well.store(true, Ordering::Relaxed);

    let trace = collector.trace_with(&["outcome", "restart", "decision"]);
    let root = trace.iter().find(|it| it.parent_span_id.is_empty()).unwrap();
    assert_eq!(root.name, "outcome");
    for span in &trace {
        let has_parent = trace.iter().any(|it| it.span_id == span.parent_span_id);
        assert!(has_parent || span.span_id == root.span_id, "{} has no parent", span.name);
    }
    let restart = trace.iter().find(|it| it.name == "restart").unwrap();
    assert!(restart.end_time_unix_nano > restart.start_time_unix_nano);

    // It began with what the application was sent.
    let sent = format!("00-{}-{}-01", hex(&root.trace_id), hex(&root.span_id));
    assert!(app.asked.lock().unwrap().contains(&sent), "{sent} was never sent");
    // And the log tells of it under the same id.
    let id = hex(&root.trace_id);
    let lines = up.output();
    let line = lines.lines().find(|it| it.contains("dev.hale.replica.unhealthy"));
    assert!(line.is_some_and(|it| it.contains(&id)), "{id} is not in {line:?}");
}

#[test]
fn without_an_endpoint_nothing_is_sent_along() {
    let app = App::start();
    let up = Up::start(&format!(
        "kind: Workload\nname: web\nprocess: {{command: [sleep, '1000']}}\nreadinessProbe: {{httpGet: {{host: 127.0.0.1, \
         port: {}, path: /}}, periodSeconds: 0.2}}\n",
        app.port
    ));
    up.wait_replica("web-0", "ready", |replica| replica["ready"] == true);
    assert!(app.asked.lock().unwrap().is_empty());
}
