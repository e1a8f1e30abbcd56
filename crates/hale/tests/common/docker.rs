//! A container engine of a test's own: real, on its own socket, bridge and data, with the images of the examples.
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses a part of it")]

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{alive, kill, wait_for, wait_until};

/// Bridges of one process differ by this.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// Docker Engine with nothing in it but the images of the examples.
pub(crate) struct Docker {
    dir: TempDir,
    bridge: String,
    daemon: Option<Child>,
}

impl Docker {
    /// Starts one, and builds the images.
    pub(crate) fn start() -> Self {
        let number = std::process::id() * 4 + NEXT.fetch_add(1, Ordering::Relaxed);
        let bridge = format!("ht{number}");
        let subnet = format!("10.{}.{}.1/24", 128 + (number >> 8) % 100, number & 255);
        for args in [
            vec!["link", "add", &bridge, "type", "bridge"],
            vec!["address", "add", &subnet, "dev", &bridge],
            vec!["link", "set", &bridge, "up"],
        ] {
            let done = Command::new("ip").args(&args).output().unwrap();
            assert!(done.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&done.stderr));
        }
        let mut docker = Self { dir: tempfile::tempdir().unwrap(), bridge, daemon: None };
        docker.run_daemon();
        docker.build();
        docker
    }

    /// Starts the daemon, for the first time or again.
    pub(crate) fn run_daemon(&mut self) {
        let at = |name: &str| self.dir.path().join(name).to_str().unwrap().to_owned();
        // It would be taken for that of a containerd that runs.
        drop(fs::remove_file(at("run/containerd/containerd.pid")));
        fs::write(at("daemon.json"), "{}").unwrap();
        let log = fs::OpenOptions::new().create(true).append(true).open(at("log")).unwrap();
        let daemon = Command::new("dockerd")
            .args([
                "-H",
                &self.host(),
                "--data-root",
                &at("data"),
                "--exec-root",
                &at("run"),
                "-p",
                &at("pid"),
            ])
            .args(["--bridge", &self.bridge, "--iptables=false", "--ip-forward=false", "--ip-masq=false"])
            .args(["--live-restore", "--config-file", &at("daemon.json")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("dockerd: {error} (cargo xtask test installs docker.io)"));
        self.daemon = Some(daemon);
        wait_for(|| if self.try_docker(&["version"]).status.success() { Ok(()) } else { Err(None) })
            .unwrap_or_else(|_| panic!("dockerd does not answer:\n{}", self.log()));
    }

    fn build(&self) {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/containers/build.sh");
        let done = Command::new(script).env("DOCKER_HOST", self.host()).output().unwrap();
        assert!(done.status.success(), "build.sh: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// `unix:///…`, as hale and Docker are told.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}/docker.sock", self.dir.path().display())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn try_docker(&self, args: &[&str]) -> Output {
        Command::new("docker")
            .args(args)
            .env("DOCKER_HOST", self.host())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs `docker` against it; what it prints.
    pub(crate) fn docker(&self, args: &[&str]) -> String {
        let done = self.try_docker(args);
        let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(done.status.success(), "docker {args:?}: {err}");
        out.trim().to_owned()
    }

    /// The names of the containers that run.
    pub(crate) fn running(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.docker(&["ps", "--format", "{{.Names}}"]).lines().map(str::to_owned).collect();
        names.sort();
        names
    }

    /// Every container there is, running or not.
    pub(crate) fn all(&self) -> Vec<String> {
        self.docker(&["ps", "--all", "--quiet", "--no-trunc"]).lines().map(str::to_owned).collect()
    }

    /// When a container was last started.
    pub(crate) fn started_at(&self, container: &str) -> String {
        self.docker(&["inspect", "--format", "{{.State.StartedAt}}", container])
    }

    /// Runs a command inside the container of a replica.
    pub(crate) fn inside(&self, replica: &Value, line: &str) -> String {
        self.docker(&["exec", container_of(replica), "/bin/sh", "-c", line])
    }

    /// `kill -9`; containers run on (live restore).
    pub(crate) fn kill_daemon(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        // Its containerd goes, too, as when a machine's whole Docker is upgraded.
        if let Some(pid) = self.containerd() {
            kill("KILL", pid);
            wait_until("containerd has ended", || !alive(pid));
        }
    }

    fn containerd(&self) -> Option<u32> {
        let pid = fs::read_to_string(self.dir.path().join("run/containerd/containerd.pid")).ok()?;
        pid.trim().parse().ok().filter(|pid| alive(*pid))
    }
}

/// The container of a replica, as the status tells it.
pub(crate) fn container_of(replica: &Value) -> &str {
    replica["container_id"].as_str().unwrap_or_else(|| panic!("no container in {replica:#}"))
}

impl Drop for Docker {
    /// Nothing is left: no container, no process, no mount, no bridge.
    fn drop(&mut self) {
        if self.daemon.is_none() {
            self.run_daemon();
        }
        let all = self.all();
        if !all.is_empty() {
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            self.try_docker(&[&["rm", "--force"], &all[..]].concat());
        }
        if let Some(mut daemon) = self.daemon.take() {
            let containerd = self.containerd();
            kill("TERM", daemon.id());
            if wait_for(|| daemon.try_wait().unwrap().ok_or(None)).is_err() {
                drop(daemon.kill());
                drop(daemon.wait());
            }
            if let Some(pid) = containerd.filter(|pid| alive(*pid)) {
                kill("TERM", pid);
                wait_until("containerd has ended", || !alive(pid));
            }
        }
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        let own = self.dir.path().to_str().unwrap();
        for mount in mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|it| it.starts_with(own))
        {
            drop(Command::new("umount").args(["--lazy", mount]).output());
        }
        drop(Command::new("ip").args(["link", "delete", &self.bridge]).output());
    }
}
