//! Driving the lifecycle machines of `hale-health`: replicas on a runtime, and components of a program that embeds it.

pub mod clock;
pub mod engine;
pub mod guard;
pub mod log;
pub mod mementos;
pub mod monitor;
pub mod outside;
pub mod ports;
pub mod prober;
pub mod process;
pub mod runtime;
pub mod runtimes;
pub mod sim;
pub mod sink;
pub mod supervisor;
