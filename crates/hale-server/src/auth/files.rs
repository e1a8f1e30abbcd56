//! Tokens in files that only their owner can read.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use hale_api::TOKEN_FILE;
use hale_model::cluster::{Role, TokenRecord};
use jiff::Timestamp;

use super::{hash_of, hex, short};

/// The file in a server's data directory that its first start leaves an admin's token in (C3).
pub const ADMIN_FILE: &str = "admin.token";

/// Makes a token.
///
/// # Errors
/// When the system has no random bytes.
pub fn make_token() -> io::Result<String> {
    let mut random = [0; 36];
    fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    let (short, long) = random.split_at(4);
    Ok(format!("hale_{}_{}", hex(short), hex(long)))
}

/// The same token with a new secret: its short part stays.
///
/// # Errors
/// When the system has no random bytes.
pub(crate) fn remake_token(id: &str) -> io::Result<String> {
    let new = make_token()?;
    let long = new.rsplit('_').next().unwrap_or_default();
    Ok(format!("hale_{id}_{long}"))
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
    keep_token(&path, &token)?;
    Ok(token)
}

/// An admin's token for a server that starts for the first time on this data directory, and the record of it; `None`
/// when it has left one there before (which may have been revoked since: it is not made anew).
///
/// The record is to be written first, then the token left with [`keep_token`] in [`ADMIN_FILE`]: a token in a file that
/// no database knows would never become one.
///
/// # Errors
/// When the system has no random bytes.
pub fn admin_token(data_dir: &Path) -> io::Result<Option<(String, TokenRecord)>> {
    if fs::symlink_metadata(data_dir.join(ADMIN_FILE)).is_ok() {
        return Ok(None);
    }
    let token = make_token()?;
    let record = TokenRecord {
        id: short(&token).unwrap_or_default().to_owned(),
        hash: hash_of(&token),
        previous: None,
        role: Role::Admin,
        node: None,
        description: "first start".to_owned(),
        created_at: Timestamp::now(),
        created_by: "hale".to_owned(),
        expires_at: None,
    };
    Ok(Some((token, record)))
}

/// Leaves a token in a file that only its owner can read (0600), in place of what is there.
///
/// # Errors
/// When it can't be written.
pub fn keep_token(path: &Path, token: &str) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = Path::new(&new);
    match fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
    writeln!(file, "{token}")?;
    file.sync_all()?;
    fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn an_admins_token_is_made_at_the_first_start_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (token, record) = admin_token(dir.path()).unwrap().unwrap();
        assert!(token.starts_with(&format!("hale_{}_", record.id)));
        assert!(!record.hash.contains(token.rsplit('_').next().unwrap()));
        keep_token(&dir.path().join(ADMIN_FILE), &token).unwrap();
        assert_eq!(fs::metadata(dir.path().join(ADMIN_FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(admin_token(dir.path()).unwrap().is_none());
    }

    #[test]
    fn a_token_that_is_made_again_keeps_its_name_and_nothing_else() {
        let first = make_token().unwrap();
        let again = remake_token(short(&first).unwrap()).unwrap();
        assert_eq!(short(&again), short(&first));
        assert_eq!(again.len(), first.len());
        assert_ne!(again, first);
    }
}
