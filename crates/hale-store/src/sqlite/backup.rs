//! Copies of the file, and going back to one (S5).

use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use super::schema;
use crate::{Options, Store, StoreError};

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.display().to_string();
    move |source| StoreError::File { path, source }
}

/// Copies the database at `from`, consistent as of one moment, whether or not a server has it open. `to` is made, mode
/// 0600, and must not be there yet; it is durable when this returns, and is not there when it fails.
///
/// # Errors
/// When `from` is no database, or `to` is there or can't be written.
pub async fn backup(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::metadata(from).map_err(file_error(from))?;
    let mut connection = schema::options(from)
        .create_if_missing(false)
        .connect()
        .await
        .map_err(StoreError::database("open its file"))?;
    let copied = copy(&mut connection, to).await;
    let _closed = connection.close().await;
    copied
}

/// A consistent copy into a file that was not there.
pub(super) async fn copy(connection: &mut SqliteConnection, to: &Path) -> Result<(), StoreError> {
    // An empty file is what SQLite fills; made here so that it is nobody else's from the first byte on.
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(file_error(to))?;
    let copied = sqlx::query("VACUUM INTO $1").bind(to.to_string_lossy()).execute(connection).await;
    let done =
        copied.map_err(StoreError::database("be copied")).and_then(|_| sync(to).map_err(file_error(to)));
    if done.is_err() {
        let _ = fs::remove_file(to);
    }
    done
}

/// Makes a file and its name durable.
fn sync(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()?;
    sync_dir(path)
}

fn sync_dir(path: &Path) -> io::Result<()> {
    match path.parent().filter(|it| !it.as_os_str().is_empty()) {
        Some(dir) => fs::File::open(dir)?.sync_all(),
        None => fs::File::open(".")?.sync_all(),
    }
}

/// What going back to a backup did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The epoch of the cluster that begins; 0 when the backup knows of no cluster.
    pub epoch: u64,
    /// Where the database is that was there before, if there was one.
    pub kept: Option<PathBuf>,
}

/// Puts the backup `from` in the place of the database `to`, which nobody may have open: the caller holds the lock of
/// the data directory. What is there is kept beside it (`hale.db.before-…`). The epoch of the cluster is raised: agents
/// then win over what the old database says of them, and no number is given twice.
///
/// # Errors
/// When `from` is damaged, no database of hale, or one of a newer hale; then `to` is as it was.
pub async fn restore(from: &Path, to: &Path) -> Result<Restored, StoreError> {
    check(from).await?;
    let fresh = with_suffix(to, ".restoring");
    for old in ["", "-wal", "-shm"].map(|it| with_suffix(&fresh, it)) {
        match fs::remove_file(&old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file_error(&old)(error)),
            _ => {}
        }
    }
    backup(from, &fresh).await?;
    let store = Store::open(&fresh, Options::default()).await?;
    let epoch = store.raise_epoch().await;
    store.close().await;
    let epoch = epoch?;
    // Closing has put the log into the file; one that is left would belong to another file once this one is moved.
    if with_suffix(&fresh, "-wal").exists() {
        return Err(StoreError::Database {
            what: "be restored",
            detail: format!("{} is in use", fresh.display()),
        });
    }
    let kept = put_aside(to).map_err(file_error(to))?;
    fs::rename(&fresh, to).and_then(|()| sync(to)).map_err(file_error(to))?;
    Ok(Restored { epoch, kept })
}

/// Whether it is a whole database of hale, of a schema known here.
async fn check(from: &Path) -> Result<(), StoreError> {
    fs::metadata(from).map_err(file_error(from))?;
    let refuse =
        |detail: &str| StoreError::NotHale { path: from.display().to_string(), detail: detail.to_owned() };
    let opened = schema::options(from).create_if_missing(false).connect().await;
    let mut connection = opened.map_err(|error| refuse(&error.to_string()))?;
    let asked = async {
        let known = schema::MIGRATIONS.len() as i64;
        let version: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut connection).await?;
        let tables: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN ('events', 'replicas', 'audit')",
        )
        .fetch_one(&mut connection)
        .await?;
        let sound: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut connection).await?;
        Ok::<_, sqlx::Error>((known, version, tables, sound))
    }
    .await;
    let _closed = connection.close().await;
    match asked {
        Err(error) => Err(refuse(&error.to_string())),
        Ok((known, found, ..)) if found > known => {
            Err(StoreError::NewerSchema { path: from.display().to_string(), found, known })
        }
        Ok((_, 0, ..)) | Ok((_, _, 0..=2, _)) => Err(refuse("it has not the tables of hale")),
        Ok((.., sound)) if sound != "ok" => Err(refuse(&sound)),
        Ok(_) => Ok(()),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Keeps what is there under another name. The log goes first: beside another file it would spoil that.
fn put_aside(path: &Path) -> io::Result<Option<PathBuf>> {
    if !path.exists() {
        return Ok(None);
    }
    let kept = with_suffix(path, &format!(".before-{}", Timestamp::now().strftime("%Y%m%dT%H%M%S%6fZ")));
    for log in ["-wal", "-shm"] {
        match fs::rename(with_suffix(path, log), with_suffix(&kept, log)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    // A second name, so that there is a database under the first at every moment.
    fs::hard_link(path, &kept)?;
    sync_dir(path)?;
    Ok(Some(kept))
}
