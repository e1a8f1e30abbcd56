//! Control groups: one per instance, so that nothing of it can get away (H18), and its limits hold (N4).
//!
//! Version 2 is written for first. Where it carries no controllers (the hybrid layout), memory and cpu limits are
//! set in the trees of version 1. Where there is none at all, the keeper falls back to descent and marks.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::cgroup_find;

/// The cgroups of one data directory: a group of version 2 and, where those carry the controllers, of version 1.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Cgroups {
    /// The tree with `cgroup.kill`.
    pub(crate) v2: Option<PathBuf>,
    /// Whether version 2 limits memory and cpu.
    pub(crate) v2_limits: bool,
    /// The memory tree of version 1.
    pub(crate) v1_memory: Option<PathBuf>,
    /// The cpu tree of version 1.
    pub(crate) v1_cpu: Option<PathBuf>,
}

/// What an instance may use.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    pub(crate) memory: Option<u64>,
    pub(crate) cpu: Option<f64>,
}

/// The cgroups of one instance.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Group {
    /// Of version 2.
    pub(crate) v2: Option<PathBuf>,
    /// Where its memory is accounted.
    pub(crate) memory: Option<PathBuf>,
    /// Of version 1, for cpu.
    cpu: Option<PathBuf>,
    /// Limits that could not be set, in words.
    pub(crate) warnings: Vec<String>,
}

impl Cgroups {
    /// Those that this process may use, made for this mark.
    pub(crate) fn find(mark: &str) -> Self {
        cgroup_find::find(&format!("hale-{mark}"))
    }

    /// Which are in use, in words.
    pub(crate) fn describe(&self) -> String {
        let tree = |path: &Option<PathBuf>| path.as_ref().map(|it| it.display().to_string());
        match (tree(&self.v2), self.v2_limits, tree(&self.v1_memory), tree(&self.v1_cpu)) {
            (Some(v2), true, ..) => format!("version 2 with limits at {v2}"),
            (Some(v2), false, None, None) => format!("version 2 without limits at {v2}"),
            (Some(v2), false, ..) => format!("version 2 at {v2}, limits by version 1"),
            (None, _, None, None) => "none: replicas are kept together by descent and marks".to_owned(),
            (None, ..) => "version 1 for limits; replicas are kept together by descent and marks".to_owned(),
        }
    }

    /// The base directories, to find leftovers by.
    pub(crate) fn bases(&self) -> impl Iterator<Item = &Path> {
        [&self.v2, &self.v1_memory, &self.v1_cpu].into_iter().filter_map(Option::as_deref)
    }

    /// The cgroups of a new instance. What can't be had is in its warnings, and harms no start.
    pub(crate) fn create(&self, name: &str, limits: Limits) -> Group {
        let mut group = Group::default();
        if let Some(base) = &self.v2 {
            let path = base.join(name);
            match make(&path) {
                Ok(()) => group.v2 = Some(path),
                Err(error) => group.warnings.push(format!("no cgroup {}: {error}", path.display())),
            }
        }
        if self.v2_limits
            && let Some(path) = group.v2.clone()
        {
            group.limit_v2(&path, limits);
        } else {
            group.limit_v1(self, name, limits);
        }
        group
    }

    /// Takes the base directories away again, if they are empty.
    pub(crate) fn remove(&self) {
        for base in self.bases() {
            remove_tree(base);
        }
    }
}

impl Group {
    /// No group at all, for this reason.
    pub(crate) fn none(warning: String) -> Self {
        Self { warnings: vec![warning], ..Self::default() }
    }

    fn limit_v2(&mut self, path: &Path, limits: Limits) {
        self.memory = Some(path.to_owned());
        if let Some(bytes) = limits.memory {
            self.set(path, "memory.max", &bytes.to_string());
            // Swap would only put the end off; where there is none the file is not there either.
            let _ = fs::write(path.join("memory.swap.max"), "0");
            // Half a replica is none.
            let _ = fs::write(path.join("memory.oom.group"), "1");
        }
        if let Some(cpus) = limits.cpu {
            self.set(path, "cpu.max", &format!("{} {PERIOD_MICROS}", quota(cpus)));
        }
    }

    fn limit_v1(&mut self, all: &Cgroups, name: &str, limits: Limits) {
        if let Some(bytes) = limits.memory
            && let Some(path) = self.tree_v1(all.v1_memory.as_deref(), name, "memory")
        {
            self.set(&path, "memory.limit_in_bytes", &bytes.to_string());
            let _ = fs::write(path.join("memory.memsw.limit_in_bytes"), bytes.to_string());
            self.memory = Some(path);
        }
        if let Some(cpus) = limits.cpu
            && let Some(path) = self.tree_v1(all.v1_cpu.as_deref(), name, "cpu")
        {
            self.set(&path, "cpu.cfs_period_us", &PERIOD_MICROS.to_string());
            self.set(&path, "cpu.cfs_quota_us", &quota(cpus).to_string());
            self.cpu = Some(path);
        }
    }

    fn tree_v1(&mut self, base: Option<&Path>, name: &str, what: &str) -> Option<PathBuf> {
        let Some(base) = base else {
            self.warnings.push(format!("no {what} limit: no {what} cgroup can be had here"));
            return None;
        };
        let path = base.join(name);
        match make(&path) {
            Ok(()) => Some(path),
            Err(error) => {
                self.warnings.push(format!("no {what} limit: can't make {}: {error}", path.display()));
                None
            }
        }
    }

    fn set(&mut self, path: &Path, file: &str, value: &str) {
        let path = path.join(file);
        if let Err(error) = fs::write(&path, value) {
            self.warnings.push(format!("can't set {} to {value}: {error}", path.display()));
        }
    }

    fn trees(&self) -> impl Iterator<Item = &Path> {
        let memory = self.memory.as_ref().filter(|it| Some(*it) != self.v2.as_ref());
        [self.v2.as_ref(), memory, self.cpu.as_ref()].into_iter().flatten().map(PathBuf::as_path)
    }

    /// The directory a child is born into, and the files of other trees that it writes itself into.
    pub(crate) fn open_to_join(&self) -> io::Result<(Option<OwnedFd>, Vec<File>)> {
        let directory = |path: &PathBuf| File::open(path).map(OwnedFd::from);
        let own = self.v2.as_ref().map(directory).transpose()?;
        let others = self.trees().filter(|tree| Some(*tree) != self.v2.as_deref());
        let open = |tree: &Path| OpenOptions::new().write(true).open(tree.join("cgroup.procs"));
        Ok((own, others.map(open).collect::<io::Result<_>>()?))
    }

    /// Kills all in it, children of children too. Needs version 2.
    pub(crate) fn kill(&self) -> io::Result<()> {
        match &self.v2 {
            Some(path) => kill_tree(path),
            None => Ok(()),
        }
    }

    /// Whether something in it lives; `None` without version 2.
    pub(crate) fn populated(&self) -> Option<bool> {
        populated(self.v2.as_deref()?)
    }

    /// How many of it the kernel has killed for want of memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        let Some(path) = &self.memory else { return 0 };
        ["memory.events", "memory.oom_control"]
            .iter()
            .find_map(|file| field(&fs::read_to_string(path.join(file)).ok()?, "oom_kill"))
            .unwrap_or(0)
    }

    /// Takes it away. False when it is not empty yet.
    pub(crate) fn remove(&self) -> bool {
        self.trees().filter(|tree| !remove_tree(tree)).count() == 0
    }
}

/// The cgroups of a process that somebody else put there: the one of version 2, and the one that accounts for its memory.
/// The root of a tree, which says nothing of one process, is none.
#[must_use]
pub fn of_process(pid: i32) -> (Option<PathBuf>, Option<PathBuf>) {
    cgroup_find::of_process(pid)
}

/// The processes of a cgroup and of those below it; empty when it is gone.
#[must_use]
pub fn members(path: &Path) -> Vec<i32> {
    let mut found = Vec::new();
    for tree in below(path) {
        let pids = fs::read_to_string(tree.join("cgroup.procs")).unwrap_or_default();
        found.extend(pids.lines().filter_map(|pid| pid.parse::<i32>().ok()));
    }
    found
}

/// Memory that a cgroup can't give back (anonymous), bytes; `None` when it is not accounted there.
#[must_use]
pub fn memory_bytes(path: &Path) -> Option<u64> {
    let stat = fs::read_to_string(path.join("memory.stat")).ok()?;
    field(&stat, "total_rss").or_else(|| field(&stat, "anon"))
}

/// Processor time a cgroup of version 2 has used; `None` when it is not accounted there.
#[must_use]
pub fn cpu_time(path: &Path) -> Option<Duration> {
    field(&fs::read_to_string(path.join("cpu.stat")).ok()?, "usage_usec").map(Duration::from_micros)
}

/// Makes a directory of this name for cgroups of version 2, as near to this process's own as can be; `None` where there is
/// none to be had. It has no controllers: it keeps processes together, and limits nothing.
#[must_use]
pub fn base(name: &str) -> Option<PathBuf> {
    cgroup_find::find_plain(name)
}

/// Whether something lives in a cgroup of version 2; `None` when that can't be told, false when it is gone.
#[must_use]
pub fn populated(path: &Path) -> Option<bool> {
    match fs::read_to_string(path.join("cgroup.events")) {
        Ok(events) => field(&events, "populated").map(|it| it != 0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(false),
        Err(_) => None,
    }
}

/// Kills all in a cgroup of version 2. A kernel before 5.14 has no `cgroup.kill`: one by one there.
///
/// # Errors
/// It is gone, or not ours.
pub fn kill_tree(path: &Path) -> io::Result<()> {
    let file = path.join("cgroup.kill");
    match OpenOptions::new().write(true).open(&file) {
        Ok(mut file) => io::Write::write_all(&mut file, b"1"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            for pid in members(path) {
                let _ = crate::sys::kill(pid, 9);
            }
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Takes a cgroup and those below it away. True when none is left.
pub fn remove_tree(path: &Path) -> bool {
    let mut trees = below(path);
    trees.reverse();
    trees.iter().fold(true, |all, tree| match fs::remove_dir(tree) {
        Ok(()) => all,
        Err(error) => all && error.kind() == io::ErrorKind::NotFound,
    })
}

/// A directory and those below it, parents first.
fn below(path: &Path) -> Vec<PathBuf> {
    let mut all = vec![path.to_owned()];
    let mut next = 0;
    while let Some(dir) = all.get(next) {
        next += 1;
        let Ok(entries) = fs::read_dir(dir) else { continue };
        let dirs: Vec<PathBuf> = entries
            .filter_map(Result::ok)
            .filter(|it| it.file_type().is_ok_and(|it| it.is_dir()))
            .map(|it| it.path())
            .collect();
        all.extend(dirs);
    }
    all
}

/// Makes a cgroup; one that is there already is taken.
///
/// # Errors
/// It can't be made.
pub fn make(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

/// The value of a `NAME VALUE` line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The period cpu limits are counted in.
const PERIOD_MICROS: u64 = 100_000;

/// Microseconds of each period; the kernel takes no less than 1 ms.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped first; saturates")]
fn quota(cpus: f64) -> u64 {
    (cpus * 100_000.0).clamp(1_000.0, 1e12) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text = "oom 3\noom_kill_disable 0\nunder_oom 0\noom_kill 2\n";
        assert_eq!(field(text, "oom_kill"), Some(2));
        assert_eq!(field(text, "kill"), None);
    }

    #[test]
    fn half_a_processor_is_half_of_each_period() {
        assert_eq!((quota(0.5), quota(2.0), quota(0.000_1)), (50_000, 200_000, 1_000));
    }
}
