//! What is counted (R16): every series of each configured source and breaker is there, at 0, from the start.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use hale_api::runs::{Run, RunState};
use hale_model::spec::AlertSeverity;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{
        MetricType,
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
    },
    registry::Registry,
};

use crate::{
    desk::{Breaker, BreakerState, FilterReason},
    source::ErrorClass,
};

/// Buckets of a run's duration, seconds.
const RUN_SECONDS: [f64; 7] = [1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// Buckets of a connection's duration, seconds.
const CONNECTION_SECONDS: [f64; 7] = [60.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 14400.0];

/// The ends that a started program comes to, as `status` has them.
const STATUSES: [RunState; 5] =
    [RunState::Succeeded, RunState::Failed, RunState::TimedOut, RunState::Ineffective, RunState::Interrupted];

/// Why a run failed, as `reason` has it.
const FAILURES: [&str; 5] = ["exit", "signal", "no_artifact", "not_started", "ineffective"];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCluster {
    cluster: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Severe {
    cluster: String,
    severity: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Because {
    cluster: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    cluster: String,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfBreaker {
    breaker: &'static str,
}

type Clusters<M = Counter> = Family<OfCluster, M>;

/// The figures of all responders of a process.
#[derive(Debug, Clone)]
pub struct Metrics {
    received: Family<Severe, Counter>,
    filtered: Family<Because, Counter>,
    queued: Clusters,
    expired: Clusters,
    dequeued: Clusters,
    dropped: Clusters,
    depth: Clusters<Gauge>,
    capacity: Clusters<Gauge>,
    spawned: Clusters,
    completed: Family<Ended, Counter>,
    failed: Family<Because, Counter>,
    timeout: Clusters,
    active: Clusters<Gauge>,
    duration: Family<Ended, Histogram, fn() -> Histogram>,
    breaker: Family<OfBreaker, Gauge>,
    connections: Clusters<Gauge>,
    reconnections: Family<Because, Counter>,
    errors: Family<Because, Counter>,
    connected: Family<OfCluster, Histogram, fn() -> Histogram>,
    shares: Arc<Shares>,
    sweep_panics: Counter,
    write_failures: Counter,
}

impl Metrics {
    /// Makes them, and adds them to a registry under `hale_responder_`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            received: Family::default(),
            filtered: Family::default(),
            queued: Family::default(),
            expired: Family::default(),
            dequeued: Family::default(),
            dropped: Family::default(),
            depth: Family::default(),
            capacity: Family::default(),
            spawned: Family::default(),
            completed: Family::default(),
            failed: Family::default(),
            timeout: Family::default(),
            active: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(RUN_SECONDS)),
            breaker: Family::default(),
            connections: Family::default(),
            reconnections: Family::default(),
            errors: Family::default(),
            connected: Family::new_with_constructor(|| Histogram::new(CONNECTION_SECONDS)),
            shares: Arc::default(),
            sweep_panics: Counter::default(),
            write_failures: Counter::default(),
        };
        let to = registry.sub_registry_with_prefix("hale_responder");
        metrics.register_alerts(to);
        metrics.register_runs(to);
        metrics.register_connections(to);
        to.register(
            "sweep_panics",
            "Sweeps that ended badly; the next one comes all the same",
            metrics.sweep_panics.clone(),
        );
        to.register(
            "write_failures",
            "Writes of the record that failed and were tried again",
            metrics.write_failures.clone(),
        );
        let build: Family<Vec<(&'static str, &'static str)>, Gauge> = Family::default();
        build.get_or_create(&vec![("version", env!("CARGO_PKG_VERSION"))]).set(1);
        to.register("build_info", "Which build it is", build);
        to.register_collector(Box::new(Process { since: Instant::now() }));
        metrics
    }

    fn register_alerts(&self, to: &mut Registry) {
        to.register("events_received", "Alerts that came", self.received.clone());
        to.register("events_filtered", "Alerts that led to no run", self.filtered.clone());
        to.register("events_queued", "Alerts that were queued", self.queued.clone());
        to.register("events_expired", "Alerts that waited for too long", self.expired.clone());
        to.register("events_dequeued", "Alerts that left their queue to be acted on", self.dequeued.clone());
        to.register("queue_depth", "Alerts that wait", self.depth.clone());
        to.register("queue_capacity", "Alerts that may wait", self.capacity.clone());
        to.register(
            "circuit_breaker_state",
            "How a breaker stands: 0 closed, 1 open, 2 half-open",
            self.breaker.clone(),
        );
        to.register(
            "circuit_breaker_events_dropped",
            "Alerts that were lost to a full queue",
            self.dropped.clone(),
        );
    }

    fn register_runs(&self, to: &mut Registry) {
        to.register("agents_spawned", "Programs that were started", self.spawned.clone());
        to.register("agents_completed", "Runs that came to their end", self.completed.clone());
        to.register("agents_failed", "Runs that failed; timeouts are counted apart", self.failed.clone());
        to.register("agents_timeout", "Runs that took too long and were ended", self.timeout.clone());
        to.register("agents_active", "Programs that run", self.active.clone());
        to.register("agent_duration_seconds", "How long programs ran", self.duration.clone());
    }

    fn register_connections(&self, to: &mut Registry) {
        to.register("sse_connections_active", "Sources that are connected", self.connections.clone());
        to.register("sse_reconnections", "Connections that were made anew", self.reconnections.clone());
        to.register("sse_connection_errors", "Connections that failed", self.errors.clone());
        to.register("sse_connection_duration_seconds", "How long connections lasted", self.connected.clone());
    }

    /// Sets every series of a cluster to 0.
    pub fn begin(&self, cluster: &str) {
        let of = || of(cluster);
        for severity in AlertSeverity::ALL {
            drop(
                self.received.get_or_create(&Severe { cluster: cluster.into(), severity: severity.as_str() }),
            );
        }
        for reason in FilterReason::ALL {
            drop(self.filtered.get_or_create(&because(cluster, reason.as_str())));
        }
        for family in
            [&self.queued, &self.expired, &self.dequeued, &self.dropped, &self.spawned, &self.timeout]
        {
            drop(family.get_or_create(&of()));
        }
        for family in [&self.depth, &self.capacity, &self.active, &self.connections] {
            drop(family.get_or_create(&of()));
        }
        for state in STATUSES {
            drop(self.completed.get_or_create(&ended(cluster, state)));
            drop(self.duration.get_or_create(&ended(cluster, state)));
        }
        for reason in FAILURES {
            drop(self.failed.get_or_create(&because(cluster, reason)));
        }
        for class in ErrorClass::ALL {
            drop(self.reconnections.get_or_create(&because(cluster, class.as_str())));
            drop(self.errors.get_or_create(&because(cluster, class.as_str())));
        }
        drop(self.connected.get_or_create(&of()));
        for breaker in Breaker::ALL {
            drop(self.breaker.get_or_create(&OfBreaker { breaker: breaker.as_str() }));
        }
    }

    pub(crate) fn received(&self, cluster: &str, severity: AlertSeverity) {
        let labels = Severe { cluster: cluster.to_owned(), severity: severity.as_str() };
        self.received.get_or_create(&labels).inc();
    }

    pub(crate) fn filtered(&self, cluster: &str, reason: FilterReason) {
        self.filtered.get_or_create(&because(cluster, reason.as_str())).inc();
    }

    pub(crate) fn queued(&self, cluster: &str) {
        self.queued.get_or_create(&of(cluster)).inc();
    }

    pub(crate) fn dequeued(&self, cluster: &str) {
        self.dequeued.get_or_create(&of(cluster)).inc();
    }

    pub(crate) fn expired(&self, cluster: &str) {
        self.expired.get_or_create(&of(cluster)).inc();
    }

    pub(crate) fn dropped(&self, cluster: &str) {
        self.dropped.get_or_create(&of(cluster)).inc();
    }

    pub(crate) fn spawned(&self, cluster: &str) {
        self.spawned.get_or_create(&of(cluster)).inc();
    }

    /// A run has come to its end. A timeout counts as such, not as a failure.
    pub(crate) fn completed(&self, run: &Run) {
        let labels = ended(&run.cluster, run.state);
        self.completed.get_or_create(&labels).inc();
        match run.state {
            RunState::TimedOut => {
                self.timeout.get_or_create(&of(&run.cluster)).inc();
            }
            RunState::Failed | RunState::Ineffective => {
                self.failed.get_or_create(&because(&run.cluster, failure(run))).inc();
            }
            _ => {}
        }
        if let (Some(from), Some(to)) = (run.started_at, run.ended_at) {
            self.duration.get_or_create(&labels).observe(to.duration_since(from).as_secs_f64().max(0.0));
        }
    }

    pub(crate) fn breaker(&self, responder: &str, breaker: Breaker, state: BreakerState) {
        let number = match state {
            BreakerState::Closed => 0,
            BreakerState::Open => 1,
            BreakerState::HalfOpen => 2,
        };
        // The worst of all responders: one that is open shows.
        let worst = self.shares.set(responder, breaker.as_str(), "", number).into_iter().max();
        self.breaker.get_or_create(&OfBreaker { breaker: breaker.as_str() }).set(worst.unwrap_or(number));
    }

    /// Responders of one process may have sources of the same name: their figures are added up.
    fn gauge(
        &self,
        gauges: &Clusters<Gauge>,
        responder: &str,
        what: &'static str,
        cluster: &str,
        value: i64,
    ) {
        let sum = self.shares.set(responder, what, cluster, value).into_iter().fold(0, i64::saturating_add);
        gauges.get_or_create(&of(cluster)).set(sum);
    }

    pub(crate) fn stands(&self, responder: &str, cluster: &str, depth: usize, active: usize) {
        let number = |it: usize| i64::try_from(it).unwrap_or(i64::MAX);
        self.gauge(&self.depth, responder, "depth", cluster, number(depth));
        self.gauge(&self.active, responder, "active", cluster, number(active));
    }

    pub(crate) fn capacity(&self, responder: &str, cluster: &str, capacity: u32) {
        self.gauge(&self.capacity, responder, "capacity", cluster, capacity.into());
    }

    pub(crate) fn connected(&self, responder: &str, cluster: &str, again_after: Option<ErrorClass>) {
        self.gauge(&self.connections, responder, "connections", cluster, 1);
        if let Some(class) = again_after {
            self.reconnections.get_or_create(&because(cluster, class.as_str())).inc();
        }
    }

    pub(crate) fn disconnected(&self, responder: &str, cluster: &str, lasted: f64) {
        self.gauge(&self.connections, responder, "connections", cluster, 0);
        self.connected.get_or_create(&of(cluster)).observe(lasted);
    }

    pub(crate) fn connection_error(&self, cluster: &str, class: ErrorClass) {
        self.errors.get_or_create(&because(cluster, class.as_str())).inc();
    }

    pub(crate) fn sweep_panicked(&self) {
        self.sweep_panics.inc();
    }

    pub(crate) fn write_failed(&self) {
        self.write_failures.inc();
    }
}

/// What each responder has of a figure that several may have.
#[derive(Debug, Default)]
struct Shares(Mutex<HashMap<Figure, HashMap<String, i64>>>);

/// Which figure, and of which cluster.
type Figure = (&'static str, String);

impl Shares {
    /// Notes the share of one; those of all.
    fn set(&self, responder: &str, what: &'static str, cluster: &str, value: i64) -> Vec<i64> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let shares = all.entry((what, cluster.to_owned())).or_default();
        shares.insert(responder.to_owned(), value);
        shares.values().copied().collect()
    }
}

fn of(cluster: &str) -> OfCluster {
    OfCluster { cluster: cluster.to_owned() }
}

fn because(cluster: &str, reason: &'static str) -> Because {
    Because { cluster: cluster.to_owned(), reason }
}

fn ended(cluster: &str, state: RunState) -> Ended {
    Ended { cluster: cluster.to_owned(), status: state.as_str() }
}

/// Why a run failed, from what is on record of it.
fn failure(run: &Run) -> &'static str {
    match (run.state, run.exit_code, run.signal) {
        (RunState::Ineffective, ..) => "ineffective",
        (_, _, Some(_)) => "signal",
        (_, Some(0), None) => "no_artifact",
        (_, Some(_), None) => "exit",
        (_, None, None) => "not_started",
    }
}

/// For how long it has run, and its async runtime, read when they are scraped.
#[derive(Debug)]
struct Process {
    since: Instant,
}

impl Collector for Process {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let uptime = ConstGauge::new(self.since.elapsed().as_secs_f64());
        uptime.encode(to.encode_descriptor(
            "uptime_seconds",
            "How long it has run",
            None,
            MetricType::Gauge,
        )?)?;
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return Ok(()) };
        let figures = runtime.metrics();
        for (name, help, value) in [
            ("runtime_workers", "Threads of the async runtime", figures.num_workers()),
            ("runtime_alive_tasks", "Tasks of the async runtime", figures.num_alive_tasks()),
            ("runtime_queue_depth", "Tasks that wait for a thread", figures.global_queue_depth()),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(to.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        Ok(())
    }
}
