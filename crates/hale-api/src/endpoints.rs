//! The endpoints of a service, as the registry tells them to every consumer (S12, S13).

use std::net::IpAddr;

use hale_model::spec::Balance;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Address, port and readiness of one replica of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Endpoint {
    /// Workload and ordinal: `web-0`.
    pub replica: String,
    /// Where it runs.
    pub node: String,
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its share of traffic relative to the others.
    pub weight: u32,
    /// Its zone.
    pub zone: Option<String>,
    /// Whether it may receive new requests.
    pub ready: bool,
    /// Why it is served although it would not be, were it not the last one (H31): `damping`, `node_lost`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
    /// Whether it runs, ready or not.
    pub serving: bool,
    /// Whether it is on its way out: no new request, those in flight finish.
    pub draining: bool,
    /// The number of its placement.
    pub generation: u64,
    /// The number of its start.
    pub incarnation: u64,
}

/// All endpoints of one service at one revision. Cheap to share, never changed once made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointSet {
    /// The service's name.
    pub service: String,
    /// Rises with every change of any service.
    pub revision: u64,
    /// How requests are spread.
    pub balance: Balance,
    /// Since when no endpoint is ready, while none is.
    pub none_ready_since: Option<Timestamp>,
    /// By replica name.
    pub endpoints: Vec<Endpoint>,
    /// The trace of what changed it last (O2); stays within hale.
    #[serde(skip)]
    pub traceparent: Option<String>,
}

impl EndpointSet {
    /// The ones that may receive new requests.
    pub fn ready(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter().filter(|endpoint| endpoint.ready && !endpoint.draining)
    }
}
