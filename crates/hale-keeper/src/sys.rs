//! The few calls that neither std nor rustix offers in safe form.
#![expect(unsafe_code, reason = "signals as files and peeking at children can't be had otherwise")]

use std::{
    ffi::{CStr, CString},
    fs::File,
    io, mem,
    os::fd::{FromRawFd, OwnedFd, RawFd},
    ptr,
};

/// Closes what a process was given beside stdin, stdout and stderr. To be called first thing, before it opens any.
pub(crate) fn close_inherited() {
    // SAFETY: nobody in this process owns a descriptor yet. A kernel without the call leaves them open.
    unsafe { libc::close_range(3, u32::MAX, 0) };
}

/// Takes over a descriptor that another program in this process has left open.
pub(crate) fn inherit(fd: RawFd) -> io::Result<OwnedFd> {
    set_flags(fd, libc::FD_CLOEXEC)?;
    // SAFETY: it is open, and whoever owned it is no more: this is asked once for each.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets whether a descriptor is closed at an exec: `FD_CLOEXEC` or 0.
pub(crate) fn set_flags(fd: RawFd, flags: i32) -> io::Result<()> {
    // SAFETY: takes numbers and touches no memory; one that is not open is refused.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, flags) })
}

/// Puts another program in this one's place, signals as they are; returns only if that can't be. Not std's way, which
/// lets a signal through that is blocked: a SIGTERM would end this process before the other can take it.
pub(crate) fn exec(program: &CStr, args: &[CString]) -> io::Error {
    let pointers: Vec<*const libc::c_char> =
        args.iter().map(|it| it.as_ptr()).chain(std::iter::once(ptr::null())).collect();
    // SAFETY: a C string and a vector of such that ends in null; all live until the program takes over.
    unsafe { libc::execv(program.as_ptr(), pointers.as_ptr()) };
    io::Error::last_os_error()
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

/// The error of a call that says -1.
pub(crate) fn check(result: i32) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
