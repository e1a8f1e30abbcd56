//! A scripted world: a runtime and a prober that do as they are told, for tests and for simulations of thousands.
//!
//! Nothing here starts a process or opens a socket. Under tokio's paused time an hour of it takes milliseconds. It
//! stands beside the real runtimes, never instead of them.

mod prober;
mod runtime;
mod world;

pub use prober::{Answer, SimProber};
pub use runtime::{Script, SimRuntime, Start};
pub use world::{Memory, Recorder, SimWorld, with_probe, workload};
