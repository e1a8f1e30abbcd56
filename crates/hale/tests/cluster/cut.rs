//! A node whose network is cut and healed (S6, S9, O7): its replicas are served and run elsewhere, and no double run
//! remains. Needs root, for network namespaces.

use std::time::Instant;

use serde_json::Value;

use crate::{
    cluster::Cluster,
    events::EventReader,
    netns::{self, Host},
    process::{alive, hale, pid_of, wait_until},
    sampler::Sampler,
};

/// Two nodes on hosts of their own.
struct Wired {
    cluster: Cluster,
    hosts: [Host; 2],
    events: EventReader,
    sampler: Sampler,
}

impl Wired {
    /// `disconnect`: the workload's setting. `None` when there can be no hosts here, which is said.
    fn start(first: u8, disconnect: &str) -> Option<Self> {
        if let Some(why) = netns::unable() {
            eprintln!("skipped: no network namespaces can be made here: {why}");
            return None;
        }
        let hosts = [Host::new(first), Host::new(first + 1)];
        let mut cluster = Cluster::empty();
        cluster.server_args = vec!["--insecure-http".to_owned()];
        cluster.server_at("s1", "0.0.0.0:0");
        let port = cluster.address("s1").port();
        cluster.servers.get_mut("s1").unwrap().address = ([127, 0, 0, 1], port).into();
        for (node, host) in ["a", "b"].into_iter().zip(&hosts) {
            let server = format!("http://{}:{port}", host.gateway());
            let address = host.address();
            cluster.agent_at(node, &server, |agent| host.run(&agent), &["--address", &address]);
        }
        cluster.wait_nodes_ready(&["a", "b"]);
        let events = cluster.follow_events();
        let exe = hale().get_program().to_str().unwrap().to_owned();
        cluster.apply(&format!(
            r#"
kind: Workload
name: web
replicas: 2
process: {{command: ["{exe}", "demo-web", "--host", "0.0.0.0"], env: {{HALE_TEST_MARK: "{mark}"}}}}
ports: [{{name: http, port: 0}}]
readinessProbe: {{httpGet: {{path: /readyz, port: http}}, periodSeconds: 0.1}}
disconnect: {disconnect}
service: {{name: web, port: http}}
"#,
            mark = cluster.mark()
        ));
        cluster.wait_ready("web", 2);
        let sampler = cluster.sample("web");
        Some(Self { cluster, hosts, events, sampler })
    }

    fn host(&self, node: &str) -> &Host {
        &self.hosts[usize::from(node == "b")]
    }
}

#[test]
fn a_node_cut_off_is_replaced_and_no_double_run_remains_after_the_heal() {
    let Some(wired) = Wired::start(10, "{replaceAfter: 1s}") else { return };
    let cluster = &wired.cluster;
    let before = cluster.replica("web-0");
    let (node, pid) = (before["node"].as_str().unwrap().to_owned(), pid_of(&before));
    let old = format!("web-0@{node}/{}", before["generation"]);
    wired.host(&node).cut();
    cluster.wait_node(&node, "lost");
    let lost = Instant::now();
    let moved = cluster
        .wait_replica("web-0", "ready elsewhere", |it| it["ready"] == true && it["node"] != node.as_str());
    assert!(alive(pid), "cut off, its copy runs on");
    assert!(cluster.ok(&["status"]).contains(&node), "and people are told where it may");
    let until_heal = wired.sampler.since(lost);
    assert!(!until_heal.is_empty());
    for sample in until_heal {
        assert!(!sample.ready.contains(&old), "an endpoint that can't be reached is served: {sample:?}");
        assert!(!sample.ready.is_empty(), "the set of endpoints was emptied: {sample:?}");
    }

    wired.host(&node).heal();
    cluster.wait_node(&node, "ready");
    wait_until("the old one has ended", || !alive(pid));
    let after = cluster.replica("web-0");
    assert_eq!(
        (&after["pid"], &after["generation"], &after["restarts"]),
        (&moved["pid"], &moved["generation"], &Value::from(0)),
        "the replacement was not touched: {after:#}"
    );
    cluster.wait_ready("web", 2);
    for sample in wired.sampler.finish() {
        let names: Vec<&str> = sample.ready.iter().map(|it| it.split('@').next().unwrap()).collect();
        assert!(names.len() <= 2, "two generations of one replica were served at once: {sample:?}");
    }
    wired.cluster.assert_stream_is_record(&wired.events);
}

#[test]
fn with_stop_after_a_cut_off_node_stops_its_replica_before_another_runs() {
    let Some(wired) = Wired::start(20, "{replaceAfter: 1s, stopAfter: 2s}") else { return };
    let cluster = &wired.cluster;
    let before = cluster.replica("web-0");
    let (node, pid) = (before["node"].as_str().unwrap().to_owned(), pid_of(&before));
    wired.host(&node).cut();
    let look = || {
        // Whether the old one lives is looked at first: it may not come back to life meanwhile.
        let lives = alive(pid);
        let now = cluster.replica("web-0");
        serde_json::json!({"old_lives": lives, "new": now})
    };
    let both = |seen: &Value| {
        let new = &seen["new"];
        let runs = new["generation"] != before["generation"] && !new["pid"].is_null();
        assert!(!(runs && seen["old_lives"] == true), "both run: {seen:#}");
        runs && new["ready"] == true
    };
    cluster.wait("the new one is ready, and never both", look, both);
    assert!(!alive(pid));
    wired.host(&node).heal();
    cluster.wait_node(&node, "ready");
    cluster.wait_ready("web", 2);
    wired.cluster.assert_stream_is_record(&wired.events);
}
