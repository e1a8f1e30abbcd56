//! The agent's Prometheus metrics (O1), fed from the one stream of reports.
//!
//! Each outcome and each event is counted once, where it passes, with its real duration. Series of a replica go when
//! the replica goes, and there is a cap on how many replicas have series of their own, so that a scrape stays small.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use hale_health::Status;
use hale_model::{
    ProbeKind,
    event::{EventData, RestartCause},
    report::{OutcomeRecord, Report},
};
use hale_supervisor::{engine::EngineProber, sink::Sink};
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use tokio::sync::watch;

pub use self::{link::LinkMetrics, process::register as register_process};
use self::{
    probing::{Probing, Source},
    spells::Spells,
};

pub mod exposition;
mod link;
mod probing;
mod process;
mod spells;

type Labels = Vec<(&'static str, String)>;

/// At most so many replicas have series of their own; of the others only the totals are counted.
const MAX_REPLICA_SERIES: usize = 10_000;

/// Counts what a node reports.
#[derive(Debug)]
pub struct AgentMetrics {
    probes: [ProbeMetrics; 3],
    target_success: Counter,
    target_probes: Family<Labels, Counter>,
    restarts: Family<Labels, Counter>,
    budget_hits: Family<Labels, Counter>,
    prober_errors: Family<Labels, Counter>,
    events: Family<Labels, Counter>,
    spells: Spells,
    health: Family<Labels, Gauge>,
    failures: Family<Labels, Gauge>,
    replicas: std::sync::Mutex<HashSet<String>>,
    probing: Probing,
}

/// What is counted of one kind of probe. What an ordinary success touches is held, not looked up.
#[derive(Debug)]
struct ProbeMetrics {
    outcomes: Family<Labels, Counter>,
    success: Counter,
    success_duration: Histogram,
    failure_duration: Histogram,
}

impl ProbeMetrics {
    fn register(registry: &mut Registry, durations: &Family<Labels, Histogram>, kind: ProbeKind) -> Self {
        let outcomes = family(registry, &format!("{kind}_probes"), &format!("Outcomes of {kind} probes"));
        let duration = |result: &str| {
            let labels = vec![("probe_type", kind.to_string()), ("result", result.to_owned())];
            durations.get_or_create_owned(&labels)
        };
        Self {
            success: outcomes.get_or_create_owned(&vec![("result", "success".to_owned())]),
            success_duration: duration("success"),
            failure_duration: duration("failure"),
            outcomes,
        }
    }
}

impl AgentMetrics {
    /// Registers every family, under `hale_agent_`, and returns what counts for them.
    pub fn register(registry: &mut Registry) -> Self {
        let all = registry.sub_registry_with_prefix("hale_agent");
        let durations = Family::<Labels, Histogram>::new_with_constructor(duration_histogram);
        let target_probes = family(all, "target_probes", "Outcomes of checks of targets");
        let this = Self {
            probes: ProbeKind::ALL.map(|kind| ProbeMetrics::register(all, &durations, kind)),
            target_success: target_probes.get_or_create_owned(&target_labels(None)),
            target_probes,
            restarts: family(all, "container_restarts", "Replicas started again, by cause"),
            budget_hits: family(
                all,
                "restart_rate_limit_hits",
                "Restarts that the restart budget refused or held",
            ),
            prober_errors: family(
                all,
                "prober_errors",
                "Checks that could not be made: neither success nor failure",
            ),
            events: family(all, "health_events", "Events written, by type"),
            spells: Spells::register(all),
            health: Family::default(),
            failures: Family::default(),
            replicas: std::sync::Mutex::default(),
            probing: Probing::default(),
        };
        all.register("probe_duration_seconds", "How long checks took", durations);
        all.register(
            "container_health_status",
            "Verdict of a probe through its thresholds: 1 good, 0 bad",
            this.health.clone(),
        );
        all.register("probe_consecutive_failures", "Failures of a probe in a row", this.failures.clone());
        for kind in EventData::TYPES {
            drop(this.events.get_or_create(&vec![("event_type", kind.to_owned())]));
        }
        for cause in RestartCause::ALL {
            drop(this.restarts.get_or_create(&vec![("reason", cause.as_str().to_owned())]));
        }
        registry.register_collector(Box::new(this.probing.clone()));
        process::register(registry);
        this
    }

    /// Tells from now on how probing goes. The first call counts.
    pub fn watch(&self, prober: Arc<EngineProber>, targets: watch::Receiver<Arc<BTreeMap<String, Status>>>) {
        // A second source would be of a second engine, which a node does not have.
        let _ = self.probing.0.set(Source { prober, targets });
    }

    fn outcome(&self, outcome: &OutcomeRecord) {
        // A check that could not be made is no outcome: it is counted apart, and changes no verdict (H10).
        if outcome.reason.is_some_and(hale_model::Reason::is_prober_error) {
            let kind = outcome.probe.map_or("target", ProbeKind::as_str);
            self.prober_errors.get_or_create(&vec![("probe_type", kind.to_owned())]).inc();
            return;
        }
        let Some(probe) = outcome.probe else {
            match outcome.reason {
                None => self.target_success.inc(),
                Some(reason) => self.target_probes.get_or_create(&target_labels(Some(reason.as_str()))).inc(),
            };
            return;
        };
        let metrics = &self.probes[probe as usize];
        let own_series = self.has_series(&outcome.subject);
        let replica = vec![("replica", outcome.subject.clone()), ("probe_type", probe.to_string())];
        let seconds = outcome.took_ms / 1000.0;
        if outcome.reason.is_none() {
            metrics.success.inc();
            metrics.success_duration.observe(seconds);
        } else {
            let mut labels = vec![("result", "failure".to_owned())];
            if own_series {
                labels.extend(replica.iter().cloned());
            }
            metrics.outcomes.get_or_create(&labels).inc();
            metrics.failure_duration.observe(seconds);
        }
        if !own_series {
            return;
        }
        let failed_in_a_row = if outcome.reason.is_some() { outcome.consecutive } else { 0 };
        self.failures.get_or_create(&replica).set(i64::from(failed_in_a_row));
        if outcome.consecutive >= outcome.threshold {
            self.health.get_or_create(&replica).set(i64::from(outcome.reason.is_none()));
        }
    }

    fn event(&self, data: &EventData) {
        self.events.get_or_create(&vec![("event_type", data.kind().to_owned())]).inc();
        match data {
            EventData::ReplicaRestarted(restarted) => {
                self.restarts.get_or_create(&vec![("reason", restarted.cause.as_str().to_owned())]).inc();
            }
            EventData::ReplicaHeld(held) if held.hold.by == "budget" => {
                self.budget_hit(&held.instance.workload)
            }
            EventData::ReplicaFailed(failed) if failed.budget_exhausted => {
                self.budget_hit(&failed.instance.workload)
            }
            _ => {}
        }
    }

    fn budget_hit(&self, workload: &str) {
        self.budget_hits.get_or_create(&vec![("workload", workload.to_owned())]).inc();
    }

    /// Whether this replica has series of its own, which it gets while there is room.
    fn has_series(&self, replica: &str) -> bool {
        let mut replicas = self.replicas.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if replicas.contains(replica) {
            return true;
        }
        let room = replicas.len() < MAX_REPLICA_SERIES;
        if room {
            replicas.insert(replica.to_owned());
        }
        room
    }

    /// Takes the series of a replica away.
    fn forget(&self, replica: &str) {
        self.replicas.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(replica);
        for probe in ProbeKind::ALL {
            let own = vec![("replica", replica.to_owned()), ("probe_type", probe.to_string())];
            self.failures.remove(&own);
            self.health.remove(&own);
            let mut failed = vec![("result", "failure".to_owned())];
            failed.extend(own);
            self.probes[probe as usize].outcomes.remove(&failed);
        }
    }
}

impl Sink for AgentMetrics {
    fn report(&self, report: Report) {
        match report {
            Report::Outcome(outcome) => self.outcome(&outcome),
            Report::Event(event) => {
                self.spells.event(&event);
                self.event(&event.data);
            }
            Report::Removed { replica, .. } => self.forget(&replica),
            Report::Endpoint(_) | Report::Forgotten(_) => {}
        }
    }
}

fn family(registry: &mut Registry, name: &str, help: &str) -> Family<Labels, Counter> {
    let family = Family::default();
    registry.register(name, help, family.clone());
    family
}

/// 1 ms doubling, ten buckets (O1).
fn duration_histogram() -> Histogram {
    Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(0.001, 2.0, 10))
}

fn target_labels(reason: Option<&'static str>) -> Labels {
    let result = if reason.is_none() { "success" } else { "failure" };
    vec![("result", result.to_owned()), ("reason", reason.unwrap_or_default().to_owned())]
}

#[cfg(test)]
mod tests;
