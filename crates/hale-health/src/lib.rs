//! Every health decision of hale, as sans-IO state machines.
//!
//! Nothing here touches a clock, a socket, a task or a lock. Time comes in as [`Time`], randomness as a number, and
//! what comes out is a list of decisions, each with its reason. The same code therefore runs live in an agent, in
//! microseconds in a test, and over recorded history.

mod exit;
mod ids;
mod outcome;
mod phase;
mod policy;
mod reason;
mod status;
mod time;

pub use exit::Exit;
pub use ids::{Generation, Incarnation};
pub use outcome::{Outcome, ProbeKind, Verdict};
pub use phase::Phase;
pub use policy::{
    BackoffPolicy, BudgetCounts, DampingPolicy, Mode, OnExhausted, ProbeTiming, ReplicaPolicy, RestartMode,
    RestartPolicy, StopPolicy, WorkloadPolicy,
};
pub use reason::Reason;
pub use status::Status;
pub use time::Time;

/// A word that is not on a closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownWord;

impl std::fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not a word of this list")
    }
}

impl std::error::Error for UnknownWord {}
