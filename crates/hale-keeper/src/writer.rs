//! The log files of all replicas, bounded by file, by replica and by node (N4).
//!
//! `REPLICA.log` is written; full, it becomes `REPLICA.log.1`, that `.2`, and so on. When the node's cap is reached
//! the oldest file of all that is not written goes first: rotated ones, and what replicas left that are gone. What can't be written (disk full, cap reached with nothing to delete,
//! more than the rate allows) is dropped and counted, and a line of the stream `hale` says so once there is room.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

use crate::capture::{self, Splitter, Stream};

/// How much output is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// Bytes of one file. Default 10 MiB.
    pub file_bytes: u64,
    /// Files of one replica, the written one included. Default 5.
    pub files: u32,
    /// Bytes of all files of the node. Default 1 GiB.
    pub total_bytes: u64,
    /// Bytes a second that a replica may write for long; four seconds' worth may come at once. Default 8 MiB.
    pub bytes_per_second: u64,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { file_bytes: 10 << 20, files: 5, total_bytes: 1 << 30, bytes_per_second: 8 << 20 }
    }
}

/// All log files. Those of one directory may have two writers, for different replicas: each counts what was there when it
/// began and what it writes itself, and [`Self::recount`] mends that.
#[derive(Debug)]
pub struct LogBook {
    dir: PathBuf,
    limits: LogLimits,
    total: u64,
    open: HashMap<String, LogFile>,
    lines: Vec<u8>,
    /// Until when it is not tried again to make room under the node's cap, micros by the wall clock.
    full_until: u64,
}

/// The written file of one replica.
#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    /// How many instances write it: two, while one is followed by the next.
    users: u32,
    allowance: u64,
    allowance_at: u64,
    dropped_lines: u64,
    dropped_bytes: u64,
    dropped_ever: u64,
}

/// What is passed on of the written file of one replica.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LogState {
    replica: String,
    users: u32,
    #[serde(default)]
    dropped_lines: u64,
    #[serde(default)]
    dropped_bytes: u64,
    #[serde(default)]
    dropped_ever: u64,
}

impl LogBook {
    /// Log files in this directory, made if need be.
    ///
    /// # Errors
    /// The directory can't be made.
    pub fn new(dir: PathBuf, limits: LogLimits) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        let total = log_files(&dir).iter().map(|file| file.size).sum();
        Ok(Self { dir, limits, total, open: HashMap::new(), lines: Vec::new(), full_until: 0 })
    }

    /// What another program has to know to go on.
    pub(crate) fn state(&self) -> Vec<LogState> {
        let state = |(replica, file): (&String, &LogFile)| LogState {
            replica: replica.clone(),
            users: file.users,
            dropped_lines: file.dropped_lines,
            dropped_bytes: file.dropped_bytes,
            dropped_ever: file.dropped_ever,
        };
        self.open.iter().map(state).collect()
    }

    /// Goes on from there.
    pub(crate) fn resume(&mut self, all: Vec<LogState>) {
        for state in all {
            self.open(&state.replica, crate::clock::boot_nanos());
            if let Some(file) = self.open.get_mut(&state.replica) {
                file.users = state.users;
                file.dropped_lines = state.dropped_lines;
                file.dropped_bytes = state.dropped_bytes;
                file.dropped_ever = state.dropped_ever;
            }
        }
    }

    /// An instance of this replica begins to write.
    pub fn open(&mut self, replica: &str, now: u64) {
        let burst = self.limits.bytes_per_second.saturating_mul(4);
        let path = self.dir.join(format!("{replica}.log"));
        let file = self.open.entry(replica.to_owned()).or_insert_with(|| LogFile {
            path,
            file: None,
            size: 0,
            users: 0,
            allowance: burst,
            allowance_at: now,
            dropped_lines: 0,
            dropped_bytes: 0,
            dropped_ever: 0,
        });
        file.users += 1;
    }

    /// An instance writes no more.
    pub fn close(&mut self, replica: &str, wall_micros: u64) {
        self.tell_dropped(replica, wall_micros);
        if let Some(file) = self.open.get_mut(replica) {
            file.users -= 1;
            if file.users == 0 {
                self.open.remove(replica);
            }
        }
    }

    /// Lines of this replica that were lost since it was opened.
    pub(crate) fn dropped(&self, replica: &str) -> u64 {
        self.open.get(replica).map_or(0, |file| file.dropped_ever)
    }

    /// Stores what was read from a pipe, or drops and counts it.
    pub(crate) fn take(
        &mut self,
        replica: &str,
        splitter: &mut Splitter,
        bytes: &[u8],
        now: u64,
        wall_micros: u64,
    ) {
        let rate = self.limits.bytes_per_second;
        let Some(file) = self.open.get_mut(replica) else { return };
        if !file.allow(bytes.len() as u64, rate, now) {
            file.count(splitter.skip(bytes), bytes.len() as u64);
            return;
        }
        self.tell_dropped(replica, wall_micros);
        let mut lines = std::mem::take(&mut self.lines);
        splitter.feed(bytes, wall_micros, &mut lines);
        self.store(replica, &lines, wall_micros);
        self.keep(lines);
    }

    /// Counts anew what all files of the directory hold.
    pub fn recount(&mut self) {
        self.total = log_files(&self.dir).iter().map(|file| file.size).sum();
    }

    /// Stores a line, or a piece of one (`whole`: its end), that was read at another time and in another way than from a
    /// pipe; or drops and counts it. Says whether it is stored.
    pub fn add(
        &mut self,
        replica: &str,
        (stream, whole, text): (Stream, bool, &[u8]),
        wall_micros: u64,
        now: u64,
    ) -> bool {
        let rate = self.limits.bytes_per_second;
        let Some(file) = self.open.get_mut(replica) else { return false };
        if !file.allow(text.len() as u64, rate, now) {
            file.count(u64::from(whole), text.len() as u64 + 1);
            return false;
        }
        self.tell_dropped(replica, wall_micros);
        let mut lines = std::mem::take(&mut self.lines);
        capture::line(stream, whole, text, wall_micros, &mut lines);
        let written = self.write(replica, &lines, wall_micros);
        if !written && let Some(file) = self.open.get_mut(replica) {
            file.count(u64::from(whole), lines.len() as u64);
        }
        self.keep(lines);
        written
    }

    /// A stream has ended.
    pub(crate) fn finish(&mut self, replica: &str, splitter: &mut Splitter, wall_micros: u64) {
        let mut lines = std::mem::take(&mut self.lines);
        splitter.finish(wall_micros, &mut lines);
        self.store(replica, &lines, wall_micros);
        self.keep(lines);
    }

    /// Keeps the buffer for the next time, unless a flood made it big.
    fn keep(&mut self, mut lines: Vec<u8>) {
        lines.clear();
        lines.shrink_to(256 * 1024);
        self.lines = lines;
    }

    fn tell_dropped(&mut self, replica: &str, wall_micros: u64) {
        let Some(file) = self.open.get_mut(replica).filter(|file| file.dropped_bytes > 0) else { return };
        let (lines, bytes) =
            (std::mem::take(&mut file.dropped_lines), std::mem::take(&mut file.dropped_bytes));
        let mut note = Vec::new();
        let text = format!("{lines} lines ({bytes} bytes) of output were dropped here");
        capture::line(Stream::Hale, true, text.as_bytes(), wall_micros, &mut note);
        if !self.write(replica, &note, wall_micros)
            && let Some(file) = self.open.get_mut(replica)
        {
            // It must be told later.
            file.dropped_lines = lines;
            file.dropped_bytes = bytes;
        }
    }

    /// Writes lines, or drops and counts them.
    fn store(&mut self, replica: &str, lines: &[u8], wall_micros: u64) {
        if !lines.is_empty()
            && !self.write(replica, lines, wall_micros)
            && let Some(file) = self.open.get_mut(replica)
        {
            file.count(newlines(lines), lines.len() as u64);
        }
    }

    /// Writes lines; false when they can't be.
    fn write(&mut self, replica: &str, lines: &[u8], wall_micros: u64) -> bool {
        let length = lines.len() as u64;
        if self.total + length > self.limits.total_bytes && wall_micros >= self.full_until {
            self.make_room(length);
            if self.total + length > self.limits.total_bytes {
                // Looking through the directory for every line would cost more than the lines are worth.
                self.full_until = wall_micros + 1_000_000;
            }
        }
        let room = self.total + length <= self.limits.total_bytes;
        let Some(file) = self.open.get_mut(replica) else { return false };
        if file.size + length > self.limits.file_bytes && file.size > 0 && file.file.is_some() {
            self.total = self.total.saturating_sub(file.rotate(self.limits.files));
        }
        let written = room && file.append(lines).is_ok();
        if written {
            self.total += length;
        }
        written
    }

    /// Deletes the oldest files of the node that nothing writes until there is room: rotated ones, and those of replicas
    /// that are gone.
    fn make_room(&mut self, wanted: u64) {
        let written: HashSet<&Path> = self.open.values().map(|file| file.path.as_path()).collect();
        let mut idle = log_files(&self.dir);
        idle.retain(|file| file.rotated || !written.contains(file.path.as_path()));
        idle.sort_by_key(|file| file.modified);
        for file in idle {
            if self.total + wanted <= self.limits.total_bytes {
                return;
            }
            if fs::remove_file(&file.path).is_ok() {
                self.total = self.total.saturating_sub(file.size);
            }
        }
    }
}

impl LogFile {
    /// Whether so many bytes may be stored now.
    fn allow(&mut self, bytes: u64, rate: u64, now: u64) -> bool {
        let since = u128::from(now.saturating_sub(self.allowance_at));
        let more = u64::try_from(since * u128::from(rate) / 1_000_000_000).unwrap_or(u64::MAX);
        self.allowance = self.allowance.saturating_add(more).min(rate.saturating_mul(4));
        self.allowance_at = now;
        if self.allowance < bytes {
            return false;
        }
        self.allowance -= bytes;
        true
    }

    const fn count(&mut self, lines: u64, bytes: u64) {
        self.dropped_lines += lines;
        self.dropped_bytes += bytes;
        self.dropped_ever += lines;
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.file.is_none() {
            let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
            self.size = file.metadata()?.len();
            self.file = Some(file);
        }
        if let Some(file) = &mut self.file
            && let Err(error) = file.write_all(lines)
        {
            // A part may be written; the next line must begin on its own.
            let _ = file.set_len(self.size);
            return Err(error);
        }
        self.size += lines.len() as u64;
        Ok(())
    }

    /// Moves each file one on; says how many bytes were deleted with the last.
    fn rotate(&mut self, files: u32) -> u64 {
        let numbered = |number: u32| PathBuf::from(format!("{}.{number}", self.path.display()));
        let last = files.saturating_sub(1);
        let oldest = if last == 0 { self.path.clone() } else { numbered(last) };
        let freed = fs::metadata(&oldest).map_or(0, |it| it.len());
        let _ = fs::remove_file(&oldest);
        for number in (1..last).rev() {
            let _ = fs::rename(numbered(number), numbered(number + 1));
        }
        if last > 0 {
            let _ = fs::rename(&self.path, numbered(1));
        }
        self.file = None;
        self.size = 0;
        freed
    }
}

/// How many lines end in these bytes.
pub(crate) fn newlines(bytes: &[u8]) -> u64 {
    // Summed in bytes first, 255 at most at a time: the compiler makes it wide.
    let of_chunk = |chunk: &[u8]| chunk.iter().map(|byte| u8::from(*byte == b'\n')).sum::<u8>();
    bytes.chunks(255).map(|chunk| u64::from(of_chunk(chunk))).sum()
}

struct Stored {
    path: PathBuf,
    size: u64,
    modified: SystemTime,
    rotated: bool,
}

/// The log files of a directory: `*.log` and `*.log.N`.
fn log_files(dir: &Path) -> Vec<Stored> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let stored = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let name = entry.file_name().into_string().ok()?;
        let rotated = name.rsplit_once(".log.").is_some_and(|(_, number)| number.parse::<u32>().is_ok());
        if !rotated && !name.ends_with(".log") {
            return None;
        }
        let data = entry.metadata().ok()?;
        Some(Stored { path: entry.path(), size: data.len(), modified: data.modified().ok()?, rotated })
    });
    stored.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(dir: &Path, limits: LogLimits) -> LogBook {
        let mut book = LogBook::new(dir.to_owned(), limits).unwrap();
        book.open("web-0", 0);
        book
    }

    fn on_disk(dir: &Path) -> u64 {
        log_files(dir).iter().map(|it| it.size).sum()
    }

    const SMALL: LogLimits =
        LogLimits { file_bytes: 1000, files: 3, total_bytes: 1 << 20, bytes_per_second: 1 << 30 };

    #[test]
    fn files_are_rotated_and_bounded_in_size_and_number() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = book(dir.path(), SMALL);
        let mut splitter = Splitter::new(Stream::Stdout);
        for number in 0..500 {
            book.take("web-0", &mut splitter, format!("line {number}\n").as_bytes(), 0, 0);
        }
        let mut names: Vec<_> =
            log_files(dir.path()).iter().map(|it| it.path.file_name().unwrap().to_owned()).collect();
        names.sort();
        assert_eq!(names, ["web-0.log", "web-0.log.1", "web-0.log.2"]);
        assert!(log_files(dir.path()).iter().all(|it| it.size <= 1000));
        assert_eq!(book.total, on_disk(dir.path()));
        let newest = fs::read_to_string(dir.path().join("web-0.log")).unwrap();
        assert!(newest.trim_end().ends_with("line 499"));
    }

    #[test]
    fn the_cap_of_the_node_deletes_the_oldest_rotated_file_of_any_replica() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = book(dir.path(), LogLimits { total_bytes: 2500, ..SMALL });
        fs::write(dir.path().join("old-0.log.1"), [b'x'; 900]).unwrap();
        book.total += 900;
        let mut splitter = Splitter::new(Stream::Stdout);
        for _ in 0..100 {
            book.take("web-0", &mut splitter, b"0123456789\n", 0, 0);
        }
        assert!(!dir.path().join("old-0.log.1").exists());
        assert!(on_disk(dir.path()) <= 2500);
    }

    #[test]
    fn the_cap_of_the_node_deletes_what_replicas_left_that_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = book(dir.path(), LogLimits { total_bytes: 1000, ..SMALL });
        let mut splitter = Splitter::new(Stream::Stdout);
        for gone in ["gone-0", "gone-1"] {
            book.open(gone, 0);
            for _ in 0..8 {
                book.take(gone, &mut splitter, b"0123456789\n", 0, 0);
            }
            book.close(gone, 0);
        }
        for _ in 0..10 {
            book.take("web-0", &mut splitter, b"0123456789\n", 0, 0);
        }
        assert_eq!(book.dropped("web-0"), 0);
        assert!(on_disk(dir.path()) <= 1000);
        assert_eq!(book.total, on_disk(dir.path()));
    }

    #[test]
    fn a_cap_with_nothing_to_delete_drops_and_counts() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = book(dir.path(), LogLimits { total_bytes: 100, ..SMALL });
        let mut splitter = Splitter::new(Stream::Stdout);
        for _ in 0..10 {
            book.take("web-0", &mut splitter, b"0123456789\n", 0, 0);
        }
        assert_eq!(on_disk(dir.path()), 48 + 48);
        assert_eq!(book.dropped("web-0"), 8);
    }

    #[test]
    fn more_than_the_rate_allows_is_dropped_counted_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = book(dir.path(), LogLimits { bytes_per_second: 10, ..SMALL });
        let mut splitter = Splitter::new(Stream::Stdout);
        book.take("web-0", &mut splitter, b"thirty-six bytes are allowed here..\n", 0, 0);
        book.take("web-0", &mut splitter, b"too much\nof it\n", 0, 0);
        book.take("web-0", &mut splitter, b"again\n", 5_000_000_000, 5_000_000);
        let text = fs::read_to_string(dir.path().join("web-0.log")).unwrap();
        assert!(text.contains("hale F 2 lines (15 bytes) of output were dropped here\n"), "{text}");
        assert!(text.ends_with("stdout F again\n"));
        assert_eq!(book.dropped("web-0"), 2);
    }

    #[test]
    fn a_disk_that_takes_nothing_drops_and_counts() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = book(dir.path(), SMALL);
        fs::create_dir(dir.path().join("web-0.log")).unwrap();
        let mut splitter = Splitter::new(Stream::Stdout);
        book.take("web-0", &mut splitter, b"lost\n", 0, 0);
        assert_eq!(book.dropped("web-0"), 1);
        fs::remove_dir(dir.path().join("web-0.log")).unwrap();
        book.take("web-0", &mut splitter, b"back\n", 0, 0);
        let text = fs::read_to_string(dir.path().join("web-0.log")).unwrap();
        assert!(text.contains("1 lines (") && text.contains("back"), "{text}");
    }
}
