//! Who may ask: tokens (S25).
//!
//! A token is `hale_<short>_<long>`: the short part names it in logs, the long one is 256 random bits. Only the
//! SHA-256 of it is kept, and compared in constant time. Tokens come in the `Authorization` header alone, never in a
//! cookie: cookies know no ports, and every web server on the same host would be sent them.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use hale_api::TOKEN_FILE;
use http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The tokens that are known.
#[derive(Debug, Default)]
pub struct Tokens {
    known: Vec<(String, [u8; 32])>,
}

/// Whose token a request came with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller(pub(crate) String);

impl Tokens {
    /// No tokens: nobody may ask.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a token under a name; the name goes into records of what was asked with it.
    #[must_use]
    pub fn with(mut self, name: &str, token: &str) -> Self {
        self.known.push((name.to_owned(), digest(token)));
        self
    }

    /// Whose token these headers bear.
    pub(crate) fn caller(&self, headers: &HeaderMap) -> Option<Caller> {
        let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, token) = value.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let asked = digest(token.trim());
        // All are compared, so that the time taken tells nothing of which came near.
        let mut found = None;
        for (name, known) in &self.known {
            if bool::from(known.ct_eq(&asked)) {
                found = Some(name);
            }
        }
        found.map(|name| Caller(name.clone()))
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Makes a token.
///
/// # Errors
/// When the system has no random bytes.
pub fn make_token() -> io::Result<String> {
    let mut random = [0; 36];
    fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (short, long) = random.split_at(4);
    Ok(format!("hale_{}_{}", hex(short), hex(long)))
}

/// The token of a data directory's own command line: the one in it, or a new one, in a file only its owner can read.
///
/// A file that others could have read or written is replaced.
///
/// # Errors
/// When the file can't be read or made.
pub fn cli_token(data_dir: &Path) -> io::Result<String> {
    let path = data_dir.join(TOKEN_FILE);
    if let Ok(found) = fs::symlink_metadata(&path) {
        let own = fs::metadata(data_dir)?.uid() == found.uid();
        if found.is_file() && own && found.permissions().mode() & 0o077 == 0 {
            let token = fs::read_to_string(&path)?.trim().to_owned();
            if token.starts_with("hale_") && token.len() > 40 {
                return Ok(token);
            }
        }
    }
    let token = make_token()?;
    let new = data_dir.join(format!("{TOKEN_FILE}.new"));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    writeln!(file, "{token}")?;
    file.sync_all()?;
    fs::rename(&new, &path)?;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearing(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn only_a_known_token_as_bearer_names_its_owner() {
        let tokens = Tokens::new().with("cli", "hale_a_b").with("ci", "hale_c_d");
        assert_eq!(tokens.caller(&bearing("Bearer hale_c_d")), Some(Caller("ci".to_owned())));
        assert_eq!(tokens.caller(&bearing("bearer  hale_a_b ")), Some(Caller("cli".to_owned())));
        for wrong in
            ["Bearer", "Bearer ", "Bearer hale_a_", "Basic hale_a_b", "hale_a_b", "Bearer hale_a_b x"]
        {
            assert_eq!(tokens.caller(&bearing(wrong)), None, "{wrong}");
        }
        assert_eq!(tokens.caller(&HeaderMap::new()), None);
        assert_eq!(Tokens::new().caller(&bearing("Bearer ")), None);
    }

    #[test]
    fn the_token_of_a_directory_stays_unless_others_could_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(TOKEN_FILE);
        let first = cli_token(dir.path()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(cli_token(dir.path()).unwrap(), first);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let second = cli_token(dir.path()).unwrap();
        assert_ne!(second, first);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, "").unwrap();
        assert!(cli_token(dir.path()).unwrap().len() > 64);
    }
}
