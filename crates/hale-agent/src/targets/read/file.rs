//! A list in a file.

use std::{fs, io::Read, path::Path};

use hale_model::list::MAX_BYTES;

/// Reads a plain file, as much of it as a list may have.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    // A pipe or a device would keep this waiting, or never end.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(format!("{} is no plain file", path.display()));
    }
    let mut text = Vec::new();
    let most = MAX_BYTES as u64 + 1;
    fs::File::open(path).map_err(failed)?.take(most).read_to_end(&mut text).map_err(failed)?;
    if text.len() > MAX_BYTES {
        return Err(format!("{} is larger than {} MiB", path.display(), MAX_BYTES >> 20));
    }
    Ok(text)
}
