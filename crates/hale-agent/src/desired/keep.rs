//! The last desired state on disk, so that an agent that starts without a server goes on by it (S4, N11).

use std::{
    fs, io,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::wanted::Wanted;

/// The form of the file.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct File {
    format: u32,
    desired: Wanted,
}

/// The file that the last desired state is kept in.
#[derive(Debug, Clone)]
pub(crate) struct Keep {
    path: PathBuf,
}

impl Keep {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { path: dir.join("desired.json") }
    }

    /// What was kept; `None` when there is none, or none that can be read, which is logged: replicas then run on
    /// untouched until a server tells what is wanted.
    pub(crate) fn load(&self) -> Option<Wanted> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "can't read the last desired state");
                return None;
            }
        };
        match serde_json::from_slice::<File>(&text) {
            Ok(file) if file.format == FORMAT => Some(file.desired),
            Ok(file) => {
                let (format, path) = (file.format, self.path.display());
                tracing::error!(%path, format, "the last desired state is of another release");
                None
            }
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "the last desired state is damaged");
                None
            }
        }
    }

    /// Keeps it, whole or not at all. Holds secrets of workloads: mode 0600.
    pub(crate) fn store(&self, desired: &Wanted) -> io::Result<()> {
        let text = serde_json::to_vec(&File { format: FORMAT, desired: desired.clone() })?;
        let new = self.path.with_extension("json.new");
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        match self.path.parent() {
            Some(dir) => fs::File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_kept_is_read_back_and_nobody_else_can() {
        let dir = tempfile::tempdir().unwrap();
        let keep = Keep::new(dir.path());
        assert_eq!(keep.load(), None);
        let wanted = Wanted { cluster: "c".into(), epoch: 1, revision: 7, ..Wanted::default() };
        keep.store(&wanted).unwrap();
        keep.store(&wanted).unwrap();
        assert_eq!(keep.load(), Some(wanted));
        let mode = fs::metadata(dir.path().join("desired.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("desired.json"), b"{\"format\":1,\"desi").unwrap();
        assert_eq!(Keep::new(dir.path()).load(), None);
        fs::write(dir.path().join("desired.json"), b"\xff\x00").unwrap();
        assert_eq!(Keep::new(dir.path()).load(), None);
    }
}
