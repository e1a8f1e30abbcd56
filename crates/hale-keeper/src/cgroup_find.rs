//! Where this process may make cgroups.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::cgroup::Cgroups;

/// A mounted tree and where this process stands in it.
struct Tree {
    mount: PathBuf,
    own: PathBuf,
}

/// Makes the base directories of this name wherever it can.
pub(crate) fn find(name: &str) -> Cgroups {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let (v2, v2_limits) = match tree(&mounts, &own, None) {
        Some(tree) => find_v2(&tree, name),
        None => (None, false),
    };
    let v1 = |controller| {
        let base = tree(&mounts, &own, Some(controller))?.own.join(name);
        make(&base).ok().map(|()| base)
    };
    let (v1_memory, v1_cpu) = if v2_limits { (None, None) } else { (v1("memory"), v1("cpu")) };
    Cgroups { v2, v2_limits, v1_memory, v1_cpu }
}

/// Makes a base directory of version 2 without controllers; see [`crate::cgroup::base`].
pub(crate) fn find_plain(name: &str) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    tree(&mounts, &own, None).and_then(|tree| plain_base(&tree, name))
}

/// The cgroups of another process: of version 2, and the one that accounts for its memory. Roots are none.
pub(crate) fn of_process(pid: i32) -> (Option<PathBuf>, Option<PathBuf>) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let theirs = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let below_root = |tree: Tree| (tree.own != tree.mount && tree.own.is_dir()).then_some(tree.own);
    let v2 = tree(&mounts, &theirs, None).and_then(below_root);
    let memory = tree(&mounts, &theirs, Some("memory")).and_then(below_root).or_else(|| v2.clone());
    (v2, memory)
}

/// Looks from this process's own cgroup upwards: the nearest one that gives its children memory and cpu, else the
/// nearest one where a child can be made at all. The kernel lets no group but the root have both processes and
/// children with controllers, so that one's own often can't.
fn find_v2(tree: &Tree, name: &str) -> (Option<PathBuf>, bool) {
    let up = || tree.own.ancestors().take_while(|it| it.starts_with(&tree.mount));
    for parent in up().filter(|it| gives_limits(it)) {
        let base = parent.join(name);
        if make(&base).is_ok() {
            if enable(&base) && joinable(&base) {
                return (Some(base), true);
            }
            let _ = fs::remove_dir(&base);
        }
    }
    (plain_base(tree, name), false)
}

/// The nearest place upwards where a group can be made and entered.
fn plain_base(tree: &Tree, name: &str) -> Option<PathBuf> {
    let up = tree.own.ancestors().take_while(|it| it.starts_with(&tree.mount));
    up.map(|parent| parent.join(name)).find(|base| make(base).is_ok() && joinable(base))
}

/// Whether children of this group have memory and cpu, made so if need be.
fn gives_limits(group: &Path) -> bool {
    let has = |file: &str| {
        let words = fs::read_to_string(group.join(file)).unwrap_or_default();
        ["memory", "cpu"].iter().all(|it| words.split_ascii_whitespace().any(|word| word == *it))
    };
    has("cgroup.subtree_control") || (has("cgroup.controllers") && enable(group))
}

fn enable(group: &Path) -> bool {
    fs::write(group.join("cgroup.subtree_control"), "+memory +cpu").is_ok()
}

/// Whether processes of this one may be moved there: that takes leave to write in the group above both.
fn joinable(base: &Path) -> bool {
    let above = base.parent().unwrap_or(base);
    fs::OpenOptions::new().write(true).open(above.join("cgroup.procs")).is_ok()
}

fn make(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

/// The tree of a controller of version 1, or (`None`) that of version 2.
fn tree(mounts: &str, own: &str, controller: Option<&str>) -> Option<Tree> {
    let path = own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let it_is = match controller {
            Some(name) => controllers.split(',').any(|it| it == name),
            None => number == "0",
        };
        it_is.then_some(path)
    })?;
    let (root, mount) = mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut right = right.split(' ');
        let (kind, options) = (right.next()?, right.nth(1)?);
        let it_is = match controller {
            Some(name) => kind == "cgroup" && options.split(',').any(|it| it == name),
            None => kind == "cgroup2",
        };
        let mut left = left.split(' ').skip(3);
        it_is.then_some((left.next()?, left.next()?))
    })?;
    // In a container the mount shows only a part of the tree, and the path is told from the root of all.
    let inside = path.strip_prefix(root).unwrap_or(path).trim_start_matches('/');
    let (mount, inside) = (PathBuf::from(mount), Path::new(inside));
    let own = if inside.as_os_str().is_empty() { mount.clone() } else { mount.join(inside) };
    own.is_dir().then_some(Tree { mount, own })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_of_a_controller_is_read_from_its_mount() {
        let here = Path::new("/proc");
        let mounts =
            "30 23 0:26 / /proc rw,nosuid - cgroup cgroup rw,memory\n31 23 0:27 / /sys rw - cgroup2 none rw";
        let own = "4:memory:/self\n0::/\n";
        let memory = tree(mounts, own, Some("memory")).unwrap();
        assert_eq!((memory.mount.as_path(), memory.own), (here, here.join("self")));
        assert_eq!(tree(mounts, own, None).unwrap().own, Path::new("/sys"));
        assert!(tree(mounts, own, Some("cpu")).is_none());
    }

    #[test]
    fn in_a_container_the_path_is_told_from_the_root_of_all() {
        let mounts = "30 23 0:26 /docker/ab /proc rw - cgroup2 cgroup rw";
        assert_eq!(tree(mounts, "0::/docker/ab/self\n", None).unwrap().own, Path::new("/proc/self"));
        assert_eq!(tree(mounts, "0::/docker/ab\n", None).unwrap().own, Path::new("/proc"));
    }
}
