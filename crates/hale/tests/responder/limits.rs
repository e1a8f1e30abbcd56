//! Queues, duplicates, expiry, workers (R4–R6): bounds hold and nobody is starved.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::harness::{Bench, Responder, alert, declared, group};

#[test]
fn ten_thousand_alerts_over_fifty_clusters_keep_the_bounds_and_starve_nobody() {
    let bench = Bench::new();
    let program = bench.script(
        "run.sh",
        "echo \"$HALE_CLUSTER $HALE_NAME\" >> $DIR/ran\nwhile [ ! -e $DIR/go ]; do sleep 0.05; done",
    );
    let names: Vec<String> = (0..50).map(|n| format!("c{n:02}")).collect();
    let clusters: Vec<&str> = names.iter().map(String::as_str).collect();
    let rules = format!("{{name: all, run: {{command: [\"{}\"]}}}}", program.display());
    let responder = Responder::start(&bench, &declared(&clusters, &rules, ""), &[]);
    // Each cluster first has one, so that every one is there when the storm comes.
    for half in 0..2 {
        for cluster in &clusters {
            let pods = (0..100).map(|n| format!("pod-{half}-{n:03}"));
            assert_eq!(responder.post(cluster, &group(pods)), 202);
            assert!(bench.lines("ran").len() <= 5, "more than five at once");
        }
    }
    let sum = |name: &str| -> f64 {
        clusters
            .iter()
            .map(|it| responder.figure(&format!("hale_responder_{name}{{cluster=\"{it}\"}}")))
            .sum()
    };
    let received: f64 = clusters
        .iter()
        .map(|it| {
            responder.figure(&format!(
                "hale_responder_events_received_total{{cluster=\"{it}\",severity=\"critical\"}}"
            ))
        })
        .sum();
    assert_eq!(received, 10_000.0);
    let (depth, dropped, active) =
        (sum("queue_depth"), sum("circuit_breaker_events_dropped_total"), sum("agents_active"));
    assert!(depth <= 100.0 && active <= 5.0, "{depth} wait, {active} run");
    assert_eq!(dropped + depth + active, 10_000.0, "every one of them is somewhere");
    for cluster in &clusters {
        let depth = responder.figure(&format!("hale_responder_queue_depth{{cluster=\"{cluster}\"}}"));
        assert!((1.0..=10.0).contains(&depth), "{cluster}, crowded out by others or over its bound: {depth}");
    }
    std::fs::write(bench.path("go"), "").unwrap();
    responder.wait("all have run", || bench.lines("ran").len() as f64 >= depth + active);
    let mut of_cluster: BTreeMap<String, u32> = BTreeMap::new();
    for line in bench.lines("ran") {
        *of_cluster.entry(line.split(' ').next().unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!(of_cluster.len(), 50, "each cluster had its turn: {of_cluster:?}");
}

#[test]
fn one_run_per_cluster_at_a_time_and_round_robin_over_clusters() {
    let bench = Bench::new();
    let program = bench.script(
        "run.sh",
        "echo \"+ $HALE_CLUSTER $HALE_NAME\" >> $DIR/ran\nsleep 0.2\necho \"- $HALE_CLUSTER\" >> $DIR/ran",
    );
    let rules = format!("{{name: all, run: {{command: [\"{}\"]}}}}", program.display());
    let responder = Responder::start(&bench, &declared(&["eu", "us"], &rules, "maxConcurrentRuns: 1"), &[]);
    for n in 0..3 {
        responder.alert("eu", &format!("pod-{n}"));
    }
    responder.alert("us", "pod-0");
    responder.wait("all have run", || bench.lines("ran").len() == 8);
    let ran = bench.lines("ran");
    let mut now = 0;
    for line in &ran {
        now += if line.starts_with('+') { 1 } else { -1 };
        assert!((0..=1).contains(&now), "{ran:?}");
    }
    let us = ran.iter().position(|it| it == "+ us pod-0").unwrap();
    assert!(us <= 4, "a cluster with one alert waits for one run of the other at most: {ran:?}");
}

#[test]
fn duplicates_are_attached_and_share_the_outcome_of_the_run() {
    let bench = Bench::new();
    let program =
        bench.script("run.sh", "echo $HALE_NAME >> $DIR/ran\nwhile [ ! -e $DIR/go ]; do sleep 0.05; done");
    let rules = format!("{{name: all, run: {{command: [\"{}\"]}}}}", program.display());
    let responder = Responder::start(&bench, &declared(&["eu"], &rules, ""), &[]);
    responder.alert("eu", "web");
    let run = responder.wait_run("web", "running");
    responder.alert("eu", "web");
    // Another fault of the same resource while a run is going on.
    let mut other = alert("web");
    other["faultType"] = "OutOfMemory".into();
    assert_eq!(responder.post("eu", &other), 202);
    std::fs::write(bench.path("go"), "").unwrap();
    let ended = responder.wait_run("web", "succeeded");
    assert_eq!((&ended["id"], &ended["duplicates"]), (&run["id"], &Value::from(2)));
    // Within the window, though nothing runs any more.
    responder.alert("eu", "web");
    assert_eq!(
        responder.figure("hale_responder_events_filtered_total{cluster=\"eu\",reason=\"duplicate\"}"),
        3.0
    );
    assert_eq!(bench.lines("ran"), ["web"]);
    assert_eq!(responder.runs().len(), 1);
}

#[test]
fn what_is_no_alert_or_too_mild_or_wanted_by_no_rule_is_dropped_with_its_reason() {
    let bench = Bench::new();
    let program = bench.script("run.sh", "echo $HALE_NAME >> $DIR/ran");
    let rules = format!(
        "{{name: pods, match: {{kinds: [Pod], namespaces: [\"shop-*\", shop], labels: {{env: \"te*\"}}}}, \
         run: {{command: [\"{}\"]}}}}",
        program.display()
    );
    let responder = Responder::start(&bench, &declared(&["eu"], &rules, ""), &[]);
    let mut mild = alert("mild");
    mild["severity"] = "info".into();
    let mut wrong = alert("wrong");
    wrong["severity"] = "loud".into();
    let mut elsewhere = alert("elsewhere");
    elsewhere["resource"]["namespace"] = "kitchen".into();
    let mut node = alert("node");
    node["resource"]["kind"] = "Node".into();
    for (body, status) in [(&mild, 202), (&elsewhere, 202), (&node, 202), (&wrong, 400)] {
        assert_eq!(responder.post("eu", body), status, "{body}");
    }
    responder.alert("eu", "right");
    responder.wait_run("right", "succeeded");
    let filtered = |reason: &str| {
        responder
            .figure(&format!("hale_responder_events_filtered_total{{cluster=\"eu\",reason=\"{reason}\"}}"))
    };
    assert_eq!([filtered("severity"), filtered("no_rule"), filtered("invalid")], [1.0, 2.0, 1.0]);
    assert_eq!(bench.lines("ran"), ["right"]);
}

#[test]
fn a_full_queue_that_rejects_says_so_to_the_sender() {
    let bench = Bench::new();
    let program = bench.script("run.sh", "while [ ! -e $DIR/go ]; do sleep 0.05; done");
    let rules = format!("{{name: all, run: {{command: [\"{}\"]}}}}", program.display());
    let responder =
        Responder::start(&bench, &declared(&["eu"], &rules, "queueSize: 1, overflow: reject"), &[]);
    responder.alert("eu", "one");
    responder.wait_run("one", "running");
    responder.alert("eu", "two");
    assert_eq!(responder.post("eu", &alert("three")), 429);
    assert_eq!(responder.figure("hale_responder_circuit_breaker_state{breaker=\"capacity\"}"), 1.0);
    let (status, why) = responder.healthy("/readyz");
    assert_eq!(status, 503);
    assert!(why.lines().any(|it| it.contains("capacity")), "{why}");
    std::fs::write(bench.path("go"), "").unwrap();
    responder.wait_run("two", "succeeded");
    responder.wait("it is ready again", || responder.healthy("/readyz").0 == 200);
    responder.alert("eu", "three");
    responder.wait_run("three", "succeeded");
}
