//! One running hale per data directory (N19).

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

/// Who holds a data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    /// Its process.
    pub(crate) pid: u32,
    /// Since when.
    pub(crate) since: Timestamp,
}

/// A data directory that is ours until this is dropped or the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct DataDir {
    /// Where it is, absolute.
    pub(crate) path: PathBuf,
    _lock: File,
}

/// Why a data directory can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// Another one runs on it.
    #[error(
        "another hale runs on {} (pid {}, since {:.0}): stop it, or give this one a --data-dir of its own",
        dir.display(), holder.pid, holder.since
    )]
    Held {
        /// The directory.
        dir: PathBuf,
        /// Who it is.
        holder: Holder,
    },
    /// Another one runs on it and has not said yet who it is.
    #[error("another hale runs on {}: stop it, or give this one a --data-dir of its own", .0.display())]
    HeldBySomebody(PathBuf),
    /// It can't be made or written.
    #[error("can't use the data directory {}: {source}; name another with --data-dir", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl DataDir {
    /// Makes the directory if need be (mode 0700) and takes it.
    ///
    /// The lock is the kernel's, so a hale that was killed holds nothing; what stands in the file only tells who.
    pub(crate) fn take(dir: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::Io { dir: dir.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        let path = dir.canonicalize().map_err(failed)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                file.read_to_string(&mut text).map_err(failed)?;
                return Err(match serde_json::from_str(&text) {
                    Ok(holder) => LockError::Held { dir: path, holder },
                    Err(_) => LockError::HeldBySomebody(path),
                });
            }
            Err(error) => return Err(failed(error.into())),
        }
        let holder = Holder { pid: std::process::id(), since: Timestamp::now() };
        let text = serde_json::to_string(&holder).map_err(|error| failed(error.into()))?;
        file.set_len(0).and_then(|()| file.write_all(text.as_bytes())).map_err(failed)?;
        Ok(Self { path, _lock: file })
    }

    /// Something in it.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::take(dir.path()).unwrap();
        match DataDir::take(dir.path()).unwrap_err() {
            LockError::Held { holder, .. } => assert_eq!(holder.pid, std::process::id()),
            other => panic!("{other:?}"),
        }
        drop(first);
        DataDir::take(dir.path()).unwrap();
    }

    #[test]
    fn a_directory_that_can_not_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = DataDir::take(&file.join("below")).unwrap_err();
        assert!(error.to_string().contains("below"), "{error}");
    }
}
