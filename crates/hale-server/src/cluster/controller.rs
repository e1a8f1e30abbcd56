//! Placement, decided by the one server that holds the lease for it (S3).
//!
//! The holder keeps a [`Planner`] up with the records, tells it whom this server hears, and writes what it decides as one
//! transaction each, guarded by the lease and by whatever it was decided on. What can't be written because something has
//! changed is taken back and decided anew. A server that takes over knows nothing of the past: the planner is patient
//! for one lost-interval before it judges.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hale_health::Time;
use hale_model::event::EventData;
use hale_placement::{Action, Explanation, Plan, Planner, Verdict};
use hale_store::cluster::{Change, Changes, Guard, Key, Kind, Lease, Record, Versioned, Write, WriteError};
use jiff::Timestamp;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::{
    Cluster, Shared, clock,
    planning::{Lost, add, guard_at, planner, put},
    snapshot::Snapshot,
    status,
};

/// The name of the lease.
const LEASE: &str = "placement";

/// How long changes gather before they are decided on.
const GATHER: Duration = Duration::from_millis(5);

/// The longest without looking, whatever the planner says.
const LOOK: Duration = Duration::from_millis(500);

/// Changes that wait for the planner; beyond that it is built anew from the snapshot.
const WAITING: usize = 100_000;

/// The pause after a plan that could not be written.
const AGAIN: Duration = Duration::from_millis(20);

/// What the decider is told, and the decider itself while this server has the lease.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    news: Mutex<News>,
    wake: Notify,
    planner: Mutex<Option<Planner>>,
}

#[derive(Debug, Default)]
struct News {
    /// Whether anybody listens.
    active: bool,
    records: Vec<Versioned>,
    /// Up to which revision all is in here.
    revision: u64,
    targets: BTreeSet<Arc<str>>,
    /// Whether all is to be read anew.
    lost_track: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What they hold is made anew when a decider panicked midway.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    /// Records have changed.
    pub(crate) fn feed(&self, changes: &Changes) {
        let mut news = lock(&self.news);
        if !news.active {
            return;
        }
        news.revision = changes.revision;
        if changes.records.is_empty() && !changes.reset {
            return;
        }
        if changes.reset || news.records.len() + changes.records.len() > WAITING {
            news.lost_track = true;
            news.records.clear();
        } else if !news.lost_track {
            news.records.extend(changes.records.iter().cloned());
        }
        drop(news);
        self.wake.notify_one();
    }

    /// What is heard of targets has changed.
    pub(crate) fn targets(&self, names: impl IntoIterator<Item = Arc<str>>) {
        let mut news = lock(&self.news);
        if news.active {
            news.targets.extend(names);
            drop(news);
            self.wake.notify_one();
        }
    }

    fn begin(&self) {
        *lock(&self.news) = News { active: true, ..News::default() };
    }

    fn end(&self) {
        *lock(&self.news) = News::default();
        *lock(&self.planner) = None;
    }
}

/// Competes for the lease, and decides while it is held.
pub(crate) async fn run(shared: Arc<Shared>) {
    let again = shared.options.lease / 3;
    while !shared.end.is_cancelled() {
        let asked = Instant::now();
        let lease = shared.store.lease(LEASE, &shared.name, shared.options.lease).await;
        if let Ok(Some(lease)) = lease {
            tracing::info!(
                server = shared.name,
                number = lease.number,
                "this server decides placement from now on"
            );
            let mut deciding = Deciding::begin(&shared, lease, asked);
            shared.end.run_until_cancelled(deciding.go()).await;
            shared.planner.end();
            tracing::info!(server = shared.name, "this server decides placement no longer");
        }
        shared.end.run_until_cancelled(sleep(again)).await;
    }
}

/// The holder of the lease at work.
struct Deciding<'a> {
    shared: &'a Shared,
    lease: Lease,
    /// When the lease was last asked for with success.
    renewed: Instant,
    /// Until when what is in the news is in the planner already.
    known: u64,
    /// Up to which revision the planner was told all: what it decides is written only over records that are no newer.
    told: u64,
    /// By node, the beat that the planner was told of.
    heard: HashMap<Arc<str>, Time>,
    servers: BTreeSet<String>,
    /// Reports of instances that nobody here placed (S5): cleared away with the plan that answers them.
    adopted: BTreeSet<u64>,
    /// Replicas that fit nowhere, and the rule that keeps most nodes out.
    unplaced: BTreeMap<(String, u32), String>,
    /// Since when something waits to be decided.
    since: Option<Instant>,
    outage: bool,
}

impl<'a> Deciding<'a> {
    fn begin(shared: &'a Shared, lease: Lease, renewed: Instant) -> Self {
        let mut deciding = Self {
            shared,
            lease,
            renewed,
            known: 0,
            told: 0,
            heard: HashMap::new(),
            servers: BTreeSet::new(),
            adopted: BTreeSet::new(),
            unplaced: BTreeMap::new(),
            since: None,
            outage: false,
        };
        deciding.build();
        deciding
    }

    /// A planner that knows the snapshot.
    fn build(&mut self) {
        let desk = &self.shared.planner;
        desk.begin();
        let snapshot = self.shared.feed.current();
        let mut planner = planner(self.shared, &snapshot);
        for it in snapshot.observed.iter().filter(|it| snapshot.placements.get(it.generation).is_none()) {
            self.adopted.insert(it.generation);
            planner.adopt(clock::now(), Box::new((*it.record).clone()));
        }
        self.known = snapshot.revision;
        self.told = snapshot.revision;
        self.heard.clear();
        self.servers.clear();
        self.since = Some(Instant::now());
        *lock(&desk.planner) = Some(planner);
    }

    /// Until the lease is lost.
    async fn go(&mut self) {
        loop {
            if !self.renew().await {
                return;
            }
            self.take_news();
            self.listen();
            match self.decide().await {
                Ok(()) => self.wait().await,
                Err(Lost) => return,
            }
        }
    }

    /// Renews the lease when that is due; `false`: it is another's.
    async fn renew(&mut self) -> bool {
        if self.renewed.elapsed() < self.shared.options.lease / 3 {
            return true;
        }
        let asked = Instant::now();
        match self.shared.store.lease(LEASE, &self.shared.name, self.shared.options.lease).await {
            Ok(Some(lease)) if lease.number == self.lease.number => {
                self.renewed = asked;
                if std::mem::take(&mut self.outage)
                    && let Some(planner) = &mut *lock(&self.shared.planner.planner)
                {
                    planner.be_patient(clock::now());
                }
                true
            }
            Ok(_) => false,
            Err(error) => {
                self.outage = true;
                tracing::warn!(%error, "the lease on placement can't be renewed");
                // What is written is guarded by it: nothing is decided meanwhile, and it is asked for again.
                self.renewed.elapsed() < self.shared.options.lease
            }
        }
    }

    fn take_news(&mut self) {
        let desk = &self.shared.planner;
        let News { records, targets, lost_track, revision, .. } =
            std::mem::replace(&mut *lock(&desk.news), News { active: true, ..News::default() });
        if lost_track {
            self.build();
            return;
        }
        self.told = self.told.max(revision);
        let snapshot = self.shared.feed.current();
        let mut held = lock(&desk.planner);
        let Some(planner) = &mut *held else { return };
        if !records.is_empty() || !targets.is_empty() {
            self.since.get_or_insert_with(Instant::now);
        }
        for it in records.into_iter().filter(|it| it.revision > self.known) {
            if let Some(Record::Observed(observed)) = &it.record
                && snapshot.placements.get(observed.generation).is_none()
                && snapshot.observed.get(observed.generation).is_some()
            {
                self.adopted.insert(observed.generation);
                planner.adopt(clock::now(), observed.clone());
                continue;
            }
            put(planner, it);
        }
        for name in targets {
            if let Some(target) = snapshot.targets.get(&name) {
                planner.target_status(&name, status::target(self.shared, target).status);
            }
        }
    }

    /// Tells the planner who is heard: before any beat is acknowledged that it was not told of, because the time of a
    /// beat is noted before its acknowledgement is sent.
    fn listen(&mut self) {
        let mut held = lock(&self.shared.planner.planner);
        let Some(planner) = &mut *held else { return };
        let now = clock::now();
        let servers: BTreeSet<String> = self.shared.alive.borrow().names().map(str::to_owned).collect();
        if servers != self.servers {
            planner.servers(now, &servers);
            self.servers = servers;
        }
        for node in self.shared.live.nodes() {
            let last = node.last_beat();
            let known = self.heard.entry(Arc::clone(&node.name)).or_default();
            if last > *known {
                *known = last;
                planner.heard(last, &node.name);
            }
        }
    }

    async fn decide(&mut self) -> Result<(), Lost> {
        let (now, wall) = (clock::now(), Timestamp::now());
        let decided = {
            let mut held = lock(&self.shared.planner.planner);
            let Some(planner) = &mut *held else { return Ok(()) };
            planner.decide(now, wall)
        };
        if decided.is_empty() && self.adopted.is_empty() {
            self.since = None;
            return Ok(());
        }
        let snapshot = self.shared.feed.current();
        let write = self.write(&snapshot, &decided);
        let placed = decided.actions.iter().filter(|it| matches!(it, Action::Place(_))).count() as u64;
        match self.shared.store.write(write).await {
            Ok(committed) => {
                self.adopted.clear();
                self.count_unplaced(&snapshot, &decided);
                self.shared.counters.placements.add(placed);
                if let Some(since) = self.since.take()
                    && placed > 0
                {
                    self.shared.counters.placement_latency.observe(since.elapsed());
                }
                tracing::debug!(
                    actions = decided.actions.len(),
                    revision = committed.revision,
                    "a plan was written"
                );
                Ok(())
            }
            Err(error) => {
                self.shared.counters.plan_conflicts.add(1);
                if let Some(planner) = &mut *lock(&self.shared.planner.planner) {
                    planner.take_back(clock::now(), Timestamp::now(), &decided);
                }
                self.after(error).await
            }
        }
    }

    async fn after(&mut self, error: WriteError) -> Result<(), Lost> {
        match error {
            WriteError::Conflict { what } => {
                tracing::debug!(what, "a plan is decided anew");
                self.shared.feed.at_least(self.shared.store.revision(), self.shared.options.lease).await;
                // A lease that is another's is seen when it is renewed, which is due now.
                self.renewed = Instant::now() - self.shared.options.lease / 2;
            }
            WriteError::Unavailable(detail) => {
                tracing::error!(detail, "a plan could not be written; it is decided anew");
                self.outage = true;
                self.renewed -= self.shared.options.lease / 3;
            }
            WriteError::Refused(detail) => {
                tracing::error!(detail, "the database does not take a plan; it is decided anew");
                sleep(self.shared.options.lease).await;
            }
            WriteError::Closed => return Err(Lost),
        }
        sleep(AGAIN).await;
        Ok(())
    }

    /// Keeps count of what fits nowhere, for the metrics.
    fn count_unplaced(&mut self, snapshot: &Snapshot, plan: &Plan) {
        let before = self.unplaced.len();
        let held = lock(&self.shared.planner.planner);
        let Some(planner) = &*held else { return };
        let mut news = false;
        for action in &plan.actions {
            match action {
                Action::Place(it) => drop(self.unplaced.remove(&(it.workload.clone(), it.ordinal))),
                Action::Event(event) => {
                    let EventData::ReplicaUnplaceable(it) = &event.data else { continue };
                    let ordinal = event.subject.rsplit_once('-').and_then(|(_, it)| it.parse().ok());
                    let key = (it.workload.clone(), ordinal.unwrap_or(0));
                    let told = planner.explain(clock::now(), Timestamp::now(), &key.0, key.1);
                    self.unplaced.insert(key, told.map_or_else(String::new, |it| most_frequent(&it)));
                    news = true;
                }
                _ => {}
            }
        }
        drop(held);
        self.unplaced.retain(|(workload, ordinal), _| {
            snapshot.specs.get(workload.as_str()).is_some_and(|it| *ordinal < it.replicas)
        });
        if news || self.unplaced.len() != before {
            let mut counts = BTreeMap::new();
            self.unplaced.values().for_each(|it| *counts.entry(it.clone()).or_default() += 1);
            self.shared.counters.set_unplaced(counts);
        }
    }

    /// The transaction that a plan is.
    fn write(&self, snapshot: &Snapshot, plan: &Plan) -> Write {
        let mut write = Write::default();
        write.guards.push(Guard::Lease { name: LEASE.to_owned(), number: self.lease.number });
        for action in &plan.actions {
            add(&mut write, (snapshot, self.told), action);
        }
        for generation in &self.adopted {
            write.changes.push(Change::Delete(Key::new(Kind::Observed, generation.to_string())));
        }
        if let (Some(last_generation), Some(cluster)) = (plan.last_generation, &snapshot.cluster) {
            let record = hale_model::cluster::ClusterRecord { last_generation, ..(*cluster.record).clone() };
            write.guards.push(guard_at((snapshot, self.told), Kind::Cluster, "cluster"));
            write.changes.push(Change::Put(Record::Cluster(record)));
        }
        write
    }

    async fn wait(&self) {
        let deadline = lock(&self.shared.planner.planner).as_ref().and_then(Planner::next_deadline);
        let longest = LOOK.min(self.shared.options.lease / 3);
        let wait = deadline.map_or(longest, |it| it.since(clock::now()).clamp(GATHER, longest));
        // Woken or not, it is time to look.
        let _woken = timeout(wait, self.shared.planner.wake.notified()).await;
        sleep(GATHER).await;
    }
}

/// The rule that keeps most nodes out; `no_node` when there is none.
fn most_frequent(told: &Explanation) -> String {
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for it in &told.nodes {
        if let Verdict::No { filter, .. } = &it.verdict {
            *counts.entry(filter.to_string()).or_default() += 1;
        }
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    most.map_or_else(|| "no_node".to_owned(), |(filter, _)| filter)
}

impl Cluster {
    /// Why a replica, or each of a workload, is where it is: by the planner of the server that decides, or by one that
    /// is made up from what is recorded.
    pub(crate) fn explain_placement(&self, name: &str) -> Vec<String> {
        let snapshot = self.shared.feed.current();
        let (workload, ordinals) = match (snapshot.specs.get(name), name.rsplit_once('-')) {
            (Some(spec), _) => (name, (0..spec.replicas).collect()),
            (None, Some((workload, ordinal))) => {
                (workload, ordinal.parse().into_iter().collect::<Vec<u32>>())
            }
            (None, None) => return Vec::new(),
        };
        let (now, wall) = (clock::now(), Timestamp::now());
        let explain = |planner: &Planner| {
            let told = ordinals.iter().filter_map(|it| planner.explain(now, wall, workload, *it));
            told.flat_map(|it| it.to_string().lines().map(str::to_owned).collect::<Vec<_>>()).collect()
        };
        if let Some(planner) = &*lock(&self.shared.planner.planner) {
            return explain(planner);
        }
        let mut planner = planner(&self.shared, &snapshot);
        // What it would do is not done; deciding finds out what stands in the way.
        let _not_done = planner.decide(now, wall);
        explain(&planner)
    }
}
