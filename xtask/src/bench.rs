//! `cargo xtask bench`: the benchmarks behind the figures in the documentation.
//!
//! Each measures beside a peer or a lower limit in the same run, because a ratio holds on a shared machine where a
//! time does not. Each is one file of this folder with a `run`.

mod containers;
mod events;
mod gateway;
mod heartbeats;
mod kit;
mod kube_agent;
mod placement;
mod probes;
mod restart;
mod start;
mod store;
mod thousand;

use crate::Outcome;

/// Options of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which benchmarks; all when none is named.
    #[arg(value_enum)]
    which: Vec<Which>,
}

/// The benchmarks there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    /// CPU and memory per HTTP probe (O10).
    Probes,
    /// From the death of a replica to its replacement running, beside runit (O11).
    Restart,
    /// From `hale up` to the first replica, and the size of the program (O16).
    Start,
    /// Requests per CPU second, beside HAProxy (O13).
    Gateway,
    /// CPU and memory of a thousand supervised replicas.
    Thousand,
    /// CPU and memory of supervising containers.
    Containers,
    /// What a beat costs, and how soon a change is durable and visible (O12).
    Heartbeats,
    /// Many readers of the event stream, and many events (O14).
    Events,
    /// Memory and CPU of watching a cluster of 10,000 pods (O15).
    KubeAgent,
    /// Decisions over a thousand nodes and ten thousand replicas (S10).
    Placement,
    /// Single transitions a second on SQLite and PostgreSQL (S1).
    Store,
}

/// One benchmark: its name and how it is run.
type Bench = (Which, fn() -> Outcome);

/// All of them, in the order they are run.
const ALL: &[Bench] = &[
    (Which::Probes, probes::run),
    (Which::Restart, restart::run),
    (Which::Start, start::run),
    (Which::Gateway, gateway::run),
    (Which::Thousand, thousand::run),
    (Which::Containers, containers::run),
    (Which::Heartbeats, heartbeats::run),
    (Which::Events, events::run),
    (Which::KubeAgent, kube_agent::run),
    (Which::Placement, placement::run),
    (Which::Store, store::run),
];

/// Runs those asked for, one after the other, and fails if one does.
pub(crate) fn run(args: &Args) -> Outcome {
    let mut wrong = Vec::new();
    for (which, bench) in ALL.iter().filter(|(which, _)| args.which.is_empty() || args.which.contains(which))
    {
        println!("== {which:?}");
        wrong.extend(bench().err());
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}
