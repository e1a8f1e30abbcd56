//! A small agent for tests: finds or starts a keeper, takes over what runs, runs what `DIR/assign` lists, and tells what
//! it sees. It is killed, and another one goes on.
//!
//! A line of `DIR/assign` is `WORKLOAD ORDINAL GENERATION SCRIPT`. `DIR/status` holds the status as JSON, renamed into
//! its place; each report is a line of `DIR/told`. A file `DIR/detach` lets it end and leave everything as it is.
#![allow(clippy::allow_attributes, clippy::unwrap_used, reason = "it ends loudly, as a test does")]

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use hale_check::EngineOptions;
use hale_health::{Generation, ProbeKind, ProbeTiming};
use hale_keeper::{LaunchOptions, launch_or_connect};
use hale_model::{
    report::Report,
    spec::{Check, Exec, Port, Run, Workload},
};
use hale_supervisor::{
    engine::Checks,
    mementos::{FileMementos, Mementos},
    process::{ProcessOptions, ProcessRuntime},
    sim::{with_probe, workload},
    sink::Sink,
    supervisor::{Assignment, Options, Supervisor, SupervisorHandle},
};

struct Told(Mutex<File>);

impl Sink for Told {
    fn report(&self, report: Report) {
        let line = match report {
            Report::Event(event) => {
                format!("event {} {}", event.subject, serde_json::to_string(&event.data).unwrap())
            }
            Report::Endpoint(it) => format!("endpoint {} {} ready={}", it.replica, it.generation, it.ready),
            Report::Removed { replica, generation } => format!("removed {replica} {generation}"),
            Report::Outcome(_) | Report::Forgotten(_) => return,
        };
        writeln!(self.0.lock().unwrap(), "{line}").unwrap();
    }
}

/// Ready while `DIR/sick` is not there; asked ten times a second.
fn declared(dir: &Path, name: &str, script: &str) -> Arc<Workload> {
    let timing = ProbeTiming {
        period: Duration::from_millis(100),
        timeout: Duration::from_secs(5),
        ..ProbeTiming::default_for(ProbeKind::Readiness)
    };
    let mut it = with_probe(workload(name, 1), ProbeKind::Readiness, timing);
    let command = ["sh", "-c", &format!("test ! -e {}/sick", dir.display())].map(str::to_owned).to_vec();
    it.readiness.as_mut().unwrap().check = Check::Exec(Exec { command });
    it.ports = vec![Port { name: "http".to_owned(), port: 0, host_port: None }];
    it.policy.restart.backoff.initial = Duration::from_millis(20);
    it.policy.stop.grace = Duration::from_secs(5);
    let Run::Process(process) = &mut it.run else { panic!("not a process") };
    process.command = ["sh", "-c", script].map(str::to_owned).to_vec();
    process.env.insert("D".to_owned(), dir.display().to_string());
    it.digest = format!("{name} {script}");
    Arc::new(it)
}

fn assigned(dir: &Path) -> Vec<Assignment> {
    let one = |line: &str| {
        let mut words = line.splitn(4, ' ');
        let mut word = || words.next().unwrap();
        let (name, ordinal, generation) = (word(), word().parse().unwrap(), word().parse().unwrap());
        Assignment::new(declared(dir, name, word()), ordinal, Generation(generation))
    };
    fs::read_to_string(dir.join("assign")).unwrap_or_default().lines().map(one).collect()
}

async fn run(dir: &Path, supervisor: &SupervisorHandle, mementos: &FileMementos) {
    supervisor.assign(assigned(dir)).await.unwrap();
    let mut version = supervisor.version();
    loop {
        let status = supervisor.status().await.unwrap();
        // Whoever reads it may kill this agent at once: it shows nothing that the next one could not know.
        mementos.flush().await;
        let beside = dir.join("status.new");
        fs::write(&beside, serde_json::to_vec(&status).unwrap()).unwrap();
        fs::rename(&beside, dir.join("status")).unwrap();
        if fs::remove_file(dir.join("detach")).is_ok() {
            return supervisor.detach().await;
        }
        let _ = tokio::time::timeout(Duration::from_millis(20), version.changed()).await;
    }
}

fn main() {
    let mut args = std::env::args_os().skip(1);
    let (dir, keeper) = (PathBuf::from(args.next().unwrap()), args.next().unwrap());
    let mut launching = LaunchOptions::new(&dir, false);
    launching.command = vec![keeper];
    // Before there is any thread.
    let keeper = launch_or_connect(launching).unwrap();
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    tokio.block_on(async {
        let runtime = Arc::new(ProcessRuntime::connect(keeper, ProcessOptions::default()).await.unwrap());
        let checks = Checks::start(&EngineOptions::new(tokio::runtime::Handle::current())).unwrap();
        let told = OpenOptions::new().create(true).append(true).open(dir.join("told")).unwrap();
        let options = Options::new("node", runtime, checks.prober, Arc::new(Told(Mutex::new(told))), 1);
        let mementos = FileMementos::open(&dir).unwrap();
        let kept = Arc::clone(&mementos);
        let supervisor = Supervisor::start(Options { mementos: Some(kept), ..options });
        run(&dir, &supervisor, &mementos).await;
    });
}
