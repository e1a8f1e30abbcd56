//! Which node runs what: pure decisions over what is wanted and what is seen (S5–S11, H20, H21).

mod action;
mod input;

pub use action::{Action, NodeEdit, Plan, Regranted, TargetEdit, WorkloadEdit};
pub use input::{Key, Noun, Options};
