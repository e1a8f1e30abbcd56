//! What became of the checks of one probe, over days: compact, and never exact to the last check.
//!
//! Outcomes go into a bucket of five minutes; one that is full is given away to be kept. After two days those of an hour
//! become one. A probe that is well takes about twenty bytes a bucket ([`text`]): some 20 kB for thirty days.
//!
//! Time is that of the wall, for this is a record and decides nothing: milliseconds since 1970.

mod sketch;
pub mod text;

use std::time::Duration;

pub use sketch::Sketch;

/// How long a bucket of the last days is, seconds.
pub const FINE: u64 = 300;

/// How long an older one is, seconds.
pub const HOUR: u64 = 3600;

/// Seconds.
pub const DAY: u64 = 24 * HOUR;

/// How many whole days before today are kept finely.
pub const FINE_DAYS: u64 = 1;

/// What an outcome stands for at least, should the time since the one before be that long, milliseconds.
const STANDS_FOR: u64 = 10_000;

/// Outcomes of a stretch of time, added up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bucket {
    /// When it begins, seconds since 1970.
    pub start: u64,
    /// How long it is, seconds.
    pub span: u64,
    /// Checks that succeeded.
    pub successes: u32,
    /// Checks that failed.
    pub failures: u32,
    /// Checks that could not be made (H10).
    pub errors: u32,
    /// How long successes stand for, milliseconds.
    pub up: u64,
    /// How long failures stand for, milliseconds.
    pub down: u64,
    /// Spells of failure that began: their thresholds were reached.
    pub incidents: u32,
    /// From the first failure to the threshold, milliseconds, of all of them.
    pub detect: u64,
    /// Spells of failure that ended.
    pub recoveries: u32,
    /// From the first failure to the recovery, milliseconds, of all of them.
    pub recover: u64,
    /// How long successes took.
    pub latency: Sketch,
}

impl Bucket {
    /// An empty one.
    #[must_use]
    pub fn new(start: u64, span: u64) -> Self {
        Self { start, span, ..Self::default() }
    }

    /// Takes all of another; begin and length stay.
    pub fn merge(&mut self, other: &Self) {
        self.successes = self.successes.saturating_add(other.successes);
        self.failures = self.failures.saturating_add(other.failures);
        self.errors = self.errors.saturating_add(other.errors);
        self.up = self.up.saturating_add(other.up);
        self.down = self.down.saturating_add(other.down);
        self.incidents = self.incidents.saturating_add(other.incidents);
        self.detect = self.detect.saturating_add(other.detect);
        self.recoveries = self.recoveries.saturating_add(other.recoveries);
        self.recover = self.recover.saturating_add(other.recover);
        self.latency.merge(&other.latency);
    }

    /// Where it ends, seconds since 1970.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.start.saturating_add(self.span)
    }

    /// Days since 1970 that it begins on.
    #[must_use]
    pub const fn day(&self) -> u64 {
        self.start / DAY
    }

    /// The share of the time of which something is known that its checks succeeded; `None`: nothing is known.
    #[must_use]
    pub fn availability(&self) -> Option<f64> {
        let known = self.up.saturating_add(self.down);
        if known > 0 {
            return Some(self.up as f64 / known as f64);
        }
        // One check stands for no time yet.
        let checks = u64::from(self.successes) + u64::from(self.failures);
        (checks > 0).then(|| f64::from(self.successes) / checks as f64)
    }

    /// From the first failure to the threshold, on average.
    #[must_use]
    pub fn mean_detect(&self) -> Option<Duration> {
        mean(self.detect, self.incidents)
    }

    /// From the first failure to the recovery, on average.
    #[must_use]
    pub fn mean_recover(&self) -> Option<Duration> {
        mean(self.recover, self.recoveries)
    }

    /// Whether nothing is in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.successes == 0
            && self.failures == 0
            && self.errors == 0
            && self.incidents == 0
            && self.recoveries == 0
    }
}

fn mean(sum: u64, of: u32) -> Option<Duration> {
    (of > 0).then(|| Duration::from_millis(sum / u64::from(of)))
}

/// Adds up those that reach into a stretch of time, seconds since 1970. A bucket counts whole: it is not known what was
/// when within it.
#[must_use]
pub fn total(buckets: &[Bucket], from: u64, until: u64) -> Bucket {
    let mut sum = Bucket::new(from, until.saturating_sub(from));
    buckets.iter().filter(|it| it.end() > from && it.start < until).for_each(|it| sum.merge(it));
    sum
}

/// A check that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// It succeeded, and took so long.
    Success(Duration),
    /// It failed.
    Failure,
    /// It could not be made: nothing is known.
    Error,
}

/// The bucket that is being filled, of one probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    open: Bucket,
    /// Of the last outcome, milliseconds since 1970; 0: none yet.
    last: u64,
    /// The time between the last two.
    gap: u64,
    /// How far its buckets begin before the full five minutes, seconds.
    ahead: u16,
}

impl Series {
    /// Of a probe of which nothing is known. `spread` (any number) tells when its buckets end: those of many are not
    /// full at the same moment.
    #[must_use]
    pub fn new(spread: u64) -> Self {
        let ahead = u16::try_from(spread % FINE).unwrap_or_default();
        Self { open: Bucket::new(0, FINE), last: 0, gap: 0, ahead }
    }

    /// Takes a check that began at a time. Gives the bucket that was full before it.
    ///
    /// An outcome stands for the time since the one before: at most for three times the gap before that, or 10 s. What
    /// is longer (the node was away, the target paused) is not known to be anything.
    pub fn outcome(&mut self, at: u64, checked: Checked) -> Option<Bucket> {
        let full = self.roll(at);
        let gap = if self.last == 0 { 0 } else { at.saturating_sub(self.last) };
        let stands = gap.min(self.gap.saturating_mul(3).max(STANDS_FOR));
        if checked == Checked::Error {
            self.open.errors = self.open.errors.saturating_add(1);
            return full;
        }
        (self.last, self.gap) = (self.last.max(at), gap);
        if let Checked::Success(took) = checked {
            self.open.successes = self.open.successes.saturating_add(1);
            self.open.up = self.open.up.saturating_add(stands);
            self.open.latency.record(took);
        } else {
            self.open.failures = self.open.failures.saturating_add(1);
            self.open.down = self.open.down.saturating_add(stands);
        }
        full
    }

    /// Its failures have reached their threshold, so long after the first of them.
    pub fn failed(&mut self, at: u64, after: Duration) -> Option<Bucket> {
        let full = self.roll(at);
        self.open.incidents = self.open.incidents.saturating_add(1);
        self.open.detect = self.open.detect.saturating_add(millis(after));
        full
    }

    /// A spell of failures is over, so long after it began.
    pub fn recovered(&mut self, at: u64, after: Duration) -> Option<Bucket> {
        let full = self.roll(at);
        self.open.recoveries = self.open.recoveries.saturating_add(1);
        self.open.recover = self.open.recover.saturating_add(millis(after));
        full
    }

    /// What is in the bucket that is being filled.
    #[must_use]
    pub const fn open(&self) -> &Bucket {
        &self.open
    }

    /// Gives away what is there although it is not full, if there is something. What comes goes into one of the same
    /// time.
    pub fn take(&mut self) -> Option<Bucket> {
        let new = Bucket::new(self.open.start, FINE);
        let taken = std::mem::replace(&mut self.open, new);
        (!taken.is_empty()).then_some(taken)
    }

    /// Whether its bucket is over at a time, milliseconds since 1970.
    #[must_use]
    pub const fn is_due(&self, at: u64) -> bool {
        at / 1000 >= self.open.end() && !self.open.is_empty()
    }

    fn roll(&mut self, at: u64) -> Option<Bucket> {
        let (at, ahead) = (at / 1000, u64::from(self.ahead));
        // A clock that was set back goes on in the bucket there is.
        if at < self.open.end() {
            return None;
        }
        let full = self.take();
        self.open.start = ((at + ahead) / FINE * FINE).saturating_sub(ahead);
        full
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
