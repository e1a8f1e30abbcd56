//! The coordinator: REST API, registry, event stream, status page.
//!
//! [`router`] puts the parts together, [`serve`] serves them; [`Control`] is what the API needs from the node behind it
//! and [`Registry`] holds the endpoints of services for the gateway and every other consumer.

mod access;
mod api;
mod asker;
mod auth;
pub mod cluster;
pub mod control;
mod explain;
mod gate;
mod guard;
mod host;
mod idempotency;
pub mod kube;
mod list;
pub mod metrics;
mod openapi;
mod operations;
mod problems;
pub mod registry;
mod replica_diagnostics;
mod routes;
mod runs;
mod serve;
mod stream;
mod surface;
mod tls;
pub mod webhooks;

pub use api::{Metrics, Parts, Probing, router};
pub use auth::{ADMIN_FILE, Caller, Denied, TokenSet, admin_token, cli_token, keep_token, make_token};
pub use cluster::Cluster;
pub use control::Control;
pub use openapi::openapi;
pub use registry::Registry;
pub use routes::health::metrics_alone;
pub use runs::{Runs, RunsError, runs_router};
pub use serve::{Limits, Listeners, bind_socket, serve, with_grpc};
pub use tls::{Tls, TlsError, TlsFiles, may_listen};
