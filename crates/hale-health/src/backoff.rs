//! Waiting longer after each failure.

use std::time::Duration;

use crate::BackoffPolicy;

/// The wait before each of a row of attempts (H15): the initial wait, then each time the multiplier more, up to the
/// longest. Used for restarts, stops that failed, reconnects.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// At its start.
    #[must_use]
    pub const fn new() -> Self {
        Self { attempts: 0 }
    }

    /// The next wait, and one attempt more. `chance` in `[0, 1)` places the wait within its jitter: 0.5 is the middle.
    pub fn next(&mut self, policy: &BackoffPolicy, chance: f64) -> Duration {
        let wait = self.peek(policy, chance);
        self.attempts = self.attempts.saturating_add(1);
        wait
    }

    /// The next wait, without taking it.
    #[must_use]
    pub fn peek(&self, policy: &BackoffPolicy, chance: f64) -> Duration {
        let max = policy.max.as_secs_f64();
        let multiplier = if policy.multiplier.is_finite() { policy.multiplier.max(1.0) } else { 1.0 };
        let exponent = i32::try_from(self.attempts).unwrap_or(i32::MAX);
        let grown = policy.initial.as_secs_f64() * multiplier.powi(exponent);
        // Zero times infinity: no wait at all stays none, however often.
        let wait = if grown.is_nan() { 0.0 } else { grown.min(max) };
        let share = policy.jitter.clamp(0.0, 1.0) * (chance.clamp(0.0, 1.0) * 2.0 - 1.0);
        let jittered = (wait * (1.0 + share)).clamp(0.0, max);
        Duration::try_from_secs_f64(jittered).unwrap_or(policy.max)
    }

    /// Back to the start.
    pub const fn reset(&mut self) {
        self.attempts = 0;
    }

    /// Attempts since the start.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn waits(policy: &BackoffPolicy, n: usize) -> Vec<f64> {
        let mut backoff = Backoff::new();
        (0..n).map(|_| backoff.next(policy, 0.5).as_secs_f64()).collect()
    }

    #[test]
    fn the_default_row_doubles_to_a_minute() {
        assert_eq!(waits(&BackoffPolicy::default(), 9), [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]);
    }

    #[test]
    fn a_wait_of_zero_is_allowed_and_stays_zero() {
        let policy = BackoffPolicy { initial: Duration::ZERO, ..BackoffPolicy::default() };
        let mut backoff = Backoff::new();
        for _ in 0..2000 {
            assert_eq!(backoff.next(&policy, 0.9), Duration::ZERO);
        }
    }

    #[test]
    fn jitter_spreads_a_wait_to_both_sides() {
        let policy = BackoffPolicy { jitter: 0.5, ..BackoffPolicy::default() };
        let backoff = Backoff { attempts: 2 };
        assert_eq!(backoff.peek(&policy, 0.0), Duration::from_secs(2));
        assert_eq!(backoff.peek(&policy, 0.5), Duration::from_secs(4));
        assert_eq!(backoff.peek(&policy, 1.0), Duration::from_secs(6));
    }

    #[test]
    fn a_reset_begins_anew() {
        let policy = BackoffPolicy::default();
        let mut backoff = Backoff::new();
        backoff.next(&policy, 0.5);
        backoff.next(&policy, 0.5);
        assert_eq!(backoff.attempts(), 2);
        backoff.reset();
        assert_eq!(backoff.next(&policy, 0.5), Duration::from_secs(1));
    }

    proptest! {
        #[test]
        fn no_wait_is_ever_longer_than_the_longest(
            initial in 0u64..100_000, max in 0u64..100_000, multiplier in -1.0f64..50.0, jitter in -1.0f64..2.0,
            chance in 0.0f64..1.0, attempts in any::<u32>(),
        ) {
            let policy = BackoffPolicy {
                initial: Duration::from_millis(initial), max: Duration::from_millis(max), multiplier, jitter,
            };
            let backoff = Backoff { attempts };
            prop_assert!(backoff.peek(&policy, chance) <= policy.max + Duration::from_nanos(1));
        }
    }
}
