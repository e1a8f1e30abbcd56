//! The driver's tasks, ids and clocks.

use std::collections::HashMap;

use hale_health::Time;
use jiff::Timestamp;
use tokio::task::JoinSet;

use super::work::Done;
use crate::{
    desk::Now,
    exec::{Ended, How},
};

/// The next task that ends. One that panics is a run that failed, and harms no other.
pub(super) async fn join(tasks: &mut JoinSet<Done>, running: &mut HashMap<tokio::task::Id, String>) -> Done {
    match tasks.join_next_with_id().await {
        Some(Ok((id, done))) => {
            running.remove(&id);
            done
        }
        Some(Err(error)) => {
            tracing::error!(%error, "a task of the responder ended badly");
            let Some(run) = running.remove(&error.id()) else { return Done::Off };
            let why = "the responder lost track of it; see its log".to_owned();
            Done::Ran(run, Ended { how: How::NotStarted(why), artifacts: Vec::new(), cost: None })
        }
        None => Done::Off,
    }
}

/// Runs something that may panic.
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|it| (*it).to_owned());
        text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
    })
}

pub(super) fn now() -> Now {
    let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let nanos =
        u64::try_from(boot.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(boot.tv_nsec).unwrap_or(0);
    Now { time: Time::from_nanos(nanos), wall: Timestamp::now() }
}

/// Ids that sort by the time they were made, each given once.
pub(super) struct Ids {
    last: u64,
    /// So that two responders of a process never give the same.
    salt: u64,
}

impl Ids {
    /// Goes on after those that are known, even if the clock was set back.
    pub(super) fn after<'a>(known: impl Iterator<Item = &'a str>, responder: &str) -> Self {
        let last = known.filter_map(|id| u64::from_str_radix(id, 16).ok()).max().unwrap_or(0);
        // Names are few: a sum of their bytes, turned by their places, keeps them apart well enough.
        let salt =
            responder.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into())) & 0xff;
        Self { last: last >> 8, salt }
    }

    pub(super) fn next(&mut self) -> String {
        self.last = Timestamp::now().as_microsecond().unsigned_abs().max(self.last + 1);
        format!("{:016x}", self.last << 8 | self.salt)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_panics_in_a_sweep_is_told_and_harms_nothing() {
        assert_eq!(guarded(|| 7), Ok(7));
        assert_eq!(guarded(|| -> u8 { panic!("queue {}", 3) }), Err("queue 3".to_owned()));
    }

    #[test]
    fn ids_rise_and_are_given_once_even_after_a_clock_was_set_back() {
        let known = "ffff000000000000";
        let mut ids = Ids::after([known, "0000000000000001"].into_iter(), "triage");
        let (one, two) = (ids.next(), ids.next());
        assert!(one.as_str() > known && two > one);
        let mut ids = Ids::after(std::iter::empty(), "triage");
        let many: BTreeSet<String> = (0..1000).map(|_| ids.next()).collect();
        assert_eq!(many.len(), 1000);
    }
}
