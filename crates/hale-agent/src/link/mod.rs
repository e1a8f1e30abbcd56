//! The stream to a server (N7, N8): dials, registers, beats, and does all of it again when it breaks.
//!
//! One task owns the [`Tracker`] and talks to one server at a time. What it hears is bounded and looked at before it is
//! believed: a server that is slow, absent or talks nonsense costs a reconnection, never the node.

mod beat;
mod dial;
mod end;
mod look;
mod register;
mod session;
mod skew;

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use hale_health::{Backoff, BackoffPolicy};
use hale_supervisor::{clock::Clock, supervisor::SupervisorHandle};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

pub(crate) use self::dial::chain;
pub use self::{
    dial::{Connector, DialError, Dialed, Remote},
    register::Identity,
};
use self::{end::End, skew::Skew};
use crate::{
    asks::Asks,
    desired::{View, Word},
    drains::Drains,
    metrics::LinkMetrics,
    reports::Reports,
    resources::Sample,
    state::Tracker,
    targets::Targets,
};

/// The most servers that are remembered beside those that were configured.
const MOST_NAMED: usize = 16;

/// A session that lasted so long was a good one: the next wait is short again.
const GOOD_SESSION: Duration = Duration::from_secs(30);

/// The waits between attempts: each from half of it to all of it, so that many nodes do not come back together.
const RECONNECT: BackoffPolicy = BackoffPolicy {
    initial: Duration::from_secs(1),
    max: Duration::from_secs(30),
    multiplier: 2.0,
    jitter: 0.5,
};

/// How often it is counted what waits while there is no server.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// A goodbye of the agent.
#[derive(Debug)]
pub(crate) struct Leave {
    pub(crate) reason: String,
    /// How long until it is back; 0: it is not to be waited for.
    pub(crate) away_seconds: u32,
    /// Whether it has stopped its replicas, so that nothing is here any more.
    pub(crate) stopped: bool,
    pub(crate) done: oneshot::Sender<()>,
}

/// How the link stands, for whoever asks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LinkState {
    /// The server that is connected.
    pub server: Option<String>,
    /// The number of the last session, 0 before the first.
    pub session: u64,
    /// Why the last attempt or session ended.
    pub trouble: Option<String>,
}

/// What a link stands on.
pub(crate) struct Parts {
    pub(crate) identity: Identity,
    pub(crate) connector: Arc<dyn Connector>,
    /// The longest from beat to beat; a server may want them more often.
    pub(crate) heartbeat: Duration,
    pub(crate) supervisor: SupervisorHandle,
    pub(crate) targets: Targets,
    pub(crate) reports: Arc<Reports>,
    pub(crate) drains: Drains,
    pub(crate) asks: Asks,
    pub(crate) samples: watch::Receiver<Arc<Sample>>,
    /// What it can run now.
    pub(crate) runtimes: watch::Receiver<Vec<String>>,
    pub(crate) metrics: LinkMetrics,
    pub(crate) clock: Arc<dyn Clock>,
}

pub(crate) struct Link {
    parts: Parts,
    tracker: Tracker,
    view: watch::Receiver<Arc<View>>,
    words: mpsc::Sender<Word>,
    leave: mpsc::Receiver<Leave>,
    reload: watch::Receiver<u64>,
    state: watch::Sender<LinkState>,
    /// When the newest acknowledged beat was sent, by the clock of this boot (S9).
    acknowledged: watch::Sender<u64>,
    backoff: Backoff,
    servers: Vec<String>,
    next: usize,
    session: u64,
    skew: Skew,
    /// Only a full desired state can help: the next registration says that none is known.
    resync: bool,
    lost_track_seen: u64,
    /// Placements that were told gone in this session, though nothing of them was ever here.
    told_gone: std::collections::BTreeSet<u64>,
    /// By placement: the trace that it was told in last.
    traces: std::collections::BTreeMap<u64, String>,
}

/// The ends of a link that others hold.
pub(crate) struct Ends {
    pub(crate) view: watch::Receiver<Arc<View>>,
    pub(crate) words: mpsc::Sender<Word>,
    pub(crate) leave: mpsc::Receiver<Leave>,
    pub(crate) reload: watch::Receiver<u64>,
    pub(crate) state: watch::Sender<LinkState>,
    pub(crate) acknowledged: watch::Sender<u64>,
}

impl Link {
    pub(crate) fn new(parts: Parts, ends: Ends, first_version: u64) -> Self {
        let servers = parts.connector.servers();
        Self {
            parts,
            tracker: Tracker::new(first_version),
            view: ends.view,
            words: ends.words,
            leave: ends.leave,
            reload: ends.reload,
            state: ends.state,
            acknowledged: ends.acknowledged,
            backoff: Backoff::new(),
            servers,
            next: 0,
            session: 0,
            skew: Skew::default(),
            resync: false,
            lost_track_seen: 0,
            told_gone: std::collections::BTreeSet::new(),
            traces: std::collections::BTreeMap::new(),
        }
    }

    /// Runs until the agent leaves.
    pub(crate) async fn run(mut self) {
        loop {
            let server = self.server();
            let began = Instant::now();
            let end = self.attempt(&server).await;
            self.parts.metrics.connected.set(0);
            if began.elapsed() >= GOOD_SESSION {
                self.backoff.reset();
            }
            if matches!(end, End::Left) {
                return;
            }
            let wait = self.ended(&server, end);
            if self.words.send(Word::Alone).await.is_err() || self.pause(wait).await {
                return;
            }
        }
    }

    fn server(&self) -> String {
        self.servers.get(self.next % self.servers.len().max(1)).cloned().unwrap_or_default()
    }

    /// What the end of an attempt means for the next one: which server, and how long to wait.
    fn ended(&mut self, server: &str, end: End) -> Duration {
        let trouble = end.to_string();
        match &end {
            End::Goodbye(goodbye) => tracing::info!(server, code = goodbye.code, "{trouble}"),
            End::Changed => tracing::info!(server, "{trouble}"),
            End::NodeInUse(_) => tracing::error!(server, node = self.parts.identity.node, "{trouble}"),
            _ => tracing::warn!(server, "{trouble}"),
        }
        self.state.send_modify(|state| (state.server, state.trouble) = (None, Some(trouble)));
        if matches!(end, End::Changed) {
            // The same server takes it: nothing is wrong with it.
            return Duration::ZERO;
        }
        self.parts.metrics.attempts_failed.inc();
        let known = self.servers.len();
        self.next = (self.next + 1) % known.max(1);
        match end {
            End::Goodbye(goodbye) => {
                for named in goodbye.servers {
                    if !self.servers.contains(&named)
                        && self.servers.len() < self.parts.connector.servers().len() + MOST_NAMED
                    {
                        self.servers.push(named);
                    }
                }
                match goodbye.code.as_str() {
                    "shutting_down" if self.servers.len() > 1 => Duration::ZERO,
                    "resync" => {
                        self.resync = true;
                        self.failed() / 4
                    }
                    _ => self.failed(),
                }
            }
            End::LostTrack => {
                self.resync = true;
                self.failed() / 4
            }
            _ => self.failed(),
        }
    }

    /// An attempt has failed: the wait before the next one.
    fn failed(&mut self) -> Duration {
        // The top 53 bits: as many as a number between 0 and 1 has.
        let chance = (RandomState::new().hash_one(()) >> 11) as f64 / (1_u64 << 53) as f64;
        // The lower half of the jitter alone: a node must not be away for longer than a server waits for it (S3).
        self.backoff.next(&RECONNECT, chance / 2.0)
    }

    /// Waits before the next attempt; true: the agent leaves.
    async fn pause(&mut self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        loop {
            self.count_spool();
            tokio::select! {
                () = tokio::time::sleep_until(until) => return false,
                () = tokio::time::sleep(COUNT_EVERY) => {}
                leave = self.leave.recv() => {
                    if let Some(leave) = leave {
                        let _ = leave.done.send(());
                    }
                    return true;
                }
                // A new token or certificate may be what was wanting.
                changed = self.reload.changed() => if changed.is_ok() { return false } else { std::future::pending().await },
            }
        }
    }
}
