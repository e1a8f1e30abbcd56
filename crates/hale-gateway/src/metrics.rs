//! What a gateway counts (O1).

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use hale_health::Time;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::clock;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServiceLabel {
    service: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    service: String,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RetryLabels {
    service: String,
    reason: &'static str,
}

/// The classes of status codes, as they stand on the metric.
const CODES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Why a request goes to an endpoint once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetryReason {
    /// No connection could be made.
    Connect,
    /// A kept connection was closed before anything was sent.
    Stale,
    /// An idempotent request failed before the first byte of its response.
    Reset,
}

impl RetryReason {
    const ALL: [Self; 3] = [Self::Connect, Self::Stale, Self::Reset];

    /// The word for it on the metric.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Stale => "stale",
            Self::Reset => "reset",
        }
    }
}

/// The metrics of all gateways of a process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    requests: Family<CodeLabels, Counter>,
    retries: Family<RetryLabels, Counter>,
    no_endpoint: Family<ServiceLabel, Counter>,
    ejections: Family<ServiceLabel, Counter>,
    in_flight: Family<ServiceLabel, Gauge>,
    connections: Family<ServiceLabel, Gauge>,
    duration: Family<ServiceLabel, Histogram>,
    listening: Family<ServiceLabel, Gauge>,
    listen_failures: Family<ServiceLabel, Counter>,
    pub(crate) server: ServerMetrics,
    /// How many listeners of a service there are: two for a moment, when its address changes.
    served: Arc<Mutex<HashMap<String, usize>>>,
}

/// What is counted of the connection to a server.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerMetrics {
    pub(crate) connected: Gauge,
    pub(crate) connections: Counter,
    pub(crate) failures: Counter,
    pub(crate) revision: Gauge,
    pub(crate) malformed: Counter,
}

impl ServerMetrics {
    fn enter(&self, registry: &mut Registry) {
        registry.register(
            "server_connected",
            "Whether a server tells this gateway of changes (1) or it goes by what it was told last (0)",
            self.connected.clone(),
        );
        registry.register(
            "server_connections",
            "Connections to a server that were made",
            self.connections.clone(),
        );
        registry.register(
            "server_connection_failures",
            "Connections to a server that could not be made or ended",
            self.failures.clone(),
        );
        registry.register("revision", "The newest revision of endpoints in force", self.revision.clone());
        registry.register(
            "malformed_messages",
            "Things a server told that make no sense and were passed over",
            self.malformed.clone(),
        );
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Makes them and enters them into a registry, under `hale_gateway_…`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            retries: Family::default(),
            no_endpoint: Family::default(),
            ejections: Family::default(),
            in_flight: Family::default(),
            connections: Family::default(),
            // 1 ms doubling, to 8 s.
            duration: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 14))),
            listening: Family::default(),
            listen_failures: Family::default(),
            server: ServerMetrics::default(),
            served: Arc::default(),
        };
        let registry = registry.sub_registry_with_prefix("hale_gateway");
        registry.register("requests", "Requests answered, by class of status", metrics.requests.clone());
        registry.register(
            "retries",
            "Requests sent to an endpoint once more, by reason",
            metrics.retries.clone(),
        );
        registry.register(
            "no_endpoint_responses",
            "Requests answered 503 because no endpoint was ready",
            metrics.no_endpoint.clone(),
        );
        registry.register(
            "ejections",
            "Endpoints passed over because request after request failed there",
            metrics.ejections.clone(),
        );
        registry.register("requests_in_flight", "Requests that have not ended", metrics.in_flight.clone());
        registry.register("connections", "Connections of clients", metrics.connections.clone());
        registry.register(
            "request_duration_seconds",
            "From the head of a request to the last byte of its response",
            metrics.duration.clone(),
        );
        registry.register(
            "listening",
            "Whether the address of a service is listened on (1) or can't be (0)",
            metrics.listening.clone(),
        );
        registry.register(
            "listen_failures",
            "Attempts to listen for a service that failed",
            metrics.listen_failures.clone(),
        );
        metrics
    }

    /// Enters what is counted of the connection to a server, for a gateway that has one.
    #[must_use]
    pub fn with_server(self, registry: &mut Registry) -> Self {
        self.server.enter(registry.sub_registry_with_prefix("hale_gateway"));
        self
    }

    /// Notes whether a service is listened for.
    pub(crate) fn listening(&self, service: &str, yes: bool) {
        let label = ServiceLabel { service: service.to_owned() };
        self.listening.get_or_create_owned(&label).set(i64::from(yes));
        let failures = self.listen_failures.get_or_create_owned(&label);
        if !yes {
            failures.inc();
        }
    }

    /// Forgets that a service was to be listened for.
    pub(crate) fn not_wanted(&self, service: &str) {
        let label = ServiceLabel { service: service.to_owned() };
        self.listening.remove(&label);
        self.listen_failures.remove(&label);
    }

    /// The metrics of one service, looked up once; all of them are there from the start, at zero.
    pub(crate) fn of(&self, service: &str) -> Arc<ServiceMetrics> {
        *self.served().entry(service.to_owned()).or_default() += 1;
        let label = ServiceLabel { service: service.to_owned() };
        let code =
            |code| self.requests.get_or_create_owned(&CodeLabels { service: service.to_owned(), code });
        let retry = |reason: RetryReason| {
            let labels = RetryLabels { service: service.to_owned(), reason: reason.as_str() };
            self.retries.get_or_create_owned(&labels)
        };
        Arc::new(ServiceMetrics {
            requests: CODES.map(code),
            retries: RetryReason::ALL.map(retry),
            no_endpoint: self.no_endpoint.get_or_create_owned(&label),
            ejections: self.ejections.get_or_create_owned(&label),
            in_flight: self.in_flight.get_or_create_owned(&label),
            connections: self.connections.get_or_create_owned(&label),
            duration: self.duration.get_or_create_owned(&label),
        })
    }

    fn served(&self) -> std::sync::MutexGuard<'_, HashMap<String, usize>> {
        // The map is whole at any moment.
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a listener of a service, and what was counted of the service with its last.
    pub(crate) fn forget(&self, service: &str) {
        let mut served = self.served();
        if let Some(count) = served.get_mut(service) {
            *count -= 1;
            if *count > 0 {
                return;
            }
        }
        served.remove(service);
        let label = ServiceLabel { service: service.to_owned() };
        for code in CODES {
            self.requests.remove(&CodeLabels { service: service.to_owned(), code });
        }
        for reason in RetryReason::ALL {
            self.retries.remove(&RetryLabels { service: service.to_owned(), reason: reason.as_str() });
        }
        self.no_endpoint.remove(&label);
        self.ejections.remove(&label);
        self.in_flight.remove(&label);
        self.connections.remove(&label);
        self.duration.remove(&label);
    }
}

/// The metrics of one service.
#[derive(Debug)]
pub(crate) struct ServiceMetrics {
    requests: [Counter; 5],
    retries: [Counter; 3],
    pub(crate) no_endpoint: Counter,
    pub(crate) ejections: Counter,
    in_flight: Gauge,
    connections: Gauge,
    duration: Histogram,
}

impl ServiceMetrics {
    /// Counts an answer.
    pub(crate) fn answered(&self, status: http::StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        self.requests[class].inc();
    }

    /// Counts a retry.
    pub(crate) fn retried(&self, reason: RetryReason) {
        self.retries[reason as usize].inc();
    }

    /// Counts a request until what is returned is dropped, and then how long it took.
    pub(crate) fn request(self: &Arc<Self>) -> InFlight {
        self.in_flight.inc();
        InFlight { metrics: Arc::clone(self), since: clock::now() }
    }

    /// Counts a client's connection until what is returned is dropped.
    pub(crate) fn connection(self: &Arc<Self>) -> Connected {
        self.connections.inc();
        Connected(Arc::clone(self))
    }
}

/// A request that has not ended.
#[derive(Debug)]
pub(crate) struct InFlight {
    metrics: Arc<ServiceMetrics>,
    since: Time,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.metrics.in_flight.dec();
        self.metrics.duration.observe(clock::now().since(self.since).as_secs_f64());
    }
}

/// A connection of a client.
#[derive(Debug)]
pub(crate) struct Connected(Arc<ServiceMetrics>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.dec();
    }
}
