//! What time it is: the clock that decisions are made by.

use hale_health::Time;
use rustix::time::{ClockId, clock_gettime};

/// Now, on `CLOCK_BOOTTIME`: it goes on while the machine sleeps, and nobody sets it.
pub(crate) fn now() -> Time {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    Time::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}
