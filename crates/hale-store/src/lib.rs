//! Durable state: events, what they add up to for each replica, outcomes, and who asked for what.
//!
//! One writer task owns the only connection that writes. It takes whatever has gathered since its last commit and
//! writes it in one transaction (group commit), so that a slow disk makes batches larger rather than callers wait.
//! Readers have connections of their own and see whole commits. An event is told to readers only once it is durable.
//!
//! [`Store`] has an operation for each thing that is wanted of it, and none that shows what is behind it.

pub mod cluster;
mod engine;
mod history;
mod plan;
mod postgres;
mod project;
mod queue;
mod reader;
mod record;
mod retention;
mod rows;
mod sqlite;
mod store;
mod tail;
mod work;
mod writer;

pub use queue::Counters;
pub use record::{AuditRecord, ReplicaRecord};
pub use sqlite::{Restored, backup, restore};
pub use store::{Options, Store};

/// Why the database could not be opened or asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It was written by a newer hale, and is left as it is.
    #[error(
        "{path} was written by a newer hale (its schema is {found}, this one knows {known}); use that version, or \
         another data directory"
    )]
    NewerSchema {
        /// The file.
        path: String,
        /// The schema's number in it.
        found: i64,
        /// The newest number known here.
        known: i64,
    },
    /// The file can't be made, copied or read.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The address of the database makes no sense.
    #[error(
        "the address of the database is not understood: {detail}; it is postgres://USER:PASSWORD@HOST:PORT/DATABASE"
    )]
    Url {
        /// What is wrong with it.
        detail: String,
    },
    /// It can't be restored from this file.
    #[error("{path} is not a database of hale that can be restored: {detail}")]
    NotHale {
        /// The file.
        path: String,
        /// What is wrong with it.
        detail: String,
    },
    /// PostgreSQL is copied and restored by its own means.
    #[error(
        "hale copies only its embedded database; copy PostgreSQL with pg_dump, or with pg_basebackup and its archived log \
         (point-in-time recovery), and raise the epoch of the cluster after restoring it"
    )]
    NotHere,
    /// The database refused.
    #[error("the database could not {what}: {detail}")]
    Database {
        /// What was asked of it.
        what: &'static str,
        /// What it said.
        detail: String,
    },
    /// The store was closed.
    #[error("the database is closed: hale is shutting down")]
    Closed,
}

impl StoreError {
    pub(crate) fn database(what: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |error| Self::Database { what, detail: error.to_string() }
    }
}
