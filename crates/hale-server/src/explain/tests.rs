use std::collections::BTreeMap;

use hale_api::outcomes::ProbeHistory;
use hale_model::{
    Exit, ProbeKind,
    event::{
        Forensics, Instance, NewEvent, ReplicaExited, ReplicaReady, ReplicaRestarted, ReplicaRestarting,
        ReplicaRunning, ReplicaStarting, ReplicaUnhealthy, RestartCause, TargetProbeFailed,
    },
    status::{ExitStatus, HoldStatus, TransitionStatus},
};

use super::*;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_767_225_600_000 + millis).unwrap()
}

fn instance(incarnation: u64) -> Instance {
    Instance { workload: "web".to_owned(), pid: Some(100), incarnation, ..Instance::default() }
}

fn events(subject: &str, all: Vec<(i64, EventData)>) -> Vec<Arc<Event>> {
    let event = |(id, (time, data)): (usize, (i64, EventData))| {
        let source = "/nodes/local".to_owned();
        let event = NewEvent { time: at(time), source, subject: subject.to_owned(), data };
        Arc::new(Event::new(id as u64 + 1, event))
    };
    all.into_iter().enumerate().map(event).collect()
}

/// Outcomes one second apart, `.` for success and `x` for failure, with the counts the machine would give them.
fn outcomes(
    probe: Option<ProbeKind>,
    incarnation: u64,
    from: i64,
    marks: &str,
    threshold: u32,
) -> Vec<OutcomeRecord> {
    let mut made: Vec<OutcomeRecord> = Vec::new();
    for (index, mark) in (0_i64..).zip(marks.chars()) {
        let reason = (mark == 'x').then_some(Reason::Timeout);
        let consecutive = made.last().filter(|it| it.reason == reason).map_or(1, |it| it.consecutive + 1);
        made.push(OutcomeRecord {
            subject: "web-0".to_owned(),
            probe,
            incarnation,
            at: at(from + index * 1000),
            took_ms: if mark == 'x' { 500.0 } else { 2.0 },
            reason,
            detail: reason.map(|_| "no answer within 500ms".to_owned()),
            consecutive,
            threshold: if mark == 'x' { threshold } else { 1 },
        });
    }
    made
}

fn status() -> ReplicaStatus {
    ReplicaStatus {
        name: "web-0".to_owned(),
        status: Status::Healthy,
        node: "local".to_owned(),
        phase: Phase::Running,
        ready: true,
        flapping: false,
        restarting: false,
        paused: false,
        held_by: None,
        pid: Some(100),
        address: None,
        ports: BTreeMap::new(),
        container_id: None,
        runtime: "process".to_owned(),
        restarts: 1,
        restarts_in_window: 1,
        last_exit: None,
        last_error: None,
        status_text: None,
        observed_at: at(0),
        stale: false,
        started_at: None,
        uptime_seconds: None,
        next_start_at: None,
        generation: 1,
        incarnation: 2,
        probes: BTreeMap::new(),
        last_transition: None,
        possibly_running_on: Vec::new(),
    }
}

fn text(explanation: &Explanation) -> String {
    let mut text = format!("{} is {}: {}\n", explanation.subject, explanation.status, explanation.summary);
    for step in &explanation.steps {
        text.push_str(&format!("{} {}\n", step.at.strftime("%M:%S%.3f"), step.text));
    }
    for pending in &explanation.pending {
        text.push_str(&format!("pending: {pending}\n"));
    }
    text
}

fn first_life() -> Vec<(i64, EventData)> {
    let starting = ReplicaStarting { instance: instance(1), reason: "declared".to_owned(), restarts: 0 };
    let running = ReplicaRunning {
        instance: instance(1),
        reason: "no startup probe".to_owned(),
        startup_seconds: 0.003,
    };
    let ready =
        ReplicaReady { instance: instance(1), reason: "readiness: 1/1".to_owned(), not_ready_seconds: None };
    vec![
        (0, EventData::ReplicaStarting(starting)),
        (3, EventData::ReplicaRunning(running)),
        (102, EventData::ReplicaReady(ready)),
    ]
}

fn trip_and_restart() -> Vec<(i64, EventData)> {
    vec![
        (
            12_500,
            EventData::ReplicaUnhealthy(ReplicaUnhealthy {
                instance: instance(1),
                probe: ProbeKind::Liveness,
                probe_reason: Reason::Timeout,
                detail: "no answer within 500ms".to_owned(),
                consecutive_failures: 3,
                failure_threshold: 3,
                first_failure_at: at(10_000),
            }),
        ),
        (
            12_600,
            EventData::ReplicaExited(ReplicaExited {
                instance: instance(1),
                exit: ExitStatus::new(Exit::signal(15), at(12_600)),
                expected: true,
                uptime_seconds: 12.6,
            }),
        ),
        (
            12_601,
            EventData::ReplicaRestarting(ReplicaRestarting {
                instance: instance(1),
                reason: "liveness: timeout 3/3".to_owned(),
                cause: RestartCause::LivenessFailure,
                restarts_in_window: 1,
                max_restarts: 10,
                backoff_seconds: 1.0,
            }),
        ),
        (
            13_610,
            EventData::ReplicaRestarted(ReplicaRestarted {
                instance: instance(2),
                reason: "liveness: timeout 3/3".to_owned(),
                cause: RestartCause::LivenessFailure,
                restarts: 1,
                restarts_in_window: 1,
                max_restarts: 10,
                down_seconds: 1.01,
                forensics: Some(Box::new(Forensics {
                    memory_bytes: Some(12_900_000),
                    open_files: Some(14),
                    log_tail: vec!["waiting for the lock".to_owned()],
                    ..Forensics::default()
                })),
            }),
        ),
    ]
}

#[test]
fn a_liveness_restart_is_told_outcome_by_outcome_up_to_the_action() {
    let events = events("web-0", [first_life(), trip_and_restart()].concat());
    let liveness = Some(ProbeKind::Liveness);
    let mut history = outcomes(liveness, 1, 1_000, ".........xxx", 3);
    history.extend(outcomes(liveness, 2, 14_000, "....", 3));
    let readiness = outcomes(Some(ProbeKind::Readiness), 1, 100, ".", 3);
    let evidence = Evidence {
        events,
        cut: false,
        history: vec![
            ProbeHistory { probe: liveness, outcomes: history, runs: Vec::new(), series: Vec::new() },
            ProbeHistory {
                probe: Some(ProbeKind::Readiness),
                outcomes: readiness,
                runs: Vec::new(),
                series: Vec::new(),
            },
        ],
    };
    let reason = "readiness: 1/1".to_owned();
    let now =
        ReplicaStatus { last_transition: Some(TransitionStatus { at: at(14_000), reason }), ..status() };
    insta::assert_snapshot!(text(&replica(&now, &evidence, at(18_000))));
}

#[test]
fn what_is_held_back_and_waited_for_is_told() {
    let now = ReplicaStatus {
        status: Status::Degraded,
        phase: Phase::Restarting,
        ready: false,
        paused: true,
        last_error: Some("exit 1".to_owned()),
        last_transition: Some(TransitionStatus { at: at(0), reason: "exit".to_owned() }),
        held_by: Some(HoldStatus {
            by: "pause".to_owned(),
            since: at(0),
            until: Some(at(60_000)),
            reason: "deploying".to_owned(),
        }),
        next_start_at: Some(at(9_500)),
        ..status()
    };
    insta::assert_snapshot!(text(&replica(&now, &Evidence::default(), at(5_000))));
}

#[test]
fn a_target_that_fails_on_is_folded_at_its_threshold() {
    let failed = TargetProbeFailed {
        consecutive_failures: 3,
        last_status: 0,
        last_reason: Reason::Timeout,
        last_error: "no answer within 500ms".to_owned(),
        since: None,
        declaration: String::new(),
        about: Default::default(),
    };
    let evidence = Evidence {
        events: events("billing", vec![(0, EventData::TargetProbeFailed(failed))]),
        cut: false,
        history: vec![ProbeHistory {
            probe: None,
            outcomes: outcomes(None, 0, -2_500, "xxxxxxxxxx", 3),
            runs: Vec::new(),
            series: Vec::new(),
        }],
    };
    let now = TargetStatus {
        name: "billing".to_owned(),
        status: Status::Failing,
        since: Some(at(0)),
        consecutive_failures: 10,
        last_reason: Some(Reason::Timeout),
        last_detail: None,
        last_outcome_at: None,
        paused: false,
        prober_errors: 0,
        members: None,
        origin: Default::default(),
    };
    insta::assert_snapshot!(text(&target(&now, &evidence, at(8_000))));
}

#[test]
fn successes_that_change_nothing_are_left_out_but_the_last() {
    let steps = outcome_steps(&ProbeHistory {
        probe: Some(ProbeKind::Readiness),
        outcomes: outcomes(Some(ProbeKind::Readiness), 1, 0, ".....x.....xx...", 3),
        runs: Vec::new(),
        series: Vec::new(),
    });
    let texts: Vec<&str> = steps.iter().map(|(_, it)| it.text.as_str()).collect();
    insta::assert_snapshot!(texts.join("\n"));
}

fn probe(ok: Option<bool>, consecutive_failures: u32, prober_errors: u32) -> ProbeStatus {
    ProbeStatus {
        ok,
        consecutive_failures,
        consecutive_successes: 0,
        failure_threshold: 3,
        last_outcome_at: None,
        last_reason: None,
        last_detail: None,
        last_duration_ms: None,
        prober_errors,
        paused: false,
    }
}

#[test]
fn what_comes_next_is_told_and_a_start_that_is_due_already_is_not() {
    let told = |status: ReplicaStatus| replica(&status, &Evidence::default(), at(5_000)).pending;
    let given_up = ReplicaStatus { phase: Phase::Failed, ..status() };
    assert_eq!(told(given_up), ["nothing more is tried: mend the cause, then `hale restart web-0`"]);
    let waits = ReplicaStatus { phase: Phase::Pending, next_start_at: Some(at(0)), ..status() };
    assert_eq!(told(waits), Vec::<String>::new());
    let failing = BTreeMap::from([
        ("liveness".to_owned(), probe(Some(true), 2, 0)),
        ("readiness".to_owned(), probe(Some(false), 7, 0)),
    ]);
    assert_eq!(
        told(ReplicaStatus { probes: failing, ready: false, ..status() }),
        [
            "liveness has failed 2 in a row; it is restarted at 3",
            "it gets no traffic until its readiness probe succeeds",
        ]
    );
    let blind = BTreeMap::from([("liveness".to_owned(), probe(Some(true), 0, 4))]);
    let pending = told(ReplicaStatus { probes: blind, ..status() });
    assert_eq!(pending, ["liveness could not be asked ×4; it is tried again and changes nothing"]);
}
