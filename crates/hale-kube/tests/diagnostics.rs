//! Diagnostics, from the request at a server to its result (K9–K11).

#![expect(clippy::unwrap_used, reason = "a test helper that can't help fails the test")]

mod support;

use std::time::{Duration, Instant};

use hale_testkit::kubernetes::{FakeCluster, Fault, Log, recorded};
use serde_json::{Value, json};
use support::{Running, Server, agent, options, situation};

const ID: &str = "crash";

/// The recorded crashing deployment, in a namespace that is not `default`, with logs; watched, and failing.
async fn crashing() -> (FakeCluster, Server, Vec<String>) {
    let (cluster, server) = (FakeCluster::start().await, Server::start().await);
    cluster.put_recorded(&situation("crashloopbackoff"));
    let objects = recorded(&situation("crashloopbackoff"));
    let deployment = objects.iter().find(|it| it["kind"] == "Deployment").unwrap();
    server.mode("observe");
    server.give("s1", ID, &json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": deployment["metadata"]["name"], "namespace": deployment["metadata"]["namespace"]}}).to_string());
    let mut containers = Vec::new();
    for pod in objects.iter().filter(|it| it["kind"] == "Pod") {
        let of = format!(
            "{}/{}/{}",
            pod["metadata"]["namespace"].as_str().unwrap(),
            pod["metadata"]["name"].as_str().unwrap(),
            pod["spec"]["containers"][0]["name"].as_str().unwrap()
        );
        cluster.log(&of, Log::Text("starting\nDB_PASSWORD=hunter2\n\u{1b}[31mboom\u{1b}[0m\n".to_owned()));
        cluster.log(&format!("{of}:previous"), Log::Text("the one before\n".to_owned()));
        containers.push(of);
    }
    (cluster, server, containers)
}

async fn started(cluster: &FakeCluster, server: &Server) -> Running {
    let mut options = options();
    // The recorded events are old.
    options.collect.lookback = Duration::from_secs(20 * 365 * 86400);
    let agent = agent(cluster, server, options).await;
    server.status(ID, "failing").await;
    agent
}

fn part<'v>(result: &'v Value, holding: &str) -> &'v Value {
    let parts = result["result"]["collection"].as_array().unwrap();
    let found = parts.iter().find(|it| it["part"].as_str().unwrap().contains(holding));
    found.unwrap_or_else(|| panic!("{holding}: {parts:#?}"))
}

#[tokio::test]
async fn a_bundle_holds_states_events_logs_and_resources_of_whatever_namespace() {
    let (cluster, server, containers) = crashing().await;
    let agent = started(&cluster, &server).await;
    let begun = Instant::now();
    server.ask("r1", ID);
    let result = server.result("r1").await;
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(result["status"], "completed");
    let bundle = &result["result"];
    assert_eq!(bundle["pod_statuses"].as_array().unwrap().len(), containers.len());
    let container = &bundle["pod_statuses"][0]["container_statuses"][0];
    assert_eq!((&container["state"], &container["reason"]), (&json!("waiting"), &json!("CrashLoopBackOff")));
    assert!(container["restarts"].as_u64().unwrap() > 0 && container["last_state"]["exit_code"].is_i64());
    let reasons: Vec<&str> =
        bundle["events"].as_array().unwrap().iter().filter_map(|it| it["reason"].as_str()).collect();
    assert!(reasons.contains(&"BackOff") && reasons.contains(&"ScalingReplicaSet"), "{reasons:?}");
    let key = containers[0].split_once('/').unwrap().1;
    assert_eq!(bundle["log_tails"][key], json!(["starting", "DB_PASSWORD=***", "boom"]));
    assert_eq!(bundle["log_tails"][format!("{key} (previous)")], json!(["the one before"]));
    assert!(bundle["resources"].as_array().unwrap().iter().any(|it| it["kind"] == "Deployment"));
    let states: Vec<&str> =
        bundle["collection"].as_array().unwrap().iter().filter_map(|it| it["state"].as_str()).collect();
    assert!(states.iter().all(|it| *it == "ok"), "{bundle:#}");
    agent.stop().await;
}

#[tokio::test]
async fn a_log_that_hangs_keeps_nothing_else_back_and_empty_is_not_failed() {
    let (cluster, server, containers) = crashing().await;
    cluster.log(&containers[0], Log::Hangs);
    cluster.log(&format!("{}:previous", containers[0]), Log::Text(String::new()));
    cluster.log(&containers[1], Log::Text("unable to retrieve container logs for containerd://x".to_owned()));
    cluster.log(
        &format!("{}:previous", containers[1]),
        Log::Refused("previous terminated container not found".to_owned()),
    );
    let _agent = started(&cluster, &server).await;
    server.ask("r1", ID);
    let result = server.result("r1").await;
    let name = |n: usize| containers[n].split_once('/').unwrap().1.to_owned();
    let state = |holding: &str| part(&result, holding)["state"].as_str().unwrap().to_owned();
    let exact = |of: String| {
        let parts = result["result"]["collection"].as_array().unwrap();
        parts.iter().find(|it| it["part"] == json!(format!("logs {of}"))).unwrap().clone()
    };
    assert!(exact(name(0))["error"].as_str().unwrap().contains("no answer"));
    assert_eq!(exact(format!("{} (previous)", name(0)))["state"], "empty");
    assert!(exact(name(1))["error"].as_str().unwrap().contains("containerd://x"));
    assert!(exact(format!("{} (previous)", name(1)))["error"].as_str().unwrap().contains("not found"));
    assert_eq!(state("events"), "ok");
    assert!(!result["result"]["pod_statuses"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn what_may_not_be_asked_is_told_with_the_reason() {
    let (cluster, server, _) = crashing().await;
    let _agent = started(&cluster, &server).await;
    cluster.fault("/events?limit", Some(Fault::Forbidden));
    cluster.fault("/log?", Some(Fault::Forbidden));
    server.ask("r1", ID);
    let result = server.result("r1").await;
    for holding in ["events", "logs"] {
        assert!(part(&result, holding)["error"].as_str().unwrap().contains("forbidden"));
    }
    assert_eq!(part(&result, "pod ")["state"], "ok");
}

#[tokio::test]
async fn without_a_stream_requests_are_found_by_asking() {
    let (cluster, server, _) = crashing().await;
    server.lock().no_stream = true;
    let _agent = started(&cluster, &server).await;
    let begun = Instant::now();
    server.ask("r1", ID);
    assert_eq!(server.result("r1").await["status"], "completed");
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_request_for_what_the_agent_is_not_given_fails_and_several_are_answered_once_each() {
    let (cluster, server, _) = crashing().await;
    let _agent = started(&cluster, &server).await;
    server.ask("r0", "nobody-s");
    for n in 1..6 {
        server.ask(&format!("r{n}"), ID);
    }
    let refused = server.result("r0").await;
    assert_eq!(refused["status"], "failed");
    for n in 1..6 {
        assert_eq!(server.result(&format!("r{n}")).await["status"], "completed");
    }
    assert_eq!(server.lock().results.len(), 6);
}

#[tokio::test]
async fn with_diagnostics_disabled_a_request_fails_at_once() {
    let (cluster, server, _) = crashing().await;
    let mut options = options();
    options.diagnostics = false;
    let _agent = agent(&cluster, &server, options).await;
    server.ask("r1", ID);
    assert_eq!(server.result("r1").await, json!({"status": "failed", "error": "diagnostics_disabled"}));
}
