//! Chance as an argument: a small seeded generator.

/// Pseudo-random numbers from a seed (SplitMix64, Steele et al. 2014): jitter and spread, never secrets.
///
/// The driver seeds it; a test that uses the same seed sees the same waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chance(u64);

impl Chance {
    /// A generator with this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, in `[0, 1)`.
    pub fn draw(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        // 53 bits are what a f64 between 0 and 1 can hold.
        (z >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_row_spread_over_the_unit() {
        let (mut a, mut b) = (Chance::new(7), Chance::new(7));
        let row: Vec<f64> = (0..1000).map(|_| a.draw()).collect();
        assert!(row.iter().all(|x| *x == b.draw() && (0.0..1.0).contains(x)));
        let mean = row.iter().sum::<f64>() / 1000.0;
        assert!((0.45..0.55).contains(&mean), "{mean}");
    }
}
