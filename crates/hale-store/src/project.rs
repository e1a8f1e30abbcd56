//! What the events of a replica add up to. Pure.

use hale_model::{
    Phase,
    event::{EventData, Instance, NewEvent},
    status::TransitionStatus,
};

use crate::ReplicaRecord;

/// The record after an event; `None` when the event says nothing about a replica, or is about an older run.
pub(crate) fn apply(known: Option<&ReplicaRecord>, event: &NewEvent) -> Option<ReplicaRecord> {
    let instance = event.data.instance()?;
    if known.is_some_and(|it| (it.generation, it.incarnation) > (instance.generation, instance.incarnation)) {
        return None;
    }
    let mut record = known.cloned().unwrap_or_else(|| new(&event.subject));
    identify(&mut record, instance);
    let mut moved = |phase: Option<Phase>, ready: Option<bool>, reason: &str| {
        record.phase = phase.unwrap_or(record.phase);
        record.ready = ready.unwrap_or(record.ready);
        record.last_transition = Some(TransitionStatus { at: event.time, reason: reason.to_owned() });
    };
    match &event.data {
        EventData::ReplicaStarting(it) => {
            moved(Some(Phase::Starting), Some(false), &it.reason);
            record.restarts = record.restarts.max(it.restarts);
            record.started_at = Some(event.time);
        }
        EventData::ReplicaRunning(it) => moved(Some(Phase::Running), None, &it.reason),
        EventData::ReplicaReady(it) => moved(None, Some(true), &it.reason),
        EventData::ReplicaNotReady(it) => moved(None, Some(false), &it.reason),
        EventData::ReplicaUnhealthy(it) => {
            let reason = format!(
                "{}: {} {}/{}",
                it.probe, it.probe_reason, it.consecutive_failures, it.failure_threshold
            );
            moved(Some(Phase::Unhealthy), None, &reason);
            record.last_error = Some(reason);
        }
        EventData::ReplicaExited(it) => {
            record.ready = false;
            record.pid = None;
            record.last_exit = Some(it.exit.clone());
        }
        EventData::ReplicaRestarting(it) => {
            moved(Some(Phase::Restarting), Some(false), &it.reason);
            record.last_error = Some(it.reason.clone());
        }
        EventData::ReplicaRestarted(it) => record.restarts = it.restarts,
        EventData::ReplicaFailed(it) => {
            moved(Some(Phase::Failed), Some(false), &it.reason);
            record.pid = None;
            record.last_error = Some(it.reason.clone());
        }
        EventData::ReplicaStopped(it) => {
            moved(Some(Phase::Stopped), Some(false), &it.reason);
            record.pid = None;
            record.last_exit = it.exit.clone().or(record.last_exit);
        }
        _ => {}
    }
    Some(record)
}

fn new(name: &str) -> ReplicaRecord {
    ReplicaRecord {
        name: name.to_owned(),
        workload: String::new(),
        node: String::new(),
        generation: 0,
        incarnation: 0,
        phase: Phase::Pending,
        ready: false,
        restarts: 0,
        pid: None,
        container_id: None,
        started_at: None,
        last_exit: None,
        last_error: None,
        last_transition: None,
    }
}

fn identify(record: &mut ReplicaRecord, instance: &Instance) {
    record.workload.clone_from(&instance.workload);
    record.node.clone_from(&instance.node);
    record.generation = instance.generation;
    record.incarnation = instance.incarnation;
    record.pid = instance.pid;
    record.container_id.clone_from(&instance.container_id);
}

#[cfg(test)]
mod tests {
    use hale_model::{
        Exit,
        event::{ReplicaExited, ReplicaReady, ReplicaRestarted, ReplicaStarting, RestartCause},
        status::ExitStatus,
    };
    use jiff::Timestamp;

    use super::*;

    fn instance(incarnation: u64) -> Instance {
        Instance {
            workload: "web".to_owned(),
            node: "local".to_owned(),
            runtime: "process".to_owned(),
            pid: Some(100),
            container_id: None,
            generation: 1,
            incarnation,
        }
    }

    fn event(second: i64, data: EventData) -> NewEvent {
        NewEvent {
            time: Timestamp::from_second(second).unwrap(),
            source: "/nodes/local".to_owned(),
            subject: "web-0".to_owned(),
            data,
        }
    }

    fn life() -> Vec<NewEvent> {
        let starting = |incarnation, restarts| {
            EventData::ReplicaStarting(ReplicaStarting {
                instance: instance(incarnation),
                reason: "declared".to_owned(),
                restarts,
            })
        };
        let ready = |incarnation| {
            EventData::ReplicaReady(ReplicaReady {
                instance: instance(incarnation),
                reason: "readiness: 1/1".to_owned(),
                not_ready_seconds: None,
            })
        };
        vec![
            event(1, starting(1, 0)),
            event(2, ready(1)),
            event(
                3,
                EventData::ReplicaExited(ReplicaExited {
                    instance: instance(1),
                    exit: ExitStatus::new(Exit::signal(9), Timestamp::from_second(3).unwrap()),
                    expected: false,
                    uptime_seconds: 2.0,
                }),
            ),
            event(4, starting(2, 1)),
            event(
                4,
                EventData::ReplicaRestarted(ReplicaRestarted {
                    instance: instance(2),
                    reason: "signal 9".to_owned(),
                    cause: RestartCause::Exit,
                    restarts: 1,
                    restarts_in_window: 1,
                    max_restarts: 10,
                    down_seconds: 1.0,
                    forensics: None,
                }),
            ),
            event(5, ready(2)),
        ]
    }

    #[test]
    fn a_life_adds_up() {
        let record = life().iter().fold(None, |known, event| apply(known.as_ref(), event)).unwrap();
        assert_eq!((record.restarts, record.incarnation, record.ready), (1, 2, true));
        assert_eq!(record.pid, Some(100));
        assert_eq!(record.last_exit.unwrap().signal, Some(9));
        assert_eq!(record.started_at, Some(Timestamp::from_second(4).unwrap()));
    }

    #[test]
    fn an_event_of_an_older_run_changes_nothing() {
        let events = life();
        let record = events.iter().fold(None, |known, event| apply(known.as_ref(), event)).unwrap();
        assert_eq!(apply(Some(&record), &events[2]), None);
    }
}
