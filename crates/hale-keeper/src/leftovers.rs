//! What an earlier run left behind is ended before anything else is started (N19).

use std::{fs, path::Path, time::Duration};

use crate::{
    KeeperError, MARK_VARIABLE, cgroup, clock,
    link::Link,
    procfs,
    protocol::{End, Op},
    setup, sys,
};

/// How long an earlier keeper has to end what it still runs.
const KEEPER_ENDS_WITHIN: Duration = Duration::from_secs(6);
/// How long processes have to vanish after SIGKILL.
const KILLED_WITHIN: Duration = Duration::from_secs(5);

/// What was found and ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Whether an earlier keeper was still there.
    pub keeper: bool,
    /// How many processes of earlier replicas were killed.
    pub processes: usize,
}

/// Ends what an earlier run of this data directory left: its keeper, and every process that is in its cgroups or
/// carries its mark. Blocks until nothing is left, a few seconds at most.
///
/// # Errors
/// Something can't be ended: nothing may be started beside it.
pub fn end_leftovers(dir: &Path) -> Result<Swept, KeeperError> {
    let mut swept = Swept { keeper: end_keeper(dir)?, processes: 0 };
    let Some(mark) = setup::existing_mark(dir) else { return Ok(swept) };
    let bases = setup::last_cgroups(dir).into_iter();
    // A file may be damaged; only what bears the mark is ours to kill.
    let bases: Vec<_> = bases.filter(|it| it.ends_with(format!("hale-{mark}"))).collect();
    let deadline = clock::boot_nanos() + nanos(KILLED_WITHIN);
    let mut killed = std::collections::HashSet::new();
    loop {
        for base in bases.iter().filter(|it| it.join("cgroup.events").exists()) {
            killed.extend(cgroup::members(base));
            let _ = cgroup::kill_tree(base);
        }
        let marked = marked(&mark)?;
        for pid in &marked {
            let _ = sys::kill(*pid, libc::SIGKILL);
        }
        killed.extend(&marked);
        let populated = bases.iter().any(|it| cgroup::populated(it) == Some(true));
        swept.processes = killed.len();
        if marked.is_empty() && !populated {
            break;
        }
        if clock::boot_nanos() > deadline {
            let left: Vec<String> = marked.iter().map(ToString::to_string).collect();
            return Err(KeeperError::Leftovers(format!("processes {} outlive SIGKILL", left.join(", "))));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    for base in &bases {
        cgroup::remove_tree(base);
    }
    Ok(swept)
}

/// Ends an earlier keeper, if one holds the directory: by asking, then by force.
fn end_keeper(dir: &Path) -> Result<bool, KeeperError> {
    let pid = match setup::hold(dir) {
        Ok(_) => return Ok(false),
        Err(KeeperError::Held { pid, .. }) => pid,
        Err(error) => return Err(error),
    };
    if let Ok(mut link) = Link::connect(dir, KEEPER_ENDS_WITHIN) {
        let _ = link.ask(Op::End(End { grace_ms: 2000 }));
        let _ = link.wait_closed();
    }
    let deadline = clock::boot_nanos() + nanos(KEEPER_ENDS_WITHIN);
    let mut forced = false;
    loop {
        match setup::hold(dir) {
            Ok(_) => return Ok(true),
            Err(KeeperError::Held { .. }) => {}
            Err(error) => return Err(error),
        }
        if clock::boot_nanos() > deadline {
            return Err(KeeperError::Held { pid, dir: dir.to_owned() });
        }
        // It closes its connections a moment before its lock.
        if !forced && holds_lock(pid, dir) && !answers(dir) {
            let _ = sys::kill(pid, libc::SIGKILL);
            forced = true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn answers(dir: &Path) -> bool {
    Link::connect(dir, Duration::from_millis(500))
        .is_ok_and(|mut link| link.ask(Op::List(crate::protocol::Empty {})).is_ok())
}

/// Whether this process has the lock open: the number in it may be another's by now.
fn holds_lock(pid: i32, dir: &Path) -> bool {
    let lock = fs::canonicalize(setup::lock_path(dir)).ok();
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().filter_map(Result::ok);
    lock.is_some() && files.map(|file| fs::read_link(file.path()).ok()).any(|file| file == lock)
}

/// Live processes that carry this mark.
fn marked(mark: &str) -> Result<Vec<i32>, KeeperError> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let pids = procfs::pids().map_err(KeeperError::system("read /proc"))?;
    let prefix = format!("{mark}/");
    let is_marked = |pid: &i32| {
        *pid != own
            && procfs::environment(*pid, MARK_VARIABLE)
                .is_some_and(|value| value.starts_with(prefix.as_bytes()))
            && procfs::process(*pid).is_some_and(|process| !process.zombie)
    };
    Ok(pids.filter(is_marked).collect())
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
