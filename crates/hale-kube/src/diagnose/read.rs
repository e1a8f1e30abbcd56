//! Pods and events as diagnostics tell of them: read from the cluster's objects, whatever is in them.

use std::collections::BTreeSet;

use hale_api::kube::{BundleEvent, ContainerStatus, LastState, PodCondition, PodStatus};
use jiff::Timestamp;
use serde_json::Value;

use crate::judge::parse_time;

/// What is said of things that could not be made. They are about what was to make them, which may be unknown.
const FAILED_CREATIONS: [&str; 4] =
    ["FailedCreate", "FailedKillPod", "ReplicaSetCreateError", "UnexpectedJob"];

fn word(value: &Value) -> Option<String> {
    value.as_str().filter(|it| !it.is_empty()).map(str::to_owned)
}

fn moment(value: &Value) -> Option<Timestamp> {
    value.as_str().and_then(parse_time)
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64().map(|it| u32::try_from(it).unwrap_or(u32::MAX))
}

fn code(value: &Value) -> Option<i32> {
    value.as_i64().and_then(|it| i32::try_from(it).ok())
}

fn each(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

/// A pod.
pub(super) fn pod(object: &Value) -> PodStatus {
    let status = &object["status"];
    let init = each(&status["initContainerStatuses"]).map(|it| container(it, true));
    let main = each(&status["containerStatuses"]).map(|it| container(it, false));
    PodStatus {
        name: word(&object["metadata"]["name"]).unwrap_or_default(),
        namespace: word(&object["metadata"]["namespace"]).unwrap_or_default(),
        phase: word(&status["phase"]).unwrap_or_else(|| "Unknown".to_owned()),
        node: word(&object["spec"]["nodeName"]),
        reason: word(&status["reason"]),
        message: word(&status["message"]),
        conditions: each(&status["conditions"]).filter_map(condition).collect(),
        container_statuses: init.chain(main).collect(),
    }
}

fn condition(it: &Value) -> Option<PodCondition> {
    Some(PodCondition {
        kind: word(&it["type"])?,
        status: word(&it["status"]).unwrap_or_else(|| "Unknown".to_owned()),
        reason: word(&it["reason"]),
        message: word(&it["message"]),
        since: moment(&it["lastTransitionTime"]),
    })
}

fn container(it: &Value, init: bool) -> ContainerStatus {
    let (state, told) = match &it["state"] {
        state if state["terminated"].is_object() => ("terminated", &state["terminated"]),
        state if state["running"].is_object() => ("running", &state["running"]),
        state => ("waiting", &state["waiting"]),
    };
    ContainerStatus {
        name: word(&it["name"]).unwrap_or_default(),
        init,
        ready: it["ready"].as_bool().unwrap_or(false),
        state: state.to_owned(),
        reason: word(&told["reason"]),
        message: word(&told["message"]),
        restarts: number(&it["restartCount"]).unwrap_or(0),
        exit_code: code(&told["exitCode"]),
        started_at: moment(&told["startedAt"]),
        finished_at: moment(&told["finishedAt"]),
        last_state: Some(&it["lastState"]["terminated"]).filter(|it| it.is_object()).map(|it| LastState {
            state: "terminated".to_owned(),
            reason: word(&it["reason"]),
            message: word(&it["message"]),
            exit_code: code(&it["exitCode"]),
            started_at: moment(&it["startedAt"]),
            finished_at: moment(&it["finishedAt"]),
        }),
    }
}

/// A container whose log is wanted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LogWanted {
    pub(super) container: String,
    /// Of the instance before, because that crashed.
    pub(super) previous: bool,
}

/// The logs that a pod may have: of each container that has begun, and of the instance before it where that crashed.
/// The second says which containers have none yet.
pub(super) fn logs_of(pod: &PodStatus) -> (Vec<LogWanted>, Vec<String>) {
    let (mut wanted, mut none) = (Vec::new(), Vec::new());
    for it in &pod.container_statuses {
        let crashed = it.last_state.as_ref().is_some_and(|last| last.exit_code != Some(0));
        let begun = it.state != "waiting" || it.restarts > 0 || it.last_state.is_some();
        if begun {
            wanted.push(LogWanted { container: it.name.clone(), previous: false });
        } else {
            none.push(it.name.clone());
        }
        if crashed && it.restarts > 0 {
            wanted.push(LogWanted { container: it.name.clone(), previous: true });
        }
    }
    (wanted, none)
}

/// What is asked of the events of a namespace.
pub(super) struct EventsOf<'a> {
    /// The uids of all that the deployment object owns.
    pub(super) uids: &'a BTreeSet<String>,
    /// The kinds and names of what should be there and is not.
    pub(super) missing: &'a BTreeSet<(String, String)>,
    /// Not older than this.
    pub(super) since: Timestamp,
}

/// An event that is wanted. The scheduler's have null `firstTimestamp` and `lastTimestamp` and no `count`: then
/// `eventTime` and `series` say it.
pub(super) fn event(it: &Value, of: &EventsOf<'_>) -> Option<BundleEvent> {
    let about = [&it["involvedObject"], &it["regarding"]].into_iter().find(|it| it.is_object())?;
    let reason = word(&it["reason"]).unwrap_or_default();
    let uid = about["uid"].as_str().unwrap_or_default();
    let named = || (word(&about["kind"]).unwrap_or_default(), word(&about["name"]).unwrap_or_default());
    let wanted = of.uids.contains(uid)
        || FAILED_CREATIONS.contains(&reason.as_str())
        || (!of.missing.is_empty() && of.missing.contains(&named()));
    if !wanted {
        return None;
    }
    let times = [
        "firstTimestamp",
        "deprecatedFirstTimestamp",
        "eventTime",
        "lastTimestamp",
        "deprecatedLastTimestamp",
    ];
    let mut times: Vec<Timestamp> = times.into_iter().filter_map(|key| moment(&it[key])).collect();
    times.extend(moment(&it["series"]["lastObservedTime"]));
    if times.is_empty() {
        times.extend(moment(&it["metadata"]["creationTimestamp"]));
    }
    let (first, last) = (times.iter().min().copied(), times.iter().max().copied());
    if last.is_some_and(|it| it < of.since) {
        return None;
    }
    let counts = [&it["count"], &it["deprecatedCount"], &it["series"]["count"]];
    let (kind, name) = named();
    let object = match about["namespace"].as_str() {
        Some(namespace) => format!("{kind}/{namespace}/{name}"),
        None => format!("{kind}/{name}"),
    };
    Some(BundleEvent {
        kind: word(&it["type"]).unwrap_or_else(|| "Normal".to_owned()),
        reason,
        message: word(&it["message"]).or_else(|| word(&it["note"])).unwrap_or_default(),
        object,
        first_seen: first,
        last_seen: last,
        count: counts.into_iter().filter_map(number).max().unwrap_or(1).max(1),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_schedulers_events_have_their_time_elsewhere() {
        let told = json!({"type":"Warning","reason":"FailedScheduling","message":"0/1 nodes","firstTimestamp":null,
            "lastTimestamp":null,"eventTime":"2026-11-22T05:49:01.000001Z",
            "series":{"count":7,"lastObservedTime":"2026-11-22T05:52:01.000001Z"},
            "involvedObject":{"kind":"Pod","namespace":"shop","name":"web-1","uid":"u1"}});
        let uids = BTreeSet::from(["u1".to_owned()]);
        let since: Timestamp = "2026-11-22T05:51:00Z".parse().unwrap();
        let of = EventsOf { uids: &uids, missing: &BTreeSet::new(), since };
        let said = event(&told, &of).unwrap();
        assert_eq!((said.count, said.object.as_str()), (7, "Pod/shop/web-1"));
        assert!(said.first_seen < said.last_seen);
        let later: Timestamp = "2026-11-22T05:53:00Z".parse().unwrap();
        assert_eq!(event(&told, &EventsOf { since: later, ..of }), None);
    }

    #[test]
    fn the_log_before_a_crash_is_wanted_and_none_of_what_never_ran() {
        let told = pod(&json!({"metadata":{"name":"a"},"status":{"containerStatuses":[
            {"name":"web","restartCount":3,"state":{"waiting":{"reason":"CrashLoopBackOff"}},
             "lastState":{"terminated":{"exitCode":1,"reason":"Error"}}},
            {"name":"new","restartCount":0,"state":{"waiting":{"reason":"ContainerCreating"}}},
            {"name":"ok","ready":true,"restartCount":0,"state":{"running":{}}}]}}));
        let began = |json: Value| container(&json, false).last_state.unwrap().started_at;
        assert_eq!(
            began(json!({"lastState":{"terminated":{"exitCode":128,"startedAt":"1970-01-01T00:00:00Z"}}})),
            None
        );
        let (wanted, none) = logs_of(&told);
        let wanted: Vec<_> = wanted.iter().map(|it| (it.container.as_str(), it.previous)).collect();
        assert_eq!(wanted, [("web", false), ("web", true), ("ok", false)]);
        assert_eq!(none, ["new"]);
    }
}
