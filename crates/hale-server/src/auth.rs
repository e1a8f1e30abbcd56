//! Who may ask, and for what: tokens and roles (S25).
//!
//! A token is `hale_<short>_<long>`: the short part names it in logs and records, the long one is 256 random bits. Only
//! the SHA-256 of the whole is kept, and compared in constant time. Tokens come in the `Authorization` header alone,
//! never in a cookie: cookies know no ports, and every web server on the same host would be sent them.
//!
//! REST and gRPC ask the same [`TokenSet`]. It holds the live tokens and follows the database: what is revoked there is
//! out here as soon as the change comes along the feed, and who is in the middle of a stream is told by
//! [`TokenSet::ended`].

mod files;
mod set;

use hale_model::cluster::Role;
use http::{HeaderMap, header};
use sha2::{Digest, Sha256};

pub(crate) use files::remake_token;
pub use files::{ADMIN_FILE, admin_token, cli_token, keep_token, make_token};
pub use set::TokenSet;

/// Whose token a request came with, and what it may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The short part of the token.
    pub token: String,
    /// Who it is, for records: what the token is for, and its short part.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The node or gateway that it is for; an agent's token may be that node and no other.
    pub node: Option<String>,
    /// Which secret it was: after a rotation the short part alone does not tell.
    pub(crate) hash: Hash,
}

impl Caller {
    /// Whether this is the agent of `node`: its token is for that one and no other.
    #[must_use]
    pub fn may_be(&self, node: &str) -> bool {
        self.role == Role::Agent && self.node.as_deref() == Some(node)
    }
}

/// Why nobody was found behind a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No token came along.
    #[error(
        "send a token as `Authorization: Bearer hale_…`; a local one is in cli.token in the data directory"
    )]
    NoToken,
    /// It is none of those that are taken now.
    #[error("the token is not known here, or is taken no longer")]
    Unknown,
}

/// SHA-256 of a token.
pub(crate) type Hash = [u8; 32];

/// The hash that is kept of a token.
pub(crate) fn digest(token: &str) -> Hash {
    Sha256::digest(token.as_bytes()).into()
}

/// The hash of a token as it stands in its record: hex.
pub(crate) fn hash_of(token: &str) -> String {
    hex(&digest(token))
}

/// Bytes as they are written down.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The token that these headers bear.
fn bearer(headers: &HeaderMap) -> Result<&str, Denied> {
    let value = headers.get(header::AUTHORIZATION).ok_or(Denied::NoToken)?;
    let value = value.to_str().map_err(|_| Denied::Unknown)?;
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        _ => Err(Denied::Unknown),
    }
}

/// The short part of a token; `None` when it has not the form of one.
pub(crate) fn short(token: &str) -> Option<&str> {
    let (short, long) = token.strip_prefix("hale_")?.split_once('_')?;
    (!short.is_empty() && !long.is_empty()).then_some(short)
}
