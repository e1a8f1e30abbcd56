//! Buckets as text, to be kept: a bucket is added by writing it behind the others.
//!
//! `.` and then numbers of five bits a character, the lowest first (as in source maps, without signs). A healthy bucket
//! takes about twenty characters. Buckets of the same time may stand more than once: they are added up when read. What can't be read is passed over.

use std::collections::BTreeMap;

use super::{Bucket, DAY, FINE, HOUR};

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// What a bucket says beside its successes.
mod flag {
    pub(super) const HOUR: u64 = 1;
    pub(super) const FAILURES: u64 = 2;
    pub(super) const ERRORS: u64 = 4;
    pub(super) const SPELLS: u64 = 8;
}

fn put(mut number: u64, out: &mut String) {
    loop {
        let low = (number & 31) as usize;
        number >>= 5;
        out.push(DIGITS[if number > 0 { low | 32 } else { low }] as char);
        if number == 0 {
            return;
        }
    }
}

/// Numbers, one after the other.
struct Numbers<'a>(std::slice::Iter<'a, u8>);

impl Numbers<'_> {
    fn next(&mut self) -> Option<u64> {
        let (mut number, mut shift) = (0_u64, 0);
        loop {
            let byte = self.0.next()?;
            let digit = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'-' => 62,
                b'_' => 63,
                _ => return None,
            };
            number |= u64::from(digit & 31).checked_shl(shift)?;
            if digit & 32 == 0 {
                return Some(number);
            }
            shift += 5;
        }
    }

    fn small(&mut self) -> Option<u32> {
        self.next().and_then(|it| u32::try_from(it).ok())
    }
}

impl Bucket {
    /// Writes it behind others of the same day.
    pub fn write(&self, out: &mut String) {
        let mut flags = 0;
        let mut set = |on: bool, flag| flags |= if on { flag } else { 0 };
        set(self.span != FINE, flag::HOUR);
        set(self.failures > 0 || self.down > 0, flag::FAILURES);
        set(self.errors > 0, flag::ERRORS);
        set(self.incidents > 0 || self.recoveries > 0, flag::SPELLS);
        out.push('.');
        put(self.start % DAY, out);
        put(flags, out);
        put(u64::from(self.successes), out);
        put(self.up / 100, out);
        if flags & flag::FAILURES != 0 {
            put(u64::from(self.failures), out);
            put(self.down / 100, out);
        }
        if flags & flag::ERRORS != 0 {
            put(u64::from(self.errors), out);
        }
        if flags & flag::SPELLS != 0 {
            put(u64::from(self.incidents), out);
            put(self.detect, out);
            put(u64::from(self.recoveries), out);
            put(self.recover, out);
        }
        let mut last = 0;
        for (bin, count) in self.latency.bins() {
            put(u64::from(bin - last), out);
            put(u64::from(*count), out);
            last = *bin;
        }
    }
}

fn read_one(day: u64, text: &str) -> Option<Bucket> {
    let mut numbers = Numbers(text.as_bytes().iter());
    let start = numbers.next().filter(|it| *it < DAY)?;
    let flags = numbers.next()?;
    let span = if flags & flag::HOUR != 0 { HOUR } else { FINE };
    let mut bucket = Bucket::new(day * DAY + start, span);
    bucket.successes = numbers.small()?;
    bucket.up = numbers.next()?.checked_mul(100)?;
    if flags & flag::FAILURES != 0 {
        bucket.failures = numbers.small()?;
        bucket.down = numbers.next()?.checked_mul(100)?;
    }
    if flags & flag::ERRORS != 0 {
        bucket.errors = numbers.small()?;
    }
    if flags & flag::SPELLS != 0 {
        bucket.incidents = numbers.small()?;
        bucket.detect = numbers.next()?;
        bucket.recoveries = numbers.small()?;
        bucket.recover = numbers.next()?;
    }
    let mut bin = 0_u8;
    while let Some(step) = numbers.next() {
        bin = bin.checked_add(u8::try_from(step).ok()?)?;
        bucket.latency.add(bin, numbers.small()?);
    }
    Some(bucket)
}

/// The buckets of a day (days since 1970), oldest first; those of the same time added up.
#[must_use]
pub fn read(day: u64, text: &str) -> Vec<Bucket> {
    let mut buckets: BTreeMap<(u64, u64), Bucket> = BTreeMap::new();
    for bucket in text.split('.').filter(|it| !it.is_empty()).filter_map(|it| read_one(day, it)) {
        match buckets.get_mut(&(bucket.start, bucket.span)) {
            Some(known) => known.merge(&bucket),
            None => drop(buckets.insert((bucket.start, bucket.span), bucket)),
        }
    }
    buckets.into_values().collect()
}

/// The same day by the hour: for what is old.
#[must_use]
pub fn coarser(day: u64, text: &str) -> String {
    let mut hours: BTreeMap<u64, Bucket> = BTreeMap::new();
    for bucket in read(day, text) {
        let start = bucket.start - bucket.start % HOUR;
        hours.entry(start).or_insert_with(|| Bucket::new(start, HOUR)).merge(&bucket);
    }
    let mut out = String::new();
    hours.values().for_each(|it| it.write(&mut out));
    out
}
