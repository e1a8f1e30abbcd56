//! A Docker Engine of the test's own: socket, data, bridge. And images made from nothing.

use std::{
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::Server;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A Docker Engine that keeps containers over its own end (live restore). Dropping it removes them all, kills it, and
/// takes its bridge away.
#[derive(Debug)]
pub struct DockerEngine {
    dir: TempDir,
    bridge: String,
    server: Option<Server>,
}

impl DockerEngine {
    /// Starts one.
    ///
    /// # Panics
    /// When it does not come up: not as root, or not installed.
    #[must_use]
    pub fn start() -> Self {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let dir = tempfile::Builder::new().prefix("hale-docker-").tempdir().expect("a directory for Docker");
        let number = LAST.fetch_add(1, Ordering::Relaxed) + std::process::id() * 8;
        let bridge = format!("halet{number}");
        run("ip", &["link", "add", &bridge, "type", "bridge"]);
        let subnet = number % 60_000;
        let address = format!("10.{}.{}.1/24", 80 + subnet / 256 % 100, subnet % 256);
        run("ip", &["addr", "add", &address, "dev", &bridge]);
        run("ip", &["link", "set", &bridge, "up"]);
        let mut it = Self { dir, bridge, server: None };
        it.restart();
        it
    }

    /// Where it listens: `unix:///…`.
    #[must_use]
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The socket itself.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    /// Starts it, again, and waits until it answers.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn restart(&mut self) {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        // Of one that was killed: the next would wait for it.
        let _ = fs::remove_file(path("run/containerd/containerd.pid"));
        let _ = fs::remove_file(path("docker.pid"));
        let args = [
            "-H".to_owned(),
            self.host(),
            "--data-root".to_owned(),
            path("data"),
            "--exec-root".to_owned(),
            path("run"),
            "-p".to_owned(),
            path("docker.pid"),
            "--bridge".to_owned(),
            self.bridge.clone(),
            "--iptables=false".to_owned(),
            "--ip-forward=false".to_owned(),
            "--ip-masq=false".to_owned(),
            "--live-restore".to_owned(),
        ];
        let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
        let server = Server::start(None, &self.dir.path().join("log"), Path::new("dockerd"), &args);
        self.server = Some(server);
        let until = Instant::now() + PATIENCE;
        while !self.docker(&["version"]).0 {
            let running = self.server.as_ref().is_some_and(Server::is_running);
            let log = || fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(running && Instant::now() < until, "dockerd did not come up: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Kills it and its containerd with SIGKILL; containers run on.
    pub fn kill9(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill9();
        }
    }

    /// Lets it hang (SIGSTOP); [`Self::thaw`] lets it go on.
    pub fn freeze(&self) {
        if let Some(server) = &self.server {
            server.signal_all(Signal::STOP);
        }
    }

    /// See [`Self::freeze`].
    pub fn thaw(&self) {
        if let Some(server) = &self.server {
            server.signal_all(Signal::CONT);
        }
    }

    /// Lets the `docker` command do something; whether it did, and what it said.
    #[must_use]
    pub fn docker(&self, args: &[&str]) -> (bool, String) {
        // Debian's: another of the same name may stand before it in the PATH.
        let program = if Path::new("/usr/bin/docker").exists() { "/usr/bin/docker" } else { "docker" };
        let output = Command::new(program).arg("-H").arg(self.host()).args(args).output();
        let output = output.expect("docker runs; `cargo xtask test` installs it");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).trim().to_owned())
    }

    /// The same, where nothing else will do.
    ///
    /// # Panics
    /// When it fails.
    pub fn must(&self, args: &[&str]) -> String {
        let (done, said) = self.docker(args);
        assert!(done, "docker {args:?}: {said}");
        said
    }

    /// Makes an image of this name with a shell and the usual commands, and what else its description (lines of a
    /// Dockerfile) says.
    ///
    /// # Panics
    /// When it can't be made.
    pub fn image(&self, name: &str, description: &str) {
        let root = busybox();
        let mut import = Command::new("tar");
        let mut tar = import
            .args(["-C", &root.path().display().to_string(), "-c", "."])
            .stdout(Stdio::piped())
            .spawn()
            .expect("tar runs");
        let program = if Path::new("/usr/bin/docker").exists() { "/usr/bin/docker" } else { "docker" };
        let mut command = Command::new(program);
        command.arg("-H").arg(self.host()).arg("import");
        for line in description.lines().map(str::trim).filter(|it| !it.is_empty()) {
            command.arg("--change").arg(line);
        }
        let output = command
            .args(["-", name])
            .stdin(tar.stdout.take().expect("it was piped"))
            .output()
            .expect("docker runs");
        let _ = tar.wait();
        assert!(output.status.success(), "docker import: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for DockerEngine {
    fn drop(&mut self) {
        self.thaw();
        if self.server.is_none() {
            self.restart();
        }
        let (_, all) = self.docker(&["ps", "-aq"]);
        for container in all.split_whitespace() {
            let _ = self.docker(&["rm", "-fv", container]);
        }
        if let Some(mut server) = self.server.take() {
            server.end(Signal::TERM);
        }
        let _ = Command::new("ip").args(["link", "del", &self.bridge]).output();
        unmount_below(self.dir.path());
    }
}

/// Takes away what is mounted in a directory: one that was killed leaves it, and the directory could not be removed.
pub(crate) fn unmount_below(dir: &Path) {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let below =
        mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|it| Path::new(it).starts_with(dir));
    // What was mounted last lies on top.
    for mount in below.collect::<Vec<_>>().into_iter().rev() {
        let _ = Command::new("umount").args(["-l", mount]).output();
    }
}

/// A root file system with nothing but a static busybox.
pub(crate) fn busybox() -> TempDir {
    let root = tempfile::tempdir().expect("a directory for a root file system");
    let at = |name: &str| root.path().join(name);
    for dir in ["bin", "tmp", "etc", "proc", "sys", "dev"] {
        fs::create_dir(at(dir)).expect("directories of a root file system");
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().map(Path::new).find(|it| it.exists());
    let busybox = busybox.expect("busybox-static is installed; `cargo xtask test` installs it");
    fs::copy(busybox, at("bin/busybox")).expect("busybox is copied");
    for name in [
        "sh", "sleep", "echo", "cat", "httpd", "nc", "kill", "true", "false", "seq", "dd", "tail", "test",
        "rm", "touch", "ls", "setsid", "wget", "id",
    ] {
        std::os::unix::fs::symlink("busybox", at("bin").join(name)).expect("a link to busybox");
    }
    fs::write(at("etc/passwd"), "root:x:0:0::/:/bin/sh\napp:x:1000:1000::/:/bin/sh\n").expect("users");
    fs::write(at("etc/group"), "root:x:0:\napp:x:1000:\n").expect("groups");
    File::create(at("etc/hosts")).expect("an empty file");
    root
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; `cargo xtask test` installs it"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}
