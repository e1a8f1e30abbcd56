//! The container runtime (N5): replicas are containers of an engine of this machine that speaks the Docker API (Docker,
//! Podman).
//!
//! hale makes one container per start, marked with labels, and removes it once it has ended and its output is stored. The
//! engine restarts nothing by itself: that is decided above. What the engine tells by itself (ends, health, want of memory)
//! is heard as it happens, and compared with its list after every interruption, so that an engine may be killed, hang or be
//! upgraded at any time (`watch`). Records on disk carry what is known over the agent's own end (`adopt`).
//!
//! An engine that is missing fails the start of the containers it would run, and nothing else. Every call is bounded.

mod adopt;
mod create;
mod credentials;
mod ending;
mod error;
mod exec;
mod exit;
mod facts;
mod found;
mod image;
mod labels;
mod link;
mod logs;
mod options;
mod outside;
mod permit;
mod process;
mod record;
mod runtime;
mod shared;
mod socket;
mod start;
mod table;
mod warnings;
mod watch;

pub use options::ContainerOptions;
pub use runtime::ContainerRuntime;
