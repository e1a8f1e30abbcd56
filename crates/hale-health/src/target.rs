//! What hale probes but does not run: one failure told, then silence, then one recovery (N13, N14).

use std::time::Duration;

use crate::{Observer, ProbeTiming, Reason, Status, Threshold, Time, Verdict};

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
    threshold: Threshold,
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
    pub const fn new(now: Time, timing: ProbeTiming) -> Self {
        Self {
            timing,
            threshold: Threshold::new(timing.success_threshold, timing.failure_threshold),
            counts_from: Time::ZERO,
            heard_at: now,
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
        if self.threshold.feed(success).is_some() {
            self.since = Some(now);
        }
        self.settle(now, observer)
    }

    /// Tells what is to be told: what the observer held back, too. Call it when the observer has changed.
    pub fn settle(&mut self, now: Time, observer: &Observer) -> Option<TargetNote> {
        match self.threshold.verdict() {
            Some(false) if !self.published && *observer == Observer::Sound => {
                let (last_reason, last_error) = self.last_failure.clone()?;
                self.published = true;
                Some(TargetNote::ProbeFailed {
                    consecutive_failures: self.threshold.failures(),
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

    /// A person pauses it: its verdict is frozen (H24).
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
        if !self.published {
            self.threshold.forget_failure();
            self.streak = 0;
            self.first_failure_at = None;
        }
    }

    /// How it is: unknown until its thresholds say something, and when nothing has been heard for three periods (H28).
    #[must_use]
    pub fn status(&self, now: Time) -> Status {
        let stale = self.blind || now.since(self.heard_at) > self.timing.period.saturating_mul(3);
        match self.threshold.verdict() {
            _ if stale && !self.paused => Status::Unknown,
            None => Status::Unknown,
            Some(true) if self.paused => Status::Degraded,
            Some(true) => Status::Healthy,
            Some(false) => Status::Failing,
        }
    }

    /// Since when its verdict is what it is.
    #[must_use]
    pub const fn since(&self) -> Option<Time> {
        self.since
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

    /// Whether a person paused it.
    #[must_use]
    pub const fn paused(&self) -> bool {
        self.paused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(success_threshold: u32) -> TargetMachine {
        let timing = ProbeTiming {
            period: Duration::from_secs(15),
            success_threshold,
            ..ProbeTiming::default_for(crate::ProbeKind::Liveness)
        };
        TargetMachine::new(Time::ZERO, timing)
    }

    fn feed_as(it: &mut TargetMachine, at: u64, ok: bool, observer: &Observer) -> Option<TargetNote> {
        let verdict =
            if ok { Verdict::Success } else { Verdict::failure(Reason::StatusMismatch, "503, expected 200") };
        let status = if ok { 200 } else { 503 };
        it.outcome(
            Time::from_secs(at),
            &TargetOutcome { verdict, status, started_at: Time::from_secs(at) },
            observer,
        )
    }

    fn feed(it: &mut TargetMachine, at: u64, ok: bool) -> Option<TargetNote> {
        feed_as(it, at, ok, &Observer::Sound)
    }

    fn suspect() -> Observer {
        Observer::Suspect { confirmed: false, reason: "many at once".to_owned() }
    }

    #[test]
    fn one_failure_is_told_then_silence_then_one_recovery_with_the_whole_streak() {
        let mut it = machine(1);
        assert_eq!(
            (feed(&mut it, 0, true), feed(&mut it, 15, false), feed(&mut it, 30, false)),
            (None, None, None)
        );
        let Some(TargetNote::ProbeFailed {
            consecutive_failures: 3,
            last_status: 503,
            last_reason,
            last_error,
        }) = feed(&mut it, 45, false)
        else {
            panic!("not told")
        };
        assert_eq!((last_reason, last_error.as_str()), (Reason::StatusMismatch, "503, expected 200"));
        for at in 4..100 {
            assert_eq!(feed(&mut it, at * 15, false), None);
        }
        assert_eq!((it.status(Time::from_secs(1500)), it.consecutive_failures()), (Status::Failing, 99));
        let recovered =
            TargetNote::ProbeRecovered { prior_failure_count: 99, down_for: Duration::from_secs(1485) };
        assert_eq!(feed(&mut it, 1500, true), Some(recovered));
        assert_eq!((feed(&mut it, 1515, true), it.consecutive_successes()), (None, 2));
    }

    #[test]
    fn a_success_without_a_published_failure_makes_no_event() {
        let mut it = machine(1);
        assert_eq!(feed(&mut it, 0, true), None);
        for at in 0..20 {
            assert_eq!(feed(&mut it, at * 15, at % 3 == 0), None);
        }
    }

    #[test]
    fn a_recovery_waits_for_its_threshold_and_counts_every_failure_since_the_first() {
        let mut it = machine(2);
        for at in 0..3 {
            feed(&mut it, at, false);
        }
        assert_eq!(
            (feed(&mut it, 3, true), feed(&mut it, 4, false), feed(&mut it, 5, true)),
            (None, None, None)
        );
        let recovered =
            TargetNote::ProbeRecovered { prior_failure_count: 4, down_for: Duration::from_secs(6) };
        assert_eq!(feed(&mut it, 6, true), Some(recovered));
    }

    #[test]
    fn what_is_paused_is_frozen_and_begins_at_zero_afterwards() {
        let mut it = machine(1);
        feed(&mut it, 0, true);
        feed(&mut it, 1, false);
        feed(&mut it, 2, false);
        it.pause();
        assert_eq!(
            (feed(&mut it, 3, false), it.paused(), it.status(Time::from_secs(3))),
            (None, true, Status::Degraded)
        );
        it.resume(Time::from_secs(4));
        assert_eq!((feed(&mut it, 5, false), feed(&mut it, 6, false)), (None, None));
        assert!(feed(&mut it, 7, false).is_some());
        it.pause();
        it.resume(Time::from_secs(8));
        assert!(matches!(
            feed(&mut it, 9, true),
            Some(TargetNote::ProbeRecovered { prior_failure_count: 3, .. })
        ));
    }

    #[test]
    fn what_the_node_doubts_is_held_and_told_when_it_turns_out_true() {
        let mut it = machine(1);
        for at in 0..4 {
            assert_eq!(feed_as(&mut it, at, false, &suspect()), None);
        }
        assert!(matches!(
            it.settle(Time::from_secs(4), &Observer::Sound),
            Some(TargetNote::ProbeFailed { .. })
        ));
        assert_eq!(it.settle(Time::from_secs(4), &Observer::Sound), None);
    }

    #[test]
    fn a_blind_node_says_unknown_and_never_failing() {
        let mut it = machine(1);
        feed(&mut it, 0, true);
        feed(&mut it, 1, false);
        let blind = Observer::Blind { reason: "no route".to_owned() };
        it.observer_changed(Time::from_secs(2), true);
        for at in 2..9 {
            assert_eq!(feed_as(&mut it, at, false, &blind), None);
        }
        assert_eq!(it.status(Time::from_secs(9)), Status::Unknown);
        it.observer_changed(Time::from_secs(9), false);
        assert_eq!(it.status(Time::from_secs(9)), Status::Healthy);
    }

    #[test]
    fn it_is_unknown_before_the_first_verdict_and_after_three_silent_periods() {
        let mut it = machine(1);
        assert_eq!((it.status(Time::ZERO), it.since()), (Status::Unknown, None));
        feed(&mut it, 0, true);
        assert_eq!((it.status(Time::from_secs(45)), it.since()), (Status::Healthy, Some(Time::ZERO)));
        assert_eq!(it.status(Time::from_millis(45_001)), Status::Unknown);
        assert_eq!(it.last_outcome_at(), Some(Time::ZERO));
    }

    #[test]
    fn an_error_of_the_prober_and_a_check_from_before_a_pause_change_nothing() {
        let mut it = machine(1);
        feed(&mut it, 0, true);
        let error = Verdict::failure(Reason::ProberError, "no file descriptor left");
        let outcome = TargetOutcome { verdict: error, status: 0, started_at: Time::from_secs(1) };
        for _ in 0..10 {
            assert_eq!(it.outcome(Time::from_secs(1), &outcome, &Observer::Sound), None);
        }
        assert_eq!((it.prober_errors(), it.consecutive_failures(), it.last_failure()), (10, 0, None));
        it.resume(Time::from_secs(5));
        feed(&mut it, 4, false);
        assert_eq!(it.consecutive_failures(), 0);
    }

    #[test]
    fn a_failure_told_in_an_earlier_run_is_not_told_again_but_its_end_is() {
        let mut it = machine(1).with_published_failure(Time::ZERO, 7);
        assert_eq!(feed(&mut it, 10, false), None);
        let recovered =
            TargetNote::ProbeRecovered { prior_failure_count: 8, down_for: Duration::from_secs(20) };
        assert_eq!(feed(&mut it, 20, true), Some(recovered));
    }
}
