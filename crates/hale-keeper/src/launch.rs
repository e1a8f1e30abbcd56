//! Starting a keeper, from the agent's side.

use std::{
    io::{BufRead, BufReader},
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};

use crate::{KeeperError, KeeperOptions, setup};

/// How long a keeper may take to come up.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// How a keeper is started.
#[derive(Debug, Clone)]
pub struct LaunchOptions {
    /// The program and its first arguments, up to the point where `--options` follows: `/proc/self/exe keeper`.
    pub command: Vec<std::ffi::OsString>,
    /// How it is to run.
    pub keeper: KeeperOptions,
}

impl LaunchOptions {
    /// This program itself, as `keeper`, for this data directory.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, end_with_agent: bool) -> Self {
        let keeper = KeeperOptions { dir: dir.into(), end_with_agent, ..KeeperOptions::default() };
        Self { command: vec!["/proc/self/exe".into(), "keeper".into()], keeper }
    }
}

/// A keeper that is up.
#[derive(Debug)]
pub struct Launched {
    /// How it was started: how to start it again.
    pub options: LaunchOptions,
    process: Process,
}

/// Its process: a child, or one that somebody else has started.
#[derive(Debug)]
enum Process {
    Child(Child),
    Other { pid: u32, handle: OwnedFd },
}

impl Launched {
    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        match &self.process {
            Process::Child(child) => child.id(),
            Process::Other { pid, .. } => *pid,
        }
    }

    /// Its data directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.options.keeper.dir
    }

    /// Takes it off the process table if it has ended; false while it runs.
    pub fn has_ended(&mut self) -> bool {
        match &mut self.process {
            Process::Child(child) => matches!(child.try_wait(), Ok(Some(_))),
            Process::Other { handle, .. } => ended_within(handle, Some(Duration::ZERO)).unwrap_or(false),
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// The system does not let us wait for it.
    pub fn wait(&mut self) -> std::io::Result<()> {
        match &mut self.process {
            Process::Child(child) => child.wait().map(drop),
            Process::Other { handle, .. } => ended_within(handle, None).map(drop),
        }
    }

    /// One that lives, started by somebody else.
    pub(crate) fn living(options: LaunchOptions, pid: u32) -> Result<Self, KeeperError> {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let number = number.ok_or_else(|| KeeperError::NotStarted(format!("no such process: {pid}")))?;
        let handle =
            pidfd_open(number, PidfdFlags::empty()).map_err(KeeperError::system("watch the keeper"))?;
        Ok(Self { options, process: Process::Other { pid, handle } })
    }
}

/// Whether a process has ended; waits for it so long, or for as long as it takes.
pub(crate) fn ended_within(handle: &OwnedFd, limit: Option<Duration>) -> std::io::Result<bool> {
    let limit = limit.map(Timespec::try_from).transpose().map_err(std::io::Error::other)?;
    Ok(poll(&mut [PollFd::new(handle, PollFlags::IN)], limit.as_ref())? > 0)
}

/// Starts a keeper and waits until it listens.
///
/// To be called before an async runtime starts, and after [`crate::end_leftovers`]. The keeper makes its own session.
///
/// # Errors
/// The program can't be started, another keeper holds the directory, or it can't listen there; in words.
pub fn launch(mut options: LaunchOptions) -> Result<Launched, KeeperError> {
    let run = setup::run_dir(&options.keeper.dir)?;
    let dir = &mut options.keeper.dir;
    *dir = dir.canonicalize().map_err(KeeperError::path("find", dir.as_path()))?;
    let log = run.join("keeper.log");
    let stderr = std::fs::File::create(&log).map_err(KeeperError::path("write", log))?;
    let json =
        serde_json::to_string(&options.keeper).map_err(|error| KeeperError::NotStarted(error.to_string()))?;
    let mut words = options.command.iter();
    let program = words.next().ok_or_else(|| KeeperError::NotStarted("no program given".to_owned()))?;
    let mut command = Command::new(program);
    command.arg0("hale").args(words).arg("--options").arg(json).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
    let mut child = command.spawn().map_err(KeeperError::system("start the keeper"))?;
    match wait_ready(&mut child) {
        Ok(()) => Ok(Launched { options, process: Process::Child(child) }),
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(error)
        }
    }
}

fn wait_ready(child: &mut Child) -> Result<(), KeeperError> {
    let Some(stdout) = child.stdout.take() else { return Ok(()) };
    let within =
        Timespec::try_from(READY_WITHIN).map_err(|_| KeeperError::NotStarted("no time".to_owned()))?;
    let told = poll(&mut [PollFd::new(&stdout, PollFlags::IN)], Some(&within));
    if told.map_err(KeeperError::system("wait for the keeper"))? == 0 {
        return Err(KeeperError::NotStarted(format!("it said nothing within {} s", READY_WITHIN.as_secs())));
    }
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).map_err(KeeperError::system("hear the keeper"))?;
    match line.trim() {
        "ready" => Ok(()),
        "" => Err(KeeperError::NotStarted("it ended without a word".to_owned())),
        words => Err(KeeperError::NotStarted(words.to_owned())),
    }
}

/// Raises this process's soft limit of open files to the hard one; gives the soft limit before, if it was lower, to
/// be passed on in [`KeeperOptions::soft_nofile`] so that replicas start with it.
#[must_use]
pub fn raise_open_files() -> Option<u64> {
    setup::raise_open_files()
}
