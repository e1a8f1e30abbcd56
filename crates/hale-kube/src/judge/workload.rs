//! The facts of a workload: what it wants, and what its controller says of it (K5).

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{
    objects::{Conditions, Kind, Meta},
    read::{at, count, flag, integer, owned, text, time},
};

/// Anything that makes pods, or makes what makes pods.
#[derive(Debug, Clone)]
pub(super) struct Workload {
    pub(super) kind: Kind,
    pub(super) meta: Meta,
    pub(super) conditions: Conditions,
    /// Pods that are wanted at once, as the specification says it.
    pub(super) replicas: Option<u32>,
    pub(super) paused: bool,
    pub(super) suspended: bool,
    /// How long a rollout may make no progress.
    pub(super) deadline: Option<SignedDuration>,
    /// How many may be missing while it is rolled out.
    pub(super) max_unavailable: Option<Share>,
    /// No pod is made beyond those wanted while it is rolled out.
    pub(super) no_surge: bool,
    /// It is updated only as far as a person says.
    pub(super) by_hand: bool,
    pub(super) counted: Option<Counted>,
    pub(super) job: Job,
}

/// What a controller has counted.
#[derive(Debug, Clone, Default)]
pub(super) struct Counted {
    /// The generation it looked at; none when it did not say.
    observed: Option<i64>,
    pub(super) desired: Option<u32>,
    pub(super) all: u32,
    pub(super) ready: u32,
    pub(super) available: u32,
    pub(super) updated: u32,
    /// Both revisions of a stateful set are the same.
    pub(super) one_revision: bool,
}

/// What only jobs have.
#[derive(Debug, Clone, Default)]
pub(super) struct Job {
    pub(super) parallelism: u32,
    pub(super) completions: Option<u32>,
    pub(super) succeeded: u32,
    pub(super) failed: u32,
    pub(super) started: Option<Timestamp>,
    pub(super) finished: Option<Timestamp>,
    pub(super) scheduled: Option<Timestamp>,
}

/// A number, or a share of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    Number(u32),
    Percent(u32),
}

impl Share {
    fn read(value: &Value) -> Option<Self> {
        if let Some(number) = value.as_i64() {
            return Some(Self::Number(u32::try_from(number.max(0)).unwrap_or(u32::MAX)));
        }
        let percent = value.as_str()?.strip_suffix('%')?.parse().ok()?;
        Some(Self::Percent(percent))
    }

    /// So many of that number; part of one is none, or one where it is rounded up.
    pub(super) fn of(self, all: u32, up: bool) -> u32 {
        match self {
            Self::Number(number) => number.min(all),
            Self::Percent(percent) => {
                let hundredths = u64::from(percent) * u64::from(all);
                let share = if up { hundredths.div_ceil(100) } else { hundredths / 100 };
                u32::try_from(share).unwrap_or(u32::MAX).min(all)
            }
        }
    }
}

impl Workload {
    pub(super) fn read(kind: Kind, value: &Value) -> Option<Self> {
        let strategy = match kind {
            Kind::StatefulSet | Kind::DaemonSet => "updateStrategy",
            _ => "strategy",
        };
        let rolling = ["spec", strategy, "rollingUpdate", "maxUnavailable"];
        let how = text(value, &["spec", strategy, "type"]);
        let partition = integer(value, &["spec", strategy, "rollingUpdate", "partition"]).unwrap_or(0);
        Some(Self {
            kind,
            meta: Meta::read(value)?,
            conditions: Conditions::read(value),
            replicas: count(value, &["spec", "replicas"]),
            paused: flag(value, &["spec", "paused"]).unwrap_or(false),
            suspended: flag(value, &["spec", "suspend"]).unwrap_or(false),
            deadline: integer(value, &["spec", "progressDeadlineSeconds"])
                .filter(|it| *it > 0)
                .map(SignedDuration::from_secs),
            max_unavailable: match how {
                Some("Recreate") => Some(Share::Percent(100)),
                _ => at(value, &rolling).and_then(Share::read),
            },
            no_surge: at(value, &["spec", strategy, "rollingUpdate", "maxSurge"])
                .and_then(Share::read)
                .is_some_and(|it| matches!(it, Share::Number(0) | Share::Percent(0))),
            by_hand: how == Some("OnDelete") || partition > 0,
            counted: at(value, &["status"]).filter(|it| it.is_object()).map(|_| Counted::read(kind, value)),
            job: Job::read(value),
        })
    }

    /// The generation that its controller has looked at is an older one: its counts are of another specification.
    pub(super) fn unobserved(&self) -> bool {
        let observed = self.counted.as_ref().map(|it| it.observed);
        match (self.meta.generation, observed) {
            (Some(generation), Some(Some(observed))) => observed < generation,
            // Jobs and cron jobs say nothing of generations.
            (Some(_), Some(None)) => !matches!(self.kind, Kind::Job | Kind::CronJob),
            _ => false,
        }
    }

    /// What its controller counted, if that is of what is wanted now.
    pub(super) fn current(&self) -> Option<&Counted> {
        self.counted.as_ref().filter(|_| !self.unobserved())
    }

    /// How many pods it should have at once.
    pub(super) fn desired(&self) -> u32 {
        match self.kind {
            Kind::DaemonSet => self.counted.as_ref().and_then(|it| it.desired).unwrap_or(0),
            // An autoscaler that scales to zero leaves a number; what is not said is one.
            _ => self.replicas.unwrap_or(1),
        }
    }

    /// How many of them have to be ready while it is rolled out: at least one.
    pub(super) fn enough(&self) -> u32 {
        let desired = self.desired();
        let missing = match (self.kind, self.max_unavailable) {
            (Kind::Deployment, share) => {
                let share = share.unwrap_or(Share::Percent(25)).of(desired, false);
                // Neither more nor fewer would leave no way to go: the controller takes one away.
                share.max(u32::from(self.no_surge))
            }
            (Kind::DaemonSet | Kind::StatefulSet, share) => {
                share.unwrap_or(Share::Number(1)).of(desired, true)
            }
            _ => 0,
        };
        desired.saturating_sub(missing).max(1)
    }
}

impl Counted {
    fn read(kind: Kind, value: &Value) -> Self {
        let number = |key: &str| count(value, &["status", key]);
        let (all, ready, available, updated) = match kind {
            Kind::DaemonSet => {
                ("currentNumberScheduled", "numberReady", "numberAvailable", "updatedNumberScheduled")
            }
            Kind::Job => ("active", "ready", "ready", "active"),
            _ => ("replicas", "readyReplicas", "availableReplicas", "updatedReplicas"),
        };
        let revision = |key: &str| owned(value, &["status", key]);
        Self {
            observed: integer(value, &["status", "observedGeneration"]),
            desired: number("desiredNumberScheduled"),
            all: number(all).unwrap_or(0),
            ready: number(ready).unwrap_or(0),
            available: number(available).unwrap_or(0),
            updated: number(updated).unwrap_or(0),
            one_revision: revision("currentRevision") == revision("updateRevision"),
        }
    }
}

impl Job {
    fn read(value: &Value) -> Self {
        let conditions = Conditions::read(value);
        let ended = ["Complete", "Failed"].into_iter().filter_map(|it| conditions.get(it));
        Self {
            parallelism: count(value, &["spec", "parallelism"]).unwrap_or(1),
            completions: count(value, &["spec", "completions"]),
            succeeded: count(value, &["status", "succeeded"]).unwrap_or(0),
            failed: count(value, &["status", "failed"]).unwrap_or(0),
            started: time(value, &["status", "startTime"]),
            finished: time(value, &["status", "completionTime"])
                .or_else(|| ended.filter(|it| it.holds == Some(true)).find_map(|it| it.since)),
            scheduled: time(value, &["status", "lastScheduleTime"]),
        }
    }
}
