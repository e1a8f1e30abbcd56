//! Passive ejection (S17): an instance that fails request after request is passed over for a while. Pure.
//!
//! It is bound to the instance, so that a new start begins with a clean sheet, and it never takes the last endpoint
//! of a service away (H31).

use std::time::Duration;

use hale_health::Time;

/// When an endpoint is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EjectionPolicy {
    /// Failures in a row that eject (5). A failure is a connection that could not be made or broke before the
    /// response, a response that did not come in time, and a response of 502, 503 or 504.
    pub failures: u32,
    /// How long the first ejection lasts; the n-th lasts n times as long (30 s).
    pub base: Duration,
    /// The largest share of the ready endpoints that may be out at once, in percent (10); one always may.
    pub max_percent: usize,
}

impl Default for EjectionPolicy {
    fn default() -> Self {
        Self { failures: 5, base: Duration::from_secs(30), max_percent: 10 }
    }
}

impl EjectionPolicy {
    /// Whether one more of `ready` endpoints may be ejected while `ejected` are: at most the share, but at least one,
    /// and never the last.
    #[must_use]
    pub const fn allows(&self, ready: usize, ejected: usize) -> bool {
        let share = ready * self.max_percent / 100;
        let most = if share == 0 { 1 } else { share };
        ejected < most && ready > ejected + 1
    }
}

/// What is known of one instance.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ejection {
    times: u32,
    until: Option<Time>,
    length: Duration,
}

impl Ejection {
    /// Whether it is passed over.
    pub(crate) fn is_out(&self, now: Time) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// When it comes back, while it is out.
    pub(crate) fn until(&self, now: Time) -> Option<Time> {
        self.until.filter(|until| now < *until)
    }

    /// Passes it over, longer each time. One that stayed in for as long as it was last out begins anew.
    pub(crate) fn eject(&mut self, policy: &EjectionPolicy, now: Time) -> Duration {
        if self.until.is_some_and(|until| now.since(until) > self.length) {
            self.times = 0;
        }
        self.times = self.times.saturating_add(1);
        self.length = policy.base.saturating_mul(self.times);
        self.until = Some(now + self.length);
        self.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_endpoint_is_never_ejected_and_one_of_two_may_be() {
        let policy = EjectionPolicy::default();
        assert!(!policy.allows(1, 0));
        assert!(policy.allows(2, 0));
        assert!(!policy.allows(2, 1));
        assert!(!policy.allows(0, 0));
    }

    #[test]
    fn at_most_a_tenth_is_out() {
        let policy = EjectionPolicy::default();
        assert!(policy.allows(19, 0) && !policy.allows(19, 1));
        assert!(policy.allows(30, 2) && !policy.allows(30, 3));
    }

    #[test]
    fn each_ejection_lasts_longer_until_it_behaved_for_as_long() {
        let policy = EjectionPolicy::default();
        let mut ejection = Ejection::default();
        let start = Time::from_secs(1000);
        assert_eq!(ejection.eject(&policy, start), Duration::from_secs(30));
        assert!(ejection.is_out(start + Duration::from_millis(29_999)));
        assert!(!ejection.is_out(start + Duration::from_secs(30)));
        let again = start + Duration::from_secs(31);
        assert_eq!(ejection.eject(&policy, again), Duration::from_secs(60));
        let late = again + Duration::from_secs(121);
        assert_eq!(ejection.eject(&policy, late), Duration::from_secs(30));
    }
}
