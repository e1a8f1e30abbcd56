//! What the beats of this server's own sessions said, as it is now: read by whoever tells how things are.
//!
//! It lives in memory and is made anew by full beats. What is durable of it is in the snapshot, which stands in for
//! the nodes of other servers and for those that have not told anything here yet.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use hale_api::proto;
use hale_health::Time;
use hale_model::{cluster::PlacementRecord, status::TargetStatus};
use jiff::Timestamp;
use tokio::sync::watch;

use super::{clock, seen::Seen, snapshot::Snapshot};

/// What is heard at this server.
#[derive(Debug)]
pub struct Live {
    nodes: RwLock<HashMap<Arc<str>, Arc<LiveNode>>>,
    changes: watch::Sender<u64>,
}

/// What is heard of one node.
#[derive(Debug)]
pub struct LiveNode {
    /// Its name.
    pub name: Arc<str>,
    /// When its last beat came: nanoseconds of the clock of decisions.
    last_beat: AtomicU64,
    /// The same on the wall clock, microseconds.
    last_beat_at: AtomicI64,
    /// How far its wall clock is ahead of ours, milliseconds, as of its last beat; with the way of the beat in it.
    skew_ms: AtomicI64,
    inner: Mutex<Heard>,
}

/// What a node told.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// By generation.
    pub(crate) replicas: HashMap<u64, Entry>,
    /// Generations it said are gone, until that is recorded: what was recorded of them before counts no more.
    pub(crate) gone: HashSet<u64>,
    /// Targets that it probes: read, and as they came.
    pub(crate) targets: BTreeMap<String, (TargetStatus, proto::Target)>,
    /// What it has and uses.
    pub(crate) resources: Option<proto::Resources>,
}

/// One instance of a node.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// What was said last.
    pub(crate) seen: Arc<Seen>,
    /// The last of it whose facts are durable.
    pub(crate) durable: Option<Arc<Seen>>,
}

impl Default for Live {
    fn default() -> Self {
        Self { nodes: RwLock::default(), changes: watch::Sender::new(0) }
    }
}

impl Live {
    /// A session of a node begins here.
    pub(crate) fn begin(&self, node: &Arc<str>) -> Arc<LiveNode> {
        let mut nodes = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
        let live = nodes.entry(Arc::clone(node)).or_insert_with(|| Arc::new(LiveNode::new(Arc::clone(node))));
        live.beat(None);
        Arc::clone(live)
    }

    /// Another server has this node now, or nobody: what it said here is no longer how it is.
    pub(crate) fn forget(&self, node: &str) {
        self.nodes.write().unwrap_or_else(PoisonError::into_inner).remove(node);
        self.changed();
    }

    /// What is heard of a node, if it is or was connected here.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<Arc<LiveNode>> {
        self.nodes.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// All of them.
    #[must_use]
    pub fn nodes(&self) -> Vec<Arc<LiveNode>> {
        self.nodes.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// What was last said of a placement; `None`: nothing yet.
    #[must_use]
    pub fn seen(&self, snapshot: &Snapshot, placement: &PlacementRecord) -> Option<Arc<Seen>> {
        let live = self
            .node(&placement.node)
            .and_then(|it| it.heard().replicas.get(&placement.generation).map(|it| Arc::clone(&it.seen)));
        live.or_else(|| snapshot.observed.get(placement.generation).map(|it| Arc::new(Seen::remembered(it))))
    }

    /// What was last said of a target.
    #[must_use]
    pub fn target(&self, node: &str, target: &str) -> Option<TargetStatus> {
        self.node(node)?.heard().targets.get(target).map(|it| it.0.clone())
    }

    /// What was last said of the targets that stand in a list.
    #[must_use]
    pub fn members(&self, node: &str, list: &str) -> Vec<TargetStatus> {
        let Some(node) = self.node(node) else { return Vec::new() };
        let heard = node.heard();
        let of = heard.targets.values().filter(|(it, _)| it.origin.list.as_deref() == Some(list));
        of.map(|(it, _)| it.clone()).collect()
    }

    /// The list that a target stands in, and the node that probes it.
    #[must_use]
    pub fn list_of(&self, target: &str) -> Option<(String, String)> {
        self.nodes().into_iter().find_map(|node| {
            let heard = node.heard();
            let list = heard.targets.get(target)?.0.origin.list.clone()?;
            drop(heard);
            Some((node.name.to_string(), list))
        })
    }

    /// Something that people see has changed.
    pub(crate) fn changed(&self) {
        self.changes.send_modify(|it| *it += 1);
    }

    /// A number that rises whenever a phase, a readiness, a hold or a record changes.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

impl LiveNode {
    fn new(name: Arc<str>) -> Self {
        Self {
            name,
            last_beat: AtomicU64::new(0),
            last_beat_at: AtomicI64::new(0),
            skew_ms: AtomicI64::new(0),
            inner: Mutex::default(),
        }
    }

    /// A beat has come; it was sent at this time of its node's wall clock.
    pub(crate) fn beat(&self, sent_at: Option<i64>) {
        let at = Timestamp::now().as_microsecond();
        self.last_beat.store(clock::now().as_nanos(), Ordering::Relaxed);
        self.last_beat_at.store(at, Ordering::Relaxed);
        if let Some(sent_at) = sent_at {
            self.skew_ms.store(sent_at.saturating_sub(at) / 1000, Ordering::Relaxed);
        }
    }

    /// When its last beat came, on the clock of decisions.
    #[must_use]
    pub fn last_beat(&self) -> Time {
        Time::from_nanos(self.last_beat.load(Ordering::Relaxed))
    }

    /// The same on the wall clock.
    #[must_use]
    pub fn last_beat_at(&self) -> Timestamp {
        Timestamp::from_microsecond(self.last_beat_at.load(Ordering::Relaxed)).unwrap_or_default()
    }

    /// How far its wall clock is ahead of ours, milliseconds (N8).
    #[must_use]
    pub fn skew_ms(&self) -> i64 {
        self.skew_ms.load(Ordering::Relaxed)
    }

    /// What it told. Held for short reads and writes only, never over a wait.
    pub(crate) fn heard(&self) -> MutexGuard<'_, Heard> {
        // Every critical section leaves it whole, so that a panic elsewhere does no harm.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it has and uses, as it last told (N10).
    #[must_use]
    pub fn resources(&self) -> Option<proto::Resources> {
        self.heard().resources
    }
}
