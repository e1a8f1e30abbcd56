//! CPU and memory of supervising containers.

use crate::{Outcome, run, tools};

/// Two thousand at an engine made for this, then two hundred at a Docker Engine of its own (installed when missing).
pub(super) fn run() -> Outcome {
    tools::ensure(tools::FOR_TESTS)?;
    for which in [["made", "2000"], ["real", "200"]] {
        let bench = ["bench", "--quiet", "--package", "hale-container", "--bench", "engine", "--"];
        run::step(run::cargo().args(bench).args(which))?;
    }
    Ok(())
}
