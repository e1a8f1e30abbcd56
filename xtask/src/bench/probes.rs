//! CPU and memory per probe, beside a C loop in the same run (O10).

use crate::{Outcome, run};

/// Builds the benchmark with optimizations and runs it. Needs a C compiler (`cc`).
pub(super) fn run() -> Outcome {
    run::step(run::cargo().args(["bench", "--quiet", "--package", "hale-check", "--bench", "probes"]))
}
