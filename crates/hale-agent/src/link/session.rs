//! One session with one server, from the dial to its end.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use hale_api::proto::{
    self, NodeMessage, ServerMessage, node_message::Message as Say, node_service_client::NodeServiceClient,
    server_message::Message as Heard,
};
use hale_health::Time;
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout},
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Streaming};

use super::{
    Leave, Link, dial,
    end::{End, refused},
    register,
};
use crate::{
    asks::Asking,
    desired::{View, Word},
    state::Change,
};

/// Messages on their way out that wait for a slow server. When it is full nothing more is put in; beats that are not
/// acknowledged then end the session.
const OUT: usize = 32;

/// The largest message that is taken from a server: all declarations of a node.
const LARGEST: usize = 256 * 1024 * 1024;

/// How long the server may take to answer a registration, which it writes to its database first.
const WELCOME_WITHIN: Duration = Duration::from_secs(45);

/// Changes of one moment go in one beat.
const COALESCE: Duration = Duration::from_millis(2);

/// So many beats without an acknowledgement, and the server is taken for gone (N8).
const MISSED: u32 = 3;

/// The shortest and longest from beat to beat that are taken from a server.
const BEATS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(60));

/// About how often what both sides know is compared (N8).
pub(super) const COMPARE_EVERY: Duration = Duration::from_secs(180);

/// How long a goodbye may take.
const GOODBYE_WITHIN: Duration = Duration::from_secs(2);

/// A beat that was not acknowledged yet.
struct InFlight {
    sequence: u64,
    sent_at: i64,
    sent_boottime: u64,
    at: Instant,
}

/// What belongs to one session.
pub(super) struct Session {
    out: mpsc::Sender<NodeMessage>,
    asking: Asking,
    pub(super) sequence: u64,
    in_flight: VecDeque<InFlight>,
    beat: Duration,
    heard: Instant,
    /// The number of the last event that was sent, and of the last that is durable.
    pub(super) event_sent: u64,
    pub(super) event_durable: u64,
    /// The desired revision that was told last.
    pub(super) told_revision: Option<u64>,
    pub(super) want_full: bool,
    pub(super) compare_at: Instant,
    pub(super) resources_at: Instant,
    /// When something that is not to wait for the beat goes out.
    flush_at: Option<Instant>,
}

impl Session {
    fn has_room(&self) -> bool {
        self.out.capacity() > 0
    }

    /// Puts a beat on its way; the caller has looked whether there is room.
    pub(super) fn send_beat(&mut self, beat: proto::Beat) -> bool {
        let (sequence, sent_at, sent_boottime) = (beat.sequence, beat.sent_at, beat.sent_boottime);
        let message = NodeMessage { message: Some(Say::Beat(beat)) };
        let sent = self.out.try_send(message).is_ok();
        if sent {
            self.in_flight.push_back(InFlight { sequence, sent_at, sent_boottime, at: Instant::now() });
        }
        sent
    }
}

impl Link {
    /// Dials, registers, and keeps the session until it ends.
    pub(super) async fn attempt(&mut self, server: &str) -> End {
        let connector = Arc::clone(&self.parts.connector);
        let dialed = tokio::select! {
            dialed = dial::within(&*connector, server) => dialed,
            leave = self.leave.recv() => return left(leave),
        };
        let dialed = match dialed {
            Ok(dialed) => dialed,
            Err(error) => return End::Unreachable(error.to_string()),
        };
        let (out, sent) = mpsc::channel(OUT);
        let (asking, answers) = self.parts.asks.session();
        // Answers to asks have a queue of their own: a flood of log lines does not keep a beat waiting.
        let outbound = ReceiverStream::new(sent).merge(ReceiverStream::new(answers));
        let mut request = Request::new(outbound);
        if let Some(token) = &dialed.token {
            match format!("Bearer {token}").parse() {
                Ok(value) => drop(request.metadata_mut().insert("authorization", value)),
                Err(_) => {
                    return End::Unreachable("the token holds characters that a token can't have".into());
                }
            }
        }
        let mut runtimes = self.parts.runtimes.clone();
        runtimes.mark_unchanged();
        let register = NodeMessage { message: Some(Say::Register(self.registration())) };
        // The channel is new and has room.
        let _ = out.try_send(register);
        let mut client = NodeServiceClient::new(dialed.channel).max_decoding_message_size(LARGEST);
        let began = Instant::now();
        let asked_at = self.parts.clock.now();
        let sent_at = Timestamp::now().as_microsecond();
        let greeted = timeout(WELCOME_WITHIN, async {
            let mut inbound = client.connect(request).await.map_err(refused)?.into_inner();
            match inbound.message().await.map_err(refused)?.and_then(|it| it.message) {
                Some(Heard::Welcome(welcome)) => Ok((inbound, welcome)),
                Some(Heard::Goodbye(goodbye)) => Err(End::Goodbye(goodbye)),
                Some(_) => Err(End::Nonsense("no welcome")),
                None => Err(End::Closed),
            }
        });
        let greeted = tokio::select! {
            greeted = greeted => greeted,
            leave = self.leave.recv() => return left(leave),
        };
        let (inbound, welcome) = match greeted {
            Ok(Ok(greeted)) => greeted,
            Ok(Err(end)) => return end,
            Err(_) => return End::Silent,
        };
        self.measure(sent_at, began.elapsed(), welcome.server_time);
        match self.begin(server, &welcome, (out, asking), asked_at).await {
            Ok(session) => self.keep(session, inbound, runtimes).await,
            Err(end) => end,
        }
    }

    fn registration(&self) -> proto::Register {
        let view = self.view.borrow();
        let mut register = self.parts.identity.register();
        register.runtimes.clone_from(&self.parts.runtimes.borrow());
        register.session = self.session;
        register.spool = self.parts.reports.spool.id();
        if !self.resync {
            register.desired_revision = view.revision;
            register.cluster.clone_from(&view.cluster);
            register.epoch = view.epoch;
        }
        register
    }

    async fn begin(
        &mut self,
        server: &str,
        welcome: &proto::Welcome,
        (out, asking): (mpsc::Sender<NodeMessage>, Asking),
        asked_at: Time,
    ) -> Result<Session, End> {
        self.session = welcome.session;
        let asked = Duration::from_millis(u64::from(welcome.heartbeat_ms));
        let asked = if asked.is_zero() { self.parts.heartbeat } else { asked };
        let beat = asked.min(self.parts.heartbeat).clamp(BEATS.0, BEATS.1);
        let now = Instant::now();
        let known = !self.resync && self.view.borrow().loaded;
        self.resync = false;
        self.lost_track_seen = self.view.borrow().lost_track;
        self.told_gone.clear();
        self.tracker.reconnected();
        self.parts.reports.spool.acknowledged(welcome.events_durable);
        self.parts.metrics.connected.set(1);
        self.parts.metrics.connections.inc();
        self.parts.metrics.session.set(i64::try_from(welcome.session).unwrap_or(i64::MAX));
        let state =
            super::LinkState { server: Some(server.to_owned()), session: welcome.session, trouble: None };
        self.state.send_replace(state);
        tracing::info!(server, session = welcome.session, version = welcome.version, "connected to a server");
        let connected = Word::Connected { cluster: welcome.cluster.clone(), known, asked_at };
        self.words.send(connected).await.map_err(|_| End::Left)?;
        Ok(Session {
            out,
            asking,
            sequence: 0,
            in_flight: VecDeque::new(),
            beat,
            heard: now,
            event_sent: welcome.events_durable,
            event_durable: welcome.events_durable,
            told_revision: None,
            want_full: false,
            compare_at: now + register::spread(&self.parts.identity.node, COMPARE_EVERY),
            resources_at: now,
            flush_at: Some(now),
        })
    }

    async fn keep(
        &mut self,
        mut session: Session,
        mut inbound: Streaming<ServerMessage>,
        mut runtimes: watch::Receiver<Vec<String>>,
    ) -> End {
        let mut ticks = interval_at(Instant::now() + session.beat, session.beat);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut view = self.view.clone();
        view.mark_changed();
        let reports = Arc::clone(&self.parts.reports);
        let mut spooled = reports.spool.follow();
        loop {
            let flush_at = session.flush_at;
            tokio::select! {
                heard = inbound.message() => match heard {
                    Ok(Some(message)) => if let Err(end) = self.hear(&mut session, message) { return end },
                    Ok(None) => return End::Closed,
                    Err(status) => return refused(status),
                },
                leave = self.leave.recv() => {
                    self.say_goodbye(&mut session, &mut inbound, leave).await;
                    return End::Left;
                }
                () = at(flush_at), if session.has_room() => {
                    session.flush_at = None;
                    if self.look().await == Change::Urgent || self.tracker_has_at_once(&session) {
                        self.beat(&mut session).await;
                    } else {
                        self.send_events(&mut session).await;
                    }
                }
                () = reports.changed.notified() => session.soon(),
                _ = changed(&mut spooled) => session.soon(),
                () = changed(&mut runtimes) => return End::Changed,
                _ = view.changed() => {
                    if let Some(end) = self.on_view(&mut session, &mut view).await { return end }
                }
                _ = ticks.tick() => {
                    if session.heard.elapsed() > session.beat * MISSED + COALESCE {
                        return End::Silent;
                    }
                    self.look_at_all().await;
                    if session.has_room() {
                        self.beat(&mut session).await;
                    }
                }
            }
        }
    }

    /// What is wanted has changed: there may be something to tell of it.
    async fn on_view(&mut self, session: &mut Session, view: &mut watch::Receiver<Arc<View>>) -> Option<End> {
        let (lost_track, revision) = {
            let view = view.borrow_and_update();
            (view.lost_track, view.revision)
        };
        self.parts.metrics.desired_revision.set(i64::try_from(revision).unwrap_or(i64::MAX));
        if lost_track > self.lost_track_seen {
            self.lost_track_seen = lost_track;
            return Some(End::LostTrack);
        }
        self.look_at_all().await;
        session.want_beat();
        None
    }

    fn tracker_has_at_once(&self, session: &Session) -> bool {
        (session.want_full && self.view.borrow().loaded)
            || session.told_revision != Some(self.view.borrow().revision)
    }

    /// Takes one message of the server.
    fn hear(&mut self, session: &mut Session, message: ServerMessage) -> Result<(), End> {
        match message.message {
            Some(Heard::Ack(ack)) => self.acknowledged(session, ack),
            Some(Heard::Desired(desired)) => self.pass_on(Word::Desired(Box::new(desired))),
            Some(Heard::Around(around)) => self.pass_on(Word::Around(around)),
            Some(Heard::Ask(ask)) => {
                session.asking.ask(ask);
                Ok(())
            }
            Some(Heard::Goodbye(goodbye)) => Err(End::Goodbye(goodbye)),
            Some(Heard::Welcome(_)) => {
                self.parts.metrics.nonsense.inc();
                Err(End::Nonsense("a second welcome"))
            }
            // Something of a later release.
            None => Ok(()),
        }
    }

    fn pass_on(&self, word: Word) -> Result<(), End> {
        self.words.try_send(word).map_err(|_| End::Backlog)
    }

    fn acknowledged(&mut self, session: &mut Session, ack: proto::Ack) -> Result<(), End> {
        if ack.sequence > session.sequence || ack.durable_sequence > session.sequence {
            self.parts.metrics.nonsense.inc();
            return Err(End::Nonsense("it acknowledges beats that were not sent"));
        }
        if ack.events_durable > session.event_sent {
            self.parts.metrics.nonsense.inc();
            return Err(End::Nonsense("it acknowledges events that were not sent"));
        }
        session.heard = Instant::now();
        let mut newest = None;
        while session.in_flight.front().is_some_and(|it| it.sequence <= ack.sequence) {
            newest = session.in_flight.pop_front();
            self.parts.metrics.beats_acknowledged.inc();
        }
        if let Some(newest) = newest {
            // Not by the server's word for it: nobody else decides how long ago we were heard (S9).
            self.acknowledged.send_replace(newest.sent_boottime);
            self.measure(newest.sent_at, newest.at.elapsed(), ack.server_time);
        }
        self.tracker.durable(ack.durable_sequence);
        if ack.events_durable > session.event_durable {
            session.event_durable = ack.events_durable;
            self.parts.reports.spool.acknowledged(ack.events_durable);
            session.soon();
        }
        for rejected in ack.rejected {
            self.rejected(session, &rejected);
        }
        for drained in ack.drained {
            self.parts.drains.drained(drained);
        }
        if ack.want_full {
            session.want_full = true;
            session.want_beat();
        }
        Ok(())
    }

    fn rejected(&mut self, session: &mut Session, rejected: &proto::Rejected) {
        let proto::Rejected { generation, replica, code, detail } = rejected;
        self.parts.metrics.reject(code);
        tracing::warn!(
            generation,
            replica,
            code,
            detail,
            "the server did not take what was told of a replica"
        );
        if code == "stale" {
            self.tracker.leap(*generation);
            session.want_beat();
        }
    }

    fn measure(&mut self, sent_at: i64, took: Duration, server_time: i64) {
        let measured = self.skew.measure(sent_at, took, server_time);
        self.parts.metrics.skew.set(measured.seconds);
        let seconds = measured.seconds;
        match measured.told {
            Some(true) => tracing::warn!(seconds, "the clocks of this node and of the server differ by much"),
            Some(false) => tracing::info!(seconds, "the clocks of this node and of the server agree again"),
            None => {}
        }
    }

    /// Tells what is left to tell, says goodbye, and waits until the server has heard it, for a moment.
    async fn say_goodbye(
        &mut self,
        session: &mut Session,
        inbound: &mut Streaming<ServerMessage>,
        leave: Option<Leave>,
    ) {
        let Some(leave) = leave else { return };
        self.look_at_all().await;
        if leave.stopped {
            self.tracker.observe_all_gone();
        }
        if session.has_room() {
            self.beat(session).await;
        }
        let last = session.sequence;
        let goodbye = proto::Leaving { reason: leave.reason, away_seconds: leave.away_seconds };
        let sent = session.out.try_send(NodeMessage { message: Some(Say::Leaving(goodbye)) }).is_ok();
        let heard = async {
            while let Ok(Some(message)) = inbound.message().await {
                if let Some(Heard::Ack(ack)) = message.message {
                    let done = ack.durable_sequence >= last && ack.events_durable >= session.event_sent;
                    if self.acknowledged(session, ack).is_err() || done {
                        return;
                    }
                }
            }
        };
        if sent && timeout(GOODBYE_WITHIN, heard).await.is_err() {
            tracing::warn!("the server has not acknowledged the last beat in time");
        }
        let _ = leave.done.send(());
    }
}

impl Session {
    /// Something has happened: it is looked at in a moment.
    pub(super) fn soon(&mut self) {
        self.flush_at.get_or_insert_with(|| Instant::now() + COALESCE);
    }

    /// A beat is to go out in a moment.
    pub(super) fn want_beat(&mut self) {
        self.told_revision = None;
        self.soon();
    }
}

fn left(leave: Option<Leave>) -> End {
    if let Some(leave) = leave {
        // Whoever waits may have given up.
        let _ = leave.done.send(());
    }
    End::Left
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}

async fn changed<T>(of: &mut watch::Receiver<T>) {
    if of.changed().await.is_err() {
        std::future::pending().await
    }
}
