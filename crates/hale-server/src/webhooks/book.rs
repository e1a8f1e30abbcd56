//! Webhooks as people handle them: made, changed, looked at, tried, taken away.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use hale_api::{
    events::type_matches,
    webhooks::{ReplayRequest, Webhook, WebhookMade, WebhookRequest, WebhookTested},
};
use hale_model::{
    cluster::{Replay, WebhookCursor, WebhookRecord},
    event::{EventData, Severity},
};
use hale_store::{
    AuditRecord, Store,
    cluster::{Change, Guard, Key, Kind, Record, Write, WriteError},
};
use jiff::Timestamp;
use tokio::{sync::watch, time::timeout};

use super::{
    BadSecret, Endpoint, EndpointError, Kept, KeyError, Opened, Secret, SecretKey, Sender, attempted,
    lane::{Attempted, MOST_REPLAYED},
};
use crate::cluster::snapshot::Snapshot;

/// The most webhooks: each has a task and a connection.
const MOST: usize = 200;

/// How long an answer waits until what was written is seen here, too.
const SEEN: Duration = Duration::from_secs(2);

/// How often a write is tried that others came before.
const TRIES: usize = 5;

/// Why something about webhooks was not done.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// There is no such webhook.
    #[error("there is no webhook {0:?}; `hale webhook list` lists what there is")]
    NotFound(String),
    /// What was asked for makes no sense.
    #[error("{0}")]
    Bad(String),
    /// The database takes nothing now.
    #[error("{0}")]
    Unavailable(String),
    /// The key does not fit, or is missing.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl From<EndpointError> for BookError {
    fn from(error: EndpointError) -> Self {
        Self::Bad(error.to_string())
    }
}

impl From<BadSecret> for BookError {
    fn from(error: BadSecret) -> Self {
        Self::Bad(error.to_string())
    }
}

/// What the API has of webhooks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Book {
    /// The database.
    pub store: Store,
    /// The records, as they change.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Seals addresses and secrets.
    pub key: Arc<SecretKey>,
    /// Sends messages that somebody wants to see sent.
    pub sender: Sender,
}

impl Book {
    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow())
    }

    /// All of them, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Webhook> {
        let snapshot = self.snapshot();
        snapshot.webhooks.values().map(|it| self.told(&it.record, cursor_of(&snapshot, &it.name))).collect()
    }

    /// One.
    ///
    /// # Errors
    /// When there is none of the name.
    pub fn get(&self, name: &str) -> Result<Webhook, BookError> {
        let snapshot = self.snapshot();
        let kept = snapshot.webhooks.get(name).ok_or_else(|| BookError::NotFound(name.to_owned()))?;
        Ok(self.told(&kept.record, cursor_of(&snapshot, name)))
    }

    fn told(&self, record: &WebhookRecord, cursor: WebhookCursor) -> Webhook {
        let replaying = record.replay.as_ref().filter(|it| it.number > cursor.replayed);
        Webhook {
            name: record.name.clone(),
            host: record.host.clone(),
            types: record.types.clone(),
            subject: record.subject.clone(),
            severity: record.severity,
            paused: record.paused,
            allow_private: record.allow_private,
            created_at: record.created_at,
            created_by: record.created_by.clone(),
            after: cursor.after,
            behind: self.store.latest().saturating_sub(cursor.after),
            last: cursor.last,
            last_at: cursor.last_at,
            replaying: replaying.map_or(0, |it| it.events.len() as u64),
            dead: cursor.dead.into_iter().map(Into::into).collect(),
        }
    }

    /// Makes one, or changes the one of its name.
    ///
    /// # Errors
    /// When something in it is wrong, there are too many, or the database takes nothing.
    pub async fn put(&self, request: &WebhookRequest, by: &str) -> Result<WebhookMade, BookError> {
        checked(request)?;
        for _ in 0..TRIES {
            let snapshot = self.snapshot();
            let old = snapshot.webhooks.get(request.name.as_str());
            if old.is_none() && snapshot.webhooks.len() >= MOST {
                return Err(BookError::Bad(format!("there are {MOST} webhooks already: no more are taken")));
            }
            let (record, secret) = self.record(request, old.map(|it| &*it.record), by)?;
            let key = Key::new(Kind::Webhook, request.name.as_str());
            let guard = match old {
                Some(old) => Guard::Unchanged { key, revision: old.revision },
                None => Guard::Absent(key),
            };
            let mut changes = vec![Change::Put(Record::Webhook(record.clone()))];
            let mut cursor = cursor_of(&snapshot, &request.name);
            if old.is_none() {
                // From what comes from now on.
                let (name, after) = (request.name.clone(), self.store.latest());
                cursor = WebhookCursor { name, after, ..WebhookCursor::default() };
                changes.push(Change::Put(Record::WebhookCursor(cursor.clone())));
            }
            let action = if old.is_some() { "change" } else { "create" };
            changes.push(audit(
                by,
                action,
                &request.name,
                &request.url.as_deref().map_or_else(String::new, |url| {
                    Endpoint::parse(url).map(|it| it.shown()).unwrap_or_default()
                }),
            ));
            if self.write(&snapshot, Write { changes, guards: vec![guard] }).await? {
                // As it was written: it may not be seen here yet, and the secret is told this once.
                let webhook = self.told(&record, cursor);
                return Ok(WebhookMade { webhook, secret, created: old.is_none() });
            }
        }
        Err(busy())
    }

    /// The record that a request makes of an old one, and the secret where that is new.
    fn record(
        &self,
        request: &WebhookRequest,
        old: Option<&WebhookRecord>,
        by: &str,
    ) -> Result<(WebhookRecord, Option<String>), BookError> {
        let name = &request.name;
        let given = request.secret.as_deref().map(Secret::parse).transpose()?;
        let (url, secret, told) = match (&request.url, given, old) {
            (None, _, None) => return Err(BookError::Bad("a new webhook needs a url".to_owned())),
            (Some(url), given, None) => {
                let secret = match given {
                    Some(secret) => secret,
                    None => Secret::make().ok_or(KeyError::NoRandom)?,
                };
                let told = secret.reveal();
                (url.clone(), secret, Some(told))
            }
            (None, None, Some(old)) => return Ok((changed(old.clone(), request), None)),
            // Whoever lost the key can set both anew; one alone needs the other, which is sealed.
            (Some(url), Some(given), Some(_)) => {
                let told = given.reveal();
                (url.clone(), given, Some(told))
            }
            (url, given, Some(old)) => {
                let opened = Opened::of(&self.key, old)?;
                let told = given.as_ref().map(Secret::reveal);
                (url.clone().unwrap_or(opened.url), given.unwrap_or(opened.secret), told)
            }
        };
        let endpoint = Endpoint::parse(&url)?;
        let fresh = WebhookRecord {
            name: name.clone(),
            sealed: String::new(),
            host: String::new(),
            types: Vec::new(),
            subject: None,
            severity: Severity::Info,
            paused: false,
            allow_private: false,
            created_at: Timestamp::now(),
            created_by: by.to_owned(),
            replay: None,
        };
        let mut record = changed(old.cloned().unwrap_or(fresh), request);
        record.sealed = Opened::seal(&self.key, name, &url, &secret)?;
        record.host = endpoint.shown();
        Ok((record, told))
    }

    /// Takes one away, with what waited for it.
    ///
    /// # Errors
    /// When there is none, or the database takes nothing.
    pub async fn delete(&self, name: &str, by: &str) -> Result<(), BookError> {
        let snapshot = self.snapshot();
        if !snapshot.webhooks.contains_key(name) {
            return Err(BookError::NotFound(name.to_owned()));
        }
        let changes = vec![
            Change::Delete(Key::new(Kind::Webhook, name)),
            Change::Delete(Key::new(Kind::WebhookCursor, name)),
            audit(by, "delete", name, ""),
        ];
        self.write(&snapshot, Write { changes, guards: Vec::new() }).await.map(drop)
    }

    /// Delivers nothing to it until it is resumed; what happens meanwhile waits.
    ///
    /// # Errors
    /// When there is none, or the database takes nothing.
    pub async fn pause(&self, name: &str, paused: bool, by: &str) -> Result<Webhook, BookError> {
        let action = if paused { "pause" } else { "resume" };
        self.change(name, (by, action, String::new()), |record, _| {
            record.paused = paused;
            Ok(())
        })
        .await
    }

    /// Asks that events be sent again: those named, or all that were given up.
    ///
    /// # Errors
    /// When there is no such webhook, nothing to send again, too many, or the database takes nothing.
    pub async fn replay(&self, name: &str, request: &ReplayRequest, by: &str) -> Result<Webhook, BookError> {
        let asked: BTreeSet<u64> = request.events.iter().copied().collect();
        let detail = if asked.is_empty() { "all".to_owned() } else { format!("{asked:?}") };
        self.change(name, (by, "replay", detail), |record, snapshot| {
            let cursor = snapshot.cursors.get(name);
            let mut events = asked.clone();
            if events.is_empty() {
                events.extend(cursor.iter().flat_map(|it| &it.dead).map(|it| it.event));
            }
            if events.is_empty() {
                return Err(BookError::Bad(format!(
                    "nothing that was to be delivered to {name} was given up; name an event to send it again"
                )));
            }
            let before = record.replay.take();
            let number = before.as_ref().map_or(0, |it| it.number) + 1;
            // What was asked before and is not seen to yet is not forgotten.
            let done = cursor.map_or(0, |it| it.replayed);
            events.extend(before.filter(|it| it.number > done).into_iter().flat_map(|it| it.events));
            if events.len() > MOST_REPLAYED {
                return Err(BookError::Bad(format!("at most {MOST_REPLAYED} events are sent again at once")));
            }
            record.replay = Some(Replay { number, events });
            Ok(())
        })
        .await
    }

    /// Sends one message, now and from here, and tells what came of it. It is no event: nothing is recorded of it.
    ///
    /// # Errors
    /// When there is no such webhook, or it can't be opened with this server's key.
    pub async fn test(&self, name: &str) -> Result<WebhookTested, BookError> {
        let snapshot = self.snapshot();
        let kept = snapshot.webhooks.get(name).ok_or_else(|| BookError::NotFound(name.to_owned()))?;
        let opened = Opened::of(&self.key, &kept.record)?;
        let now = Timestamp::now();
        let id = format!("test_{:x}", now.as_microsecond());
        let body = serde_json::json!({
            "specversion": "1.0",
            "id": id,
            "source": "/webhooks",
            "subject": name,
            "time": now,
            "severity": "info",
            "type": "dev.hale.webhook.test",
            "data": {"message": "sent by `hale webhook test`: nothing has happened"},
        });
        let message = opened.message(&id, Bytes::from(body.to_string()), now);
        let allowed = kept.record.allow_private;
        let sent = self.sender.send(&mut Kept::default(), &opened.endpoint, allowed, &message).await;
        Ok(match attempted(sent) {
            Attempted::Delivered { status } => {
                WebhookTested { delivered: true, detail: format!("answered {status}") }
            }
            Attempted::Refused { why } | Attempted::Failed { why, .. } => {
                WebhookTested { delivered: false, detail: why }
            }
        })
    }

    async fn change(
        &self,
        name: &str,
        (by, action, detail): (&str, &str, String),
        change: impl Fn(&mut WebhookRecord, &Snapshot) -> Result<(), BookError>,
    ) -> Result<Webhook, BookError> {
        for _ in 0..TRIES {
            let snapshot = self.snapshot();
            let kept = snapshot.webhooks.get(name).ok_or_else(|| BookError::NotFound(name.to_owned()))?;
            let mut record = WebhookRecord::clone(&kept.record);
            change(&mut record, &snapshot)?;
            let unchanged = Guard::Unchanged { key: Key::new(Kind::Webhook, name), revision: kept.revision };
            let changes =
                vec![Change::Put(Record::Webhook(record.clone())), audit(by, action, name, &detail)];
            if self.write(&snapshot, Write { changes, guards: vec![unchanged] }).await? {
                return Ok(self.told(&record, cursor_of(&self.snapshot(), name)));
            }
        }
        Err(busy())
    }

    /// Writes, and waits until it is seen here. False when others came before: it is to be decided again.
    async fn write(&self, before: &Snapshot, write: Write) -> Result<bool, BookError> {
        let mut snapshots = self.snapshots.clone();
        match self.store.write(write).await {
            Ok(committed) => {
                let seen = snapshots.wait_for(|it| it.revision >= committed.revision);
                // Written it is, either way.
                let _late = timeout(SEEN, seen).await.is_err();
                Ok(true)
            }
            Err(WriteError::Conflict { .. }) => {
                let seen = snapshots.wait_for(|it| it.revision > before.revision);
                let _late = timeout(SEEN, seen).await.is_err();
                Ok(false)
            }
            Err(error) => Err(BookError::Unavailable(error.to_string())),
        }
    }
}

/// How far a webhook is.
fn cursor_of(snapshot: &Snapshot, name: &str) -> WebhookCursor {
    snapshot.cursors.get(name).map(|it| WebhookCursor::clone(&it.record)).unwrap_or_default()
}

fn busy() -> BookError {
    BookError::Unavailable("others change the same all the time; try again".to_owned())
}

fn audit(by: &str, action: &str, name: &str, detail: &str) -> Change {
    Change::Audit(Box::new(AuditRecord {
        at: Timestamp::now(),
        by: by.to_owned(),
        action: action.to_owned(),
        subject: format!("webhooks/{name}"),
        detail: detail.to_owned(),
    }))
}

/// The record with what a request says of its filters.
fn changed(mut record: WebhookRecord, request: &WebhookRequest) -> WebhookRecord {
    if let Some(types) = &request.types {
        record.types.clone_from(types);
    }
    if let Some(subject) = &request.subject {
        record.subject = Some(subject.clone()).filter(|it| !it.is_empty());
    }
    record.severity = request.severity.unwrap_or(record.severity);
    record.allow_private = request.allow_private.unwrap_or(record.allow_private);
    record
}

fn checked(request: &WebhookRequest) -> Result<(), BookError> {
    let name = &request.name;
    if !hale_model::file::is_label(name) {
        return Err(BookError::Bad(format!(
            "{name:?} is not a name: small letters, digits and hyphens, at most 63, a letter or digit at both ends"
        )));
    }
    for word in request.types.iter().flatten() {
        if !EventData::TYPES.iter().any(|kind| type_matches(word, kind)) {
            return Err(BookError::Bad(format!("no event has the type {word:?}; docs: events")));
        }
    }
    Ok(())
}
