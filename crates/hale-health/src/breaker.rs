//! Not asking again and again what has just failed.

use std::time::Duration;

use crate::Time;

/// When a breaker opens and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Failures in a row that open it; at least 1.
    pub failures: u32,
    /// How long it stays open before one probe is let through.
    pub open_for: Duration,
}

/// How a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Everything passes.
    Closed,
    /// Nothing passes until then.
    Open {
        /// Until when.
        until: Time,
    },
    /// One probe may pass, or is under way; the rest do not.
    HalfOpen,
}

/// Whether an attempt may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    /// Yes.
    Pass,
    /// Yes, as the one probe that decides for all.
    Probe,
    /// No.
    Refused,
}

/// A circuit breaker: closed, open after so many failures in a row, half-open with one probe (H29).
///
/// A probe that is never answered would shut it for good; so a probe older than `open_for` is given up for lost and
/// another one is let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitBreaker {
    policy: BreakerPolicy,
    failures: u32,
    opened_at: Option<Time>,
    probing_since: Option<Time>,
}

impl CircuitBreaker {
    /// A closed one.
    #[must_use]
    pub const fn new(policy: BreakerPolicy) -> Self {
        Self { policy, failures: 0, opened_at: None, probing_since: None }
    }

    /// Asks whether an attempt may be made now. One that is let through must be answered.
    pub fn permit(&mut self, now: Time) -> Permit {
        match self.state(now) {
            BreakerState::Closed => Permit::Pass,
            BreakerState::Open { .. } => Permit::Refused,
            BreakerState::HalfOpen => {
                let lost = self.probing_since.is_none_or(|since| now.since(since) >= self.policy.open_for);
                if !lost {
                    return Permit::Refused;
                }
                self.probing_since = Some(now);
                Permit::Probe
            }
        }
    }

    /// An attempt succeeded: closed.
    pub const fn success(&mut self) {
        self.failures = 0;
        self.opened_at = None;
        self.probing_since = None;
    }

    /// An attempt failed. A failed probe opens it again, so does the last of so many failures in a row. Failures of
    /// attempts that began before it opened do not keep it open for longer.
    pub fn failure(&mut self, now: Time) {
        self.failures = self.failures.saturating_add(1);
        let reached = self.opened_at.is_none() && self.failures >= self.policy.failures.max(1);
        if reached || self.probing_since.is_some() {
            self.opened_at = Some(now);
            self.probing_since = None;
        }
    }

    /// How it stands.
    #[must_use]
    pub fn state(&self, now: Time) -> BreakerState {
        match self.opened_at.map(|at| at + self.policy.open_for) {
            None => BreakerState::Closed,
            Some(until) if now < until => BreakerState::Open { until },
            Some(_) => BreakerState::HalfOpen,
        }
    }

    /// Failures in a row.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open_at(now: Time) -> CircuitBreaker {
        let mut it = CircuitBreaker::new(BreakerPolicy { failures: 3, open_for: Duration::from_secs(10) });
        for _ in 0..3 {
            assert_eq!(it.permit(now), Permit::Pass);
            it.failure(now);
        }
        it
    }

    #[test]
    fn it_opens_at_the_threshold_and_a_success_between_starts_the_count_again() {
        let mut it = CircuitBreaker::new(BreakerPolicy { failures: 2, open_for: Duration::from_secs(10) });
        it.failure(Time::ZERO);
        it.success();
        it.failure(Time::ZERO);
        assert_eq!((it.state(Time::ZERO), it.failures()), (BreakerState::Closed, 1));
        it.failure(Time::ZERO);
        assert_eq!(it.state(Time::ZERO), BreakerState::Open { until: Time::from_secs(10) });
        assert_eq!(it.permit(Time::from_millis(9_999)), Permit::Refused);
    }

    #[test]
    fn probation_admits_a_single_probe() {
        let mut it = open_at(Time::ZERO);
        let later = Time::from_secs(10);
        assert_eq!(it.state(later), BreakerState::HalfOpen);
        assert_eq!((it.permit(later), it.permit(later)), (Permit::Probe, Permit::Refused));
        it.success();
        assert_eq!(it.permit(later), Permit::Pass);
    }

    #[test]
    fn a_failed_probe_opens_it_again_and_late_failures_do_not() {
        let mut it = open_at(Time::ZERO);
        it.failure(Time::from_secs(5));
        assert_eq!(it.state(Time::from_secs(10)), BreakerState::HalfOpen);
        assert_eq!(it.permit(Time::from_secs(10)), Permit::Probe);
        it.failure(Time::from_secs(12));
        assert_eq!(it.state(Time::from_secs(12)), BreakerState::Open { until: Time::from_secs(22) });
    }

    #[test]
    fn a_probe_that_is_never_answered_is_given_up() {
        let mut it = open_at(Time::ZERO);
        assert_eq!(it.permit(Time::from_secs(10)), Permit::Probe);
        assert_eq!(it.permit(Time::from_secs(19)), Permit::Refused);
        assert_eq!(it.permit(Time::from_secs(20)), Permit::Probe);
    }
}
