//! Webhooks: events delivered to an address (S22).

use hale_model::{cluster::DeadDelivery, event::Severity};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What `POST /api/v1/webhooks` takes. One of the same name is changed: what is left out stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookRequest {
    /// Its name: a DNS label.
    pub name: String,
    /// Where events are sent: a URL of https or http. Needed for a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What deliveries are signed with: `whsec_` and 24 to 64 bytes in base64. Made when left out for a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Only events of these types: whole, or the end of one (`restarted`). Empty: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub types: Option<Vec<String>>,
    /// Only events about this replica, target, node, or workload with its replicas. Empty: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Only events that matter at least so much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// Whether it may be on a private, loopback or link-local address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_private: Option<bool>,
}

/// A webhook, as it is told. Its URL and secret are not: of the URL the host alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Webhook {
    /// Its name.
    pub name: String,
    /// Scheme, host and port of its URL.
    pub host: String,
    /// Only events of these types; empty: all.
    pub types: Vec<String>,
    /// Only events about this.
    pub subject: Option<String>,
    /// Only events that matter at least so much.
    pub severity: Severity,
    /// Whether nothing is delivered now.
    pub paused: bool,
    /// Whether it may be on a private address.
    pub allow_private: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// Every event up to this one was delivered, given up, or not wanted.
    pub after: u64,
    /// How many events there are after that one, wanted or not.
    pub behind: u64,
    /// What the last attempt came to.
    pub last: Option<String>,
    /// When that was.
    pub last_at: Option<Timestamp>,
    /// Events that were asked to be sent again, and were not yet.
    pub replaying: u64,
    /// Events that were given up, newest last, at most a hundred: they can be sent again.
    pub dead: Vec<Dead>,
}

/// An event that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Dead {
    /// Which event.
    pub event: u64,
    /// How often it was tried.
    pub attempts: u32,
    /// Why it was given up.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

impl From<DeadDelivery> for Dead {
    fn from(DeadDelivery { event, attempts, reason, at }: DeadDelivery) -> Self {
        Self { event, attempts, reason, at }
    }
}

/// What `POST /api/v1/webhooks` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WebhookMade {
    /// The webhook.
    pub webhook: Webhook,
    /// What deliveries are signed with; told this once, when it was made or given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Whether it is new.
    pub created: bool,
}

/// What `POST /api/v1/webhooks/{name}/replay` takes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReplayRequest {
    /// These events; all that were given up when empty.
    pub events: Vec<u64>,
}

/// What `POST /api/v1/webhooks/{name}/test` answers: what came of one message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WebhookTested {
    /// Whether the receiver took it.
    pub delivered: bool,
    /// The status it answered, or why there was none.
    pub detail: String,
}
