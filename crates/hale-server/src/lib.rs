//! The coordinator: REST API, registry, event stream, status page.
//!
//! [`router`] puts the parts together, [`serve`] serves them; [`Control`] is what the API needs from the node behind it
//! and [`Registry`] holds the endpoints of services for the gateway and every other consumer.

mod api;
mod auth;
pub mod control;
mod explain;
mod guard;
mod host;
mod operations;
mod problems;
pub mod registry;
mod routes;
mod serve;

pub use api::{Metrics, Parts, router};
pub use auth::{Tokens, cli_token, make_token};
pub use control::Control;
pub use registry::Registry;
pub use serve::{Limits, bind_socket, serve};
