//! Ending containers, in a process that may wait for it.
//!
//! A main process that is one of this machine is sent its signals directly: that takes no engine, which may hang or be
//! dead just then. Where that can't be (another user's, or of an engine in a machine of its own) the engine is asked to
//! stop it. What can't be reached either way is told as not ended.

use std::{
    os::fd::OwnedFd,
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::engine;
use crate::{launch::ended_within, procfs, protocol::Outsider, setup};

/// Containers that are ended at once.
const AT_ONCE: usize = 64;

/// The stack of a thread that ends one.
const STACK: usize = 128 * 1024;

/// How long SIGKILL may take.
const KILLED: Duration = Duration::from_secs(2);

/// How long an engine may take beyond the grace, and for a removal.
const ENGINE: Duration = Duration::from_secs(3);

/// The longest that all of it may take, seconds: whatever happens, the kernel ends it then.
pub(super) fn bound(grace: Duration) -> u32 {
    u32::try_from(grace.as_secs()).unwrap_or(u32::MAX).saturating_add(60)
}

/// Ends these; whether all have ended.
pub(super) fn end_all(runs: &[Outsider], grace: Duration) -> bool {
    let until = Instant::now() + grace;
    // All are asked before any is waited for: the last has as much time as the first.
    let asked: Vec<Option<OwnedFd>> = runs.iter().map(ask).collect();
    let (next, all_ended) = (AtomicUsize::new(0), AtomicBool::new(true));
    let work = || {
        while let Some(number) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|it| *it < runs.len()) {
            if !end(&runs[number], asked[number].as_ref(), until) {
                setup::note(&format!("{}: {} could not be ended", runs[number].key, runs[number].container));
                all_ended.store(false, Ordering::Relaxed);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..runs.len().min(AT_ONCE) {
            let _ = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        }
        work();
    });
    all_ended.into_inner()
}

/// Its main process, if that is still the one that was told.
fn process(run: &Outsider) -> Option<OwnedFd> {
    let (pid, start_time) = run.process?;
    let number = i32::try_from(pid).ok()?;
    let handle = pidfd_open(Pid::from_raw(number)?, PidfdFlags::empty()).ok()?;
    // Looked at after it was opened: a number that has become another's is seen.
    procfs::process(number).filter(|it| it.start_time == start_time && !it.zombie).map(|_| handle)
}

/// Sends its stop signal to its main process, where that can be done.
fn ask(run: &Outsider) -> Option<OwnedFd> {
    // Its engine would start one that somebody else made again, by their policy.
    let handle = process(run).filter(|_| !run.borrowed)?;
    let signal = Signal::from_named_raw(run.stop_signal).unwrap_or(Signal::TERM);
    pidfd_send_signal(&handle, signal).is_ok().then_some(handle)
}

/// Ends one; whether it has.
fn end(run: &Outsider, asked: Option<&OwnedFd>, until: Instant) -> bool {
    let socket = PathBuf::from(run.socket.clone().into_os());
    let left = until.saturating_duration_since(Instant::now());
    let ended = match asked {
        Some(handle) => ended_within(handle, Some(left)).unwrap_or(false) || kill(handle),
        None => {
            let seconds = left.as_secs_f64().ceil();
            let path = format!("/containers/{}/stop?t={seconds}", run.container);
            match engine::ask(&socket, "POST", &path, Duration::from_secs_f64(seconds) + ENGINE) {
                // It has stopped, had stopped already, or was never made.
                Ok(200..300 | 304 | 404) => true,
                answer => {
                    setup::note(&format!("{}: its engine says {answer:?} to a stop", run.key));
                    process(run).is_some_and(|handle| kill(&handle))
                }
            }
        }
    };
    if run.remove {
        let path = format!("/containers/{}?force=1&v=1", run.container);
        let removed = engine::ask(&socket, "DELETE", &path, ENGINE);
        // 409: somebody else removes it.
        if matches!(removed, Ok(200..300 | 404 | 409)) {
            return true;
        }
        setup::note(&format!("{}: {} is not removed: {removed:?}", run.key, run.container));
    }
    ended
}

/// Whether SIGKILL has ended it.
fn kill(handle: &OwnedFd) -> bool {
    let sent = pidfd_send_signal(handle, Signal::KILL);
    matches!(sent, Ok(()) | Err(rustix::io::Errno::SRCH))
        && ended_within(handle, Some(KILLED)).unwrap_or(false)
}
