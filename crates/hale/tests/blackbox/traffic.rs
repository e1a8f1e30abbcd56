//! Traffic through the gateway while replicas die, turn not ready and are restarted.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::harness::{Up, free_port, hale, kill, pid_of};

fn two_replicas(port: u16) -> String {
    let hale = hale().get_program().to_str().unwrap().to_owned();
    format!(
        r#"
kind: Workload
name: web
replicas: 2
process:
  command: ["{hale}", "demo-web"]
ports: [{{name: http, port: 0}}]
livenessProbe: {{httpGet: {{path: /healthz, port: http}}, periodSeconds: 0.2, failureThreshold: 3}}
readinessProbe: {{httpGet: {{path: /readyz, port: http}}, periodSeconds: 0.1, failureThreshold: 1}}
restart: {{initialBackoff: 100ms, maxBackoff: 100ms, maxRestarts: 1000}}
service: {{name: web, port: http, listen: "127.0.0.1:{port}", balance: round-robin}}
"#
    )
}

/// Clients that ask without a pause, each over one kept connection, and count what went wrong.
struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(port: u16, clients: usize, method: &'static str) -> Self {
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let clients = (0..clients)
            .map(|_| {
                let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
                thread::spawn(move || ask_until(port, method, &stop, &asked))
            })
            .collect();
        Self { stop, asked, clients }
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Waits until so many more requests were asked.
    fn wait_more(&self, more: u64) {
        let from = self.asked();
        crate::harness::wait_until("more requests", || self.asked() >= from + more);
    }

    fn finish(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let failures = self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        (self.asked.load(Ordering::Relaxed), failures)
    }
}

fn ask_until(port: u16, method: &str, stop: &AtomicBool, asked: &AtomicU64) -> Vec<String> {
    let mut failures = Vec::new();
    let mut connection = None;
    while !stop.load(Ordering::Relaxed) && failures.len() < 100 {
        let mut stream = connection.take().unwrap_or_else(|| connect(port));
        match ask(&mut stream, method) {
            Ok(200) => connection = Some(stream),
            Ok(status) => failures.push(format!("status {status}")),
            Err(error) => failures.push(error.to_string()),
        }
        asked.fetch_add(1, Ordering::Relaxed);
    }
    failures
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// One request; its status. The answer is read by its length, so that the connection can be kept.
fn ask(stream: &mut TcpStream, method: &str) -> std::io::Result<u16> {
    let body = if method == "POST" { "Content-Length: 2\r\n\r\nhi" } else { "\r\n" };
    stream.write_all(format!("{method} / HTTP/1.1\r\nHost: web\r\n{body}").as_bytes())?;
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Err(std::io::Error::other("closed before the whole answer"));
        }
        seen.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&seen);
        let Some((head, rest)) = text.split_once("\r\n\r\n") else { continue };
        let lower = head.to_ascii_lowercase();
        let length = lower.split("content-length: ").nth(1).and_then(|l| l.lines().next()).map(str::trim);
        if rest.len() >= length.and_then(|l| l.parse().ok()).unwrap_or(0) {
            return head
                .split(' ')
                .nth(1)
                .and_then(|s| s.parse().ok())
                .ok_or_else(|| std::io::Error::other("no status"));
        }
    }
}

fn start(port: u16) -> Up {
    let up = Up::start(&two_replicas(port));
    up.wait_status("two ready", |status| status["workloads"][0]["ready"] == 2);
    up
}

#[test]
fn killing_replicas_again_and_again_loses_no_request_that_is_safe_to_retry() {
    let port = free_port();
    let up = start(port);
    let load = Load::start(port, 4, "GET");
    for round in 0..6 {
        let name = format!("web-{}", round % 2);
        load.wait_more(200);
        let before = up.wait_replica(&name, "ready", |replica| replica["ready"] == true);
        kill("KILL", pid_of(&before));
        up.wait_replica(&name, "a new process, ready", |replica| {
            replica["ready"] == true && replica["pid"] != before["pid"]
        });
    }
    let (asked, failures) = load.finish();
    assert!(
        failures.is_empty(),
        "{} of {asked} requests failed: {:?}",
        failures.len(),
        &failures[..failures.len().min(5)]
    );
    assert!(asked > 1000, "only {asked} requests were asked");
    let exits = up.events_of("replica.exited", "web-0");
    assert_eq!(exits.len(), 3, "{exits:#?}");
    assert_eq!(exits[0]["data"]["exit"]["signal"], 9);
}

#[test]
fn failing_readiness_takes_a_replica_out_of_traffic_without_losing_a_request() {
    let port = free_port();
    let up = start(port);
    let load = Load::start(port, 4, "POST");
    let http = up.replica("web-1")["ports"]["http"].as_u64().unwrap();
    let http = u16::try_from(http).unwrap();
    load.wait_more(200);
    assert_eq!(post(http, "/break/ready"), 200);
    let out = up.wait_replica("web-1", "not ready", |replica| replica["ready"] == false);
    assert_eq!(out["phase"], "running", "readiness never restarts: {out:#}");
    assert_eq!(out["probes"]["readiness"]["last_reason"], "status_mismatch");
    load.wait_more(200);
    assert_eq!(post(http, "/mend/ready"), 200);
    up.wait_replica("web-1", "ready again", |replica| replica["ready"] == true);
    load.wait_more(200);
    let (asked, failures) = load.finish();
    assert!(
        failures.is_empty(),
        "{} of {asked} requests failed: {:?}",
        failures.len(),
        &failures[..failures.len().min(5)]
    );
    assert_eq!(up.replica("web-1")["restarts"], 0);
    let explained = up.ok(&["explain", "web-1"]);
    assert!(explained.contains("readiness: status_mismatch 1/1"), "{explained}");
}

#[test]
fn a_rolling_restart_loses_no_request_at_all() {
    let port = free_port();
    let up = start(port);
    let before = [pid_of(&up.replica("web-0")), pid_of(&up.replica("web-1"))];
    let load = Load::start(port, 4, "POST");
    load.wait_more(200);
    up.ok(&["restart", "web"]);
    let status = up.status();
    assert_eq!(status["workloads"][0]["ready"], 2, "it returns when both are ready again: {status:#}");
    load.wait_more(200);
    let (asked, failures) = load.finish();
    assert!(
        failures.is_empty(),
        "{} of {asked} requests failed: {:?}",
        failures.len(),
        &failures[..failures.len().min(5)]
    );
    for (ordinal, old) in before.into_iter().enumerate() {
        assert_ne!(pid_of(&up.replica(&format!("web-{ordinal}"))), old);
    }
}

#[test]
fn no_endpoint_is_a_503_that_says_which_service() {
    let port = free_port();
    let up = start(port);
    up.ok(&["stop", "web"]);
    up.wait_status("none ready", |status| status["workloads"][0]["ready"] == 0);
    let mut stream = connect(port);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("retry-after:"), "{answer}");
    assert!(answer.contains("web"), "{answer}");
    up.ok(&["start", "web"]);
    up.wait_status("two ready", |status| status["workloads"][0]["ready"] == 2);
    assert_eq!(ask(&mut connect(port), "GET").unwrap(), 200);
}

/// Asks a replica itself.
fn post(port: u16, path: &str) -> u16 {
    let mut stream = connect(port);
    write!(stream, "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}
