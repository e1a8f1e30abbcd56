use std::{collections::BTreeMap, sync::atomic::Ordering};

use hale_model::{
    ProbeKind, Reason,
    event::{
        Instance, NewEvent, ReplicaNotReady, ReplicaReady, ReplicaRestarting, ReplicaUnhealthy, RestartCause,
        WorkloadApplied,
    },
};

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn instance() -> Instance {
    Instance { workload: "web".into(), node: "a".into(), ..Instance::default() }
}

fn event(id: u64, seconds: i64, subject: &str, data: EventData) -> Event {
    Event::new(id, NewEvent { time: at(seconds), source: "/nodes/a".into(), subject: subject.into(), data })
}

fn ready() -> EventData {
    EventData::ReplicaReady(ReplicaReady {
        instance: instance(),
        reason: "readiness: 1/1".into(),
        not_ready_seconds: None,
    })
}

fn not_ready() -> EventData {
    EventData::ReplicaNotReady(ReplicaNotReady {
        instance: instance(),
        reason: "readiness: timeout 3/3".into(),
        probe_reason: None,
        consecutive_failures: 3,
        failure_threshold: 3,
    })
}

fn restarting(cause: RestartCause) -> EventData {
    EventData::ReplicaRestarting(ReplicaRestarting {
        instance: instance(),
        reason: "because".into(),
        cause,
        restarts_in_window: 1,
        max_restarts: 5,
        backoff_seconds: 0.0,
    })
}

fn counted() -> (Registry, ServerMetrics) {
    let mut registry = Registry::default();
    let metrics = ServerMetrics::register(&mut registry);
    (registry, metrics)
}

fn scrape(registry: &Registry) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    text
}

fn assert_lines(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|it| it == *line), "{line} is not in\n{text}");
    }
}

#[test]
fn an_incident_is_timed_from_the_first_failure_to_the_trip_and_from_not_ready_to_ready() {
    let (registry, metrics) = counted();
    let trip = EventData::ReplicaUnhealthy(ReplicaUnhealthy {
        instance: instance(),
        probe: ProbeKind::Liveness,
        probe_reason: Reason::Timeout,
        detail: "no answer".into(),
        consecutive_failures: 3,
        failure_threshold: 3,
        first_failure_at: at(100),
    });
    for (id, (seconds, data)) in [(103, trip), (103, not_ready()), (110, ready())].into_iter().enumerate() {
        metrics.observe(&event(id as u64 + 1, seconds, "web-0", data), at(seconds));
    }
    assert_lines(
        &scrape(&registry),
        &[
            r#"hale_server_detect_seconds_sum{workload="web"} 3.0"#,
            r#"hale_server_detect_seconds_count{workload="web"} 1"#,
            r#"hale_server_recover_seconds_sum{workload="web"} 7.0"#,
            r#"hale_server_endpoint_transitions_total{to="ready"} 1"#,
            r#"hale_server_endpoint_transitions_total{to="not_ready"} 1"#,
            r#"hale_server_events_total{event_type="dev.hale.replica.unhealthy"} 1"#,
            "hale_server_last_event_id 3",
            "hale_server_event_lag_seconds_count 3",
        ],
    );
}

#[test]
fn what_a_person_asked_for_is_no_incident() {
    let (registry, metrics) = counted();
    for (id, data) in [not_ready(), restarting(RestartCause::Manual), ready()].into_iter().enumerate() {
        metrics.observe(&event(id as u64 + 1, id as i64, "web-0", data), at(id as i64));
    }
    let text = scrape(&registry);
    assert!(!text.contains("hale_server_recover_seconds_count{"), "{text}");
    assert!(!text.contains("hale_server_detect_seconds_count{"), "{text}");
}

#[test]
fn the_series_of_a_workload_and_of_a_webhook_go_with_it() {
    let (registry, metrics) = counted();
    metrics.observe(&event(1, 1, "web-0", not_ready()), at(1));
    metrics.observe(&event(2, 2, "web-0", ready()), at(2));
    metrics.delivery("ops", Delivery::Delivered, 0.2);
    metrics.delivery("ops", Delivery::GivenUp, 0.2);
    let text = scrape(&registry);
    assert!(text.contains(r#"workload="web""#) && text.contains(r#"webhook="ops""#), "{text}");
    let gone = EventData::WorkloadApplied(WorkloadApplied { change: "deleted".into(), replicas: 0 });
    metrics.observe(&event(3, 3, "web", gone), at(3));
    metrics.forget_webhook("ops");
    let text = scrape(&registry);
    assert!(!text.contains(r#"workload="web""#) && !text.contains(r#"webhook="ops""#), "{text}");
}

#[tokio::test(start_paused = true)]
async fn how_available_a_workload_was_is_counted_in_seconds() {
    let (registry, metrics) = counted();
    let ready = Arc::new(AtomicU64::new(2));
    let now = Arc::clone(&ready);
    metrics.watch(move || {
        let web = WorkloadSample { desired: 2, ready: now.load(Ordering::Relaxed), needed: 1 };
        State {
            phases: BTreeMap::from([("running", 2)]),
            workloads: BTreeMap::from([("web".to_owned(), web)]),
            ..State::default()
        }
    });
    metrics.sample();
    for count in [1, 0, 0, 2] {
        ready.store(count, Ordering::Relaxed);
        tokio::time::advance(state::EVERY).await;
        metrics.sample();
    }
    assert_lines(
        &scrape(&registry),
        &[
            r#"hale_server_workload_wanted_seconds_total{workload="web"} 20.0"#,
            r#"hale_server_workload_available_seconds_total{workload="web"} 10.0"#,
            r#"hale_server_workload_availability_ratio{workload="web"} 1.0"#,
            r#"hale_server_replicas{phase="running"} 2"#,
            r#"hale_server_replicas{phase="failed"} 0"#,
            r#"hale_server_nodes{condition="lost"} 0"#,
            "hale_server_store_commits_total 0",
        ],
    );
}
