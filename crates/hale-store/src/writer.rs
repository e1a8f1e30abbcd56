//! The one task that writes.

use std::{sync::Arc, time::Duration};

use sqlx::{Connection, SqliteConnection};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout_at},
};

use crate::{
    Options,
    batch::{Batch, Memory},
    queue::Queue,
    retention,
    tail::Tail,
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
    /// The id of the newest durable event.
    pub(crate) latest: watch::Sender<u64>,
    /// Why the last write failed; `None` once one has succeeded again.
    pub(crate) trouble: watch::Sender<Option<String>>,
}

pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) connection: SqliteConnection,
    pub(crate) memory: Memory,
    pub(crate) options: Options,
}

impl Writer {
    /// Writes what waits until the queue is closed and empty.
    pub(crate) async fn run(mut self) {
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
            while !self.shared.queue.is_empty() {
                if !self.write_some().await {
                    return;
                }
            }
            if self.shared.queue.is_closed() {
                break;
            }
        }
        if let Err(error) = self.connection.close().await {
            tracing::warn!(%error, "the database did not close well");
        }
    }

    /// Writes one batch, however often it takes. False when the store was closed before it could be.
    async fn write_some(&mut self) -> bool {
        let (facts, outcomes) = self.shared.queue.take(MOST);
        if let Err(error) = self.memory.recall(&mut self.connection, &outcomes).await {
            // Their history begins anew; the outcomes themselves are not lost.
            tracing::warn!(%error, "earlier outcomes can't be read");
        }
        let mut batch = self.memory.prepare(facts, outcomes);
        if !self.persist(&batch).await {
            return false;
        }
        let newest = batch.events.last().map(|(event, _)| event.id);
        self.shared.tail.extend(batch.events.drain(..));
        if let Some(newest) = newest {
            self.shared.latest.send_replace(newest);
        }
        for ack in batch.acks.drain(..) {
            // Who asked may have gone.
            let _gone = ack.send(());
        }
        true
    }

    async fn persist(&mut self, batch: &Batch) -> bool {
        if batch.is_empty() {
            return true;
        }
        let mut wait = RETRY.0;
        let mut give_up = None;
        loop {
            let Err(error) = batch.write(&mut self.connection).await else { break };
            let waiting = self.shared.queue.counters().facts_waiting;
            tracing::error!(%error, waiting, retry_in = ?wait, "the database can't be written to; tried again");
            self.shared.queue.count(|it| it.write_failures += 1);
            self.shared.trouble.send_replace(Some(error.to_string()));
            if self.shared.queue.is_closed() {
                let until = *give_up.get_or_insert_with(|| Instant::now() + LAST_WORDS);
                if Instant::now() >= until {
                    tracing::error!(waiting, "closed with events that could not be written");
                    return false;
                }
            }
            sleep(wait).await;
            wait = (wait * 2).min(RETRY.1);
        }
        self.shared.queue.count(|it| it.commits += 1);
        self.shared.trouble.send_if_modified(|it| {
            let recovered = it.take().is_some();
            if recovered {
                tracing::info!("the database can be written to again");
            }
            recovered
        });
        true
    }

    /// How long until the next time.
    async fn clean(&mut self) -> Duration {
        match retention::clean(&mut self.connection, &mut self.memory, &self.options).await {
            Ok(true) => Duration::from_secs(1),
            Ok(false) => retention::EVERY,
            Err(error) => {
                tracing::error!(%error, "old events can't be taken out of the database; tried again");
                retention::EVERY
            }
        }
    }
}
