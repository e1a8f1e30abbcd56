//! What replicas print.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The query of `GET /api/v1/logs/{name}`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogQuery {
    /// The last so many lines of each replica; all that are kept when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tail: Option<u32>,
    /// Whether to go on with what is printed from now on.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub follow: bool,
}

/// One line; the answer is one of these as JSON per line (`application/x-ndjson`), with empty lines between as signs
/// of life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogLine {
    /// Who printed it.
    pub replica: String,
    /// When it was read from the replica, RFC 3339; empty when that is not known.
    pub time: String,
    /// `stdout`, `stderr`, or `hale` for a remark of hale's own.
    pub stream: String,
    /// Whether the line ends here; if not, the next of the same stream continues it.
    pub whole: bool,
    /// What, without its end; what is not UTF-8 in it is replaced.
    pub text: String,
}
