//! Taking a workspace away, and measuring it: however deep a program has made it, and without following a symlink, since
//! the responder may be root and the workspace another user's.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, chmodat, openat2, renameat, statat, unlinkat},
    io::Errno,
};

use super::{beneath, workspace};

/// Deeper than this is not measured; it is removed all the same.
const DEEPEST: usize = 64;

/// Removes `name` from a directory in which nobody else can make or rename anything. What is deep is made shallow: each
/// directory that is found is moved to the top, under a name that the next round would take away too, and then emptied
/// in its turn. So it takes one descriptor and no stack.
pub(super) fn remove(all: &Path, name: &str) -> io::Result<()> {
    let top = beneath::directory(all)?;
    let mut waiting = vec![name.to_owned()];
    let mut moved = 0_u64;
    while let Some(name) = waiting.pop() {
        if !rustix::process::geteuid().is_root() {
            // A directory that the program has closed to us is opened. At the top nobody can put a symlink in its place.
            let _ = chmodat(&top, &name, Mode::RWXU, AtFlags::empty());
        }
        let directory = beneath::directory_in(&top, Path::new(&name))?;
        let entries: Vec<_> = Dir::read_from(&directory)?.collect::<Result<_, Errno>>()?;
        for entry in entries {
            let entry = entry.file_name();
            if matches!(entry.to_bytes(), b"." | b"..") {
                continue;
            }
            match unlinkat(&directory, entry, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR | Errno::PERM) => {}
                Err(error) => return Err(error.into()),
            }
            if !rustix::process::geteuid().is_root() {
                // It is moved, for which it must be writable.
                let _ = chmodat(&directory, entry, Mode::RWXU, AtFlags::empty());
            }
            moved += 1;
            let to = format!("{}gone-{}-{moved}", workspace::UNFINISHED, std::process::id());
            renameat(&directory, entry, &top, &to)?;
            match is_directory(&top, &to)? {
                true => waiting.push(to),
                // Something else was put there meanwhile.
                false => unlinkat(&top, &to, AtFlags::empty())?,
            }
        }
        drop(directory);
        match unlinkat(&top, &name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn is_directory(at: &File, name: &str) -> io::Result<bool> {
    let found = statat(at, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(found.st_mode) == FileType::Directory)
}

/// What a directory takes on the disk, bytes.
pub(super) fn size(path: &Path) -> u64 {
    let Ok(base) = beneath::directory(path) else { return 0 };
    let mut bytes = 0_u64;
    let mut waiting = vec![PathBuf::from(".")];
    while let Some(relative) = waiting.pop() {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let Ok(directory) = openat2(&base, &relative, flags, Mode::empty(), within) else { continue };
        let Ok(entries) = Dir::read_from(&directory) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(found) = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            bytes = bytes.saturating_add(u64::try_from(found.st_blocks).unwrap_or(0) * 512);
            let deep = relative.components().count() >= DEEPEST;
            if FileType::from_raw_mode(found.st_mode) == FileType::Directory
                && !deep
                && let Ok(name) = name.to_str()
            {
                waiting.push(relative.join(name));
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    /// Twenty thousand levels: more than a path can name, and than a stack or the descriptors would bear.
    #[test]
    fn a_workspace_of_any_depth_is_removed() {
        let all = tempfile::tempdir().unwrap();
        let mut at = beneath::directory(all.path()).unwrap();
        for level in 0..20_000 {
            let name = if level == 0 { "run" } else { "d" };
            rustix::fs::mkdirat(&at, name, Mode::RWXU).unwrap();
            at = beneath::directory_in(&at, Path::new(name)).unwrap();
        }
        drop(at);
        remove(all.path(), "run").unwrap();
        assert_eq!(fs::read_dir(all.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_symlinks_lead_to_stays_and_what_is_closed_is_opened() {
        let all = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        fs::write(other.path().join("kept"), "x").unwrap();
        let closed = all.path().join("run/closed");
        fs::create_dir_all(&closed).unwrap();
        fs::write(closed.join("file"), vec![0; 10_000]).unwrap();
        std::os::unix::fs::symlink(other.path(), all.path().join("run/link")).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
        assert!(size(&all.path().join("run")) >= 10_000);
        remove(all.path(), "run").unwrap();
        assert!(!all.path().join("run").exists());
        assert_eq!(fs::read_to_string(other.path().join("kept")).unwrap(), "x");
    }
}
