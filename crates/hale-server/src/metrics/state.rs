//! How things are, read when it is scraped: replicas by phase, nodes, sessions, the store, and how available workloads
//! are.

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Error,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use hale_model::Phase;
use hale_store::Counters;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use tokio::time::Instant;

use super::MAX_WORKLOADS;
use crate::cluster::counters::{BOUNDS, Counters as ClusterCounters, Latency};

/// How often it is looked whether workloads are available.
pub(super) const EVERY: Duration = Duration::from_secs(5);

/// A workload, as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WorkloadSample {
    /// Replicas that are wanted.
    pub desired: u64,
    /// Replicas that are ready.
    pub ready: u64,
    /// How many it takes to be available; 0: a workload that is stopped, which is not counted.
    pub needed: u64,
}

/// How things are.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// Replicas by phase.
    pub phases: BTreeMap<&'static str, u64>,
    /// Nodes by condition.
    pub nodes: BTreeMap<&'static str, u64>,
    /// Sessions of agents at this server.
    pub sessions: u64,
    /// Gateways that follow this server.
    pub gateways: u64,
    /// Workloads by name.
    pub workloads: BTreeMap<String, WorkloadSample>,
    /// The store.
    pub store: Counters,
    /// What this server counted of its cluster's work; `None` where there is no cluster.
    pub cluster: Option<Arc<ClusterCounters>>,
}

/// Tells how things are.
pub trait Source: Send + Sync + 'static {
    /// How they are now. Called when scraped, and every five seconds.
    fn state(&self) -> State;
}

impl<F: Fn() -> State + Send + Sync + 'static> Source for F {
    fn state(&self) -> State {
        self()
    }
}

#[derive(Debug, Default)]
struct Counted {
    /// Seconds that a workload was wanted, and of them those that it was available.
    seconds: BTreeMap<String, (f64, f64)>,
    at: Option<Instant>,
    series: HashSet<String>,
}

/// Knows nothing before there is a source.
#[derive(Clone, Default)]
pub(super) struct Known {
    source: Arc<OnceLock<Box<dyn Source>>>,
    counted: Arc<Mutex<Counted>>,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Known")
    }
}

impl Known {
    pub(super) fn watch(&self, source: impl Source) {
        // A server has one state.
        let _second = self.source.set(Box::new(source));
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a workload has series of its own, which it gets while there is room.
    pub(super) fn has_series(&self, workload: &str) -> bool {
        let series = &mut self.lock().series;
        series.contains(workload) || series.len() < MAX_WORKLOADS && series.insert(workload.to_owned())
    }

    pub(super) fn forget(&self, workload: &str) {
        let mut counted = self.lock();
        counted.seconds.remove(workload);
        counted.series.remove(workload);
    }

    /// Counts the time since the last sample for what is so now.
    pub(super) fn sample(&self) {
        let Some(source) = self.source.get() else { return };
        let state = source.state();
        let now = Instant::now();
        let mut counted = self.lock();
        let since = counted.at.replace(now).map_or(Duration::ZERO, |at| now - at).min(2 * EVERY);
        counted.seconds.retain(|name, _| state.workloads.contains_key(name));
        for (name, workload) in state.workloads.iter().filter(|(_, it)| it.needed > 0).take(MAX_WORKLOADS) {
            let (wanted, available) = counted.seconds.entry(name.clone()).or_default();
            *wanted += since.as_secs_f64();
            if workload.ready >= workload.needed {
                *available += since.as_secs_f64();
            }
        }
    }
}

/// The highest count is far below what a double holds.
#[expect(clippy::cast_precision_loss, reason = "counts of replicas")]
fn ratio(workload: WorkloadSample) -> f64 {
    workload.ready.min(workload.desired) as f64 / workload.desired as f64
}

fn gauge(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> Result<(), Error> {
    let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    gauge.encode(to.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

fn counter(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> Result<(), Error> {
    ConstCounter::new(value).encode(to.encode_descriptor(name, help, None, MetricType::Counter)?)
}

fn gauges<'a>(
    to: &mut DescriptorEncoder<'_>,
    (name, help, label): (&str, &str, &str),
    values: impl Iterator<Item = (&'a str, u64)>,
) -> Result<(), Error> {
    let mut family = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (of, value) in values {
        let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
        gauge.encode(family.encode_family(&[(label, of)])?)?;
    }
    Ok(())
}

impl Collector for Known {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), Error> {
        let Some(source) = self.source.get() else { return Ok(()) };
        let state = source.state();
        let of = |map: &BTreeMap<&'static str, u64>, word| map.get(word).copied().unwrap_or(0);
        // Every phase has its series from the start; `unknown` are those of nodes that are not heard of.
        let phases = Phase::ALL.map(Phase::as_str).into_iter().chain(["unknown"]);
        let phases = phases.map(|it| (it, of(&state.phases, it)));
        gauges(&mut to, ("hale_server_replicas", "Replicas by phase", "phase"), phases)?;
        let conditions = ["ready", "suspect", "lost", "away"].map(|it| (it, of(&state.nodes, it)));
        gauges(&mut to, ("hale_server_nodes", "Nodes by condition", "condition"), conditions.into_iter())?;
        gauge(&mut to, "hale_server_sessions", "Agents connected to this server", state.sessions)?;
        gauge(&mut to, "hale_server_gateways", "Gateways connected to this server", state.gateways)?;
        store(&mut to, &state.store)?;
        if let Some(counters) = &state.cluster {
            cluster(&mut to, counters)?;
        }
        self.workloads(&mut to, &state)
    }
}

fn store(to: &mut DescriptorEncoder<'_>, counters: &Counters) -> Result<(), Error> {
    let waiting = u64::try_from(counters.facts_waiting).unwrap_or(u64::MAX);
    counter(to, "hale_server_store_commits", "Commits to the database", counters.commits)?;
    let help = "Writes that failed and were tried again";
    counter(to, "hale_server_store_write_failures", help, counters.write_failures)?;
    let help = "Events and records that were lost because too many waited";
    counter(to, "hale_server_store_lost", help, counters.facts_lost)?;
    let help = "Outcomes that gave way to newer ones";
    counter(to, "hale_server_store_outcomes_dropped", help, counters.outcomes_dropped)?;
    gauge(to, "hale_server_store_waiting", "Events and records that wait to be written", waiting)
}

fn cluster(to: &mut DescriptorEncoder<'_>, counters: &ClusterCounters) -> Result<(), Error> {
    counter(to, "hale_server_heartbeats", "Beats of agents that came", counters.beats.get())?;
    let help = "Entries of beats that were transitions";
    counter(to, "hale_server_heartbeat_transitions", help, counters.transitions.get())?;
    let help = "Times that all of a node's state was asked for again";
    counter(to, "hale_server_resyncs", help, counters.resyncs.get())?;
    let help = "Writes of what nodes said that failed and were tried again";
    counter(to, "hale_server_write_failures", help, counters.write_failures.get())?;
    counter(to, "hale_server_endpoint_changes", "Changes of services' endpoints", counters.endpoints.get())?;
    counter(to, "hale_server_placements", "Replicas that a node was found for", counters.placements.get())?;
    let help = "Plans that others came before";
    counter(to, "hale_server_plan_conflicts", help, counters.plan_conflicts.get())?;
    let rejections = counters.rejections();
    let help = "Entries of beats that were not taken, by reason";
    let name = "hale_server_heartbeat_rejections";
    let mut family = to.encode_descriptor(name, help, None, MetricType::Counter)?;
    for code in ["unknown", "stale", "malformed", "not_yours"] {
        let count = ConstCounter::new(rejections.get(code).copied().unwrap_or(0));
        count.encode(family.encode_family(&[("reason", code)])?)?;
    }
    let unplaced = counters.unplaced();
    let unplaced = unplaced.iter().map(|(reason, count)| (reason.as_str(), *count));
    let about =
        ("hale_server_unplaced_replicas", "Replicas that fit nowhere, by what rules nodes out", "reason");
    gauges(to, about, unplaced)?;
    latency(to, &counters.placement_latency)
}

fn latency(to: &mut DescriptorEncoder<'_>, latency: &Latency) -> Result<(), Error> {
    let (counts, sum) = latency.get();
    let help = "From a change to the plan that answers it, deciding and writing";
    let bounds = BOUNDS.into_iter().chain([f64::MAX]);
    let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
    let mut encoder =
        to.encode_descriptor("hale_server_placement_seconds", help, None, MetricType::Histogram)?;
    encoder.encode_histogram::<prometheus_client::encoding::NoLabelSet>(
        sum,
        counts.iter().sum(),
        &buckets,
        None,
    )
}

impl Known {
    fn workloads(&self, to: &mut DescriptorEncoder<'_>, state: &State) -> Result<(), Error> {
        let known = || state.workloads.iter().take(MAX_WORKLOADS);
        let desired = known().map(|(name, it)| (name.as_str(), it.desired));
        let about = ("hale_server_workload_desired_replicas", "Replicas that are wanted", "workload");
        gauges(to, about, desired)?;
        let ready = known().map(|(name, it)| (name.as_str(), it.ready));
        gauges(to, ("hale_server_workload_ready_replicas", "Replicas that are ready", "workload"), ready)?;
        let help = "Share of the wanted replicas that are ready now";
        let name = "hale_server_workload_availability_ratio";
        let mut family = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (workload, it) in known().filter(|(_, it)| it.desired > 0) {
            let gauge = ConstGauge::new(ratio(*it));
            gauge.encode(family.encode_family(&[("workload", workload.as_str())])?)?;
        }
        let seconds = self.lock().seconds.clone();
        let (wanted, available) = (
            ("hale_server_workload_wanted_seconds", "Time that a workload was wanted"),
            ("hale_server_workload_available_seconds", "Time that enough of its replicas were ready"),
        );
        for ((name, help), which) in [(wanted, 0), (available, 1)] {
            let mut family = to.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (workload, (wanted, available)) in &seconds {
                let value = ConstCounter::new(if which == 0 { *wanted } else { *available });
                value.encode(family.encode_family(&[("workload", workload.as_str())])?)?;
            }
        }
        Ok(())
    }
}
