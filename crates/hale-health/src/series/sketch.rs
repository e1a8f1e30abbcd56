//! Durations in a small histogram with fixed bounds, so that any two can be added up.
//!
//! Each doubling has eight bins: what is read back is at most 6.25 % from what was put in. Below 64 µs all is one.

use std::time::Duration;

/// The least exponent: 64 µs.
const FLOOR: u32 = 6;

/// Bins of a doubling, as a power of two.
const SUB: u32 = 3;

/// How many of what length. Only bins with something in them take room, 8 bytes each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sketch {
    /// By bin, in order.
    bins: Vec<(u8, u32)>,
}

/// The bin of so many microseconds.
fn bin_of(micros: u64) -> u8 {
    let micros = micros.max(1 << FLOOR);
    let exponent = micros.ilog2();
    let within = (micros >> (exponent - SUB)) & ((1 << SUB) - 1);
    let bin = u64::from(exponent - FLOOR) << SUB | within;
    u8::try_from(bin).unwrap_or(u8::MAX)
}

/// The middle of a bin, microseconds.
fn middle(bin: u8) -> u64 {
    let exponent = (u32::from(bin) >> SUB) + FLOOR;
    let within = u64::from(bin) & ((1 << SUB) - 1);
    let width = 1_u64 << (exponent - SUB);
    ((1 << SUB) + within) * width + width / 2
}

impl Sketch {
    /// Takes a duration.
    pub fn record(&mut self, took: Duration) {
        self.add(bin_of(u64::try_from(took.as_micros()).unwrap_or(u64::MAX)), 1);
    }

    pub(super) fn add(&mut self, bin: u8, count: u32) {
        match self.bins.binary_search_by_key(&bin, |it| it.0) {
            Ok(at) => self.bins[at].1 = self.bins[at].1.saturating_add(count),
            Err(at) => self.bins.insert(at, (bin, count)),
        }
    }

    /// Takes all of another.
    pub fn merge(&mut self, other: &Self) {
        other.bins.iter().for_each(|(bin, count)| self.add(*bin, *count));
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.bins.iter().map(|it| u64::from(it.1)).sum()
    }

    /// What `share` (0 to 1) of them are not longer than; `None` when there is none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let count = self.count();
        // Of at most 2^40 things: exact.
        let rank = ((share.clamp(0.0, 1.0) * count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let found = self.bins.iter().find(|(_, count)| {
            seen += u64::from(*count);
            seen >= rank
        });
        found.map(|(bin, _)| Duration::from_micros(middle(*bin)))
    }

    pub(super) fn bins(&self) -> &[(u8, u32)] {
        &self.bins
    }
}
