//! The nouns of hale: what people write in files, and what hale tells about what it runs.
//!
//! `spec` holds workloads and targets as validated values, `file` reads them; `status`, `event` and `report` are
//! what is told about them.

pub mod cluster;
pub mod describe;
pub mod document;
pub mod event;
mod expand;
pub mod file;
pub mod lint;
pub mod list;
pub mod mask;
pub mod report;
pub mod spec;
pub mod status;
pub mod trace;

pub use expand::{expand, names_in};
pub use hale_health::series;
pub use hale_health::{Exit, Generation, Incarnation, Phase, ProbeKind, Reason, Status};
