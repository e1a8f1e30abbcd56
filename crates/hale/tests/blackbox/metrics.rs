//! Seen by a real Prometheus: it scrapes `/metrics`, and `promtool` finds nothing to complain of.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use crate::harness::{Up, free_port, hale, kill, wait_for, wait_until};

struct Prometheus {
    child: Child,
    port: u16,
}

impl Prometheus {
    fn start(up: &Up) -> Self {
        let port = free_port();
        let token = up.path("data/cli.token");
        let config = up.path("prometheus.yml");
        fs::write(
            &config,
            format!(
                "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\nscrape_configs:\n- job_name: hale\n  \
                 authorization: {{credentials_file: '{}'}}\n  static_configs: [{{targets: ['{}']}}]\n",
                token.display(),
                up.url.strip_prefix("http://").unwrap()
            ),
        )
        .unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", up.path("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus is installed by `cargo xtask test`");
        Self { child, port }
    }

    /// The value of an instant query with one result.
    fn query(&self, query: &str) -> Option<f64> {
        let path = format!(
            "/api/v1/query?query={}",
            query.replace('{', "%7B").replace('}', "%7D").replace('"', "%22")
        );
        let body = get(self.port, &path)?;
        let answer: serde_json::Value = serde_json::from_str(&body).ok()?;
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        kill("TERM", self.child.id());
        drop(self.child.wait());
    }
}

fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    // HTTP/1.0: the answer ends with the connection and is never chunked.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.lines().next()?.contains(" 200 ").then(|| body.to_owned())
}

fn watched() -> Up {
    let exe = hale().get_program().to_str().unwrap().to_owned();
    let up = Up::start(&format!(
        r#"
kind: Workload
name: web
process: {{command: ["{exe}", "demo-web"]}}
ports: [{{name: http, port: 0}}]
startupProbe: {{httpGet: {{path: /healthz, port: http}}, periodSeconds: 0.1, failureThreshold: 100}}
livenessProbe: {{httpGet: {{path: /healthz, port: http}}, periodSeconds: 0.1}}
readinessProbe: {{httpGet: {{path: /readyz, port: http}}, periodSeconds: 0.1}}
restart: {{initialBackoff: 0s}}
service: {{name: web, port: http, listen: "127.0.0.1:{}"}}
---
kind: Target
name: nobody
tcpSocket: {{host: 127.0.0.1, port: {}}}
periodSeconds: 0.1
"#,
        free_port(),
        free_port()
    ));
    up.wait_replica("web-0", "ready", |replica| replica["ready"] == true);
    up
}

#[test]
fn a_real_prometheus_scrapes_what_happened() {
    let up = watched();
    kill("KILL", crate::harness::pid_of(&up.replica("web-0")));
    up.wait_events("replica.restarted", "web-0", 1);
    let prometheus = Prometheus::start(&up);
    let expect = |query: &str, wanted: &dyn Fn(f64) -> bool| {
        let mut last = None;
        wait_for(|| {
            last = prometheus.query(query);
            if last.is_some_and(wanted) { Ok(()) } else { Err(None) }
        })
        .unwrap_or_else(|_| panic!("{query} is {last:?}"));
    };
    expect("up{job=\"hale\"}", &|up| up == 1.0);
    expect("hale_agent_container_restarts_total{reason=\"exit\"}", &|count| count == 1.0);
    expect("hale_agent_liveness_probes_total{result=\"success\"}", &|count| count > 3.0);
    expect("hale_agent_container_health_status{probe_type=\"readiness\"}", &|healthy| healthy == 1.0);
    expect("hale_server_nodes{condition=\"ready\"}", &|nodes| nodes == 1.0);
    expect("hale_server_replicas{phase=\"running\"}", &|replicas| replicas == 1.0);
    expect("hale_server_heartbeats_total", &|beats| beats > 0.0);
    expect("hale_server_placement_seconds_count", &|plans| plans > 0.0);
    expect("hale_server_endpoint_transitions_total{to=\"ready\"}", &|count| count >= 2.0);
    expect("hale_server_recover_seconds_count{workload=\"web\"}", &|count| count >= 1.0);
    expect("hale_server_workload_availability_ratio{workload=\"web\"}", &|ratio| ratio == 1.0);
    expect("hale_server_store_waiting", &|waiting| waiting < 100.0);
    expect("hale_agent_target_probes_total{reason=\"connection_refused\"}", &|count| count > 3.0);
    expect("hale_agent_health_events_total{event_type=\"dev.hale.target.probe_failed\"}", &|count| {
        count == 1.0
    });
}

#[test]
fn promtool_finds_nothing_to_complain_of() {
    let up = watched();
    let token = fs::read_to_string(up.path("data/cli.token")).unwrap();
    let mut stream = TcpStream::connect(up.url.strip_prefix("http://").unwrap()).unwrap();
    write!(
        stream,
        "GET /metrics HTTP/1.0\r\nHost: 127.0.0.1\r\nAccept: text/plain\r\nAuthorization: Bearer {}\r\n\r\n",
        token.trim()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 200 "), "{answer}");
    let mut check = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed by `cargo xtask test`");
    check.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}\n{body}", String::from_utf8_lossy(&said));
}

#[test]
fn health_endpoints_need_no_token_and_everything_else_does() {
    let up = watched();
    let port: u16 = up.url.rsplit_once(':').unwrap().1.parse().unwrap();
    wait_until("ready", || get(port, "/readyz").is_some());
    assert!(get(port, "/healthz").is_some());
    for path in ["/metrics", "/api/v1/status", "/api/v1/events"] {
        assert_eq!(get(port, path), None, "{path} answered without a token");
    }
}
