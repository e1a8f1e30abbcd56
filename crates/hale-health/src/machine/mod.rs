//! The lifecycle machine: replicas, each with its phase, probes and holds, and the workload that arbitrates between
//! them.
//!
//! Sans-IO: [`Workload`] takes inputs and the time and appends decisions to a list; [`Workload::next_deadline`] says
//! when it wants to be woken. Outcomes, exits and persons meet the machine here and nowhere else.

mod around;
mod decision;
mod holding;
mod input;
mod lifecycle;
mod outcomes;
mod pausing;
mod probe;
mod replica;
mod requests;
mod rolling;
mod settle;
mod workload;

#[cfg(test)]
mod tests;

pub use decision::{Decision, Note, ReadyChange};
pub use input::{By, Dependency, Elsewhere, Input, Observer, Pause, PauseScope, WorkloadInput};
pub(crate) use lifecycle::EXAMINE;
pub use probe::ProbeState;
pub use replica::{Handled, Replica};
pub use workload::Workload;
