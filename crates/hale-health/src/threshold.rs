//! Hysteresis: how many equal answers in a row it takes to change a verdict.

/// A verdict that only changes after enough equal answers in a row (H2, H5): one odd result changes nothing.
///
/// There is no verdict until one of the two thresholds has been reached for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Threshold {
    success_threshold: u32,
    failure_threshold: u32,
    verdict: Option<bool>,
    successes: u32,
    failures: u32,
}

impl Threshold {
    /// A threshold without a verdict. Zero counts as one.
    #[must_use]
    pub const fn new(success_threshold: u32, failure_threshold: u32) -> Self {
        const fn at_least_one(n: u32) -> u32 {
            if n == 0 { 1 } else { n }
        }
        Self {
            success_threshold: at_least_one(success_threshold),
            failure_threshold: at_least_one(failure_threshold),
            verdict: None,
            successes: 0,
            failures: 0,
        }
    }

    /// The same, with a verdict to begin with.
    #[must_use]
    pub const fn with_verdict(mut self, verdict: Option<bool>) -> Self {
        self.verdict = verdict;
        self
    }

    /// The same counts and verdict, against other thresholds. Zero counts as one.
    #[must_use]
    pub const fn against(self, success_threshold: u32, failure_threshold: u32) -> Self {
        let fresh = Self::new(success_threshold, failure_threshold);
        Self { verdict: self.verdict, successes: self.successes, failures: self.failures, ..fresh }
    }

    /// Takes an answer; returns the verdict if this answer changed it.
    pub fn feed(&mut self, success: bool) -> Option<bool> {
        let reached = if success {
            self.failures = 0;
            self.successes = self.successes.saturating_add(1);
            self.successes >= self.success_threshold
        } else {
            self.successes = 0;
            self.failures = self.failures.saturating_add(1);
            self.failures >= self.failure_threshold
        };
        (reached && self.verdict != Some(success)).then(|| {
            self.verdict = Some(success);
            success
        })
    }

    /// Begins to count at zero. A good verdict stays until answers change it.
    pub const fn clear_streak(&mut self) {
        self.successes = 0;
        self.failures = 0;
    }

    /// Begins to count at zero and takes a bad verdict back: as many failures as ever make a new one.
    pub fn forget_failure(&mut self) {
        self.clear_streak();
        if self.verdict == Some(false) {
            self.verdict = None;
        }
    }

    /// The verdict; `None` until a threshold was reached.
    #[must_use]
    pub const fn verdict(&self) -> Option<bool> {
        self.verdict
    }

    /// Successes in a row, up to the last answer.
    #[must_use]
    pub const fn successes(&self) -> u32 {
        self.successes
    }

    /// Failures in a row, up to the last answer.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// How many failures in a row make the verdict bad.
    #[must_use]
    pub const fn failure_threshold(&self) -> u32 {
        self.failure_threshold
    }

    /// How many successes in a row make it good.
    #[must_use]
    pub const fn success_threshold(&self) -> u32 {
        self.success_threshold
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_verdict_turns_bad_at_the_threshold_and_not_before() {
        let mut it = Threshold::new(1, 3);
        assert_eq!(it.feed(true), Some(true));
        assert_eq!((it.feed(false), it.feed(false)), (None, None));
        assert_eq!(it.verdict(), Some(true));
        assert_eq!(it.feed(false), Some(false));
        assert_eq!((it.feed(false), it.failures()), (None, 4));
    }

    #[test]
    fn one_odd_result_starts_the_count_again() {
        let mut it = Threshold::new(2, 2).with_verdict(Some(true));
        for _ in 0..10 {
            assert_eq!(it.feed(false), None);
            assert_eq!(it.feed(true), None);
        }
    }

    #[test]
    fn zero_counts_as_one() {
        assert_eq!(Threshold::new(0, 0), Threshold::new(1, 1));
    }

    #[test]
    fn forgetting_keeps_a_good_verdict_and_takes_a_bad_one_back() {
        let mut good = Threshold::new(1, 1).with_verdict(Some(true));
        good.forget_failure();
        assert_eq!(good.verdict(), Some(true));
        let mut bad = Threshold::new(3, 2).with_verdict(Some(false));
        bad.forget_failure();
        assert_eq!((bad.verdict(), bad.failures()), (None, 0));
        assert_eq!((bad.failure_threshold(), bad.success_threshold(), bad.successes()), (2, 3, 0));
    }

    proptest! {
        /// The naive model: look at the last answers, whole.
        #[test]
        fn it_says_what_the_last_answers_say(
            (good, bad) in (1u32..5, 1u32..5),
            answers in proptest::collection::vec(any::<bool>(), 0..60),
        ) {
            let mut it = Threshold::new(good, bad);
            let mut model = None;
            for n in 0..answers.len() {
                let seen = &answers[..=n];
                let tail = |wanted: bool, len: u32| {
                    seen.len() >= len as usize && seen.iter().rev().take(len as usize).all(|a| *a == wanted)
                };
                let before = model;
                if tail(true, good) { model = Some(true) }
                if tail(false, bad) { model = Some(false) }
                let change = it.feed(answers[n]);
                prop_assert_eq!(it.verdict(), model);
                prop_assert_eq!(change, if before == model { None } else { model });
            }
        }
    }
}
