use hale_model::{
    Reason,
    event::{Instance, NewEvent, ReplicaRestarted},
};
use jiff::Timestamp;

use super::*;

fn outcome(probe: Option<ProbeKind>, reason: Option<Reason>, consecutive: u32) -> Report {
    Report::Outcome(OutcomeRecord {
        subject: "web-0".into(),
        probe,
        incarnation: 1,
        at: Timestamp::UNIX_EPOCH,
        took_ms: 1.5,
        detail: reason.map(|_| "went wrong".into()),
        reason,
        consecutive,
        threshold: 3,
    })
}

fn scrape(registry: &Registry) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    text
}

fn counted() -> (Registry, AgentMetrics) {
    let mut registry = Registry::default();
    let metrics = AgentMetrics::register(&mut registry);
    (registry, metrics)
}

#[test]
fn an_outcome_is_counted_once_with_its_duration() {
    let (registry, metrics) = counted();
    metrics.report(outcome(Some(ProbeKind::Liveness), None, 1));
    metrics.report(outcome(Some(ProbeKind::Liveness), Some(Reason::Timeout), 1));
    let text = scrape(&registry);
    for line in [
        r#"hale_agent_liveness_probes_total{result="success"} 1"#,
        r#"hale_agent_liveness_probes_total{result="failure",replica="web-0",probe_type="liveness"} 1"#,
        r#"hale_agent_probe_duration_seconds_count{probe_type="liveness",result="success"} 1"#,
        r#"hale_agent_probe_duration_seconds_bucket{le="0.002",probe_type="liveness",result="success"} 1"#,
        r#"hale_agent_probe_consecutive_failures{replica="web-0",probe_type="liveness"} 1"#,
        r#"hale_agent_readiness_probes_total{result="success"} 0"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[test]
fn the_health_gauge_moves_at_the_threshold_only() {
    let (registry, metrics) = counted();
    let gauge = r#"hale_agent_container_health_status{replica="web-0",probe_type="readiness"}"#;
    metrics.report(outcome(Some(ProbeKind::Readiness), None, 3));
    assert!(scrape(&registry).contains(&format!("{gauge} 1")));
    metrics.report(outcome(Some(ProbeKind::Readiness), Some(Reason::Timeout), 2));
    assert!(scrape(&registry).contains(&format!("{gauge} 1")));
    metrics.report(outcome(Some(ProbeKind::Readiness), Some(Reason::Timeout), 3));
    assert!(scrape(&registry).contains(&format!("{gauge} 0")));
}

#[test]
fn the_series_of_a_removed_replica_go() {
    let (registry, metrics) = counted();
    metrics.report(outcome(Some(ProbeKind::Liveness), Some(Reason::Timeout), 3));
    metrics.report(Report::Removed { replica: "web-0".into(), generation: 1 });
    assert!(!scrape(&registry).contains("web-0"));
}

#[test]
fn every_event_type_and_restart_reason_stands_at_zero_from_the_start() {
    let (registry, metrics) = counted();
    let text = scrape(&registry);
    for kind in EventData::TYPES {
        assert!(
            text.contains(&format!(r#"hale_agent_health_events_total{{event_type="{kind}"}} 0"#)),
            "{kind}"
        );
    }
    metrics.report(Report::Event(Box::new(NewEvent {
        time: Timestamp::UNIX_EPOCH,
        source: "/nodes/local".into(),
        subject: "web-0".into(),
        data: EventData::ReplicaRestarted(ReplicaRestarted {
            instance: Instance::default(),
            reason: "liveness: timeout 3/3".into(),
            cause: RestartCause::LivenessFailure,
            restarts: 1,
            restarts_in_window: 1,
            max_restarts: 10,
            down_seconds: 1.0,
            forensics: None,
        }),
    })));
    let text = scrape(&registry);
    assert!(text.contains(r#"hale_agent_container_restarts_total{reason="liveness_failure"} 1"#));
    assert!(text.contains(r#"hale_agent_container_restarts_total{reason="exit"} 0"#));
    assert!(text.contains(r#"hale_agent_health_events_total{event_type="dev.hale.replica.restarted"} 1"#));
}

#[test]
fn targets_are_counted_by_reason() {
    let (registry, metrics) = counted();
    metrics.report(outcome(None, Some(Reason::ConnectionRefused), 1));
    let line = r#"hale_agent_target_probes_total{result="failure",reason="connection_refused"} 1"#;
    assert!(scrape(&registry).contains(line));
}

#[test]
fn the_process_tells_its_own_figures() {
    let (registry, _metrics) = counted();
    let text = scrape(&registry);
    for name in ["process_cpu_seconds_total ", "process_resident_memory_bytes ", "process_open_fds "] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name} is not in\n{text}");
    }
}

#[test]
fn a_check_that_could_not_be_made_is_counted_apart_and_changes_no_verdict() {
    let (registry, metrics) = counted();
    metrics.report(outcome(Some(ProbeKind::Liveness), None, 3));
    for count in 1..9 {
        metrics.report(outcome(Some(ProbeKind::Liveness), Some(Reason::ProberError), count));
    }
    metrics.report(outcome(None, Some(Reason::ProberError), 1));
    let text = scrape(&registry);
    for line in [
        r#"hale_agent_prober_errors_total{probe_type="liveness"} 8"#,
        r#"hale_agent_prober_errors_total{probe_type="target"} 1"#,
        r#"hale_agent_container_health_status{replica="web-0",probe_type="liveness"} 1"#,
        r#"hale_agent_probe_consecutive_failures{replica="web-0",probe_type="liveness"} 0"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(!text.contains(r#"result="failure",r"#), "{text}");
    assert!(!text.contains(r#"reason="prober_error""#), "{text}");
}

#[tokio::test]
async fn checks_under_way_late_starts_and_targets_by_status_are_told() {
    let (registry, metrics) = counted();
    let checks = hale_supervisor::engine::Checks::start(&hale_check::EngineOptions::new(
        tokio::runtime::Handle::current(),
    ));
    let down = BTreeMap::from([("db".to_owned(), Status::Failing)]);
    let (_tell, targets) = watch::channel(Arc::new(down));
    metrics.watch(checks.unwrap().prober, targets);
    let text = scrape(&registry);
    for line in [
        "hale_agent_checks_in_flight 0",
        "hale_agent_check_late_starts_total 0",
        r#"hale_agent_targets{status="failing"} 1"#,
        r#"hale_agent_targets{status="healthy"} 0"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
