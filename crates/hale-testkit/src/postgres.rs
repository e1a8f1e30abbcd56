//! PostgreSQL: a server, its standbys, and their ends.

use std::{
    ffi::OsStr,
    fs::{self, File},
    net::TcpListener,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::{Server, User, run_as};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A PostgreSQL of the test's own: data, socket and port; `fsync` is on, everybody on this machine is trusted as `hale`.
/// Dropping it kills it and removes its data.
#[derive(Debug)]
pub struct Postgres {
    dir: TempDir,
    port: u16,
    user: Option<User>,
    server: Option<Server>,
}

impl Postgres {
    /// Starts one.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start() -> Self {
        let mut it = Self::new();
        copy(&template(it.user), &it.data());
        it.restart();
        it
    }

    /// Starts a synchronous standby of `primary`, which from then on acknowledges only what the standby has, too.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn standby_of(primary: &Self) -> Self {
        let mut it = Self::new();
        let mut command = Command::new(program("pg_basebackup"));
        command.args([
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
            "-h",
            "127.0.0.1",
            "-U",
            "hale",
            "-d",
            "application_name=standby",
        ]);
        command.arg("-p").arg(primary.port.to_string()).arg("-D").arg(it.data());
        run(&mut command, it.user);
        it.restart();
        primary.sql("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'");
        primary.sql("postgres", "SELECT pg_reload_conf()");
        let asked = "SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')";
        until("the standby is synchronous", || primary.sql("postgres", asked) == "1");
        it
    }

    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("hale-pg-").tempdir().expect("a directory for PostgreSQL");
        let user = unprivileged();
        if let Some(User { uid, gid }) = user {
            chown(dir.path(), Some(uid), Some(gid)).expect("the directory is given to its user");
        }
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port").port();
        Self { dir, port, user, server: None }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The port it listens on, on 127.0.0.1; it keeps it over restarts.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Makes a database of its own; its address.
    ///
    /// # Panics
    /// When it can't be made.
    #[must_use]
    pub fn database(&self) -> String {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", LAST.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    /// The address of one of its databases.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://hale@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// Lets `psql` do something in a database; what it says, without its frills.
    ///
    /// # Panics
    /// When that fails.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let output = self.psql(database, sql);
        assert!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn psql(&self, database: &str, sql: &str) -> Output {
        let mut command = Command::new(program("psql"));
        command.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            "127.0.0.1",
            "-U",
            "hale",
            "-d",
            database,
        ]);
        command.env("PGCONNECT_TIMEOUT", "10").arg("-p").arg(self.port.to_string()).args(["-c", sql]);
        command.output().expect("psql runs")
    }

    /// Kills all of its processes with SIGKILL; its data stays.
    pub fn kill9(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill9();
        }
    }

    /// Ends it as an administrator does who is in a hurry; its data stays.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.end(Signal::INT);
        }
    }

    /// Starts it, again, and waits until it answers.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn restart(&mut self) {
        self.stop();
        let args = [
            "-D",
            &self.data().to_string_lossy(),
            "-k",
            &self.dir.path().to_string_lossy(),
            "-p",
            &self.port.to_string(),
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "fsync=on",
            "-c",
            "shared_buffers=16MB",
            "-c",
            "max_connections=60",
            "-c",
            "max_wal_size=64MB",
            "-c",
            "max_wal_senders=4",
            "-c",
            "wal_keep_size=64MB",
            "-c",
            "jit=off",
        ]
        .map(String::from);
        let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
        self.server = Some(Server::start(self.user, &self.log(), &program("postgres"), &args));
        let until = Instant::now() + PATIENCE;
        while !self.psql("postgres", "SELECT 1").status.success() {
            let running = self.server.as_ref().is_some_and(Server::is_running);
            let log = || fs::read_to_string(self.log()).unwrap_or_default();
            assert!(running && Instant::now() < until, "PostgreSQL did not come up: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// Makes a standby the primary, and waits until it is.
    ///
    /// # Panics
    /// When it does not.
    pub fn promote(&self) {
        assert_eq!(self.sql("postgres", "SELECT pg_promote(true, 60)"), "t");
    }

    /// Stops all of its processes where they are (SIGSTOP), as a machine does that hangs; [`Self::thaw`] lets them go on.
    pub fn freeze(&self) {
        self.signal_all(Signal::STOP);
    }

    /// See [`Self::freeze`].
    pub fn thaw(&self) {
        self.signal_all(Signal::CONT);
    }

    fn signal_all(&self, signal: Signal) {
        if let Some(server) = &self.server {
            server.signal_all(signal);
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// PostgreSQL's programs: Debian keeps them away from the PATH.
fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut there: Vec<PathBuf> =
        versions.map(|it| it.path().join("bin").join(name)).filter(|it| it.exists()).collect();
    there.sort();
    there.pop().unwrap_or_else(|| PathBuf::from(name))
}

/// PostgreSQL does not run as root: as its own user, or as nobody.
fn unprivileged() -> Option<User> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").expect("there is /etc/passwd");
    let find = |name: &str| {
        let line = passwd.lines().find(|it| it.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some(User { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
    };
    Some(find("postgres").or_else(|| find("nobody")).expect("a user that is not root"))
}

/// An empty cluster, made once and kept beside what was built: making one takes seconds.
fn template(user: Option<User>) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a file");
    let beside = test.ancestors().nth(3).expect("tests are in target/debug/deps").join("hale-testkit");
    fs::create_dir_all(&beside).expect("a directory for the template");
    let lock = File::create(beside.join("lock")).expect("the template's lock");
    lock.lock().expect("the template's lock");
    let uid = rustix::process::geteuid().as_raw();
    let template = beside.join(format!("postgres-{uid}"));
    if template.exists() {
        return template;
    }
    let dir = tempfile::tempdir().expect("a directory for initdb");
    if let Some(User { uid, gid }) = user {
        chown(dir.path(), Some(uid), Some(gid)).expect("the directory is given to its user");
    }
    let data = dir.path().join("data");
    let mut command = Command::new(program("initdb"));
    command.args([
        "-A",
        "trust",
        "-U",
        "hale",
        "-E",
        "UTF8",
        "--locale=C",
        "--no-sync",
        "--wal-segsize=1",
        "-D",
    ]);
    run(command.arg(&data), user);
    let half = beside.join(format!("postgres-{uid}.new"));
    let _ = fs::remove_dir_all(&half);
    copy(&data, &half);
    fs::rename(&half, &template).expect("the template is put in its place");
    template
}

/// Copies a directory with its owners.
fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-a").arg(from).arg(to), None);
}

fn run(command: &mut Command, user: Option<User>) {
    run_as(command, user);
    let output = command.current_dir("/").output();
    let output = output.unwrap_or_else(|error| {
        panic!(
            "{}: {error}; `cargo xtask test` installs what the tests need",
            command.get_program().display()
        )
    });
    assert!(
        output.status.success(),
        "{}: {}",
        command.get_program().display(),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
