//! Containers over nodes: where an engine answers, moved when a node is lost, left alone when an agent or an engine is
//! killed.

use serde_json::Value;

use crate::{
    cluster::Cluster,
    docker::{Docker, container_of},
    process::wait_until,
};

const WEB: &str = "
kind: Workload
name: web
replicas: 2
container: {image: hale-example/web:1}
ports: [{name: http, port: 80, hostPort: 0}]
startupProbe: {httpGet: {path: /cgi-bin/healthz, port: http}, periodSeconds: 0.2}
livenessProbe: {httpGet: {path: /cgi-bin/healthz, port: http}, periodSeconds: 0.5, failureThreshold: 3}
readinessProbe: {httpGet: {path: /cgi-bin/readyz, port: http}, periodSeconds: 0.2}
restart: {initialBackoff: 100ms}
disconnect: {replaceAfter: 1s}
terminationGracePeriodSeconds: 5
service: {name: web, port: http}
";

/// A server, and an agent by each engine.
fn start(engines: &[(&str, &Docker)]) -> Cluster {
    let mut cluster = Cluster::empty();
    cluster.server("s1");
    for (node, engine) in engines {
        agent(&mut cluster, node, &engine.host());
    }
    let nodes: Vec<&str> = engines.iter().map(|it| it.0).collect();
    cluster.wait_nodes_ready(&nodes);
    cluster
}

fn agent(cluster: &mut Cluster, node: &str, host: &str) {
    let urls = cluster.urls();
    cluster.agent_at(node, &urls, |agent| agent, &["--container-host", host]);
}

#[test]
fn neither_a_killed_agent_nor_a_killed_engine_nor_both_restart_a_container() {
    let mut docker = Docker::start();
    let mut cluster = start(&[("a", &docker)]);
    cluster.apply(WEB);
    cluster.wait_ready("web", 2);
    let before = [cluster.replica("web-0"), cluster.replica("web-1")];
    let starts: Vec<String> = before.iter().map(|it| docker.started_at(container_of(it))).collect();
    for (agent_dies, engine_dies) in [(true, false), (false, true), (true, true)] {
        if agent_dies {
            cluster.agents.get_mut("a").unwrap().kill();
        }
        if engine_dies {
            docker.kill();
            docker.restart();
        }
        if agent_dies {
            agent(&mut cluster, "a", &docker.host());
        }
        let since = jiff::Timestamp::now();
        for old in &before {
            let name = old["name"].as_str().unwrap();
            let now = cluster.wait_replica(name, "seen again, ready", |it| {
                let seen = it["observed_at"].as_str().and_then(|it| it.parse::<jiff::Timestamp>().ok());
                it["ready"] == true && seen.is_some_and(|it| it > since)
            });
            for field in ["container_id", "generation", "incarnation", "restarts", "address", "ports"] {
                assert_eq!(
                    now[field], old[field],
                    "{field} (agent: {agent_dies}, engine: {engine_dies}): {now:#}"
                );
            }
        }
    }
    let after: Vec<String> = before.iter().map(|it| docker.started_at(container_of(it))).collect();
    assert_eq!(after, starts, "none was started again");
    assert_eq!(docker.all().len(), 2, "none doubled");

    // What was adopted is looked after.
    docker.inside(&before[0], "touch /tmp/broken");
    cluster.wait_replica("web-0", "restarted", |it| {
        it["ready"] == true && it["container_id"] != before[0]["container_id"]
    });
}

#[test]
fn containers_are_placed_where_an_engine_answers_and_move_when_their_node_is_lost() {
    let (first, second) = (Docker::start(), Docker::start());
    let mut cluster = start(&[("a", &first), ("b", &second)]);
    agent(&mut cluster, "none", "unix:///nowhere/docker.sock");
    cluster.wait_nodes_ready(&["none"]);
    cluster.apply(WEB);
    cluster.wait_ready("web", 2);
    let replicas = [cluster.replica("web-0"), cluster.replica("web-1")];
    let mut nodes: Vec<&str> = replicas.iter().map(|it| it["node"].as_str().unwrap()).collect();
    nodes.sort_unstable();
    assert_eq!(nodes, ["a", "b"], "spread over the two with an engine: {replicas:#?}");
    wait_until("the third is said to have none", || {
        cluster.ok(&["explain", "web-0"]).contains("where no container engine answers")
    });
    let on_a: &Value = replicas.iter().find(|it| it["node"] == "a").unwrap();
    let name = on_a["name"].as_str().unwrap();

    // Its agent dies for good: the container is made anew on the other node, and is reached there.
    cluster.agents.get_mut("a").unwrap().kill();
    let moved = cluster.wait_replica(name, "ready elsewhere", |it| it["ready"] == true && it["node"] == "b");
    assert_ne!(moved["container_id"], on_a["container_id"]);
    assert_eq!(second.all().len(), 2);
    let set = cluster.wait(
        "the endpoints are on b",
        || cluster.endpoints("web"),
        |set| {
            let endpoints = set["endpoints"].as_array().unwrap();
            endpoints.len() == 2 && endpoints.iter().all(|it| it["node"] == "b" && it["ready"] == true)
        },
    );
    let ports = set["endpoints"].as_array().unwrap().iter().map(|it| it["port"].clone()).collect::<Vec<_>>();
    assert!(ports.contains(&moved["ports"]["http"]), "{set:#}");

    // It comes back: the one it still has is ended there.
    agent(&mut cluster, "a", &first.host());
    wait_until("nothing is left of it", || first.all().is_empty());
    assert_eq!(cluster.replica(name)["container_id"], moved["container_id"]);
}

#[test]
fn a_node_takes_containers_once_its_engine_answers() {
    let mut docker = Docker::start();
    docker.kill();
    let cluster = start(&[("a", &docker)]);
    cluster.apply(WEB);
    wait_until("it is said why it is nowhere", || {
        cluster.ok(&["explain", "web-0"]).contains("where no container engine answers")
    });
    docker.restart();
    cluster.wait_ready("web", 2);
}

#[test]
fn with_stop_after_the_keeper_stops_a_container_whose_agent_is_dead_and_the_next_agent_tells_of_it() {
    let docker = Docker::start();
    let mut cluster = start(&[("a", &docker)]);
    cluster.apply(&WEB.replace("replaceAfter: 1s", "stopAfter: 3s").replace("replicas: 2", "replicas: 1"));
    cluster.wait_ready("web", 1);
    let before = cluster.replica("web-0");
    let container = container_of(&before).to_owned();
    let runs = || docker.docker(&["inspect", "--format", "{{.State.Running}}", &container]) == "true";
    cluster.agents.get_mut("a").unwrap().kill();
    assert!(runs(), "it runs on at first");
    wait_until("the keeper has stopped it", || !runs());
    let code = docker.docker(&["inspect", "--format", "{{.State.ExitCode}}", &container]);
    assert!(["143", "0"].contains(&&*code), "asked to end, and it did: {code}");
    agent(&mut cluster, "a", &docker.host());
    let now = cluster.wait_replica("web-0", "runs again", |it| {
        it["ready"] == true && it["container_id"] != before["container_id"]
    });
    wait_until("the old one is removed", || docker.all() == [container_of(&now)]);
}

#[test]
fn a_container_that_is_not_published_is_no_endpoint_of_a_node_elsewhere_and_it_is_said() {
    let docker = Docker::start();
    let mut cluster = Cluster::empty();
    cluster.server("s1");
    let (host, address, urls) = (docker.host(), docker.gateway(), cluster.urls());
    cluster.agent_at("a", &urls, |agent| agent, &["--container-host", &host, "--address", &address]);
    cluster.wait_nodes_ready(&["a"]);
    cluster.apply(&WEB.replace(", hostPort: 0", "").replace("replicas: 2", "replicas: 1"));
    cluster.wait_replica("web-0", "out of reach", |it| {
        it["ready"] == false && it["last_error"].as_str().is_some_and(|it| it.contains("not published"))
    });
    let explained = || cluster.ok(&["explain", "web-0"]);
    wait_until("it is said", || explained().contains("no endpoint of the service web"));
    assert_eq!(cluster.endpoints("web")["endpoints"], serde_json::json!([]));
    cluster.apply(&WEB.replace("replicas: 2", "replicas: 1"));
    let set = cluster.wait(
        "published, it is one",
        || cluster.endpoints("web"),
        |set| set["endpoints"][0]["ready"] == true,
    );
    assert_eq!(set["endpoints"][0]["address"], address);
}
