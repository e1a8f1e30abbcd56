//! The agent between a cluster and a server: applying, watching, telling, and what goes wrong with each.

#![expect(clippy::unwrap_used, reason = "a test helper that can't help fails the test")]

mod support;

use std::time::Duration;

use hale_testkit::kubernetes::{FakeCluster, Fault, recorded};
use serde_json::{Value, json};
use support::{Server, agent, options, situation, until};

const OBJECT: &str = "hale.dev/deployment-object-id";

const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: web:1}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: shop}
data: {a: b}
";

/// Does what a cluster's controllers do: a replica set and pods of the deployment's template.
fn roll_out(cluster: &FakeCluster, namespace: &str, name: &str, ready: bool) {
    let mut deployment = cluster.get("Deployment", namespace, name).unwrap();
    let template = deployment["spec"]["template"].clone();
    let labels = template["metadata"]["labels"].clone();
    let count = u64::from(ready);
    let condition = json!({"type": "Available", "status": if ready { "True" } else { "False" }});
    deployment["status"] = json!({"observedGeneration": deployment["metadata"]["generation"], "replicas": 1,
        "updatedReplicas": 1, "readyReplicas": count, "availableReplicas": count, "conditions": [condition]});
    cluster.put(deployment.clone());
    let owner = |kind: &str, name: &str, uid: &Value| json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true}]);
    let set = format!("{name}-1");
    cluster.put(json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": set, "namespace": namespace, "labels": labels, "generation": 1,
            "ownerReferences": owner("Deployment", name, &deployment["metadata"]["uid"])},
        "spec": {"replicas": 1, "template": template},
        "status": {"observedGeneration": 1, "replicas": 1, "readyReplicas": count, "availableReplicas": count}}));
    let uid = cluster.get("ReplicaSet", namespace, &set).unwrap()["metadata"]["uid"].clone();
    let since = "2026-01-01T00:00:10Z";
    let state = if ready {
        json!({"running": {"startedAt": since}})
    } else {
        json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}})
    };
    let condition = |kind: &str, holds: bool| json!({"type": kind, "status": if holds { "True" } else { "False" }, "lastTransitionTime": since});
    cluster.put(json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("{set}-a"), "namespace": namespace, "labels": labels,
            "creationTimestamp": "2026-01-01T00:00:00Z", "ownerReferences": owner("ReplicaSet", &set, &uid)},
        "spec": {"nodeName": "n1", "containers": [{"name": "web"}]},
        "status": {"phase": "Running", "startTime": "2026-01-01T00:00:01Z",
            "conditions": [condition("PodScheduled", true), condition("Ready", ready), condition("ContainersReady", ready)],
            "containerStatuses": [{"name": "web", "ready": ready, "restartCount": u64::from(!ready) * 3,
                "state": state, "lastState": if ready { json!({}) } else {
                    json!({"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": since}}) }}]}}));
}

/// The manifests of a recorded deployment: its kind, namespace and name.
fn manifest_of(name: &str) -> String {
    let objects = recorded(&situation(name));
    let deployment = objects.iter().find(|it| it["kind"] == "Deployment").unwrap();
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": deployment["metadata"]["name"], "namespace": deployment["metadata"]["namespace"]}})
    .to_string()
}

fn conditions(entry: &Value) -> Vec<&str> {
    entry["summary"]["conditions"].as_array().unwrap().iter().filter_map(Value::as_str).collect()
}

fn messages(entry: &Value) -> String {
    entry["summary"]["resources"].to_string()
}

#[tokio::test]
async fn what_is_applied_and_its_pods_bear_the_label_and_so_their_health_is_known() {
    let (cluster, server) = (FakeCluster::start().await, Server::start().await);
    server.give("s1", "o1", WEB);
    let agent = agent(&cluster, &server, options()).await;
    let there = || cluster.get("Deployment", "shop", "web");
    let deployment = until("the deployment is applied", there).await;
    assert_eq!(deployment["metadata"]["labels"][OBJECT], "o1");
    assert_eq!(deployment["spec"]["template"]["metadata"]["labels"], json!({"app": "web", OBJECT: "o1"}));
    assert_eq!(deployment["metadata"]["managedFields"][0]["manager"], "hale");
    // The namespace came first, though it is written last.
    assert!(cluster.get("ConfigMap", "shop", "settings").is_some());
    roll_out(&cluster, "shop", "web", true);
    let entry = server.status("o1", "healthy").await;
    assert_eq!((&entry["summary"]["pods_ready"], &entry["summary"]["pods_total"]), (&json!(1), &json!(1)));
    let pod = cluster.get("Pod", "shop", "web-1-a").unwrap();
    assert_eq!(pod["metadata"]["labels"][OBJECT], "o1");
    assert!(agent.state.borrow().ready);
    agent.stop().await;
}

#[tokio::test]
async fn observing_finds_what_is_there_by_its_manifests_and_changes_nothing() {
    for (situation_name, status, condition) in [
        ("healthy", "healthy", None),
        ("crashloopbackoff", "failing", Some("CrashLoopBackOff")),
        ("imagepullbackoff", "failing", Some("ImagePullBackOff")),
    ] {
        let (cluster, server) = (FakeCluster::start().await, Server::start().await);
        cluster.put_recorded(&situation(situation_name));
        server.mode("observe");
        server.give("s1", "o1", &manifest_of(situation_name));
        let agent = agent(&cluster, &server, options()).await;
        let entry = server.status("o1", status).await;
        assert!(condition.is_none_or(|it| conditions(&entry).contains(&it)), "{entry}");
        assert_eq!(cluster.requests("PATCH") + cluster.requests("DELETE"), 0);
        agent.stop().await;
    }
}

#[tokio::test]
async fn what_should_be_there_and_is_not_is_failing() {
    let (cluster, server) = (FakeCluster::start().await, Server::start().await);
    server.mode("observe");
    server.give("s1", "o1", WEB);
    let _agent = agent(&cluster, &server, options()).await;
    let entry = server.status("o1", "failing").await;
    assert!(conditions(&entry).contains(&"Missing"), "{entry}");
}

#[tokio::test]
async fn a_change_is_told_soon_and_only_one_list_is_made_of_a_kind() {
    let (cluster, server) = (FakeCluster::start().await, Server::start().await);
    server.give("s1", "o1", WEB);
    let _agent = agent(&cluster, &server, options()).await;
    until("applied", || cluster.get("Deployment", "shop", "web")).await;
    roll_out(&cluster, "shop", "web", true);
    server.status("o1", "healthy").await;
    let begun = std::time::Instant::now();
    roll_out(&cluster, "shop", "web", false);
    let entry = server.status("o1", "failing").await;
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(conditions(&entry), ["CrashLoopBackOff"]);
    assert_eq!(cluster.requests("GET /api/v1/pods?limit=250"), 1);
    // Well again: nothing of it sticks.
    roll_out(&cluster, "shop", "web", true);
    let entry = server.status("o1", "healthy").await;
    assert!(conditions(&entry).is_empty(), "{entry}");
}

#[tokio::test]
async fn watches_that_break_go_on_and_a_revision_that_is_too_old_is_listed_anew() {
    let (cluster, server) = (FakeCluster::start().await, Server::start().await);
    server.give("s1", "o1", WEB);
    let _agent = agent(&cluster, &server, options()).await;
    until("applied", || cluster.get("Deployment", "shop", "web")).await;
    roll_out(&cluster, "shop", "web", true);
    server.status("o1", "healthy").await;
    cluster.cut_watches();
    roll_out(&cluster, "shop", "web", false);
    server.status("o1", "failing").await;
    assert_eq!(cluster.requests("GET /api/v1/pods?limit=250"), 1, "a cut needs no list");
    // What was deleted while nobody watched is found out by the list.
    cluster.fault("/pods?watch", Some(Fault::Slow(Duration::from_millis(500))));
    cluster.cut_watches();
    cluster.delete("Pod", "shop", "web-1-a");
    cluster.compact();
    cluster.fault("/pods?watch", None);
    until("no pod is told of", || {
        let entry = server.entry("o1")?;
        (!messages(&entry).contains("web-1-a")).then_some(())
    })
    .await;
    assert!(cluster.requests("GET /api/v1/pods?limit=250") > 1);
}

#[tokio::test]
async fn a_cluster_with_too_much_to_do_is_asked_again_when_it_says() {
    let (cluster, server) = (FakeCluster::start().await, Server::start().await);
    cluster.put_recorded(&situation("healthy"));
    cluster.fault("/pods?limit", Some(Fault::Busy(2, 1)));
    server.mode("observe");
    server.give("s1", "o1", &manifest_of("healthy"));
    let begun = std::time::Instant::now();
    let _agent = agent(&cluster, &server, options()).await;
    server.status("o1", "healthy").await;
    assert_eq!(cluster.requests("GET /api/v1/pods?limit=250"), 3);
    assert!(begun.elapsed() >= Duration::from_secs(2), "twice a second was to be waited");
}

#[tokio::test]
async fn a_kind_that_is_forbidden_is_unknown_with_the_reason_and_the_rest_works() {
    let (cluster, server) = (FakeCluster::start().await, Server::start().await);
    cluster.put_recorded(&situation("healthy"));
    cluster.put_recorded(&situation("daemonset"));
    cluster.fault("/statefulsets", Some(Fault::Forbidden));
    server.mode("observe");
    server.give("s1", "web", &manifest_of("healthy"));
    let queue = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "queue", "namespace": "daemonset"}});
    server.give("s2", "queue", &queue.to_string());
    let _agent = agent(&cluster, &server, options()).await;
    server.status("web", "healthy").await;
    let entry = server.status("queue", "unknown").await;
    assert!(messages(&entry).contains("forbidden"), "{entry}");
}

#[tokio::test]
async fn a_server_that_refuses_what_it_allowed_is_asked_again_before_it_is_believed() {
    let (cluster, server) = (FakeCluster::start().await, Server::start().await);
    cluster.put_recorded(&situation("healthy"));
    server.mode("observe");
    server.give("s1", "web", &manifest_of("healthy"));
    let _agent = agent(&cluster, &server, options()).await;
    server.status("web", "healthy").await;
    // As one does that has just started.
    let pods = "GET /api/v1/pods?watch";
    let before = cluster.requests(pods);
    cluster.fault("/pods?watch", Some(Fault::Forbidden));
    cluster.cut_watches();
    until("refused", || (cluster.requests(pods) > before).then_some(())).await;
    cluster.fault("/pods?watch", None);
    until("asked again", || (cluster.requests(pods) > before + 1).then_some(())).await;
    let told = server.lock().entries["web"].clone();
    assert!(told.iter().all(|it| it["status"] != "unknown"), "{told:?}");
    cluster.fault("/pods?watch", Some(Fault::Forbidden));
    cluster.cut_watches();
    server.status("web", "unknown").await;
}

#[tokio::test]
async fn cron_jobs_of_a_cluster_before_1_21_are_watched_in_the_version_that_it_has() {
    let (cluster, server) = (FakeCluster::start().await, Server::start().await);
    cluster.fault("/batch/v1/cronjobs", Some(Fault::NotServed));
    cluster.put(json!({"apiVersion": "batch/v1beta1", "kind": "CronJob",
        "metadata": {"name": "nightly", "namespace": "shop"},
        "spec": {"schedule": "0 3 * * *", "jobTemplate": {}}, "status": {}}));
    server.mode("observe");
    let nightly = json!({"apiVersion": "batch/v1beta1", "kind": "CronJob", "metadata": {"name": "nightly", "namespace": "shop"}});
    server.give("s1", "nightly", &nightly.to_string());
    let agent = agent(&cluster, &server, options()).await;
    server.status("nightly", "healthy").await;
    assert_eq!(agent.state.borrow().gaps, Vec::<String>::new());
    assert_eq!(cluster.requests("/batch/v1/cronjobs?"), 1);
    // Where it has neither, that is said.
    cluster.fault("/batch/v1beta1/cronjobs", Some(Fault::NotServed));
    cluster.cut_watches();
    let entry = server.status("nightly", "unknown").await;
    assert!(messages(&entry).contains("could not find"), "{entry}");
}

#[tokio::test]
async fn pods_that_may_not_be_seen_make_what_runs_them_unknown() {
    let (cluster, server) = (FakeCluster::start().await, Server::start().await);
    cluster.put_recorded(&situation("healthy"));
    cluster.fault("/pods", Some(Fault::Forbidden));
    server.mode("observe");
    server.give("s1", "web", &manifest_of("healthy"));
    let agent = agent(&cluster, &server, options()).await;
    let entry = server.status("web", "unknown").await;
    assert!(messages(&entry).contains("forbidden"), "{entry}");
    assert!(agent.state.borrow().gaps.iter().any(|it| it.starts_with("Pod")));
}

#[tokio::test]
async fn one_namespace_is_watched_where_one_is_given_and_others_are_unknown() {
    let (cluster, server) = (FakeCluster::start().await, Server::start().await);
    cluster.put_recorded(&situation("healthy"));
    cluster.put_recorded(&situation("crashloopbackoff"));
    // Nobody may list what is in all namespaces.
    for all in ["/api/v1/pods", "/apis/apps/v1/deployments", "/apis/apps/v1/replicasets", "/api/v1/nodes"] {
        cluster.fault(all, Some(Fault::Forbidden));
    }
    server.mode("observe");
    server.give("s1", "in", &manifest_of("healthy"));
    server.give("s2", "out", &manifest_of("crashloopbackoff"));
    let mut options = options();
    options.namespaces = vec!["healthy".to_owned()];
    let _agent = agent(&cluster, &server, options).await;
    server.status("in", "healthy").await;
    let entry = server.status("out", "unknown").await;
    assert!(messages(&entry).contains("none of those"), "{entry}");
}

#[tokio::test]
async fn nonsense_from_the_cluster_makes_things_unknown_until_it_makes_sense_again() {
    let (cluster, server) = (FakeCluster::start().await, Server::start().await);
    cluster.put_recorded(&situation("healthy"));
    cluster.fault("/pods?limit", Some(Fault::Garbage("<html>proxy</html>".to_owned())));
    server.mode("observe");
    server.give("s1", "o1", &manifest_of("healthy"));
    let _agent = agent(&cluster, &server, options()).await;
    let entry = server.status("o1", "unknown").await;
    assert!(messages(&entry).contains("not JSON"), "{entry}");
    cluster.fault("/pods?limit", None);
    server.status("o1", "healthy").await;
}

#[tokio::test]
async fn what_is_to_be_applied_to_a_cluster_that_was_never_reached_is_unknown() {
    let (cluster, server) = (FakeCluster::start().await, Server::start().await);
    cluster.fault("/", Some(Fault::Busy(u32::MAX, 1)));
    server.give("s1", "o1", WEB);
    let _agent = agent(&cluster, &server, options()).await;
    let entry = server.status("o1", "unknown").await;
    assert!(messages(&entry).contains("too many requests"), "{entry}");
    cluster.fault("/", None);
    cluster.put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}));
    until("applied", || cluster.get("Deployment", "shop", "web")).await;
}

#[tokio::test]
async fn a_cluster_that_can_t_be_asked_any_more_makes_its_objects_unknown() {
    let (cluster, server) = (FakeCluster::start().await, Server::start().await);
    cluster.put_recorded(&situation("crashloopbackoff"));
    server.mode("observe");
    server.give("s1", "o1", &manifest_of("crashloopbackoff"));
    let _agent = agent(&cluster, &server, options()).await;
    server.status("o1", "failing").await;
    cluster.fault("/pods?watch", Some(Fault::Busy(u32::MAX, 1)));
    cluster.cut_watches();
    server.status("o1", "unknown").await;
    cluster.fault("/pods?watch", None);
    server.status("o1", "failing").await;
}

#[tokio::test]
async fn what_has_gone_from_the_manifests_is_pruned_and_a_marker_ends_all() {
    let (cluster, server) = (FakeCluster::start().await, Server::start().await);
    server.give("s1", "o1", WEB);
    let _agent = agent(&cluster, &server, options()).await;
    until("applied", || cluster.get("ConfigMap", "shop", "settings")).await;
    // A copy of its labels that a controller made, and what a person made with the same labels.
    let labels = cluster.get("ConfigMap", "shop", "settings").unwrap()["metadata"]["labels"].clone();
    cluster.put(json!({"apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "copy", "namespace": "shop", "labels": labels}}));
    let without: Vec<&str> = WEB.split("---").take(2).collect();
    server.give("s1", "o2", &without.join("---"));
    until("pruned", || cluster.get("ConfigMap", "shop", "settings").is_none().then_some(())).await;
    assert_eq!(cluster.get("Deployment", "shop", "web").unwrap()["metadata"]["labels"][OBJECT], "o2");
    assert!(cluster.get("Endpoints", "shop", "copy").is_some());
    server.set("s1", "o3", "", true);
    until("deleted", || cluster.get("Deployment", "shop", "web").is_none().then_some(())).await;
    until("its namespace too", || cluster.get("Namespace", "", "shop").is_none().then_some(())).await;
    server.status("o3", "healthy").await;
    assert!(server.lock().entries.contains_key("o3"));
}

#[tokio::test]
async fn what_a_cluster_serves_in_two_groups_or_an_old_version_alone_is_pruned_only_when_it_should_be() {
    let (cluster, server) = (FakeCluster::start().await, Server::start().await);
    cluster.put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}));
    let ingress = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": "web", "namespace": "shop"}, "spec": {}});
    let gizmo = json!({"apiVersion": "example.test/v1alpha1", "kind": "Gizmo",
        "metadata": {"name": "only-there", "namespace": "shop"}});
    server.give("s1", "o1", &format!("{ingress}\n---\n{gizmo}"));
    let _agent = agent(&cluster, &server, options()).await;
    // Told after pruning.
    server.status("o1", "healthy").await;
    assert!(cluster.requests("/extensions/v1beta1/ingresses?limit") > 0, "{:?}", cluster.all_requests());
    assert!(cluster.get("Ingress", "shop", "web").is_some());
    assert_eq!(cluster.requests("DELETE"), 0);
    server.give("s1", "o2", "");
    until("pruned", || cluster.get("Ingress", "shop", "web").is_none().then_some(())).await;
    until("pruned", || cluster.get("Gizmo", "shop", "only-there").is_none().then_some(())).await;
    assert_eq!(cluster.requests("DELETE"), 2);
}

#[tokio::test]
async fn one_object_that_can_t_be_applied_is_told_and_keeps_no_other_back() {
    let (cluster, server) = (FakeCluster::start().await, Server::start().await);
    let text = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"default"}}
---
{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"b","namespace":"nowhere"}}
---
{"apiVersion":"nobody.test/v1","kind":"Thing","metadata":{"name":"c"}}"#;
    server.give("s1", "o1", text);
    let _agent = agent(&cluster, &server, options()).await;
    let entry = server.status("o1", "degraded").await;
    assert_eq!(conditions(&entry), ["ApplyFailed"]);
    assert!(messages(&entry).contains("nowhere") && messages(&entry).contains("nobody.test"), "{entry}");
    assert!(cluster.get("ConfigMap", "default", "a").is_some());
    cluster.put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "nowhere"}}));
    until("tried again", || cluster.get("ConfigMap", "nowhere", "b")).await;
}

#[tokio::test]
async fn a_job_keeps_the_template_it_was_made_with_and_is_found_all_the_same() {
    let (cluster, server) = (FakeCluster::start().await, Server::start().await);
    let job = r#"{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"j","namespace":"default"},
        "spec":{"template":{"spec":{"containers":[{"name":"j"}],"restartPolicy":"Never"}}}}"#;
    server.give("s1", "o1", job);
    let _agent = agent(&cluster, &server, options()).await;
    until("applied", || cluster.get("Job", "default", "j")).await;
    server.give("s1", "o2", job);
    let labelled = |it: &Value| it["metadata"]["labels"][OBJECT] == "o2";
    let there = until("applied again", || cluster.get("Job", "default", "j").filter(labelled)).await;
    assert_eq!(there["spec"]["template"]["metadata"]["labels"][OBJECT], "o1");
}

#[tokio::test]
async fn a_server_that_was_away_hears_how_things_are_now() {
    let (cluster, server) = (FakeCluster::start().await, Server::start().await);
    server.give("s1", "o1", WEB);
    let _agent = agent(&cluster, &server, options()).await;
    until("applied", || cluster.get("Deployment", "shop", "web")).await;
    roll_out(&cluster, "shop", "web", true);
    server.status("o1", "healthy").await;
    server.lock().down = true;
    for _ in 0..20 {
        roll_out(&cluster, "shop", "web", false);
        tokio::time::sleep(Duration::from_millis(50)).await;
        roll_out(&cluster, "shop", "web", true);
    }
    roll_out(&cluster, "shop", "web", false);
    server.lock().down = false;
    server.status("o1", "failing").await;
}

#[tokio::test]
async fn a_superseded_object_is_told_of_no_more() {
    let (cluster, server) = (FakeCluster::start().await, Server::start().await);
    server.give("s1", "o1", WEB);
    let mut options = options();
    options.interval = Duration::from_secs(1);
    let _agent = agent(&cluster, &server, options).await;
    until("told", || server.entry("o1")).await;
    server.give("s1", "o2", WEB);
    until("told", || server.entry("o2")).await;
    let before = server.lock().entries["o1"].len();
    let newer = server.lock().entries["o2"].len();
    until("all is told every second", || (server.lock().entries["o2"].len() > newer + 2).then_some(())).await;
    assert_eq!(server.lock().entries["o1"].len(), before);
}

#[tokio::test]
async fn with_health_disabled_objects_are_unknown_and_say_so() {
    let (cluster, server) = (FakeCluster::start().await, Server::start().await);
    cluster.put_recorded(&situation("healthy"));
    server.mode("observe");
    server.give("s1", "o1", &manifest_of("healthy"));
    let mut options = options();
    (options.health, options.diagnostics) = (false, false);
    let _agent = agent(&cluster, &server, options).await;
    let entry = server.status("o1", "unknown").await;
    assert_eq!(conditions(&entry), ["disabled"]);
    assert_eq!(cluster.requests("/pods"), 0);
}

#[tokio::test]
async fn ten_thousand_pods_cost_one_list_and_then_only_changes() {
    let (cluster, server) = (FakeCluster::start().await, Server::start().await);
    let template = recorded(&situation("healthy")).into_iter().find(|it| it["kind"] == "Pod").unwrap();
    for n in 0..10_000 {
        let mut pod = template.clone();
        pod["metadata"]["name"] = json!(format!("p{n}"));
        pod["metadata"]["uid"] = json!(format!("u{n}"));
        pod["metadata"]["ownerReferences"] = json!([]);
        pod["metadata"]["labels"][OBJECT] = json!(format!("o{}", n % 100));
        cluster.put(pod);
    }
    server.mode("observe");
    for n in 0..100 {
        server.give(&format!("s{n}"), &format!("o{n}"), "");
    }
    let _agent = agent(&cluster, &server, options()).await;
    let entry = server.status("o99", "healthy").await;
    assert_eq!(entry["summary"]["pods_total"], json!(100));
    let lists = cluster.requests("GET /api/v1/pods?limit=250");
    assert_eq!(lists, 40);
    let mut pod = cluster.get("Pod", "healthy", "p99").unwrap();
    pod["status"]["containerStatuses"][0]["ready"] = json!(false);
    pod["status"]["containerStatuses"][0]["state"] = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    cluster.put(pod);
    // Nothing makes that pod anew: of what the object is made of, one part does not work at all.
    let entry = server.status("o99", "failing").await;
    assert_eq!(entry["summary"]["pods_ready"], json!(99));
    assert_eq!(cluster.requests("GET /api/v1/pods?limit=250"), lists);
}
