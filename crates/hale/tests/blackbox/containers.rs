//! `hale up` with containers, on a real engine: probes, restarts, logs, ends, adoption, examples, imports.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    docker::{Docker, container_of},
    harness::{Up, alive, free_port, hale, kill, pid_of, wait_for, wait_until},
};

fn up(docker: &Docker, yaml: &str) -> Up {
    Up::start_tracing(yaml, &[("HALE_CONTAINER_HOST", &docker.host())])
}

fn examples() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/containers")
}

fn example(name: &str) -> String {
    fs::read_to_string(examples().join(name)).unwrap()
}

fn is_ready(it: &Value) -> bool {
    it["ready"] == true
}

/// Status and body of a page.
fn page(address: &str, port: u16, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect((address, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let status = text.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or_default();
    let body = text.split_once("\r\n\r\n").map_or(String::new(), |it| it.1.to_owned());
    Ok((status, body))
}

const WEB: &str = "
kind: Workload
name: web
replicas: 2
container: {image: hale-example/web:1, env: {GREETING: hello}, secretEnv: {TOKEN: s3cret}}
ports: [{name: http, port: 80, hostPort: 0}]
startupProbe: {httpGet: {path: /cgi-bin/healthz, port: http}, periodSeconds: 0.2}
livenessProbe: {httpGet: {path: /cgi-bin/healthz, port: http}, periodSeconds: 0.5, failureThreshold: 2}
readinessProbe: {httpGet: {path: /cgi-bin/readyz, port: http}, periodSeconds: 0.2, failureThreshold: 2}
restart: {initialBackoff: 100ms, minUptime: 1s}
terminationGracePeriodSeconds: 10
---
kind: Workload
name: db
container: {image: hale-example/db:1}
ports: [{name: sql, port: 5432}]
readinessProbe: {tcpSocket: {port: sql}, periodSeconds: 0.2}
---
kind: Workload
name: worker
container: {image: hale-example/worker:1, user: \"1000:1000\", env: {QUEUE: jobs}}
livenessProbe: {exec: {command: [/bin/sh, -c, \"test ! -e /tmp/stuck && test $QUEUE = jobs\"]}, periodSeconds: 0.5, failureThreshold: 2}
readinessProbe: {exec: {command: [/bin/sh, -c, test -e /tmp/beat]}, periodSeconds: 0.2}
restart: {initialBackoff: 100ms, minUptime: 1s}
terminationGracePeriodSeconds: 5
";

#[test]
fn containers_are_probed_and_restarted_as_processes_are() {
    let docker = Docker::start();
    let up = up(&docker, WEB);
    let web = up.wait_replica("web-0", "ready", is_ready);
    up.wait_replica("web-1", "ready", is_ready);
    let db = up.wait_replica("db-0", "ready", is_ready);
    let worker = up.wait_replica("worker-0", "ready by a command inside", is_ready);

    // Where each is reached: a published port on this machine, or the container's own address.
    let port = u16::try_from(web["ports"]["http"].as_u64().unwrap()).unwrap();
    assert_eq!((web["runtime"].as_str(), web["address"].as_str()), (Some("container"), Some("127.0.0.1")));
    assert!(port > 1024, "{web:#}");
    assert_eq!(page("127.0.0.1", port, "/").unwrap(), (200, "hello from a container\n".to_owned()));
    let own = docker.docker(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", container_of(&db)]);
    assert_eq!((db["address"].as_str(), &db["ports"]["sql"]), (Some(own.as_str()), &Value::from(5432)));
    assert_eq!(container_of(&web).len(), 64, "{web:#}");
    assert!(worker["pid"].as_u64().is_some(), "{worker:#}");
    assert_eq!(docker.inside(&web, "echo $GREETING $TOKEN"), "hello s3cret");
    assert!(!up.ok(&["explain", "web-0"]).contains("s3cret"));

    // Not ready takes it out of traffic and restarts nothing; not alive restarts it.
    docker.inside(&web, "touch /tmp/busy");
    up.wait_replica("web-0", "not ready", |it| it["ready"] == false);
    docker.inside(&web, "rm /tmp/busy");
    let same = up.wait_replica("web-0", "ready again", is_ready);
    assert_eq!(same["container_id"], web["container_id"]);
    docker.inside(&web, "touch /tmp/broken");
    let after =
        up.wait_replica("web-0", "restarted", |it| is_ready(it) && it["container_id"] != web["container_id"]);
    assert_eq!(after["restarts"], 1, "{after:#}");
    let restarted = &up.wait_events("replica.restarted", "web-0", 1)[0];
    assert!(restarted["data"]["reason"].as_str().unwrap().contains("liveness"), "{restarted:#}");
    let explained = up.ok(&["explain", "web-0"]);
    assert!(explained.contains("status_mismatch") && explained.contains("503"), "{explained}");

    docker.inside(&worker, "touch /tmp/stuck");
    let worker = up.wait_replica("worker-0", "restarted by its exec probe", |it| {
        is_ready(it) && it["container_id"] != worker["container_id"]
    });

    // Killed from outside: exit status and signal are known, and it comes back.
    kill("KILL", pid_of(&worker));
    let exited = up.wait_events("replica.exited", "worker-0", 2);
    assert_eq!(exited[1]["data"]["exit"]["signal"], 9, "{:#}", exited[1]);
    up.wait_replica("worker-0", "back", |it| is_ready(it) && it["container_id"] != worker["container_id"]);
    assert!(up.ok(&["logs", "worker-0"]).contains("got on"));

    // One container a replica, and none when hale has ended.
    assert_eq!(docker.all().len(), 4, "{:?}", docker.docker(&["ps"]));
    let (status, output) = up.end("TERM");
    assert_eq!(status.code(), Some(0), "{output}");
    assert_eq!(docker.all(), Vec::<String>::new());
}

const ENDS: &str = "
kind: Workload
name: greedy
container: {image: hale-example/worker:1, command: [/bin/sh, -c, \"exec tail /dev/zero\"]}
resources: {memory: 8Mi}
restart: {policy: never}
---
kind: Workload
name: parent
container: {image: hale-example/worker:1, command: [/bin/sh, -c, \"tail /dev/zero; sleep 1000\"]}
resources: {memory: 8Mi}
---
kind: Workload
name: seven
container: {image: hale-example/worker:1, command: [/bin/sh, -c, \"echo bye; exit 7\"]}
restart: {policy: never}
---
kind: Workload
name: wrong
container: {image: hale-example/worker:1, command: [/no/such/program]}
restart: {maxRestarts: 1, initialBackoff: 50ms, maxBackoff: 50ms}
---
kind: Workload
name: absent
container: {image: hale-example/nothing:1, pull: never}
restart: {maxRestarts: 1, initialBackoff: 50ms, maxBackoff: 50ms}
---
kind: Workload
name: beside
process: {command: [sleep, \"1000\"]}
";

#[test]
fn how_a_container_ended_and_why_one_does_not_start_is_said() {
    let docker = Docker::start();
    let up = up(&docker, ENDS);
    let greedy = &up.wait_events("replica.exited", "greedy-0", 1)[0];
    assert_eq!(greedy["data"]["exit"]["oom"], true, "{greedy:#}");
    let seven = &up.wait_events("replica.exited", "seven-0", 1)[0];
    assert_eq!(seven["data"]["exit"]["code"], 7, "{seven:#}");
    wait_until("the last words are kept", || up.ok(&["logs", "seven-0"]).contains("bye"));
    let wrong = &up.wait_events("replica.failed", "wrong-0", 1)[0];
    assert!(wrong.to_string().contains("/no/such/program"), "{wrong:#}");
    let absent = &up.wait_events("replica.failed", "absent-0", 1)[0];
    assert!(absent.to_string().contains("hale-example/nothing:1"), "{absent:#}");
    let parent = up.replica("parent-0");
    assert_eq!(parent["phase"], "running", "a child that was killed for memory does not end it: {parent:#}");
    // None of them harms the others.
    up.wait_replica("beside-0", "running", |it| it["phase"] == "running");
}

#[test]
fn without_an_engine_containers_say_so_and_processes_run() {
    let yaml = "
kind: Workload
name: boxed
container: {image: hale-example/web:1}
---
kind: Workload
name: plain
process: {command: [sleep, \"1000\"]}
";
    let up = Up::start_tracing(yaml, &[("HALE_CONTAINER_HOST", "unix:///nowhere/docker.sock")]);
    up.wait_replica("plain-0", "running", |it| it["phase"] == "running");
    let boxed = up.wait_replica("boxed-0", "said why", |it| {
        it["last_error"].as_str().is_some_and(|it| it.contains("/nowhere/docker.sock"))
    });
    assert_eq!(boxed["ready"], false, "{boxed:#}");
}

const LEFT: &str = "
kind: Workload
name: gentle
container: {image: hale-example/worker:1}
---
kind: Workload
name: stubborn
replicas: 2
container: {image: hale-example/worker:1, command: [/bin/sh, -c, \"trap '' TERM; while :; do sleep 0.1; done\"]}
---
kind: Workload
name: adopted
replicas: 1
container: {adopt: {label: \"autoheal=true\"}}
";

/// The pids of the main processes of all four.
fn run_left(docker: &Docker, up: &Up) -> Vec<u32> {
    let running = ["gentle-0", "stubborn-0", "stubborn-1", "adopted-0"];
    let pids = running.map(|it| pid_of(&up.wait_replica(it, "running", |it| it["phase"] == "running")));
    assert_eq!(docker.all().len(), 4);
    pids.to_vec()
}

#[test]
fn containers_of_a_hale_up_that_is_killed_end_within_seconds_and_those_of_others_run_on() {
    let docker = Docker::start();
    docker.docker(&[
        "run",
        "--detach",
        "--name",
        "shop",
        "--label",
        "autoheal=true",
        "hale-example/worker:1",
    ]);
    let up = up(&docker, LEFT);
    let pids = run_left(&docker, &up);
    let began = Instant::now();
    kill("KILL", up.pid());
    wait_until("ours have ended", || pids[..3].iter().all(|it| !alive(*it)));
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "5 s, and this machine is slow: {:?}",
        began.elapsed()
    );
    wait_until("ours are removed", || docker.all().len() == 1);
    assert!(alive(pids[3]), "what somebody else made runs on");
    assert_eq!(docker.docker(&["inspect", "-f", "{{.State.Running}} {{.RestartCount}}", "shop"]), "true 0");
}

#[test]
fn with_an_engine_that_hangs_they_end_too_and_the_next_start_removes_what_is_left() {
    let docker = Docker::start();
    docker.docker(&[
        "run",
        "--detach",
        "--name",
        "shop",
        "--label",
        "autoheal=true",
        "hale-example/worker:1",
    ]);
    let first = up(&docker, LEFT);
    let pids = run_left(&docker, &first);
    docker.freeze();
    let began = Instant::now();
    kill("KILL", first.pid());
    wait_until("ours have ended", || pids[..3].iter().all(|it| !alive(*it)));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let lock = first.path("data/run/keeper.lock");
    let keeper = fs::read_to_string(lock).unwrap().trim().parse().unwrap();
    wait_until("the keeper does not wait for the engine", || !alive(keeper));
    docker.thaw();
    let host = [("HALE_CONTAINER_HOST", docker.host())];
    let host: Vec<(&str, &str)> = host.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let next = Up::start_with(
        first.dir(),
        "kind: Workload\nname: none\nprocess: {command: [sleep, \"1000\"]}\n",
        &host,
    );
    next.wait_replica("none-0", "running", |it| it["phase"] == "running");
    wait_until("what was left is removed", || docker.all().len() == 1);
    assert!(alive(pids[3]));
}

/// What autoheal is used for: containers that somebody else started, restarted when their own check fails.
#[test]
fn containers_that_somebody_else_made_are_restarted_when_their_own_check_fails() {
    let docker = Docker::start();
    for name in ["shop-a", "shop-b"] {
        docker.docker(&[
            "run",
            "--detach",
            "--name",
            name,
            "--label",
            "autoheal=true",
            "hale-example/checked:1",
        ]);
    }
    docker.docker(&["run", "--detach", "--name", "other", "hale-example/checked:1"]);
    let yaml = example("adopt.yaml").replace("name: adopted", "name: adopted\nreplicas: 2");
    let up = up(&docker, &yaml);
    let first = up.wait_replica("adopted-0", "taken over", |it| it["phase"] == "running");
    up.wait_replica("adopted-1", "taken over", |it| it["phase"] == "running");
    let before = docker.started_at("shop-a");
    assert_eq!(docker.docker(&["inspect", "-f", "{{.Id}}", "shop-a"]), container_of(&first));
    for name in ["shop-a", "other"] {
        docker.docker(&["exec", name, "touch", "/tmp/broken"]);
    }
    wait_until("it was restarted", || docker.started_at("shop-a") != before);
    let restarted = &up.wait_events("replica.restarted", "adopted-0", 1)[0];
    assert!(restarted["data"]["reason"].as_str().unwrap().contains("liveness"), "{restarted:#}");
    assert_eq!(
        docker.docker(&["inspect", "-f", "{{.Id}}", "shop-a"]),
        container_of(&first),
        "it is the same one"
    );
    assert_eq!(docker.docker(&["inspect", "-f", "{{.RestartCount}} {{.State.Running}}", "other"]), "0 true");
}

#[test]
fn without_a_number_all_containers_with_the_label_are_supervised_as_they_come_and_go() {
    let docker = Docker::start();
    let run = |name: &str| {
        let args = ["run", "--detach", "--name", name, "--label", "autoheal=true", "hale-example/checked:1"];
        docker.docker(&args)
    };
    let (first, second) = (run("shop-a"), run("shop-b"));
    let up = up(&docker, &example("adopt.yaml"));
    let supervised = |wanted: &[&String]| {
        let what = format!("{wanted:?} are supervised");
        up.wait_status(&what, |status| {
            let all = status["workloads"][0]["replicas"].as_array().unwrap();
            let running = all.iter().filter(|it| it["phase"] == "running");
            let mut ids: Vec<&str> = running.filter_map(|it| it["container_id"].as_str()).collect();
            let mut wanted: Vec<&str> = wanted.iter().map(|it| it.as_str()).collect();
            ids.sort_unstable();
            wanted.sort_unstable();
            all.len() == wanted.len() && ids == wanted
        })
    };
    supervised(&[&first, &second]);
    let third = run("shop-c");
    supervised(&[&first, &second, &third]);

    // The last one is looked after as the first is.
    let before = docker.started_at("shop-c");
    docker.docker(&["exec", "shop-c", "touch", "/tmp/broken"]);
    wait_until("it was restarted", || docker.started_at("shop-c") != before);

    // One goes, whichever it is: the others are supervised, each once, and were not touched.
    let before = docker.started_at("shop-b");
    docker.docker(&["rm", "--force", "shop-a"]);
    supervised(&[&second, &third]);
    assert_eq!(docker.started_at("shop-b"), before);
    for name in ["shop-b", "shop-c"] {
        docker.docker(&["rm", "--force", name]);
    }
    supervised(&[]);
    let again = run("shop-d");
    supervised(&[&again]);

    // A number that a person gives holds from then on.
    let also = run("shop-e");
    supervised(&[&again, &also]);
    up.ok(&["scale", "adopted", "1"]);
    supervised(&[&again]);
    let (status, output) = up.end("TERM");
    assert_eq!(status.code(), Some(0), "{output}");
    assert_eq!(docker.all().len(), 2, "they are let be");
}

#[test]
fn the_examples_with_containers_run() {
    let docker = Docker::start();
    let port = free_port();
    let files = ["web.yaml", "database.yaml", "worker.yaml"].map(example);
    let yaml = files.join("\n---\n").replace("127.0.0.1:8090", &format!("127.0.0.1:{port}"));
    let up = up(&docker, &yaml);
    for replica in ["web-0", "web-1", "db-0", "worker-0", "worker-1"] {
        up.wait_replica(replica, "ready", is_ready);
    }
    let asked = wait_for(|| match page("127.0.0.1", port, "/") {
        Ok((200, body)) => Ok(body),
        _ => Err(None),
    });
    assert_eq!(asked.as_deref(), Ok("hello from a container\n"));
    let (status, output) = up.end("TERM");
    assert_eq!(status.code(), Some(0), "{output}");
}

#[test]
fn what_was_imported_from_compose_and_from_a_manifest_runs() {
    let docker = Docker::start();
    let import = |args: &[&str]| {
        let done = hale().arg("import").args(args).current_dir(examples()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    let compose = import(&["compose", "compose.yaml"]);
    let manifest = import(&["kubernetes", "deployment.yaml"]);
    let up = up(&docker, &format!("{compose}\n---\n{manifest}"));
    let web = up.wait_replica("web-0", "ready, after the database", is_ready);
    up.wait_replica("db-0", "ready", is_ready);
    let front = up.wait_replica("front-0", "ready", is_ready);
    up.wait_replica("front-1", "ready", is_ready);
    assert_eq!(docker.inside(&web, "echo $GREETING"), "hello");
    assert_eq!(docker.inside(&front, "echo $GREETING $TOKEN"), "hi from a manifest s3cret");
    assert_eq!(docker.docker(&["volume", "ls", "--quiet", "--filter", "name=shop_data"]), "shop_data");
    for replica in [&web, &front] {
        let port = u16::try_from(replica["ports"]["http"].as_u64().unwrap()).unwrap();
        assert_eq!(page("127.0.0.1", port, "/cgi-bin/healthz").unwrap(), (200, "ok\n".to_owned()));
    }
}
