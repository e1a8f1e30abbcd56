//! Flap damping: what changes too often is held out until it has been quiet.

use std::time::Duration;

use crate::{DampingPolicy, Time};

/// What a change of damping means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Damped {
    /// The penalty rose above `suppress`: hold it out.
    Suppressed {
        /// The penalty now.
        penalty: f64,
    },
    /// It fell below `reuse`, or the longest hold is over: let it back.
    Reused {
        /// The penalty now.
        penalty: f64,
        /// How long it was held out.
        held: Duration,
    },
}

/// A penalty that each flap raises by one and that halves over time (H23, after BGP's route flap damping, RFC 2439).
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Damping {
    penalty: f64,
    at: Time,
    suppressed_since: Option<Time>,
}

impl Default for Damping {
    fn default() -> Self {
        Self { penalty: 0.0, at: Time::ZERO, suppressed_since: None }
    }
}

impl Damping {
    /// No penalty.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The penalty now.
    #[must_use]
    pub fn penalty(&self, policy: &DampingPolicy, now: Time) -> f64 {
        let half_life = policy.half_life.as_secs_f64();
        if half_life <= 0.0 {
            return if now > self.at { 0.0 } else { self.penalty };
        }
        self.penalty * (-now.since(self.at).as_secs_f64() / half_life).exp2()
    }

    /// Counts one flap.
    pub fn flap(&mut self, policy: &DampingPolicy, now: Time) -> Option<Damped> {
        self.penalty = self.penalty(policy, now) + 1.0;
        self.at = now;
        (self.suppressed_since.is_none() && self.penalty > policy.suppress).then(|| {
            self.suppressed_since = Some(now);
            Damped::Suppressed { penalty: self.penalty }
        })
    }

    /// Looks whether it may come back.
    pub fn tick(&mut self, policy: &DampingPolicy, now: Time) -> Option<Damped> {
        let since = self.suppressed_since?;
        if now < self.next_deadline(policy)? {
            return None;
        }
        let penalty = self.penalty(policy, now);
        self.suppressed_since = None;
        // After the longest hold the slate is clean, or the next flap would suppress it again at once.
        if penalty >= policy.reuse {
            self.penalty = 0.0;
            self.at = now;
        }
        Some(Damped::Reused { penalty, held: now.since(since) })
    }

    /// When it may come back, while it is held out.
    #[must_use]
    pub fn next_deadline(&self, policy: &DampingPolicy) -> Option<Time> {
        let latest = self.suppressed_since? + policy.max_hold;
        let halvings = (self.penalty / policy.reuse).log2();
        let wait = policy.half_life.as_secs_f64() * halvings.max(0.0);
        // A millisecond more, so that rounding never leaves it a hair above.
        let decayed =
            Duration::try_from_secs_f64(wait).ok().map(|wait| self.at + wait + Duration::from_millis(1));
        Some(decayed.map_or(latest, |decayed| decayed.min(latest)))
    }

    /// Whether it is held out.
    #[must_use]
    pub const fn is_suppressed(&self) -> bool {
        self.suppressed_since.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flaps(n: u64) -> (Damping, Option<Damped>) {
        let mut it = Damping::new();
        let mut last = None;
        for second in 0..n {
            last = it.flap(&DampingPolicy::default(), Time::from_secs(second));
        }
        (it, last)
    }

    #[test]
    fn six_flaps_are_borne_and_the_seventh_soon_after_is_not() {
        let (it, last) = flaps(6);
        assert_eq!((it.is_suppressed(), last), (false, None));
        let (it, last) = flaps(7);
        assert!(it.is_suppressed());
        assert!(matches!(last, Some(Damped::Suppressed { penalty }) if penalty > 6.0 && penalty < 7.0));
    }

    #[test]
    fn the_penalty_halves_every_two_minutes() {
        let policy = DampingPolicy::default();
        let mut it = Damping::new();
        it.flap(&policy, Time::ZERO);
        assert!((it.penalty(&policy, Time::from_secs(120)) - 0.5).abs() < 1e-9);
        assert!((it.penalty(&policy, Time::from_secs(240)) - 0.25).abs() < 1e-9);
    }

    #[test]
    fn it_comes_back_below_reuse_and_not_before() {
        let policy = DampingPolicy::default();
        let (mut it, _) = flaps(7);
        let back = it.next_deadline(&policy).unwrap();
        assert_eq!(it.tick(&policy, back - Duration::from_millis(2)), None);
        let Some(Damped::Reused { penalty, held }) = it.tick(&policy, back) else { panic!("still out") };
        assert!(penalty < 2.0 && penalty > 1.99, "{penalty}");
        assert!(held > Duration::from_secs(180) && held < Duration::from_secs(240), "{held:?}");
        assert_eq!(
            (it.is_suppressed(), it.next_deadline(&policy), it.tick(&policy, back)),
            (false, None, None)
        );
    }

    #[test]
    fn however_much_it_flaps_it_comes_back_after_the_longest_hold() {
        let policy = DampingPolicy::default();
        let mut it = Damping::new();
        for second in 0..=606 {
            it.flap(&policy, Time::from_secs(second));
        }
        assert_eq!(it.next_deadline(&policy), Some(Time::from_secs(606)));
        assert!(matches!(it.tick(&policy, Time::from_secs(606)), Some(Damped::Reused { .. })));
        assert!(it.flap(&policy, Time::from_secs(607)).is_none(), "the slate is clean");
    }

    #[test]
    fn odd_settings_do_no_harm() {
        let policy = DampingPolicy {
            half_life: Duration::ZERO,
            reuse: 0.0,
            suppress: 0.5,
            ..DampingPolicy::default()
        };
        let mut it = Damping::new();
        assert!(it.flap(&policy, Time::ZERO).is_some());
        assert_eq!(it.penalty(&policy, Time::ZERO), 1.0);
        assert_eq!(it.penalty(&policy, Time::from_secs(1)), 0.0);
        assert!(it.next_deadline(&policy).is_some());
    }
}
