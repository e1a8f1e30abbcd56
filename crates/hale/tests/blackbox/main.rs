//! Black box over the built binary: what a user types, sees and relies on. Real processes, real sockets, `kill -9`.

#![expect(clippy::unwrap_used, reason = "a test that can not go on says where")]

mod containers;
#[path = "../common/docker.rs"]
mod docker;
mod faults;
mod harness;
mod lifecycle;
#[path = "../common/load.rs"]
mod load;
mod metrics;
#[path = "../common/process.rs"]
mod process;
mod targets;
mod traces;
mod traffic;
#[path = "../common/web.rs"]
mod web;
