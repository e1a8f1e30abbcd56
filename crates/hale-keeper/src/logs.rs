//! Reading the log files of a replica: the last lines, and what comes after them (`hale logs`).

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::capture::LINE_MAX;

/// One stored line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When it was read, RFC 3339.
    pub time: String,
    /// `stdout`, `stderr`, or `hale` for a remark of the keeper.
    pub stream: String,
    /// Whether the line ends here; if not, the next of the same stream continues it.
    pub whole: bool,
    /// The text; bytes that are not UTF-8 are replaced.
    pub text: String,
}

impl LogLine {
    /// Reads a stored line; one in another form becomes text without a time.
    #[must_use]
    pub fn parse(line: &[u8]) -> Self {
        let line = String::from_utf8_lossy(line);
        let mut parts = line.splitn(4, ' ');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(time), Some(stream), Some(tag @ ("F" | "P")), Some(text)) => Self {
                time: time.to_owned(),
                stream: stream.to_owned(),
                whole: tag == "F",
                text: text.to_owned(),
            },
            _ => Self {
                time: String::new(),
                stream: "stdout".to_owned(),
                whole: true,
                text: line.into_owned(),
            },
        }
    }
}

/// The files of a replica in the log directory of a data directory, newest first.
#[must_use]
pub fn files(dir: &Path, replica: &str) -> Vec<PathBuf> {
    let written = dir.join("logs").join(format!("{replica}.log"));
    let rotated = (1..).map(|number| PathBuf::from(format!("{}.{number}", written.display())));
    std::iter::once(written.clone())
        .filter(|it| it.exists())
        .chain(rotated.take_while(|it| it.exists()))
        .collect()
}

/// The last `count` lines over these files (newest first), oldest line first; reads at most `max_bytes` from the end.
///
/// # Errors
/// A file that is there can't be read.
pub fn tail(files: &[PathBuf], count: usize, max_bytes: u64) -> io::Result<Vec<LogLine>> {
    let (mut lines, mut budget) = (Vec::new(), max_bytes);
    for path in files {
        if lines.len() >= count || budget == 0 {
            break;
        }
        let mut file = match File::open(path) {
            Ok(file) => file,
            // It was rotated away meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let bytes = read_end(&mut file, count - lines.len(), budget)?;
        budget = budget.saturating_sub(bytes.len() as u64);
        let of_file: Vec<&[u8]> =
            bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
        lines.extend(of_file.iter().rev().take(count - lines.len()).map(|line| LogLine::parse(line)));
    }
    lines.reverse();
    Ok(lines)
}

/// The end of a file, from the beginning of a line, with at least `lines` lines if the budget allows.
fn read_end(file: &mut File, lines: usize, budget: u64) -> io::Result<Vec<u8>> {
    const STEP: u64 = 64 * 1024;
    let size = file.metadata()?.len();
    let least = size.saturating_sub(budget);
    let (mut from, mut bytes) = (size, Vec::new());
    while from > least {
        let step = STEP.min(from - least);
        from -= step;
        let mut more = vec![0; usize::try_from(step).unwrap_or(0)];
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(&mut more)?;
        more.append(&mut bytes);
        bytes = more;
        if bytes.iter().filter(|byte| **byte == b'\n').count() > lines {
            break;
        }
    }
    if from > 0 {
        let first = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
        bytes.drain(..first);
    }
    Ok(bytes)
}

/// Follows a replica's output over rotations. Polled: [`Follow::more`] gives what came since the last call.
#[derive(Debug)]
pub struct Follow {
    path: PathBuf,
    open: Option<(File, u64)>,
    partial: Vec<u8>,
}

impl Follow {
    /// Begins at the present end of the written file (the first of [`files`], or where it will be).
    #[must_use]
    pub fn from_end(dir: &Path, replica: &str) -> Self {
        let path = dir.join("logs").join(format!("{replica}.log"));
        let open = File::open(&path).ok().and_then(|mut file| {
            file.seek(SeekFrom::End(0)).ok()?;
            let inode = file.metadata().ok()?.ino();
            Some((file, inode))
        });
        Self { path, open, partial: Vec::new() }
    }

    /// What came since the last call, at most about 256 KiB; empty when nothing did. Callers wait a little in
    /// between (100 ms).
    ///
    /// # Errors
    /// A file that is there can't be read.
    pub fn more(&mut self) -> io::Result<Vec<LogLine>> {
        let mut lines = Vec::new();
        let mut buffer = vec![0; 4 * LINE_MAX];
        for _ in 0..4 {
            if self.open.is_none() {
                match File::open(&self.path) {
                    Ok(file) => {
                        let inode = file.metadata()?.ino();
                        self.open = Some((file, inode));
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(lines),
                    Err(error) => return Err(error),
                }
            }
            let Some((file, inode)) = &mut self.open else { return Ok(lines) };
            let length = file.read(&mut buffer)?;
            if length == 0 {
                // All of this file is read; if it is no longer the written one, the next has begun.
                if std::fs::metadata(&self.path).is_ok_and(|it| it.ino() != *inode) {
                    self.open = None;
                    continue;
                }
                return Ok(lines);
            }
            self.take(&buffer[..length], &mut lines);
        }
        Ok(lines)
    }

    fn take(&mut self, mut bytes: &[u8], lines: &mut Vec<LogLine>) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(&bytes[..end]);
            lines.push(LogLine::parse(&self.partial));
            self.partial.clear();
            bytes = &bytes[end + 1..];
        }
        self.partial.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use super::*;

    fn stored(number: usize) -> String {
        format!("2026-11-22T07:30:00.000000Z stdout F line {number}\n")
    }

    fn text(lines: &[LogLine]) -> Vec<&str> {
        lines.iter().map(|it| it.text.as_str()).collect()
    }

    #[test]
    fn the_tail_goes_back_over_rotated_files() {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path().join("logs");
        fs::create_dir(&logs).unwrap();
        fs::write(logs.join("web-0.log.2"), stored(1)).unwrap();
        fs::write(logs.join("web-0.log.1"), stored(2) + &stored(3)).unwrap();
        fs::write(logs.join("web-0.log"), stored(4)).unwrap();
        let files = files(dir.path(), "web-0");
        assert_eq!(files.len(), 3);
        let lines = tail(&files, 3, 1 << 20).unwrap();
        assert_eq!(text(&lines), ["line 2", "line 3", "line 4"]);
        assert_eq!(text(&tail(&files, 99, 1 << 20).unwrap()).len(), 4);
        assert_eq!(text(&tail(&files, 99, 60).unwrap()), ["line 4"]);
    }

    #[test]
    fn the_tail_of_a_large_file_reads_only_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("big.log");
        let all: String = (0..50_000).map(stored).collect();
        fs::write(&path, all).unwrap();
        let lines = tail(std::slice::from_ref(&path), 2000, u64::MAX).unwrap();
        assert_eq!((lines.len(), lines[1999].text.as_str()), (2000, "line 49999"));
        assert_eq!(lines[0].text, "line 48000");
    }

    #[test]
    fn following_goes_on_over_a_rotation_and_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path().join("logs");
        fs::create_dir(&logs).unwrap();
        let mut follow = Follow::from_end(dir.path(), "web-0");
        assert!(follow.more().unwrap().is_empty());
        let path = logs.join("web-0.log");
        let mut file = File::create(&path).unwrap();
        file.write_all((stored(1) + "2026").as_bytes()).unwrap();
        assert_eq!(text(&follow.more().unwrap()), ["line 1"]);
        file.write_all(&stored(2).as_bytes()[4..]).unwrap();
        fs::rename(&path, logs.join("web-0.log.1")).unwrap();
        fs::write(&path, stored(3)).unwrap();
        assert_eq!(text(&follow.more().unwrap()), ["line 2", "line 3"]);
    }

    #[test]
    fn a_line_in_another_form_is_text() {
        assert_eq!(LogLine::parse(b"plain").text, "plain");
        let line = LogLine::parse(b"2026-11-22T07:30:00.000000Z stderr P a b");
        assert_eq!((line.stream.as_str(), line.whole, line.text.as_str()), ("stderr", false, "a b"));
    }
}
