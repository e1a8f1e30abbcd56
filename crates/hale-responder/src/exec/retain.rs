//! How long workspaces are kept (R8): by age, and by what they take together, the oldest first.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustix::fs::{Timestamps, UTIME_NOW, futimens};

use super::{beneath, removal, workspace};

/// What became of the workspaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retained {
    /// The runs whose workspaces were taken away.
    pub removed: Vec<String>,
    /// How many are there yet, those of live runs among them.
    pub kept: usize,
    /// What those take, bytes.
    pub bytes: u64,
    /// What could not be taken away, in words; tried again the next time.
    pub failed: Vec<String>,
}

struct Workspace {
    run: String,
    path: PathBuf,
    finished: SystemTime,
    bytes: u64,
    /// Whether its run may have begun only now.
    begun: bool,
}

/// Takes away what is too old, and then the oldest until the rest is small enough; never one of a live run.
pub(super) fn retain(
    all: &Path,
    keep: Duration,
    max_bytes: u64,
    now: SystemTime,
    live: &BTreeSet<String>,
) -> Retained {
    let mut result = Retained::default();
    let mut finished = Vec::new();
    for it in workspaces(all, now, live, &mut result) {
        result.bytes += it.bytes;
        result.kept += 1;
        if !live.contains(&it.run) && !it.begun {
            finished.push(it);
        }
    }
    finished.sort_by_key(|it| it.finished);
    for it in finished {
        let old = now.duration_since(it.finished).is_ok_and(|age| age >= keep);
        if !old && result.bytes <= max_bytes {
            continue;
        }
        match removal::remove(all, &it.run) {
            Ok(()) => {
                result.bytes -= it.bytes;
                result.kept -= 1;
                result.removed.push(it.run);
            }
            Err(error) => result.failed.push(format!("can't remove {}: {error}", it.path.display())),
        }
    }
    result
}

/// Writes down, in the time of the directory, that a run has ended.
pub(super) fn finished(workspace: &Path) {
    let Ok(directory) = beneath::directory(workspace) else { return };
    touch(&directory);
}

fn touch(directory: &fs::File) {
    let now = || rustix::fs::Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    // Then it goes a little sooner.
    let _ = futimens(directory, &Timestamps { last_access: now(), last_modification: now() });
}

fn workspaces(all: &Path, now: SystemTime, live: &BTreeSet<String>, result: &mut Retained) -> Vec<Workspace> {
    let mut found = Vec::new();
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let Some(name) = name.to_str() else { continue };
        // DirEntry's metadata are those of a symlink itself.
        let Ok(metadata) = entry.metadata() else { continue };
        if !metadata.is_dir() {
            continue;
        }
        let unfinished = name.strip_prefix(workspace::UNFINISHED);
        if let Some(run) = unfinished {
            // Of one that is being made this moment nobody knows yet.
            if !live.contains(run)
                && metadata.modified().is_ok_and(|it| it <= now)
                && let Err(error) = removal::remove(all, name)
            {
                result.failed.push(format!("can't remove {}: {error}", path.display()));
            }
            continue;
        }
        if !workspace::is_run(name) {
            continue;
        }
        let mut changed = metadata.modified().unwrap_or(now);
        let bytes = metadata.blocks() * 512 + removal::size(&path);
        let begun = changed > now;
        if begun {
            // A program can say that its directory is of tomorrow; it is of today then. Or its run has begun after it was
            // told which are live: it is left alone this time.
            finished(&path);
            changed = now;
        }
        found.push(Workspace { run: name.to_owned(), path, finished: changed, bytes, begun });
    }
    found
}
