//! Files of a workspace, opened step by step from its directory, and never through a symlink: what is in there was made
//! by a program that nobody trusts, and the responder may be root.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Component, Path},
};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, unlinkat};

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory that is no symlink.
pub(super) fn directory(path: &Path) -> io::Result<File> {
    Ok(openat(CWD, path, DIRECTORY, Mode::empty())?.into())
}

/// A directory in a directory.
pub(super) fn directory_in(base: &File, name: &Path) -> io::Result<File> {
    Ok(openat(base, name, DIRECTORY, Mode::empty())?.into())
}

/// A regular file below a directory, to be read. Anything else on the way, and at its end, is an error.
pub(super) fn file(base: &Path, path: &Path) -> io::Result<File> {
    let mut at = directory(base)?;
    let (above, name) = (path.parent().unwrap_or(Path::new("")), path.file_name());
    for part in above.components() {
        match part {
            Component::CurDir => {}
            Component::Normal(name) => at = directory_in(&at, Path::new(name))?,
            _ => return Err(io::Error::other("it is outside the workspace")),
        }
    }
    let name = name.ok_or_else(|| io::Error::other("it has no name"))?;
    // A fifo would let the opening wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(&at, name, flags, Mode::empty()) {
        Err(rustix::io::Errno::LOOP) => return Err(io::Error::other("it is a symlink")),
        other => File::from(other?),
    };
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no regular file")),
    }
}

/// A new, empty file in a directory; what had its name is taken away if `replace`, else that is an error.
pub(super) fn create(base: &Path, directory_name: &str, name: &str, replace: bool) -> io::Result<File> {
    let at = directory_in(&directory(base)?, Path::new(directory_name))?;
    if replace {
        let _ = unlinkat(&at, name, AtFlags::empty());
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(&at, name, flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// The last bytes of a file as text; what is no UTF-8 is replaced.
pub(super) fn tail(mut file: File, bytes: u64) -> io::Result<String> {
    let length = file.metadata()?.len();
    let skipped = length.saturating_sub(bytes);
    file.seek(SeekFrom::Start(skipped))?;
    let mut text = Vec::new();
    file.take(bytes).read_to_end(&mut text)?;
    // The cut may have gone through a character.
    let broken = text.iter().take(3).take_while(|byte| skipped > 0 && **byte & 0xc0 == 0x80).count();
    Ok(String::from_utf8_lossy(&text[broken..]).into_owned())
}
