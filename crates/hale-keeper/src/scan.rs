//! Who belongs to an instance, where no cgroup tells.
//!
//! The keeper is the subreaper of all it spawned: whatever a replica leaves behind becomes the keeper's child. So an
//! instance is what descends from its main process, and those orphans of the keeper that carry its mark in their
//! environment, or its session or process group. What cleared its environment, made a session of its own and was
//! orphaned can't be told apart from other replicas' orphans; it ends with the keeper.

use crate::{
    MARK_VARIABLE,
    procfs::{self, Process},
};

/// What an instance is known by.
pub(crate) struct Known<'a> {
    /// Its main process, alive or not.
    pub(crate) main: i32,
    /// Whether the main process was reaped, so that its number may be another's.
    pub(crate) reaped: bool,
    /// The value of its mark.
    pub(crate) mark: &'a str,
}

/// The live processes of an instance. `mains` are the main processes of all that are not reaped.
pub(crate) fn members(
    all: &[Process],
    keeper: i32,
    known: &Known<'_>,
    mains: &dyn Fn(i32) -> bool,
) -> Vec<i32> {
    let mut found = Vec::new();
    if !known.reaped {
        found.extend(procfs::subtree(all, known.main).iter().map(|it| it.pid));
    }
    for orphan in orphans(all, keeper, mains) {
        let by_mark =
            || procfs::environment(orphan.pid, MARK_VARIABLE).map(|value| value == known.mark.as_bytes());
        let by_session = orphan.session == known.main || orphan.group == known.main;
        // The mark decides where it can be read; a program may have written over its environment.
        if by_mark().unwrap_or(by_session) {
            found.extend(procfs::subtree(all, orphan.pid).iter().map(|it| it.pid));
        }
    }
    found
}

/// Children of the keeper that are nobody's main process.
pub(crate) fn orphans<'a>(
    all: &'a [Process],
    keeper: i32,
    mains: &'a dyn Fn(i32) -> bool,
) -> impl Iterator<Item = &'a Process> {
    all.iter().filter(move |it| it.parent == keeper && !it.zombie && !mains(it.pid))
}
