//! What goes over the wire: REST types, and one typed client.
//!
//! The types are those of `/api/v1`. [`Client`] asks a running hale over the unix socket in its data directory, or a
//! remote one by its URL; it holds no logic of either side.

pub mod audit;
mod client;
pub mod declare;
pub mod endpoints;
pub mod events;
pub mod explain;
pub mod kube;
pub mod logs;
mod ndjson;
pub mod nodes;
pub mod operation;
pub mod outcomes;
pub mod problem;
#[rustfmt::skip]
pub mod proto;
mod retry_after;
pub mod runs;
mod sse;
mod tls;
pub mod tokens;
mod transport;
pub mod webhooks;
pub mod wire;

pub use client::{
    AgentPush, AgentStream, Client, ClientError, Collection, EventStream, Followed, LogStream, Told, encode,
};
pub use hale_model as model;
pub use hale_model::describe;
pub use problem::{Code, Problem};
pub use retry_after::retry_after;
pub use tls::{ClientTls, channel};
pub use transport::SocketPath;

/// The file in a data directory that holds the token of its command line (mode 0600).
pub const TOKEN_FILE: &str = "cli.token";

/// The socket in a data directory that the API is served on.
pub const SOCKET_FILE: &str = "hale.sock";
