//! Agents killed, gone for good, and half of all replicas failing at once (O7).

use std::{fs, time::Instant};

use serde_json::Value;

use crate::{
    cluster::Cluster,
    flows::{Site, http},
    load::{Load, post},
    part::marked,
    process::{alive, hale, kill, pid_of, wait_until},
};

#[test]
fn an_agent_that_is_killed_leaves_its_replicas_and_the_next_one_adopts_them() {
    let mut site = Site::start();
    let before = site.replica("web-0");
    let node = before["node"].as_str().unwrap().to_owned();
    let load = Load::start(site.port, 4, "POST");
    load.wait_more(200);
    site.cluster.agents.get_mut(&node).unwrap().kill();
    site.cluster.agent(&node);
    // It is known again when a new run of the agent beats.
    site.wait_beats_after(jiff::Timestamp::now());
    load.wait_more(200);
    let (asked, failures) = load.finish();
    assert!(failures.is_empty(), "{} of {asked} requests failed: {failures:?}", failures.len());
    let after = site.replica("web-0");
    for field in ["pid", "node", "generation", "incarnation", "restarts"] {
        assert_eq!(after[field], before[field], "{field}: {after:#}");
    }
    let started = |it: &Value| it["started_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    // It is told by another process, from the machine's time since boot.
    let apart = started(&after).duration_since(started(&before)).abs();
    assert!(apart < jiff::SignedDuration::from_secs(1), "{apart:?}: {after:#}");
    assert_eq!(after["ready"], true);
    assert_eq!(site.events.of("replica.restarted", "web-0"), Vec::<Value>::new());
    assert_eq!(site.events.of("replica.not_ready", "web-0"), Vec::<Value>::new(), "its restart is no flip");

    // What is adopted is looked after: its probes go on, and its exit status is known.
    assert_eq!(post(http(&after), "/break/ready"), 200);
    site.wait_endpoint("web-0", false);
    assert_eq!(post(http(&after), "/mend/ready"), 200);
    site.wait_endpoint("web-0", true);
    kill("KILL", pid_of(&after));
    let exited = &site.wait_events("replica.exited", "web-0", 1)[0];
    assert_eq!(exited["data"]["exit"]["signal"], 9, "{exited:#}");
    site.cluster.wait_replica("web-0", "ready anew", |it| it["ready"] == true && it["pid"] != before["pid"]);
    site.cluster.assert_stream_is_record(&site.events);
}

#[test]
fn an_agent_that_is_restarted_as_planned_is_away_and_its_replicas_serve_on() {
    let mut site = Site::start();
    let before = site.replica("web-0");
    let node = before["node"].as_str().unwrap().to_owned();
    let load = Load::start(site.port, 2, "POST");
    site.cluster.agents.get_mut(&node).unwrap().end("TERM");
    site.cluster.wait_node(&node, "away");
    load.wait_more(200);
    site.cluster.wait_ready("web", 2);
    assert_eq!(site.replica("web-0")["stale"], false, "it said that it would be away");
    site.cluster.agent(&node);
    site.cluster.wait_node(&node, "ready");
    load.wait_more(200);
    let (asked, failures) = load.finish();
    assert!(failures.is_empty(), "{} of {asked} requests failed: {failures:?}", failures.len());
    assert_eq!(site.replica("web-0")["pid"], before["pid"]);
    assert_eq!(site.events.of("replica.not_ready", "web-0"), Vec::<Value>::new());
    site.cluster.assert_stream_is_record(&site.events);
}

#[test]
fn a_node_that_stays_away_is_replaced_and_stops_its_old_ones_when_it_is_back() {
    let mut site = Site::start();
    let before = site.replica("web-0");
    let (node, pid) = (before["node"].as_str().unwrap().to_owned(), pid_of(&before));
    let sampler = site.cluster.sample("web");
    site.cluster.agents.get_mut(&node).unwrap().kill();
    site.cluster.wait_node(&node, "lost");
    let lost = Instant::now();
    let moved = site
        .cluster
        .wait_replica("web-0", "ready elsewhere", |it| it["ready"] == true && it["node"] != node.as_str());
    assert!(moved["generation"].as_u64() > before["generation"].as_u64(), "{moved:#}");
    assert!(alive(pid), "without its agent, the old one runs on: nobody told it to end");
    site.wait_served(&["web-0", "web-1"]);
    let old = format!("web-0@{node}/{}", before["generation"]);
    for sample in sampler.since(lost) {
        assert!(!sample.ready.contains(&old), "an endpoint of a lost node is served: {sample:?}");
        assert!(!sample.ready.is_empty(), "the set of endpoints was emptied: {sample:?}");
    }

    site.cluster.agent(&node);
    site.cluster.wait_node(&node, "ready");
    wait_until("the old one has ended", || !alive(pid));
    assert_eq!(pid_of(&site.replica("web-0")), pid_of(&moved), "the new one goes on");
    site.wait_events("node.lost", &node, 1);
    site.cluster.assert_stream_is_record(&site.events);
}

#[test]
fn a_replica_that_fails_where_it_is_comes_up_elsewhere_with_its_probes_and_ports() {
    let cluster = Cluster::start(&["a", "b"]);
    let events = cluster.follow_events();
    let exe = hale().get_program().to_str().unwrap().to_owned();
    // Where it is placed first it fails at each start, and nowhere else.
    let yaml = format!(
        r#"
kind: Workload
name: picky
process:
  command: ["sh", "-c", "test -e {dir}/bad || echo $HALE_GENERATION > {dir}/bad; read bad < {dir}/bad; test $bad != $HALE_GENERATION && exec {exe} demo-web; exit 4"]
  env: {{HALE_TEST_MARK: "{dir}"}}
ports: [{{name: http, port: 0}}]
livenessProbe: {{httpGet: {{path: /healthz, port: http}}, periodSeconds: 0.2, failureThreshold: 2}}
readinessProbe: {{httpGet: {{path: /readyz, port: http}}, periodSeconds: 0.1}}
restart: {{initialBackoff: 50ms, maxBackoff: 50ms, maxRestarts: 2}}
service: {{name: picky, port: http}}
"#,
        dir = cluster.mark()
    );
    cluster.apply(&yaml);
    let moved = cluster.wait_replica("picky-0", "ready elsewhere", |it| it["ready"] == true);
    let bad = fs::read_to_string(cluster.path("bad")).unwrap();
    assert!(moved["generation"].as_u64() > bad.trim().parse().ok(), "{moved:#}");
    let failed = events.of("replica.failed", "picky-0");
    assert_eq!(failed.len(), 1, "{failed:#?}");
    assert_ne!(moved["node"], failed[0]["data"]["node"], "{moved:#}");
    let set = cluster.endpoints("picky");
    assert_eq!(set["endpoints"][0]["port"].as_u64(), Some(u64::from(http(&moved))), "{set:#}");
    // It kept its liveness probe.
    assert_eq!(post(http(&moved), "/break/live"), 200);
    cluster.wait_replica("picky-0", "restarted there", |it| {
        it["ready"] == true && it["pid"] != moved["pid"] && it["node"] == moved["node"]
    });
    cluster.assert_stream_is_record(&events);
}

#[test]
fn when_half_of_all_fail_at_once_restarts_are_braked_and_the_ready_ones_untouched() {
    let cluster = Cluster::start(&["a", "b"]);
    let events = cluster.follow_events();
    let yaml = crate::flows::web(&cluster, 12, crate::process::free_port())
        .replace("restart: {", "maxConcurrentRestarts: 2\nrestart: {");
    cluster.apply(&yaml);
    cluster.wait_ready("web", 12);
    let before = cluster.replicas();
    let (broken, well): (Vec<&Value>, Vec<&Value>) =
        before.iter().partition(|it| it["name"].as_str().unwrap().contains(['0', '2', '4', '6', '8']));
    for replica in &broken {
        assert_eq!(post(http(replica), "/break/live"), 200);
    }
    let mut most = 0;
    wait_until("all are restarted and ready", || {
        let replicas = cluster.replicas();
        most = most.max(replicas.iter().filter(|it| it["restarting"] == true).count());
        let done = |old: &&Value| {
            replicas
                .iter()
                .any(|it| it["name"] == old["name"] && it["ready"] == true && it["pid"] != old["pid"])
        };
        broken.iter().all(done)
    });
    // Each node keeps to it by what it knows of the others; what both decide in the same moment adds up.
    assert!((1..=4).contains(&most), "{most} of {} were restarted at once", broken.len());
    for old in well {
        let now = cluster.replica(old["name"].as_str().unwrap());
        assert_eq!((&now["pid"], &now["restarts"]), (&old["pid"], &Value::from(0)), "{now:#}");
        assert_eq!(events.of("replica.not_ready", old["name"].as_str().unwrap()), Vec::<Value>::new());
    }
    for old in &broken {
        assert_eq!(
            events.of("replica.restarted", old["name"].as_str().unwrap()).len(),
            1,
            "once for one failure"
        );
    }
    cluster.assert_stream_is_record(&events);
}

#[test]
fn what_agents_leave_behind_ends_with_the_test() {
    let mut cluster = Cluster::start(&["a"]);
    cluster.apply(&crate::flows::web(&cluster, 1, crate::process::free_port()));
    cluster.wait_ready("web", 1);
    cluster.agents.get_mut("a").unwrap().kill();
    let mark = cluster.mark().to_owned();
    assert!(!marked(&mark).is_empty());
    drop(cluster);
    wait_until("nothing is left", || marked(&mark).is_empty());
}
