//! What is counted of the connection to a server (O1).

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use std::sync::atomic::AtomicU64;

type Labels = Vec<(&'static str, String)>;

/// Counts what passes between a node and its server. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct LinkMetrics {
    pub(crate) connected: Gauge,
    pub(crate) session: Gauge,
    pub(crate) connections: Counter,
    pub(crate) attempts_failed: Counter,
    pub(crate) beats_sent: Counter,
    pub(crate) beats_acknowledged: Counter,
    pub(crate) spooled: Gauge,
    pub(crate) spool_lost: Gauge,
    pub(crate) rejected: Family<Labels, Counter>,
    pub(crate) nonsense: Counter,
    pub(crate) skew: Gauge<f64, AtomicU64>,
    pub(crate) desired_revision: Gauge,
}

impl LinkMetrics {
    /// Registers every family, under `hale_agent_`.
    pub fn register(registry: &mut Registry) -> Self {
        let this = Self::default();
        let all = registry.sub_registry_with_prefix("hale_agent");
        all.register("connected", "Whether a server is connected: 1 or 0", this.connected.clone());
        all.register("session", "The number of the session, 0 before the first", this.session.clone());
        all.register("connections", "Sessions that a server has granted", this.connections.clone());
        let failed = this.attempts_failed.clone();
        all.register("connection_failures", "Attempts to get a session that failed", failed);
        all.register("beats_sent", "Beats sent", this.beats_sent.clone());
        let acknowledged = this.beats_acknowledged.clone();
        all.register("beats_acknowledged", "Beats that a server has acknowledged", acknowledged);
        all.register("spool_events", "Events that no server has made durable yet", this.spooled.clone());
        let lost = this.spool_lost.clone();
        all.register("spool_lost_events", "Events that gave way because too many waited", lost);
        let rejected = this.rejected.clone();
        all.register("reports_rejected", "Entries of beats that a server did not take, by code", rejected);
        let nonsense = this.nonsense.clone();
        all.register("server_nonsense", "Messages of a server that can not be", nonsense);
        all.register(
            "clock_skew_seconds",
            "How far the server's clock is ahead of this one's",
            this.skew.clone(),
        );
        let revision = this.desired_revision.clone();
        all.register("desired_revision", "The desired state that is worked by, 0: none", revision);
        this
    }

    pub(crate) fn reject(&self, code: &str) {
        const KNOWN: [&str; 4] = ["unknown", "stale", "malformed", "not_yours"];
        let code = if KNOWN.contains(&code) { code } else { "other" };
        self.rejected.get_or_create(&vec![("code", code.to_owned())]).inc();
    }
}
