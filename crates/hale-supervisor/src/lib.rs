//! Driving the lifecycle machines of `hale-health`: replicas on a runtime, and components of a program that embeds it.

pub mod process;
pub mod runtime;
pub mod sink;
