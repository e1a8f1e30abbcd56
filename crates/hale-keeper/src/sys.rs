//! The few calls that neither std nor rustix offers in safe form.
#![expect(
    unsafe_code,
    reason = "signals, and what a child does between fork and exec, can't be had otherwise"
)]

use std::{
    ffi::CString,
    fs::File,
    io, mem,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    process::Command,
    ptr,
};

/// Closes what a process was given beside stdin, stdout and stderr. To be called first thing, before it opens any.
pub(crate) fn close_inherited() {
    // SAFETY: nobody in this process owns a descriptor yet. A kernel without the call leaves them open.
    unsafe { libc::close_range(3, u32::MAX, 0) };
}

/// Sends a signal to a process, or with a negative number to a process group.
pub(crate) fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: takes two numbers and touches no memory.
    check(unsafe { libc::kill(pid, signal) })
}

/// A child that has ended and was not reaped yet. It keeps its pid until [`reap`].
pub(crate) fn peek_ended_child() -> io::Result<Option<i32>> {
    // SAFETY: all zeroes is a valid siginfo_t.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the pointer is to a live siginfo_t of our own.
    let result = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, options) };
    match check(result) {
        // SAFETY: waitid has filled it, or left the zeroes that mean "nobody".
        Ok(()) => Ok(Some(unsafe { info.si_pid() }).filter(|pid| *pid != 0)),
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reaps a child that has ended: its exit status or the signal that ended it.
pub(crate) fn reap(pid: i32) -> io::Result<(Option<i32>, Option<i32>)> {
    let mut status = 0;
    // SAFETY: the pointer is to a live integer of our own.
    check(unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) })?;
    let code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
    Ok((code, libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status))))
}

/// Blocks these signals and gives a file that tells of them.
pub(crate) fn signal_file(signals: &[i32]) -> io::Result<File> {
    // SAFETY: all zeroes is a valid sigset_t, and sigemptyset makes it an empty one.
    let mut set: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: the pointer is to a live set of our own.
    check(unsafe { libc::sigemptyset(&raw mut set) })?;
    for signal in signals {
        // SAFETY: as above.
        check(unsafe { libc::sigaddset(&raw mut set, *signal) })?;
    }
    // SAFETY: the set lives; the old one is not wanted.
    check(unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) })?;
    // SAFETY: the set lives.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    check(fd)?;
    // SAFETY: the kernel gave us this descriptor, and nobody else has it.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// The size of a record of [`signal_file`], and where in it the signal's number stands (4 bytes).
pub(crate) const SIGNAL_RECORD: usize = size_of::<libc::signalfd_siginfo>();

/// In which step between fork and exec a start failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The exec itself.
    Exec = 0,
    /// Its own session.
    Session = 1,
    /// Joining a cgroup.
    Cgroup = 2,
    /// A resource limit.
    Limit = 3,
    /// Groups and user.
    User = 4,
    /// The working directory.
    Directory = 5,
}

/// What a child does, the exec included. Everything is allocated beforehand: between fork and exec only plain system
/// calls are made. The exec is ours because that of the C library, when the kernel does not know a file's format,
/// tries a shell: nothing runs in a shell here unless it was asked for.
pub(crate) struct Before {
    /// The program.
    pub(crate) program: CString,
    /// Its arguments.
    pub(crate) args: Strings,
    /// Its environment, `NAME=value`.
    pub(crate) env: Strings,
    /// Opened `cgroup.procs` files to join.
    pub(crate) cgroups: Vec<File>,
    /// Resource number, soft, hard.
    pub(crate) limits: Vec<(u32, u64, u64)>,
    /// uid, gid, supplementary groups.
    pub(crate) user: Option<(u32, u32, Vec<u32>)>,
    /// The working directory, opened.
    pub(crate) dir: File,
    /// Whether it sets its OOM score back to 0.
    pub(crate) reset_oom_score: bool,
}

impl Before {
    /// Has it done in the child of this command.
    pub(crate) fn install(self, command: &mut Command) {
        // SAFETY: `run` makes plain system calls only, on memory allocated before the fork.
        unsafe { command.pre_exec(move || self.run()) };
    }

    fn run(&self) -> io::Result<()> {
        default_signals();
        // SAFETY: takes nothing and touches no memory.
        at(Step::Session, check(unsafe { libc::setsid() }))?;
        for file in &self.cgroups {
            at(Step::Cgroup, write_raw(file.as_raw_fd(), b"0"))?;
        }
        if self.reset_oom_score {
            // A start is not worth failing for this.
            let _ = write_path(c"/proc/self/oom_score_adj", b"0");
        }
        for (resource, soft, hard) in &self.limits {
            let limit = libc::rlimit64 { rlim_cur: *soft, rlim_max: *hard };
            // SAFETY: the limit lives; the old one is not wanted.
            let result = unsafe { libc::prlimit64(0, *resource, &raw const limit, ptr::null_mut()) };
            at(Step::Limit, check(result))?;
        }
        // The directory was opened by the keeper; entering it is asked of the user it is to run as.
        if let Some((uid, gid, groups)) = &self.user {
            // SAFETY: the pointer and the length are those of a live vector.
            at(Step::User, check(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) }))?;
            // SAFETY: takes numbers only.
            at(Step::User, check(unsafe { libc::setgid(*gid) }))?;
            // SAFETY: takes a number only.
            at(Step::User, check(unsafe { libc::setuid(*uid) }))?;
        }
        // SAFETY: the descriptor is open, and inherited by the fork.
        at(Step::Directory, check(unsafe { libc::fchdir(self.dir.as_raw_fd()) }))?;
        // SAFETY: a C string and two vectors of such that end in null; all live until the program takes over.
        unsafe {
            libc::execve(self.program.as_ptr(), self.args.pointers.as_ptr(), self.env.pointers.as_ptr())
        };
        at(Step::Exec, Err(io::Error::last_os_error()))
    }
}

/// C strings, and the vector of pointers to them that the kernel wants.
pub(crate) struct Strings {
    pointers: Vec<*const libc::c_char>,
    _strings: Vec<CString>,
}

// SAFETY: the pointers lead into the strings beside them, which nothing changes.
unsafe impl Send for Strings {}
// SAFETY: as above.
unsafe impl Sync for Strings {}

impl Strings {
    pub(crate) fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|it| it.as_ptr()).chain(std::iter::once(ptr::null())).collect();
        Self { pointers, _strings: strings }
    }
}

/// The step and the error number in one: what a child reports is a single number.
fn at(step: Step, result: io::Result<()>) -> io::Result<()> {
    result.map_err(|error| {
        let number = error.raw_os_error().unwrap_or(libc::EIO);
        io::Error::from_raw_os_error(((step as i32) << 16) | number)
    })
}

/// Takes apart what a failed spawn reported.
pub(crate) fn spawn_error(error: &io::Error) -> (Step, io::Error) {
    let Some(number) = error.raw_os_error() else { return (Step::Exec, io::Error::from(error.kind())) };
    let step = match number >> 16 {
        1 => Step::Session,
        2 => Step::Cgroup,
        3 => Step::Limit,
        4 => Step::User,
        5 => Step::Directory,
        _ => Step::Exec,
    };
    (step, io::Error::from_raw_os_error(number & 0xffff))
}

/// No signal blocked, none ignored: a replica starts as from a fresh login.
fn default_signals() {
    // SAFETY: an all-zero sigset_t is empty on Linux, an all-zero sigaction is SIG_DFL; both live through the calls.
    // What can't be set (SIGKILL, SIGSTOP, the C library's own) is refused and left as it is.
    unsafe {
        let empty: libc::sigset_t = mem::zeroed();
        libc::sigprocmask(libc::SIG_SETMASK, &raw const empty, ptr::null_mut());
        let action: libc::sigaction = mem::zeroed();
        for signal in 1..=64 {
            libc::sigaction(signal, &raw const action, ptr::null_mut());
        }
    }
}

fn write_raw(fd: RawFd, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the pointer and the length are those of a live slice.
    check(unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) as i32 })
}

fn write_path(path: &std::ffi::CStr, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the path is a live C string.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
    check(fd)?;
    write_raw(fd, bytes)
}

fn check(result: i32) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
