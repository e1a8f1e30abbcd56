//! Traffic through the gateway while replicas die, turn not ready and are restarted.

use std::io::{Read, Write};

use crate::{
    harness::{Up, free_port, hale, kill, pid_of},
    load::{Load, ask, connect, post},
};

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
