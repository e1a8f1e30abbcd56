//! A database of the test's own.

use std::path::Path;

use hale_store::{Options, Store};
use sqlx::{AssertSqlSafe, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

/// Where the store of a test keeps what it is given.
pub(crate) enum Db {
    /// A file.
    Sqlite(TempDir),
}

impl Db {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    /// Opens the store, as often as wanted one after the other.
    pub(crate) async fn open(&self) -> Store {
        match self {
            Self::Sqlite(dir) => open(dir.path()).await,
        }
    }

    /// Does something behind the store's back.
    pub(crate) async fn raw(&self, sql: &str) {
        match self {
            Self::Sqlite(dir) => {
                let mut raw = raw(dir.path()).await;
                sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut raw).await.unwrap();
                raw.close().await.unwrap();
            }
        }
    }
}

pub(crate) async fn open(dir: &Path) -> Store {
    Store::open(&dir.join("hale.db"), Options::default()).await.unwrap()
}

pub(crate) async fn raw(dir: &Path) -> SqliteConnection {
    SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(dir.join("hale.db"))).await.unwrap()
}
