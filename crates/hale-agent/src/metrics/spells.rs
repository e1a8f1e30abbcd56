//! How fast failures of targets are noticed, and how long they last.

use hale_model::event::{EventData, NewEvent};
use prometheus_client::{
    metrics::histogram::{Histogram, exponential_buckets},
    registry::Registry,
};

/// From the first failure of a spell, of all targets together.
#[derive(Debug)]
pub(super) struct Spells {
    detect: Histogram,
    recover: Histogram,
}

impl Spells {
    pub(super) fn register(registry: &mut Registry) -> Self {
        // A quarter of a second to a good hour, and to twelve days.
        let detect = Histogram::new(exponential_buckets(0.25, 2.0, 15));
        let recover = Histogram::new(exponential_buckets(0.25, 4.0, 12));
        registry.register(
            "target_detect_seconds",
            "From the first failed check of a target to its failure being told",
            detect.clone(),
        );
        registry.register(
            "target_recover_seconds",
            "From the first failed check of a target to its recovery being told",
            recover.clone(),
        );
        Self { detect, recover }
    }

    pub(super) fn event(&self, event: &NewEvent) {
        match &event.data {
            EventData::TargetProbeFailed(it) => {
                if let Some(since) = it.since {
                    self.detect.observe(event.time.duration_since(since).as_secs_f64().max(0.0));
                }
            }
            EventData::TargetProbeRecovered(it) => self.recover.observe(it.down_for),
            _ => {}
        }
    }
}
