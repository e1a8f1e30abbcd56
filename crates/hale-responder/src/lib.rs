//! Takes alerts from streams, decides which deserve a run, and runs a program on each, one cluster never starving
//! another (R1–R18).
//!
//! ```text
//! source ─► Heard ─► desk (pure) ─► Effect ─┬─► book    (durable: alerts, runs, cursors)
//!                     ▲                     ├─► exec    (a program in a workspace of its own)
//!                     │                     ├─► health  (is the resource well again?)
//!                     └── ended, recovered ◄┘─► metrics, log lines, events
//! ```
//!
//! Every decision is the [`desk`]'s: it takes what happened and the time, and tells what to do. The [`driver`] writes what
//! it decided into the [`book`] before anything is done about it, so that what was accepted survives a `kill -9`, and
//! what may have run is never run again unnoticed.

pub mod alert;
pub mod book;
pub mod desk;
pub mod driver;
pub mod exec;
pub mod metrics;
pub mod source;
