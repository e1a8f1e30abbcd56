//! Memory and CPU of watching a cluster of 10,000 pods (O15).

use crate::{Outcome, run};

/// Runs it: the cluster and the server are made for it, in a process of their own.
pub(super) fn run() -> Outcome {
    let bench = ["bench", "--quiet", "--package", "hale-kube", "--bench", "kube_agent"];
    run::step(run::cargo().args(bench))
}
