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
//! [`EndpointSet`]: hale_api::endpoints::EndpointSet

mod answer;
mod attempt;
mod balance;
mod body;
mod budget;
mod clock;
pub mod ejection;
mod headers;
mod instance;
mod metrics;
mod options;
mod proxy;
mod server;
mod stall;
mod table;

pub use metrics::Metrics;
pub use options::Options;
pub use server::{Gateway, GatewayHandle, ServeError};
