//! The three flows: liveness, readiness, and the full circle with traffic running, each followed from the node over
//! the beat to the API, the registry, the gateway and the events.

use std::time::Instant;

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    cluster::Cluster,
    events::EventReader,
    load::{Load, body_of, post},
    process::{free_port, hale, kill, pid_of, wait_until},
};

/// A service of so many replicas, with both probes, that listens at a gateway.
pub(crate) fn web(cluster: &Cluster, replicas: u32, listen: u16) -> String {
    let hale = hale().get_program().to_str().unwrap().to_owned();
    format!(
        r#"
kind: Workload
name: web
replicas: {replicas}
process:
  command: ["{hale}", "demo-web"]
  env: {{HALE_TEST_MARK: "{mark}"}}
ports: [{{name: http, port: 0}}]
startupProbe: {{httpGet: {{path: /healthz, port: http}}, periodSeconds: 0.1, failureThreshold: 300}}
livenessProbe: {{httpGet: {{path: /healthz, port: http}}, periodSeconds: 0.2, failureThreshold: 3}}
readinessProbe: {{httpGet: {{path: /readyz, port: http}}, periodSeconds: 0.1, failureThreshold: 1}}
restart: {{initialBackoff: 100ms, maxBackoff: 100ms, maxRestarts: 1000}}
service: {{name: web, port: http, listen: "127.0.0.1:{listen}", balance: round-robin}}
"#,
        mark = cluster.mark()
    )
}

/// A cluster of two nodes that serves `web` with two replicas through a gateway.
pub(crate) struct Site {
    pub(crate) cluster: Cluster,
    pub(crate) events: EventReader,
    /// Where the gateway listens for `web`.
    pub(crate) port: u16,
}

impl Site {
    pub(crate) fn start() -> Self {
        let mut cluster = Cluster::start(&["a", "b"]);
        let (events, port) = (cluster.follow_events(), free_port());
        cluster.gateway("edge");
        cluster.apply(&web(&cluster, 2, port));
        cluster.wait_ready("web", 2);
        let site = Self { cluster, events, port };
        site.wait_served(&["web-0", "web-1"]);
        site
    }

    pub(crate) fn replica(&self, name: &str) -> Value {
        self.cluster.replica(name)
    }

    /// The port that a replica listens on itself.
    pub(crate) fn http(&self, name: &str) -> u16 {
        http(&self.replica(name))
    }

    /// Waits until requests through the gateway are answered by just these, one after the other.
    pub(crate) fn wait_served(&self, wanted: &[&str]) {
        let mut last = Vec::new();
        let served = crate::process::wait_for(|| {
            last = self.who_answers();
            if last == wanted { Ok(()) } else { Err(None) }
        });
        served.unwrap_or_else(|_| panic!("served by {last:?}, not {wanted:?}\n{}", self.cluster.output()));
    }

    /// Who answers eight requests through the gateway.
    fn who_answers(&self) -> Vec<String> {
        let answers = (0..8).map(|_| body_of(self.port, "/").unwrap_or_else(|error| error.to_string()));
        let mut names: Vec<String> =
            answers.map(|it| it.split(' ').next().unwrap_or_default().to_owned()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// The endpoint of a replica, as the API tells it.
    pub(crate) fn endpoint(&self, replica: &str) -> Value {
        let set = self.cluster.endpoints("web");
        let endpoints = set["endpoints"].as_array().unwrap();
        endpoints.iter().find(|it| it["replica"] == replica).cloned().unwrap_or_default()
    }

    pub(crate) fn wait_endpoint(&self, replica: &str, ready: bool) -> Value {
        let what = format!("the endpoint of {replica} is ready: {ready}");
        self.cluster.wait(&what, || self.endpoint(replica), |it| it["ready"] == ready)
    }

    /// Waits until so many events of a kind were told.
    pub(crate) fn wait_events(&self, kind: &str, subject: &str, count: usize) -> Vec<Value> {
        let look = || Value::Array(self.events.of(kind, subject));
        let seen = self.cluster.wait(&format!("{count} {kind} of {subject}"), look, |seen| {
            seen.as_array().unwrap().len() >= count
        });
        seen.as_array().unwrap().clone()
    }

    /// Every node is heard of: its last beat came after this moment.
    pub(crate) fn wait_beats_after(&self, moment: Timestamp) {
        for node in ["a", "b"] {
            let beaten = |node: &Value| {
                let at = node["last_heartbeat_at"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
                at.is_some_and(|at| at > moment) && node["condition"] == "ready"
            };
            self.cluster.wait(&format!("a beat of {node}"), || self.cluster.node(node), beaten);
        }
    }
}

pub(crate) fn http(replica: &Value) -> u16 {
    let port = replica["ports"]["http"].as_u64().unwrap_or_else(|| panic!("no port in {replica:#}"));
    u16::try_from(port).unwrap()
}

#[test]
fn a_failing_liveness_restarts_once_and_is_told_everywhere() {
    let site = Site::start();
    let before = site.replica("web-0");
    let other = site.replica("web-1");
    assert_ne!(before["node"], other["node"], "replicas are spread over nodes: {before:#} {other:#}");
    let endpoint = site.wait_endpoint("web-0", true);
    let begin = Timestamp::now();
    assert_eq!(post(http(&before), "/break/live"), 200);

    // The node restarts it, and its beat tells.
    let unhealthy = &site.wait_events("replica.unhealthy", "web-0", 1)[0];
    assert_eq!(unhealthy["data"]["node"], before["node"], "{unhealthy:#}");
    let restarted = &site.wait_events("replica.restarted", "web-0", 1)[0];
    assert_eq!(restarted["data"]["cause"], "liveness_failure", "{restarted:#}");
    site.wait_beats_after(begin);

    // The API tells the new process, and why.
    let after = site.cluster.wait_replica("web-0", "ready again", |it| {
        it["ready"] == true && it["phase"] == "running" && it["pid"] != before["pid"]
    });
    assert_eq!(after["restarts"], 1, "{after:#}");
    assert_eq!(after["generation"], before["generation"], "a restart is no new placement: {after:#}");
    assert_eq!(after["node"], before["node"]);
    site.cluster.wait_replica("web-0", "its liveness is told", |it| it["probes"]["liveness"]["ok"] == true);

    // The registry has the new run, and nobody else was touched.
    let now = site.cluster.wait(
        "the new run",
        || site.endpoint("web-0"),
        |it| it["ready"] == true && it["incarnation"] != endpoint["incarnation"],
    );
    assert_eq!(now["port"].as_u64(), Some(u64::from(http(&after))));
    site.wait_served(&["web-0", "web-1"]);
    assert_eq!(pid_of(&site.replica("web-1")), pid_of(&other));

    // An outcome of the old run restarts nobody again: some beats and many probes later there is one restart.
    site.wait_beats_after(Timestamp::now());
    site.wait_beats_after(Timestamp::now());
    assert_eq!(site.replica("web-0")["restarts"], 1);
    assert_eq!(site.events.of("replica.restarted", "web-0").len(), 1);
    site.cluster.assert_stream_is_record(&site.events);
}

#[test]
fn a_failing_readiness_takes_the_endpoint_out_everywhere_and_back_in() {
    let site = Site::start();
    let before = site.replica("web-0");
    let sampler = site.cluster.sample("web");
    let begin = Timestamp::now();
    assert_eq!(post(http(&before), "/break/ready"), 200);

    site.wait_endpoint("web-0", false);
    let out_since = Instant::now();
    let out = site.cluster.wait_replica("web-0", "not ready", |it| it["ready"] == false);
    assert_eq!(out["phase"], "running", "readiness never restarts: {out:#}");
    assert_eq!(out["pid"], before["pid"]);
    site.wait_served(&["web-1"]);
    let told = &site.wait_events("replica.not_ready", "web-0", 1)[0];
    assert_eq!(told["data"]["node"], before["node"], "{told:#}");
    site.wait_beats_after(begin);
    let while_out = sampler.since(out_since);
    assert!(!while_out.is_empty());
    for sample in while_out {
        assert!(
            !sample.ready.iter().any(|it| it.starts_with("web-0@")),
            "served while not ready: {sample:?}"
        );
        assert!(
            sample.ready.iter().any(|it| it.starts_with("web-1@")),
            "the ready one is served: {sample:?}"
        );
    }

    assert_eq!(post(http(&before), "/mend/ready"), 200);
    site.wait_endpoint("web-0", true);
    site.wait_served(&["web-0", "web-1"]);
    let back = site.replica("web-0");
    assert_eq!((&back["pid"], &back["restarts"]), (&before["pid"], &Value::from(0)), "{back:#}");
    site.wait_events("replica.ready", "web-0", 2);
    site.cluster.assert_stream_is_record(&site.events);
}

#[test]
fn the_full_circle_with_traffic_running_loses_no_request() {
    let site = Site::start();
    let load = Load::start(site.port, 4, "GET");
    load.wait_more(200);

    // Out and in by readiness.
    assert_eq!(post(site.http("web-0"), "/break/ready"), 200);
    site.wait_endpoint("web-0", false);
    load.wait_more(200);
    assert_eq!(post(site.http("web-0"), "/mend/ready"), 200);
    site.wait_endpoint("web-0", true);

    // Restarted by liveness.
    let before = site.replica("web-1");
    assert_eq!(post(http(&before), "/break/live"), 200);
    site.wait_events("replica.restarted", "web-1", 1);
    site.cluster.wait_replica("web-1", "ready anew", |it| it["ready"] == true && it["pid"] != before["pid"]);
    load.wait_more(200);

    // Killed.
    let before = site.replica("web-0");
    kill("KILL", pid_of(&before));
    site.cluster.wait_replica("web-0", "ready anew", |it| it["ready"] == true && it["pid"] != before["pid"]);
    load.wait_more(200);

    // Restarted by a person, replica by replica.
    let before = [pid_of(&site.replica("web-0")), pid_of(&site.replica("web-1"))];
    site.cluster.ok(&["restart", "web"]);
    for (name, before) in ["web-0", "web-1"].into_iter().zip(before) {
        site.cluster.wait_replica(name, "ready anew", |it| it["ready"] == true && pid_of(it) != before);
    }
    load.wait_more(200);

    let (asked, failures) = load.finish();
    assert!(
        failures.is_empty(),
        "{} of {asked} requests failed: {:?}\n{}",
        failures.len(),
        &failures[..failures.len().min(5)],
        site.cluster.output()
    );
    assert!(asked > 1000, "only {asked} requests were asked");
    site.wait_served(&["web-0", "web-1"]);
    site.cluster.assert_stream_is_record(&site.events);
}

#[test]
fn scaling_and_deleting_reach_the_gateway_without_losing_a_request() {
    let site = Site::start();
    let load = Load::start(site.port, 2, "GET");
    load.wait_more(100);
    site.cluster.ok(&["scale", "web", "3"]);
    site.cluster.wait_ready("web", 3);
    site.wait_served(&["web-0", "web-1", "web-2"]);
    site.cluster.ok(&["scale", "web", "1"]);
    site.wait_served(&["web-0"]);
    load.wait_more(100);
    let (asked, failures) = load.finish();
    assert!(failures.is_empty(), "{} of {asked}: {failures:?}", failures.len());
    let pid = pid_of(&site.replica("web-0"));
    site.cluster.ok(&["delete", "workload", "web"]);
    wait_until("its process has ended", || !crate::process::alive(pid));
    wait_until("the gateway does not listen any more", || {
        std::net::TcpStream::connect(("127.0.0.1", site.port)).is_err()
    });
    site.cluster.assert_stream_is_record(&site.events);
}
