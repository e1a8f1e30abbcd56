//! Events and outcomes to write.

use hale_model::{
    ProbeKind, Reason,
    event::{EventData, Instance, NewEvent, NodeStarted, ReplicaReady, TargetProbeFailed},
    report::{OutcomeRecord, SeriesPiece},
    series::{Bucket, FINE},
};
use jiff::Timestamp;

pub(crate) fn started(version: &str) -> NewEvent {
    NewEvent {
        time: Timestamp::now(),
        source: "/nodes/local".to_owned(),
        subject: "local".to_owned(),
        data: EventData::NodeStarted(NodeStarted { version: version.to_owned() }),
    }
}

pub(crate) fn instance(incarnation: u64) -> Instance {
    Instance { workload: "web".to_owned(), node: "local".to_owned(), incarnation, ..Instance::default() }
}

pub(crate) fn about(subject: &str, data: EventData) -> NewEvent {
    NewEvent { subject: subject.to_owned(), data, ..started("") }
}

pub(crate) fn ready(replica: &str) -> NewEvent {
    let data =
        ReplicaReady { instance: instance(1), reason: "readiness: 1/1".to_owned(), not_ready_seconds: None };
    about(replica, EventData::ReplicaReady(data))
}

pub(crate) fn failed(target: &str) -> NewEvent {
    let data = TargetProbeFailed {
        consecutive_failures: 3,
        last_status: 0,
        last_reason: Reason::Timeout,
        last_error: "no answer within 2s".to_owned(),
        since: None,
        declaration: String::new(),
        about: Default::default(),
    };
    about(target, EventData::TargetProbeFailed(data))
}

pub(crate) fn outcome(subject: &str, second: i64, reason: Option<Reason>) -> OutcomeRecord {
    OutcomeRecord {
        subject: subject.to_owned(),
        probe: Some(ProbeKind::Liveness),
        incarnation: 1,
        at: Timestamp::from_second(1_700_000_000 + second).unwrap(),
        took_ms: 1.5,
        reason,
        detail: reason.map(|it| it.to_string()),
        consecutive: 1,
        threshold: 3,
    }
}

/// One success that took so many milliseconds.
pub(crate) fn piece(subject: &str, start: u64, ms: u64) -> SeriesPiece {
    let mut bucket = Bucket::new(start, FINE);
    bucket.successes = 1;
    bucket.latency.record(std::time::Duration::from_millis(ms));
    SeriesPiece { subject: subject.to_owned(), probe: None, bucket }
}
