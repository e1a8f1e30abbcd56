//! What an earlier responder of the same data directory left when it was killed (R12): found by its cgroups and its mark,
//! and ended before anything else is started.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hale_keeper::{cgroup, procfs};

use super::{ExecError, MARK_VARIABLE, kin};

/// How long processes have to vanish after SIGKILL.
const GONE_WITHIN: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);

/// The file, beside the workspaces, that tells where the cgroups of the last responder were.
const CGROUP_FILE: &str = ".cgroup";

/// What the directory of all cgroups of this mark is called.
fn base_name(mark: &str) -> String {
    format!("hale-responder-{mark}")
}

/// Makes the directory for the cgroups of runs and writes down where it is; `None` where there is none to be had.
pub(super) fn base(workspaces: &Path, mark: &str) -> Option<PathBuf> {
    let base = cgroup::base(&base_name(mark))?;
    // Without this it is found by marks, unless it has cleared them.
    let _ = fs::write(workspaces.join(CGROUP_FILE), base.to_string_lossy().as_bytes());
    Some(base)
}

/// Where the last responder had its cgroups. A file may be damaged; only what bears the mark is ours to kill.
pub(super) fn last_base(workspaces: &Path, mark: &str) -> Option<PathBuf> {
    let path = PathBuf::from(fs::read_to_string(workspaces.join(CGROUP_FILE)).ok()?);
    (path.is_absolute() && path.ends_with(base_name(mark))).then_some(path)
}

/// Ends them, and waits until they are gone. Returns how many there were.
pub(super) fn end(bases: &[PathBuf], mark: &str) -> Result<usize, ExecError> {
    let prefix = format!("{mark}/");
    let mut killed = HashSet::new();
    let until = Instant::now() + GONE_WITHIN;
    loop {
        let all = procfs::processes().map_err(ExecError::Processes)?;
        let inside: HashSet<i32> = bases.iter().flat_map(|it| cgroup::members(it)).collect();
        let is_marked = |pid: i32| {
            procfs::environment(pid, MARK_VARIABLE).is_some_and(|it| it.starts_with(prefix.as_bytes()))
        };
        let ours = all.iter().filter(|it| !it.zombie && (inside.contains(&it.pid) || is_marked(it.pid)));
        let roots: Vec<i32> = ours.map(|it| it.pid).collect();
        let found = kin::with_descendants(&all, &roots);
        if found.is_empty() {
            break;
        }
        if Instant::now() >= until {
            let pids: Vec<String> = found.iter().map(|it| it.pid.to_string()).collect();
            return Err(ExecError::Leftovers(pids.join(", ")));
        }
        for base in bases {
            let _ = cgroup::kill_tree(base);
        }
        for process in &found {
            kin::kill(process);
            killed.insert((process.pid, process.start_time));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(killed.len())
}
