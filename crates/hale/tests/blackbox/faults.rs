//! Workloads that misbehave, each in its own way: each ends as its rule says, with a reason that names it.

use std::fs;

use serde_json::Value;

use crate::harness::{Up, alive, hale, kill, pid_of, processes_with, wait_until};

fn exe() -> String {
    hale().get_program().to_str().unwrap().to_owned()
}

fn backoffs(events: &[Value]) -> Vec<f64> {
    events.iter().map(|event| event["data"]["backoff_seconds"].as_f64().unwrap()).collect()
}

#[test]
fn one_that_fails_at_each_start_backs_off_is_given_up_and_comes_back_by_hand() {
    let up = Up::start(
        r#"
kind: Workload
name: broken
process: {command: ["sh", "-c", "test -e mended && exec sleep 600; exit 3"], workingDir: .}
restart: {maxRestarts: 4, initialBackoff: 100ms, minUptime: 5s}
"#,
    );
    let failed = up.wait_replica("broken-0", "failed", |replica| replica["phase"] == "failed");
    assert_eq!(failed["restarts"], 4, "{failed:#}");
    assert_eq!(failed["last_exit"]["code"], 3);
    assert_eq!(backoffs(&up.events_of("replica.restarting", "broken-0")), [0.1, 0.2, 0.4, 0.8]);
    let event = &up.wait_events("replica.failed", "broken-0", 1)[0];
    assert_eq!(event["severity"], "critical");
    assert!(event["data"]["hint"].as_str().unwrap().contains("hale restart broken-0"), "{event:#}");
    assert!(up.output().contains("exit 3"), "the reason is on the screen:\n{}", up.output());
    assert!(up.ok(&["explain", "broken-0"]).contains("exit 3"));
    let status = up.status();
    assert_eq!(status["workloads"][0]["status"], "failing");

    fs::write(up.path("mended"), "").unwrap();
    up.ok(&["restart", "broken-0"]);
    let back = up.wait_replica("broken-0", "running", |replica| replica["phase"] == "running");
    assert_eq!(back["restarts_in_window"], 0, "a person's restart clears the window: {back:#}");
}

#[test]
fn one_that_hangs_is_restarted_with_what_it_was_doing() {
    let up = Up::start(&format!(
        r#"
kind: Workload
name: stuck
process: {{command: ["{}", "demo-web"]}}
ports: [{{name: http, port: 0}}]
startupProbe: {{tcpSocket: {{port: http}}, periodSeconds: 0.1, failureThreshold: 300}}
livenessProbe: {{httpGet: {{path: /hang, port: http}}, periodSeconds: 0.3, timeoutSeconds: 0.2, failureThreshold: 3}}
restart: {{initialBackoff: 0s, maxRestarts: 1}}
"#,
        exe()
    ));
    let trip = &up.wait_events("replica.unhealthy", "stuck-0", 1)[0];
    assert_eq!(trip["data"]["probe_reason"], "timeout", "{trip:#}");
    assert_eq!(trip["data"]["consecutive_failures"], 3);
    let restarted = &up.wait_events("replica.restarted", "stuck-0", 1)[0];
    assert_eq!(restarted["data"]["cause"], "liveness_failure");
    assert!(restarted["data"]["reason"].as_str().unwrap().contains("timeout 3/3"), "{restarted:#}");
    let forensics = &restarted["data"]["forensics"];
    assert!(forensics["memory_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{forensics:#}");
    assert!(!forensics["probe_outcomes"].as_array().unwrap().is_empty(), "{forensics:#}");
}

#[test]
fn one_that_floods_its_output_is_not_blocked_and_its_logs_stay_bounded() {
    let up = Up::start(
        r#"
kind: Workload
name: loud
process: {command: ["sh", "-c", "yes 0123456789012345678901234567890123456789 | head -c 50000000; echo done > flooded; exec sleep 600"], workingDir: .}
"#,
    );
    wait_until("the flood is over", || up.path("flooded").exists());
    let kept: u64 = walk(&up.path("data/logs"));
    assert!(kept < 60_000_000, "{kept} bytes of logs are kept");
    assert_eq!(up.replica("loud-0")["phase"], "running");
    assert!(!up.ok(&["logs", "loud-0", "--tail", "3"]).is_empty());
}

fn walk(dir: &std::path::Path) -> u64 {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path())
            } else {
                entry.metadata().unwrap().len()
            }
        })
        .sum()
}

#[test]
fn one_that_ignores_sigterm_is_killed_after_its_grace() {
    let up = Up::start(
        r#"
kind: Workload
name: deaf
process: {command: ["sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.1; done"]}
terminationGracePeriodSeconds: 0.5
"#,
    );
    let pid = pid_of(&up.wait_replica("deaf-0", "running", |replica| replica["phase"] == "running"));
    wait_until("the trap is set", || up.ok(&["logs", "deaf-0"]).contains("deaf"));
    up.ok(&["stop", "deaf-0"]);
    let stopped = up.wait_replica("deaf-0", "stopped", |replica| replica["phase"] == "stopped");
    assert_eq!(stopped["last_exit"]["signal"], 9, "{stopped:#}");
    assert!(!alive(pid));
    assert_eq!(up.status()["workloads"][0]["status"], "healthy", "stopped on purpose is healthy");
}

#[test]
fn what_a_replica_spawned_does_not_outlive_it() {
    let up = Up::start(
        r#"
kind: Workload
name: parent
process: {command: ["sh", "-c", "setsid sleep 611611 & sleep 611611 & echo spawned; wait"]}
restart: {policy: never}
"#,
    );
    let replica = up.wait_replica("parent-0", "running", |replica| replica["phase"] == "running");
    wait_until("both children", || processes_with("sleep 611611").len() >= 2);
    kill("KILL", pid_of(&replica));
    wait_until("none is left", || processes_with("sleep 611611").is_empty());
    let failed = up.wait_replica("parent-0", "failed", |replica| replica["phase"] == "failed");
    assert_eq!(failed["last_exit"]["signal"], 9, "policy never: another exit than 0 is a failure");
}

#[test]
fn one_that_forks_and_exits_is_seen_as_exited() {
    let up = Up::start(
        r#"
kind: Workload
name: forker
process: {command: ["sh", "-c", "sleep 622622 & exit 0"]}
restart: {policy: on-failure}
"#,
    );
    let stopped = up.wait_replica("forker-0", "stopped", |replica| replica["phase"] == "stopped");
    assert_eq!(stopped["last_exit"]["code"], 0, "{stopped:#}");
    wait_until("its child is gone too", || processes_with("sleep 622622").is_empty());
}

#[test]
fn one_that_closes_its_port_but_lives_is_restarted_for_it() {
    let up = Up::start(&format!(
        r#"
kind: Workload
name: closing
process: {{command: ["sh", "-c", "test -e once && exec {exe} demo-web; touch once; timeout 2 {exe} demo-web; exec sleep 600"], workingDir: .}}
ports: [{{name: http, port: 0}}]
startupProbe: {{tcpSocket: {{port: http}}, periodSeconds: 0.1, failureThreshold: 300}}
livenessProbe: {{tcpSocket: {{port: http}}, periodSeconds: 0.2, failureThreshold: 2}}
restart: {{initialBackoff: 0s}}
"#,
        exe = exe()
    ));
    let restarted = &up.wait_events("replica.restarted", "closing-0", 1)[0];
    assert!(
        restarted["data"]["reason"].as_str().unwrap().contains("liveness: connection_refused 2/2"),
        "{restarted:#}"
    );
    up.wait_replica("closing-0", "running again", |replica| replica["phase"] == "running");
}

#[test]
fn one_that_eats_memory_over_its_limit_ends_as_out_of_memory() {
    let up = Up::start(
        r#"
kind: Workload
name: eater
process: {command: ["sh", "-c", "exec tail /dev/zero"]}
resources: {memory: 32Mi}
restart: {policy: never}
"#,
    );
    let failed = up.wait_replica("eater-0", "failed", |replica| replica["phase"] == "failed");
    assert_eq!(failed["last_exit"]["oom"], true, "{failed:#}");
    assert!(failed["last_error"].as_str().unwrap().contains("out of memory"), "{failed:#}");
}

#[test]
fn one_whose_binary_is_missing_says_so() {
    let up = Up::start(
        r#"
kind: Workload
name: missing
process: {command: ["./no-such-program"], workingDir: .}
restart: {maxRestarts: 1, initialBackoff: 0s}
"#,
    );
    let failed = up.wait_replica("missing-0", "failed", |replica| replica["phase"] == "failed");
    assert!(failed["last_error"].as_str().unwrap().contains("no-such-program"), "{failed:#}");
    assert!(up.output().contains("no-such-program"), "{}", up.output());
}

#[test]
fn a_database_that_is_down_restarts_nobody() {
    let up = Up::start(&format!(
        r#"
kind: Workload
name: api
process: {{command: ["{exe}", "demo-web"]}}
ports: [{{name: http, port: 0}}]
livenessProbe: {{exec: {{command: ["test", "!", "-e", "{dir}/down"]}}, periodSeconds: 0.1, failureThreshold: 2}}
dependsOn: [db]
---
kind: Workload
name: db
process: {{command: ["{exe}", "demo-web"]}}
ports: [{{name: http, port: 0}}]
livenessProbe: {{exec: {{command: ["test", "!", "-e", "{dir}/down"]}}, periodSeconds: 0.1, failureThreshold: 1}}
restart: {{maxRestarts: 1, initialBackoff: 0s}}
"#,
        exe = exe(),
        dir = "$(SWITCHES)",
    ).replace("$(SWITCHES)", switches().path().to_str().unwrap()));
    up.wait_replica("api-0", "running", |replica| replica["phase"] == "running");
    fs::write(switches().path().join("down"), "").unwrap();
    up.wait_replica("db-0", "failed", |replica| replica["phase"] == "failed");
    let api = up
        .wait_replica("api-0", "held by its dependency", |replica| replica["held_by"]["by"] == "dependency");
    let restarts = api["restarts"].as_u64().unwrap();
    assert!(restarts <= 1, "at most the restart decided before the database was known to be down: {api:#}");
    fs::remove_file(switches().path().join("down")).unwrap();
    up.ok(&["restart", "db-0"]);
    let api = up.wait_replica("api-0", "released", |replica| {
        replica["held_by"].is_null() && replica["phase"] == "running"
    });
    assert_eq!(api["restarts"].as_u64().unwrap(), restarts, "{api:#}");
}

/// A directory outside the workloads' own, for switches that more than one of them reads.
fn switches() -> &'static tempfile::TempDir {
    static DIR: std::sync::OnceLock<tempfile::TempDir> = std::sync::OnceLock::new();
    DIR.get_or_init(|| tempfile::tempdir().unwrap())
}

#[test]
fn a_missed_watchdog_is_a_liveness_failure() {
    let up = Up::start(
        r#"
kind: Workload
name: pinger
process:
  command: ["python3", "-c", "import os,socket,time\ns=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM)\na=os.environ['NOTIFY_SOCKET']\ns.connect('\\0'+a[1:] if a[0]=='@' else a)\ns.send(b'READY=1\\nSTATUS=serving')\nfor _ in range(5):\n  s.send(b'WATCHDOG=1'); time.sleep(0.1)\ntime.sleep(600)"]
startupProbe: {notify: {}}
livenessProbe: {notify: {}, periodSeconds: 0.5, failureThreshold: 2}
restart: {initialBackoff: 0s, maxRestarts: 1}
"#,
    );
    up.wait_replica("pinger-0", "started", |replica| {
        replica["phase"] == "running" && replica["status_text"] == "serving"
    });
    let trip = &up.wait_events("replica.unhealthy", "pinger-0", 1)[0];
    assert_eq!(trip["data"]["probe_reason"], "watchdog", "{trip:#}");
    up.wait_events("replica.restarted", "pinger-0", 1);
}

#[test]
fn a_secret_that_a_check_prints_is_shown_nowhere() {
    let up = Up::start(
        r#"
kind: Workload
name: careless
process: {command: [sleep, "688688"], secretEnv: {KEY: hush-12345}}
livenessProbe: {exec: {command: [sh, -c, 'echo "can not log in with $KEY"; exit 1']}, periodSeconds: 0.1, failureThreshold: 2}
restart: {maxRestarts: 1, initialBackoff: 0s}
"#,
    );
    up.wait_replica("careless-0", "failed", |replica| replica["phase"] == "failed");
    for args in [&["status", "-o", "json"][..], &["events", "-o", "json"], &["explain", "careless-0"]] {
        let told = up.ok(args);
        assert!(told.contains("can not log in with ***"), "hale {args:?}: {told}");
        assert!(!told.contains("hush"), "hale {args:?}: {told}");
    }
    assert!(!up.output().contains("hush"), "{}", up.output());
}
