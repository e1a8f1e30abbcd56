//! A PostgreSQL of this test's own: on a free port, in a directory that goes with the test, ended by its pid.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

use crate::{
    part::Part,
    process::{free_port, wait_for},
};

/// Where Debian and others put the programs.
const PLACES: [&str; 5] = [
    "/usr/lib/postgresql/17/bin",
    "/usr/lib/postgresql/16/bin",
    "/usr/lib/postgresql/15/bin",
    "/usr/local/bin",
    "/usr/bin",
];

/// One server of PostgreSQL.
pub(crate) struct Postgres {
    dir: TempDir,
    bin: PathBuf,
    pub(crate) port: u16,
    part: Option<Part>,
}

/// The programs of PostgreSQL, or that there are none.
fn bin() -> Option<PathBuf> {
    PLACES
        .iter()
        .map(PathBuf::from)
        .find(|place| place.join("initdb").exists() && place.join("pg_basebackup").exists())
}

impl Postgres {
    /// Makes an empty one and starts it. `None`, said, when PostgreSQL is not installed.
    pub(crate) fn start() -> Option<Self> {
        let Some(bin) = bin() else {
            eprintln!("skipped: PostgreSQL (initdb, pg_basebackup) is not installed");
            return None;
        };
        let mut database = Self::empty(bin);
        database.run("initdb", &["-A", "trust", "-U", "hale", "--no-sync", "-D", &database.data()]);
        let more = "fsync = on\nwal_level = replica\nmax_wal_senders = 4\nhot_standby = on\n";
        let file = Path::new(&database.data()).join("postgresql.conf");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text + more).unwrap();
        let hba = Path::new(&database.data()).join("pg_hba.conf");
        let text = fs::read_to_string(&hba).unwrap();
        fs::write(&hba, text + "host replication all 127.0.0.1/32 trust\n").unwrap();
        database.up();
        Some(database)
    }

    fn empty(bin: PathBuf) -> Self {
        let dir = tempfile::tempdir().unwrap();
        if rustix::process::geteuid().is_root() {
            // PostgreSQL refuses to run as root.
            let owned = Command::new("chown").arg("nobody").arg(dir.path()).status().unwrap();
            assert!(owned.success());
        }
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        Self { dir, bin, port: free_port(), part: None }
    }

    /// A standby of this one. The primary waits for it with each commit from now on.
    pub(crate) fn standby(&self) -> Self {
        let standby = Self::empty(self.bin.clone());
        let from = format!("host=127.0.0.1 port={} user=hale application_name=standby", self.port);
        standby.run("pg_basebackup", &["-R", "-c", "fast", "-D", &standby.data(), "-d", &from]);
        let mut standby = standby;
        standby.up();
        self.sql("ALTER SYSTEM SET synchronous_standby_names = 'standby'");
        self.sql("SELECT pg_reload_conf()");
        wait_for(|| {
            let state = self.sql("SELECT sync_state FROM pg_stat_replication");
            if state.contains("sync") { Ok(()) } else { Err(None) }
        })
        .unwrap_or_else(|_| panic!("the standby does not follow"));
        standby
    }

    fn data(&self) -> String {
        self.dir.path().join("data").to_str().unwrap().to_owned()
    }

    /// A program of PostgreSQL, as a user that it accepts.
    fn command(&self, program: &str) -> Command {
        let path = self.bin.join(program);
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    fn run(&self, program: &str, args: &[&str]) {
        let output = self.command(program).args(args).output().unwrap();
        assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Starts it, or starts it again.
    pub(crate) fn up(&mut self) {
        // What was killed leaves its file behind; whether one runs is known here better.
        drop(fs::remove_file(Path::new(&self.data()).join("postmaster.pid")));
        let mut command = self.command("postgres");
        let socket = self.dir.path().to_str().unwrap();
        command
            .args(["-D", &self.data(), "-k", socket, "-p", &self.port.to_string()])
            .args(["-c", "listen_addresses=127.0.0.1"]);
        self.part = Some(Part::start("postgres", command));
        wait_for(|| if self.try_sql("SELECT 1").is_some() { Ok(()) } else { Err(None) })
            .unwrap_or_else(|_| panic!("{}", self.part.as_ref().unwrap().output()));
    }

    /// `kill -9`. Its children notice and end.
    pub(crate) fn kill(&mut self) {
        self.part.take().unwrap().kill();
        let port = self.port;
        wait_for(
            || if std::net::TcpStream::connect(("127.0.0.1", port)).is_err() { Ok(()) } else { Err(None) },
        )
        .unwrap_or_else(|_| panic!("its children go on"));
    }

    /// Makes a standby the primary.
    pub(crate) fn promote(&self) {
        self.sql("SELECT pg_promote()");
    }

    /// What a query gives, one row a line.
    pub(crate) fn sql(&self, query: &str) -> String {
        self.try_sql(query).unwrap_or_else(|| panic!("{query} failed"))
    }

    fn try_sql(&self, query: &str) -> Option<String> {
        let output = Command::new(self.bin.join("psql"))
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &self.port.to_string(),
                "-U",
                "hale",
                "-d",
                "postgres",
                "-AtX",
                "-c",
                query,
            ])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut part) = self.part.take()
            && part.runs()
        {
            // Immediate shutdown: it ends its children itself.
            part.end("QUIT");
        }
    }
}
