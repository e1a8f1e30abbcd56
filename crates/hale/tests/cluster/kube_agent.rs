//! `hale kube-agent` between a cluster's API and a real server, as a process (K1–K4, K8–K10): told, diagnosed, killed.

use std::{fs, path::Path};

use hale_testkit::kubernetes::{FakeCluster, Log, recorded};
use serde_json::{Value, json};

use crate::{cluster::Cluster, part::Part, process::hale};

/// A cluster in which a deployment crashes, a server that has it as the stack `shop`, and an agent between the two.
struct Site {
    runtime: tokio::runtime::Runtime,
    kubernetes: FakeCluster,
    cluster: Cluster,
    agent: Part,
}

fn crashing() -> Vec<Value> {
    recorded(Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../hale-kube/tests/objects/crashloopbackoff.json"
    )))
}

impl Site {
    fn start() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let kubernetes = runtime.block_on(FakeCluster::start());
        let deployment = crashing().into_iter().find(|it| it["kind"] == "Deployment").unwrap();
        let mut cluster = Cluster::empty();
        cluster.server("s1");
        cluster.ok(&["stack", "create", "shop", "--label", "team=payments"]);
        let file = cluster.path("shop.json");
        let manifest = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata":
            {"name": deployment["metadata"]["name"], "namespace": deployment["metadata"]["namespace"]}});
        fs::write(&file, manifest.to_string()).unwrap();
        cluster.ok(&["stack", "push", "shop", file.to_str().unwrap()]);
        let agent = run(&cluster, &kubernetes);
        Self { runtime, kubernetes, cluster, agent }
    }

    fn wait_status(&self, status: &str) -> Value {
        let look = || serde_json::from_str(&self.cluster.ok(&["status", "shop", "-o", "json"])).unwrap();
        self.cluster.wait(&format!("the stack is {status}\n{}", self.agent.output()), look, |it: &Value| {
            it["overall_status"] == status
        })
    }
}

/// The agent, as a user starts it.
fn run(cluster: &Cluster, kubernetes: &FakeCluster) -> Part {
    let token = cluster.token("agent", Some("prod"));
    let mut command = hale();
    command
        .args(["kube-agent", "--name", "prod", "--mode", "observe", "--match-label", "team=payments"])
        .args([
            "--health-check-interval",
            "1s",
            "--health-listen",
            "127.0.0.1:0",
            "--event-lookback",
            "200000h",
        ])
        .args(["--server", &cluster.urls(), "--token-file"])
        .arg(token)
        .env("KUBECONFIG", kubernetes.kubeconfig())
        .env("HALE_TEST_MARK", cluster.mark());
    Part::start("kube-agent", command)
}

#[test]
fn a_deployment_that_crashes_is_told_diagnosed_and_unknown_while_its_agent_is_dead() {
    let mut site = Site::start();
    for object in
        crashing().iter().filter(|it| it["kind"] != "Node" && it["apiVersion"] != "events.k8s.io/v1")
    {
        let _guard = site.runtime.enter();
        site.kubernetes.put(object.clone());
        if object["kind"] == "Pod" {
            let word = |value: &Value| value.as_str().unwrap().to_owned();
            let (namespace, name) =
                (word(&object["metadata"]["namespace"]), word(&object["metadata"]["name"]));
            let container = word(&object["spec"]["containers"][0]["name"]);
            let log = Log::Text("password=hunter22\nboom\n".to_owned());
            site.kubernetes.log(&format!("{namespace}/{name}/{container}"), log);
        }
    }
    let told = site.wait_status("failing");
    let object = &told["deployment_objects"][0];
    assert!(object["summary"]["conditions"].to_string().contains("CrashLoopBackOff"), "{told}");

    let diagnosed = site.cluster.ok(&["diagnose", "shop", "-o", "json"]);
    let diagnosed: Value = serde_json::from_str(&diagnosed).unwrap();
    assert_eq!(diagnosed["status"], "completed");
    let logs = diagnosed["result"]["log_tails"].to_string();
    assert!(logs.contains("boom") && !logs.contains("hunter22"), "{logs}");
    assert!(diagnosed["result"]["events"].to_string().contains("BackOff"), "{diagnosed}");

    // Silent for three of its intervals, and what it said is not known to hold any more.
    site.agent.kill();
    site.wait_status("unknown");
    site.agent = run(&site.cluster, &site.kubernetes);
    site.wait_status("failing");
    site.agent.end("TERM");
}
