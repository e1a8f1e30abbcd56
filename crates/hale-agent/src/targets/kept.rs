//! What was in a list when it could last be read, on the disk: an agent that starts while a list can't be read goes on by
//! that (N14).

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use hale_model::spec::ListEntry;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A file for each list.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    dir: Arc<Path>,
    /// The number of the newest word on each list: a slow write does not undo a later one.
    newest: Arc<Mutex<HashMap<String, u64>>>,
}

#[derive(Serialize, Deserialize)]
struct File {
    name: String,
    /// Of the declaration that it was read for.
    declaration: String,
    entries: Vec<ListEntry>,
}

impl Kept {
    /// In a directory, which is made when something is kept.
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.into(), newest: Arc::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        let digest = Sha256::digest(name);
        let hex: String = digest.iter().take(16).map(|it| format!("{it:02x}")).collect();
        self.dir.join(format!("{hex}.json"))
    }

    /// What was in it; blocks.
    pub(super) fn read(&self, name: &str, declaration: &str) -> Option<Vec<ListEntry>> {
        let text = fs::read(self.path(name)).ok()?;
        let file: File = serde_json::from_slice(&text).ok()?;
        (file.name == name && file.declaration == declaration).then_some(file.entries)
    }

    /// Keeps what is in it, or (`None`) nothing any more. Returns at once.
    pub(super) fn keep(&self, name: &str, declaration: &str, entries: Option<&[ListEntry]>) {
        let number = {
            let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
            let number = newest.entry(name.to_owned()).or_default();
            *number += 1;
            *number
        };
        let file = entries.map(|entries| File {
            name: name.to_owned(),
            declaration: declaration.to_owned(),
            entries: entries.to_vec(),
        });
        let (this, name) = (self.clone(), name.to_owned());
        tokio::task::spawn_blocking(move || {
            let text = file.map(|it| serde_json::to_vec(&it).unwrap_or_default());
            // Held over the write: one after the other.
            let newest = this.newest.lock().unwrap_or_else(PoisonError::into_inner);
            if newest.get(&name) == Some(&number)
                && let Err(error) = write(&this.dir, &this.path(&name), text.as_deref())
            {
                tracing::warn!(target = name, %error, "what is in a list can't be kept for the next start");
            }
        });
    }
}

fn write(dir: &Path, path: &Path, text: Option<&[u8]>) -> io::Result<()> {
    let Some(text) = text else {
        return match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    };
    fs::create_dir_all(dir)?;
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(address: &str) -> ListEntry {
        ListEntry { address: address.to_owned(), ..ListEntry::default() }
    }

    #[tokio::test]
    async fn what_was_kept_is_there_for_the_same_declaration_until_it_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::new(&dir.path().join("lists"));
        assert_eq!(kept.read("shop", "d1"), None);
        kept.keep("shop", "d1", Some(&[entry("a:1")]));
        kept.keep("shop", "d1", Some(&[entry("a:1"), entry("b:2")]));
        let path = kept.path("shop");
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while kept.read("shop", "d1").is_none_or(|it| it.len() != 2) {
            assert!(std::time::Instant::now() < until);
            tokio::task::yield_now().await;
        }
        assert_eq!(kept.read("shop", "d2"), None, "it was declared anew");
        assert_eq!(kept.read("../shop", "d1"), None);
        kept.keep("shop", "d1", None);
        while path.exists() {
            assert!(std::time::Instant::now() < until);
            tokio::task::yield_now().await;
        }
    }
}
