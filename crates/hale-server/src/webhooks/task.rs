//! One lane, driven: asks the lane what is next, does it, tells it what came of it, and writes down how far it is.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use hale_api::events::EventQuery;
use hale_health::Time;
use hale_model::{
    cluster::{WebhookCursor, WebhookRecord},
    event::{Event, Severity},
};
use hale_store::{
    Store,
    cluster::{Change, Guard, Key, Kind, Record, Write, WriteError},
};
use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    Endpoint, Kept, KeyError, Message, Secret, SecretKey, Sender, attempted,
    lane::{Attempted, Lane, Next, Unwritten},
    message_id,
    run::{Deliveries, Followed},
};
use crate::metrics::{Delivery, ServerMetrics};

/// The most events that are taken from the store at once.
const PAGE: usize = 100;

/// How long it may take until it is written down that events were delivered, while more are; and that events were
/// passed over that nobody wants.
const WRITTEN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(20));

/// How long until a database that takes or gives nothing is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Where a webhook is and what it is signed with, sealed in its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The URL as it was given.
    pub url: String,
    /// Where to send to.
    pub endpoint: Endpoint,
    /// What to sign with.
    pub secret: Secret,
}

impl Opened {
    /// Seals an address and a secret for the record of a webhook.
    ///
    /// # Errors
    /// See [`SecretKey::seal`].
    pub fn seal(key: &SecretKey, name: &str, url: &str, secret: &Secret) -> Result<String, KeyError> {
        let clear = serde_json::json!({"url": url, "secret": secret.reveal()}).to_string();
        key.seal(&named(name), clear.as_bytes())
    }

    /// Opens what is sealed in a record.
    ///
    /// # Errors
    /// See [`SecretKey::unseal`].
    pub fn of(key: &SecretKey, record: &WebhookRecord) -> Result<Self, KeyError> {
        let name = named(&record.name);
        let clear = key.unseal(&name, &record.sealed)?;
        let read = || {
            let value: serde_json::Value = serde_json::from_slice(&clear).ok()?;
            let url = value["url"].as_str()?.to_owned();
            let endpoint = Endpoint::parse(&url).ok()?;
            Some(Self { url, endpoint, secret: Secret::parse(value["secret"].as_str()?).ok()? })
        };
        read().ok_or(KeyError::Damaged { what: name })
    }

    /// The message of an event.
    #[must_use]
    pub fn message(&self, id: &str, body: Bytes, now: Timestamp) -> Message {
        let at = now.as_second();
        let signature = self.secret.sign(id, at, &body);
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("webhook-id", id), ("webhook-timestamp", &at.to_string()), ("webhook-signature", &signature)]
        {
            // Ids, numbers and base64: all of them can stand in a header.
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
        Message { headers, body }
    }
}

/// The name that a webhook's parts are sealed under.
fn named(name: &str) -> String {
    format!("webhook {name}")
}

/// The events that a webhook wants.
fn query(record: &WebhookRecord, after: u64) -> EventQuery {
    EventQuery {
        after: Some(after),
        kind: (!record.types.is_empty()).then(|| record.types.join(",")),
        subject: record.subject.clone(),
        severity: (record.severity > Severity::Info).then_some(record.severity),
        ..EventQuery::default()
    }
}

pub(super) struct LaneTask {
    store: Store,
    key: Arc<SecretKey>,
    sender: Sender,
    metrics: Arc<ServerMetrics>,
    record: watch::Receiver<Followed>,
    guard: Guard,
    lane: Lane,
    opened: Option<Opened>,
    kept: Kept,
    started: Instant,
    written_at: Instant,
}

impl LaneTask {
    pub(super) fn new(
        parts: &Deliveries,
        record: watch::Receiver<Followed>,
        cursor: WebhookCursor,
        guard: Guard,
    ) -> Self {
        let now = Instant::now();
        Self {
            store: parts.store.clone(),
            key: Arc::clone(&parts.key),
            sender: parts.sender.clone(),
            metrics: Arc::clone(&parts.metrics),
            record,
            guard,
            lane: Lane::new(cursor),
            opened: None,
            kept: Kept::default(),
            started: now,
            written_at: now,
        }
    }

    fn now(&self) -> Time {
        Time::ZERO + self.started.elapsed()
    }

    /// Goes on until it is dropped, or nobody tells it of its webhook any more.
    pub(super) async fn run(mut self) {
        let mut latest = self.store.follow();
        self.take_over();
        loop {
            if self.record.has_changed().unwrap_or(true) && !self.changed() {
                return;
            }
            latest.mark_unchanged();
            let next = self.lane.next(self.now());
            if !self.write(matches!(next, Next::Send { .. })).await {
                continue;
            }
            match next {
                Next::Send { event, attempt } => self.send(&event, attempt).await,
                Next::Wait { until } => self.rest(Some(until.since(self.now()))).await,
                Next::Nothing => self.rest(None).await,
                Next::Find { event } => self.find(event).await,
                Next::Events { after } => {
                    if !self.events(after).await {
                        let due = (self.lane.unwritten() != Unwritten::No).then_some(WRITTEN.1);
                        tokio::select! {
                            () = async { latest.changed().await.unwrap_or_default() } => {}
                            () = self.rest(due) => {}
                        }
                    }
                }
            }
        }
    }

    /// Waits until the webhook is changed, or so long.
    async fn rest(&self, at_most: Option<Duration>) {
        // A clone: that it has changed is seen by the loop.
        let mut record = self.record.clone();
        match at_most {
            Some(at_most) => drop(timeout(at_most, record.changed()).await),
            None => drop(record.changed().await),
        }
    }

    fn changed(&mut self) -> bool {
        if self.record.has_changed().is_err() {
            return false;
        }
        self.take_over();
        true
    }

    /// Takes over what the record says now.
    fn take_over(&mut self) {
        let (record, _) = self.record.borrow_and_update().clone();
        match Opened::of(&self.key, &record) {
            Ok(opened) => {
                self.lane.changed(record.paused);
                self.opened = Some(opened);
            }
            Err(error) => {
                // Nothing is lost: it goes on from here once the right key is there.
                tracing::error!(webhook = record.name, %error, "a webhook can't be delivered to");
                self.lane.blocked(&error.to_string());
                self.opened = None;
            }
        }
        if let Some(replay) = &record.replay {
            self.lane.replay(replay.number, &replay.events);
        }
    }

    async fn send(&mut self, event: &Event, attempt: u32) {
        let Some(opened) = &self.opened else { return };
        let (record, _) = self.record.borrow().clone();
        let body = serde_json::to_vec(event).map(Bytes::from).unwrap_or_default();
        let now = Timestamp::now();
        let message = opened.message(&message_id(event), body, now);
        let sent = self.sender.send(&mut self.kept, &opened.endpoint, record.allow_private, &message).await;
        let attempted = attempted(sent);
        let delay = now.duration_since(event.time).as_secs_f64();
        let known = self.lane.cursor().dead.len();
        let what = match &attempted {
            Attempted::Delivered { .. } => Delivery::Delivered,
            Attempted::Refused { .. } => Delivery::Refused,
            Attempted::Failed { .. } => Delivery::Failed,
        };
        if let Attempted::Refused { why } | Attempted::Failed { why, .. } = &attempted {
            tracing::debug!(
                webhook = record.name,
                event = event.id,
                attempt,
                why,
                "an event was not delivered"
            );
        }
        self.lane.attempted(self.now(), now, attempted);
        self.metrics.delivery(&record.name, what, delay);
        let dead = self.lane.cursor().dead.last().filter(|it| it.event == event.id && it.at == now);
        if let Some(dead) = dead.filter(|_| self.lane.cursor().dead.len() >= known) {
            self.metrics.delivery(&record.name, Delivery::GivenUp, delay);
            let (attempts, why) = (dead.attempts, &dead.reason);
            tracing::warn!(webhook = record.name, event = event.id, attempts, why, "an event was given up");
        }
    }

    /// Gets more events; false when there are none now.
    async fn events(&mut self, after: u64) -> bool {
        let query = query(&self.record.borrow().0, after);
        match self.store.events(&query, PAGE).await {
            Ok((events, seen)) => {
                let more = seen > after;
                self.lane.events(events, seen);
                more
            }
            Err(error) => {
                tracing::warn!(%error, "events for a webhook can't be read; tried again");
                sleep(RETRY).await;
                true
            }
        }
    }

    async fn find(&mut self, id: u64) {
        let query = EventQuery { after: Some(id.saturating_sub(1)), ..EventQuery::default() };
        match self.store.events(&query, 1).await {
            Ok((events, _)) => self.lane.found(id, events.into_iter().find(|it| it.id == id)),
            Err(error) => {
                tracing::warn!(%error, "an event for a webhook can't be read; tried again");
                sleep(RETRY).await;
            }
        }
    }

    /// Writes down how far it is, when it is time to. False when it could not be: it is to be tried again, and nothing
    /// is to be sent meanwhile.
    async fn write(&mut self, busy: bool) -> bool {
        let since = self.written_at.elapsed();
        let wanted = match self.lane.unwritten() {
            Unwritten::No => false,
            Unwritten::Decided => true,
            Unwritten::Delivered => !busy || since >= WRITTEN.0,
            Unwritten::Passed => since >= WRITTEN.1,
        };
        if !wanted {
            return true;
        }
        let (name, revision) = {
            let followed = self.record.borrow();
            (followed.0.name.clone(), followed.1)
        };
        // Not once it was deleted: a cursor of nothing would be left behind.
        let unchanged = Guard::Unchanged { key: Key::new(Kind::Webhook, name.as_str()), revision };
        let put = Change::Put(Record::WebhookCursor(self.lane.cursor().clone()));
        let write = Write { changes: vec![put], guards: vec![self.guard.clone(), unchanged] };
        match self.store.write(write).await {
            Ok(_) => {
                self.lane.written();
                self.written_at = Instant::now();
                true
            }
            Err(WriteError::Conflict { what }) => {
                // The webhook was changed, which is about to be heard of, or the lease is lost, which ends this.
                tracing::debug!(webhook = name, what, "how far a webhook is could not be written");
                self.rest(Some(RETRY)).await;
                false
            }
            Err(error) => {
                tracing::warn!(webhook = name, %error, "how far a webhook is can't be written; tried again");
                self.rest(Some(RETRY)).await;
                false
            }
        }
    }
}
