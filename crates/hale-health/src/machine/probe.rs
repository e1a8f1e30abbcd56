//! What is known of one probe of one replica.

use std::time::Duration;

use crate::{Outcome, ProbeTiming, Reason, Threshold, Time, Verdict};

/// The counters and the last answer of one probe, bound to one incarnation (H6).
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ProbeState {
    pub(super) threshold: Threshold,
    /// Checks that began earlier are not counted.
    pub(super) counts_from: Time,
    /// Since when there has been neither an outcome nor a reason to miss one.
    pub(super) heard_at: Option<Time>,
    pub(super) last_outcome_at: Option<Time>,
    pub(super) last_failure: Option<(Reason, String)>,
    pub(super) last_took: Option<Duration>,
    /// When the first failure of the present streak began.
    pub(super) first_failure_at: Option<Time>,
    /// Failures since then: more than those in a row, when it takes several successes to recover.
    pub(super) streak: u32,
    /// Whether the streak has reached its threshold, so that its end is to be told.
    pub(super) told: bool,
    pub(super) prober_errors: u32,
    pub(super) last_prober_error: Option<String>,
}

impl ProbeState {
    pub(super) const fn new(timing: &ProbeTiming) -> Self {
        Self {
            threshold: Threshold::new(timing.success_threshold, timing.failure_threshold),
            counts_from: Time::ZERO,
            heard_at: None,
            last_outcome_at: None,
            last_failure: None,
            last_took: None,
            first_failure_at: None,
            streak: 0,
            told: false,
            prober_errors: 0,
            last_prober_error: None,
        }
    }

    /// Takes note of an outcome that is one; whether it counts is decided elsewhere.
    pub(super) fn heard(&mut self, now: Time, outcome: &Outcome) {
        self.prober_errors = 0;
        self.last_prober_error = None;
        self.heard_at = Some(now);
        self.last_outcome_at = Some(now);
        self.last_took = Some(outcome.took);
        self.last_failure = match &outcome.verdict {
            Verdict::Success => None,
            Verdict::Failure { reason, detail } => Some((*reason, detail.clone())),
        };
    }

    /// Feeds the thresholds. Returns the verdict if it changed, and how long and since when the probe had failed if
    /// that is over now.
    pub(super) fn feed(&mut self, outcome: &Outcome) -> (Option<bool>, Option<(u32, Time)>) {
        let success = outcome.verdict.is_success();
        let change = self.threshold.feed(success);
        if !success {
            self.streak = self.streak.saturating_add(1);
            self.first_failure_at = self.first_failure_at.or(Some(outcome.started_at));
            self.told |= change == Some(false);
            return (change, None);
        }
        if self.told && self.threshold.verdict() != Some(true) {
            return (change, None);
        }
        let over = self.first_failure_at.filter(|_| self.told).map(|since| (self.streak, since));
        self.end_streak();
        (change, over)
    }

    const fn end_streak(&mut self) {
        self.streak = 0;
        self.first_failure_at = None;
        self.told = false;
    }

    /// Begins to count at zero; a bad verdict is taken back.
    pub(super) fn begin_anew(&mut self, now: Time) {
        self.threshold.forget_failure();
        if !self.told {
            self.end_streak();
        }
        self.counts_from = now;
    }

    /// The verdict through the thresholds; `None`: none yet.
    #[must_use]
    pub const fn verdict(&self) -> Option<bool> {
        self.threshold.verdict()
    }

    /// Failures in a row.
    #[must_use]
    pub const fn consecutive_failures(&self) -> u32 {
        self.threshold.failures()
    }

    /// Successes in a row.
    #[must_use]
    pub const fn consecutive_successes(&self) -> u32 {
        self.threshold.successes()
    }

    /// How many failures in a row turn the verdict.
    #[must_use]
    pub const fn failure_threshold(&self) -> u32 {
        self.threshold.failure_threshold()
    }

    /// How many successes in a row turn it back.
    #[must_use]
    pub const fn success_threshold(&self) -> u32 {
        self.threshold.success_threshold()
    }

    /// When it last had an outcome.
    #[must_use]
    pub const fn last_outcome_at(&self) -> Option<Time> {
        self.last_outcome_at
    }

    /// Why it last failed, while its last outcome is a failure.
    #[must_use]
    pub fn last_failure(&self) -> Option<(Reason, &str)> {
        self.last_failure.as_ref().map(|(reason, detail)| (*reason, detail.as_str()))
    }

    /// How long the last check took.
    #[must_use]
    pub const fn last_took(&self) -> Option<Duration> {
        self.last_took
    }

    /// Checks that could not be made, in a row (H10).
    #[must_use]
    pub const fn prober_errors(&self) -> u32 {
        self.prober_errors
    }

    /// Why the last check could not be made, while that is so.
    #[must_use]
    pub fn last_prober_error(&self) -> Option<&str> {
        self.last_prober_error.as_deref()
    }

    /// Whether there has been no outcome for more than three periods (H10, H28).
    #[must_use]
    pub fn is_stale(&self, timing: &ProbeTiming, now: Time) -> bool {
        self.heard_at.is_some_and(|at| now.since(at) > timing.period.saturating_mul(3))
    }

    /// `timeout 3/3`: the last failure and its count against the threshold.
    pub(super) fn failure_text(&self) -> String {
        let reason = self.last_failure.as_ref().map_or("no outcome", |(reason, _)| reason.as_str());
        format!("{reason} {}/{}", self.threshold.failures(), self.threshold.failure_threshold())
    }
}
