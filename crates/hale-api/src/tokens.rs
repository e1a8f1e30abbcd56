//! Tokens over the API (S25).

use hale_model::cluster::Role;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The body of `POST /api/v1/tokens`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// What it may do.
    pub role: Role,
    /// The node it is for; needed for an agent, and for nobody else but a gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What it is for, in your words; stands in records of what is done with it.
    #[serde(default)]
    pub description: String,
    /// When it ends, from now; never when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<f64>,
}

/// The body of `POST /api/v1/tokens/{id}/rotate`. Everything may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RotateRequest {
    /// For how long the secret of before is taken, too; not at all when left out.
    pub grace_seconds: f64,
}

/// A new token. The only time that its secret is shown (C10).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NewToken {
    /// Its short part: what `revoke` and `rotate` want.
    pub id: String,
    /// All of it.
    pub token: String,
    /// What it may do.
    pub role: Role,
    /// The node it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// When it ends; `null`: never.
    pub expires_at: Option<Timestamp>,
}

/// A token as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Token {
    /// Its short part.
    pub id: String,
    /// What it may do.
    pub role: Role,
    /// The node it is for.
    pub node: Option<String>,
    /// What it is for.
    pub description: String,
    /// When it was made, or its secret was.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When it ends; `null`: never.
    pub expires_at: Option<Timestamp>,
    /// Whether that is past.
    pub expired: bool,
}
