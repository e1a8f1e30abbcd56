//! Where everything that is reported goes: registry, store, metrics, screen.

use std::sync::Arc;

use hale_agent::metrics::AgentMetrics;
use hale_model::report::{EndpointReport, Report};
use hale_server::Registry;
use hale_store::Store;
use hale_supervisor::sink::Sink;

use super::screen::Screen;

/// Passes each report on. The registry is changed within the call, before anything is written (S2); the others take
/// what they are given into queues of their own.
#[derive(Debug)]
pub(super) struct FanOut {
    pub(super) registry: Arc<Registry>,
    pub(super) store: Store,
    pub(super) metrics: Arc<AgentMetrics>,
    pub(super) screen: Screen,
}

impl Sink for FanOut {
    fn report(&self, report: Report) {
        match &report {
            Report::Endpoint(endpoint) => self.endpoint(endpoint),
            Report::Event(event) => {
                self.screen.show(event);
                self.store.append((**event).clone());
            }
            Report::Outcome(outcome) => self.store.outcome(outcome.clone()),
            Report::Removed { replica, .. } => {
                self.registry.remove(replica);
                self.store.forget(replica);
            }
        }
        self.metrics.report(report);
    }
}

impl FanOut {
    fn endpoint(&self, endpoint: &EndpointReport) {
        for change in self.registry.apply(endpoint) {
            tracing::info!(
                service = change.service,
                replica = endpoint.replica,
                ready = endpoint.ready,
                ready_endpoints = change.ready,
                revision = change.revision,
                reason = endpoint.reason,
                "an endpoint has changed"
            );
        }
    }
}
