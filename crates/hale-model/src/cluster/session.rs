//! The connection of a node, as it is recorded.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The connection of a node to a server. Written on connect and disconnect only, and when it falls silent (S3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// The node.
    pub node: String,
    /// The number of the session; rises with each registration.
    pub session: u64,
    /// The server that has it, by its lease name.
    pub server: String,
    /// The agent's own name for its run.
    pub instance: String,
    /// The boot of its machine.
    pub boot_id: String,
    /// Its state.
    pub state: SessionState,
    /// Since when.
    pub since: Timestamp,
    /// The log that its events are numbered in, and up to which they are durable.
    pub spool: String,
    /// See `spool`. Rises in the same commit as the events.
    pub events_durable: u64,
    /// The epoch of the cluster that it was granted in.
    #[serde(default)]
    pub epoch: u64,
}

/// What a server says of one of its sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum SessionState {
    /// Beats come.
    Connected,
    /// So many beats in a row have not come.
    Silent {
        /// When the last one came.
        last_beat: Timestamp,
    },
    /// The connection ended.
    Disconnected {
        /// When the last beat came.
        last_beat: Timestamp,
    },
    /// The agent said that it goes, and is back until then.
    Away {
        /// Until when.
        until: Timestamp,
    },
}
