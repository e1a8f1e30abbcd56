//! Limits and times of a gateway.

use std::time::Duration;

use crate::ejection::EjectionPolicy;

/// Limits and times of a gateway. The defaults suit a service of web requests.
#[derive(Debug, Clone)]
pub struct Options {
    /// The longest wait for a connection to an endpoint (1 s).
    pub connect_timeout: Duration,
    /// The longest a client may take over the head of a request; a kept connection is idle no longer either (30 s).
    pub header_timeout: Duration,
    /// The longest wait for the head of a response, from the last byte of the request on (60 s).
    pub response_timeout: Duration,
    /// The longest a body may stand still, in either direction (60 s).
    pub stall_timeout: Duration,
    /// The most headers of a request (100); more are answered 431.
    pub max_headers: usize,
    /// The largest head of a request, bytes (64 KiB); a larger one is answered 431.
    pub max_head_bytes: usize,
    /// The largest body of a request, bytes (1 GiB); a larger one is answered 413.
    pub max_body_bytes: u64,
    /// The largest body that is kept so that an idempotent request can be repeated, bytes (64 KiB).
    pub max_replay_bytes: u64,
    /// Connections of clients at once (8,192); more wait in the kernel's queue until one ends.
    pub max_connections: usize,
    /// Idle connections kept per endpoint (64); more are closed.
    pub idle_per_endpoint: usize,
    /// How long an idle connection to an endpoint is kept (30 s).
    pub idle_timeout: Duration,
    /// Retries per request over the last ten seconds (0.2), beside [`Self::retries_per_second`].
    pub retry_ratio: f64,
    /// Retries that are allowed however few the requests (10 a second).
    pub retries_per_second: u32,
    /// When an endpoint is passed over for what traffic shows of it.
    pub ejection: EjectionPolicy,
    /// Where chance begins; `None`: somewhere.
    pub seed: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(1),
            header_timeout: Duration::from_secs(30),
            response_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(60),
            max_headers: 100,
            max_head_bytes: 64 * 1024,
            max_body_bytes: 1024 * 1024 * 1024,
            max_replay_bytes: 64 * 1024,
            max_connections: 8192,
            idle_per_endpoint: 64,
            idle_timeout: Duration::from_secs(30),
            retry_ratio: 0.2,
            retries_per_second: 10,
            ejection: EjectionPolicy::default(),
            seed: None,
        }
    }
}
