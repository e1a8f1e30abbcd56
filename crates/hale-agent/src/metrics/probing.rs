//! How probing goes, read when it is scraped: checks under way, checks that began late, targets by status (O1).

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use hale_health::Status;
use hale_supervisor::engine::EngineProber;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use tokio::sync::watch;

/// Every status by its word, so that each has its series from the start.
const STATUSES: [Status; 4] = [Status::Healthy, Status::Unknown, Status::Degraded, Status::Failing];

/// What probing is read from, once it has begun.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) prober: Arc<EngineProber>,
    pub(super) targets: watch::Receiver<Arc<BTreeMap<String, Status>>>,
}

/// Tells nothing before there is a source.
#[derive(Debug, Clone, Default)]
pub(super) struct Probing(pub(super) Arc<OnceLock<Source>>);

impl Collector for Probing {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(source) = self.0.get() else { return Ok(()) };
        let counters = source.prober.engine().counters();
        let in_flight = ConstGauge::new(i64::try_from(counters.in_flight).unwrap_or(i64::MAX));
        let help = "Checks under way, of replicas and targets";
        in_flight.encode(to.encode_descriptor(
            "hale_agent_checks_in_flight",
            help,
            None,
            MetricType::Gauge,
        )?)?;
        let late = ConstCounter::new(counters.late_starts);
        let help = "Checks that began more than 50 ms after they were due";
        late.encode(to.encode_descriptor(
            "hale_agent_check_late_starts",
            help,
            None,
            MetricType::Counter,
        )?)?;
        let held = ConstCounter::new(counters.held);
        let help = "Times a check had to wait because this machine lacked descriptors or ports";
        held.encode(to.encode_descriptor("hale_agent_checks_held", help, None, MetricType::Counter)?)?;
        encode_targets(&source.targets.borrow(), to)
    }
}

fn encode_targets(
    targets: &BTreeMap<String, Status>,
    mut to: DescriptorEncoder<'_>,
) -> Result<(), std::fmt::Error> {
    let mut family =
        to.encode_descriptor("hale_agent_targets", "Targets by status", None, MetricType::Gauge)?;
    for status in STATUSES {
        let count = targets.values().filter(|it| **it == status).count();
        let gauge = ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
        gauge.encode(family.encode_family(&[("status", status.to_string())])?)?;
    }
    Ok(())
}
