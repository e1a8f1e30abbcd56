//! One child: into its cgroup by birth, then what it does until its program runs, the exec included.
//!
//! Not std's `Command`, for two reasons. A process that is moved into a cgroup waits for every processor of the machine
//! to pass through the scheduler, 10 ms and more; one that is born there does not, and that takes `clone3`. And the C
//! library's exec, when the kernel does not know a file's format, tries a shell: nothing runs in a shell here unless
//! it was asked for.
#![expect(unsafe_code, reason = "fork, exec and what is between them can't be had otherwise")]

use std::{
    ffi::{CStr, CString},
    fs::File,
    io::{self, Read},
    mem,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    ptr,
};

use rustix::{
    fs::{Mode, OFlags, openat},
    pipe::{PipeFlags, pipe_with},
    process::{Pid, WaitOptions, waitpid},
};

use crate::sys::check;

/// In which step a start failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The exec itself.
    Exec = 0,
    /// Its own session, and whatever is no other step.
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

/// All that a child needs, allocated before it is made: between fork and exec only plain system calls are made.
pub(crate) struct Child {
    /// The program.
    pub(crate) program: CString,
    /// Its arguments.
    pub(crate) args: Strings,
    /// Its environment, `NAME=value`.
    pub(crate) env: Strings,
    /// The directory of the cgroup of version 2 it is born into.
    pub(crate) cgroup: Option<OwnedFd>,
    /// `cgroup.procs` files of version 1 that it writes itself into.
    pub(crate) join: Vec<File>,
    /// Resource number, soft, hard.
    pub(crate) limits: Vec<(u32, u64, u64)>,
    /// uid, gid, supplementary groups.
    pub(crate) user: Option<(u32, u32, Vec<u32>)>,
    /// The working directory.
    pub(crate) dir: File,
    /// Whether it sets its OOM score back to 0.
    pub(crate) reset_oom_score: bool,
    /// Its stdin, stdout and stderr.
    pub(crate) streams: [OwnedFd; 3],
}

/// C strings, and the vector of pointers to them that the kernel wants.
pub(crate) struct Strings {
    pointers: Vec<*const libc::c_char>,
    _strings: Vec<CString>,
}

impl Strings {
    pub(crate) fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|it| it.as_ptr()).chain(std::iter::once(ptr::null())).collect();
        Self { pointers, _strings: strings }
    }
}

impl Child {
    /// Makes it; returns its pid once the program runs, or the step that failed.
    pub(crate) fn spawn(&self) -> Result<i32, (Step, io::Error)> {
        let other = |error: io::Error| (Step::Session, error);
        // The exec closes it: an end without a word means that the program runs.
        let (result, tell) = pipe_with(PipeFlags::CLOEXEC).map_err(|errno| other(errno.into()))?;
        let mut moved = None;
        let mut pid = clone_into(self.cgroup.as_ref());
        if let (Some(cgroup), Err(error)) = (&self.cgroup, &pid)
            && is_unsupported(error)
        {
            let opened = openat(cgroup, c"cgroup.procs", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
            moved = Some(opened.map_err(|errno| (Step::Cgroup, errno.into()))?);
            pid = clone_into(None);
        }
        let step = if self.cgroup.is_some() && moved.is_none() { Step::Cgroup } else { Step::Session };
        let pid = pid.map_err(|error| (step, error))?;
        if pid == 0 {
            let number = self.run(moved.as_ref()).raw_os_error().unwrap_or(libc::EIO);
            let _ = write_raw(tell.as_raw_fd(), &number.to_ne_bytes());
            // SAFETY: ends this process at once, without running anything of its parent's.
            unsafe { libc::_exit(127) };
        }
        drop(tell);
        let mut number = [0_u8; 4];
        if File::from(result).read(&mut number).map_err(other)? < number.len() {
            return Ok(pid);
        }
        // It has told why, and ends by itself.
        let _ = waitpid(Pid::from_raw(pid), WaitOptions::empty());
        Err(take_apart(i32::from_ne_bytes(number)))
    }

    /// What the child does; returns only if it fails.
    fn run(&self, moved: Option<&OwnedFd>) -> io::Error {
        if let Err(error) = self.make_ready(moved) {
            return error;
        }
        // SAFETY: a C string and two vectors of such that end in null; all live until the program takes over.
        unsafe {
            libc::execve(self.program.as_ptr(), self.args.pointers.as_ptr(), self.env.pointers.as_ptr());
        }
        io::Error::last_os_error()
    }

    fn make_ready(&self, moved: Option<&OwnedFd>) -> io::Result<()> {
        default_signals();
        for (number, stream) in (0..).zip(&self.streams) {
            // SAFETY: takes two numbers; these three belong to the program to come.
            at(Step::Session, check(unsafe { libc::dup2(stream.as_raw_fd(), number) }))?;
        }
        // SAFETY: takes nothing and touches no memory.
        at(Step::Session, check(unsafe { libc::setsid() }))?;
        for file in moved.map(AsRawFd::as_raw_fd).into_iter().chain(self.join.iter().map(AsRawFd::as_raw_fd))
        {
            at(Step::Cgroup, write_raw(file, b"0"))?;
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
            // SAFETY: takes a number only.
            at(Step::User, check(unsafe { libc::setgid(*gid) }))?;
            // SAFETY: takes a number only.
            at(Step::User, check(unsafe { libc::setuid(*uid) }))?;
        }
        // SAFETY: the descriptor is open, and inherited by the fork.
        at(Step::Directory, check(unsafe { libc::fchdir(self.dir.as_raw_fd()) }))
    }
}

/// Lets a copy of this process do something that may take long, and end with what that says; its pid.
///
/// The keeper has one thread, so that its copy may do anything. It has none of its descriptors but stdin, stdout and
/// stderr: a lock that it held would outlive the keeper. The kernel ends it after `seconds`.
pub(crate) fn helper(seconds: u32, work: impl FnOnce() -> bool) -> io::Result<i32> {
    // SAFETY: this process has one thread, so that the copy is whole; it ends by _exit and never returns.
    let pid = unsafe { libc::fork() };
    check(pid)?;
    if pid > 0 {
        return Ok(pid);
    }
    default_signals();
    // SAFETY: takes numbers. What owned the descriptors is never dropped in this copy.
    unsafe {
        libc::close_range(3, u32::MAX, 0);
        libc::setsid();
        libc::alarm(seconds);
    }
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or(false);
    // SAFETY: ends this process at once, without running anything of its parent's.
    unsafe { libc::_exit(i32::from(!done)) }
}

/// Forks, into this cgroup if one is given; 0 in the child.
///
/// Without the C library, which knows no fork into a cgroup: the keeper has one thread, so that nothing the library
/// does around a fork is needed.
fn clone_into(cgroup: Option<&OwnedFd>) -> io::Result<i32> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    // SAFETY: all zeroes is a plain fork that tells nobody of its end.
    let mut order: libc::clone_args = unsafe { mem::zeroed() };
    order.exit_signal = u64::from(libc::SIGCHLD.unsigned_abs());
    if let Some(cgroup) = cgroup {
        order.flags = CLONE_INTO_CGROUP;
        order.cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs());
    }
    // SAFETY: the order lives through the call. Memory is copied, as by fork; the child makes plain system calls only
    // and ends by exec or _exit.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const order, size_of::<libc::clone_args>()) };
    if pid >= 0 {
        return Ok(i32::try_from(pid).unwrap_or(i32::MAX));
    }
    let error = io::Error::last_os_error();
    if cgroup.is_none() && is_unsupported(&error) {
        // SAFETY: as above.
        let pid = unsafe { libc::fork() };
        return check(pid).map(|()| pid);
    }
    Err(error)
}

/// Whether this kernel (before 5.7), or a filter of system calls, does not know the way.
fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL | libc::E2BIG | libc::EPERM))
}

/// The step and the error number in one: what a child reports is a single number.
fn at(step: Step, result: io::Result<()>) -> io::Result<()> {
    result.map_err(|error| {
        let number = error.raw_os_error().unwrap_or(libc::EIO);
        io::Error::from_raw_os_error(((step as i32) << 16) | number)
    })
}

/// The two of a number again.
fn take_apart(number: i32) -> (Step, io::Error) {
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

fn write_path(path: &CStr, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the path is a live C string.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
    check(fd)?;
    write_raw(fd, bytes)
}
