//! Which node runs what: pure decisions over what is wanted and what is seen (S5–S11, H20, H21).
//!
//! [`Planner`] is given the records of the cluster and what is heard of its nodes, and answers with a [`Plan`]: new
//! placements, placements withdrawn, conditions of nodes, events. It knows no clock, socket or database. It decides
//! by level and not by edge: the same state at the same time gives the same plan, whoever asks and however often.
//!
//! A server that holds the lease drives it so:
//! 1. [`Planner::new`], then [`Planner::put`] with every record; from then on with each that changes.
//! 2. [`Planner::heard`] with each beat of its own sessions, before it acknowledges it; [`Planner::servers`] with the
//!    servers whose lease lives, once a second.
//! 3. [`Planner::decide`] after changes (gathered for some milliseconds) and at [`Planner::next_deadline`]. The plan
//!    is written as one transaction. The planner has taken its own plan for done; where the write fails,
//!    [`Planner::take_back`] undoes that.

mod action;
mod adopt;
mod candidates;
mod check;
mod draft;
mod explain;
mod input;
mod monitor;
mod node;
mod planner;
mod records;
mod replica;
mod targets;
mod trouble;
mod update;
mod workload;

pub use action::{Action, NodeEdit, Plan, Regranted, TargetEdit, WorkloadEdit};
pub use candidates::{Score, Verdict};
pub use check::{Broken, check};
pub use explain::{Explanation, NodeExplanation, Placed};
pub use input::{Key, Noun, Options};
pub use planner::Planner;
