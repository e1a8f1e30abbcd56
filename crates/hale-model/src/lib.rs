//! The nouns of hale: what people write in files, and what hale tells about what it runs.
//!
//! `spec` holds workloads and targets as validated values; `status` and `event` what is told about them.

pub mod event;
pub mod report;
pub mod spec;
pub mod status;

pub use hale_health::{Exit, Generation, Incarnation, Phase, ProbeKind, Reason, Status};
