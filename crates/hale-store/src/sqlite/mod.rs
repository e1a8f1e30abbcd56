//! SQLite: one file, one writer, readers beside it (WAL).

mod backup;
mod engine;
mod read;
pub(crate) mod schema;
mod write;

use std::time::Duration;

use sqlx::{SqlitePool, sqlite::SqlitePoolOptions};

pub use backup::{Restored, backup, restore};
pub(crate) use engine::Engine;
pub(crate) use read::Reader;

/// Connections that read the file at `path`, and never change it.
pub(crate) fn readers(path: &std::path::Path) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(4)
        .acquire_timeout(Duration::from_secs(5))
        .connect_lazy_with(schema::options(path).pragma("query_only", "on"))
}
