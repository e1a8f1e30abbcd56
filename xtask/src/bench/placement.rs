//! Decisions over a thousand nodes and ten thousand replicas, on the real planner (S10).

use crate::{Outcome, run};

/// Runs the simulation, which prints its figures and fails where they are above the limits.
pub(crate) fn run() -> Outcome {
    run::step(run::cargo().args(["run", "--release", "--package", "hale-placement", "--example", "cluster"]))
}
