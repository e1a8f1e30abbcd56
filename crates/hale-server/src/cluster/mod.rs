//! A server of a cluster: many nodes, any number of servers, one database (S1–S15).
//!
//! Every server follows the database's records ([`snapshot`]) and has the sessions of some nodes ([`session`]): what is
//! wanted goes out to them, what happens comes in ([`live`]) and becomes durable. One of the servers holds the lease on
//! placement and decides ([`controller`]). Gateways hear of endpoints from any of them ([`gateways`]). A person's
//! request is taken by any of them, too ([`control`], [`desired`]).

mod around;
pub(crate) mod clock;
mod control;
mod controller;
pub mod counters;
pub mod desired;
mod feed;
pub mod following;
mod gateways;
mod grpc;
pub mod live;
mod orders;
mod person;
mod planning;
mod pulse;
mod scaling;
pub mod seen;
mod session;
pub mod snapshot;
mod stale;
mod status;
mod whereabouts;

use std::{
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hale_model::{cluster::ClusterRecord, event::NewEvent, report::EndpointReport, trace, trace_span};
use hale_store::{
    Store, StoreError,
    cluster::{Change, Changes, Guard, Key, Kind, Record, Write, WriteError},
};
use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    around::Arounds, counters::Counters, feed::Feed, gateways::Gateways, live::Live, pulse::Alive,
    session::Sessions, snapshot::Touched,
};
use crate::{Registry, TokenSet, registry};

/// How a server takes part in its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// From beat to beat of a node (N7). 5 s.
    pub heartbeat: Duration,
    /// How long a lease lasts without being renewed (S3). 5 s.
    pub lease: Duration,
    /// Where the other servers, and agents that change over, reach this one's API: a URL.
    pub url: String,
}

impl Options {
    /// With the default times.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self { heartbeat: Duration::from_secs(5), lease: Duration::from_secs(5), url: url.into() }
    }
}

/// A server of a cluster. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Cluster {
    pub(crate) shared: Arc<Shared>,
}

/// What its parts share.
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) options: Options,
    /// The name of this server's lease: random, one per start.
    pub(crate) name: String,
    pub(crate) tokens: TokenSet,
    pub(crate) registry: Arc<Registry>,
    pub(crate) feed: Feed,
    pub(crate) live: Live,
    pub(crate) sessions: Sessions,
    pub(crate) gateways: Gateways,
    pub(crate) arounds: Arounds,
    pub(crate) counters: Arc<Counters>,
    /// Servers whose lease lives, as last asked.
    pub(crate) alive: watch::Sender<Arc<Alive>>,
    /// Until when this server's own lease lasts, by the clock of decisions: no beat is acknowledged after (S9).
    pub(crate) lease_until: AtomicU64,
    pub(crate) planner: controller::Desk,
    pub(crate) wanting: mpsc::Sender<session::register::Wanting>,
    pub(crate) tasks: TaskTracker,
    pub(crate) end: CancellationToken,
}

impl Cluster {
    /// Joins the cluster of a database, making it one where it is none yet, and begins to work.
    ///
    /// Agents and gateways are let in by `tokens`, which follow the database's records from now on; `registry` is fed.
    ///
    /// # Errors
    /// When the database can't be read or written.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn start(
        store: Store,
        tokens: TokenSet,
        registry: Arc<Registry>,
        options: Options,
    ) -> Result<Self, StoreError> {
        found(&store).await?;
        let name = random_name().map_err(|error| StoreError::Database {
            what: "be joined",
            detail: format!("the system has no random bytes: {error}"),
        })?;
        let (feed, all, touched) = Feed::open(store.clone()).await?;
        let (wanting, wanted) = mpsc::channel(session::register::WAITING);
        let shared = Arc::new(Shared {
            store,
            name,
            tokens,
            registry,
            feed,
            live: Live::default(),
            sessions: Sessions::default(),
            gateways: Gateways::default(),
            arounds: Arounds::default(),
            counters: Arc::default(),
            alive: watch::Sender::new(Arc::default()),
            lease_until: AtomicU64::new(0),
            planner: controller::Desk::default(),
            wanting,
            tasks: TaskTracker::new(),
            end: CancellationToken::new(),
            options,
        });
        pulse::join(&shared).await?;
        let snapshot = shared.feed.current();
        shared.touched(&snapshot, &all, touched);
        shared.spawn(wanted);
        tracing::info!(server = shared.name, url = shared.options.url, "this server has joined its cluster");
        Ok(Self { shared })
    }

    /// What it counts, for metrics.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.shared.counters)
    }

    /// Puts something on record that another part of this process has to tell, a responder: it is written, numbered and
    /// told like every event, in the order of the calls. Returns at once. Up to 100,000 wait for a disk that takes none;
    /// false when this one is lost for that.
    pub fn tell(&self, event: NewEvent) -> bool {
        self.shared.store.append(event)
    }

    /// How many agents are connected here.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.shared.sessions.len()
    }

    /// How many gateways are connected here.
    #[must_use]
    pub fn gateways(&self) -> usize {
        self.shared.gateways.len()
    }

    /// Everything as recorded, as of the newest revision that is known here.
    #[must_use]
    pub fn snapshot(&self) -> Arc<snapshot::Snapshot> {
        self.shared.feed.current()
    }

    /// Follows what is recorded.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<Arc<snapshot::Snapshot>> {
        self.shared.feed.follow()
    }

    /// Waits until what was written at this revision can be seen here, 5 s at most.
    pub async fn caught_up(&self, revision: u64) -> Arc<snapshot::Snapshot> {
        self.shared.feed.at_least(revision, Duration::from_secs(5)).await
    }

    /// The name of this server's lease.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Whether it takes requests; the error says what is wrong (`/readyz`).
    ///
    /// # Errors
    /// The database does not answer, this server's lease ran out, or it is about to end.
    pub fn ready(&self) -> Result<(), String> {
        match self.shared.feed.trouble() {
            _ if self.shared.end.is_cancelled() => Err("this server is leaving its cluster".to_owned()),
            Some(detail) => Err(format!("the database does not answer: {detail}")),
            None if !self.shared.alive.borrow().own => Err("this server's lease ran out".to_owned()),
            None => Ok(()),
        }
    }

    /// Leaves the cluster: agents and gateways are told to go elsewhere, leases are given back. Waits until what was
    /// said last is durable, 15 s at most.
    pub async fn stop(&self) {
        self.shared.end.cancel();
        self.shared.tasks.close();
        if tokio::time::timeout(Duration::from_secs(15), self.shared.tasks.wait()).await.is_err() {
            tracing::warn!(left = self.shared.tasks.len(), "parts of the server did not end in time");
        }
        pulse::leave(&self.shared).await;
    }
}

/// Where what runs on a node is reached from other machines; `None`: its agent is reached by loopback, and so shares its
/// machine with all that ask.
pub(crate) fn reached_at(node: &hale_model::cluster::NodeFacts) -> Option<std::net::IpAddr> {
    node.address.filter(|it| !it.is_loopback() && !it.is_unspecified())
}

/// Makes the database a cluster if it is none.
async fn found(store: &Store) -> Result<(), StoreError> {
    let failed = |detail: String| StoreError::Database { what: "be joined", detail };
    let key = Key::new(Kind::Cluster, "cluster");
    let id = random_name().map_err(|error| failed(error.to_string()))?;
    let record = ClusterRecord { id, epoch: 1, last_generation: 0, last_session: 0, adoptable_below: 0 };
    let write =
        Write { changes: vec![Change::Put(Record::Cluster(record))], guards: vec![Guard::Absent(key)] };
    match store.write(write).await {
        Ok(_) | Err(WriteError::Conflict { .. }) => Ok(()),
        Err(error) => Err(failed(error.to_string())),
    }
}

fn random_name() -> io::Result<String> {
    let mut random = [0; 8];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(crate::auth::hex(&random))
}

/// The beginning of a text that somebody else made up, for logs and answers.
pub(crate) fn short(text: &str) -> &str {
    text.char_indices().nth(100).map_or(text, |(at, _)| &text[..at])
}

impl Shared {
    fn spawn(self: &Arc<Self>, wanted: mpsc::Receiver<session::register::Wanting>) {
        let shared = Arc::clone(self);
        self.tasks.spawn(async move {
            let told = |snapshot: &Arc<_>, changes: &_, touched| shared.touched(snapshot, changes, touched);
            shared.feed.run(shared.end.clone(), told).await;
        });
        self.tasks.spawn(session::register::run(Arc::clone(self), wanted));
        self.tasks.spawn(pulse::run(Arc::clone(self)));
        self.tasks.spawn(Arounds::run(Arc::clone(self)));
        self.tasks.spawn(controller::run(Arc::clone(self)));
    }

    /// Records have changed: everyone whom that concerns is told.
    fn touched(self: &Arc<Self>, snapshot: &Arc<snapshot::Snapshot>, changes: &Changes, touched: Touched) {
        if touched.tokens || changes.reset {
            // Not as the snapshot has them: what was made here just now may be newer.
            self.tokens.take(changes);
        }
        for name in &touched.declared {
            match snapshot.specs.get(name) {
                Some(spec) => drop(self.registry.declare(name, spec.service.as_ref())),
                None => self.registry.forget(name),
            }
        }
        for name in &touched.nodes {
            self.node(snapshot, name);
        }
        for name in &touched.sessions {
            self.session(snapshot, name);
        }
        for generation in &touched.generations {
            self.project(snapshot, *generation);
        }
        let mut nodes = touched.desired;
        for node in &touched.nodes {
            let names = snapshot.placed_on(node).map(|it| Arc::from(it.workload.as_str()));
            self.arounds.changed(names);
        }
        self.arounds.changed(touched.workloads.into_iter().chain(touched.targets));
        nodes.extend(touched.sessions);
        nodes.iter().for_each(|node| self.sessions.wake(node));
        if touched.orders {
            orders::look(self, snapshot);
        }
        self.planner.feed(changes);
        self.live.changed();
    }

    /// The record of a node has changed or gone.
    fn node(&self, snapshot: &snapshot::Snapshot, name: &str) {
        let Some(node) = snapshot.nodes.get(name) else {
            self.sessions.stop(name, "node_deleted", "the node was deleted");
            self.live.forget(name);
            self.log(self.registry.forget_node(name), name, false, "the node was deleted");
            return;
        };
        let lost = node.condition == hale_model::cluster::NodeCondition::Lost;
        let zone = Some(node.facts.zone.clone()).filter(|it| !it.is_empty());
        let node_now = registry::Node { lost, zone, weight: 1, address: reached_at(&node.facts) };
        let changes = self.registry.set_node(name, node_now);
        self.log(changes, name, !lost, node.condition.as_str());
    }

    /// The session of a node is another: what it says here may be no longer the newest.
    fn session(&self, snapshot: &snapshot::Snapshot, name: &str) {
        let record = snapshot.sessions.get(name);
        let own = self.sessions.get(name);
        match (record, own) {
            (Some(record), Some(own)) if record.session > own.number => {
                own.stop("superseded", "the agent has registered elsewhere");
            }
            (Some(record), None) if record.server != self.name => {
                self.live.forget(name);
                let generations: Vec<u64> = snapshot.placed_on(name).map(|it| it.generation).collect();
                generations.iter().for_each(|it| self.project(snapshot, *it));
            }
            _ => {}
        }
    }

    /// Tells the registry what is recorded of a placement, unless its node says it here by itself.
    fn project(&self, snapshot: &snapshot::Snapshot, generation: u64) {
        let placement = snapshot.placements.get(generation);
        let observed = snapshot.observed.get(generation);
        let node = placement.map(|it| &it.node).or_else(|| observed.map(|it| &it.node));
        if let Some(live) = node.and_then(|it| self.live.node(it)) {
            let mut heard = live.heard();
            if heard.replicas.contains_key(&generation) || heard.gone.contains(&generation) {
                if observed.is_none() {
                    heard.gone.remove(&generation);
                }
                return;
            }
        }
        match observed {
            Some(it) => {
                let seen = seen::Seen::remembered(it);
                self.draining(&it.node, &seen);
                self.publish(&seen.endpoint(&it.node, true));
            }
            None => self.unpublish_generation(generation),
        }
    }

    /// Tells the registry how an instance is.
    pub(crate) fn publish(&self, report: &EndpointReport) {
        let (replica, ready) = (report.replica.as_str(), report.ready);
        let span = trace_span!(next report.traceparent.as_deref(), "registry", replica, ready);
        let _inside = span.enter();
        let changes = match trace::of(&span) {
            Some(own) => self.registry.apply(&EndpointReport { traceparent: Some(own), ..report.clone() }),
            None => self.registry.apply(report),
        };
        self.log(changes, &report.replica, report.ready, &report.reason);
    }

    /// Tells the registry that an instance is gone.
    pub(crate) fn unpublish(&self, workload: &str, replica: &str, generation: u64) {
        self.drained_away(generation);
        let changes = self.registry.remove_generation(workload, replica, generation);
        self.log(changes, replica, false, "gone");
    }

    fn unpublish_generation(&self, generation: u64) {
        self.drained_away(generation);
        let changes = self.registry.remove_placement(generation);
        self.log(changes, "", false, "gone");
    }

    fn log(&self, changes: Vec<registry::Change>, what: &str, ready: bool, reason: &str) {
        let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        for change in changes {
            self.counters.endpoints.add(1);
            tracing::info!(
                service = change.service,
                replica = said(what),
                ready,
                ready_endpoints = change.ready,
                revision = change.revision,
                reason = said(reason),
                "an endpoint has changed"
            );
        }
    }

    /// What is heard of a workload has changed.
    pub(crate) fn changed_workload(&self, workload: &str) {
        self.arounds.changed([Arc::from(workload)]);
    }

    /// What is heard of the targets of a node has changed.
    pub(crate) fn changed_targets(&self, node: &str) {
        let Some(live) = self.live.node(node) else { return };
        let names: Vec<Arc<str>> = live.heard().targets.keys().map(|it| Arc::from(it.as_str())).collect();
        self.planner.targets(names.iter().cloned());
        self.arounds.changed(names);
    }

    /// Whether this server's own lease lasts: the others count on it that no beat is acknowledged else (S9).
    pub(crate) fn holds_lease(&self) -> bool {
        clock::now().as_nanos() < self.lease_until.load(Ordering::Relaxed)
    }

    /// Where agents can go when this server ends.
    pub(crate) fn other_servers(&self) -> Vec<String> {
        let snapshot = self.feed.current();
        let alive = Arc::clone(&self.alive.borrow());
        let others = snapshot.servers.values().filter(|it| it.name != self.name && alive.has(&it.name));
        others.map(|it| it.url.clone()).collect()
    }
}
