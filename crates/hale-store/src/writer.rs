//! The one task that writes.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep, sleep_until, timeout_at},
};

use crate::{
    Options,
    engine::{self, Batches, Engine},
    history::Probes,
    plan::{Answer, Plan},
    postgres,
    queue::{Fact, Queue, Wish},
    reader::Reader,
    retention,
    rows::EventRow,
    tail::Tail,
    work::Work,
};

/// The most of each kind in one transaction.
const MOST: usize = 5000;

/// How long outcomes alone may wait for company: they are not worth a sync of the disk each.
const OUTCOMES_WAIT: Duration = Duration::from_millis(500);

/// The first and the longest wait before a failed write is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How long a closing store goes on trying to write.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// What the writer shares with the others.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) queue: Queue,
    pub(crate) tail: Tail,
    /// The id of the newest durable event known here.
    pub(crate) latest: watch::Sender<u64>,
    /// The newest revision known here.
    pub(crate) revision: watch::Sender<u64>,
    /// Why the last write failed; `None` once one has succeeded again.
    pub(crate) trouble: watch::Sender<Option<String>>,
}

impl Shared {
    /// Tells readers of what is durable: events in order, without a hole, and numbers up to which all is.
    pub(crate) fn publish(&self, events: impl IntoIterator<Item = EventRow>, last_event: u64, revision: u64) {
        self.tail.extend(events, last_event);
        raise(&self.latest, last_event);
        raise(&self.revision, revision);
    }
}

fn raise(known: &watch::Sender<u64>, to: u64) {
    known.send_if_modified(|it| {
        let newer = to > *it;
        *it = to.max(*it);
        newer
    });
}

pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) engine: Engine,
    pub(crate) reader: Reader,
    pub(crate) probes: Probes,
    pub(crate) batches: Batches,
    pub(crate) options: Options,
    /// Its name, random.
    pub(crate) name: String,
}

/// However the writer ends: nobody waits for it in vain.
struct Abandon(Arc<Shared>);

impl Drop for Abandon {
    fn drop(&mut self) {
        let left = self.0.queue.abandon();
        if left > 0 {
            tracing::error!(left, "the database was closed with writes that could not be made");
        }
    }
}

impl Writer {
    /// Writes what waits until the queue is closed and empty.
    pub(crate) async fn run(mut self) {
        let _abandon = Abandon(Arc::clone(&self.shared));
        let mut clean_at = Instant::now() + retention::EVERY;
        loop {
            let shared = Arc::clone(&self.shared);
            tokio::select! {
                () = shared.queue.facts.notified() => {}
                () = shared.queue.outcomes.notified() => {
                    // Gathers more, unless something more urgent comes.
                    let until = Instant::now() + OUTCOMES_WAIT;
                    let _elapsed = timeout_at(until, shared.queue.facts.notified()).await;
                }
                () = sleep_until(clean_at) => {
                    clean_at = Instant::now() + self.clean().await;
                    continue;
                }
            }
            loop {
                let work = self.shared.queue.take(MOST);
                if !self.persist(work).await {
                    return;
                }
                // Who writes without a pause does not keep it from being done.
                if Instant::now() >= clean_at && !self.shared.queue.is_closed() {
                    clean_at = Instant::now() + self.clean().await;
                }
                if !self.shared.queue.presses() {
                    break;
                }
            }
            if self.shared.queue.is_closed() {
                break;
            }
        }
        if let Err(error) = self.engine.close().await {
            tracing::warn!(%error, "the database did not close well");
        }
    }

    /// Writes one batch, however often it takes. False when the store was closed before it could be.
    async fn persist(&mut self, work: Work) -> bool {
        if work.is_trivial() {
            let answers = vec![Answer::Done; work.items.len()];
            work.answer(answers);
            return true;
        }
        let mut wait = RETRY.0;
        let mut give_up = None;
        let plan = loop {
            let error = match self.engine.run(&work, &self.probes, &mut self.batches).await {
                Ok(plan) => break plan,
                Err(error) => error,
            };
            if engine::is_refusal(&error) {
                return self.refused(work, &error).await;
            }
            self.failed(&error, wait);
            if self.shared.queue.is_closed() {
                let until = *give_up.get_or_insert_with(|| Instant::now() + LAST_WORDS);
                if Instant::now() >= until {
                    return false;
                }
            }
            sleep(wait).await;
            wait = (wait * 2).min(RETRY.1);
        };
        self.succeeded(work, plan).await;
        true
    }

    fn failed(&self, error: &sqlx::Error, wait: Duration) {
        let waiting = self.shared.queue.counters().facts_waiting;
        tracing::error!(%error, waiting, retry_in = ?wait, "the database can't be written to; tried again");
        self.shared.queue.count(|it| it.write_failures += 1);
        self.shared.trouble.send_replace(Some(error.to_string()));
    }

    async fn succeeded(&mut self, work: Work, plan: Plan) {
        if !plan.is_empty() {
            self.shared.queue.count(|it| it.commits += 1);
        }
        self.shared.trouble.send_if_modified(|it| {
            let recovered = it.take().is_some();
            if recovered {
                tracing::info!("the database can be written to again");
            }
            recovered
        });
        self.probes.learn(plan.probes, &plan.removed, self.engine.is_alone());
        let mut events = plan.events;
        let known = self.shared.tail.last();
        let others = plan.numbers.last_event.saturating_sub(events.len() as u64);
        if !self.engine.is_alone() && known < others {
            // Those of other servers in between; without them the tail begins anew, and is read from the database.
            let between = postgres::read_events(&self.reader, known, others).await;
            let own = events;
            events = between.unwrap_or_default();
            events.extend(own);
        }
        self.shared.publish(events, plan.numbers.last_event, plan.numbers.revision);
        work.answer(plan.answers);
    }

    /// What the database does not take must not keep it from taking the rest.
    async fn refused(&mut self, work: Work, error: &sqlx::Error) -> bool {
        if work.len() == 1 {
            tracing::error!(%error, "the database refuses what it was given; it is lost");
            self.shared.queue.count(|it| it.facts_lost += 1);
            work.refuse(&error.to_string());
            return true;
        }
        for single in work.singly() {
            if !Box::pin(self.persist(single)).await {
                return false;
            }
        }
        true
    }

    /// How long until the next time.
    async fn clean(&mut self) -> Duration {
        if !self.engine.is_alone() && !self.may_clean().await {
            return retention::EVERY;
        }
        let shared = Arc::clone(&self.shared);
        match retention::clean(&mut self.engine, &mut self.probes, &self.options, &shared.queue).await {
            Ok(true) => retention::AGAIN,
            Ok(false) => retention::EVERY,
            Err(error) => {
                tracing::error!(%error, "what is old can't be taken out of the database; tried again");
                retention::EVERY
            }
        }
    }

    /// Of several servers one cleans (S3).
    async fn may_clean(&mut self) -> bool {
        let (to, mut answer) = oneshot::channel();
        let (name, ttl) = retention::LEASE;
        let wish = Wish { name: name.to_owned(), holder: self.name.clone(), ttl };
        let work = Work { items: vec![Fact::Lease(wish, to)], ..Work::default() };
        let done = self.engine.run(&work, &self.probes, &mut self.batches).await;
        match done {
            Ok(plan) => self.succeeded(work, plan).await,
            // It is not given again: a lease that was taken all the same is this writer's own, and runs out.
            Err(error) => {
                tracing::debug!(%error, "the lease to clean can't be asked for; tried again");
                self.batches.give_up();
            }
        }
        matches!(answer.try_recv(), Ok(Some(_)))
    }
}
