//! A node: the targets it probes, what it tells a server and what that one wants of it, and the metrics of everything
//! it does.
//!
//! ```text
//! supervisor ─┐                ┌─► Spool ──────┐
//! targets ────┼─► Reports ─────┼─► AgentMetrics │
//! guard ──────┘                └─► what to look at ─► Link (Tracker) ◄─► server
//!     ▲                                                   │
//!     └────────── Desk (desired state, around) ◄──────────┘
//! ```

mod agent;
mod asks;
pub mod blackbox;
mod desired;
mod drains;
pub mod health;
mod histories;
pub mod link;
pub mod metrics;
mod reports;
mod resources;
pub mod spool;
pub mod state;
pub mod systemd;
pub mod targets;

pub use agent::{Agent, AgentHandle, AgentOptions, first_version};
pub use drains::Drains;
pub use reports::Reports;
pub use resources::{Usages, boot_id, capacity};
