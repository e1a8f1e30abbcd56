//! The server's Prometheus metrics (O1).
//!
//! What happens is counted from one place: [`ServerMetrics::observe`] is shown every event of the stream once, in order.
//! What is (replicas by phase, nodes, sessions) is read when it is scraped. What has no event (beats, deliveries)
//! is counted where it passes.

mod detect;
mod source;
mod state;

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use hale_api::events::EventQuery;
use hale_model::event::{Event, EventData};
use hale_store::Store;
use jiff::Timestamp;
use prometheus_client::{
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

pub use self::source::ClusterSource;
pub use self::state::{Source, State, WorkloadSample};
use self::{detect::Incidents, state::Known};
use crate::cluster::Cluster;

type Labels = Vec<(&'static str, String)>;

/// At most so many workloads have series of their own.
const MAX_WORKLOADS: usize = 2000;

/// What came of an attempt to deliver an event to a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// It was taken.
    Delivered,
    /// It was not, and is tried again or given up.
    Failed,
    /// It was not, and is given up for that.
    Refused,
    /// It is not tried any more.
    GivenUp,
}

/// Counts what a server does and sees.
#[derive(Debug)]
pub struct ServerMetrics {
    endpoint_ready: Counter,
    endpoint_not_ready: Counter,
    events: Family<Labels, Counter>,
    event_lag: Histogram,
    detect: Family<Labels, Histogram>,
    recover: Family<Labels, Histogram>,
    deliveries: Family<Labels, Counter>,
    given_up: Family<Labels, Counter>,
    delivery_delay: Histogram,
    last_event: Gauge<u64, AtomicU64>,
    incidents: Mutex<Incidents>,
    known: Known,
}

impl ServerMetrics {
    /// Registers every family, under `hale_server_`, and returns what counts for them.
    pub fn register(registry: &mut Registry) -> Self {
        let all = registry.sub_registry_with_prefix("hale_server");
        let transitions = family(all, "endpoint_transitions", "Replicas that became ready or not ready");
        let transition = |to: &str| transitions.get_or_create_owned(&vec![("to", to.to_owned())]);
        let this = Self {
            endpoint_ready: transition("ready"),
            endpoint_not_ready: transition("not_ready"),
            events: family(all, "events", "Events recorded, by type"),
            event_lag: seconds(0.001, 16),
            detect: Family::new_with_constructor(|| seconds(0.05, 14)),
            recover: Family::new_with_constructor(|| seconds(0.05, 16)),
            deliveries: family(all, "webhook_deliveries", "Attempts to deliver an event, by result"),
            given_up: family(all, "webhook_given_up", "Events that were given up"),
            delivery_delay: seconds(0.005, 16),
            last_event: Gauge::default(),
            incidents: Mutex::default(),
            known: Known::default(),
        };
        for kind in EventData::TYPES {
            drop(this.events.get_or_create(&vec![("event_type", kind.to_owned())]));
        }
        all.register(
            "event_lag_seconds",
            "From when an event happened to when it could be read here",
            this.event_lag.clone(),
        );
        all.register(
            "detect_seconds",
            "From the first failed check, or the end of a process, to the decision to act on it",
            this.detect.clone(),
        );
        all.register("recover_seconds", "From not ready to ready again", this.recover.clone());
        all.register(
            "webhook_delay_seconds",
            "From when an event happened to the end of an attempt to deliver it",
            this.delivery_delay.clone(),
        );
        all.register("last_event_id", "The id of the newest event", this.last_event.clone());
        registry.register_collector(Box::new(this.known.clone()));
        this
    }

    /// Tells from now on what a source knows, when it is scraped. The first call counts.
    pub fn watch(&self, source: impl Source) {
        self.known.watch(source);
    }

    /// Samples the source, for how long workloads were available: to be called every five seconds.
    pub fn sample(&self) {
        self.known.sample();
    }

    /// An attempt to deliver an event has ended.
    pub fn delivery(&self, webhook: &str, what: Delivery, delay_seconds: f64) {
        let mut labels = vec![("webhook", webhook.to_owned())];
        let result = match what {
            Delivery::GivenUp => {
                self.given_up.get_or_create(&labels).inc();
                return;
            }
            Delivery::Delivered => "delivered",
            Delivery::Failed => "failed",
            Delivery::Refused => "refused",
        };
        labels.push(("result", result.to_owned()));
        self.deliveries.get_or_create(&labels).inc();
        self.delivery_delay.observe(delay_seconds.max(0.0));
    }

    /// Takes the series of a webhook away.
    pub fn forget_webhook(&self, webhook: &str) {
        let own = vec![("webhook", webhook.to_owned())];
        self.given_up.remove(&own);
        for result in ["delivered", "failed", "refused"] {
            let labels: Labels = own.iter().cloned().chain([("result", result.to_owned())]).collect();
            self.deliveries.remove(&labels);
        }
    }

    /// Counts an event; to be called once for each, in order, `now` being when it could be read.
    pub fn observe(&self, event: &Event, now: Timestamp) {
        self.last_event.set(event.id);
        self.events.get_or_create(&vec![("event_type", event.data.kind().to_owned())]).inc();
        self.event_lag.observe(now.duration_since(event.time).as_secs_f64().max(0.0));
        match &event.data {
            EventData::ReplicaReady(_) => self.endpoint_ready.inc(),
            EventData::ReplicaNotReady(_) => self.endpoint_not_ready.inc(),
            _ => 0,
        };
        let mut incidents = self.incidents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seconds) = incidents.detected(event)
            && let Some(labels) = self.own(event)
        {
            self.detect.get_or_create(&labels).observe(seconds);
        }
        if let Some(seconds) = incidents.recovered(event)
            && let Some(labels) = self.own(event)
        {
            self.recover.get_or_create(&labels).observe(seconds);
        }
        drop(incidents);
        if let EventData::WorkloadApplied(applied) = &event.data
            && applied.change == "deleted"
        {
            self.forget(&event.subject);
        }
    }

    /// The labels of an event's workload, which has series of its own while there is room.
    fn own(&self, event: &Event) -> Option<Labels> {
        let workload = &event.data.instance()?.workload;
        self.known.has_series(workload).then(|| vec![("workload", workload.clone())])
    }

    /// Takes the series of a workload away.
    fn forget(&self, workload: &str) {
        let labels = vec![("workload", workload.to_owned())];
        self.detect.remove(&labels);
        self.recover.remove(&labels);
        self.known.forget(workload);
    }
}

fn family(registry: &mut Registry, name: &str, help: &str) -> Family<Labels, Counter> {
    let family = Family::default();
    registry.register(name, help, family.clone());
    family
}

/// Doubling from `first`.
fn seconds(first: f64, buckets: u16) -> Histogram {
    Histogram::new(exponential_buckets(first, 2.0, buckets))
}

/// Registers the server's metrics, and begins to count as a part of a cluster, until `end` is cancelled.
pub fn start(
    registry: &mut Registry,
    cluster: &Cluster,
    store: &Store,
    end: CancellationToken,
) -> Arc<ServerMetrics> {
    let metrics = Arc::new(ServerMetrics::register(registry));
    metrics.watch(ClusterSource { cluster: cluster.clone(), store: store.clone() });
    tokio::spawn(follow(Arc::clone(&metrics), store.clone(), end));
    metrics
}

/// Shows the metrics every event of a store from now on, and samples its state, until `end` is cancelled.
pub async fn follow(metrics: Arc<ServerMetrics>, store: Store, end: CancellationToken) {
    let mut latest = store.follow();
    let mut query = EventQuery { after: Some(store.latest()), ..EventQuery::default() };
    let mut sample = interval(state::EVERY);
    sample.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        latest.mark_unchanged();
        match store.events(&query, 500).await {
            Ok((events, seen)) => {
                let now = Timestamp::now();
                events.iter().for_each(|event| metrics.observe(event, now));
                if query.after.replace(seen) < Some(seen) && !end.is_cancelled() {
                    continue;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "events can't be counted: they can't be read; tried again");
                latest.mark_changed();
                sleep(Duration::from_secs(1)).await;
            }
        }
        tokio::select! {
            changed = latest.changed() => if changed.is_err() { return },
            _ = sample.tick() => metrics.sample(),
            () = end.cancelled() => return,
        }
    }
}

#[cfg(test)]
mod tests;
