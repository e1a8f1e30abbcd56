//! Metrics of Kubernetes (O1): what happens is counted where it passes, what is is read when it is scraped.

use std::{collections::BTreeMap, fmt::Error};

use hale_api::kube::{EntryErrorCode, HealthReportAnswer};
use hale_model::{Status, cluster::DiagnosticsStatus};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::Counter, family::Family, gauge::ConstGauge},
    registry::Registry,
};

use super::{Kube, view};

type Labels = [(&'static str, &'static str); 1];

/// What happened here.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    /// Reports of agents.
    pub(super) reports: Counter,
    /// Entries of reports, by what came of them.
    entries: Family<Labels, Counter>,
    /// Requests for diagnostics.
    pub(super) asked: Counter,
    /// Requests that were taken.
    pub(super) claimed: Counter,
    /// Claims that ran out.
    pub(super) run_outs: Counter,
    /// Requests that came to their end, by which.
    ended: Family<Labels, Counter>,
    /// Requests that were deleted because they had expired.
    pub(super) swept: Counter,
}

const fn word(code: EntryErrorCode) -> &'static str {
    match code {
        EntryErrorCode::Invalid => "invalid",
        EntryErrorCode::NotYours => "not_yours",
        EntryErrorCode::Superseded => "superseded",
    }
}

impl Counted {
    pub(super) fn entries(&self, answer: &HealthReportAnswer) {
        self.entries.get_or_create(&[("result", "accepted")]).inc_by(answer.accepted.into());
        for it in &answer.errors {
            self.entries.get_or_create(&[("result", word(it.code))]).inc();
        }
    }

    pub(super) fn ended(&self, status: DiagnosticsStatus) {
        self.ended.get_or_create(&[("status", status.as_str())]).inc();
    }
}

/// Registers all of them.
pub(super) fn register(registry: &mut Registry, kube: &Kube) {
    let it = &kube.counted;
    for result in ["accepted", "invalid", "not_yours", "superseded"] {
        drop(it.entries.get_or_create(&[("result", result)]));
    }
    for status in ["completed", "failed"] {
        drop(it.ended.get_or_create(&[("status", status)]));
    }
    let all = registry.sub_registry_with_prefix("hale_server");
    all.register("health_reports", "Reports of agents of clusters", it.reports.clone());
    all.register("health_report_entries", "Entries of those, by what came of them", it.entries.clone());
    all.register("diagnostics_requested", "Requests for diagnostics", it.asked.clone());
    all.register("diagnostics_claimed", "Requests for diagnostics that were taken", it.claimed.clone());
    all.register("diagnostics_claims_run_out", "Claims without a result in time", it.run_outs.clone());
    all.register("diagnostics_ended", "Requests for diagnostics with a result, by which", it.ended.clone());
    all.register("diagnostics_swept", "Requests for diagnostics deleted after their time", it.swept.clone());
    registry.register_collector(Box::new(Now(kube.clone())));
}

/// How things are.
#[derive(Debug)]
struct Now(Kube);

fn gauges(
    to: &mut DescriptorEncoder<'_>,
    (name, help, label): (&str, &str, &str),
    values: impl Iterator<Item = (&'static str, i64)>,
) -> Result<(), Error> {
    let mut family = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (of, value) in values {
        ConstGauge::new(value).encode(family.encode_family(&[(label, of)])?)?;
    }
    Ok(())
}

impl Collector for Now {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), Error> {
        let snapshot = self.0.snapshot();
        let kube = &snapshot.kube;
        let mut statuses: BTreeMap<Status, i64> = Status::ALL.map(|it| (it, 0)).into();
        for stack in kube.stacks.values() {
            if let Some(object) = stack.current().and_then(|id| kube.objects.get(id)) {
                let status = view::object_status(kube, stack, object);
                *statuses.entry(status).or_default() += 1;
            }
        }
        let statuses = statuses.into_iter().map(|(status, count)| (status.as_str(), count));
        let about = ("hale_server_deployment_objects", "Current deployment objects by status", "status");
        gauges(&mut to, about, statuses)?;
        let silent = kube.agents.values().filter(|it| view::is_silent(kube, &it.id)).count();
        let count = |it: usize| i64::try_from(it).unwrap_or(i64::MAX);
        let agents = [("heard", count(kube.agents.len() - silent)), ("silent", count(silent))];
        let about = ("hale_server_kube_agents", "Agents of clusters", "state");
        gauges(&mut to, about, agents.into_iter())?;
        let of = |status| kube.diagnostics.values().filter(|it| it.status == status).count();
        let requests = DiagnosticsStatus::ALL.map(|it| (it.as_str(), count(of(it))));
        let about =
            ("hale_server_diagnostics", "Requests for diagnostics that are kept, by status", "status");
        gauges(&mut to, about, requests.into_iter())
    }
}
