//! A container's main process as this machine knows it: for what it uses and what it is doing, without asking the engine.

use hale_keeper::{cgroup, procfs, protocol::Running};

/// The process of this number, if it is of that container: an engine in a machine of its own tells numbers of that one.
pub(crate) fn of(pid: u32, container: &str) -> Option<Running> {
    let number = i32::try_from(pid).ok()?;
    let process = procfs::process(number)?;
    let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    // Podman may put containers into groups of other names, but keeps theirs somewhere in the path.
    if !cgroups.contains(container) {
        return None;
    }
    let (v2, memory) = cgroup::of_process(number);
    let named =
        |path: std::path::PathBuf| path.to_str().filter(|it| it.contains(container)).map(str::to_owned);
    Some(Running {
        pid,
        start_time: process.start_time,
        cgroup: v2.and_then(named),
        memory_cgroup: memory.and_then(named),
        warnings: Vec::new(),
    })
}
