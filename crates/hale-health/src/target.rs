//! What hale probes but does not run: one failure told, then silence, then one recovery (N13, N14).

use std::{collections::VecDeque, time::Duration};

use crate::{FailureWindow, Observer, ProbeTiming, Reason, Status, TargetPolicy, Threshold, Time, Verdict};

/// The result of one check of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetOutcome {
    /// What it found.
    pub verdict: Verdict,
    /// The HTTP status; 0 where no HTTP answer came.
    pub status: u16,
    /// When the check began.
    pub started_at: Time,
}

/// What is told of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetNote {
    /// It has failed its threshold.
    ProbeFailed {
        /// Failures in a row.
        consecutive_failures: u32,
        /// When the first of the failures began.
        since: Time,
        /// The HTTP status; 0 where no HTTP answer came.
        last_status: u16,
        /// The typed reason.
        last_reason: Reason,
        /// What was seen.
        last_error: String,
    },
    /// It answers again.
    ProbeRecovered {
        /// The whole streak.
        prior_failure_count: u32,
        /// Since the first failure.
        down_for: Duration,
    },
}

/// The state of one target. One that leaves its list is dropped with its counters; one that comes back, or whose
/// address changed, is a new one (N14).
#[derive(Debug, Clone, PartialEq)]
pub struct TargetMachine {
    timing: ProbeTiming,
    policy: TargetPolicy,
    threshold: Threshold,
    /// The last outcomes since the verdict last changed, newest in the lowest bit; a failure is a one.
    recent: u64,
    /// When the failures among them began, oldest first.
    recent_failures: VecDeque<Time>,
    counts_from: Time,
    heard_at: Time,
    since: Option<Time>,
    streak: u32,
    first_failure_at: Option<Time>,
    last_failure: Option<(Reason, String)>,
    last_status: u16,
    last_outcome_at: Option<Time>,
    prober_errors: u32,
    published: bool,
    paused: bool,
    blind: bool,
}

impl TargetMachine {
    /// A target of which nothing is known yet.
    #[must_use]
    pub fn new(now: Time, timing: ProbeTiming, policy: TargetPolicy) -> Self {
        // With a window failures in a row decide nothing.
        let failures = if policy.window.is_some() { u32::MAX } else { timing.failure_threshold };
        Self {
            timing,
            policy,
            threshold: Threshold::new(timing.success_threshold, failures),
            recent: 0,
            recent_failures: VecDeque::new(),
            counts_from: Time::ZERO,
            // Before its first check nothing can be heard of it.
            heard_at: now + timing.initial_delay,
            since: None,
            streak: 0,
            first_failure_at: None,
            last_failure: None,
            last_status: 0,
            last_outcome_at: None,
            prober_errors: 0,
            published: false,
            paused: false,
            blind: false,
        }
    }

    /// The same, as a record of an earlier run left it: a failure that was told is not told again.
    #[must_use]
    pub const fn with_published_failure(mut self, first_failure_at: Time, streak: u32) -> Self {
        self.threshold = self.threshold.with_verdict(Some(false));
        self.first_failure_at = Some(first_failure_at);
        self.streak = streak;
        self.published = true;
        self
    }

    /// Takes the result of a check.
    pub fn outcome(&mut self, now: Time, outcome: &TargetOutcome, observer: &Observer) -> Option<TargetNote> {
        if outcome.started_at < self.counts_from {
            return None;
        }
        if let Verdict::Failure { reason: Reason::ProberError, .. } = outcome.verdict {
            self.prober_errors = self.prober_errors.saturating_add(1);
            return None;
        }
        self.prober_errors = 0;
        self.heard_at = now;
        self.last_outcome_at = Some(now);
        self.last_status = outcome.status;
        let success = outcome.verdict.is_success();
        self.last_failure = match &outcome.verdict {
            Verdict::Success => None,
            Verdict::Failure { reason, detail } => Some((*reason, detail.clone())),
        };
        if self.paused || (!success && matches!(observer, Observer::Blind { .. })) {
            return None;
        }
        if !success {
            self.streak = self.streak.saturating_add(1);
            self.first_failure_at = self.first_failure_at.or(Some(outcome.started_at));
        }
        let changed =
            self.threshold.feed(success).is_some() || self.fills_window(success, outcome.started_at);
        if changed {
            self.since = Some(now);
            self.recent = 0;
            self.recent_failures.clear();
        }
        self.settle(now, observer)
    }

    /// Takes an outcome into the window; whether that makes the verdict bad.
    fn fills_window(&mut self, success: bool, started_at: Time) -> bool {
        let Some(FailureWindow { failures, of }) = self.policy.window else { return false };
        self.recent = self.recent << 1 | u64::from(!success);
        self.recent_failures.extend((!success).then_some(started_at));
        while self.recent_failures.len() > self.failures_in_window(of) as usize {
            self.recent_failures.pop_front();
        }
        if self.threshold.verdict() == Some(false) || self.failures_in_window(of) < failures.max(1) {
            return false;
        }
        // Those before the window have nothing to do with it.
        self.streak = self.failures_in_window(of);
        self.first_failure_at = self.recent_failures.front().copied();
        self.threshold = self.threshold.with_verdict(Some(false));
        true
    }

    const fn failures_in_window(&self, of: u32) -> u32 {
        let mask = if of >= u64::BITS { u64::MAX } else { (1 << of) - 1 };
        (self.recent & mask).count_ones()
    }

    /// How long from this check to the next: shorter while a verdict is being made, if it is to be (N12).
    ///
    /// A verdict is being made while there is none, while a good one has failures against it, and while a bad one has
    /// successes.
    #[must_use]
    pub fn period(&self) -> Duration {
        let Some(fast) = self.policy.fast_period else { return self.timing.period };
        let doubted = match self.threshold.verdict() {
            None => true,
            Some(true) => {
                let of = self.policy.window.map_or(0, |it| it.of);
                self.threshold.failures() > 0 || self.failures_in_window(of) > 0
            }
            Some(false) => self.threshold.successes() > 0,
        };
        if doubted && !self.paused && !self.blind { fast.min(self.timing.period) } else { self.timing.period }
    }

    /// Tells what is to be told: what the observer held back, too. Call it when the observer has changed.
    /// Nothing is told of one that is paused (H24).
    pub fn settle(&mut self, now: Time, observer: &Observer) -> Option<TargetNote> {
        if self.paused {
            return None;
        }
        match self.threshold.verdict() {
            Some(false) if !self.published && *observer == Observer::Sound => {
                let (last_reason, last_error) = self.last_failure.clone()?;
                self.published = true;
                Some(TargetNote::ProbeFailed {
                    consecutive_failures: self.consecutive_failures(),
                    since: self.first_failure_at.unwrap_or(now),
                    last_status: self.last_status,
                    last_reason,
                    last_error,
                })
            }
            Some(true) if self.last_failure.is_none() => {
                let prior_failure_count = std::mem::take(&mut self.streak);
                let down_for = self.first_failure_at.take().map_or(Duration::ZERO, |since| now.since(since));
                std::mem::take(&mut self.published)
                    .then_some(TargetNote::ProbeRecovered { prior_failure_count, down_for })
            }
            _ => None,
        }
    }

    /// The node has found itself unwell for too long, or is well again: what it saw meanwhile is forgotten (H22).
    pub fn observer_changed(&mut self, now: Time, blind: bool) {
        self.blind = blind;
        self.begin_anew(now);
    }

    /// A person or a maintenance window pauses it: its verdict is frozen (H24).
    pub const fn pause(&mut self) {
        self.paused = true;
    }

    /// The pause is over: counters begin at zero (H24).
    pub fn resume(&mut self, now: Time) {
        self.paused = false;
        self.begin_anew(now);
    }

    fn begin_anew(&mut self, now: Time) {
        self.counts_from = now;
        self.heard_at = self.heard_at.max(now);
        self.threshold.clear_streak();
        self.recent = 0;
        self.recent_failures.clear();
        if !self.published {
            self.threshold.forget_failure();
            self.streak = 0;
            self.first_failure_at = None;
        }
    }

    /// How it is: unknown until its thresholds say something, and when nothing has been heard for three periods (H28),
    /// or three timeouts where a check may take longer than a period.
    #[must_use]
    pub fn status(&self, now: Time) -> Status {
        let longest = self.timing.period.max(self.timing.timeout);
        let stale = self.blind || now.since(self.heard_at) > longest.saturating_mul(3);
        match self.threshold.verdict() {
            _ if stale && !self.paused => Status::Unknown,
            None => Status::Unknown,
            Some(true) if self.paused => Status::Degraded,
            Some(true) => Status::Healthy,
            // The node doubts itself: what it has not told is not so (H22).
            Some(false) if !self.published => Status::Unknown,
            Some(false) => Status::Failing,
        }
    }

    /// Since when its verdict is what it is.
    #[must_use]
    pub const fn since(&self) -> Option<Time> {
        self.since
    }

    /// Failures in a row; where a window decides, those within it, and of a failing one those since it began to fail.
    #[must_use]
    pub fn consecutive_failures(&self) -> u32 {
        match (self.policy.window, self.threshold.verdict()) {
            (None, _) => self.threshold.failures(),
            (Some(_), Some(false)) => self.streak,
            (Some(it), _) => self.failures_in_window(it.of),
        }
    }

    /// Successes in a row.
    #[must_use]
    pub const fn consecutive_successes(&self) -> u32 {
        self.threshold.successes()
    }

    /// Why it last failed, while its last outcome is a failure.
    #[must_use]
    pub fn last_failure(&self) -> Option<(Reason, &str)> {
        self.last_failure.as_ref().map(|(reason, detail)| (*reason, detail.as_str()))
    }

    /// When it last had an outcome.
    #[must_use]
    pub const fn last_outcome_at(&self) -> Option<Time> {
        self.last_outcome_at
    }

    /// Checks that could not be made, in a row (H10).
    #[must_use]
    pub const fn prober_errors(&self) -> u32 {
        self.prober_errors
    }

    /// Whether its failure was told and its recovery was not.
    #[must_use]
    pub const fn published(&self) -> bool {
        self.published
    }

    /// Whether it is paused.
    #[must_use]
    pub const fn paused(&self) -> bool {
        self.paused
    }
}

#[cfg(test)]
mod tests;
