//! One start: pipes, cgroups, what the child does before its program runs, and why it failed if it did.

use std::{
    ffi::{CString, OsString},
    fs::File,
    io,
    os::{fd::OwnedFd, unix::ffi::OsStringExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags},
    pipe::{PipeFlags, pipe_with},
    process::Resource,
};

use crate::{
    MARK_VARIABLE,
    cgroup::{Cgroups, Group, Limits},
    fork::{Child, Step, Strings},
    procfs,
    protocol::{SpawnFailure, Start},
};

/// What a spawn needs to know beside the order itself.
pub(crate) struct Surroundings<'a> {
    pub(crate) cgroups: &'a Cgroups,
    pub(crate) mark: &'a str,
    /// The soft limit of open files that children get back.
    pub(crate) soft_nofile: Option<u64>,
    /// Whether children have to put their OOM score back to 0.
    pub(crate) reset_oom_score: bool,
}

/// A child that runs its program.
pub(crate) struct Spawned {
    pub(crate) pid: i32,
    pub(crate) start_time: u64,
    pub(crate) group: Group,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// Spawns; returns once the program is executing or has failed to.
pub(crate) fn spawn(
    start: &Start,
    notify_socket: Option<&OsString>,
    around: &Surroundings<'_>,
) -> Result<Spawned, SpawnFailure> {
    let limits = Limits { memory: start.memory, cpu: start.cpu };
    let name = format!("{}.{}.{}", start.key.replica, start.key.generation, start.key.incarnation);
    let mut group = around.cgroups.create(&name, limits);
    let mut result = attempt(start, notify_socket, around, &group);
    if let Err((Step::Cgroup, error)) = &result {
        group.remove();
        group = Group::none(format!("it runs in no cgroup of its own: can't join one: {error}"));
        result = attempt(start, notify_socket, around, &group);
    }
    match result {
        Ok((pid, stdout, stderr)) => {
            let start_time = procfs::process(pid).map_or(0, |it| it.start_time);
            Ok(Spawned { pid, start_time, group, stdout, stderr })
        }
        Err((step, error)) => {
            group.remove();
            Err(failure(start, step, &error))
        }
    }
}

type Attempt = Result<(i32, OwnedFd, OwnedFd), (Step, io::Error)>;

fn attempt(
    start: &Start,
    notify_socket: Option<&OsString>,
    around: &Surroundings<'_>,
    group: &Group,
) -> Attempt {
    let other = |error: io::Error| (Step::Session, error);
    let dir = PathBuf::from(start.dir.clone().into_os());
    let opened = rustix::fs::open(&dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let dir = File::from(opened.map_err(|errno| (Step::Directory, errno.into()))?);
    let (stdout, child_stdout) = output_pipe().map_err(other)?;
    let (stderr, child_stderr) = output_pipe().map_err(other)?;
    let program = c_string(start.program.clone().into_os())?;
    let args = start.args.iter().map(|it| c_string(it.clone().into_os())).collect::<Result<_, _>>()?;
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let stdin = null.map_err(|errno| other(errno.into()))?;
    let (cgroup, join) = group.open_to_join().map_err(|error| (Step::Cgroup, error))?;
    let child = Child {
        program,
        args: Strings::new(args),
        env: Strings::new(environment(start, notify_socket, around.mark)?),
        cgroup,
        join,
        limits: limits(start, around.soft_nofile).map_err(|error| (Step::Limit, error))?,
        user: start.user.as_ref().map(|user| (user.uid, user.gid, user.groups.clone())),
        dir,
        reset_oom_score: around.reset_oom_score,
        streams: [stdin, child_stdout, child_stderr],
    };
    Ok((child.spawn()?, stdout, stderr))
}

/// `NAME=value`, all of them.
fn environment(
    start: &Start,
    notify_socket: Option<&OsString>,
    mark: &str,
) -> Result<Vec<CString>, (Step, io::Error)> {
    let given = start.env.iter().map(|(name, value)| (name.clone().into_os(), value.clone().into_os()));
    let mark = (OsString::from(MARK_VARIABLE), OsString::from(format!("{mark}/{}", start.key)));
    let socket = notify_socket.map(|path| (OsString::from("NOTIFY_SOCKET"), path.clone()));
    let pairs = given.chain([mark]).chain(socket);
    pairs
        .map(|(mut pair, value)| {
            pair.push("=");
            pair.push(value);
            c_string(pair)
        })
        .collect()
}

/// As the kernel wants it; a zero byte would cut it short.
fn c_string(text: OsString) -> Result<CString, (Step, io::Error)> {
    CString::new(text.into_vec()).map_err(|_| (Step::Session, io::Error::from(io::ErrorKind::InvalidInput)))
}

/// A pipe whose reading end never blocks the keeper.
fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::fs::fcntl_setfl(&read, OFlags::NONBLOCK)?;
    Ok((read, write))
}

/// What is to be set in the child: the original soft limit of open files, then what was asked for.
fn limits(start: &Start, soft_nofile: Option<u64>) -> io::Result<Vec<(u32, u64, u64)>> {
    let mut limits = Vec::new();
    if let Some(soft) = soft_nofile {
        let hard = rustix::process::getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        limits.push((Resource::Nofile as u32, soft.min(hard), hard));
    }
    for (name, soft, hard) in &start.ulimits {
        let resource = resource(name).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        limits.push((resource as u32, *soft, *hard));
    }
    Ok(limits)
}

/// The resource of this name, as `ulimit` and container files call it.
fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "as" => Resource::As,
        "core" => Resource::Core,
        "cpu" => Resource::Cpu,
        "data" => Resource::Data,
        "fsize" => Resource::Fsize,
        "locks" => Resource::Locks,
        "memlock" => Resource::Memlock,
        "msgqueue" => Resource::Msgqueue,
        "nice" => Resource::Nice,
        "nofile" => Resource::Nofile,
        "nproc" => Resource::Nproc,
        "rss" => Resource::Rss,
        "rtprio" => Resource::Rtprio,
        "rttime" => Resource::Rttime,
        "sigpending" => Resource::Sigpending,
        "stack" => Resource::Stack,
        _ => return None,
    })
}

/// Says what failed, on what, and what to try.
fn failure(start: &Start, step: Step, error: &io::Error) -> SpawnFailure {
    let program = PathBuf::from(start.program.clone().into_os());
    let shown = program.display();
    let dir = PathBuf::from(start.dir.clone().into_os());
    let (code, detail) = match (step, error.raw_os_error()) {
        (Step::Directory, Some(libc::ENOENT)) => {
            ("no_such_directory", format!("no such working directory: {}", dir.display()))
        }
        (Step::Directory, Some(libc::ENOTDIR)) => {
            ("no_such_directory", format!("the working directory is not a directory: {}", dir.display()))
        }
        (Step::Directory, _) => {
            ("not_allowed", format!("can't enter the working directory {}: {error}", dir.display()))
        }
        (Step::User, _) => ("not_allowed", user_detail(start, error)),
        (Step::Limit, _) => ("limits", format!("can't set the resource limits {:?}: {error}", start.ulimits)),
        (Step::Exec, Some(number)) => return exec_failure(&program, number, error),
        (_, Some(libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE)) => {
            ("limits", format!("can't start {shown}: {error}"))
        }
        _ => ("internal", format!("can't start {shown}: {error}")),
    };
    SpawnFailure { code: code.to_owned(), detail }
}

fn user_detail(start: &Start, error: &io::Error) -> String {
    let (uid, gid) = start.user.as_ref().map_or((0, 0), |user| (user.uid, user.gid));
    format!("can't become user {uid}, group {gid}: {error}; only root may run replicas as somebody else")
}

fn exec_failure(program: &Path, number: i32, error: &io::Error) -> SpawnFailure {
    let shown = program.display();
    let (code, detail) = match number {
        libc::ENOENT if program.exists() => {
            let detail = format!("can't run {shown}: its interpreter (first line) or loader is missing");
            ("not_found", detail)
        }
        libc::ENOENT | libc::ENOTDIR => ("not_found", format!("no such program: {shown}")),
        libc::EACCES | libc::EPERM if program.is_dir() => {
            ("not_executable", format!("{shown} is a directory, not a program"))
        }
        libc::EACCES | libc::EPERM => {
            ("not_executable", format!("{shown} may not be executed: {error} (chmod +x, or a noexec mount)"))
        }
        libc::ENOEXEC => (
            "not_executable",
            format!("{shown} is no program: {error} (a script needs a first line like #!/bin/sh)"),
        ),
        libc::E2BIG | libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE => {
            ("limits", format!("can't start {shown}: {error}"))
        }
        _ => ("internal", format!("can't start {shown}: {error}")),
    };
    SpawnFailure { code: code.to_owned(), detail }
}
