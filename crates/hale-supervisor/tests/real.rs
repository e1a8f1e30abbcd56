//! The supervisor over real processes, a real keeper and the real engine.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of a test function")]

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use hale_check::EngineOptions;
use hale_health::{Phase, ProbeKind, ProbeTiming, Reason, Status};
use hale_keeper::{LaunchOptions, launch};
use hale_model::{
    event::EventData,
    spec::{Check, Exec, Port, PortRef, Run, TcpSocket, Workload},
    status::{ReplicaStatus, WorkloadStatus},
};
use hale_supervisor::{
    engine::Checks,
    process::{ProcessOptions, ProcessRuntime},
    sim::{Recorder, with_probe, workload},
    sink::Sink,
    supervisor::{Options, Supervisor, SupervisorHandle},
};

const PATIENCE: Duration = Duration::from_secs(30);

struct Node {
    supervisor: SupervisorHandle,
    runtime: Arc<ProcessRuntime>,
    told: Arc<Recorder>,
    dir: tempfile::TempDir,
}

impl Node {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut launching = LaunchOptions::new(dir.path(), true);
        launching.command = vec![env!("CARGO_BIN_EXE_hale-test-keeper").into()];
        let keeper = launch(launching).unwrap();
        let runtime = Arc::new(ProcessRuntime::connect(keeper, ProcessOptions::default()).await.unwrap());
        let checks = Checks::start(&EngineOptions::new(tokio::runtime::Handle::current())).unwrap();
        let told = Arc::new(Recorder::default());
        let sink: Arc<dyn Sink> = Arc::<Recorder>::clone(&told);
        let supervisor = Supervisor::start(Options::new(
            "local",
            Arc::<ProcessRuntime>::clone(&runtime),
            checks.prober,
            sink,
            1,
        ));
        Self { supervisor, runtime, told, dir }
    }

    async fn apply(&self, workloads: Vec<Workload>) {
        self.supervisor.apply(workloads.into_iter().map(Arc::new).collect()).await.unwrap();
    }

    async fn until(&self, name: &str, what: &str, is: impl Fn(&WorkloadStatus) -> bool) {
        self.supervisor.wait(name, what, PATIENCE, is).await.unwrap();
    }

    async fn until_ready(&self, name: &str) {
        self.until(name, "ready", |it| it.ready == it.desired && it.status == Status::Healthy).await;
    }

    async fn replica(&self, name: &str) -> ReplicaStatus {
        self.supervisor.status_of(name).await.unwrap().replicas.remove(0)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn end(self) {
        self.supervisor.shutdown(true).await;
        self.runtime.shut_down(Duration::ZERO, PATIENCE).await;
    }
}

fn script(name: &str, replicas: u32, script: &str) -> Workload {
    let mut it = workload(name, replicas);
    let Run::Process(process) = &mut it.run else { panic!("not a process") };
    process.command = ["sh", "-c", script].map(str::to_owned).to_vec();
    it.policy.stop.grace = Duration::from_secs(5);
    it
}

fn often(kind: ProbeKind) -> ProbeTiming {
    ProbeTiming {
        period: Duration::from_millis(100),
        timeout: Duration::from_secs(2),
        ..ProbeTiming::default_for(kind)
    }
}

fn exec(workload: Workload, kind: ProbeKind, command: &str) -> Workload {
    let mut it = with_probe(workload, kind, often(kind));
    let check = Check::Exec(Exec { command: ["sh", "-c", command].map(str::to_owned).to_vec() });
    let probe = match kind {
        ProbeKind::Startup => &mut it.startup,
        ProbeKind::Liveness => &mut it.liveness,
        ProbeKind::Readiness => &mut it.readiness,
    };
    probe.as_mut().unwrap().check = check;
    it
}

fn kill(pid: Option<u32>) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid.unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_killed_is_running_again_at_once_when_there_is_no_backoff() {
    let node = Node::start().await;
    let mut web = script("web", 1, "exec sleep 1000");
    web.policy.restart.backoff.initial = Duration::ZERO;
    node.apply(vec![web]).await;
    node.until_ready("web").await;
    let mut fastest = Duration::MAX;
    for incarnation in 2..6 {
        let begun = Instant::now();
        kill(node.replica("web-0").await.pid);
        node.until("web", "back", |it| it.replicas[0].incarnation == incarnation && it.ready == 1).await;
        fastest = fastest.min(begun.elapsed());
    }
    // No backoff at all; what it takes beside is measured by the benchmark, on a machine that is not busy.
    assert!(fastest < PATIENCE / 4, "{fastest:?}");
    let replica = node.replica("web-0").await;
    assert_eq!((replica.restarts, replica.last_exit.and_then(|it| it.signal)), (4, Some(9)));
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_whose_liveness_fails_is_restarted_with_what_it_was_doing_kept() {
    let node = Node::start().await;
    let sick = node.path("sick");
    // Well until the file is there; the restart takes it away.
    let up = node.path("up");
    let run = format!(
        "echo started with password=hunter2; rm -f {}; touch {}; exec sleep 1000",
        sick.display(),
        up.display()
    );
    let check = format!("test ! -e {0} || {{ echo sick of it; exit 3; }}", sick.display());
    node.apply(vec![exec(script("web", 1, &run), ProbeKind::Liveness, &check)]).await;
    node.until_ready("web").await;
    node.until("web", "up", |_| up.exists()).await;
    std::fs::write(&sick, "").unwrap();
    node.until("web", "restarted", |it| it.replicas[0].incarnation == 2 && it.ready == 1).await;
    let restarted = node.told.events_of("web-0").into_iter().find_map(|data| match data {
        EventData::ReplicaRestarted(it) => Some(it),
        _ => None,
    });
    let restarted = restarted.unwrap();
    assert!(restarted.reason.contains("exit_code 3/3"), "{}", restarted.reason);
    let kept = restarted.forensics.unwrap();
    assert!(kept.log_tail.iter().any(|line| line.contains("started with password=***")), "{kept:#?}");
    assert!(kept.probe_outcomes.iter().any(|line| line.contains("sick of it")), "{kept:#?}");
    assert!(kept.memory_bytes.is_some_and(|it| it > 0) && kept.open_files.is_some(), "{kept:#?}");
    let failed = node.told.outcomes_of("web-0").into_iter().filter(|it| it.reason == Some(Reason::ExitCode));
    assert_eq!(failed.map(|it| it.consecutive).collect::<Vec<_>>(), [1, 2, 3]);
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_is_asked_at_the_port_that_was_given_and_gates() {
    let node = Node::start().await;
    let serve = "exec python3 -c 'import os,socketserver as s
s.TCPServer.allow_reuse_address=True
s.TCPServer((\"127.0.0.1\",int(os.environ[\"PORT_HTTP\"])),s.BaseRequestHandler).serve_forever()'";
    let mut web = with_probe(script("web", 2, serve), ProbeKind::Readiness, often(ProbeKind::Readiness));
    web.ports = vec![Port { name: "http".into(), port: 0, host_port: None }];
    let check = TcpSocket { host: None, port: PortRef::Name("http".into()) };
    web.readiness.as_mut().unwrap().check = Check::TcpSocket(check);
    node.apply(vec![web]).await;
    node.until_ready("web").await;
    let told = node.told.endpoints_of("web-1");
    assert!(!told[0].ready && told.last().unwrap().ready, "{told:#?}");
    let pid =
        rustix::process::Pid::from_raw(i32::try_from(node.replica("web-1").await.pid.unwrap()).unwrap());
    rustix::process::kill_process(pid.unwrap(), rustix::process::Signal::STOP).unwrap();
    rustix::process::kill_process(pid.unwrap(), rustix::process::Signal::CONT).unwrap();
    let ports = node.replica("web-1").await.ports;
    kill(node.replica("web-1").await.pid);
    node.until("web-1", "back", |it| it.replicas[0].incarnation == 2 && it.replicas[0].ready).await;
    assert_eq!(node.replica("web-1").await.ports, ports, "it keeps its port");
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_missing_is_given_up_with_a_reason_that_names_it() {
    let node = Node::start().await;
    let mut web = workload("web", 1);
    let Run::Process(process) = &mut web.run else { panic!("not a process") };
    process.command = vec!["/nowhere/web".into()];
    node.apply(vec![web]).await;
    node.until("web", "failed", |it| it.replicas[0].phase == Phase::Failed).await;
    let error = node.replica("web-0").await.last_error.unwrap();
    assert!(error.contains("/nowhere/web"), "{error}");
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_notifies_is_started_when_it_says_so() {
    let node = Node::start().await;
    let say = "import os,socket,time
s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM)
a=os.environ[\"NOTIFY_SOCKET\"]
s.connect(\"\\0\"+a[1:] if a[0]==\"@\" else a)
s.send(b\"STATUS=warming up\\nREADY=1\")
while True:
    time.sleep(0.05)
    s.send(b\"WATCHDOG=1\")";
    let mut it = script("web", 1, "exec python3 \"$SCRIPT\"");
    std::fs::write(node.path("say.py"), say).unwrap();
    let Run::Process(process) = &mut it.run else { panic!("not a process") };
    process.env.insert("SCRIPT".into(), node.path("say.py").display().to_string());
    let slow = ProbeTiming { period: Duration::from_millis(500), ..often(ProbeKind::Liveness) };
    it = with_probe(
        it,
        ProbeKind::Startup,
        ProbeTiming { failure_threshold: 100, ..often(ProbeKind::Startup) },
    );
    it = with_probe(it, ProbeKind::Liveness, slow);
    for probe in [&mut it.startup, &mut it.liveness].into_iter().flatten() {
        probe.check = Check::Notify;
    }
    node.apply(vec![it]).await;
    node.until_ready("web").await;
    node.until("web", "told", |it| it.replicas[0].status_text.as_deref() == Some("warming up")).await;
    node.until("web", "alive", |it| {
        it.replicas[0].probes.get("liveness").is_some_and(|probe| probe.consecutive_successes > 5)
    })
    .await;
    assert_eq!(node.replica("web-0").await.restarts, 0);
    node.end().await;
}
