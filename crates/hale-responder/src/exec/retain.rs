//! How long workspaces are kept (R8): by age, and by what they take together, the oldest first.

use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustix::fs::{Timestamps, UTIME_NOW, futimens};

use super::{beneath, workspace};

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
        if !live.contains(&it.run) {
            finished.push(it);
        }
    }
    finished.sort_by_key(|it| it.finished);
    for it in finished {
        let old = now.duration_since(it.finished).is_ok_and(|age| age >= keep);
        if !old && result.bytes <= max_bytes {
            continue;
        }
        match remove(&it.path) {
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
            if !live.contains(run)
                && let Err(error) = remove(&path)
            {
                result.failed.push(format!("can't remove {}: {error}", path.display()));
            }
            continue;
        }
        if !workspace::is_run(name) {
            continue;
        }
        let mut changed = metadata.modified().unwrap_or(now);
        if changed > now {
            // A program can say that its directory is of tomorrow; it is of today then.
            finished(&path);
            changed = now;
        }
        let bytes = metadata.blocks() * 512 + size(&path);
        found.push(Workspace { run: name.to_owned(), path, finished: changed, bytes });
    }
    found
}

/// What a directory takes on the disk, symlinks not followed.
fn size(path: &Path) -> u64 {
    let mut bytes = 0;
    let mut waiting = vec![path.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            bytes += metadata.blocks() * 512;
            if metadata.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    bytes
}

/// Removes a workspace, symlinks not followed; directories that a program has closed to us are opened first.
fn remove(path: &Path) -> io::Result<()> {
    if fs::remove_dir_all(path).is_ok() {
        return Ok(());
    }
    let mut waiting = vec![path.to_owned()];
    while let Some(directory) = waiting.pop() {
        if !fs::symlink_metadata(&directory).is_ok_and(|it| it.is_dir()) {
            continue;
        }
        let _ = fs::set_permissions(&directory, Permissions::from_mode(0o700));
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        waiting.extend(entries.filter(|it| it.file_type().is_ok_and(|it| it.is_dir())).map(|it| it.path()));
    }
    fs::remove_dir_all(path)
}
