//! Who may ask, and who is told: tokens and webhooks.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A token, without what it is compared with being told to anybody (S25).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Its short part.
    pub id: String,
    /// SHA-256 of the whole token, in hex.
    pub hash: String,
    /// The hash it had before it was rotated, and until when that is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<(String, Timestamp)>,
    /// What it may do.
    pub role: Role,
    /// The node or gateway it is for.
    pub node: Option<String>,
    /// What it is for, in somebody's words.
    pub description: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When it ends to be taken.
    pub expires_at: Option<Timestamp>,
}

/// What a token may do (S25).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything.
    Admin,
    /// See everything and act: restart, stop, start, pause, diagnose.
    Operator,
    /// See everything.
    Viewer,
    /// Be one node: its own replicas, events, answers.
    Agent,
    /// Follow endpoints.
    Gateway,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Admin, Self::Operator, Self::Viewer, Self::Agent, Self::Gateway];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Viewer => "viewer",
            Self::Agent => "agent",
            Self::Gateway => "gateway",
        }
    }
}

/// A receiver of events (S22).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookRecord {
    /// Its name, a DNS label.
    pub name: String,
    /// URL and secret, encrypted with the server's key, base64.
    pub sealed: String,
    /// The host of the URL, shown to people.
    pub host: String,
    /// Types of events, as in `hale events --type`; empty: all.
    pub types: Vec<String>,
    /// A workload, replica, target or node; all when absent.
    pub subject: Option<String>,
    /// At least this severe.
    pub severity: crate::event::Severity,
    /// Whether it is not delivered to now.
    pub paused: bool,
    /// Whether it may be on a private address.
    pub allow_private: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// What a person asked to be sent again last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<Replay>,
}

/// Events that are to be sent again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// Rises with every request; [`WebhookCursor::replayed`] says which was seen to.
    pub number: u64,
    /// Their ids. With those of earlier requests that were not seen to yet.
    pub events: BTreeSet<u64>,
}

/// How far a webhook has been delivered to. Written by the server that holds the lease.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WebhookCursor {
    /// The webhook.
    pub name: String,
    /// Events up to this id were delivered, given up or not wanted.
    pub after: u64,
    /// The last deliveries that were given up, newest last, at most a hundred: they can be sent again by hand.
    pub dead: Vec<DeadDelivery>,
    /// The status or error of the last attempt.
    pub last: Option<String>,
    /// When that was.
    pub last_at: Option<Timestamp>,
    /// The number of the last [`Replay`] that was seen to.
    #[serde(default)]
    pub replayed: u64,
}

/// An event that was not delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadDelivery {
    /// Which event.
    pub event: u64,
    /// How often it was tried.
    pub attempts: u32,
    /// Why it was given up.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}
