//! From the bytes of a pipe to whole lines (N4).
//!
//! A stored line reads `2026-11-22T07:30:00.123456Z stdout F text`, the form container runtimes write (CRI): `F` ends
//! a line, `P` is a piece of one longer than 16 KiB, continued by the next of the same stream.

use crate::clock;

/// The longest stored line, bytes.
pub const LINE_MAX: usize = 16 * 1024;

/// Which output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// What it says.
    Stdout,
    /// What it complains of.
    Stderr,
    /// Hale's own remarks.
    Hale,
}

impl Stream {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Hale => "hale",
        }
    }
}

/// The line a stream is in the middle of.
#[derive(Debug)]
pub(crate) struct Splitter {
    stream: Stream,
    partial: Vec<u8>,
    /// The beginning of the present line was dropped: so is the rest.
    skipping: bool,
}

impl Splitter {
    pub(crate) const fn new(stream: Stream) -> Self {
        Self { stream, partial: Vec::new(), skipping: false }
    }

    /// One that goes on in the middle of a line.
    pub(crate) const fn resumed(stream: Stream, partial: Vec<u8>, skipping: bool) -> Self {
        Self { stream, partial, skipping }
    }

    /// The line it is in the middle of, and whether that one is dropped.
    pub(crate) fn state(&self) -> (Vec<u8>, bool) {
        (self.partial.clone(), self.skipping)
    }

    /// Takes what was read; appends the lines that are whole to `out`, in stored form.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], wall_micros: u64, out: &mut Vec<u8>) {
        if self.skipping {
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return };
            bytes = &bytes[end + 1..];
            self.skipping = false;
        }
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.push(&bytes[..end], wall_micros, out);
            let last = std::mem::take(&mut self.partial);
            line(self.stream, true, &last, wall_micros, out);
            // Its room is kept for the next line, unless it was a long one.
            if last.capacity() <= 1024 {
                self.partial = last;
                self.partial.clear();
            }
            bytes = &bytes[end + 1..];
        }
        self.push(bytes, wall_micros, out);
    }

    fn push(&mut self, mut bytes: &[u8], wall_micros: u64, out: &mut Vec<u8>) {
        while self.partial.len() + bytes.len() > LINE_MAX {
            let (head, rest) = bytes.split_at(LINE_MAX - self.partial.len());
            self.partial.extend_from_slice(head);
            line(self.stream, false, &self.partial, wall_micros, out);
            self.partial.clear();
            bytes = rest;
        }
        self.partial.extend_from_slice(bytes);
    }

    /// Drops what was read instead; says how many lines are lost with it.
    pub(crate) fn skip(&mut self, bytes: &[u8]) -> u64 {
        let mut lost = crate::writer::newlines(bytes);
        let within = bytes.last() != Some(&b'\n');
        if within && !self.skipping {
            lost += 1;
        }
        if self.skipping && bytes.contains(&b'\n') {
            // The line it was skipping was counted when that began.
            lost = lost.saturating_sub(1) + u64::from(within);
        }
        self.partial = Vec::new();
        self.skipping = within;
        lost
    }

    /// The stream has ended: what is left is a line.
    pub(crate) fn finish(&mut self, wall_micros: u64, out: &mut Vec<u8>) {
        let last = std::mem::take(&mut self.partial);
        if !last.is_empty() {
            line(self.stream, true, &last, wall_micros, out);
        }
    }
}

/// One line in stored form.
pub(crate) fn line(stream: Stream, whole: bool, text: &[u8], wall_micros: u64, out: &mut Vec<u8>) {
    clock::write_rfc3339(wall_micros, out);
    out.push(b' ');
    out.extend_from_slice(stream.as_str().as_bytes());
    out.extend_from_slice(if whole { b" F " } else { b" P " });
    out.extend_from_slice(text);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(out: &[u8]) -> Vec<String> {
        String::from_utf8_lossy(out).lines().map(|it| it.split_once("Z ").unwrap().1.to_owned()).collect()
    }

    #[test]
    fn a_line_in_three_reads_is_one_line() {
        let (mut splitter, mut out) = (Splitter::new(Stream::Stdout), Vec::new());
        for part in ["he", "llo\nwor", "ld"] {
            splitter.feed(part.as_bytes(), 0, &mut out);
        }
        splitter.finish(0, &mut out);
        assert_eq!(lines(&out), ["stdout F hello", "stdout F world"]);
    }

    #[test]
    fn a_line_longer_than_the_limit_is_cut_and_nothing_of_it_lost() {
        let (mut splitter, mut out) = (Splitter::new(Stream::Stderr), Vec::new());
        splitter.feed(&vec![b'x'; 2 * LINE_MAX + 5], 0, &mut out);
        splitter.feed(b"\n", 0, &mut out);
        let lines = lines(&out);
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("stderr P ") && lines[1].starts_with("stderr P "));
        assert_eq!(lines[2], "stderr F xxxxx");
    }

    #[test]
    fn what_is_dropped_takes_the_rest_of_its_line_along() {
        let (mut splitter, mut out) = (Splitter::new(Stream::Stdout), Vec::new());
        splitter.feed(b"kept\nbegun ", 0, &mut out);
        assert_eq!(splitter.skip(b"and dropped\nagain\nmid"), 3);
        assert_eq!(splitter.skip(b"dle"), 0);
        splitter.feed(b" end\nback\n", 0, &mut out);
        assert_eq!(lines(&out), ["stdout F kept", "stdout F back"]);
    }
}
