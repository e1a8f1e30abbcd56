//! From the death of a replica to its replacement running, without backoff, beside runit in the same run (O11).
//!
//! The bench itself is of hale-supervisor: it needs its library. runit comes from Debian (`apt-get install runit`).

use crate::{
    Outcome,
    run::{cargo, step},
};

/// Builds it optimized and runs it; fails if hale takes more than 0.7 times as long as runit.
pub(super) fn run() -> Outcome {
    step(cargo().args(["bench", "--package", "hale-supervisor", "--bench", "restart"]))
}
