//! Carries out what a server wants: one task that takes desired states and what goes on around in the order they come,
//! keeps the last, and gives it to supervisor and targets.
//!
//! A declaration that this release does not understand is not run by guess: its placement is reported as failed, with
//! the reason (`unsupported`).

mod heard;
mod keep;
mod sort;
mod wanted;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use hale_api::proto;
use hale_health::{Elsewhere, Generation, Status, Time};
use hale_model::spec::{ListEntry, Target, Workload};
use hale_supervisor::supervisor::{Assignment, SupervisorHandle};
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};

use self::wanted::{PauseIntent, Placed, Unusable, Wanted};
use self::{heard::Heard, keep::Keep, sort::Sorted};
use crate::targets::{Pause, Targets};

/// Messages that wait to be carried out. When it is full the connection is given up: the next one begins with a full
/// state.
pub(crate) const WAITING: usize = 64;

/// So many withdrawn placements of a session are remembered.
const MOST_WITHDRAWN: usize = 4096;

/// What a link passes on.
#[derive(Debug)]
pub(crate) enum Word {
    /// A connection to this cluster is up; `known`: the server was told which state is known here.
    Connected {
        cluster: String,
        known: bool,
        /// When it was asked for.
        asked_at: Time,
    },
    Desired(Box<proto::Desired>),
    Around(proto::Around),
    /// No server can be asked.
    Alone,
}

/// A placement that is reported as failed, because nothing can be made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unsupported {
    pub(crate) generation: u64,
    pub(crate) workload: String,
    pub(crate) ordinal: u32,
    pub(crate) digest: String,
    pub(crate) why: String,
}

/// What is carried out, for all who ask.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    /// Whether a desired state has been loaded, from a file or from a server.
    pub(crate) loaded: bool,
    pub(crate) cluster: String,
    pub(crate) epoch: u64,
    pub(crate) revision: u64,
    /// The digest of the declaration of each placement.
    pub(crate) digests: BTreeMap<u64, String>,
    pub(crate) unsupported: Vec<Unsupported>,
    /// Placements that were withdrawn and that the server may still wait for.
    pub(crate) withdrawn: BTreeSet<u64>,
    /// Rises when only a full state can help: the link registers anew.
    pub(crate) lost_track: u64,
}

/// What the task stands on.
pub(crate) struct Options {
    pub(crate) supervisor: SupervisorHandle,
    pub(crate) targets: Targets,
    /// Where the last state is kept; nowhere when absent.
    pub(crate) dir: Option<PathBuf>,
    /// The boot of the machine.
    pub(crate) boot_id: String,
    /// When the newest beat was sent that a server has acknowledged, nanoseconds of this boot; 0: none.
    pub(crate) heard: watch::Receiver<u64>,
}

pub(crate) struct Desk {
    supervisor: SupervisorHandle,
    targets: Targets,
    keep: Option<Keep>,
    wanted: Wanted,
    view: watch::Sender<Arc<View>>,
    cluster: String,
    /// Whether changes may build on what is known.
    base: bool,
    /// Declarations that were read already, by digest.
    workloads: HashMap<String, Result<Arc<Workload>, String>>,
    checks: HashMap<String, Result<Arc<Target>, String>>,
    /// What was told of dependencies from around, so that what is not told any more is taken back.
    around: BTreeMap<String, Option<Status>>,
    elsewhere: BTreeMap<String, Elsewhere>,
    /// By name: the declaration that was paused, and how.
    paused_targets: BTreeMap<String, (String, Vec<PauseIntent>)>,
    alone: bool,
    heard: Heard,
    acknowledged: watch::Receiver<u64>,
    /// When the present session was asked for.
    asked_at: Option<Time>,
    /// A full state was asked for, because replicas had ended without word of a server, and has not come yet.
    asked_again: bool,
    /// Dependencies of which nothing was known, as the supervisor was told.
    expected: BTreeSet<String>,
}

impl Desk {
    pub(crate) fn new(options: Options) -> (Self, watch::Receiver<Arc<View>>) {
        let (view, seen) = watch::channel(Arc::default());
        let desk = Self {
            supervisor: options.supervisor,
            targets: options.targets,
            heard: Heard::load(options.dir.as_deref(), options.boot_id),
            acknowledged: options.heard,
            asked_at: None,
            asked_again: false,
            expected: BTreeSet::new(),
            keep: options.dir.map(|dir| Keep::new(&dir)),
            wanted: Wanted::default(),
            view,
            cluster: String::new(),
            base: false,
            workloads: HashMap::new(),
            checks: HashMap::new(),
            around: BTreeMap::new(),
            elsewhere: BTreeMap::new(),
            paused_targets: BTreeMap::new(),
            alone: true,
        };
        (desk, seen)
    }

    /// Goes on by the last state that was kept, if there is one.
    pub(crate) async fn resume(&mut self) {
        let Some(kept) = self.keep.as_ref().and_then(Keep::load) else { return };
        tracing::info!(
            revision = kept.revision,
            placements = kept.placements.len(),
            "goes on by the last desired state until a server is reached"
        );
        self.wanted = kept;
        self.carry_out(BTreeSet::new(), &[]).await;
    }

    pub(crate) async fn run(mut self, mut words: mpsc::Receiver<Word>) {
        let mut acknowledged = self.acknowledged.clone();
        loop {
            let word = tokio::select! {
                word = words.recv() => word,
                changed = acknowledged.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let at = Time::from_nanos(*acknowledged.borrow_and_update());
                    self.heard_at(at).await;
                    continue;
                }
            };
            let Some(word) = word else { return };
            match word {
                Word::Connected { cluster, known, asked_at } => {
                    self.asked_at = Some(asked_at);
                    // Without a state that is known here, a full one comes by itself.
                    self.asked_again = !known;
                    if !self.wanted.cluster.is_empty() && self.wanted.cluster != cluster {
                        let (was, now) = (&self.wanted.cluster, &cluster);
                        tracing::warn!(was, now, "this is another cluster: what it wants counts from now on");
                    }
                    self.base = known;
                    self.view.send_modify(|view| Arc::make_mut(view).withdrawn.clear());
                    self.cluster = cluster;
                }
                Word::Desired(desired) => self.desired(&desired).await,
                Word::Around(around) => self.around(around).await,
                Word::Alone => {
                    self.alone = true;
                    self.tell_elsewhere().await;
                }
            }
        }
    }

    async fn desired(&mut self, desired: &proto::Desired) {
        if self.wanted.take_ahead(desired) {
            return;
        }
        match self.wanted.take(desired, &self.cluster, self.base) {
            Ok(()) => {}
            Err(Unusable::NoBase) => {
                self.view.send_modify(|view| Arc::make_mut(view).lost_track += 1);
                return;
            }
            Err(error @ Unusable::Stale { .. }) => {
                tracing::warn!(%error, "a desired state is not taken on");
                // Changes that follow would build on what was not taken.
                self.base = false;
                return;
            }
        }
        self.base = true;
        self.asked_again = false;
        // Whoever says what is wanted now has heard of us in this session.
        if let Some(asked_at) = self.asked_at {
            self.heard.note(asked_at);
        }
        if let Some(keep) = self.keep.clone() {
            let wanted = self.wanted.clone();
            let kept = tokio::task::spawn_blocking(move || keep.store(&wanted)).await;
            if let Err(error) = kept.map_err(std::io::Error::other).and_then(|it| it) {
                tracing::error!(%error, "can't keep the desired state: a restart without a server would go back");
            }
        }
        let over = desired.withdrawn.iter().copied().chain(desired.regranted.iter().map(|it| it.from));
        self.carry_out(over.collect(), &desired.regranted).await;
    }

    /// Gives what is wanted to supervisor and targets, and tells everybody.
    async fn carry_out(&mut self, over: BTreeSet<u64>, regranted: &[proto::Regrant]) {
        let Sorted { assignments, unsupported, targets, missing } = self.sort();
        self.expect_dependencies(&assignments, &targets).await;
        if let Err(error) = self.targets.apply(targets).await {
            tracing::warn!(%error, "not every target can be probed");
        }
        self.pause_targets().await;
        self.continue_as(&assignments, regranted).await;
        if let Err(error) = self.supervisor.assign(assignments).await {
            tracing::error!(%error, "the placements can't be carried out");
        }
        self.tell_elsewhere().await;
        let wanted = &self.wanted;
        let digests: BTreeMap<u64, String> =
            wanted.placements.iter().map(|(generation, it)| (*generation, it.digest.clone())).collect();
        self.view.send_modify(|view| {
            let view = Arc::make_mut(view);
            view.loaded = true;
            view.cluster.clone_from(&wanted.cluster);
            (view.epoch, view.revision) = (wanted.epoch, wanted.revision);
            view.withdrawn.extend(over);
            // Told long ago: the numbers rise.
            while view.withdrawn.len() > MOST_WITHDRAWN {
                view.withdrawn.pop_first();
            }
            view.withdrawn.retain(|it| !digests.contains_key(it));
            view.digests = digests;
            view.unsupported = unsupported;
            view.lost_track += u64::from(missing);
        });
    }

    /// What takes the place of a placement while its instance runs on may be declared otherwise: that takes effect on the
    /// instance under the number it has, before it gets the new one (S9).
    async fn continue_as(&self, assignments: &[Assignment], regranted: &[proto::Regrant]) {
        let known = Arc::clone(&self.view.borrow());
        let here = regranted.iter().filter(|it| known.digests.contains_key(&it.from));
        let before: BTreeMap<u64, u64> = here.map(|it| (it.to, it.from)).collect();
        if before.is_empty() {
            return;
        }
        let under_old = |it: &Assignment| match before.get(&it.generation.0) {
            Some(from) => Assignment { generation: Generation(*from), ..it.clone() },
            None => it.clone(),
        };
        if let Err(error) = self.supervisor.assign(assignments.iter().map(under_old).collect()).await {
            tracing::error!(%error, "placements that were granted anew can't be carried out");
        }
    }

    /// What something here depends on and nothing is known of is waited for, rather than taken for well (H21).
    async fn expect_dependencies(&mut self, assignments: &[Assignment], targets: &[Arc<Target>]) {
        let here: BTreeSet<&str> = assignments.iter().map(|it| it.workload.name.as_str()).collect();
        let probed = self.targets.statuses();
        let unprobed =
            targets.iter().map(|it| it.name.clone()).filter(|it| !probed.borrow().contains_key(it));
        let mut unknown: BTreeSet<String> = unprobed.collect();
        let local: BTreeSet<&str> = targets.iter().map(|it| it.name.as_str()).collect();
        for name in assignments.iter().flat_map(|it| &it.workload.depends_on) {
            let known = here.contains(name.as_str())
                || local.contains(name.as_str())
                || self.around.contains_key(name);
            if !known {
                unknown.insert(name.clone());
            }
        }
        for name in &unknown {
            // Closed: the agent ends.
            let _ = self.supervisor.set_dependency(name, Some(Status::Unknown)).await;
        }
        // What is probed here is told by its probes, and what was told from around since then counts.
        let known = |name: &&String| !unknown.contains(*name) && !local.contains(name.as_str());
        for name in self.expected.iter().filter(known) {
            let _ = self.supervisor.set_dependency(name, self.around.get(name).copied().flatten()).await;
        }
        self.expected = unknown;
    }

    /// A server has heard of us: what is to stop without that goes on.
    async fn heard_at(&mut self, at: Time) {
        if !self.heard.note(at) {
            return;
        }
        let bound = self.wanted.placements.values().filter_map(|placed| {
            let workload = self.workloads.get(&placed.digest)?.as_ref().ok()?;
            let after = workload.disconnect.stop_after?;
            Some((workload.replica_name(placed.ordinal), Some(self.heard.plus(after))))
        });
        let bound: Vec<_> = bound.collect();
        if bound.is_empty() {
            return;
        }
        if let Err(error) = self.heard.keep() {
            tracing::error!(%error, "can't keep when a server last heard of this node");
        }
        // Closed: the agent ends.
        let over = self.supervisor.set_stop_at(bound).await.unwrap_or_default();
        if over.is_empty() || std::mem::replace(&mut self.asked_again, true) {
            return;
        }
        // Another node may have them by now. Only the server knows, and it says so in full alone: it may not have
        // noticed anything.
        tracing::info!(replicas = ?over, "ended without word of a server: it is asked whether they are still wanted");
        self.view.send_modify(|view| Arc::make_mut(view).lost_track += 1);
    }

    async fn pause_targets(&mut self) {
        let now = Timestamp::now();
        let paused: BTreeMap<String, (String, Vec<PauseIntent>)> = self
            .wanted
            .targets
            .iter()
            .filter(|(_, it)| !it.pauses.is_empty())
            .map(|(name, it)| (name.clone(), (it.digest.clone(), it.pauses.clone())))
            .collect();
        for (name, now_paused) in &paused {
            // Declared otherwise, it starts clean, its pause gone with the rest (N14).
            if self.paused_targets.get(name) == Some(now_paused) {
                continue;
            }
            for pause in &now_paused.1 {
                let lasts = match pause.until.map(|until| left(until, now)) {
                    None => None,
                    Some(Some(left)) => Some(left),
                    Some(None) => continue,
                };
                let pause = Pause { lasts, reason: pause.reason.clone(), by: pause.by.clone() };
                let _ = self.targets.pause(name, pause).await;
            }
        }
        for name in self.paused_targets.keys().filter(|it| !paused.contains_key(*it)) {
            let _ = self.targets.resume(name, "an operator").await;
        }
        self.paused_targets = paused;
    }

    async fn around(&mut self, around: proto::Around) {
        self.alone = false;
        self.tell_services(around.services).await;
        self.elsewhere = around
            .elsewhere
            .into_iter()
            .map(|it| (it.workload, Elsewhere::Known { ready: it.ready, restarting: it.restarting }))
            .collect();
        self.tell_elsewhere().await;
        let told: BTreeMap<String, Option<Status>> = around
            .dependencies
            .into_iter()
            // What is probed here is known better here.
            .filter(|it| !self.wanted.targets.contains_key(&it.name))
            .map(|it| (it.name, it.status.parse().ok()))
            .collect();
        for (name, status) in &told {
            if self.around.get(name) != Some(status) {
                let _ = self.supervisor.set_dependency(name, *status).await;
            }
        }
        for name in self.around.keys().filter(|it| !told.contains_key(*it)) {
            if !self.wanted.targets.contains_key(name) {
                let _ = self.supervisor.set_dependency(name, None).await;
            }
        }
        self.around = told;
    }

    /// Tells the targets who serves what they ask for (N12).
    async fn tell_services(&self, services: Vec<proto::ServiceMembers>) {
        let entry = |it: proto::ServiceMember| ListEntry {
            address: it.address,
            replica: Some(it.replica),
            container_id: it.container_id,
            ..ListEntry::default()
        };
        let services =
            services.into_iter().map(|it| (it.service, it.members.into_iter().map(entry).collect()));
        // Closed: the agent ends.
        let _ = self.targets.services(services.collect()).await;
    }

    /// Tells the supervisor what goes on on other nodes. Without a server nothing is known of those, except where all
    /// replicas of a workload are here (H20).
    async fn tell_elsewhere(&self) {
        let mut here: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
        let mut of: BTreeMap<&str, u32> = BTreeMap::new();
        for placed in self.wanted.placements.values() {
            here.entry(&placed.workload).or_default().insert(placed.ordinal);
            if let Some(Ok(workload)) = self.workloads.get(&placed.digest) {
                let of = of.entry(&placed.workload).or_default();
                *of = (*of).max(workload.replicas);
            }
        }
        for (workload, ordinals) in here {
            let all_here = ordinals.len() as u64 >= u64::from(of.get(workload).copied().unwrap_or(0));
            let elsewhere = match self.elsewhere.get(workload) {
                _ if all_here => Elsewhere::default(),
                _ if self.alone => Elsewhere::Unreachable,
                Some(known) => *known,
                None => Elsewhere::default(),
            };
            let _ = self.supervisor.set_elsewhere(workload, elsewhere).await;
        }
    }
}

/// How long it is until then; `None`: it is over.
fn left(until: i64, now: Timestamp) -> Option<Duration> {
    let left = until.saturating_sub(now.as_microsecond());
    u64::try_from(left).ok().filter(|left| *left > 0).map(Duration::from_micros)
}
