//! What is told: the forms of events and status are a contract (C8, C9).

use std::collections::BTreeMap;

use hale_model::{
    Exit, Phase, ProbeKind, Reason, Status,
    cluster::{DiagnosticsStatus, NodeCondition, PlacementCause},
    event::*,
    spec::AlertSeverity,
    status::{
        ExitStatus, HoldStatus, NodeStatus, Overview, ProbeStatus, ReplicaStatus, TargetStatus,
        TransitionStatus, WorkloadStatus,
    },
};
use jiff::Timestamp;

#[expect(clippy::unwrap_used, reason = "a test: a constant that is a time")]
fn at() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn instance() -> Instance {
    Instance {
        workload: "web".into(),
        node: "local".into(),
        runtime: "process".into(),
        pid: Some(4711),
        container_id: None,
        generation: 3,
        incarnation: 2,
    }
}

fn hold() -> HoldStatus {
    HoldStatus { by: "dependency".into(), since: at(), until: None, reason: "db is failing".into() }
}

/// One event of each type, in the order of the list.
#[expect(clippy::too_many_lines, reason = "a list, one item of each")]
fn one_of_each() -> Vec<EventData> {
    let instance = instance();
    let exit = ExitStatus::new(Exit::signal(9), at());
    let i = || instance.clone();
    vec![
        EventData::ReplicaStarting(ReplicaStarting { instance: i(), reason: "declared".into(), restarts: 0 }),
        EventData::ReplicaRunning(ReplicaRunning {
            instance: i(),
            reason: "startup: success 1/1".into(),
            startup_seconds: 0.21,
        }),
        EventData::ReplicaReady(ReplicaReady {
            instance: i(),
            reason: "readiness: success 1/1".into(),
            not_ready_seconds: Some(3.0),
        }),
        EventData::ReplicaNotReady(ReplicaNotReady {
            instance: i(),
            reason: "readiness: timeout 3/3".into(),
            probe_reason: Some(Reason::Timeout),
            consecutive_failures: 3,
            failure_threshold: 3,
        }),
        EventData::ReplicaUnhealthy(ReplicaUnhealthy {
            instance: i(),
            probe: ProbeKind::Liveness,
            probe_reason: Reason::Timeout,
            detail: "no answer within 3s".into(),
            consecutive_failures: 3,
            failure_threshold: 3,
            first_failure_at: at(),
        }),
        EventData::ReplicaRecovered(ReplicaRecovered {
            instance: i(),
            probe: ProbeKind::Readiness,
            prior_failure_count: 7,
            down_seconds: 3.5,
        }),
        EventData::ReplicaExited(ReplicaExited {
            instance: i(),
            exit: exit.clone(),
            expected: false,
            uptime_seconds: 61.0,
        }),
        EventData::ReplicaRestarting(ReplicaRestarting {
            instance: i(),
            reason: "signal 9".into(),
            cause: RestartCause::Exit,
            restarts_in_window: 1,
            max_restarts: 10,
            backoff_seconds: 1.0,
        }),
        EventData::ReplicaRestarted(ReplicaRestarted {
            instance: i(),
            reason: "signal 9".into(),
            cause: RestartCause::Exit,
            restarts: 1,
            restarts_in_window: 1,
            max_restarts: 10,
            down_seconds: 1.02,
            forensics: Some(Box::new(Forensics { memory_bytes: Some(5 << 20), ..Forensics::default() })),
        }),
        EventData::ReplicaRestartSucceeded(ReplicaRestartSucceeded {
            instance: i(),
            min_uptime_seconds: 10.0,
        }),
        EventData::ReplicaRestartFailed(ReplicaRestartFailed {
            instance: i(),
            reason: "exit 1".into(),
            uptime_seconds: 0.1,
            failed_in_a_row: 2,
        }),
        EventData::ReplicaHeld(ReplicaHeld { instance: i(), action: "restart".into(), hold: hold() }),
        EventData::ReplicaReleased(ReplicaReleased {
            instance: i(),
            action: "restart".into(),
            by: "dependency".into(),
            held_seconds: 12.0,
            outcome: "dissolved".into(),
        }),
        EventData::ReplicaFailed(ReplicaFailed {
            instance: i(),
            reason: "10 restarts in 10m".into(),
            budget_exhausted: true,
            last_reasons: vec!["exit 1".into()],
            hint: "bring it back with `hale restart web-0`".into(),
        }),
        EventData::ReplicaStopped(ReplicaStopped {
            instance: i(),
            reason: "person".into(),
            exit: Some(exit),
        }),
        EventData::ReplicaStopFailed(ReplicaStopFailed { instance: i(), detail: "pid 4711 is left".into() }),
        EventData::ReplicaFlapping(ReplicaFlapping { instance: i(), penalty: 6.4, suppress: 6.0 }),
        EventData::ReplicaFlappingEnded(ReplicaFlappingEnded {
            instance: i(),
            penalty: 1.9,
            held_seconds: 200.0,
        }),
        EventData::ReplicaPaused(ReplicaPaused {
            instance: i(),
            probe: Some(ProbeKind::Liveness),
            by: "ann".into(),
            reason: "debugging".into(),
            until: Some(at()),
        }),
        EventData::ReplicaResumed(ReplicaResumed { instance: i(), probe: None, by: "expired".into() }),
        EventData::ReplicaWouldHave(ReplicaWouldHave {
            instance: i(),
            action: "restart".into(),
            reason: "liveness: timeout 3/3".into(),
        }),
        EventData::ReplicaProberError(ReplicaProberError {
            instance: i(),
            probe: ProbeKind::Liveness,
            detail: "too many open files".into(),
        }),
        EventData::ReplicaOutOfMemory(ReplicaOutOfMemory { instance: i(), limit_bytes: Some(64 << 20) }),
        EventData::ReplicaWarning(ReplicaWarning {
            instance: i(),
            code: "healthcheck_not_run".into(),
            detail: "the HEALTHCHECK of the image is never run here".into(),
        }),
        EventData::WorkloadApplied(WorkloadApplied { change: "created".into(), replicas: 2 }),
        EventData::TargetProbeFailed(TargetProbeFailed {
            consecutive_failures: 3,
            last_status: 0,
            last_reason: Reason::ConnectionRefused,
            last_error: "nothing listens on 127.0.0.1:9000".into(),
            since: None,
            declaration: String::new(),
            about: Default::default(),
        }),
        EventData::TargetProbeRecovered(TargetProbeRecovered {
            prior_failure_count: 7,
            down_for: 105.0,
            about: Default::default(),
        }),
        EventData::TargetForgotten(TargetForgotten {
            reason: "it left the list".into(),
            about: TargetOrigin {
                list: Some("shop".into()),
                replica: Some("web-0".into()),
                container_id: Some("4c01db0b339c".into()),
                labels: [("env".to_owned(), "prod".to_owned())].into(),
            },
        }),
        EventData::TargetPaused(TargetPaused {
            by: "ada".into(),
            reason: "moving house".into(),
            until: Some(at()),
        }),
        EventData::TargetResumed(TargetResumed { by: "expired".into() }),
        EventData::NodeStarted(NodeStarted { version: "0.1.0".into() }),
        EventData::NodeStopping(NodeStopping { reason: "SIGTERM".into() }),
        EventData::NodeObserverSuspect(NodeObserverSuspect {
            failing: 6,
            probes: 8,
            verdict: "self_suspect: loopback took 900 ms".into(),
        }),
    ]
    .into_iter()
    .chain(decided())
    .chain(responded())
    .collect()
}

/// What a server decides.
fn decided() -> Vec<EventData> {
    let instance =
        || Instance { workload: "web".into(), node: "n2".into(), generation: 7, ..Instance::default() };
    vec![
        EventData::ReplicaPlaced(ReplicaPlaced {
            instance: instance(),
            cause: PlacementCause::NodeLost,
            reason: "1 of 3 nodes may take it".into(),
            replaces: Some(3),
        }),
        EventData::ReplicaWithdrawn(ReplicaWithdrawn { instance: instance(), reason: "scaled down".into() }),
        EventData::ReplicaUnplaceable(ReplicaUnplaceable {
            workload: "web".into(),
            reason: "2 nodes: 1 cordoned, 1 port 8080 is taken".into(),
        }),
        EventData::WorkloadUpdated(WorkloadUpdated { digest: "d2".into(), replicas: 3 }),
        EventData::WorkloadRolledBack(WorkloadRolledBack {
            digest: "d2".into(),
            to: "d1".into(),
            reason: "web-0 was not ready within 600s".into(),
        }),
        EventData::WorkloadUpdateStalled(WorkloadUpdateStalled {
            digest: "d2".into(),
            reason: "web-0 was not ready within 600s".into(),
        }),
        EventData::NodeLost(NodeLost { silent_seconds: 15.0, replicas: 10 }),
        EventData::NodeReady(NodeReady { was: NodeCondition::Lost }),
        EventData::NodeDrained(NodeDrained {}),
        EventData::ClusterBraked(ClusterBraked { silent: 6, nodes: 10 }),
        EventData::ClusterBrakeReleased(ClusterBrakeReleased { silent: 5, nodes: 10, held_seconds: 31.5 }),
        EventData::DeploymentDegraded(deployment(Status::Degraded)),
        EventData::DeploymentFailing(deployment(Status::Failing)),
        EventData::DeploymentRecovered(deployment(Status::Healthy)),
        EventData::DiagnosticsCompleted(DiagnosticsCompleted {
            request_id: "r1".into(),
            deployment_object_id: Some("o1".into()),
            replica: None,
            agent_id: "a1".into(),
            requested_by: "ann".into(),
            status: DiagnosticsStatus::Failed,
            error: Some("diagnostics_disabled".into()),
        }),
    ]
}

/// What a responder tells.
fn responded() -> Vec<EventData> {
    vec![
        EventData::RunStarted(RunStarted { run: run(0) }),
        EventData::RunSucceeded(RunSucceeded { run: run(0), reason: "exit 0".into(), run_seconds: 12.0 }),
        EventData::RunFailed(RunFailed {
            run: run(1),
            state: RunFailure::TimedOut,
            reason: "ended after 300s".into(),
            exit_code: None,
            signal: Some(9),
            run_seconds: Some(305.0),
        }),
        EventData::RunAwaitingApproval(RunAwaitingApproval {
            run: run(0),
            until: Some(at()),
            command: vec!["fix-it".into(), "web-0".into()],
        }),
        EventData::RunDecided(RunDecided {
            run: run(0),
            approved: true,
            by: "ann via cli".into(),
            reason: "approved by ann via cli: go on".into(),
        }),
        EventData::RunWouldHave(RunWouldHave { run: run(0), command: vec!["fix-it".into(), "web-0".into()] }),
        EventData::RunEscalated(RunEscalated {
            run: run(0),
            next: "program page-me".into(),
            next_run: Some("r2".into()),
            reason: "exit 1".into(),
        }),
        EventData::AlertExpired(AlertExpired {
            run: run(0),
            age_seconds: 601.0,
            max_age_seconds: 600.0,
            reason: "its turn did not come".into(),
        }),
        EventData::AlertDropped(AlertDropped {
            run: run(0),
            reason: "10 wait for eu-1 already; the oldest gave way".into(),
        }),
        EventData::BreakerOpened(BreakerOpened {
            responder: "shop".into(),
            breaker: "failure".into(),
            reason: "3 runs failed in a row".into(),
        }),
        EventData::BreakerClosed(BreakerClosed {
            responder: "shop".into(),
            breaker: "failure".into(),
            open_seconds: 60.0,
            reason: "a run succeeded".into(),
        }),
    ]
}

fn run(step: u32) -> RunFacts {
    RunFacts {
        responder: "shop".into(),
        rule: "crashes".into(),
        cluster: "eu-1".into(),
        resource: AlertResource { kind: "Pod".into(), namespace: Some("shop".into()), name: "web-0".into() },
        fault_type: "CrashLoop".into(),
        alert_severity: AlertSeverity::Error,
        alert: "a1".into(),
        step,
    }
}

fn deployment(to: Status) -> DeploymentChanged {
    DeploymentChanged {
        stack: "shop".into(),
        stack_id: "s1".into(),
        deployment_object_id: "o1".into(),
        agent: "eu-1".into(),
        agent_id: "a1".into(),
        from: Some(Status::Healthy),
        to,
        pods_ready: 1,
        pods_total: 3,
        conditions: ["CrashLoopBackOff".to_owned()].into(),
        reason: "1/3 pods ready, CrashLoopBackOff".into(),
    }
}

#[test]
fn the_list_of_types_is_the_list_of_events() {
    let kinds: Vec<&str> = one_of_each().iter().map(EventData::kind).collect();
    assert_eq!(kinds, EventData::TYPES);
}

#[test]
fn every_event_survives_being_written_and_read() {
    for (id, data) in (42..).zip(one_of_each()) {
        let kind = data.kind();
        let event = NewEvent { time: at(), source: "/nodes/local".into(), subject: "web-0".into(), data };
        let event = Event::new(id, event);
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event, "{text}");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["type"], kind);
        assert_eq!(value["id"], id.to_string());
    }
}

#[test]
fn an_event_is_a_cloudevent_of_the_agreed_form() {
    let data = one_of_each().swap_remove(8);
    let event = NewEvent { time: at(), source: "/nodes/local".into(), subject: "web-0".into(), data };
    insta::assert_snapshot!(serde_json::to_string_pretty(&Event::new(42, event)).unwrap());
}

#[test]
fn every_event_has_one_line_for_people() {
    let lines: Vec<String> = one_of_each()
        .iter()
        .map(|data| format!("{:<8} {:<36} {}", data.severity().as_str(), data.kind(), data.message()))
        .collect();
    assert!(lines.iter().all(|line| !line.contains('\n')));
    insta::assert_snapshot!(lines.join("\n"));
}

fn replica() -> ReplicaStatus {
    ReplicaStatus {
        name: "web-0".into(),
        status: Status::Healthy,
        node: "local".into(),
        phase: Phase::Running,
        ready: true,
        flapping: false,
        restarting: false,
        paused: false,
        held_by: None,
        pid: Some(4711),
        address: Some("127.0.0.1".into()),
        ports: BTreeMap::from([("http".into(), 40001)]),
        container_id: None,
        runtime: "process".into(),
        restarts: 1,
        restarts_in_window: 1,
        last_exit: Some(ExitStatus::new(Exit::signal(9), at())),
        last_error: Some("liveness: timeout 3/3".into()),
        status_text: None,
        observed_at: at(),
        stale: false,
        started_at: Some(at()),
        uptime_seconds: Some(12.5),
        next_start_at: None,
        generation: 3,
        incarnation: 2,
        probes: BTreeMap::from([(
            "liveness".into(),
            ProbeStatus {
                ok: Some(true),
                consecutive_failures: 0,
                consecutive_successes: 4,
                failure_threshold: 3,
                last_outcome_at: Some(at()),
                last_reason: None,
                last_detail: None,
                last_duration_ms: Some(0.4),
                prober_errors: 0,
                paused: false,
            },
        )]),
        last_transition: Some(TransitionStatus { at: at(), reason: "liveness: timeout 3/3".into() }),
        possibly_running_on: Vec::new(),
    }
}

#[test]
fn a_status_has_the_agreed_form_and_survives_being_written_and_read() {
    let overview = Overview {
        status: Status::Degraded,
        at: at(),
        workloads: vec![WorkloadStatus {
            name: "web".into(),
            status: Status::Degraded,
            note: None,
            desired: 2,
            ready: 1,
            address: None,
            replicas: vec![replica()],
        }],
        targets: vec![TargetStatus {
            name: "billing-api".into(),
            status: Status::Failing,
            since: Some(at()),
            consecutive_failures: 7,
            last_reason: Some(Reason::ConnectionRefused),
            last_detail: None,
            last_outcome_at: None,
            paused: false,
            prober_errors: 0,
            members: None,
            origin: Default::default(),
        }],
        nodes: vec![NodeStatus::new("local", Status::Healthy, at())],
    };
    let text = serde_json::to_string_pretty(&overview).unwrap();
    assert_eq!(serde_json::from_str::<Overview>(&text).unwrap(), overview);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let contract: serde_json::Value = serde_json::from_str(include_str!("status.json")).unwrap();
    assert_holds(&value, &contract, "status");
    insta::assert_snapshot!(text);
}

/// Everything of the contract is there with the same value; more fields may be.
fn assert_holds(value: &serde_json::Value, contract: &serde_json::Value, place: &str) {
    use serde_json::Value;
    match (value, contract) {
        (Value::Object(has), Value::Object(wants)) => {
            for (key, want) in wants {
                let got = has.get(key).unwrap_or_else(|| panic!("{place}.{key} is missing"));
                assert_holds(got, want, &format!("{place}.{key}"));
            }
        }
        (Value::Array(has), Value::Array(wants)) => {
            assert_eq!(has.len(), wants.len(), "{place}");
            for (n, (got, want)) in has.iter().zip(wants).enumerate() {
                assert_holds(got, want, &format!("{place}[{n}]"));
            }
        }
        (got, want) => assert_eq!(got, want, "{place}"),
    }
}
