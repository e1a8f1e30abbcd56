//! Diagnostics of a deployment object (K10, K11): collected part by part, each with a deadline of its own, so that what
//! hangs keeps nothing else from being told.

mod read;
mod tail;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, timeout_at},
};

use hale_api::kube::{Bundle, BundleEvent, Collected, CollectedState, PodStatus, ResourceHealth};

use self::read::{EventsOf, LogWanted};
use crate::{
    agent::Family,
    cluster::{Cluster, ClusterError, LogOf},
    judge::Kind,
};

/// How long one part may take.
const PART: Duration = Duration::from_secs(5);

/// How long all of it may take: a good deal less than a claim lasts.
const WHOLE: Duration = Duration::from_secs(20);

/// Requests to the cluster at one time.
const AT_ONCE: usize = 8;

/// Pods that are looked at, those that are not ready first. More of the same say little more.
const MOST_PODS: usize = 30;

/// Events that are told, the newest.
const MOST_EVENTS: usize = 500;

/// What is read of a log: the API cuts it at its end, so that this has to hold all the lines.
const LOG_BYTES: usize = 1 << 20;

/// What all logs may have together.
const ALL_LOGS: usize = 4 << 20;

/// How diagnostics are collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Lines of each container's log.
    pub log_lines: u32,
    /// How far back events are told.
    pub lookback: Duration,
    /// Whether secrets are masked in logs.
    pub mask: bool,
}

impl Default for Options {
    /// 50 lines, 30 minutes, masked.
    fn default() -> Self {
        Self { log_lines: 50, lookback: Duration::from_secs(30 * 60), mask: true }
    }
}

/// Collects. What can't be got is told as such; it takes 20 s at most.
pub async fn collect(cluster: &Cluster, family: &Family, options: &Options, now: Timestamp) -> Bundle {
    let whole = Instant::now() + WHOLE;
    let mut bundle = Bundle {
        collected_at: now,
        pod_statuses: Vec::new(),
        events: Vec::new(),
        log_tails: BTreeMap::new(),
        resources: resources(family),
        collection: Vec::new(),
    };
    let told = got("resources", bundle.resources.is_empty());
    bundle.collection.push(told);
    // What can't be seen may be what is looked for.
    bundle.collection.extend(family.gaps.iter().map(|gap| failed("watch", gap.clone())));
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let work = Work { cluster: cluster.clone(), room, whole, options: *options };
    let (events, ()) = tokio::join!(work.events(family, now), work.pods(family, &mut bundle));
    bundle.events = events.0;
    bundle.collection.extend(events.1);
    bundle.collection.sort_by(|a, b| a.part.cmp(&b.part));
    bundle
}

fn resources(family: &Family) -> Vec<ResourceHealth> {
    let named = family.health.iter().flat_map(|it| &it.resources);
    let status = |it: &crate::health::Named| ResourceHealth {
        kind: it.kind.clone(),
        name: it.name.clone(),
        namespace: it.namespace.clone(),
        ready: it.ready,
        message: it.message.clone(),
    };
    named.map(status).collect()
}

#[derive(Clone)]
struct Work {
    cluster: Cluster,
    room: Arc<Semaphore>,
    whole: Instant,
    options: Options,
}

impl Work {
    /// Does one request in its time: what waits for room waits within the time of all.
    async fn timed<T>(&self, doing: impl Future<Output = Result<T, ClusterError>>) -> Result<T, String> {
        let Ok(Ok(permit)) = timeout_at(self.whole, self.room.acquire()).await else {
            return Err(format!("not reached within the {WHOLE:?} that all of it may take"));
        };
        let until = (Instant::now() + PART).min(self.whole);
        let done = timeout_at(until, doing).await;
        drop(permit);
        match done {
            Ok(Ok(got)) => Ok(got),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {PART:?}")),
        }
    }

    /// The events of all namespaces that the object has something in.
    async fn events(&self, family: &Family, now: Timestamp) -> (Vec<BundleEvent>, Vec<Collected>) {
        let uids: BTreeSet<String> = family.members.iter().filter_map(|it| it.uid.clone()).collect();
        let unseen = family.members.iter().filter(|it| it.uid.is_none());
        let missing = unseen.map(|it| (it.part.kind.as_str().to_owned(), it.part.name.clone())).collect();
        let back = SignedDuration::try_from(self.options.lookback).unwrap_or(SignedDuration::MAX);
        let since = now.checked_sub(back).unwrap_or(Timestamp::MIN);
        let of = EventsOf { uids: &uids, missing: &missing, since };
        let places: BTreeSet<&str> =
            family.members.iter().map(|it| it.part.namespace.as_str()).filter(|it| !it.is_empty()).collect();
        let (mut said, mut collected) = (Vec::new(), Vec::new());
        if places.is_empty() {
            collected.push(got("events", true));
        }
        for place in places {
            let part = format!("events {place}");
            match self.timed(self.cluster.events(place, PART)).await {
                Ok((events, cut)) => {
                    let wanted: Vec<BundleEvent> =
                        events.iter().filter_map(|it| read::event(it, &of)).collect();
                    let mut told = got(part, wanted.is_empty());
                    if cut {
                        told.error = Some("there were more events than are ever read".to_owned());
                    }
                    collected.push(told);
                    said.extend(wanted);
                }
                Err(why) => collected.push(failed(part, why)),
            }
        }
        said.sort_by(|a, b| (a.last_seen, &a.object, &a.reason).cmp(&(b.last_seen, &b.object, &b.reason)));
        said.drain(..said.len().saturating_sub(MOST_EVENTS));
        (said, collected)
    }

    /// The pods, and the logs of their containers.
    async fn pods(&self, family: &Family, bundle: &mut Bundle) {
        let pods = pods_of(family);
        if pods.is_empty() {
            bundle.collection.push(got("pods", true));
        }
        if pods.len() > MOST_PODS {
            let left = pods.len() - MOST_PODS;
            bundle.collection.push(failed("pods", format!("{left} more pods are left out")));
        }
        let places: BTreeSet<&str> = pods.iter().map(|it| it.0.as_str()).collect();
        let several = places.len() > 1;
        let mut doing = JoinSet::new();
        for (namespace, name) in pods.into_iter().take(MOST_PODS) {
            let work = self.clone();
            doing.spawn(async move { work.pod(&namespace, &name, several).await });
        }
        let mut size = 0;
        while let Some(done) = doing.join_next().await {
            let Ok(done) = done else {
                bundle.collection.push(failed("pods", "collecting one ended badly"));
                continue;
            };
            bundle.pod_statuses.extend(done.status);
            bundle.collection.extend(done.collected);
            for (name, lines) in done.tails {
                size += lines.iter().map(|it| it.len() + 8).sum::<usize>();
                if size > ALL_LOGS {
                    bundle
                        .collection
                        .push(failed(format!("logs {name}"), "left out: the logs are too large together"));
                } else {
                    bundle.log_tails.insert(name, lines);
                }
            }
        }
        bundle.pod_statuses.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    }

    async fn pod(&self, namespace: &str, name: &str, several: bool) -> OfPod {
        let shown = if several { format!("{namespace}/{name}") } else { name.to_owned() };
        let part = format!("pod {shown}");
        let mut done = OfPod::default();
        let status = match self.timed(self.cluster.pod(namespace, name, PART)).await {
            Ok(object) => read::pod(&object),
            Err(why) => {
                done.collected.push(failed(part, why));
                return done;
            }
        };
        done.collected.push(got(part, false));
        let (wanted, none) = read::logs_of(&status);
        for container in none {
            let mut told = got(format!("logs {shown}/{container}"), true);
            told.error = Some("it has not begun yet".to_owned());
            done.collected.push(told);
        }
        let all = wanted.iter().map(|it| self.log(namespace, name, it));
        for (log, lines) in wanted.iter().zip(together(all).await) {
            let suffix = if log.previous { " (previous)" } else { "" };
            let key = format!("{shown}/{}{suffix}", log.container);
            let part = format!("logs {key}");
            match lines {
                Ok(lines) => {
                    done.collected.push(got(part, lines.is_empty()));
                    done.tails.push((key, lines));
                }
                Err(why) => done.collected.push(failed(part, why)),
            }
        }
        done.status = Some(status);
        done
    }

    async fn log(&self, namespace: &str, pod: &str, wanted: &LogWanted) -> Result<Vec<String>, String> {
        let log = LogOf {
            namespace,
            pod,
            container: &wanted.container,
            previous: wanted.previous,
            lines: self.options.log_lines,
            bytes: LOG_BYTES,
        };
        let bytes = self.timed(self.cluster.log(&log, PART)).await?;
        let lines = usize::try_from(self.options.log_lines).unwrap_or(usize::MAX);
        tail::lines(&bytes, lines, self.options.mask)
    }
}

/// All of them at the same time, in order.
async fn together<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut doing: Vec<_> = all.map(Box::pin).collect();
    let mut done: Vec<Option<T>> = doing.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        let mut open = false;
        for (one, done) in doing.iter_mut().zip(&mut done) {
            if done.is_none() {
                match one.as_mut().poll(context) {
                    std::task::Poll::Ready(it) => *done = Some(it),
                    std::task::Poll::Pending => open = true,
                }
            }
        }
        if open { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[derive(Default)]
struct OfPod {
    status: Option<PodStatus>,
    tails: Vec<(String, Vec<String>)>,
    collected: Vec<Collected>,
}

/// Its pods, those that are not ready first.
fn pods_of(family: &Family) -> Vec<(String, String)> {
    let bad: BTreeSet<(&str, &str)> = family
        .health
        .iter()
        .flat_map(|it| &it.resources)
        .filter(|it| it.kind == "Pod" && !it.ready)
        .map(|it| (it.namespace.as_deref().unwrap_or_default(), it.name.as_str()))
        .collect();
    let pods = family.members.iter().filter(|it| it.part.kind == Kind::Pod && it.uid.is_some());
    let mut pods: Vec<(String, String)> =
        pods.map(|it| (it.part.namespace.clone(), it.part.name.clone())).collect();
    pods.sort_by_key(|it| (!bad.contains(&(it.0.as_str(), it.1.as_str())), it.clone()));
    pods.dedup();
    pods
}

/// It was got; with nothing in it, or with something.
fn got(part: impl Into<String>, empty: bool) -> Collected {
    let state = if empty { CollectedState::Empty } else { CollectedState::Ok };
    Collected { part: part.into(), state, error: None }
}

/// It was not got.
fn failed(part: impl Into<String>, why: impl Into<String>) -> Collected {
    Collected { part: part.into(), state: CollectedState::Error, error: Some(why.into()) }
}
