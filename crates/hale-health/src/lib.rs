//! Every health decision of hale, as sans-IO state machines.
//!
//! Nothing here touches a clock, a socket, a task or a lock. Time comes in as [`Time`], randomness as a number, and
//! what comes out is a list of decisions, each with its reason. The same code therefore runs live in an agent, in
//! microseconds in a test, and over recorded history.

mod backoff;
mod breaker;
mod cause;
mod chance;
mod damping;
mod exit;
mod hold;
mod ids;
mod machine;
mod observer;
mod outcome;
mod phase;
mod plan;
mod policy;
mod reason;
mod roll_up;
pub mod series;
mod serving;
mod status;
mod table;
mod target;
mod threshold;
mod time;
mod uplink;
mod watchdog;
mod window;

pub use backoff::Backoff;
pub use breaker::{BreakerPolicy, BreakerState, CircuitBreaker, Permit};
pub use cause::RestartCause;
pub use chance::Chance;
pub use damping::{Damped, Damping};
pub use exit::Exit;
pub use hold::{Hold, HoldBy, Holds};
pub use ids::{Generation, Incarnation};
pub use machine::{
    Arrival, By, Decision, Dependency, Elsewhere, Found, Handled, Input, Memento, Note, Observer, Pause,
    PauseScope, ProbeState, ReadyChange, Replica, Resumed, Workload, WorkloadInput,
};
pub use observer::{GuardDecision, ObserverGuard, ObserverPolicy};
pub use outcome::{Outcome, ProbeKind, Verdict};
pub use phase::Phase;
pub use plan::{ProbePlan, Span, plan};
pub use policy::{
    BackoffPolicy, BudgetCounts, DampingPolicy, FailureWindow, Mode, OnExhausted, ProbeTiming, ReplicaPolicy,
    RestartMode, RestartPolicy, StopPolicy, TargetPolicy, WorkloadPolicy,
};
pub use reason::Reason;
pub use roll_up::{OnPurpose, WorkloadHealth, if_fresh, worst_of};
pub use serving::{Serves, Standing, who_serves};
pub use status::Status;
pub use table::{Impossible, Move, transition_dot, transition_matrix, transition_mermaid};
pub use target::{TargetMachine, TargetNote, TargetOutcome};
pub use threshold::Threshold;
pub use time::Time;
pub use uplink::{Network, Uplink};
pub use watchdog::Watchdog;
pub use window::RestartWindow;

/// A word that is not on a closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownWord;

impl std::fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not a word of this list")
    }
}

impl std::error::Error for UnknownWord {}
