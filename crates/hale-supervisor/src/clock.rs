//! The clocks a driver may run by.
//!
//! Decisions take the time as an argument; this is where that argument comes from, and how a driver waits. One trait,
//! so that a program runs by the machine's clock, a test by tokio's paused one, and a test without timers by hand.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use hale_health::Time;
use jiff::Timestamp;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};

use crate::runtime::BoxFuture;

/// Tells the time and waits for one.
pub trait Clock: Send + Sync + 'static {
    /// Now, on the scale of decisions. Never goes back.
    fn now(&self) -> Time;

    /// Now by the wall clock, for records. May jump.
    fn wall(&self) -> Timestamp;

    /// Completes when [`Clock::now`] has reached `at`; at once when it has already.
    fn sleep_until(&self, at: Time) -> BoxFuture<'static, ()>;

    /// When `at` was or will be by the wall clock, for records.
    fn wall_at(&self, at: Time) -> Timestamp {
        let (now, wall) = (self.now(), self.wall());
        let moved = if at >= now { wall.checked_add(at.since(now)) } else { wall.checked_sub(now.since(at)) };
        moved.unwrap_or(wall)
    }
}

/// The machine's clock: `CLOCK_BOOTTIME`, so that a successor on the same boot reads the same scale, and tokio's
/// timers to wait.
#[derive(Debug, Clone, Copy, Default)]
pub struct BootClock;

impl Clock for BootClock {
    fn now(&self) -> Time {
        Time::from_nanos(hale_keeper::clock::boot_nanos())
    }

    fn wall(&self) -> Timestamp {
        Timestamp::now()
    }

    fn sleep_until(&self, at: Time) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(at.since(self.now())))
    }
}

/// Tokio's clock, for tests under its paused time. Begins at one hour, so that no moment is before the scale.
#[derive(Debug, Clone, Copy)]
pub struct TokioClock {
    origin: Instant,
}

/// Where made-up scales begin.
const ORIGIN: Time = Time::from_secs(3600);

/// The wall clock at [`ORIGIN`]: 2026-01-01T00:00:00Z.
const WALL_ORIGIN_SECS: i64 = 1_767_225_600;

fn made_up_wall(now: Time) -> Timestamp {
    let origin = Timestamp::from_second(WALL_ORIGIN_SECS).unwrap_or(Timestamp::UNIX_EPOCH);
    origin.checked_add(now.since(ORIGIN)).unwrap_or(origin)
}

impl TokioClock {
    /// A clock that begins now.
    #[must_use]
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Time {
        ORIGIN + self.origin.elapsed()
    }

    fn wall(&self) -> Timestamp {
        made_up_wall(self.now())
    }

    fn sleep_until(&self, at: Time) -> BoxFuture<'static, ()> {
        Box::pin(sleep_until(self.origin + at.since(ORIGIN)))
    }
}

/// A clock that stands still until it is told to go on (H30): for tests that want no timers at all.
#[derive(Debug)]
pub struct ManualClock {
    state: Mutex<Manual>,
}

#[derive(Debug)]
struct Manual {
    now: Time,
    next: u64,
    waiting: BTreeMap<(Time, u64), oneshot::Sender<()>>,
}

impl Default for ManualClock {
    fn default() -> Self {
        Self { state: Mutex::new(Manual { now: ORIGIN, next: 0, waiting: BTreeMap::new() }) }
    }
}

impl ManualClock {
    /// A clock that stands at one hour.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on by so much, and wakes everyone whose time has come, earliest first.
    pub fn advance(&self, by: Duration) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.now += by;
        let now = state.now;
        let later = state.waiting.split_off(&(now, u64::MAX));
        for (_, waker) in std::mem::replace(&mut state.waiting, later) {
            // One that no longer waits has no use for it.
            let _ = waker.send(());
        }
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Time {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).now
    }

    fn wall(&self) -> Timestamp {
        made_up_wall(self.now())
    }

    fn sleep_until(&self, at: Time) -> BoxFuture<'static, ()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if at <= state.now {
            return Box::pin(std::future::ready(()));
        }
        let (wake, woken) = oneshot::channel();
        state.next += 1;
        let key = (at, state.next);
        state.waiting.retain(|_, waker| !waker.is_closed());
        state.waiting.insert(key, wake);
        Box::pin(async move {
            // An error means that the clock is gone: nobody can go on then.
            if woken.await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_manual_clock_wakes_those_whose_time_has_come_and_no_other() {
        let clock = Arc::new(ManualClock::new());
        let start = clock.now();
        let soon = tokio::spawn(clock.sleep_until(start + Duration::from_secs(1)));
        let late = tokio::spawn(clock.sleep_until(start + Duration::from_secs(2)));
        clock.advance(Duration::from_millis(999));
        tokio::task::yield_now().await;
        assert!(!soon.is_finished());
        clock.advance(Duration::from_millis(1));
        soon.await.unwrap();
        assert!(!late.is_finished());
        late.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_of_paused_tests_keeps_step_with_tokio() {
        let clock = TokioClock::start();
        let (start, wall) = (clock.now(), clock.wall());
        clock.sleep_until(start + Duration::from_secs(90)).await;
        assert_eq!(clock.now().since(start), Duration::from_secs(90));
        assert_eq!(clock.wall_at(start), wall);
    }

    #[test]
    fn the_boot_clock_does_not_go_back() {
        let first = BootClock.now();
        assert!(first > Time::ZERO && BootClock.now() >= first);
    }
}
