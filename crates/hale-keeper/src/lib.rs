//! The keeper: the small parent of all replicas. It spawns them, captures their output, sees them end and makes sure
//! that nothing of them is left; it outlives the agent, and decides nothing (N6).
//!
//! It is a process of its own (`hale keeper`, started by [`launch`]), so that an agent can be restarted or killed
//! without touching what it runs. One thread, no async runtime, one epoll: a few MB however many replicas there are.
//! The agent talks to it over a Unix socket in the data directory ([`protocol`]).
//!
//! An agent that is to leave its replicas when it ends starts with [`launch_or_connect`]: a keeper that lives is found by
//! its lock, and one of another release is upgraded in place, by another program in the same process.
//!
//! Of containers it holds nothing but a note: it ends those, too, when the agent is dead and can't ([`protocol::Outsider`]).
//!
//! # When the keeper itself is killed
//!
//! Replicas then go on without a parent. Nobody may start others beside them, so they are ended first: by the agent
//! if it lives (its connection breaks), else at the next start, both through [`end_leftovers`], which finds them by
//! their cgroup and by the mark in their environment. Their exit status is lost, and is told as lost.

mod begin;
mod capture;
pub mod cgroup;
mod cgroup_find;
pub mod clock;
mod connect;
mod ending;
pub mod enter;
mod error;
mod fork;
mod instance;
mod keeper;
mod launch;
mod leftovers;
pub mod link;
pub mod logs;
mod notify;
mod outside;
pub mod procfs;
pub mod protocol;
mod scan;
mod serve;
mod setup;
mod spawn;
mod sys;
mod upgrade;
mod writer;

pub use capture::{LINE_MAX, Stream};
pub use connect::{launch_or_connect, upgrade_in_place};
pub use error::KeeperError;
pub use keeper::{KeeperOptions, run};
pub use launch::{LaunchOptions, Launched, launch, raise_open_files};
pub use leftovers::{Swept, end_leftovers};
pub use link::Link;
pub use writer::{LogBook, LogLimits};

/// The environment variable that marks every process of a replica: `MARK/REPLICA/GENERATION/INCARNATION` (H18).
pub const MARK_VARIABLE: &str = "HALE_INSTANCE";
