//! The stream of one agent (S24): what it is to run goes out, what happens on it comes in.
//!
//! One task has it all, so that nothing needs an order of locks: messages of the agent, commits that end, questions of
//! people, changes of what is wanted. A beat is believed at once and acknowledged in two steps: that it came, and that
//! what it said is durable (N8). Not ready takes effect in the registry before the commit, ready after (S2).
//!
//! The queue to the agent is bounded; an agent that does not read what it is sent is cut off and registers again.

mod asks;
mod beat;
mod desired;
mod outbox;
mod pending;
pub(crate) mod register;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use hale_api::proto::{
    self, NodeMessage, ServerMessage, node_message::Message as FromNode, server_message::Message as ToNode,
};
use hale_health::Time;
use hale_model::cluster::SessionState;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

pub(crate) use self::asks::Asked;
use self::{asks::Asks, desired::Told, outbox::Outbox, pending::Pending};
use crate::{
    auth::Caller,
    cluster::{Shared, clock, live::LiveNode, session::register::Granted, snapshot::Snapshot},
};

/// Messages that wait for the agent to read them.
const OUTGOING: usize = 256;

/// Questions that wait to be passed on to the agent; who asks waits beyond that.
const ASKS: usize = 64;

/// How long it may take to decide what of what runs on a node is taken over after a restore.
const ADOPTING: Duration = Duration::from_secs(30);

/// How long the last writes of a session that ended may take.
const LAST_WRITES: Duration = Duration::from_secs(10);

/// Sessions of this server, by node.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    by_node: Mutex<HashMap<Arc<str>, Handle>>,
}

/// A session, for others.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    pub(crate) number: u64,
    pub(crate) live: Arc<LiveNode>,
    asks: mpsc::Sender<Asked>,
    signals: Arc<Signals>,
}

/// What a session is told without a queue: each is a level, looked at when it wakes.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    wake: Notify,
    stop: CancellationToken,
    why: OnceLock<proto::Goodbye>,
    drained: Mutex<Vec<proto::Drained>>,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Handle>> {
        self.by_node.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session of a node.
    pub(crate) fn get(&self, node: &str) -> Option<Handle> {
        self.lock().get(node).cloned()
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Handle> {
        self.lock().values().cloned().collect()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether a node has a session whose last beat is not older than this.
    pub(crate) fn beats(&self, node: &str, within: Duration) -> bool {
        self.get(node).is_some_and(|it| clock::now().since(it.live.last_beat()) < within)
    }

    /// Has a session look again at what is wanted of its node.
    pub(crate) fn wake(&self, node: &str) {
        if let Some(it) = self.lock().get(node) {
            it.signals.wake.notify_one();
        }
    }

    /// Ends a session.
    pub(crate) fn stop(&self, node: &str, code: &str, detail: &str) {
        if let Some(it) = self.get(node) {
            it.stop(code, detail);
        }
    }

    fn put(&self, node: &Arc<str>, handle: Handle) {
        if let Some(old) = self.lock().insert(Arc::clone(node), handle) {
            old.stop("superseded", "the agent has registered again");
        }
    }

    fn remove(&self, node: &str, number: u64) -> bool {
        let mut sessions = self.lock();
        let own = sessions.get(node).is_some_and(|it| it.number == number);
        if own {
            sessions.remove(node);
        }
        own
    }
}

impl Handle {
    /// Ends the session, with a reason for the agent.
    pub(crate) fn stop(&self, code: &str, detail: &str) {
        let goodbye =
            proto::Goodbye { code: code.to_owned(), detail: detail.to_owned(), servers: Vec::new() };
        // The first reason stands.
        let _second = self.signals.why.set(goodbye);
        self.signals.stop.cancel();
    }

    /// Has it look at what has changed.
    pub(crate) fn wake(&self) {
        self.signals.wake.notify_one();
    }

    /// Passes a question on; waits while many wait.
    ///
    /// # Errors
    /// When the session has ended.
    pub(crate) async fn ask(&self, asked: Asked) -> Result<(), Asked> {
        self.asks.send(asked).await.map_err(|it| it.0)
    }

    /// No gateway sends requests to this instance any more, and none is in flight (H18).
    pub(crate) fn drained(&self, drained: proto::Drained) {
        self.signals.drained.lock().unwrap_or_else(PoisonError::into_inner).push(drained);
        self.signals.wake.notify_one();
    }
}

/// A session, for its task.
struct Session {
    shared: Arc<Shared>,
    node: Arc<str>,
    live: Arc<LiveNode>,
    out: Outbox,
    pending: Pending,
    told: Told,
    around: Option<proto::Around>,
    asks: Asks,
    signals: Arc<Signals>,
    /// Whether the cluster was restored from a backup since the agent was last told what to run: what it reports and
    /// nobody knows is then taken in (S5).
    adopts: Option<Time>,
    /// Sequence and time of the newest beat; it is acknowledged once the agent may count on that.
    arrived: (u64, u64),
    /// Whether a full beat has come.
    heard_all: bool,
    leaving: bool,
}

/// Why a session is over.
enum Over {
    /// The agent has gone or said so.
    Gone,
    /// The agent is to be told why.
    Goodbye(proto::Goodbye),
    /// It did not read what it was sent, or sent what makes no sense.
    Broken(Status),
}

/// Begins the session of a registration that was granted; what it sends comes out of the receiver.
pub(crate) fn begin(
    shared: &Arc<Shared>,
    register: &proto::Register,
    granted: Granted,
    caller: Caller,
    inbound: Streaming<NodeMessage>,
) -> mpsc::Receiver<Result<ServerMessage, Status>> {
    let (sender, receiver) = mpsc::channel(OUTGOING);
    let (asks, asked) = mpsc::channel(ASKS);
    let node: Arc<str> = Arc::from(granted.record.node.as_str());
    let live = shared.live.begin(&node);
    let signals = Arc::<Signals>::default();
    let number = granted.record.session;
    let handle = Handle { number, live: Arc::clone(&live), asks, signals: Arc::clone(&signals) };
    shared.sessions.put(&node, handle);
    tracing::info!(node = %node, session = number, version = register.version, "an agent has connected");
    let restored = granted.restored && register.cluster == granted.cluster && register.epoch < granted.epoch;
    let mut session = Session {
        shared: Arc::clone(shared),
        live,
        out: Outbox::new(sender, granted.record.events_durable),
        adopts: restored.then(|| clock::now() + ADOPTING),
        arrived: (0, 0),
        heard_all: false,
        pending: Pending::new(granted.record.clone(), granted.revision),
        told: Told::default(),
        around: None,
        asks: Asks::default(),
        signals,
        leaving: false,
        node,
    };
    let welcome = proto::Welcome {
        session: number,
        cluster: granted.cluster,
        epoch: granted.epoch,
        heartbeat_ms: u32::try_from(shared.options.heartbeat.as_millis()).unwrap_or(u32::MAX),
        server_time: Timestamp::now().as_microsecond(),
        events_durable: granted.record.events_durable,
        server: shared.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    shared.tasks.spawn(async move {
        session.out.send(ToNode::Welcome(welcome));
        session.run(caller, inbound, asked).await;
    });
    receiver
}

impl Session {
    async fn run(&mut self, caller: Caller, inbound: Streaming<NodeMessage>, asked: mpsc::Receiver<Asked>) {
        let over = self.go(caller, inbound, asked).await;
        self.asks.end("its session has ended");
        let number = self.pending.record.session;
        match over {
            Over::Gone => tracing::info!(node = %self.node, session = number, "an agent has gone"),
            Over::Goodbye(why) => {
                tracing::info!(node = %self.node, session = number, code = why.code, "a session was ended");
                self.out.send(ToNode::Goodbye(why));
            }
            Over::Broken(status) => {
                tracing::warn!(node = %self.node, session = number, error = status.message(), "a session broke off");
                self.out.fail(status);
            }
        }
        // Nobody waits for what the agent does not hear any more.
        self.out.close();
        if self.shared.sessions.remove(&self.node, number) {
            // Another server may have the node by now: what it said here is then forgotten.
            self.shared.session(&self.shared.feed.current(), &self.node);
            self.shared.live.changed();
        }
        self.leave().await;
    }

    /// Goes on until the session is over.
    async fn go(
        &mut self,
        caller: Caller,
        mut inbound: Streaming<NodeMessage>,
        mut asked: mpsc::Receiver<Asked>,
    ) -> Over {
        let shared = Arc::clone(&self.shared);
        let signals = Arc::clone(&self.signals);
        let revoked = shared.tokens.ended(&caller);
        tokio::pin!(revoked);
        self.tell();
        self.out.ack.want_full = true;
        self.out.acknowledge();
        loop {
            if self.out.is_stuck() {
                return Over::Broken(Status::resource_exhausted("the agent does not read what it is sent"));
            }
            tokio::select! {
                message = inbound.message() => match message {
                    Ok(Some(message)) => {
                        if let Some(over) = self.take(message) {
                            return over;
                        }
                    }
                    Ok(None) => return Over::Gone,
                    Err(status) => return ended(status),
                },
                done = self.pending.written() => {
                    if let Some(over) = self.written(done) {
                        return over;
                    }
                }
                Some(it) = asked.recv() => self.pass_on(it),
                () = signals.wake.notified() => self.look(),
                () = signals.stop.cancelled() => return self.goodbye(),
                () = &mut revoked => {
                    let detail = "the agent's token is taken no longer".to_owned();
                    return Over::Goodbye(proto::Goodbye { code: "token_revoked".to_owned(), detail, ..Default::default() });
                }
                () = shared.end.cancelled() => {
                    let servers = shared.other_servers();
                    let code = "shutting_down".to_owned();
                    return Over::Goodbye(proto::Goodbye { code, detail: String::new(), servers });
                }
            }
        }
    }

    fn goodbye(&self) -> Over {
        let why = self.signals.why.get().cloned();
        Over::Goodbye(
            why.unwrap_or_else(|| proto::Goodbye { code: "resync".to_owned(), ..Default::default() }),
        )
    }

    fn take(&mut self, message: NodeMessage) -> Option<Over> {
        match message.message {
            Some(FromNode::Beat(beat)) => self.beat(beat),
            Some(FromNode::Answer(answer)) => self.asks.answer(answer, &mut self.out),
            Some(FromNode::Leaving(leaving)) => {
                self.leaving = true;
                let until = Timestamp::now() + SignedDuration::from_secs(i64::from(leaving.away_seconds));
                tracing::info!(node = %self.node, reason = leaving.reason, away = leaving.away_seconds, "an agent leaves");
                if leaving.away_seconds > 0 {
                    self.pending.set_state(SessionState::Away { until });
                }
                self.write();
            }
            Some(FromNode::Register(_)) => {
                return Some(Over::Broken(Status::invalid_argument("the agent has registered already")));
            }
            // Something of a newer release.
            None => {}
        }
        None
    }

    fn pass_on(&mut self, asked: Asked) {
        self.asks.begin(asked, &mut self.out);
    }

    /// Something has changed: what is wanted, what is around, who is drained, or that nothing is heard.
    fn look(&mut self) {
        self.tell();
        let drained =
            std::mem::take(&mut *self.signals.drained.lock().unwrap_or_else(PoisonError::into_inner));
        if !drained.is_empty() {
            self.out.ack.drained.extend(drained);
            self.out.acknowledge();
        }
        self.asks.look(&mut self.out);
        let silent = clock::now().since(self.live.last_beat()) >= self.shared.options.heartbeat * 2;
        if silent && self.pending.state() == SessionState::Connected {
            tracing::warn!(node = %self.node, "two beats of an agent have not come");
            self.pending.set_state(SessionState::Silent { last_beat: self.live.last_beat_at() });
            self.write();
        }
    }

    /// Tells what has changed of what is wanted of the node and around it.
    pub(super) fn tell(&mut self) {
        let snapshot = self.shared.feed.current();
        if self.adopting(&snapshot) {
            return;
        }
        let epoch = snapshot.cluster.as_ref().map_or(0, |it| it.epoch);
        if let Some(desired) = self.told.next(&snapshot, &self.node, epoch) {
            self.out.send(ToNode::Desired(desired));
        }
        let around = self.shared.around(&snapshot, &self.node);
        if self.around.as_ref() != Some(&around) {
            self.out.send(ToNode::Around(around.clone()));
            self.around = Some(around);
        }
    }

    /// Whether it is to be decided yet what of what runs on the node is taken over (S5): until then it is not told what
    /// is wanted, because it would stop everything else.
    fn adopting(&mut self, snapshot: &Snapshot) -> bool {
        let Some(until) = self.adopts else { return false };
        let reported = self.live.heard();
        let undecided = reported.replicas.keys().any(|it| {
            snapshot.placements.get(*it).is_none()
                && (snapshot.observed.get(*it).is_some() || self.pending.holds(*it))
        });
        drop(reported);
        if (undecided || !self.heard_all) && clock::now() < until {
            return true;
        }
        self.adopts = None;
        false
    }

    /// The last of a session: what it was told becomes durable, and that it is over.
    async fn leave(&mut self) {
        let last_beat = self.live.last_beat_at();
        if !matches!(self.pending.state(), SessionState::Away { .. }) {
            self.pending.set_state(SessionState::Disconnected { last_beat });
        }
        let finish = async {
            loop {
                if !self.pending.is_writing() && !self.write() {
                    return;
                }
                let done = self.pending.written().await;
                if self.written(done).is_some() {
                    return;
                }
            }
        };
        if tokio::time::timeout(LAST_WRITES, finish).await.is_err() {
            tracing::warn!(node = %self.node, "the end of a session could not be written");
        }
    }
}

/// A stream that ends with an error: a connection that broke is no mistake of the agent.
fn ended(status: Status) -> Over {
    match status.code() {
        tonic::Code::Unknown | tonic::Code::Cancelled | tonic::Code::Unavailable | tonic::Code::Internal => {
            tracing::debug!(error = status.message(), "the connection of an agent broke off");
            Over::Gone
        }
        _ => Over::Broken(status),
    }
}
