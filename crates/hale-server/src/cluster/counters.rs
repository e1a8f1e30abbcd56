//! What a server counts of its cluster's work (O1). Whoever exports metrics reads it.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// A number that rises.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    /// How often so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the buckets of [`Latency`], seconds.
pub const BOUNDS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0];

/// How long something took, in buckets.
#[derive(Debug, Default)]
pub struct Latency {
    buckets: [AtomicU64; 13],
    micros: AtomicU64,
}

impl Latency {
    pub(crate) fn observe(&self, took: Duration) {
        let at = BOUNDS.iter().position(|bound| took.as_secs_f64() <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[at].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How many fell into each bucket of [`BOUNDS`] and above, and the sum of all, seconds.
    #[must_use]
    pub fn get(&self) -> ([u64; 13], f64) {
        let counts = std::array::from_fn(|at| self.buckets[at].load(Ordering::Relaxed));
        (counts, Duration::from_micros(self.micros.load(Ordering::Relaxed)).as_secs_f64())
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Counters {
    /// Beats that came.
    pub beats: Count,
    /// Entries of them that were transitions.
    pub transitions: Count,
    /// Times that a node's state did not match its digest, or it had to begin anew.
    pub resyncs: Count,
    /// Writes of what nodes said that failed and were tried again.
    pub write_failures: Count,
    /// Changes of endpoints of services.
    pub endpoints: Count,
    /// Placements made.
    pub placements: Count,
    /// From a change to the plan that answers it, deciding and writing.
    pub placement_latency: Latency,
    /// Plans that could not be written.
    pub plan_conflicts: Count,
    rejected: Mutex<BTreeMap<&'static str, u64>>,
    unplaced: Mutex<BTreeMap<String, u64>>,
}

impl Counters {
    pub(crate) fn rejected(&self, code: &'static str) {
        *self.rejected.lock().unwrap_or_else(PoisonError::into_inner).entry(code).or_default() += 1;
    }

    /// Entries of beats that were not taken, by code: `unknown`, `stale`, `malformed`, `not_yours`.
    #[must_use]
    pub fn rejections(&self) -> BTreeMap<&'static str, u64> {
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_unplaced(&self, now: BTreeMap<String, u64>) {
        *self.unplaced.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Replicas that can be placed nowhere now, by the rule that keeps most nodes out; empty on a server that does not
    /// decide.
    #[must_use]
    pub fn unplaced(&self) -> BTreeMap<String, u64> {
        self.unplaced.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
