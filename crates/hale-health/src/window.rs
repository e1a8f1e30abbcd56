//! How many within how long: a true sliding window.

use std::{collections::VecDeque, time::Duration};

use crate::Time;

/// A budget of so many per sliding window (H16). "True" sliding: at no moment do more than the limit lie within one
/// window, whatever the window's beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartWindow {
    limit: u32,
    window: Duration,
    // Oldest first. Never more than `limit` of them matter, so no more are kept.
    taken: VecDeque<Time>,
}

impl RestartWindow {
    /// An empty window.
    #[must_use]
    pub const fn new(limit: u32, window: Duration) -> Self {
        Self { limit, window, taken: VecDeque::new() }
    }

    /// How many lie within the window that ends now.
    #[must_use]
    pub fn count(&self, now: Time) -> u32 {
        let within = self.taken.iter().rev().take_while(|at| now.since(**at) < self.window).count();
        u32::try_from(within).unwrap_or(u32::MAX)
    }

    /// Whether one more is over the limit now.
    #[must_use]
    pub fn is_full(&self, now: Time) -> bool {
        self.count(now) >= self.limit
    }

    /// When there is room for one more: now, a moment to come, or never (a limit of zero).
    #[must_use]
    pub fn frees_at(&self, now: Time) -> Option<Time> {
        if !self.is_full(now) {
            return Some(now);
        }
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let oldest_that_counts = self.taken.len().checked_sub(limit)?;
        self.taken.get(oldest_that_counts).map(|at| *at + self.window)
    }

    /// Counts one.
    pub fn record(&mut self, now: Time) {
        while self.taken.front().is_some_and(|at| now.since(*at) >= self.window) {
            self.taken.pop_front();
        }
        self.taken.push_back(now);
        if self.taken.len() > usize::try_from(self.limit).unwrap_or(usize::MAX) {
            self.taken.pop_front();
        }
    }

    /// When those that are counted were, oldest first.
    pub fn taken(&self) -> impl Iterator<Item = Time> {
        self.taken.iter().copied()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.taken.clear();
    }

    /// Changes limit and window; what was counted stays counted.
    pub const fn resize(&mut self, limit: u32, window: Duration) {
        self.limit = limit;
        self.window = window;
    }

    /// How many the window allows.
    #[must_use]
    pub const fn limit(&self) -> u32 {
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_slot_is_free_again_exactly_a_window_after_it_was_taken() {
        let mut it = RestartWindow::new(2, Duration::from_secs(10));
        it.record(Time::from_secs(0));
        it.record(Time::from_secs(4));
        assert_eq!(it.frees_at(Time::from_secs(5)), Some(Time::from_secs(10)));
        assert!(it.is_full(Time::from_millis(9_999)));
        assert!(!it.is_full(Time::from_secs(10)));
        assert_eq!(it.frees_at(Time::from_secs(10)), Some(Time::from_secs(10)));
        assert_eq!(it.count(Time::from_secs(14)), 0);
    }

    #[test]
    fn a_limit_of_zero_is_always_full_and_never_frees() {
        let mut it = RestartWindow::new(0, Duration::from_secs(10));
        assert!(it.is_full(Time::ZERO));
        assert_eq!(it.frees_at(Time::ZERO), None);
        it.record(Time::ZERO);
        assert_eq!(it.frees_at(Time::ZERO), None);
    }

    #[test]
    fn clearing_and_resizing_take_effect_at_once() {
        let mut it = RestartWindow::new(1, Duration::from_secs(10));
        it.record(Time::ZERO);
        it.resize(2, Duration::from_secs(10));
        assert_eq!((it.limit(), it.is_full(Time::ZERO)), (2, false));
        it.record(Time::ZERO);
        assert!(it.is_full(Time::ZERO));
        it.clear();
        assert_eq!(it.count(Time::ZERO), 0);
    }

    proptest! {
        /// The naive model: keep every moment, count by looking at all of them.
        #[test]
        fn it_counts_as_one_who_keeps_everything(
            limit in 1u32..6, window in 1u64..40,
            steps in proptest::collection::vec((0u64..15, any::<bool>()), 0..80),
        ) {
            let window = Duration::from_secs(window);
            let mut it = RestartWindow::new(limit, window);
            let mut all: Vec<Time> = Vec::new();
            let mut now = Time::ZERO;
            for (wait, record) in steps {
                now += Duration::from_secs(wait);
                if record && !it.is_full(now) {
                    it.record(now);
                    all.push(now);
                }
                let counted = all.iter().filter(|at| now.since(**at) < window).count();
                prop_assert_eq!(it.count(now) as usize, counted);
                prop_assert!(counted <= limit as usize);
                let frees = it.frees_at(now).unwrap();
                let within_then = all.iter().filter(|at| frees.since(**at) < window).count();
                prop_assert!(within_then < limit as usize);
                if frees > now {
                    let just_before = frees - Duration::from_nanos(1);
                    let within = all.iter().filter(|at| just_before.since(**at) < window).count();
                    prop_assert_eq!(within, limit as usize);
                }
            }
        }
    }
}
