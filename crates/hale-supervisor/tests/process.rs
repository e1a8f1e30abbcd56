//! The process runtime over a real keeper and real processes (N4, N6, H18, H25).

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of a test function")]

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use hale_health::{Exit, Generation, Incarnation, ProbeKind, ProbeTiming};
use hale_keeper::{LaunchOptions, launch, procfs};
use hale_model::spec::{Check, Port, Probe, Process, Run, Workload};
use hale_supervisor::{
    process::{BaseEnvironment, PortPool, ProcessOptions, ProcessRuntime},
    runtime::{InstanceId, Launch, Runtime, RuntimeEvent, SpawnError, Started},
    sim,
};
use tokio::sync::mpsc::Receiver;

const PATIENCE: Duration = Duration::from_secs(20);

struct Node {
    runtime: ProcessRuntime,
    events: Receiver<RuntimeEvent>,
    keeper: u32,
    dir: tempfile::TempDir,
}

impl Node {
    async fn new(options: ProcessOptions) -> Self {
        Self::with(options, true).await
    }

    async fn with(options: ProcessOptions, cgroups: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut launching = LaunchOptions::new(dir.path(), true);
        launching.keeper.cgroups = cgroups;
        launching.command = vec![env!("CARGO_BIN_EXE_hale-test-keeper").into()];
        let launched = launch(launching).unwrap();
        let keeper = launched.pid();
        let runtime = ProcessRuntime::connect(launched, options).await.unwrap();
        let events = runtime.events().unwrap();
        assert!(runtime.events().is_none());
        Self { runtime, events, keeper, dir }
    }

    async fn start(&self, replica: &str, workload: Workload) -> Result<Started, SpawnError> {
        let ports = PortPool::default().assign(replica, &workload.ports).unwrap();
        self.runtime
            .start(Launch { id: id(replica), workload: Arc::new(workload), ports, stop_at: None })
            .await
    }

    async fn event(&mut self) -> RuntimeEvent {
        tokio::time::timeout(PATIENCE, self.events.recv()).await.unwrap().unwrap()
    }

    async fn ended(&mut self, replica: &str) -> Exit {
        let mut exit = None;
        loop {
            match self.event().await {
                RuntimeEvent::Exited { id, exit: how, .. } if id.replica == replica => exit = Some(how),
                RuntimeEvent::Gone { id } if id.replica == replica => {
                    return exit.expect("gone before it exited");
                }
                _ => {}
            }
        }
    }

    fn log(&self, replica: &str) -> Vec<String> {
        let lines =
            hale_supervisor::process::logs::tail(&self.runtime.log_files(replica), 1000, 1 << 20).unwrap();
        lines.into_iter().map(|line| line.text).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn end(self) {
        self.runtime.shut_down(Duration::ZERO, PATIENCE).await;
        assert!(!is_alive(self.keeper));
    }
}

fn id(replica: &str) -> InstanceId {
    InstanceId { replica: replica.to_owned(), generation: Generation(7), incarnation: Incarnation(3) }
}

fn is_alive(pid: u32) -> bool {
    procfs::process(i32::try_from(pid).unwrap()).is_some_and(|it| !it.zombie)
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

fn running(command: &[&str], change: impl FnOnce(&mut Process)) -> Workload {
    let mut workload = sim::workload("web", 1);
    let Run::Process(process) = &mut workload.run else { panic!("not a process") };
    process.command = command.iter().map(|it| (*it).to_owned()).collect();
    change(process);
    workload
}

fn script(script: &str) -> Workload {
    running(&["sh", "-c", script], |_| {})
}

async fn wait_for(what: &str, look: impl Fn() -> bool) {
    let begun = Instant::now();
    while !look() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_limit_that_nothing_keeps_is_told_at_the_first_start() {
    let mut node = Node::with(ProcessOptions::default(), false).await;
    let mut workload = script("sleep 1000");
    workload.resources.memory = Some(1 << 26);
    let workload = Arc::new(workload);
    for incarnation in [1, 2] {
        let id = InstanceId { incarnation: Incarnation(incarnation), ..id("web-0") };
        let launch = Launch { id, workload: Arc::clone(&workload), ports: BTreeMap::new(), stop_at: None };
        node.runtime.start(launch).await.unwrap();
    }
    let RuntimeEvent::Warning { id, code, detail } = node.event().await else { panic!("no warning") };
    assert_eq!((id.incarnation, code), (Incarnation(1), "limit_not_kept"));
    assert!(detail.contains("no memory limit"), "{detail}");
    assert!(node.events.try_recv().is_err(), "once");
    node.end().await;
}

#[tokio::test]
async fn a_replica_learns_its_ports_its_name_and_what_it_was_given() {
    let mut node = Node::new(ProcessOptions::default()).await;
    fs::write(node.path("env"), "FROM_FILE=file\nBOTH=file\n").unwrap();
    let files = vec![node.path("env")];
    let command = ["sh", "-c", "echo \"$@\"; env", "sh", "--port=$(PORT_WEB_UI)", "$$(PORT)", "$(NONE)"];
    let mut workload = running(&command, |process| {
        process.env_from = files;
        process.env.insert("BOTH".to_owned(), "env".to_owned());
        process.secret_env.insert("KEY".to_owned(), "swordfish".to_owned());
    });
    workload.ports = vec![
        Port { name: "web-ui".to_owned(), port: 0, host_port: None },
        Port { name: "x".to_owned(), port: 81, host_port: None },
    ];
    let started = node.start("web-0", workload).await.unwrap();
    assert!(started.pid.is_some() && started.address.is_loopback());
    assert_eq!(node.ended("web-0").await, Exit::code(0));
    let log = node.log("web-0");
    let value =
        |name: &str| log.iter().find_map(|it| it.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned);
    let port = value("PORT").unwrap();
    assert_eq!(log[0], format!("--port={port} $(PORT) $(NONE)"));
    assert_eq!(
        (value("PORT_WEB_UI").as_deref(), value("PORT_X").as_deref()),
        (Some(port.as_str()), Some("81"))
    );
    let given = [("FROM_FILE", "file"), ("BOTH", "env"), ("KEY", "swordfish"), ("HALE_WORKLOAD", "web")];
    let told = [("HALE_REPLICA", "web-0"), ("HALE_GENERATION", "7"), ("HALE_INCARNATION", "3")];
    for (name, expected) in given.into_iter().chain(told) {
        assert_eq!(value(name).as_deref(), Some(expected), "{name}");
    }
    assert_eq!(value("NOTIFY_SOCKET"), None);
    node.end().await;
}

#[tokio::test]
async fn a_server_gives_a_clean_environment_and_forbids_what_it_does_not_allow() {
    let allow_users = Some(std::iter::once("nobody".to_owned()).collect());
    let options = ProcessOptions {
        environment: BaseEnvironment::Clean,
        allow_users,
        no_root: true,
        ..ProcessOptions::default()
    };
    let mut node = Node::new(options).await;
    let refused = node.start("web-0", script("exit 0")).await.unwrap_err();
    assert_eq!(refused.code, "not_allowed", "{refused}");
    let as_user =
        |name: &str| running(&["sh", "-c", "id -un; env"], |process| process.user = Some(name.to_owned()));
    assert_eq!(node.start("web-0", as_user("daemon")).await.unwrap_err().code, "not_allowed");
    assert_eq!(node.start("web-0", as_user("no-such-user")).await.unwrap_err().code, "no_such_user");
    node.start("web-0", as_user("nobody")).await.unwrap();
    assert_eq!(node.ended("web-0").await, Exit::code(0));
    let log = node.log("web-0");
    assert_eq!(log[0], "nobody");
    let names: Vec<_> = log[1..].iter().filter_map(|it| it.split_once('=')).map(|it| it.0).collect();
    let own = |name: &&&str| !name.starts_with("HALE_") && !["PWD", "SHLVL", "_", "OLDPWD"].contains(name);
    let mut left: Vec<_> = names.iter().filter(own).collect();
    left.sort();
    assert_eq!(left, [&"HOME", &"LANG", &"LOGNAME", &"PATH", &"USER"]);
    node.end().await;
}

#[tokio::test]
async fn what_can_not_be_started_has_a_code_and_leaves_nothing() {
    let node = Node::new(ProcessOptions::default()).await;
    let cases = [
        (running(&["no-such-program-here"], |_| {}), "not_found"),
        (running(&["./no-such-file"], |_| {}), "not_found"),
        (running(&["/etc/passwd"], |_| {}), "not_executable"),
        (running(&["sh"], |it| it.working_dir = "/no/such/dir".into()), "no_such_directory"),
        (running(&["sh"], |it| it.env_from = vec!["/no/such/env".into()]), "env_file"),
        (running(&["sh"], |it| it.user = Some("no-such-user".to_owned())), "no_such_user"),
    ];
    for (workload, code) in cases {
        let error = node.start("web-0", workload).await.unwrap_err();
        assert_eq!(error.code, code, "{error}");
        assert!(node.runtime.usage(&id("web-0")).is_none());
    }
    node.end().await;
}

#[tokio::test]
async fn a_stop_during_the_start_is_not_lost() {
    let mut node = Node::new(ProcessOptions::default()).await;
    let workload = script("exec sleep 1000");
    let mut start = Box::pin(node.start("web-0", workload));
    // Polled once, the start is under way; the stop comes before it is done.
    assert!(futures_util::poll!(&mut start).is_pending());
    node.runtime.stop(&id("web-0"), 15, PATIENCE);
    let pid = start.as_mut().await.unwrap().pid.unwrap();
    drop(start);
    assert_eq!(node.ended("web-0").await.signal, Some(15));
    assert!(!is_alive(pid));
    node.end().await;
}

#[tokio::test]
async fn a_replica_that_waits_for_notify_gets_a_socket_and_its_reports_are_told() {
    let mut node = Node::new(ProcessOptions::default()).await;
    let mut workload = script("echo $NOTIFY_SOCKET $WATCHDOG_USEC; read x < /dev/zero; sleep 1000");
    let timing =
        ProbeTiming { period: Duration::from_millis(1500), ..ProbeTiming::default_for(ProbeKind::Liveness) };
    workload.liveness = Some(Probe { check: Check::Notify, timing });
    node.start("web-0", workload).await.unwrap();
    wait_for("its first line", || !node.log("web-0").is_empty()).await;
    let line = node.log("web-0").remove(0);
    let (socket, micros) = line.split_once(' ').unwrap();
    assert!(socket.starts_with("@hale/") && micros == "1500000", "{line}");
    // This process is not of the replica: what it says is not believed. What the replica says is: see the keeper.
    let address = <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(
        &socket[1..],
    );
    std::os::unix::net::UnixDatagram::unbound().unwrap().send_to_addr(b"READY=1", &address.unwrap()).unwrap();
    node.runtime.stop(&id("web-0"), 9, Duration::ZERO);
    loop {
        match node.event().await {
            RuntimeEvent::Notify { .. } => panic!("a stranger was believed"),
            RuntimeEvent::Gone { .. } => break,
            _ => {}
        }
    }
    node.end().await;
}

#[tokio::test]
async fn an_examination_tells_what_it_is_doing_without_its_secrets() {
    let mut node = Node::new(ProcessOptions::default()).await;
    let talk = "echo the key is $KEY; echo password=hunter2; sleep 1000 & sleep 1000 & echo ready; wait";
    let workload = running(&["sh", "-c", talk], |process| {
        process.secret_env.insert("KEY".to_owned(), "swordfish".to_owned());
    });
    node.start("web-0", workload).await.unwrap();
    wait_for("its output", || node.log("web-0").len() == 3).await;
    let found = node.runtime.examine(&id("web-0"), Duration::from_secs(2)).await;
    let tail = found.log_tail.join("\n");
    assert!(tail.contains("the key is ***") && tail.contains("password=***"), "{tail}");
    assert!(found.memory_bytes.unwrap() > 0 && found.threads.unwrap() >= 3, "{found:?}");
    assert!(found.open_files.unwrap() >= 3);
    assert!(found.waiting_in.iter().any(|line| line.contains("sleep")), "{:?}", found.waiting_in);
    assert_eq!(found.missing, Vec::<String>::new());
    let usage = node.runtime.usage(&id("web-0")).unwrap();
    assert!(usage.processes >= 3 && usage.memory_bytes > 0, "{usage:?}");
    node.runtime.stop(&id("web-0"), 15, Duration::ZERO);
    node.ended("web-0").await;
    assert!(node.runtime.usage(&id("web-0")).is_none());
    let after = node.runtime.examine(&id("web-0"), Duration::from_secs(2)).await;
    assert!(!after.log_tail.is_empty() && !after.missing.is_empty());
    node.end().await;
}

#[tokio::test]
async fn a_keeper_that_is_killed_is_replaced_and_all_it_ran_is_ended_and_told() {
    let mut node = Node::new(ProcessOptions::default()).await;
    let started =
        node.start("web-0", script("setsid sleep 1000 & echo $! > /dev/null; sleep 1000")).await.unwrap();
    kill(node.keeper);
    // How it ended is lost with the keeper, and told as lost.
    assert_eq!(node.ended("web-0").await, Exit::default());
    assert!(!is_alive(started.pid.unwrap()));
    node.start("web-0", script("exit 5")).await.unwrap();
    assert_eq!(node.ended("web-0").await, Exit::code(5));
    node.end().await;
}

#[tokio::test]
async fn a_runtime_that_is_dropped_leaves_nothing_where_the_keeper_was_told_to_end() {
    let node = Node::new(ProcessOptions::default()).await;
    let pid = node.start("web-0", script("sleep 1000")).await.unwrap().pid.unwrap();
    let (keeper, _dir) = (node.keeper, node.dir);
    drop((node.runtime, node.events));
    wait_for("the replica's end", || !is_alive(pid)).await;
    wait_for("the keeper's end", || !is_alive(keeper)).await;
}

#[tokio::test]
async fn a_driver_that_does_not_listen_loses_no_exit() {
    let mut node = Node::new(ProcessOptions::default()).await;
    let count = 700;
    for number in 0..count {
        node.start(&format!("web-{number}"), script("exit 1")).await.unwrap();
    }
    let (mut exits, mut gone) = (0, 0);
    while gone < count {
        match node.event().await {
            RuntimeEvent::Exited { .. } => exits += 1,
            RuntimeEvent::Gone { .. } => gone += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(exits, count);
    node.end().await;
}
