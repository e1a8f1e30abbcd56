//! What watching a cluster of 10,000 pods costs (O15): memory of the process that does it, and its CPU from a changed pod
//! to the new status at the server; and how long diagnostics take from the request to the result (K9), with a stream and
//! by asking.
//!
//! `cargo bench -p hale-kube --bench kube_agent` has a cluster and a server made for this, in a process of their own; 500
//! deployments of 20 pods, each pod as a real one was recorded. `-- 2000 10` takes other numbers.

#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark ends loudly, and prints"
)]

#[path = "../tests/support/mod.rs"]
#[allow(dead_code, reason = "a benchmark uses a part of it")]
mod support;

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use hale_kube::{
    agent::{Agent, Metrics, ServerOptions},
    cluster::Cluster,
};
use hale_testkit::kubernetes::{FakeCluster, recorded};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use support::{Server, options, situation};
use tokio_util::sync::CancellationToken;

/// Pods that change, one after the other.
const CHANGES: usize = 200;

/// Requests for diagnostics, one after the other: while there is a stream, and while there is none, where each takes
/// several seconds.
const DIAGNOSES: (usize, usize) = (50, 8);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with("--")).collect();
    let number = |at: usize, otherwise: usize| args.get(at).map_or(otherwise, |it| it.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if args.first().is_some_and(|it| it == "be-world") {
        runtime.block_on(world(number(1, 500), number(2, 20)));
    } else {
        runtime.block_on(measure(number(0, 500), number(1, 20)));
    }
}

/// The other side: commands come in by lines, and each is answered by one.
async fn world(deployments: usize, pods: usize) {
    let (cluster, server) = (FakeCluster::start().await, Server::start().await);
    fill(&cluster, deployments, pods);
    server.mode("observe");
    for n in 0..deployments {
        server.give(&format!("s{n}"), &format!("o{n}"), "");
    }
    let url = server.options().urls[0].clone();
    println!("http://{} {url} {}", cluster.address(), server.token_file().display());
    let (mut changed, mut asked) = (0, 0);
    for line in std::io::stdin().lines() {
        match line.unwrap().as_str() {
            "all" => {
                for n in 0..deployments {
                    server.status(&format!("o{n}"), "healthy").await;
                }
                println!("all");
            }
            "change" => {
                let deployment = (changed * 7) % deployments;
                let took = change(&cluster, &server, deployment, changed % pods).await;
                changed += 1;
                println!("{}", took.as_micros());
            }
            "diagnose" => {
                let id = format!("r{asked}");
                asked += 1;
                let begun = Instant::now();
                server.ask(&id, &format!("o{}", (asked * 7) % deployments));
                let result = server.result(&id).await;
                let took = begun.elapsed();
                assert_eq!(result["result"]["pod_statuses"].as_array().unwrap().len(), pods, "{result}");
                println!("{}", took.as_micros());
            }
            "no stream" => {
                server.end_streams().await;
                println!("none");
            }
            _ => return,
        }
    }
}

fn fill(cluster: &FakeCluster, deployments: usize, pods: usize) {
    let all = recorded(&situation("healthy"));
    let of = |kind: &str| all.iter().find(|it| it["kind"] == kind).unwrap().clone();
    let (deployment, set, pod) = (of("Deployment"), of("ReplicaSet"), of("Pod"));
    let count = json!(pods);
    for n in 0..deployments {
        let id = json!(format!("o{n}"));
        let mut own = deployment.clone();
        named(&mut own, &format!("d{n}"), None, &id);
        let mut made = set.clone();
        named(&mut made, &format!("d{n}-1"), Some(("Deployment", format!("d{n}"))), &id);
        for it in [&mut own, &mut made] {
            it["spec"]["replicas"] = count.clone();
            for key in ["replicas", "readyReplicas", "availableReplicas", "updatedReplicas"] {
                it["status"][key] = count.clone();
            }
        }
        cluster.put(own);
        cluster.put(made);
        for p in 0..pods {
            let mut one = pod.clone();
            named(&mut one, &format!("d{n}-1-{p}"), Some(("ReplicaSet", format!("d{n}-1"))), &id);
            cluster.put(one);
        }
    }
}

fn named(object: &mut Value, name: &str, owner: Option<(&str, String)>, id: &Value) {
    let metadata = &mut object["metadata"];
    metadata["name"] = json!(name);
    metadata["uid"] = json!(format!("uid-of-{name}"));
    metadata["labels"]["hale.dev/deployment-object-id"] = id.clone();
    metadata["managedFields"] = json!([{"manager": "kubelet", "fieldsV1": {"f:status": "x".repeat(2000)}}]);
    metadata["ownerReferences"] = match owner {
        Some((kind, owner)) => {
            json!([{"apiVersion": "apps/v1", "kind": kind, "uid": format!("uid-of-{owner}"),
            "name": owner, "controller": true}])
        }
        None => json!([]),
    };
}

/// A pod breaks, and is told of; then it is well again.
async fn change(cluster: &FakeCluster, server: &Server, deployment: usize, pod: usize) -> Duration {
    let name = format!("d{deployment}-1-{pod}");
    let id = format!("o{deployment}");
    let well = cluster.get("Pod", "healthy", &name).unwrap();
    let mut broken = well.clone();
    broken["status"]["containerStatuses"][0]["ready"] = json!(false);
    broken["status"]["containerStatuses"][0]["state"] = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    let begun = Instant::now();
    cluster.put(broken);
    server.status(&id, "degraded").await;
    let took = begun.elapsed();
    cluster.put(well);
    server.status(&id, "healthy").await;
    took
}

struct World {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl World {
    fn start(deployments: usize, pods: usize) -> (Self, Vec<String>) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["be-world", &deployments.to_string(), &pods.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let to = child.stdin.take().unwrap();
        let from = BufReader::new(child.stdout.take().unwrap());
        let mut world = Self { child, to, from };
        let told = world.answer();
        (world, told.split(' ').map(str::to_owned).collect())
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn ask(&mut self, word: &str) -> String {
        writeln!(self.to, "{word}").unwrap();
        self.answer()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks without keeping the agent from its work.
async fn asked(mut world: World, word: &'static str) -> (World, String) {
    tokio::task::spawn_blocking(move || {
        let answer = world.ask(word);
        (world, answer)
    })
    .await
    .unwrap()
}

/// A line of `/proc/self/status`, in MiB.
fn memory(key: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|it| it.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

/// The time this process was on a CPU, in milliseconds.
fn cpu() -> f64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    spent.tv_sec as f64 * 1e3 + spent.tv_nsec as f64 / 1e6
}

/// From a request to its result, some times.
async fn diagnose(mut world: World, times: usize, how: &str) -> World {
    let mut took: Vec<f64> = Vec::new();
    for n in 0..times {
        // Not always at the same moment after the one before.
        tokio::time::sleep(Duration::from_millis(n as u64 * 370 % 1000)).await;
        let (next, answer) = asked(world, "diagnose").await;
        world = next;
        took.push(answer.parse::<f64>().unwrap() / 1e6);
    }
    took.sort_by(f64::total_cmp);
    let (median, most) = (took[took.len() / 2], took[took.len() - 1]);
    println!("diagnostics by an agent {how}: {median:.2} s (median of {times}), {most:.2} s (most)");
    world
}

async fn measure(deployments: usize, pods: usize) {
    let (world, told) = World::start(deployments, pods);
    let before = memory("VmRSS:");
    let (cluster, url, token) = (&told[0], told[1].clone(), told[2].clone());
    let servers =
        ServerOptions { urls: vec![url], token_file: token.into(), tls: hale_api::ClientTls::default() };
    let metrics = Metrics::register(&mut Registry::default());
    let (begun, cpu_begun) = (Instant::now(), cpu());
    let agent = Agent::new(Cluster::at(cluster).unwrap(), servers, options(), metrics);
    let end = CancellationToken::new();
    let running = tokio::spawn(agent.run(end.clone()));
    let (mut world, _) = asked(world, "all").await;
    println!(
        "{} pods of {deployments} deployments listed, judged and told within {:.1} s, {:.0} ms of CPU",
        deployments * pods,
        begun.elapsed().as_secs_f64(),
        cpu() - cpu_begun
    );
    println!("memory: {:.1} MiB (before: {before:.1}, most: {:.1})", memory("VmRSS:"), memory("VmHWM:"));
    // What it costs to do nothing for as long is taken off.
    let (idle_begun, idle_cpu) = (Instant::now(), cpu());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let idle = (cpu() - idle_cpu) / idle_begun.elapsed().as_secs_f64();
    let (changes_begun, changes_cpu) = (Instant::now(), cpu());
    let mut took = Vec::new();
    for _ in 0..CHANGES / 2 {
        let (next, answer) = asked(world, "change").await;
        world = next;
        took.push(answer.parse::<f64>().unwrap() / 1e3);
    }
    let spent = cpu() - changes_cpu - idle * changes_begun.elapsed().as_secs_f64();
    took.sort_by(f64::total_cmp);
    println!(
        "a changed pod: {:.2} ms of CPU; told after {:.0} ms (median), {:.0} ms (most); idle: {:.2} ms of CPU a second",
        spent / CHANGES as f64,
        took[took.len() / 2],
        took[took.len() - 1],
        idle
    );
    println!("memory: {:.1} MiB", memory("VmRSS:"));
    world = diagnose(world, DIAGNOSES.0, "told of on its stream").await;
    (world, _) = asked(world, "no stream").await;
    // One that may still have been told of on the stream.
    (world, _) = asked(world, "diagnose").await;
    drop(diagnose(world, DIAGNOSES.1, "that asks every 10 s").await);
    end.cancel();
    running.await.unwrap().unwrap();
}
