//! The one place that reads the clock.

use hale_health::Time;
use rustix::time::{ClockId, clock_gettime};

/// Now, on the scale that every decision of this machine uses.
pub(crate) fn now() -> Time {
    let now = clock_gettime(ClockId::Boottime);
    let (secs, nanos) = (u64::try_from(now.tv_sec).unwrap_or(0), u64::try_from(now.tv_nsec).unwrap_or(0));
    Time::from_nanos(secs.saturating_mul(1_000_000_000).saturating_add(nanos))
}
