//! The key that seals what must not stand in the database in clear: addresses and secrets of webhooks (S22, S25).
//!
//! It is a file of its own, for its owner alone. Whoever has the database without it learns nothing of what is sealed,
//! and whoever loses it loses nothing else: what is sealed stays as it is, and can be set anew.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};
use sha2::{Digest, Sha256};

use crate::auth::hex;

/// Bytes of a key.
const LENGTH: usize = 32;

/// What stands before a sealed text: the number of its form.
const FORM: &str = "1";

/// Why something can't be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file is not there, and there is something sealed already: a new key would not open it.
    #[error(
        "the key {} is missing, and what is sealed with it can't be read without it: put the file back (all servers \
         of one database use the same, see --secret-key-file), or delete the webhooks first",
        .0.display()
    )]
    Missing(PathBuf),
    /// The file can't be read or made.
    #[error("the key {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others may read the file.
    #[error("the key {} can be read by others (mode {mode:03o}): `chmod 600` it", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file holds something else.
    #[error("{} does not hold a key of hale: 64 hexadecimal digits", .0.display())]
    NotAKey(PathBuf),
    /// It was sealed with another key.
    #[error(
        "{what} was sealed with another key (its mark is {sealed_with}, that of this server's key is {ours}): all \
         servers of one database need the same, see --secret-key-file"
    )]
    Other {
        /// What was to be opened.
        what: String,
        /// The mark of the key it was sealed with.
        sealed_with: String,
        /// The mark of this one.
        ours: String,
    },
    /// It is not what was sealed.
    #[error("{what} can't be opened: it was changed, or is not what was sealed under this name")]
    Damaged {
        /// What was to be opened.
        what: String,
    },
    /// The system has no random bytes.
    #[error("the system gives no random bytes")]
    NoRandom,
}

/// A key that seals and opens.
pub struct SecretKey {
    key: LessSafeKey,
    mark: String,
    random: SystemRandom,
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretKey").field("mark", &self.mark).finish_non_exhaustive()
    }
}

impl SecretKey {
    /// The key in a file; makes one there when there is none and nothing is sealed yet.
    ///
    /// # Errors
    /// See [`KeyError`]. The file is never changed or replaced.
    pub fn open(path: &Path, anything_sealed: bool) -> Result<Self, KeyError> {
        match Self::read(path) {
            Err(KeyError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                if anything_sealed {
                    return Err(KeyError::Missing(path.to_owned()));
                }
                make(path)?;
                Self::read(path)
            }
            result => result,
        }
    }

    fn read(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::File { path: path.to_owned(), source };
        let about = fs::metadata(path).map_err(failed)?;
        let mode = about.mode() & 0o777;
        if is_open(mode, about.uid()) {
            return Err(KeyError::Open { path: path.to_owned(), mode });
        }
        let text = fs::read_to_string(path).map_err(failed)?;
        let bytes = unhex(text.trim()).ok_or_else(|| KeyError::NotAKey(path.to_owned()))?;
        Self::from_bytes(&bytes).ok_or_else(|| KeyError::NotAKey(path.to_owned()))
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes).ok()?);
        // Tells keys apart and says nothing of them: a digest of 256 random bits, cut short.
        let digest = Sha256::new().chain_update(b"hale key mark\0").chain_update(bytes).finalize();
        Some(Self { key, mark: hex(&digest[..6]), random: SystemRandom::new() })
    }

    /// Tells this key from others; says nothing of it.
    #[must_use]
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// Seals something under a name; opened only under the same name.
    ///
    /// # Errors
    /// [`KeyError::NoRandom`].
    pub fn seal(&self, name: &str, clear: &[u8]) -> Result<String, KeyError> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| KeyError::NoRandom)?;
        let mut sealed = clear.to_vec();
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(name), &mut sealed)
            .map_err(|_| KeyError::NoRandom)?;
        let bytes = [&nonce[..], &sealed].concat();
        Ok(format!("{FORM}.{}.{}", self.mark, BASE64.encode(bytes)))
    }

    /// Opens what was sealed under a name.
    ///
    /// # Errors
    /// [`KeyError::Other`] and [`KeyError::Damaged`].
    pub fn unseal(&self, name: &str, sealed: &str) -> Result<Vec<u8>, KeyError> {
        let damaged = || KeyError::Damaged { what: name.to_owned() };
        let rest = sealed.strip_prefix(FORM).and_then(|it| it.strip_prefix('.')).ok_or_else(damaged)?;
        let (mark, text) = rest.split_once('.').ok_or_else(damaged)?;
        if mark != self.mark {
            return Err(KeyError::Other {
                what: name.to_owned(),
                sealed_with: mark.to_owned(),
                ours: self.mark.clone(),
            });
        }
        let mut bytes = BASE64.decode(text).map_err(|_| damaged())?;
        if bytes.len() < NONCE_LEN {
            return Err(damaged());
        }
        let mut sealed = bytes.split_off(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(&bytes).map_err(|_| damaged())?;
        let clear = self.key.open_in_place(nonce, Aad::from(name), &mut sealed).map_err(|_| damaged())?;
        Ok(clear.to_vec())
    }
}

/// Makes a file with a new key. Two who do so at once end up with the same one.
fn make(path: &Path) -> Result<(), KeyError> {
    let failed = |source| KeyError::File { path: path.to_owned(), source };
    let mut bytes = [0; LENGTH];
    SystemRandom::new().fill(&mut bytes).map_err(|_| KeyError::NoRandom)?;
    let new = path.with_extension(format!("new-{}", std::process::id()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        writeln!(file, "{}", hex(&bytes))?;
        file.sync_all()?;
        match fs::hard_link(&new, path) {
            // Somebody else's has been there first: that is the one.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
            Ok(()) => match path.parent() {
                Some(dir) => fs::File::open(dir)?.sync_all(),
                None => Ok(()),
            },
        }
    })();
    // It is in place under its own name, or of no use.
    let _gone = fs::remove_file(&new);
    written.map_err(failed)
}

/// Whether others can read a file. A group may read what is root's: so does Kubernetes hand a Secret to who is not root.
const fn is_open(mode: u32, owner: u32) -> bool {
    let others = if owner == 0 { 0o037 } else { 0o077 };
    mode & others != 0
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 2 * LENGTH || !text.is_ascii() {
        return None;
    }
    (0..LENGTH).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn key_in(dir: &Path) -> SecretKey {
        SecretKey::open(&dir.join("secret.key"), false).unwrap()
    }

    #[test]
    fn a_key_is_open_when_others_than_its_owner_can_have_it() {
        assert!(!is_open(0o600, 1000) && !is_open(0o400, 0) && !is_open(0o440, 0));
        assert!(is_open(0o440, 1000) && is_open(0o444, 0) && is_open(0o460, 0) && is_open(0o644, 1000));
    }

    #[test]
    fn what_was_sealed_is_opened_by_the_same_key_under_the_same_name_alone() {
        let dir = tempfile::tempdir().unwrap();
        let key = key_in(dir.path());
        let sealed = key.seal("webhook ops", b"https://example.com/hook").unwrap();
        assert!(!sealed.contains("example"));
        assert_ne!(sealed, key.seal("webhook ops", b"https://example.com/hook").unwrap());
        let again = key_in(dir.path());
        assert_eq!(again.unseal("webhook ops", &sealed).unwrap(), b"https://example.com/hook");
        assert!(matches!(again.unseal("webhook dev", &sealed), Err(KeyError::Damaged { .. })));
        let mut changed = sealed.clone();
        let last = changed.len() - 6;
        let other = if changed.as_bytes()[last] == b'A' { "B" } else { "A" };
        changed.replace_range(last..=last, other);
        assert!(matches!(again.unseal("webhook ops", &changed), Err(KeyError::Damaged { .. })));
        for nonsense in ["", "1", "1.", "2.a.b", "1.x", &format!("1.{}.AA==", key.mark())] {
            assert!(again.unseal("webhook ops", nonsense).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn another_key_is_told_apart_and_says_what_to_do() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let sealed = key_in(one.path()).seal("webhook ops", b"x").unwrap();
        let error = key_in(two.path()).unseal("webhook ops", &sealed).unwrap_err();
        assert!(matches!(error, KeyError::Other { .. }), "{error}");
        assert!(error.to_string().contains("--secret-key-file"), "{error}");
    }

    #[test]
    fn a_missing_key_is_made_once_and_never_when_something_is_sealed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret.key");
        let error = SecretKey::open(&path, true).unwrap_err();
        assert!(matches!(error, KeyError::Missing(_)), "{error}");
        assert!(!path.exists());
        let mark = key_in(dir.path()).mark().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(SecretKey::open(&path, true).unwrap().mark(), mark);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left lying about");
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_none_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret.key");
        key_in(dir.path());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(SecretKey::open(&path, false), Err(KeyError::Open { mode: 0o644, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "hello").unwrap();
        assert!(matches!(SecretKey::open(&path, false), Err(KeyError::NotAKey(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "hello");
    }

    #[test]
    fn two_who_make_one_at_once_get_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret.key");
        make(&path).unwrap();
        let first = SecretKey::open(&path, false).unwrap();
        make(&path).unwrap();
        assert_eq!(SecretKey::open(&path, false).unwrap().mark(), first.mark());
    }
}
