//! Which of the endpoints gets a request (S16). Pure: chance and the turn come in.

use hale_api::model::spec::Balance;

/// A small source of chance (xorshift*), seeded from outside; it only spreads load.
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A number below `bound`; 0 when the bound is 0.
    pub(crate) const fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
        ((high as u128 * bound as u128) >> 32) as usize
    }
}

/// Picks one of `count` endpoints (at least one), of which `load` tells the requests in flight.
///
/// Least request takes the one with fewer in flight of two different ones picked by chance: nearly as even as asking
/// all, and no herd runs to the one that looked best.
pub(crate) fn pick(
    balance: Balance,
    count: usize,
    turn: &mut usize,
    chance: &mut Chance,
    load: impl Fn(usize) -> usize,
) -> usize {
    match balance {
        _ if count < 2 => 0,
        Balance::RoundRobin => {
            *turn = turn.wrapping_add(1);
            *turn % count
        }
        Balance::LeastRequest => {
            let one = chance.below(count);
            let other = (one + 1 + chance.below(count - 1)) % count;
            if load(other) < load(one) { other } else { one }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_robin_takes_turns() {
        let (mut turn, mut chance) = (0, Chance::new(1));
        let mut seen = [0; 3];
        for _ in 0..30 {
            seen[pick(Balance::RoundRobin, 3, &mut turn, &mut chance, |_| 0)] += 1;
        }
        assert_eq!(seen, [10, 10, 10]);
    }

    #[test]
    fn two_choices_spread_evenly_and_keep_the_load_level() {
        let (mut turn, mut chance) = (0, Chance::new(7));
        let mut load = [0_usize; 10];
        for _ in 0..10_000 {
            load[pick(Balance::LeastRequest, 10, &mut turn, &mut chance, |index| load[index])] += 1;
        }
        let (least, most) = (load.iter().min().unwrap(), load.iter().max().unwrap());
        assert!(most - least < 10, "{load:?}");
    }

    #[test]
    fn a_busy_endpoint_is_never_taken_of_two() {
        let (mut turn, mut chance) = (0, Chance::new(3));
        for _ in 0..1000 {
            assert_eq!(pick(Balance::LeastRequest, 2, &mut turn, &mut chance, |index| index), 0);
        }
    }

    #[test]
    fn chance_stays_below_its_bound_and_reaches_all() {
        let mut chance = Chance::new(42);
        let mut seen = [false; 5];
        for _ in 0..1000 {
            seen[chance.below(5)] = true;
        }
        assert_eq!(seen, [true; 5]);
        assert_eq!(chance.below(0), 0);
    }
}
