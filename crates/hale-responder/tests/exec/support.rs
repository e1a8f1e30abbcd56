//! Jobs, and waiting for what they do.

use std::{
    collections::BTreeMap,
    fs,
    future::Future,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hale_api::runs::{Alert, Resource, Run, RunState};
use hale_keeper::procfs;
use hale_model::spec::{AlertSeverity, Autonomy, Program, Stdin};
use hale_responder::exec::{Ended, ExecOptions, Executor, Job};
use jiff::Timestamp;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// What is waited for comes within this, or the test fails.
pub(crate) const AMPLE: Duration = Duration::from_secs(60);

/// A directory of workspaces and who runs programs in it.
pub(crate) struct Place {
    pub(crate) dir: TempDir,
    pub(crate) executor: Executor,
}

pub(crate) fn mark_of(dir: &Path) -> String {
    dir.file_name().unwrap().to_str().unwrap().replace(|it: char| !it.is_ascii_alphanumeric(), "-")
}

pub(crate) fn options(dir: &Path) -> ExecOptions {
    let mark = format!("test{}", mark_of(dir));
    ExecOptions { grace: Duration::from_millis(500), ..ExecOptions::new(dir.join("workspaces"), mark) }
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut ExecOptions)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = options(dir.path());
        change(&mut options);
        let executor = Executor::new(options).unwrap();
        Self { dir, executor }
    }

    /// With cgroups and without: most must hold in both.
    pub(crate) fn both() -> [Self; 2] {
        let plain = tempfile::tempdir().unwrap();
        let executor = Executor::without_cgroups(options(plain.path())).unwrap();
        let with = Self::new();
        assert!(with.executor.has_cgroups(), "these tests need a cgroup of version 2 that can be written");
        [with, Self { dir: plain, executor }]
    }

    pub(crate) fn workspace(&self, job: &Job) -> PathBuf {
        self.dir.path().join("workspaces").join(&job.run.id)
    }

    pub(crate) async fn run(&self, job: &Job) -> Ended {
        soon(self.executor.run(job.clone(), CancellationToken::new())).await
    }

    /// How many cgroups of runs there are.
    pub(crate) fn groups(&self) -> usize {
        let base = fs::read_to_string(self.dir.path().join("workspaces/.cgroup")).unwrap();
        fs::read_dir(base).unwrap().flatten().filter(|it| it.path().is_dir()).count()
    }

    /// What a job's program said.
    pub(crate) fn out(&self, job: &Job) -> String {
        fs::read_to_string(self.workspace(job).join("logs/stdout.log")).unwrap()
    }

    /// A number that a program writes to a file in `output/`.
    pub(crate) async fn pid(&self, job: &Job, name: &str) -> i32 {
        let path = self.workspace(job).join("output").join(name);
        wait_for(&format!("a pid in {}", path.display()), || read_pid(&path)).await
    }
}

pub(crate) fn read_pid(path: &Path) -> Option<i32> {
    fs::read_to_string(path).ok()?.strip_suffix('\n')?.trim().parse().ok()
}

pub(crate) async fn soon<T>(it: impl Future<Output = T>) -> T {
    tokio::time::timeout(AMPLE, it).await.expect("it comes to an end")
}

pub(crate) async fn wait_for<T>(what: &str, mut it: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + AMPLE;
    loop {
        if let Some(found) = it() {
            return found;
        }
        assert!(Instant::now() < until, "no {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn is_alive(pid: i32) -> bool {
    procfs::process(pid).is_some_and(|it| !it.zombie)
}

pub(crate) fn alert() -> Alert {
    let at: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    Alert {
        id: "a1".into(),
        cluster: "prod-eu".into(),
        source: "mcp".into(),
        source_id: None,
        severity: AlertSeverity::Warning,
        fault_type: "CrashLoop".into(),
        resource: Resource {
            api_version: Some("v1".into()),
            kind: "Pod".into(),
            name: "web-0".into(),
            namespace: Some("shop".into()),
            uid: Some("u-1".into()),
        },
        message: "it crashes".into(),
        labels: BTreeMap::from([("env".into(), "prod".into())]),
        context: serde_json::Value::Null,
        timestamp: at,
        received_at: at,
    }
}

pub(crate) fn program(command: &[&str]) -> Program {
    Program {
        command: command.iter().map(|it| (*it).to_owned()).collect(),
        timeout: None,
        env: BTreeMap::new(),
        pass_env: Vec::new(),
        user: None,
        prompt_file: None,
        stdin: Stdin::Alert,
        max_output: 1 << 20,
    }
}

pub(crate) fn job(id: &str, command: &[&str]) -> Job {
    let alert = alert();
    let run = Run {
        id: id.into(),
        responder: "triage".into(),
        alert: alert.id.clone(),
        cluster: alert.cluster.clone(),
        severity: alert.severity,
        fault_type: alert.fault_type.clone(),
        resource: alert.resource.clone(),
        rule: "crash-loops".into(),
        autonomy: Autonomy::Act,
        step: 0,
        escalates: None,
        state: RunState::Running,
        reason: None,
        duplicates: 0,
        queued_at: alert.received_at,
        approve_until: None,
        decided_by: None,
        started_at: None,
        ended_at: None,
        recover_until: None,
        finished_at: None,
        exit_code: None,
        signal: None,
        workspace: None,
        artifacts: Vec::new(),
        cost: None,
        command: Vec::new(),
    };
    Job { run, alert, program: program(command), timeout: AMPLE, kubeconfig: None, artifact: None }
}

/// A job of a few lines of shell, in which a dollar is a dollar.
pub(crate) fn script(id: &str, lines: &str) -> Job {
    job(id, &["sh", "-c", &lines.replace('$', "$$")])
}

/// Writes a program.
pub(crate) fn write_program(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
