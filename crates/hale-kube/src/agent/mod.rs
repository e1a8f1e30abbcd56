//! The agent of a cluster: drives what is pure, and speaks to a server. It dials out alone; nothing dials in.
//!
//! ```text
//! watchers ─(bounded)─► core: Brain ─► outbox ─► reporter ─► server
//!                        ▲   ▲    │ family of an object
//!               outcomes │   │ desired       ▼
//!             applier ◄──┴───┴── link ◄──── server          diagnostics ─► server
//! ```
//! One task owns what is known ([`brain`]); all others tell it, through queues that are bounded: a full one makes the
//! teller wait, and so at last the cluster. What is to be reported is kept by object, newest state only, so that a server
//! that is away costs no memory and hears how things are when it is back.

mod applier;
pub mod brain;
mod core;
mod diagnostics;
mod link;
mod metrics;
mod outbox;
mod server;

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use hale_health::Time;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

pub use self::{
    brain::{Family, Outcome, Wanted},
    metrics::Metrics,
    server::ServerOptions,
};
use self::{outbox::Outbox, server::Servers};
use crate::{
    cluster::{self, Cluster, Right, Verb, WATCHED, Watch},
    diagnose,
    judge::Kind,
};

/// Pages or changes of the cluster that wait for the core. A full queue makes the watches wait.
const SEEN_WAITING: usize = 8;

/// What else waits for the core. A full queue makes the tellers wait.
const TOLD_WAITING: usize = 64;

/// What is done with deployment objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// They are applied.
    #[default]
    Apply,
    /// What is there is found, and nothing is changed.
    Observe,
}

/// How an agent is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The name it is to have; none for whatever its token is for.
    pub name: Option<String>,
    /// Its version, for people.
    pub version: String,
    /// Its labels, for people.
    pub labels: Vec<(String, String)>,
    /// What is done, unless a person has said it on the server.
    pub mode: Mode,
    /// The stacks it wants by name, unless a person has said it on the server.
    pub stacks: Vec<String>,
    /// The labels of stacks it wants, the same way.
    pub match_labels: Vec<(String, String)>,
    /// Whether health is watched and told; if not, objects are unknown (`disabled`).
    pub health: bool,
    /// Whether diagnostics are given; if not, requests fail at once.
    pub diagnostics: bool,
    /// How often all is told at least.
    pub interval: Duration,
    /// How diagnostics are collected.
    pub collect: diagnose::Options,
    /// Namespaces it is for; empty for all.
    pub namespaces: Vec<String>,
    /// The namespace of manifests that say none; none for the cluster's own default.
    pub default_namespace: Option<String>,
}

/// What the core is told, beside what the watches see.
pub(crate) enum Told {
    /// How looking after an object went.
    Outcome(String, Outcome),
    /// What an object is made of.
    Family(String, oneshot::Sender<Option<Family>>),
}

/// What a server wants of the agent.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Desired {
    pub(crate) mode: Mode,
    pub(crate) objects: Vec<Wanted>,
}

/// How the agent is, for its own `/healthz` and `/readyz`.
#[derive(Debug, Clone)]
pub struct State {
    /// When the core last came round.
    pub turned: Instant,
    /// Whether every kind was listed once, or is known to be out of reach.
    pub ready: bool,
    /// What can't be seen, in words.
    pub gaps: Vec<String>,
    /// The server that the agent is registered at; none while there is none.
    pub server: Option<String>,
}

/// An agent, before it runs.
#[derive(Debug)]
pub struct Agent {
    cluster: Cluster,
    servers: ServerOptions,
    options: Options,
    metrics: Metrics,
    state: watch::Sender<State>,
}

/// What the agent's parts share.
pub(crate) struct Shared {
    pub(crate) cluster: Cluster,
    pub(crate) options: Options,
    pub(crate) namespace: String,
    pub(crate) metrics: Metrics,
    pub(crate) outbox: Outbox,
    pub(crate) servers: Servers,
    pub(crate) desired: watch::Sender<Arc<Desired>>,
    pub(crate) told: mpsc::Sender<Told>,
    pub(crate) state: watch::Sender<State>,
    pub(crate) began: Instant,
    pub(crate) end: CancellationToken,
}

impl Shared {
    /// Now, on the scale of decisions.
    pub(crate) fn now(&self) -> Time {
        // The first moment is well after the scale's beginning.
        let since = self.began.elapsed() + Duration::from_secs(3600);
        Time::from_nanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    /// A number that no other process draws.
    pub(crate) fn seed() -> u64 {
        RandomState::new().hash_one(0_u8)
    }
}

impl Agent {
    /// An agent of this cluster, for these servers.
    #[must_use]
    pub fn new(cluster: Cluster, servers: ServerOptions, options: Options, metrics: Metrics) -> Self {
        let state = State { turned: Instant::now(), ready: false, gaps: Vec::new(), server: None };
        Self { cluster, servers, options, metrics, state: watch::Sender::new(state) }
    }

    /// How it is, as it changes.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Runs until it is told to end. A part of it that ends badly ends all of it: whoever started it starts it again.
    ///
    /// # Errors
    /// A part panicked.
    pub async fn run(self, end: CancellationToken) -> Result<(), String> {
        let Self { cluster, servers, options, metrics, state } = self;
        let namespace =
            options.default_namespace.clone().unwrap_or_else(|| cluster.default_namespace().to_owned());
        let (told, inbox) = mpsc::channel(TOLD_WAITING);
        let (seen_by, seen) = mpsc::channel(SEEN_WAITING);
        let watches = watches(&options);
        let shared = Arc::new(Shared {
            cluster: cluster.clone(),
            namespace,
            metrics,
            outbox: Outbox::default(),
            servers: Servers::new(servers),
            desired: watch::Sender::new(Arc::default()),
            told,
            state,
            began: Instant::now(),
            end: end.clone(),
            options,
        });
        let mut parts = JoinSet::new();
        for (n, what) in watches.iter().enumerate() {
            let seed = Shared::seed().wrapping_add(n as u64);
            let following = cluster::watch(cluster.clone(), what.clone(), seen_by.clone(), seed);
            let end = end.clone();
            parts.spawn(async move {
                // Either way it is at its end.
                let _ = end.run_until_cancelled(following).await;
            });
        }
        drop(seen_by);
        let (ask, asked) = mpsc::channel(diagnostics::WAITING);
        parts.spawn(core::run(Arc::clone(&shared), watches.clone(), seen, inbox));
        parts.spawn(applier::run(Arc::clone(&shared)));
        parts.spawn(outbox::report(Arc::clone(&shared)));
        parts.spawn(diagnostics::run(Arc::clone(&shared), asked));
        parts.spawn(link::run(Arc::clone(&shared), ask));
        parts.spawn(tell_rights(Arc::clone(&shared), watches));
        let mut ended = Ok(());
        while let Some(part) = parts.join_next().await {
            if let Err(error) = part {
                ended = Err(format!("a part of the agent ended badly: {error}"));
                end.cancel();
            }
        }
        ended
    }
}

/// What is followed: each kind, everywhere or in each namespace; nodes are in none.
fn watches(options: &Options) -> Vec<Watch> {
    if !options.health && !options.diagnostics {
        return Vec::new();
    }
    let everywhere = |kind| vec![Watch { kind, namespace: None }];
    let each = |kind| -> Vec<Watch> {
        options.namespaces.iter().map(|it| Watch { kind, namespace: Some(it.clone()) }).collect()
    };
    WATCHED
        .iter()
        .flat_map(|(kind, ..)| {
            if options.namespaces.is_empty() || *kind == Kind::Node { everywhere(*kind) } else { each(*kind) }
        })
        .collect()
}

/// Says at the start, and clearly, what the agent may not do.
async fn tell_rights(shared: Arc<Shared>, watches: Vec<Watch>) {
    let mut rights = Vec::new();
    for watch in watches {
        let Some((_, version, resource)) = WATCHED.iter().find(|it| it.0 == watch.kind) else { continue };
        let group = version.split_once('/').map_or("", |(group, _)| group);
        for verb in [Verb::List, Verb::Watch] {
            let namespace = watch.namespace.clone();
            rights.push(Right { verb, group, resource, subresource: "", namespace });
        }
        if watch.kind == Kind::Pod && shared.options.diagnostics {
            let namespace = watch.namespace.clone();
            let right = Right { verb: Verb::Get, group, resource, subresource: "log", namespace };
            rights.push(Right { subresource: "", ..right.clone() });
            rights.push(right);
        }
    }
    let mut forbidden = 0;
    for right in rights {
        let asked = shared.end.run_until_cancelled(shared.cluster.may(&right)).await;
        match asked {
            None => return,
            Some(Ok(true)) => {}
            Some(Ok(false)) => {
                forbidden += 1;
                tracing::warn!(%right, "the cluster does not allow this; what depends on it is unknown");
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "can't ask the cluster what is allowed; it is found out as it goes");
                return;
            }
        }
    }
    if forbidden == 0 {
        tracing::info!("the cluster allows all that health and diagnostics need");
    }
}
