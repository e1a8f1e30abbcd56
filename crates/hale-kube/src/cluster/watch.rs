//! Following the objects of one kind (K3): one list at the start, by pages, and then only what changes.
//!
//! ```text
//! list ─► watch from the list's revision ─► ended: watch on from the last revision
//!   ▲          │ 410: too old to go on from
//!   └──────────┘
//! ```
//! A refusal for want of rights is told and tried again slowly; too much to do, when the server says; anything else,
//! ever more slowly. Bookmarks keep the revision young and are the sign of life: a watch that says nothing for longer
//! than they come is taken for dead and made anew.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use hale_health::{Backoff, BackoffPolicy, Chance};
use http::{Method, StatusCode};
use kube::client::Body;
use serde_json::Value;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::{ANSWER, Cluster, ClusterError, Lines, encode, of_status, request, trim};
use crate::judge::Kind;

/// The kinds that are watched, with the API version they are asked in and their resource.
pub const WATCHED: [(Kind, &str, &str); 10] = [
    (Kind::Deployment, "apps/v1", "deployments"),
    (Kind::StatefulSet, "apps/v1", "statefulsets"),
    (Kind::DaemonSet, "apps/v1", "daemonsets"),
    (Kind::ReplicaSet, "apps/v1", "replicasets"),
    (Kind::Job, "batch/v1", "jobs"),
    (Kind::CronJob, "batch/v1", "cronjobs"),
    (Kind::Pod, "v1", "pods"),
    (Kind::PersistentVolumeClaim, "v1", "persistentvolumeclaims"),
    (Kind::Event, "v1", "events"),
    (Kind::Node, "v1", "nodes"),
];

/// Kinds that older clusters serve in another version: cron jobs before 1.21.
const BEFORE: [(Kind, &str); 1] = [(Kind::CronJob, "batch/v1beta1")];

/// Events by these reasons are judged by (K6), and all about volume claims. The rest is never held.
const REASONS: [&str; 9] = [
    "FailedAttachVolume",
    "FailedCreate",
    "FailedCreatePodSandBox",
    "FailedMapVolume",
    "FailedMount",
    "FailedPostStartHook",
    "NodeNotReady",
    "Unhealthy",
    "WaitForFirstConsumer",
];

/// Objects in one page of a list.
const PAGE: u32 = 250;

/// How long the server is to keep a watch open.
const OPEN: u32 = 290;

/// Bookmarks come about once a minute.
const SILENCE: Duration = Duration::from_secs(100);

/// A watch that lived so long was well.
const LIVED: Duration = Duration::from_secs(1);

/// The longest event of a watch: more than a cluster stores of one object.
const LONGEST: usize = 16 << 20;

/// What is not allowed may be one day.
const FORBIDDEN_AGAIN: Duration = Duration::from_secs(60);

/// A server that has just started refuses everything until it has read who may do what: what was allowed before is asked
/// for again, so often and after so long, until that is believed.
const BELIEVED: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// The longest that the server's own word for a wait is followed.
const LONGEST_BUSY: Duration = Duration::from_secs(120);

/// What is followed: a kind, everywhere or in a namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Watch {
    /// The kind.
    pub kind: Kind,
    /// Where; none for everywhere.
    pub namespace: Option<String>,
}

impl Watch {
    /// The path of its list.
    #[must_use]
    pub fn path(&self) -> String {
        // The table has all that is ever watched.
        let version = WATCHED.iter().find(|it| it.0 == self.kind).map_or("v1", |it| it.1);
        self.path_in(version)
    }

    /// The path of its list in the version of older clusters, where that is another one.
    fn path_before(&self) -> Option<String> {
        BEFORE.iter().find(|it| it.0 == self.kind).map(|it| self.path_in(it.1))
    }

    fn path_in(&self, version: &str) -> String {
        let resource = WATCHED.iter().find(|it| it.0 == self.kind).map_or("pods", |it| it.2);
        let root = if version.contains('/') { "/apis" } else { "/api" };
        match self.namespace.as_deref().filter(|_| self.kind != Kind::Node) {
            Some(namespace) => format!("{root}/{version}/namespaces/{namespace}/{resource}"),
            None => format!("{root}/{version}/{resource}"),
        }
    }
}

/// What a watch saw.
#[derive(Debug)]
pub enum Seen {
    /// Objects as they are now.
    Put(Vec<Value>),
    /// One that is no more.
    Gone(Value),
    /// A list has ended: what it did not name is no more.
    Listed(HashSet<(String, String)>),
    /// It is connected and follows.
    Alive,
    /// It can't be asked; it is tried again.
    Broken(ClusterError),
}

/// Follows until the receiver is gone. `tell` is bounded: when it is full, the cluster waits.
pub async fn watch(cluster: Cluster, what: Watch, tell: mpsc::Sender<(Watch, Seen)>, seed: u64) {
    let mut follower = Follower {
        path: what.path(),
        cluster,
        what,
        tell,
        revision: None,
        alive: None,
        doubts: 0,
        backoff: Backoff::new(),
        chance: Chance::new(seed),
    };
    while follower.round().await.is_ok() {}
}

/// Nobody listens any more.
struct Unheard;

struct Follower {
    cluster: Cluster,
    what: Watch,
    path: String,
    tell: mpsc::Sender<(Watch, Seen)>,
    /// The revision to go on from; none when all is to be listed.
    revision: Option<String>,
    /// Since when it follows; none while it does not.
    alive: Option<Instant>,
    /// How often it may still be refused without being believed.
    doubts: usize,
    backoff: Backoff,
    chance: Chance,
}

impl Follower {
    async fn tell(&self, seen: Seen) -> Result<(), Unheard> {
        self.tell.send((self.what.clone(), seen)).await.map_err(|_| Unheard)
    }

    /// A list where one is needed, and a watch to its end; after a failure the wait that it asks for.
    async fn round(&mut self) -> Result<(), Unheard> {
        self.alive = None;
        let ended = match self.revision.clone() {
            None => self.list().await?,
            Some(revision) => self.follow(&revision).await?,
        };
        // A list or watch that ends at once, again and again, must not become a flood.
        let lived = self.alive.is_some_and(|it| it.elapsed() > LIVED);
        if lived {
            self.backoff.reset();
        }
        let wait = match ended {
            Ok(()) if lived => return Ok(()),
            Ok(()) => self.wait().min(Duration::from_secs(5)),
            Err(ClusterError::Gone(message)) => {
                tracing::debug!(
                    kind = self.what.kind.as_str(),
                    message,
                    "listing anew: the revision is too old"
                );
                self.revision = None;
                self.wait().min(Duration::from_secs(2))
            }
            Err(ClusterError::Forbidden(message)) if self.doubts > 0 => {
                self.doubts -= 1;
                tracing::debug!(
                    kind = self.what.kind.as_str(),
                    message,
                    "refused what was allowed; asking again"
                );
                BELIEVED[BELIEVED.len() - 1 - self.doubts]
            }
            Err(ClusterError::NotFound(_)) if self.in_another_version() => return Ok(()),
            Err(error) => {
                let wait = self.pause(&error);
                // What is only busy or away goes on from where it was.
                let away = matches!(
                    error,
                    ClusterError::Busy { .. }
                        | ClusterError::Unauthorized(_)
                        | ClusterError::Unreachable(_)
                        | ClusterError::Timeout(_)
                );
                if !away {
                    self.revision = None;
                }
                self.tell(Seen::Broken(error)).await?;
                wait
            }
        };
        sleep(wait).await;
        Ok(())
    }

    /// How long to wait after a failure.
    fn pause(&mut self, error: &ClusterError) -> Duration {
        match error {
            ClusterError::Forbidden(_) | ClusterError::NotFound(_) => {
                FORBIDDEN_AGAIN.mul_f64(0.75 + self.chance.draw() / 2.0)
            }
            ClusterError::Busy { after, .. } => after.unwrap_or_default().min(LONGEST_BUSY).max(self.wait()),
            _ => self.wait(),
        }
    }

    /// Goes on with the version of older clusters, where there is one and it is not asked already; from there back to
    /// the first, which counts as not found.
    fn in_another_version(&mut self) -> bool {
        let Some(before) = self.what.path_before() else { return false };
        self.revision = None;
        let tried = self.path == before;
        self.path = if tried { self.what.path() } else { before };
        !tried
    }

    fn wait(&mut self) -> Duration {
        let policy = BackoffPolicy {
            initial: Duration::from_millis(200),
            max: Duration::from_secs(30),
            multiplier: 2.0,
            jitter: 0.3,
        };
        let chance = self.chance.draw();
        self.backoff.next(&policy, chance)
    }

    /// All that there is, by pages. The outer error is that nobody listens.
    async fn list(&mut self) -> Result<Result<(), ClusterError>, Unheard> {
        let mut named = HashSet::new();
        let mut from = String::new();
        loop {
            let path = format!("{}?limit={PAGE}{from}", self.path);
            let page = match self.page(&path).await {
                Ok(page) => page,
                Err(error) => return Ok(Err(error)),
            };
            let revision = page["metadata"]["resourceVersion"].as_str().map(str::to_owned);
            let more = page["metadata"]["continue"].as_str().filter(|it| !it.is_empty()).map(encode);
            let objects = items(page);
            named.extend(objects.iter().filter_map(place));
            self.tell(Seen::Put(self.wanted(objects))).await?;
            match more {
                Some(token) => from = format!("&continue={token}"),
                None => {
                    let Some(revision) = revision else {
                        let path = &self.path;
                        return Ok(Err(ClusterError::Garbage(format!("the list of {path} has no revision"))));
                    };
                    self.revision = Some(revision);
                    self.tell(Seen::Listed(named)).await?;
                    let revision = self.revision.clone().unwrap_or_default();
                    return self.follow(&revision).await;
                }
            }
        }
    }

    async fn page(&self, path: &str) -> Result<Value, ClusterError> {
        let bytes = self.cluster.bytes(request(Method::GET, path, None, Body::empty())?, ANSWER).await?;
        let page = trim::parse(&bytes)
            .map_err(|error| ClusterError::Garbage(format!("the answer to {path} is not JSON: {error}")))?;
        if page["items"].is_null() && !page["metadata"].is_object() {
            return Err(ClusterError::Garbage(format!("the answer to {path} is no list")));
        }
        Ok(page)
    }

    /// What changes from a revision on, until the watch ends.
    async fn follow(&mut self, revision: &str) -> Result<Result<(), ClusterError>, Unheard> {
        let path = format!(
            "{}?watch=true&allowWatchBookmarks=true&timeoutSeconds={OPEN}&resourceVersion={}",
            self.path,
            encode(revision)
        );
        let opened = match request(Method::GET, &path, None, Body::empty()) {
            Ok(request) => self.cluster.open(request, ANSWER).await,
            Err(error) => Err(error),
        };
        let mut lines = match opened {
            Ok(response) => Lines::new(response.into_body(), LONGEST),
            Err(error) => return Ok(Err(error)),
        };
        self.alive = Some(Instant::now());
        self.doubts = BELIEVED.len();
        self.tell(Seen::Alive).await?;
        loop {
            let line = match timeout(SILENCE, lines.next()).await {
                Err(_) => {
                    tracing::debug!(path, "a watch is silent, and made anew");
                    return Ok(Ok(()));
                }
                Ok(Ok(None)) => return Ok(Ok(())),
                Ok(Err(error)) => {
                    tracing::debug!(path, error, "a watch broke off, and is made anew");
                    return Ok(Ok(()));
                }
                Ok(Ok(Some(line))) => line,
            };
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            match self.event(&line) {
                Ok(Some(seen)) => self.tell(seen).await?,
                Ok(None) => {}
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    /// One line of a watch.
    fn event(&mut self, line: &[u8]) -> Result<Option<Seen>, ClusterError> {
        let wrong =
            |why: &str| ClusterError::Garbage(format!("a watch of {} told nonsense: {why}", self.path));
        let mut event = trim::parse(line).map_err(|error| wrong(&error.to_string()))?;
        let object = event["object"].take();
        let kind = event["type"].as_str().unwrap_or_default();
        if kind == "ERROR" {
            let code = object["code"].as_u64().and_then(|it| u16::try_from(it).ok());
            let status = code.and_then(|it| StatusCode::from_u16(it).ok());
            let said = object["message"].as_str().unwrap_or("a watch failed and does not say why");
            let seconds = object["details"]["retryAfterSeconds"].as_u64();
            let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            return Err(of_status(status, said.to_owned(), seconds));
        }
        let Some(revision) = object["metadata"]["resourceVersion"].as_str() else {
            return Err(wrong("an object without a revision"));
        };
        self.revision = Some(revision.to_owned());
        match kind {
            "BOOKMARK" => Ok(None),
            "ADDED" | "MODIFIED" => {
                let wanted = self.wanted(vec![object]);
                Ok((!wanted.is_empty()).then_some(Seen::Put(wanted)))
            }
            "DELETED" => Ok(Some(Seen::Gone(object))),
            other => Err(wrong(&format!("type {other:?}"))),
        }
    }

    /// Of events only those that are judged by.
    fn wanted(&self, mut objects: Vec<Value>) -> Vec<Value> {
        if self.what.kind == Kind::Event {
            objects.retain(|it| {
                let reason = it["reason"].as_str().unwrap_or_default();
                // Most are killed because they are to go; some, because a probe failed.
                let killed = || it["message"].as_str().is_some_and(|it| it.contains(" probe"));
                REASONS.contains(&reason)
                    || reason == "Killing" && killed()
                    || it["involvedObject"]["kind"] == "PersistentVolumeClaim"
            });
        }
        objects
    }
}

fn items(mut page: Value) -> Vec<Value> {
    match page.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

fn place(object: &Value) -> Option<(String, String)> {
    let word = |key: &str| object["metadata"][key].as_str().map(str::to_owned);
    Some((word("namespace").unwrap_or_default(), word("name")?))
}
