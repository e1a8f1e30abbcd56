//! Servers killed at the worst moments (O7): nothing acknowledged is lost, nobody is restarted, traffic goes on.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    api,
    cluster::Cluster,
    flows::Site,
    load::Load,
    part::marked,
    process::{hale, kill, pid_of, wait_until},
};

#[test]
fn a_server_killed_during_heartbeats_restarts_nobody_and_misses_nothing_meanwhile() {
    let mut site = Site::start();
    let before: Vec<Value> = ["web-0", "web-1"].iter().map(|name| site.replica(name)).collect();
    let load = Load::start(site.port, 4, "GET");
    load.wait_more(200);
    site.cluster.servers.get_mut("s1").unwrap().part.kill();

    // Without a server: traffic goes on, and a replica that dies is restarted by its node alone.
    load.wait_more(200);
    kill("KILL", pid_of(&before[0]));
    load.wait_more(1000);
    site.cluster.server("s1");
    let back = site
        .cluster
        .wait_replica("web-0", "ready anew", |it| it["ready"] == true && it["pid"] != before[0]["pid"]);
    load.wait_more(200);
    let (asked, failures) = load.finish();
    assert!(failures.is_empty(), "{} of {asked} requests failed: {failures:?}", failures.len());

    // What happened meanwhile is told once, from the node's spool.
    assert_eq!(
        (&back["restarts"], &back["generation"]),
        (&Value::from(1), &before[0]["generation"]),
        "{back:#}"
    );
    assert_eq!(site.wait_events("replica.exited", "web-0", 1).len(), 1);
    assert_eq!(site.wait_events("replica.restarted", "web-0", 1).len(), 1);

    // And the one that nothing happened to was not touched, nor told to have been.
    let untouched = site.replica("web-1");
    for field in ["pid", "restarts", "generation", "incarnation", "started_at"] {
        assert_eq!(untouched[field], before[1][field], "{field}: {untouched:#}");
    }
    assert_eq!(site.events.of("replica.not_ready", "web-1"), Vec::<Value>::new());
    assert_eq!(site.events.of("node.lost", "b"), Vec::<Value>::new());
    site.cluster.assert_stream_is_record(&site.events);
}

/// A workload of one process that does nothing, with the test's mark.
fn sleeper(cluster: &Cluster, name: &str, replicas: u32) -> String {
    format!(
        "kind: Workload\nname: {name}\nreplicas: {replicas}\nprocess: {{command: [sleep, \"699699\"], env: \
         {{HALE_TEST_MARK: \"{}\"}}}}\n",
        cluster.mark()
    )
}

#[test]
fn a_server_killed_while_placing_loses_nothing_it_acknowledged_and_places_nothing_twice() {
    let mut cluster = Cluster::start(&["a", "b"]);
    let events = cluster.follow_events();
    let mut acknowledged = BTreeMap::new();
    for round in 0..3 {
        let end = Instant::now() + Duration::from_millis(900);
        let mut at = 0;
        while Instant::now() < end {
            let name = format!("job-{round}-{at}");
            let file = cluster.path(&format!("{name}.yaml"));
            fs::write(&file, sleeper(&cluster, &name, 2)).unwrap();
            if cluster.cli(&["apply", file.to_str().unwrap()]).status.success() {
                acknowledged.insert(name, 2_usize);
            }
            at += 1;
        }
        // In the middle of placing what was just applied.
        cluster.servers.get_mut("s1").unwrap().part.kill();
        cluster.server("s1");
    }
    assert!(acknowledged.len() >= 3, "{acknowledged:?}");
    let told = || -> BTreeMap<String, usize> {
        let status = cluster.get("/api/v1/status");
        let running = |it: &Value| {
            it["replicas"].as_array().unwrap().iter().filter(|it| it["phase"] == "running").count()
        };
        let workloads = status["workloads"].as_array().unwrap();
        workloads.iter().map(|it| (it["name"].as_str().unwrap().to_owned(), running(it))).collect()
    };
    // One that was being applied when the server died may or may not be there: its client was told nothing.
    let as_acknowledged = || {
        let told = told();
        acknowledged.iter().all(|(name, count)| told.get(name) == Some(count))
    };
    wait_until("all that was acknowledged runs", as_acknowledged);
    let replicas: usize = told().values().sum();
    wait_until("each replica is one process", || sleeping(&cluster) == replicas);
    // Nor is there one more once all has settled: generations are unique.
    let replicas = cluster.replicas();
    let mut generations: Vec<_> = replicas.iter().map(|it| it["generation"].as_u64().unwrap()).collect();
    generations.sort_unstable();
    generations.dedup();
    assert_eq!(generations.len(), replicas.len(), "{replicas:#?}");
    assert_eq!(sleeping(&cluster), replicas.len());
    cluster.assert_stream_is_record(&events);
}

/// How many of the sleepers' processes there are.
fn sleeping(cluster: &Cluster) -> usize {
    let is_sleeper = |pid: &u32| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).replace('\0', " ").contains("sleep 699699"))
    };
    marked(cluster.mark()).iter().filter(|pid| is_sleeper(pid)).count()
}

#[test]
fn a_token_of_one_agent_can_do_nothing_to_another_s_node() {
    let cluster = Cluster::start(&["a"]);
    cluster.apply(&sleeper(&cluster, "job", 1));
    let before = cluster.wait_replica("job-0", "running", |it| it["phase"] == "running");
    let token = cluster.token("agent", Some("b"));

    // It can't be the other node.
    let mut command = hale();
    command
        .args(["agent", "--server", &cluster.urls(), "--name", "a", "--log", "info"])
        .args(["--health-listen", "127.0.0.1:0", "--token-file"])
        .arg(&token)
        .arg("--data-dir")
        .arg(cluster.path("impostor"))
        .env("HALE_TEST_MARK", cluster.mark());
    let mut impostor = crate::part::Part::start("impostor", command);
    impostor.wait_line("not_allowed");
    drop(impostor);

    // Nor can it ask or change anything by the API.
    let text = fs::read_to_string(&token).unwrap();
    let at = cluster.address("s1");
    for (method, path) in [
        ("POST", "/api/v1/replicas/job-0/restart"),
        ("POST", "/api/v1/workloads/job/stop"),
        ("DELETE", "/api/v1/workloads/job"),
        ("POST", "/api/v1/nodes/a/drain"),
        ("DELETE", "/api/v1/nodes/a"),
        ("POST", "/api/v1/tokens"),
    ] {
        let answer =
            api::ask(at, text.trim(), method, path, Some(&Value::Object(serde_json::Map::new()))).unwrap();
        assert!(matches!(answer.status, 403..=405), "{method} {path}: {answer:?}");
        assert_ne!(answer.status, 200);
    }
    for args in [&["restart", "job-0"][..], &["delete", "workload", "job"], &["scale", "job", "0"]] {
        let output = cluster.cli_as(&token, args);
        assert_eq!(output.status.code(), Some(5), "hale {args:?}: {output:?}");
    }
    let after = cluster.replica("job-0");
    assert_eq!((&after["pid"], &after["generation"]), (&before["pid"], &before["generation"]));
    assert_eq!(cluster.node("a")["condition"], "ready", "the real one was not pushed out");
}
