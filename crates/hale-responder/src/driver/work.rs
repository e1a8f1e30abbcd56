//! The driver's loop.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use hale_api::runs::{AlertOutcome, Resource};
use hale_model::spec::Responder;
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    Decision, Farewell, HEARD, Options, Settings, Standing, StartError,
    ending::LAST_WRITES,
    notes::Notes,
    tasks::{Ids, guarded, join, now},
};
use crate::{
    book::{Batch, Book, Keep},
    desk::{Breaker, BreakerState, Desk, DeskSettings, Effect},
    exec::{Ended, Executor},
    metrics::Metrics,
    source::{self, Context, Heard, Link, Message, SourceSettings, Taken, What},
};

/// The most that is decided on before it is written.
const AT_ONCE: usize = 256;

/// How far back runs count for budgets and duplicates.
const RECENT: Duration = Duration::from_secs(60 * 60);

/// How often the record and the workspaces are tidied up.
const TIDY: Duration = Duration::from_secs(10 * 60);

/// The most bytes that are kept of what the sender of an alert without a run told beside.
const MOST_CONTEXT: usize = 4096;

/// The waits between attempts to write.
const WRITE_AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The other ends of a handle.
pub(super) struct Parts {
    pub(super) book: Arc<Book>,
    pub(super) executor: Executor,
    pub(super) asked: mpsc::Receiver<Decision>,
    pub(super) standing: watch::Sender<Standing>,
    pub(super) end: CancellationToken,
    pub(super) hurry: CancellationToken,
}

/// What a task of the driver came to.
pub(super) enum Done {
    /// A program ended.
    Ran(String, Ended),
    /// A resource that is waited for is healthy.
    Healthy(String, Resource),
    /// A run's record was sent, or not.
    Sent(String, Result<(), String>),
    /// A watch was called off.
    Off,
}

/// Everything the driver owns.
pub(super) struct Work {
    pub(super) responder: Arc<Responder>,
    pub(super) settings: Settings,
    pub(super) desk: Desk,
    pub(super) executor: Executor,
    pub(super) tasks: JoinSet<Done>,
    /// Which run a task is for, so that one that panics is a failed run.
    pub(super) running: HashMap<tokio::task::Id, String>,
    /// Runs that are not over.
    pub(super) live: BTreeSet<String>,
    /// Called off by [`Effect::Unwatch`].
    pub(super) watches: HashMap<String, CancellationToken>,
    /// Ends programs.
    pub(super) stop: CancellationToken,
    pub(super) own_hale: Option<hale_api::Client>,
    pub(super) notes: Notes,
    metrics: Metrics,
    book: Arc<Book>,
    ids: Ids,
    pub(super) heard: mpsc::Receiver<Message>,
    pub(super) asked: mpsc::Receiver<Decision>,
    pub(super) standing: watch::Sender<Standing>,
    pub(super) end: CancellationToken,
    pub(super) hurry: CancellationToken,
    /// What ended a source's last connection.
    lost: HashMap<String, source::ErrorClass>,
}

/// What came first.
enum Next {
    Message(Option<Message>),
    Asked(Option<Decision>),
    Done(Box<Done>),
    Wake,
    Sweep,
    Tidy,
    End,
}

/// What has happened and is not written yet.
#[derive(Default)]
pub(super) struct Round {
    pub(super) effects: Vec<Effect>,
    cursors: BTreeMap<String, String>,
    answers: Vec<Box<dyn FnOnce() + Send>>,
}

impl Work {
    /// Takes up what is on record, and connects.
    pub(super) async fn begin(options: Options, parts: Parts) -> Result<Self, StartError> {
        let Options { responder, settings, metrics, tell, own_hale, .. } = options;
        for source in &responder.sources {
            metrics.begin(&source.name);
            metrics.capacity(&responder.name, &source.name, responder.limits.queue_size);
        }
        let now = now();
        let known = parts.book.load(now.wall, RECENT.max(responder.limits.duplicate_window)).await?;
        let ids = Ids::after(known.runs.iter().map(|(run, _)| run.id.as_str()), &responder.name);
        let rules = DeskSettings { run_timeout: settings.run_timeout, max_queue_age: settings.max_queue_age };
        let mut desk = Desk::new(Arc::clone(&responder), rules, now);
        let effects = desk.restore(known.runs, now);
        let (out, heard) = mpsc::channel(HEARD);
        let context = Context {
            settings: SourceSettings {
                initial_delay: settings.reconnect_initial,
                max_delay: settings.reconnect_max,
                ..SourceSettings::default()
            },
            own_hale: own_hale.clone(),
            seed: now.wall.as_microsecond().unsigned_abs(),
            ..Context::default()
        };
        let mut work = Self {
            notes: Notes::new(responder.name.clone(), metrics.clone(), tell),
            responder: Arc::clone(&responder),
            settings,
            desk,
            executor: parts.executor,
            tasks: JoinSet::new(),
            running: HashMap::new(),
            live: BTreeSet::new(),
            watches: HashMap::new(),
            stop: CancellationToken::new(),
            own_hale,
            metrics,
            book: parts.book,
            ids,
            heard,
            asked: parts.asked,
            standing: parts.standing,
            end: parts.end,
            hurry: parts.hurry,
            lost: HashMap::new(),
        };
        for run in work.desk.runs() {
            work.notes.known(run);
            work.live.insert(run.id.clone());
        }
        // What was interrupted is on record before anything new is begun.
        work.settle(Round { effects, ..Round::default() }).await;
        for (n, source) in responder.sources.iter().enumerate() {
            let mut context = context.clone();
            context.cursor = known.cursors.get(&source.name).cloned();
            context.seed = context.seed.wrapping_add(n as u64);
            drop(source::start(source, context, out.clone(), work.end.child_token()));
        }
        Ok(work)
    }

    pub(super) async fn run(mut self) -> Farewell {
        let mut sweep = tokio::time::interval(self.settings.queue_sweep_interval);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut tidy = tokio::time::interval(TIDY);
        tidy.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let wake = self.wake();
            let next = tokio::select! {
                biased;
                () = self.end.cancelled() => Next::End,
                asked = self.asked.recv() => Next::Asked(asked),
                done = join(&mut self.tasks, &mut self.running), if !self.tasks.is_empty() => Next::Done(Box::new(done)),
                _ = sweep.tick() => Next::Sweep,
                () = sleep_until(wake) => Next::Wake,
                _ = tidy.tick() => Next::Tidy,
                message = self.heard.recv() => Next::Message(message),
            };
            let mut round = Round::default();
            match next {
                Next::End => return self.shut_down().await,
                Next::Message(Some(message)) => self.take_messages(message, &mut round),
                Next::Asked(Some(decision)) => self.decide(decision, &mut round),
                Next::Done(done) => self.done(*done, &mut round),
                Next::Wake | Next::Sweep => self.sweep(&mut round),
                Next::Tidy => self.tidy().await,
                Next::Message(None) | Next::Asked(None) => {}
            }
            self.settle(round).await;
        }
    }

    /// When the desk wants to be asked again at the latest.
    fn wake(&self) -> Instant {
        let now = now();
        let wait = self.desk.wake_at(now).map_or(Duration::from_secs(3600), |at| at.since(now.time));
        // A deadline that has passed is acted on at once, and never in a loop without a pause.
        Instant::now() + wait.clamp(Duration::from_millis(10), Duration::from_secs(3600))
    }

    /// Takes what has gathered, so that one write serves many.
    fn take_messages(&mut self, first: Message, round: &mut Round) {
        self.take(first, round);
        for _ in 1..AT_ONCE {
            match self.heard.try_recv() {
                Ok(message) => self.take(message, round),
                Err(_) => return,
            }
        }
    }

    pub(super) fn take(&mut self, message: Message, round: &mut Round) {
        match message {
            Message::Heard(heard) => self.hear(heard, round),
            Message::Link(source, link) => self.linked(&source, link),
        }
    }

    fn hear(&mut self, heard: Heard, round: &mut Round) {
        let now = now();
        let ids = &mut self.ids;
        let taken = match heard.what {
            What::Alert(raw) => {
                let (taken, effects) = self.desk.heard(&heard.source, *raw, now, &mut || ids.next());
                round.effects.extend(effects);
                taken
            }
            What::Recovered(resource) => {
                let effects = self.desk.recovered(&heard.source, &resource, now, &mut || ids.next());
                round.effects.extend(effects);
                Taken::Yes
            }
            What::Unreadable(detail) => {
                round.effects.extend(self.desk.unreadable(&heard.source, detail.clone()));
                Taken::Invalid(detail)
            }
            What::Nothing => Taken::Yes,
        };
        if let Some(cursor) = heard.cursor {
            round.cursors.insert(heard.source, cursor);
        }
        if let Some(answer) = heard.answer {
            round.answers.push(Box::new(move || {
                // Who does not wait any more needs no answer.
                let _ = answer.send(taken);
            }));
        }
    }

    fn linked(&mut self, source: &str, link: Link) {
        self.notes.link(source, &link);
        match &link {
            Link::Up { .. } => {
                let after = self.lost.remove(source);
                self.metrics.connected(&self.responder.name, source, after);
                self.standing.send_modify(|it| {
                    it.connected.insert(source.to_owned());
                });
            }
            Link::Down { lasted, class, .. } => {
                self.metrics.disconnected(&self.responder.name, source, *lasted);
                self.metrics.connection_error(source, *class);
                self.lost.insert(source.to_owned(), *class);
                self.standing.send_modify(|it| {
                    it.connected.remove(source);
                });
            }
            Link::Failed { class, .. } => self.metrics.connection_error(source, *class),
        }
    }

    fn decide(&mut self, decision: Decision, round: &mut Round) {
        let Decision { run, approve, by, reason, answer } = decision;
        let ids = &mut self.ids;
        match self.desk.decide(&run, approve, &by, &reason, now(), &mut || ids.next()) {
            Ok(effects) => {
                round.effects.extend(effects);
                round.answers.push(Box::new(move || {
                    let _ = answer.send(Ok(()));
                }));
            }
            Err(error) => {
                let _ = answer.send(Err(error));
            }
        }
    }

    pub(super) fn done(&mut self, done: Done, round: &mut Round) {
        let now = now();
        let ids = &mut self.ids;
        let mut next = || ids.next();
        let effects = match done {
            Done::Ran(run, ended) => self.desk.ended(&run, ended, now, &mut next),
            Done::Healthy(source, resource) => self.desk.recovered(&source, &resource, now, &mut next),
            Done::Sent(run, result) => self.desk.sent(&run, result, now, &mut next),
            Done::Off => Vec::new(),
        };
        round.effects.extend(effects);
    }

    /// R5: a sweep that panics is told and counted, and the next one comes all the same.
    fn sweep(&mut self, round: &mut Round) {
        let (desk, ids) = (&mut self.desk, &mut self.ids);
        match guarded(|| desk.sweep(now(), &mut || ids.next())) {
            Ok(effects) => round.effects.extend(effects),
            Err(why) => self.panicked(&why),
        }
    }

    fn panicked(&self, why: &str) {
        self.metrics.sweep_panicked();
        tracing::error!(panic = why, "a sweep of the queues ended badly; the next one comes all the same");
    }

    async fn tidy(&mut self) {
        let now = Timestamp::now();
        if let Err(error) = self.book.retain(now, Keep::default()).await {
            tracing::warn!(%error, "the record can't be tidied up");
        }
        let live = self.live.clone();
        let executor = self.executor.clone();
        // Reading many files takes its time; nobody waits for it.
        drop(tokio::task::spawn_blocking(move || {
            for failed in executor.retain(now.into(), &live).failed {
                tracing::warn!(failed, "a workspace can't be taken away; it is tried again");
            }
        }));
    }

    /// Writes what was decided, answers those who wait for that, and does it.
    pub(super) async fn settle(&mut self, mut round: Round) {
        let at = now();
        // However much comes, deadlines are kept.
        if self.desk.wake_at(at).is_some_and(|due| due <= at.time) {
            self.sweep(&mut round);
        }
        let desk = &mut self.desk;
        match guarded(|| desk.next(at)) {
            Ok(effects) => round.effects.extend(effects),
            Err(why) => self.panicked(&why),
        }
        for effect in &mut round.effects {
            if let Effect::PutRun(run) = effect
                && run.started_at.is_some()
                && !run.command.is_empty()
            {
                run.workspace = Some(self.executor.workspace(&run.id));
            }
        }
        let batch = batch_of(&round);
        if !batch.is_empty() && !self.write(&batch).await {
            return;
        }
        round.answers.into_iter().for_each(|answer| answer());
        for effect in round.effects {
            self.act(effect);
        }
        self.tell_standing();
    }

    /// Until it is written: what is not on record is not done. At the end of the responder it is tried for a while yet.
    async fn write(&self, batch: &Batch) -> bool {
        let mut wait = WRITE_AGAIN.0;
        let late = async {
            self.end.cancelled().await;
            sleep(LAST_WRITES).await;
        };
        tokio::pin!(late);
        loop {
            tokio::select! {
                written = self.book.commit(batch) => match written {
                    Ok(()) => return true,
                    Err(error) => {
                        self.metrics.write_failed();
                        tracing::error!(%error, again_in = ?wait, "the record can't be written; nothing is begun until it can");
                    }
                },
                () = &mut late => return false,
                () = self.hurry.cancelled() => return false,
            }
            tokio::select! {
                () = sleep(wait) => {}
                () = &mut late => return false,
                () = self.hurry.cancelled() => return false,
            }
            wait = (wait * 2).min(WRITE_AGAIN.1);
        }
    }

    pub(super) fn book(&self) -> Arc<Book> {
        Arc::clone(&self.book)
    }

    fn tell_standing(&mut self) {
        let now = now();
        for source in &self.responder.sources {
            let (depth, active) = (self.desk.depth(&source.name), self.desk.active(&source.name));
            self.metrics.stands(&self.responder.name, &source.name, depth, active);
        }
        let mut open = Vec::new();
        for breaker in Breaker::ALL {
            let state = self.desk.breaker(breaker, now);
            self.metrics.breaker(&self.responder.name, breaker, state);
            match state {
                BreakerState::Closed => {}
                BreakerState::Open => open.push(format!("{} is open", breaker.as_str())),
                BreakerState::HalfOpen => open.push(format!("{} is half-open", breaker.as_str())),
            }
        }
        self.standing.send_if_modified(|it| {
            let changed = it.open != open;
            it.open = open;
            changed
        });
    }
}

fn batch_of(round: &Round) -> Batch {
    let mut batch = Batch { cursors: round.cursors.clone(), ..Batch::default() };
    for effect in &round.effects {
        match effect {
            Effect::PutAlert(record) => {
                let mut record = (**record).clone();
                // What led to no run is kept for people to see; its last detail is not worth a full disk.
                if record.outcome != AlertOutcome::Accepted
                    && record.alert.context.to_string().len() > MOST_CONTEXT
                {
                    record.alert.context = serde_json::Value::Null;
                }
                batch.alerts.push(record);
            }
            Effect::PutRun(run) => batch.runs.push((**run).clone()),
            _ => {}
        }
    }
    batch
}
