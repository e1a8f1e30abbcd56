//! Black box over `hale responder`, and over responders as parts of `hale up`: alerts by HTTP, real programs, `kill -9`.

#![expect(clippy::unwrap_used, reason = "a test that can not go on says where")]

mod breakers;
mod closed_loop;
mod crash;
mod harness;
mod limits;
mod metrics;
mod people;
#[path = "../common/process.rs"]
mod process;
mod settings;
mod shutdown;
