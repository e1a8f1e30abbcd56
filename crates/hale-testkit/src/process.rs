//! A server that ends when its test does, however that ends.

use std::{
    ffi::OsStr,
    fs,
    io::Write,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// Starts the program, and kills it when the pipe from the test is closed: also by SIGKILL of the test.
const GUARD: &str = "log=$1; shift; exec 3<&0; \"$@\" </dev/null >>\"$log\" 2>&1 3<&- & pid=$!; echo $pid; \
     exec >/dev/null; read word <&3; [ \"$word\" = let-go ] || kill -QUIT $pid 2>/dev/null; kill -CONT $pid 2>/dev/null; wait $pid";

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    guard: Child,
    pipe: Option<ChildStdin>,
    pid: Pid,
}

/// Whom to run as: PostgreSQL refuses root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Server {
    /// Starts a program with its output in `log`.
    pub(crate) fn start(user: Option<User>, log: &Path, program: &Path, args: &[&OsStr]) -> Self {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", GUARD, "guard"]).arg(log).arg(program).args(args);
        command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        // Not the terminal's: Ctrl-C is for the test, which then ends it.
        command.process_group(0);
        run_as(&mut command, user);
        let mut guard = command.spawn().expect("a shell starts");
        let pipe = guard.stdin.take();
        let mut line = String::new();
        let out = guard.stdout.take().expect("it was piped");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line)
            .expect("the shell tells the pid");
        let pid = line.trim().parse().ok().and_then(Pid::from_raw).expect("the shell tells the pid");
        Self { guard, pipe, pid }
    }

    pub(crate) fn is_running(&self) -> bool {
        is_alive(self.pid)
    }

    /// Kills it and all it started with SIGKILL, as a machine does that loses its power, and waits until they are gone.
    pub(crate) fn kill9(&mut self) {
        // Stopped first, so that it starts nothing while its children are counted.
        let _ = kill_process(self.pid, Signal::STOP);
        let children = children(self.pid);
        for pid in &children {
            let _ = kill_process(*pid, Signal::KILL);
        }
        let _ = kill_process(self.pid, Signal::KILL);
        self.wait();
        let until = Instant::now() + Duration::from_secs(30);
        while children.iter().any(|pid| is_alive(*pid)) {
            assert!(Instant::now() < until, "killed processes are still there");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Gives it and all it started a signal.
    pub(crate) fn signal_all(&self, signal: Signal) {
        let _ = kill_process(self.pid, signal);
        for pid in children(self.pid) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Tells it to end, and waits.
    pub(crate) fn end(&mut self, signal: Signal) {
        let _ = kill_process(self.pid, signal);
        self.wait();
    }

    fn wait(&mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            let _ = pipe.write_all(b"let-go\n");
        }
        let _ = self.guard.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.pipe.is_some() {
            self.kill9();
        }
    }
}

/// Runs a command as somebody else.
pub(crate) fn run_as(command: &mut Command, user: Option<User>) {
    if let Some(User { uid, gid }) = user {
        command.uid(uid).gid(gid);
    }
}

/// State and parent of a process.
fn stat(pid: &str) -> Option<(String, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut words = rest.split_whitespace();
    Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
}

fn children(parent: Pid) -> Vec<Pid> {
    let processes = fs::read_dir("/proc").expect("there is /proc").flatten();
    let names = processes.filter_map(|it| it.file_name().into_string().ok());
    let ours = names.filter(|pid| stat(pid).is_some_and(|(_, of)| of == parent.as_raw_nonzero().get()));
    ours.filter_map(|pid| pid.parse().ok().and_then(Pid::from_raw)).collect()
}

/// A zombie is not: who has to reap it may be slow.
fn is_alive(pid: Pid) -> bool {
    stat(&pid.as_raw_nonzero().to_string()).is_some_and(|(state, _)| state != "Z" && state != "X")
}
