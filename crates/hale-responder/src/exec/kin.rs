//! Who belongs to a run, and an end to all of them (R9).
//!
//! A run is its process group, its cgroup, whatever carries its mark in its environment, and whatever descends from one
//! of these. Who was seen once is remembered by number and start time, so that a child whose parent has gone is known
//! yet. Without a cgroup one kind can get away: what cleared its environment, made a session of its own *and* lost its
//! parent between two looks.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
};

use hale_keeper::{
    cgroup,
    procfs::{self, Process},
};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};

use super::MARK_VARIABLE;

/// What a run is known by.
#[derive(Debug, Clone)]
pub(super) struct Kin {
    /// Its main process, which is not reaped as long as this is asked: its number is nobody else's.
    main: i32,
    /// The value of its mark.
    mark: String,
    /// Its cgroup.
    pub(super) group: Option<PathBuf>,
    /// Whether its main process was seen to be in there.
    held: bool,
    /// Number and start time of all that were seen.
    seen: HashMap<i32, u64>,
}

impl Kin {
    pub(super) fn new(main: i32, mark: String, group: Option<PathBuf>) -> Self {
        // A zombie's is still told here, where the members of the group leave it out.
        let held = group.is_some() && cgroup::of_process(main).0 == group;
        Self { main, mark, group, held, seen: HashMap::new() }
    }

    /// Whether it is kept together by a cgroup: without one it has to be looked at now and then.
    pub(super) const fn is_held(&self) -> bool {
        self.held
    }

    /// All of it that live, zombies not counted; remembers them. Reads `/proc`.
    pub(super) fn look(&mut self) -> Vec<Process> {
        self.try_look().unwrap_or_default()
    }

    /// The same; `None` when it can't be told, for want of descriptors.
    fn try_look(&mut self) -> Option<Vec<Process>> {
        let all = procfs::processes().ok()?;
        let inside: HashSet<i32> =
            self.group.as_deref().map(cgroup::members).unwrap_or_default().into_iter().collect();
        let belongs = |it: &Process| {
            it.pid == self.main
                || it.group == self.main
                || inside.contains(&it.pid)
                || self.seen.get(&it.pid) == Some(&it.start_time)
        };
        let marked = |it: &Process| {
            !it.zombie
                && procfs::environment(it.pid, MARK_VARIABLE)
                    .is_some_and(|value| value == self.mark.as_bytes())
        };
        let roots: Vec<i32> = all.iter().filter(|it| belongs(it) || marked(it)).map(|it| it.pid).collect();
        let found = with_descendants(&all, &roots);
        self.seen.extend(found.iter().map(|it| (it.pid, it.start_time)));
        Some(found)
    }

    /// A signal to the process group.
    pub(super) fn signal_group(&self, signal: Signal) {
        if let Some(main) = Pid::from_raw(self.main) {
            // Fails only where nothing is left of it.
            let _ = kill_process_group(main, signal);
        }
    }

    /// SIGKILL to all of it; returns those that were alive.
    pub(super) fn kill(&mut self) -> Vec<i32> {
        // Before anything dies: then it is still seen whose child is whose.
        let found = self.look();
        if let Some(group) = &self.group {
            let _ = cgroup::kill_tree(group);
        }
        self.signal_group(Signal::KILL);
        for process in &found {
            kill(process);
        }
        found.iter().map(|it| it.pid).collect()
    }

    /// Whether nothing lives. Quick where there is a cgroup, which can't be left.
    pub(super) fn is_gone(&mut self) -> bool {
        match self.group.as_deref().filter(|_| self.held).and_then(cgroup::populated) {
            Some(populated) => !populated,
            // What can't be told is not gone.
            None => self.try_look().is_some_and(|it| it.is_empty()),
        }
    }
}

/// These processes and all that descend from them, without zombies, each once; never the responder, nor what is below it.
pub(super) fn with_descendants(all: &[Process], roots: &[i32]) -> Vec<Process> {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let mut children: HashMap<i32, Vec<&Process>> = HashMap::new();
    for process in all {
        children.entry(process.parent).or_default().push(process);
    }
    let roots: HashSet<i32> = roots.iter().copied().collect();
    let mut waiting: Vec<&Process> = all.iter().filter(|it| roots.contains(&it.pid)).collect();
    let mut known = HashSet::from([0, 1, own]);
    let mut found = Vec::new();
    while let Some(process) = waiting.pop() {
        if !known.insert(process.pid) {
            continue;
        }
        if !process.zombie {
            found.push(*process);
        }
        waiting.extend(children.remove(&process.pid).unwrap_or_default());
    }
    found
}

/// SIGKILL to this very process, and not to another of its number.
pub(super) fn kill(process: &Process) {
    let Some(pid) = Pid::from_raw(process.pid) else { return };
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if procfs::process(process.pid).is_some_and(|it| it.start_time == process.start_time) {
        let _ = pidfd_send_signal(&handle, Signal::KILL);
    }
}
