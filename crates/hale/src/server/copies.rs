//! `hale server backup` and `hale server restore` (S5).

use std::io::{self, Write};

use super::args::{BackupArgs, RestoreArgs};
use crate::{failure::Failure, up::lock::DataDir};

/// Copies the embedded database, whether or not a server runs on it.
pub(super) fn backup(args: &BackupArgs) -> Result<(), Failure> {
    let from = args.data_dir.path().join("hale.db");
    if !from.exists() {
        return Err(Failure::NotFound(format!("there is no database at {}", from.display())));
    }
    wait(hale_store::backup(&from, &args.to))?;
    writeln!(io::stdout(), "{}", args.to.display())?;
    Ok(())
}

/// Goes back to a copy; no server may run on the data directory.
pub(super) fn restore(args: &RestoreArgs) -> Result<(), Failure> {
    let dir = DataDir::take(&args.data_dir.path()).map_err(Failure::failed)?;
    let restored = wait(hale_store::restore(&args.from, &dir.join("hale.db")))?;
    let mut out = io::stdout();
    writeln!(out, "epoch {}", restored.epoch)?;
    if let Some(kept) = restored.kept {
        writeln!(out, "what was there is kept as {}", kept.display())?;
    }
    Ok(())
}

fn wait<T>(doing: impl Future<Output = Result<T, hale_store::StoreError>>) -> Result<T, Failure> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::failed)?;
    runtime.block_on(doing).map_err(Failure::failed)
}
