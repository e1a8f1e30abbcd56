//! The Docker-compatible service of Podman, of the test's own.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    docker::{busybox, unmount_below},
    process::Server,
};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What it needs on a machine with hybrid cgroups, without systemd.
const SETTINGS: &str = "[containers]\ndefault_ulimits=[\"nofile=20000:20000\",\"nproc=32768:32768\"]\n\
    [network]\nnetwork_backend=\"netavark\"\n[engine]\ncgroup_manager=\"cgroupfs\"\nevents_logger=\"file\"\n\
    runtime=\"runc\"\n";

/// Podman's service. Dropping it removes its containers and kills it.
#[derive(Debug)]
pub struct PodmanEngine {
    dir: TempDir,
    server: Option<Server>,
}

impl PodmanEngine {
    /// Starts one.
    ///
    /// # Panics
    /// When it does not come up: not as root, or not installed.
    #[must_use]
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("hale-podman-").tempdir().expect("a directory for Podman");
        fs::write(dir.path().join("containers.conf"), SETTINGS).expect("the settings are written");
        let mut it = Self { dir, server: None };
        let script = "export CONTAINERS_CONF=$1; shift; exec podman \"$@\"";
        let conf = it.conf();
        let args = [
            "-c",
            script,
            "podman",
            &conf,
            "--root",
            &it.path("root"),
            "--runroot",
            &it.path("run"),
            "system",
            "service",
            "--time=0",
            &it.host(),
        ]
        .map(str::to_owned);
        let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
        it.server = Some(Server::start(None, &it.dir.path().join("log"), Path::new("/bin/sh"), &args));
        let until = Instant::now() + PATIENCE;
        while !it.socket().exists() {
            let log = || fs::read_to_string(it.dir.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < until, "podman did not come up: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
        it
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn conf(&self) -> String {
        self.path("containers.conf")
    }

    /// Where it listens: `unix:///…`.
    #[must_use]
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("podman.sock")
    }

    /// Lets the `podman` command do something; whether it did, and what it said.
    #[must_use]
    pub fn podman(&self, args: &[&str]) -> (bool, String) {
        let output = self.command().args(args).output().expect("podman runs; `cargo xtask test` installs it");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).trim().to_owned())
    }

    fn command(&self) -> Command {
        let mut command = Command::new("podman");
        command.env("CONTAINERS_CONF", self.conf());
        command.args(["--root", &self.path("root"), "--runroot", &self.path("run")]);
        command
    }

    /// Makes an image of this name with a shell and the usual commands.
    ///
    /// # Panics
    /// When it can't be made.
    pub fn image(&self, name: &str, changes: &[&str]) {
        let root = busybox();
        let mut tar = Command::new("tar")
            .args(["-C", &root.path().display().to_string(), "-c", "."])
            .stdout(Stdio::piped())
            .spawn()
            .expect("tar runs");
        let mut command = self.command();
        command.arg("import");
        for change in changes {
            command.arg("--change").arg(change);
        }
        let output = command.args(["-", name]).stdin(tar.stdout.take().expect("it was piped")).output();
        let _ = tar.wait();
        let output = output.expect("podman runs; `cargo xtask test` installs it");
        assert!(output.status.success(), "podman import: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for PodmanEngine {
    fn drop(&mut self) {
        let _ = self.command().args(["rm", "-fa", "-t", "0"]).output();
        if let Some(mut server) = self.server.take() {
            server.end(Signal::TERM);
        }
        unmount_below(self.dir.path());
    }
}
