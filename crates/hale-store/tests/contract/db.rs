//! A database of the test's own.

use std::path::Path;

use hale_store::{Options, Store};
use hale_testkit::Postgres;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

/// Where the store of a test keeps what it is given.
pub(crate) enum Db {
    /// A file.
    Sqlite(TempDir),
    /// A database of a server.
    Postgres(String),
}

impl Db {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    pub(crate) fn postgres(server: &Postgres) -> Self {
        Self::Postgres(server.database())
    }

    /// Opens the store, as often as wanted one after the other.
    pub(crate) async fn open(&self) -> Store {
        match self {
            Self::Sqlite(dir) => open(dir.path()).await,
            Self::Postgres(url) => connect(url).await,
        }
    }

    /// Does something behind the store's back.
    pub(crate) async fn raw(&self, sql: &str) {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self {
            Self::Sqlite(dir) => drop(sql.execute(&mut raw(dir.path()).await).await.unwrap()),
            Self::Postgres(url) => {
                let mut connection = PgConnection::connect(url).await.unwrap();
                sql.execute(&mut connection).await.unwrap();
            }
        }
    }
}

pub(crate) async fn open(dir: &Path) -> Store {
    Store::open(&dir.join("hale.db"), Options::default()).await.unwrap()
}

pub(crate) async fn connect(url: &str) -> Store {
    Store::connect(url, Options::default()).await.unwrap()
}

pub(crate) async fn raw(dir: &Path) -> SqliteConnection {
    SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(dir.join("hale.db"))).await.unwrap()
}
