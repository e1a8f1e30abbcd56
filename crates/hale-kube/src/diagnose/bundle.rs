//! What diagnostics give (K10): structured, never strings of JSON, and of every part whether it was got.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

/// All that was collected of a deployment object.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bundle {
    /// When.
    pub collected_at: Timestamp,
    /// Its pods.
    pub pod_statuses: Vec<PodStatus>,
    /// What was said of it and of everything it owns, and of what could not be made in its namespaces. The newest last.
    pub events: Vec<EventSaid>,
    /// The last lines of every container, by `pod/container`; of the instance before it by `pod/container:previous`.
    pub log_tails: BTreeMap<String, Vec<String>>,
    /// The objects that it is made of, and how each is.
    pub resources: Vec<ResourceStatus>,
    /// Of every part how getting it went.
    pub collection: Vec<Collected>,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PodStatus {
    /// Its name.
    pub name: String,
    /// Where.
    pub namespace: String,
    /// Its phase, in Kubernetes' words; with why, where it says so.
    pub phase: String,
    /// Its node.
    pub node: Option<String>,
    /// Why it is in that phase: `Evicted`.
    pub reason: Option<String>,
    /// The same in words.
    pub message: Option<String>,
    /// Its conditions.
    pub conditions: Vec<PodCondition>,
    /// Its containers, init containers first.
    pub container_statuses: Vec<ContainerStatus>,
}

/// A condition of a pod.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PodCondition {
    /// `Ready`
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False`, `Unknown`
    pub status: String,
    /// In a word.
    pub reason: Option<String>,
    /// In words.
    pub message: Option<String>,
    /// Since when.
    pub since: Option<Timestamp>,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ContainerStatus {
    /// Its name.
    pub name: String,
    /// Whether it is an init container.
    pub init: bool,
    /// Whether it is ready.
    pub ready: bool,
    /// `waiting`, `running`, `terminated`
    pub state: &'static str,
    /// Why: `CrashLoopBackOff`.
    pub reason: Option<String>,
    /// The same in words.
    pub message: Option<String>,
    /// How often it was started again.
    pub restarts: u64,
    /// With what it exited, if it has.
    pub exit_code: Option<i64>,
    /// When it started to run.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// How the instance before it ended.
    pub last_state: Option<LastState>,
}

/// How an instance of a container ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LastState {
    /// `terminated`
    pub state: &'static str,
    /// `OOMKilled`
    pub reason: Option<String>,
    /// The same in words.
    pub message: Option<String>,
    /// With what it exited.
    pub exit_code: Option<i64>,
    /// By which signal, if the runtime says so.
    pub signal: Option<i64>,
    /// When it started to run.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// An event of the cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EventSaid {
    /// `Warning`, `Normal`
    #[serde(rename = "type")]
    pub kind: String,
    /// In a word.
    pub reason: String,
    /// In words.
    pub message: String,
    /// `Pod shop/web-1`
    pub object: String,
    /// When it was seen for the first time.
    pub first_seen: Option<Timestamp>,
    /// When it was seen for the last time.
    pub last_seen: Option<Timestamp>,
    /// How often.
    pub count: u64,
}

/// One of the objects that it is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ResourceStatus {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Where.
    pub namespace: Option<String>,
    /// Whether it is as it should be.
    pub ready: bool,
    /// What is to be said of it.
    pub message: Option<String>,
}

/// How getting a part went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// `pods`, `events shop`, `logs web-1/web`
    pub part: String,
    /// In a word.
    pub state: Got,
    /// Why it was not got, or not whole.
    pub error: Option<String>,
}

/// In a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Got {
    /// It is here.
    Ok,
    /// It was got, and there is nothing in it.
    Empty,
    /// It was not got, or not whole.
    Error,
}

impl Collected {
    /// It was got; with nothing in it, or with something.
    pub(super) fn got(part: impl Into<String>, empty: bool) -> Self {
        Self { part: part.into(), state: if empty { Got::Empty } else { Got::Ok }, error: None }
    }

    /// It was not got.
    pub(super) fn failed(part: impl Into<String>, why: impl Into<String>) -> Self {
        Self { part: part.into(), state: Got::Error, error: Some(why.into()) }
    }
}
