//! What an agent counts (O1). Nothing is labelled by what people name: series stay few, whatever the cluster holds.

use std::{collections::BTreeMap, time::Duration};

use hale_model::Status;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use crate::{
    cluster::{Seen, WATCHED},
    judge::Kind,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfStatus {
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfResult {
    result: &'static str,
}

/// The metrics of an agent. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    changes: Family<OfKind, Counter>,
    failures: Family<OfKind, Counter>,
    held: Gauge,
    objects: Family<OfStatus, Gauge>,
    judgements: Counter,
    judging: Counter<f64, std::sync::atomic::AtomicU64>,
    reports: Family<OfResult, Counter>,
    applies: Family<OfResult, Counter>,
    diagnostics: Family<OfResult, Counter>,
    connected: Gauge,
}

impl Metrics {
    /// Enters them; all there will be, from zero.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let it = Self::default();
        let registry = registry.sub_registry_with_prefix("hale_kube_agent");
        registry.register("watch_changes", "Objects of the cluster that were seen", it.changes.clone());
        registry.register("watch_failures", "Watches that broke or were refused", it.failures.clone());
        registry.register("held_objects", "Objects of the cluster that are held, trimmed", it.held.clone());
        registry.register("deployment_objects", "Deployment objects by status", it.objects.clone());
        registry.register("judgements", "Judgements with news in them", it.judgements.clone());
        registry.register_with_unit("judging", "Time spent on them", Unit::Seconds, it.judging.clone());
        registry.register("reports", "Reports to the server", it.reports.clone());
        registry.register("applies", "Deployment objects that were applied or deleted", it.applies.clone());
        registry.register(
            "diagnostics",
            "Requests for diagnostics that were answered",
            it.diagnostics.clone(),
        );
        registry.register(
            "server_connected",
            "Whether the agent is registered at a server",
            it.connected.clone(),
        );
        for (kind, ..) in WATCHED {
            let of = OfKind { kind: kind.as_str() };
            drop(it.changes.get_or_create(&of));
            drop(it.failures.get_or_create(&of));
        }
        for status in Status::ALL {
            drop(it.objects.get_or_create(&OfStatus { status: status.as_str() }));
        }
        for family in [&it.reports, &it.applies, &it.diagnostics] {
            for result in ["success", "failure"] {
                drop(family.get_or_create(&OfResult { result }));
            }
        }
        it
    }

    pub(super) fn seen(&self, kind: Kind, seen: &Seen) {
        let of = OfKind { kind: kind.as_str() };
        match seen {
            Seen::Put(objects) => drop(self.changes.get_or_create(&of).inc_by(objects.len() as u64)),
            Seen::Gone(_) => drop(self.changes.get_or_create(&of).inc()),
            Seen::Broken(_) => drop(self.failures.get_or_create(&of).inc()),
            Seen::Listed(_) | Seen::Alive => {}
        }
    }

    pub(super) fn judged(&self, news: usize, took: Duration) {
        self.judgements.inc_by(news as u64);
        self.judging.inc_by(took.as_secs_f64());
    }

    pub(super) fn held(&self, held: usize) {
        self.held.set(i64::try_from(held).unwrap_or(i64::MAX));
    }

    pub(super) fn statuses(&self, statuses: &BTreeMap<Status, usize>) {
        for status in Status::ALL {
            let count = statuses.get(&status).copied().unwrap_or(0);
            let gauge = self.objects.get_or_create(&OfStatus { status: status.as_str() });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    pub(super) fn reported(&self, success: bool) {
        count(&self.reports, success);
    }

    pub(super) fn applied(&self, success: bool) {
        count(&self.applies, success);
    }

    pub(super) fn diagnosed(&self, success: bool) {
        count(&self.diagnostics, success);
    }

    pub(super) fn connected(&self, connected: bool) {
        self.connected.set(i64::from(connected));
    }
}

fn count(family: &Family<OfResult, Counter>, success: bool) {
    family.get_or_create(&OfResult { result: if success { "success" } else { "failure" } }).inc();
}
