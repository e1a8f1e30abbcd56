//! The facts of objects that health needs, and nothing else of them.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::read::{at, count, each, flag, integer, owned, text, tidy, time};

/// The label by which what belongs to a deployment object is found (K2).
pub const OBJECT_LABEL: &str = "hale.dev/deployment-object-id";

/// The kinds that tell of health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `apps`
    Deployment,
    /// `apps`
    StatefulSet,
    /// `apps`
    DaemonSet,
    /// `apps`
    ReplicaSet,
    /// Core: what replica sets were before.
    ReplicationController,
    /// `batch`
    Job,
    /// `batch`
    CronJob,
    /// Core.
    Pod,
    /// Core.
    PersistentVolumeClaim,
    /// Core.
    Node,
    /// Core, or `events.k8s.io`.
    Event,
}

impl Kind {
    const ALL: [(Self, &'static str, &'static [&'static str]); 11] = [
        (Self::Deployment, "Deployment", &["apps", "extensions"]),
        (Self::StatefulSet, "StatefulSet", &["apps"]),
        (Self::DaemonSet, "DaemonSet", &["apps", "extensions"]),
        (Self::ReplicaSet, "ReplicaSet", &["apps", "extensions"]),
        (Self::ReplicationController, "ReplicationController", &[""]),
        (Self::Job, "Job", &["batch"]),
        (Self::CronJob, "CronJob", &["batch"]),
        (Self::Pod, "Pod", &[""]),
        (Self::PersistentVolumeClaim, "PersistentVolumeClaim", &[""]),
        (Self::Node, "Node", &[""]),
        (Self::Event, "Event", &["", "events.k8s.io"]),
    ];

    /// The kind of an object; none when it tells nothing of health, or is of another API that has the word, too.
    #[must_use]
    pub fn of(api_version: Option<&str>, kind: &str) -> Option<Self> {
        let group = api_version.map(|it| it.split_once('/').map_or("", |(group, _)| group));
        Self::ALL
            .into_iter()
            .find(|(_, word, groups)| *word == kind && group.is_none_or(|it| groups.contains(&it)))
            .map(|(kind, ..)| kind)
    }

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        // The table has all of them.
        Self::ALL.into_iter().find(|(kind, ..)| *kind == self).map_or("", |(_, word, _)| word)
    }
}

/// What every object has.
#[derive(Debug, Clone, Default)]
pub(super) struct Meta {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: Option<String>,
    pub(super) generation: Option<i64>,
    pub(super) created: Option<Timestamp>,
    /// When it is to be gone, if it is being deleted.
    pub(super) deleting: Option<Timestamp>,
    pub(super) controller: Option<Owner>,
    /// The deployment object that its label names (K2).
    pub(super) object: Option<Box<str>>,
}

/// A reference to the object that controls another.
#[derive(Debug, Clone)]
pub(super) struct Owner {
    pub(super) version: Option<String>,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) uid: Option<String>,
}

impl Meta {
    /// None for what has no name: nothing can be said about it.
    pub(super) fn read(value: &Value) -> Option<Self> {
        let owners = each(value, &["metadata", "ownerReferences"]);
        let controller = owners.filter(|it| flag(it, &["controller"]) == Some(true)).find_map(|it| {
            Some(Owner {
                version: owned(it, &["apiVersion"]),
                kind: owned(it, &["kind"])?,
                name: owned(it, &["name"])?,
                uid: owned(it, &["uid"]),
            })
        });
        Some(Self {
            namespace: owned(value, &["metadata", "namespace"]).unwrap_or_default(),
            name: owned(value, &["metadata", "name"])?,
            uid: owned(value, &["metadata", "uid"]),
            generation: integer(value, &["metadata", "generation"]),
            created: time(value, &["metadata", "creationTimestamp"]),
            deleting: time(value, &["metadata", "deletionTimestamp"]),
            controller,
            object: text(value, &["metadata", "labels", OBJECT_LABEL]).map(Into::into),
        })
    }
}

/// One entry of `status.conditions`.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    pub(super) kind: String,
    /// True, False, or nobody knows.
    pub(super) holds: Option<bool>,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) since: Option<Timestamp>,
    pub(super) updated: Option<Timestamp>,
}

/// All of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Conditions(Vec<Condition>);

impl Conditions {
    pub(super) fn read(value: &Value) -> Self {
        let entry = |it: &Value| {
            Some(Condition {
                kind: owned(it, &["type"])?,
                holds: match text(it, &["status"]) {
                    Some("True") => Some(true),
                    Some("False") => Some(false),
                    _ => None,
                },
                reason: owned(it, &["reason"]).unwrap_or_default(),
                message: text(it, &["message"]).map(tidy).unwrap_or_default(),
                since: time(it, &["lastTransitionTime"]),
                updated: time(it, &["lastUpdateTime"]),
            })
        };
        Self(each(value, &["status", "conditions"]).filter_map(entry).collect())
    }

    pub(super) fn get(&self, kind: &str) -> Option<&Condition> {
        self.0.iter().find(|it| it.kind == kind)
    }

    pub(super) fn holds(&self, kind: &str) -> bool {
        self.get(kind).is_some_and(|it| it.holds == Some(true))
    }
}

/// A pod.
#[derive(Debug, Clone)]
pub(super) struct Pod {
    pub(super) meta: Meta,
    pub(super) node: Option<String>,
    pub(super) restarts: Restarts,
    pub(super) phase: Phase,
    pub(super) reason: Option<String>,
    pub(super) message: String,
    pub(super) started: Option<Timestamp>,
    pub(super) conditions: Conditions,
    pub(super) containers: Vec<Container>,
    /// The names of the volume claims it mounts.
    pub(super) claims: Vec<String>,
}

/// When the containers of a pod are started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Restarts {
    Always,
    OnFailure,
    Never,
}

/// Where a pod is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
    /// `Unknown`: its node has not been heard of.
    Lost,
}

impl Pod {
    pub(super) fn read(value: &Value) -> Option<Self> {
        let always = |it: &Value| text(it, &["restartPolicy"]) == Some("Always");
        let sidecars: Vec<&str> = each(value, &["spec", "initContainers"])
            .filter(|it| always(it))
            .filter_map(|it| text(it, &["name"]))
            .collect();
        let specs: Vec<&Value> =
            each(value, &["spec", "containers"]).chain(each(value, &["spec", "initContainers"])).collect();
        let spec = |name: &str| specs.iter().copied().find(|it| text(it, &["name"]) == Some(name));
        let init = each(value, &["status", "initContainerStatuses"]).filter_map(|it| {
            let role = |name: &str| if sidecars.contains(&name) { Role::Sidecar } else { Role::Init };
            Container::read(it, role, spec)
        });
        let main = each(value, &["status", "containerStatuses"])
            .filter_map(|it| Container::read(it, |_| Role::Main, spec));
        Some(Self {
            meta: Meta::read(value)?,
            node: owned(value, &["spec", "nodeName"]),
            restarts: match text(value, &["spec", "restartPolicy"]) {
                Some("Never") => Restarts::Never,
                Some("OnFailure") => Restarts::OnFailure,
                _ => Restarts::Always,
            },
            phase: match text(value, &["status", "phase"]) {
                Some("Running") => Phase::Running,
                Some("Succeeded") => Phase::Succeeded,
                Some("Failed") => Phase::Failed,
                Some("Unknown") => Phase::Lost,
                _ => Phase::Pending,
            },
            reason: owned(value, &["status", "reason"]),
            message: text(value, &["status", "message"]).map(tidy).unwrap_or_default(),
            started: time(value, &["status", "startTime"]),
            conditions: Conditions::read(value),
            containers: init.chain(main).collect(),
            claims: each(value, &["spec", "volumes"])
                .filter_map(|it| owned(it, &["persistentVolumeClaim", "claimName"]))
                .collect(),
        })
    }
}

/// What a container is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Main,
    Init,
    /// An init container that goes on running.
    Sidecar,
}

/// One container of a pod.
#[derive(Debug, Clone)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) ready: bool,
    /// Whether its startup probe has succeeded.
    pub(super) started: Option<bool>,
    pub(super) restarts: u32,
    pub(super) state: State,
    pub(super) last: Option<Ended>,
    pub(super) readiness: Option<Readiness>,
}

/// What a container does.
#[derive(Debug, Clone)]
pub(super) enum State {
    Waiting { reason: String, message: String },
    Running { since: Option<Timestamp> },
    Ended(Ended),
}

/// How a container ended.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) code: i64,
    pub(super) started: Option<Timestamp>,
    pub(super) finished: Option<Timestamp>,
}

/// A readiness probe, as far as it says how long it takes to fail.
#[derive(Debug, Clone, Copy)]
pub(super) struct Readiness {
    pub(super) threshold: u32,
    /// When it must have succeeded, or has failed as often as it may.
    pub(super) patience: SignedDuration,
}

impl Container {
    fn read<'v>(
        value: &Value,
        role: impl Fn(&str) -> Role,
        spec: impl Fn(&str) -> Option<&'v Value>,
    ) -> Option<Self> {
        let name = owned(value, &["name"])?;
        let spec = spec(&name);
        Some(Self {
            role: role(&name),
            ready: flag(value, &["ready"]).unwrap_or(false),
            started: flag(value, &["started"]),
            restarts: count(value, &["restartCount"]).unwrap_or(0),
            state: State::read(value),
            last: at(value, &["lastState", "terminated"]).map(Ended::read),
            readiness: spec.and_then(|it| at(it, &["readinessProbe"])).map(Readiness::read),
            name,
        })
    }
}

impl State {
    /// The API's default for a state that says nothing is waiting.
    fn read(status: &Value) -> Self {
        if let Some(ended) = at(status, &["state", "terminated"]) {
            return Self::Ended(Ended::read(ended));
        }
        let waiting = at(status, &["state", "waiting"]);
        match at(status, &["state", "running"]) {
            Some(running) if waiting.is_none() => Self::Running { since: time(running, &["startedAt"]) },
            _ => {
                let waiting = waiting.unwrap_or(&Value::Null);
                Self::Waiting {
                    reason: owned(waiting, &["reason"]).unwrap_or_default(),
                    message: text(waiting, &["message"]).map(tidy).unwrap_or_default(),
                }
            }
        }
    }
}

impl Ended {
    fn read(value: &Value) -> Self {
        let code = integer(value, &["exitCode"]);
        let reason = owned(value, &["reason"]);
        // What says neither how nor why has not ended well.
        let code = code.unwrap_or(if reason.as_deref() == Some("Completed") { 0 } else { 1 });
        Self {
            reason: reason.unwrap_or_else(|| if code == 0 { "Completed" } else { "Error" }.to_owned()),
            message: text(value, &["message"]).map(tidy).unwrap_or_default(),
            code,
            started: time(value, &["startedAt"]),
            finished: time(value, &["finishedAt"]),
        }
    }
}

impl Readiness {
    fn read(value: &Value) -> Self {
        let number = |key: &str, default: u32| count(value, &[key]).filter(|it| *it > 0).unwrap_or(default);
        let threshold = number("failureThreshold", 3);
        let delay = count(value, &["initialDelaySeconds"]).unwrap_or(0);
        let seconds = i64::from(delay) + i64::from(threshold) * i64::from(number("periodSeconds", 10));
        Self { threshold, patience: SignedDuration::from_secs(seconds) }
    }
}
