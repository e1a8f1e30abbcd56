//! `exec`: a command as a check (H8). Exit status 0 is success.
//!
//! The command is an argument vector, never a shell line, and runs in a process group of its own, with a mark in its
//! environment. At the timeout, and when the check is cancelled, the group is killed, and whatever else carries the
//! mark: children that left the group by `setsid` too. The group is killed before its leader is reaped, so that the
//! number of the group can't have passed to somebody else meanwhile.

mod inside;
mod kill;

use std::{
    io::{self, PipeReader},
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt, process::CommandExt},
    },
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use hale_health::Reason;
use hale_model::spec::Exec;
use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::unix::pipe,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

pub use self::{
    inside::{Commands, Inside, Ran, RanEnd},
    kill::marked as kill_marked,
};
use crate::{
    CompileError, Subject, User,
    net::Trace,
    result::{CheckResult, Fault, MAX_SNIPPET, text},
};

/// The environment variable by which what a check started is found again.
pub const MARK: &str = "HALE_CHECK";

/// How long a killed command may take to be gone before the check stops waiting for it.
const GONE_WITHIN: Duration = Duration::from_secs(1);

/// A compiled `exec`.
#[derive(Debug, Clone)]
pub(crate) struct ExecCheck {
    command: Vec<String>,
    env: Vec<(String, String)>,
    working_dir: Option<PathBuf>,
    user: Option<User>,
    inside: Option<Inside>,
}

/// How a command ended.
enum End {
    Exited(ExitStatus),
    /// Killed at the timeout; whether it is gone.
    TimedOut {
        gone: bool,
    },
    Cancelled,
}

impl ExecCheck {
    pub(crate) fn compile(spec: &Exec, subject: &Subject) -> Result<Self, CompileError> {
        let good = |arg: &String| !arg.contains('\0');
        if spec.command.first().is_none_or(String::is_empty) || !spec.command.iter().all(good) {
            return Err(CompileError::Command);
        }
        Ok(Self {
            command: spec.command.clone(),
            env: subject.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            working_dir: subject.working_dir.clone(),
            user: subject.user,
            inside: subject.inside.clone(),
        })
    }

    pub(crate) async fn run(&self, timeout: Duration) -> CheckResult {
        if let Some(inside) = &self.inside {
            return inside.check(&self.command, timeout).await;
        }
        // A task of its own: dropping this future must still kill and reap.
        let cancelled = CancellationToken::new();
        let cancel = cancelled.clone().drop_guard();
        let task = tokio::spawn(self.clone().run_to_end(timeout, cancelled));
        let result = task.await;
        drop(cancel);
        result.unwrap_or_else(|error| {
            CheckResult::failure(
                Fault::prober(format!("the check was given up: {error}")),
                Trace::new().finish(),
            )
        })
    }

    async fn run_to_end(self, timeout: Duration, cancelled: CancellationToken) -> CheckResult {
        let trace = Trace::new();
        let deadline = Instant::now() + timeout;
        let program = self.command[0].clone();
        let begun = Arc::new(AtomicBool::new(false));
        let begins = Arc::clone(&begun);
        let mut spawning = tokio::task::spawn_blocking(move || {
            begins.store(true, Ordering::Relaxed);
            self.spawn()
        });
        let spawned = tokio::select! {
            spawned = &mut spawning => spawned.unwrap_or_else(|error| Err(Fault::prober(error.to_string()))),
            () = tokio::time::sleep_until(deadline) => {
                // It may start yet: dropping what it then is kills it.
                tokio::spawn(async move { drop(spawning.await) });
                let detail = format!("{program} could not be started within {timeout:?}");
                // Until a thread takes it on, it is this agent that is late, and not the command (H10).
                let fault = match begun.load(Ordering::Relaxed) {
                    true => Fault::new(Reason::Timeout, detail),
                    false => Fault::prober(format!("{detail}: no thread was free for it")),
                };
                return CheckResult::failure(fault, trace.finish());
            }
        };
        let mut running = match spawned {
            Ok(running) => running,
            Err(fault) => return CheckResult::failure(fault, trace.finish()),
        };
        let mut output = Vec::new();
        let end = running.wait(deadline, &cancelled, &mut output).await;
        let mut result = match end {
            Ok(End::Exited(status)) if status.success() => CheckResult::success(trace.finish()),
            Ok(End::Exited(status)) => CheckResult::failure(ended(status, &output), trace.finish()),
            Ok(End::TimedOut { gone }) => {
                CheckResult::failure(overdue(&program, timeout, gone, &output), trace.finish())
            }
            Ok(End::Cancelled) => CheckResult::failure(Fault::prober("cancelled"), trace.finish()),
            Err(error) => {
                let fault = Fault::prober(format!("could not wait for {program}: {error}"));
                CheckResult::failure(fault, trace.finish())
            }
        };
        let output = text(&output, MAX_SNIPPET);
        result.snippet = (!output.is_empty()).then(|| output.into_boxed_str());
        result
    }

    fn spawn(&self) -> Result<Running, Fault> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        // The time too: an earlier process may have had the same number.
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}-{}.{}-{count}", std::process::id(), now.tv_sec, now.tv_nsec);
        let prober = |error: io::Error| Fault::prober(format!("could not start a command: {error}"));
        let (reader, writer) = io::pipe().map_err(prober)?;
        let mut command = Command::new(self.program());
        command
            .arg0(&self.command[0])
            .args(&self.command[1..])
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .env(MARK, &mark)
            .stdin(Stdio::null())
            .stdout(writer.try_clone().map_err(prober)?)
            .stderr(writer)
            .process_group(0);
        if let Some(folder) = &self.working_dir {
            command.current_dir(folder);
        }
        if let Some(user) = self.user {
            command.uid(user.uid).gid(user.gid);
        }
        let child = command.spawn().map_err(|error| self.not_started(&error))?;
        drop(command);
        Running::new(child, mark, reader)
    }

    /// The program by its path. Found here and not by the kernel's helpers: with a `PATH` of its own a bare name makes
    /// the standard library fork this whole process, where a path lets it use `posix_spawn`, which copies nothing.
    fn program(&self) -> PathBuf {
        let name = &self.command[0];
        let path = self.env.iter().find(|(variable, _)| variable.as_str() == "PATH").map(|(_, value)| value);
        let (Some(path), false) = (path, name.contains('/')) else { return PathBuf::from(name) };
        let is_program = |file: &PathBuf| {
            file.metadata().is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
        };
        std::env::split_paths(path)
            .map(|folder| folder.join(name))
            .find(is_program)
            .unwrap_or_else(|| name.into())
    }

    fn not_started(&self, error: &io::Error) -> Fault {
        let program = &self.command[0];
        let errno = error.raw_os_error().map(Errno::from_raw_os_error);
        match (errno, &self.working_dir) {
            (Some(Errno::MFILE | Errno::NFILE | Errno::AGAIN | Errno::NOMEM), _) => {
                Fault::prober(format!("could not start {program}: {error}"))
            }
            (_, Some(folder)) if !folder.is_dir() => Fault::new(
                Reason::NotExecutable,
                format!(
                    "could not start {program}: its working directory {} does not exist",
                    folder.display()
                ),
            ),
            _ => Fault::new(Reason::NotExecutable, format!("could not start {program}: {error}")),
        }
    }
}

fn ended(status: ExitStatus, output: &[u8]) -> Fault {
    use std::os::unix::process::ExitStatusExt;
    let (reason, mut detail) = match (status.code(), status.signal()) {
        (Some(code), _) => (Reason::ExitCode, format!("exit status {code}")),
        (None, Some(signal)) => (Reason::Signal, format!("ended by signal {signal}")),
        (None, None) => (Reason::Signal, "ended in an unknown way".into()),
    };
    append(&mut detail, output);
    Fault::new(reason, detail)
}

fn overdue(program: &str, timeout: Duration, gone: bool, output: &[u8]) -> Fault {
    let left = if gone { "" } else { ", and could not be killed yet" };
    let mut detail = format!("{program} did not end within {timeout:?}{left}");
    append(&mut detail, output);
    Fault::new(Reason::Timeout, detail)
}

/// The end of the output says most about a failure.
fn append(detail: &mut String, output: &[u8]) {
    let tail = text(&output[output.len().saturating_sub(512)..], 512);
    if !tail.trim().is_empty() {
        detail.push_str(": ");
        detail.push_str(tail.trim());
    }
}

/// A command that was started. Dropped before its end, it is killed with all it has started.
struct Running {
    child: Child,
    pid: Pid,
    pidfd: Option<OwnedFd>,
    mark: String,
    reader: Option<PipeReader>,
    reaped: bool,
}

impl Running {
    fn new(child: Child, mark: String, reader: PipeReader) -> Result<Self, Fault> {
        let pid = Pid::from_child(&child);
        let mut running = Self { child, pid, pidfd: None, mark, reader: Some(reader), reaped: false };
        let pidfd = pidfd_open(pid, PidfdFlags::NONBLOCK)
            .map_err(|error| Fault::prober(format!("could not watch a command: {error}")))?;
        running.pidfd = Some(pidfd);
        Ok(running)
    }

    /// Waits for the end, gathering the output, and reaps.
    async fn wait(
        &mut self,
        deadline: Instant,
        cancelled: &CancellationToken,
        output: &mut Vec<u8>,
    ) -> io::Result<End> {
        let (Some(pidfd), Some(reader)) = (self.pidfd.take(), self.reader.take()) else {
            return Err(io::Error::other("it was waited for before"));
        };
        let exit = watch(pidfd)?;
        let pipe = pipe::Receiver::from_owned_fd(reader.into())?;
        let mut open = true;
        let end = loop {
            tokio::select! {
                biased;
                () = cancelled.cancelled() => break End::Cancelled,
                () = tokio::time::sleep_until(deadline) => break End::TimedOut { gone: true },
                exited = exit.readable() => {
                    let _ = exited?;
                    break End::Exited(ExitStatus::default());
                }
                ready = pipe.readable(), if open => {
                    ready?;
                    open = read_some(&pipe, output)?;
                }
            }
        };
        if !matches!(end, End::Exited(_)) {
            self.kill_all().await;
            let gone = tokio::time::timeout(GONE_WITHIN, exit.readable()).await.is_ok();
            read_some(&pipe, output)?;
            if gone {
                self.reap()?;
            }
            return Ok(if matches!(end, End::Cancelled) { end } else { End::TimedOut { gone } });
        }
        // What it left in its group ends with it: a check leaves nothing behind.
        kill::group(self.pid);
        read_some(&pipe, output)?;
        self.reap().map(End::Exited)
    }

    async fn kill_all(&self) {
        kill::group(self.pid);
        let mark = format!("{MARK}={}", self.mark);
        // Reading /proc is file I/O.
        let _ = tokio::task::spawn_blocking(move || kill::marked(&mark)).await;
    }

    fn reap(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait()?;
        self.reaped = true;
        Ok(status)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        kill::group(self.pid);
        kill::marked(&format!("{MARK}={}", self.mark));
        // It can take a while to be gone, in an uninterruptible wait: a thread outlasts it where this can't.
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let pid = self.pid;
            let reap =
                move || rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()).map(drop);
            // Without a thread it stays a zombie until this process ends; there is nothing better to do.
            let _ = std::thread::Builder::new().name("hale-reap".into()).spawn(reap);
        }
    }
}

#[expect(deprecated, reason = "an OwnedFd keeps the promise that the unsafe constructor asks for")]
fn watch(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(pidfd, Interest::READABLE)
}

/// Takes what is in the pipe now; beyond [`MAX_SNIPPET`] it is read and dropped, so that nothing blocks the command.
/// Returns whether more may come.
fn read_some(pipe: &pipe::Receiver, output: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 4096];
    // Bounded: a command that writes without end must not keep us from its deadline.
    for _ in 0..64 {
        match pipe.try_read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(count) => {
                let room = MAX_SNIPPET.saturating_sub(output.len()).min(count);
                output.extend_from_slice(&buffer[..room]);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
