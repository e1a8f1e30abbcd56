//! What an instance uses: from its cgroup where that accounts for it, else summed over its processes.

use std::{cell::OnceCell, path::Path, sync::OnceLock, time::Duration};

use hale_keeper::{
    cgroup,
    procfs::{self, Process},
    protocol::Running,
};

use crate::runtime::Usage;

/// Measures processes by the clock ticks and page size of this machine.
#[derive(Debug, Default)]
pub struct Meter {
    units: OnceLock<(u64, u64)>,
}

impl Meter {
    /// What an instance uses; `None` when its main process is gone, or another by the same number (H13).
    #[must_use]
    pub fn usage(&self, running: &Running) -> Option<Usage> {
        self.usage_among(running, &OnceCell::new())
    }

    /// The same, where the list of all processes may have been made already.
    #[must_use]
    pub fn usage_among(&self, running: &Running, processes: &OnceCell<Vec<Process>>) -> Option<Usage> {
        let members = members_among(running, processes);
        if members.is_empty() {
            return None;
        }
        let (ticks, page) = *self.units.get_or_init(|| {
            (rustix::param::clock_ticks_per_second().max(1), rustix::param::page_size() as u64)
        });
        let from_group =
            |path: &Option<String>, read: fn(&Path) -> Option<u64>| read(Path::new(path.as_deref()?));
        let memory = from_group(&running.memory_cgroup, cgroup::memory_bytes)
            .unwrap_or_else(|| members.iter().map(|it| it.resident_pages * page).sum());
        let micros =
            |path: &Path| cgroup::cpu_time(path).map(|it| u64::try_from(it.as_micros()).unwrap_or(u64::MAX));
        let cpu = from_group(&running.cgroup, micros).filter(|it| *it > 0).map_or_else(
            || {
                Duration::from_secs_f64(
                    members.iter().map(|it| it.cpu_ticks).sum::<u64>() as f64 / ticks as f64,
                )
            },
            Duration::from_micros,
        );
        Some(Usage { memory_bytes: memory, cpu, processes: u32::try_from(members.len()).unwrap_or(u32::MAX) })
    }
}

/// The live processes of an instance; none when its main process has ended.
pub(super) fn members(running: &Running) -> Vec<Process> {
    members_among(running, &OnceCell::new())
}

fn members_among(running: &Running, processes: &OnceCell<Vec<Process>>) -> Vec<Process> {
    let Ok(pid) = i32::try_from(running.pid) else { return Vec::new() };
    let is_it = |process: &Process| process.start_time == running.start_time && !process.zombie;
    if !procfs::process(pid).is_some_and(|process| is_it(&process)) {
        return Vec::new();
    }
    match &running.cgroup {
        Some(path) => cgroup::members(Path::new(path)).into_iter().filter_map(procfs::process).collect(),
        None => procfs::subtree(processes.get_or_init(|| procfs::processes().unwrap_or_default()), pid),
    }
}
