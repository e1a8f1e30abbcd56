//! A node: the targets it probes, and the metrics of everything it does.

pub mod metrics;
pub mod targets;
