//! Takes requests to the ready endpoints of a service (S16 to S19).
//!
//! One [`Gateway`] per service: a listener, the registry's [`EndpointSet`] as it changes, and a pool of connections
//! per instance. The gateway asks nobody whether an endpoint is healthy: the registry says so. What it adds is what
//! only traffic shows: an instance that fails request after request is passed over for a while ([`ejection`]), never
//! the last one (H31).
//!
//! A set is in force from the moment it is sent: each request looks for a newer one before it picks. So an instance
//! that became not ready gets no request after that (S14), and [`GatewayHandle::drained`] can tell when the last one
//! there has ended (S18).
//!
//! [`Gateways`] holds the listeners of all services as they come and go. It is told of them by whoever has a registry
//! in the same process, or by [`follow`], which asks a server elsewhere and goes on with what it was told last when no
//! server answers (S4).
//!
//! [`EndpointSet`]: hale_api::endpoints::EndpointSet

mod answer;
mod attempt;
mod balance;
mod body;
mod budget;
mod catalog;
mod clock;
pub mod ejection;
pub mod follow;
mod headers;
pub mod health;
mod instance;
pub mod manager;
mod metrics;
mod options;
mod proxy;
mod quiet;
mod server;
mod stall;
mod table;
mod wire;

pub use catalog::Catalog;
pub use instance::Run;
pub use manager::{Gateways, Offer, Offers};
pub use metrics::Metrics;
pub use options::Options;
pub use server::{Gateway, GatewayHandle, ServeError, listen_hint};
