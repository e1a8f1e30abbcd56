//! One line per event in the log (O2): a sentence, and beside it what one would look for.

use hale_model::event::{EventData, ReplicaUnhealthy, Severity, TargetProbeFailed};

/// Writes the line of an event: `ERROR` for what was given up, `WARN` for a probe's trip, `INFO` for all others.
///
/// `subject` is the name of what the event is about; it stands under the word for it (`replica`, `target`, …), so that
/// the lines of one thing are found by one field.
pub fn log_event(subject: &str, data: &EventData) {
    let event = data.kind();
    let word = event.trim_start_matches("dev.hale.").split('.').next().unwrap_or_default();
    let of = |wanted: &str| (word == wanted).then_some(subject);
    let (replica, target, workload, node) = (of("replica"), of("target"), of("workload"), of("node"));
    let line = format!("{subject}: {}", data.message());
    match data {
        EventData::ReplicaUnhealthy(trip) => {
            let ReplicaUnhealthy { consecutive_failures: count, failure_threshold: threshold, .. } = trip;
            let (probe, reason) = (trip.probe.as_str(), trip.probe_reason.as_str());
            tracing::warn!(event, replica, probe, reason, count, threshold, "{line}");
        }
        EventData::TargetProbeFailed(failed) => {
            let TargetProbeFailed { consecutive_failures: count, .. } = failed;
            tracing::warn!(event, target, reason = failed.last_reason.as_str(), count, "{line}");
        }
        data if data.severity() == Severity::Critical => {
            tracing::error!(event, replica, target, workload, node, "{line}");
        }
        EventData::ReplicaProberError(_) | EventData::NodeObserverSuspect(_) => {
            tracing::warn!(event, replica, node, "{line}");
        }
        _ => tracing::info!(event, replica, target, workload, node, "{line}"),
    }
}
