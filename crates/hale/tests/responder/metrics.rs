//! Every figure of R16, seen by a real Prometheus: at 0 from the start, and each driven off it.

use std::{
    fs,
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::{
    harness::{Bench, Responder, alert, ask},
    process::{free_port, kill, wait_for},
};

struct Prometheus {
    child: Child,
    at: SocketAddr,
}

impl Prometheus {
    fn start(bench: &Bench, target: SocketAddr) -> Self {
        let config = bench.path("prometheus.yml");
        fs::write(
            &config,
            format!(
                "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\nscrape_configs:\n- job_name: hale\n  \
                 static_configs: [{{targets: ['{target}']}}]\n"
            ),
        )
        .unwrap();
        let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", bench.path("tsdb").display()))
            .arg(format!("--web.listen-address={at}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus is installed by `cargo xtask test`");
        Self { child, at }
    }

    /// The sum of what a query finds.
    fn sum(&self, query: &str) -> Option<f64> {
        let query: String =
            query
                .bytes()
                .map(|it| {
                    if it.is_ascii_alphanumeric() { char::from(it).to_string() } else { format!("%{it:02X}") }
                })
                .collect();
        let (status, body) = ask(self.at, "GET", &format!("/api/v1/query?query={query}"), "")?;
        // The body may come in chunks: what is between the first and the last brace is the answer.
        let body = body.get(body.find('{')?..=body.rfind('}')?)?;
        let answer: Value = (status == 200).then(|| serde_json::from_str(body).ok())??;
        let found = answer["data"]["result"].as_array()?;
        if found.is_empty() {
            return None;
        }
        Some(found.iter().filter_map(|it| it["value"][1].as_str()?.parse::<f64>().ok()).sum())
    }

    fn expect(&self, query: &str, wanted: impl Fn(f64) -> bool) {
        let mut last = None;
        wait_for(|| {
            last = self.sum(query);
            if last.is_some_and(&wanted) { Ok(()) } else { Err(None) }
        })
        .unwrap_or_else(|_| panic!("{query} is {last:?}"));
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        kill("TERM", self.child.id());
        drop(self.child.wait());
    }
}

const AT_ZERO: &[&str] = &[
    "events_received_total{cluster=\"eu\",severity=\"critical\"}",
    "events_filtered_total{cluster=\"eu\",reason=\"duplicate\"}",
    "events_queued_total{cluster=\"eu\"}",
    "events_expired_total{cluster=\"eu\"}",
    "events_dequeued_total{cluster=\"eu\"}",
    "queue_depth{cluster=\"eu\"}",
    "agents_spawned_total{cluster=\"eu\"}",
    "agents_completed_total{cluster=\"eu\",status=\"succeeded\"}",
    "agents_failed_total{cluster=\"eu\",reason=\"exit\"}",
    "agents_timeout_total{cluster=\"eu\"}",
    "agents_active{cluster=\"eu\"}",
    "agent_duration_seconds_count{cluster=\"eu\",status=\"succeeded\"}",
    "circuit_breaker_state{breaker=\"capacity\"}",
    "circuit_breaker_state{breaker=\"failure\"}",
    "circuit_breaker_events_dropped_total{cluster=\"eu\"}",
    "sse_connections_active{cluster=\"away\"}",
    "sse_reconnections_total{cluster=\"away\",reason=\"network\"}",
    "sse_connection_errors_total{cluster=\"away\",reason=\"auth\"}",
    "sse_connection_duration_seconds_count{cluster=\"away\"}",
];

/// A stream of server-sent events that ends each time somebody connects, after a first one.
fn ending_stream() -> SocketAddr {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n: hello\n\n",
            );
        }
    });
    at
}

/// A responder with a webhook, a source that is not there, and one whose stream always ends.
fn watched(bench: &Bench) -> Responder {
    let program = bench.script(
        "run.sh",
        "case $HALE_NAME in fail*) exit 1;; slow) exec sleep 600;; hold) while [ ! -e $DIR/go ]; do sleep 0.05; done;; esac",
    );
    let yaml = format!(
        "kind: Responder\nname: triage\nsources:\n\
         - {{name: eu, kind: webhook, listen: \"127.0.0.1:0\"}}\n\
         - {{name: away, kind: sse, url: \"http://127.0.0.1:{}/\", fields: {{name: /name}}}}\n\
         - {{name: ends, kind: sse, url: \"http://{}/\", fields: {{name: /name}}}}\n\
         rules: [{{name: all, run: {{command: [\"{}\"], timeout: 1s}}}}]\n\
         limits: {{queueSize: 2, failureBreaker: 2, failureBreakerReset: 1h, maxQueueAge: 3s}}\n",
        free_port(),
        ending_stream(),
        program.display()
    );
    let args = ["--queue-sweep-interval", "0.5", "--sse-reconnect-initial-delay", "0.2"];
    Responder::start(bench, &yaml, &args)
}

fn sum(name: &str) -> String {
    format!("sum(hale_responder_{name})")
}

#[test]
fn a_real_prometheus_sees_every_figure_at_zero_and_then_off_it() {
    let bench = Bench::new();
    let responder = watched(&bench);
    let text = responder.figures();
    for series in AT_ZERO {
        assert_eq!(
            responder.find_figure(&format!("hale_responder_{series}")),
            Some(0.0),
            "{series} in {text}"
        );
    }
    assert_eq!(responder.figure("hale_responder_queue_capacity{cluster=\"eu\"}"), 2.0);
    promtool(&text);

    let prometheus = Prometheus::start(&bench, responder.metrics);
    runs_and_filters(&responder, &prometheus);
    queues_and_breakers(&responder, &prometheus);
    connections_and_process(&prometheus);
    promtool(&responder.figures());
}

fn runs_and_filters(responder: &Responder, prometheus: &Prometheus) {
    responder.alert("eu", "good");
    responder.wait_run("good", "succeeded");
    responder.alert("eu", "good");
    let mut mild = alert("mild");
    mild["severity"] = "info".into();
    responder.post("eu", &mild);
    responder.alert("eu", "slow");
    responder.wait_run("slow", "timed_out");
    responder.alert("eu", "good-again");
    responder.wait_run("good-again", "succeeded");
    prometheus.expect(&sum("agents_timeout_total{cluster=\"eu\"}"), |it| it == 1.0);
    prometheus.expect(&sum("events_filtered_total{reason=\"severity\"}"), |it| it == 1.0);
    prometheus.expect(&sum("events_filtered_total{reason=\"duplicate\"}"), |it| it == 1.0);
}

fn queues_and_breakers(responder: &Responder, prometheus: &Prometheus) {
    // One that holds its place, two that wait, one that gives way.
    responder.alert("eu", "hold");
    responder.wait_run("hold", "running");
    for name in ["fail-0", "fail-1", "fail-2"] {
        responder.alert("eu", name);
    }
    prometheus.expect(&sum("circuit_breaker_events_dropped_total{cluster=\"eu\"}"), |it| it == 1.0);
    fs::write(responder.bench.path("go"), "").unwrap();
    responder.wait_run("fail-2", "failed");
    prometheus.expect("hale_responder_circuit_breaker_state{breaker=\"failure\"}", |it| it == 1.0);
    responder.alert("eu", "waits");
    prometheus.expect("hale_responder_queue_depth{cluster=\"eu\"}", |it| it == 1.0);
    prometheus.expect(&sum("events_expired_total{cluster=\"eu\"}"), |it| it == 1.0);
    for name in
        ["events_received_total", "events_queued_total", "events_dequeued_total", "agents_spawned_total"]
    {
        prometheus.expect(&sum(&format!("{name}{{cluster=\"eu\"}}")), |it| it >= 6.0);
    }
    prometheus.expect(&sum("agents_completed_total{status=\"succeeded\"}"), |it| it >= 2.0);
    prometheus.expect(&sum("agents_failed_total{reason=\"exit\"}"), |it| it == 2.0);
    prometheus.expect(&sum("agent_duration_seconds_bucket{status=\"succeeded\",le=\"1.0\"}"), |it| it >= 2.0);
}

fn connections_and_process(prometheus: &Prometheus) {
    prometheus
        .expect(&sum("sse_connection_errors_total{cluster=\"away\",reason=\"network\"}"), |it| it >= 1.0);
    prometheus.expect(&sum("sse_connections_active{cluster=\"eu\"}"), |it| it == 1.0);
    prometheus.expect(&sum("sse_connection_duration_seconds_count{cluster=\"ends\"}"), |it| it >= 1.0);
    prometheus.expect(&sum("sse_reconnections_total{cluster=\"ends\"}"), |it| it >= 1.0);
    prometheus.expect("hale_responder_build_info", |it| it == 1.0);
    for name in [
        "hale_responder_uptime_seconds",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "hale_responder_runtime_workers",
    ] {
        prometheus.expect(name, |it| it > 0.0);
    }
}

#[test]
fn what_runs_is_counted_as_active() {
    let bench = Bench::new();
    let program = bench.script("run.sh", "while [ ! -e $DIR/go ]; do sleep 0.05; done");
    let rules = format!("{{name: all, run: {{command: [\"{}\"]}}}}", program.display());
    let responder = Responder::start(&bench, &crate::harness::declared(&["eu"], &rules, ""), &[]);
    responder.alert("eu", "web");
    let active = || responder.figure("hale_responder_agents_active{cluster=\"eu\"}");
    responder.wait("it is counted", || active() == 1.0);
    fs::write(bench.path("go"), "").unwrap();
    responder.wait("it is not any more", || active() == 0.0);
}

fn promtool(text: &str) {
    use std::io::Write;
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed by `cargo xtask test`");
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
