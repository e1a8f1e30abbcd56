//! Stacks of Kubernetes clusters and diagnostics as a person asks for them (K8, K9, K12, C7): the command line against a
//! real server, with an agent that says what this test wants said.

use std::{fs, process::Output, thread};

use serde_json::{Value, json};

use crate::{
    api::{self, Answer},
    cluster::Cluster,
    process::wait_for,
};

const MANIFEST: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, namespace: shop}\n";

/// A server with the stack `shop`, and an agent `prod` that is given it.
struct Site {
    cluster: Cluster,
    token: String,
    agent: String,
    object: String,
}

impl Site {
    fn start() -> Self {
        let mut cluster = Cluster::empty();
        cluster.server("s1");
        cluster.ok(&["stack", "create", "shop", "--label", "team=payments"]);
        let file = cluster.path("shop.yaml");
        fs::write(&file, MANIFEST).unwrap();
        let pushed: Value = serde_json::from_str(&cluster.ok(&[
            "stack",
            "push",
            "shop",
            file.to_str().unwrap(),
            "-o",
            "json",
        ]))
        .unwrap();
        let token = fs::read_to_string(cluster.token("agent", Some("prod"))).unwrap();
        let object = pushed["id"].as_str().unwrap().to_owned();
        let mut site = Self { cluster, token, agent: String::new(), object };
        let registered =
            site.ask("POST", "/api/v1/agents/register", &json!({"version": "1", "mode": "observe"}));
        site.agent = registered.json()["agent_id"].as_str().unwrap().to_owned();
        site.cluster.ok(&["cluster", "set", "prod", "--match-label", "team=payments"]);
        site
    }

    /// What the agent asks.
    fn ask(&self, method: &str, path: &str, body: &Value) -> Answer {
        let answer = api::ask(self.cluster.address("s1"), &self.token, method, path, Some(body)).unwrap();
        assert!(answer.status < 300, "{method} {path}: {answer:?}");
        answer
    }

    fn report(&self, status: &str, ready: u32, conditions: &[&str]) {
        let summary = json!({"pods_ready": ready, "pods_total": 2, "conditions": conditions, "resources": [
            {"kind": "Deployment", "name": "web", "namespace": "shop", "ready": ready == 2, "message": "so it is"}]});
        let now = jiff::Timestamp::now().to_string();
        let entry = json!({"id": self.object, "status": status, "summary": summary, "checked_at": now});
        let path = format!("/api/v1/agents/{}/health-status", self.agent);
        self.ask("PATCH", &path, &json!({"deployment_objects": [entry]}));
    }

    /// Takes the next request for diagnostics and answers it.
    fn answer(&self, result: &Value) {
        let path = format!("/api/v1/agents/{}/diagnostics/pending", self.agent);
        let id = wait_for(|| {
            let pending =
                api::ask(self.cluster.address("s1"), &self.token, "GET", &path, None).unwrap().json();
            pending["requests"][0]["id"].as_str().map(str::to_owned).ok_or(None)
        });
        let id = id.unwrap_or_else(|_| panic!("no request came\n{}", self.cluster.output()));
        self.ask("POST", &format!("/api/v1/diagnostics/{id}/claim"), &json!({}));
        self.ask("POST", &format!("/api/v1/diagnostics/{id}/result"), result);
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn status_of(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{}", said(output)))
}

#[test]
fn a_stack_is_pushed_told_of_and_waited_for() {
    let site = Site::start();
    let hale = &site.cluster;
    assert!(hale.ok(&["get", "stacks"]).contains("team=payments"));
    assert!(hale.ok(&["get", "deployments", "shop"]).contains(&site.object));
    assert!(hale.ok(&["get", "agents"]).contains("prod"));
    let unknown: Value = serde_json::from_str(&hale.ok(&["status", "shop", "-o", "json"])).unwrap();
    assert_eq!(unknown["overall_status"], "unknown");
    assert_eq!(unknown["deployment_objects"][0]["checked_at"], Value::Null);

    site.report("failing", 0, &["CrashLoopBackOff"]);
    let waited = hale.cli(&["status", "shop", "--wait", "healthy", "--timeout", "400ms"]);
    assert_eq!(status_of(&waited), 1, "{}", said(&waited));
    assert!(
        said(&waited).contains("failing") && said(&waited).contains("CrashLoopBackOff"),
        "{}",
        said(&waited)
    );
    let shown = hale.ok(&["status", &site.object]);
    for word in ["failing", "0/2", "CrashLoopBackOff", "prod", "Deployment/web"] {
        assert!(shown.contains(word), "no {word} in {shown}");
    }
    thread::scope(|scope| {
        let waiting = scope.spawn(|| hale.cli(&["status", "shop", "--wait", "healthy", "--timeout", "20s"]));
        site.report("healthy", 2, &[]);
        let waited = waiting.join().unwrap();
        assert_eq!(status_of(&waited), 0, "{}", said(&waited));
    });
    // A deletion marker is the newest object of the stack.
    hale.ok(&["stack", "push", "shop", "--delete"]);
    assert!(hale.ok(&["stack", "get", "shop"]).contains("deletes"));
    hale.ok(&["stack", "delete", "shop"]);
    assert_eq!(status_of(&hale.cli(&["status", "shop"])), 4);
}

#[test]
fn what_is_wrong_with_a_command_about_stacks_shows_in_its_exit_status() {
    let mut hale = Cluster::empty();
    hale.server("s1");
    hale.ok(&["stack", "create", "shop"]);
    let bad = hale.path("bad.yaml");
    fs::write(&bad, "kind: ConfigMap\nmetadata: {}\n").unwrap();
    let bad = bad.to_str().unwrap().to_owned();
    for (words, status) in [
        (vec!["stack", "push", "shop", &bad], 3),
        (vec!["stack", "push", "shop", "/there/is/none.yaml"], 3),
        (vec!["stack", "push", "nope", "--delete"], 4),
        (vec!["stack", "get", "nope"], 4),
        (vec!["diagnose", "nope"], 4),
        (vec!["get", "diagnostics", "nope"], 4),
        (vec!["diagnose", "shop"], 1),
        (vec!["cluster", "set", "nope", "--mode", "observe"], 4),
        (vec!["cluster", "set", "nope"], 2),
    ] {
        let output = hale.cli(&words);
        assert_eq!(status_of(&output), status, "{words:?}: {}", said(&output));
    }
    let viewer = hale.token("viewer", None);
    assert_eq!(status_of(&hale.cli_as(&viewer, &["stack", "create", "other"])), 5);
}

#[test]
fn diagnostics_are_asked_for_waited_for_and_printed() {
    let site = Site::start();
    site.report("failing", 0, &["CrashLoopBackOff"]);
    let bundle = json!({"collected_at": "2026-01-01T00:00:00Z",
        "pod_statuses": [{"name": "web-1", "namespace": "shop", "phase": "Running", "container_statuses": [
            {"name": "app", "ready": false, "state": "waiting", "reason": "CrashLoopBackOff", "restarts": 3}]}],
        "events": [{"type": "Warning", "reason": "BackOff", "message": "Back-off", "object": "Pod/shop/web-1", "count": 4}],
        "log_tails": {"web-1/app": ["about to crash"]},
        "collection": [{"part": "pods", "state": "ok"}, {"part": "events", "state": "error", "error": "forbidden"}]});
    let completed = json!({"status": "completed", "result": bundle});
    thread::scope(|scope| {
        let asking = scope.spawn(|| site.cluster.cli(&["diagnose", "shop"]));
        site.answer(&completed);
        let shown = asking.join().unwrap();
        assert_eq!(status_of(&shown), 0, "{}", said(&shown));
        for word in ["CrashLoopBackOff", "about to crash", "BackOff", "NOT COLLECTED", "forbidden"] {
            assert!(said(&shown).contains(word), "no {word} in {}", said(&shown));
        }
    });
    thread::scope(|scope| {
        let asking = scope.spawn(|| site.cluster.cli(&["diagnose", "shop", "-o", "json"]));
        site.answer(&completed);
        let told: Value = serde_json::from_slice(&asking.join().unwrap().stdout).unwrap();
        assert_eq!(told["status"], "completed");
        assert_eq!(told["result"]["log_tails"]["web-1/app"][0], "about to crash");
        // Structure all the way down, and the name of the token that asked.
        assert!(told["result"]["events"][0]["reason"].is_string(), "{told}");
        let id = told["request_id"].as_str().unwrap();
        assert!(site.cluster.ok(&["get", "diagnostics"]).contains(id));
        assert!(site.cluster.ok(&["get", "diagnostics", id]).contains("about to crash"));
    });
    thread::scope(|scope| {
        let asking = scope.spawn(|| site.cluster.cli(&["diagnose", "shop"]));
        site.answer(&json!({"status": "failed", "error": "the cluster can't be asked"}));
        let shown = asking.join().unwrap();
        assert_eq!(status_of(&shown), 1, "{}", said(&shown));
        assert!(said(&shown).contains("the cluster can't be asked"), "{}", said(&shown));
    });
    let late = site.cluster.cli(&["diagnose", "shop", "--timeout", "300ms"]);
    assert_eq!(status_of(&late), 1);
    assert!(said(&late).contains("still pending"), "{}", said(&late));
}

#[test]
fn a_replica_and_a_target_on_a_node_are_diagnosed_like_what_runs_in_a_cluster() {
    let mut hale = Cluster::start(&["a"]);
    let port = crate::process::free_port();
    hale.apply(&format!(
        r#"
kind: Workload
name: flaky
process:
  command: [sh, -c, "echo password=hunter22; echo going down; sleep 0.2; exit 3"]
  env: {{HALE_TEST_MARK: "{mark}"}}
restart: {{initialBackoff: 100ms, maxBackoff: 200ms, maxRestarts: 100000}}
---
kind: Target
name: gone
tcpSocket: {{host: 127.0.0.1, port: {port}}}
periodSeconds: 0.2
failureThreshold: 2
"#,
        mark = hale.mark()
    ));
    hale.wait_replica("flaky-0", "it was restarted", |it| it["restarts"].as_u64() > Some(1));
    let told = hale.wait(
        "a target that fails, with outcomes",
        || serde_json::from_str(&hale.ok(&["diagnose", "gone", "-o", "json"])).unwrap(),
        |it| it["result"]["target"]["status"] == "failing",
    );
    assert!(told["result"]["probes"][0]["outcomes"][0].is_object(), "{told}");
    assert_eq!(told["result"]["replica"], Value::Null);

    // One replica, so one request.
    let told: Value = serde_json::from_str(&hale.ok(&["diagnose", "flaky", "-o", "json"])).unwrap();
    let result = &told["result"];
    assert_eq!(
        (&told["status"], &told["replica"], &told["agent_id"]),
        (&json!("completed"), &json!("flaky-0"), &json!("a"))
    );
    assert_eq!((&result["node"], &result["replica"]["name"]), (&json!("a"), &json!("flaky-0")));
    assert!(result["exits"].as_array().unwrap().iter().any(|it| it["code"] == 3), "{result}");
    let log = result["log_tail"].to_string();
    assert!(log.contains("going down") && !log.contains("hunter22"), "{log}");
    assert!(!result["events"].as_array().unwrap().is_empty(), "{result}");
    for part in ["status", "probes", "logs", "exits", "events", "resources"] {
        let parts = result["collection"].as_array().unwrap();
        assert!(parts.iter().any(|it| it["part"] == part && it["state"] != "error"), "{part}: {parts:?}");
    }
    let shown = hale.ok(&["diagnose", "flaky-0"]);
    assert!(shown.contains("flaky-0") && shown.contains("going down") && shown.contains("exit"), "{shown}");

    // Of a node that is gone what can be had is told, and what can't be is said.
    hale.agents.get_mut("a").unwrap().kill();
    hale.wait_node("a", "lost");
    let told: Value = serde_json::from_str(&hale.ok(&["diagnose", "flaky-0", "-o", "json"])).unwrap();
    let parts = told["result"]["collection"].as_array().unwrap();
    assert!(parts.iter().any(|it| it["part"] == "logs" && it["state"] == "error"), "{parts:?}");
    assert!(!told["result"]["exits"].as_array().unwrap().is_empty(), "{told}");
}
