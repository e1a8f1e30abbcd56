//! S1: single transitions a second, each durable before the next of its writer, beside a file that is synced for each.

use crate::{Outcome, run, tools};

/// Runs `crates/hale-store/examples/writes.rs`, which tells its figures; none is asked for on PostgreSQL.
pub(crate) fn run() -> Outcome {
    tools::ensure(tools::FOR_TESTS)?;
    run::step(run::cargo().args(["run", "--release", "--package", "hale-store", "--example", "writes"]))
}
