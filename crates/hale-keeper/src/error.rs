//! What can go wrong around the keeper.

use std::{io, path::PathBuf};

/// Why the keeper could not be started or reached.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// A file or socket of it.
    #[error("can't {what} {}: {source}", path.display())]
    Path {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What came back.
        source: io::Error,
    },
    /// A call to the system.
    #[error("can't {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What came back.
        source: io::Error,
    },
    /// Another one holds the data directory.
    #[error("another keeper (process {pid}) holds {}", dir.display())]
    Held {
        /// Which process.
        pid: i32,
        /// Which data directory.
        dir: PathBuf,
    },
    /// It did not come up.
    #[error("the keeper did not start: {0}")]
    NotStarted(String),
    /// Processes of an earlier run can't be ended; nothing may be started beside them.
    #[error("processes of an earlier run can't be ended: {0}")]
    Leftovers(String),
}

impl KeeperError {
    pub(crate) fn path(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Path { what, path, source }
    }

    pub(crate) fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { what, source: source.into() }
    }
}
