//! What supervising containers costs: CPU and memory of the process that does it.
//!
//! `cargo bench -p hale-container --bench engine -- made 2000` asks an engine made for this (a process of its own that
//! speaks the API over a Unix socket); `-- real 200` a Docker Engine of its own. Each container is probed over HTTP every
//! 10 s; of the made ones some end all the time, and are started again.

#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark ends loudly, and prints"
)]

mod made;

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use hale_check::EngineOptions;
use hale_container::{ContainerOptions, ContainerRuntime};
use hale_health::{ProbeKind, ProbeTiming};
use hale_model::spec::{Check, Container, ContainerFrom, HttpGet, Port, PortRef, Pull, Run, Workload};
use hale_supervisor::{
    engine::Checks,
    mementos::FileMementos,
    runtime::Runtime,
    sim::{Recorder, with_probe, workload},
    sink::Sink,
    supervisor::{Options, Supervisor, SupervisorHandle},
};
use hale_testkit::DockerEngine;

/// How long is measured.
const MEASURED: Duration = Duration::from_secs(30);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with("--")).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["be-engine", socket, port] => made::run(Path::new(socket), port.parse().unwrap()),
        ["real", count] => {
            let engine = DockerEngine::start();
            engine.image("hale-bench/base:1", "");
            supervise("Docker Engine", &engine.host(), count.parse().unwrap(), 8080);
        }
        ["made", count] => with_made(count.parse().unwrap()),
        _ => with_made(200),
    }
}

fn with_made(count: u32) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("engine.sock");
    // Free on all of loopback now, and asked for at once.
    let port = std::net::TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    let mut engine: Child = Command::new(std::env::current_exe().unwrap())
        .arg("be-engine")
        .arg(&socket)
        .arg(port.to_string())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    while !socket.exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    supervise("engine made for this", &format!("unix://{}", socket.display()), count, port);
    let _ = engine.kill();
    let _ = engine.wait();
}

fn declared(count: u32, port: u16) -> Workload {
    let timing = ProbeTiming {
        period: Duration::from_secs(10),
        timeout: Duration::from_secs(5),
        ..ProbeTiming::default_for(ProbeKind::Liveness)
    };
    let mut it = with_probe(workload("bench", count), ProbeKind::Liveness, timing);
    it.run = Run::Container(Container {
        from: ContainerFrom::Image { image: "hale-bench/base:1".to_owned(), pull: Pull::Missing },
        command: ["/bin/sh", "-c", "exec httpd -f -p $PORT -h /etc"].map(str::to_owned).to_vec(),
        args: Vec::new(),
        env: BTreeMap::new(),
        secret_env: BTreeMap::new(),
        env_from: Vec::new(),
        working_dir: None,
        user: None,
        volumes: Vec::new(),
        network: None,
        labels: BTreeMap::new(),
        read_only: false,
        ulimits: BTreeMap::new(),
        healthcheck: true,
    });
    it.ports = vec![Port { name: "http".to_owned(), port, host_port: None }];
    it.liveness.as_mut().unwrap().check = Check::HttpGet(HttpGet {
        tls: false,
        host: None,
        port: PortRef::Number(port),
        path: "/passwd".to_owned(),
        headers: Vec::new(),
        expected_status: vec![(200, 399)],
        expected_body: None,
        expected_json: Vec::new(),
        ca_file: None,
        tls_server_name: None,
        tls_insecure_skip_verify: None,
        keep_alive: false,
    });
    it.policy.restart.max_restarts = 1000;
    it
}

fn supervise(what: &str, host: &str, count: u32, port: u16) {
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    tokio.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let options = ContainerOptions { host: Some(host.to_owned()), ..ContainerOptions::new(dir.path()) };
        let runtime = Arc::new(ContainerRuntime::new(options));
        let checks = Checks::start(&EngineOptions::new(tokio::runtime::Handle::current())).unwrap();
        let told = Arc::new(Recorder::default());
        let sink: Arc<dyn Sink> = Arc::<Recorder>::clone(&told);
        let before = (cpu(), memory());
        let mut options =
            Options::new("local", Arc::<ContainerRuntime>::clone(&runtime) as Arc<dyn Runtime>, checks.prober, sink, 1);
        options.mementos = Some(FileMementos::open(dir.path()).unwrap());
        let supervisor = Supervisor::start(options);
        let began = Instant::now();
        supervisor.apply(vec![Arc::new(declared(count, port))]).await.unwrap();
        // Some are always on their way: those of the made engine end all the time.
        while ready(&supervisor).await < count - count / 20 {
            assert!(began.elapsed() < Duration::from_secs(600), "{} of {count} run", ready(&supervisor).await);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let (took, cost) = (began.elapsed(), cpu() - before.0);
        println!(
            "{what}: {count} containers started in {:.1} s, {:.1} ms CPU each; {:.0} KiB more memory each",
            took.as_secs_f64(),
            cost.as_secs_f64() * 1000.0 / f64::from(count),
            (memory() - before.1) as f64 / 1024.0 / f64::from(count),
        );
        told.clear();
        let before = cpu();
        tokio::time::sleep(MEASURED).await;
        let cost = cpu() - before;
        let restarts = told.events().iter().filter(|it| it.data.kind().ends_with("restarted")).count();
        println!(
            "{what}: {count} containers, each probed every 10 s, {restarts} restarts in {} s: {:.1} % of one CPU; {:.0} MiB in all",
            MEASURED.as_secs(),
            cost.as_secs_f64() * 100.0 / MEASURED.as_secs_f64(),
            memory() as f64 / f64::from(1 << 20),
        );
        supervisor.shutdown(true).await;
    });
}

async fn ready(supervisor: &SupervisorHandle) -> u32 {
    supervisor.status().await.map_or(0, |all| all.iter().map(|it| it.ready).sum())
}

/// CPU time of this process.
fn cpu() -> Duration {
    let at = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(at.tv_sec).unwrap(), u32::try_from(at.tv_nsec).unwrap())
}

/// Resident memory of this process, bytes.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|it| it.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
