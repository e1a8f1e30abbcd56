//! What is to be told to the server: of each object its newest state, and nothing else. Its size is that of what the
//! agent looks after, however long the server is away; what a newer state takes the place of is not missed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hale_health::{Backoff, BackoffPolicy, Chance};
use jiff::Timestamp;
use tokio::sync::Notify;

use super::Shared;
use crate::health::Health;

/// Objects in one request.
const AT_ONCE: usize = 100;

/// The longest between attempts while the server is away.
pub(super) const AGAIN: BackoffPolicy = BackoffPolicy {
    initial: Duration::from_millis(500),
    max: Duration::from_secs(30),
    multiplier: 2.0,
    jitter: 0.3,
};

/// What is to be told of one object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) health: Health,
    pub(crate) checked_at: Timestamp,
}

#[derive(Default)]
struct Waiting {
    entries: BTreeMap<String, Entry>,
    /// The server is to hear that the agent is alive, even if there is nothing to tell.
    beat: bool,
}

/// What waits to be told.
#[derive(Default)]
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has states told, in place of older ones; at once, or with the next beat.
    pub(super) fn put(&self, states: Vec<(String, Health)>, checked_at: Timestamp, at_once: bool) {
        if states.is_empty() {
            return;
        }
        let mut waiting = self.lock();
        for (id, health) in states {
            waiting.entries.insert(id, Entry { health, checked_at });
        }
        drop(waiting);
        if at_once {
            self.wake.notify_one();
        }
    }

    /// Has the server told that the agent is alive.
    pub(super) fn beat(&self) {
        self.lock().beat = true;
        self.wake.notify_one();
    }

    /// Forgets what is about other objects than these.
    pub(super) fn keep_only(&self, ids: &BTreeSet<&str>) {
        self.lock().entries.retain(|id, _| ids.contains(id.as_str()));
    }

    fn take(&self) -> (Vec<(String, Entry)>, bool) {
        let mut waiting = self.lock();
        let beat = std::mem::take(&mut waiting.beat);
        let ids: Vec<String> = waiting.entries.keys().take(AT_ONCE).cloned().collect();
        let taken = ids.into_iter().filter_map(|id| waiting.entries.remove_entry(&id)).collect();
        (taken, beat)
    }

    /// Puts what could not be told back, where nothing newer is there.
    fn put_back(&self, entries: Vec<(String, Entry)>) {
        let mut waiting = self.lock();
        for (id, entry) in entries {
            waiting.entries.entry(id).or_insert(entry);
        }
        waiting.beat = true;
    }
}

/// Tells, until the end.
pub(super) async fn report(shared: Arc<Shared>) {
    let mut backoff = Backoff::new();
    let mut chance = Chance::new(Shared::seed());
    loop {
        let (entries, beat) = shared.outbox.take();
        if entries.is_empty() && !beat {
            match shared.end.run_until_cancelled(shared.outbox.wake.notified()).await {
                Some(()) => continue,
                None => return,
            }
        }
        let told = shared.end.run_until_cancelled(tell(&shared, &entries)).await;
        let wait = match told {
            None => return,
            Some(Ok(refused)) => {
                shared.metrics.reported(true);
                for (index, why) in refused {
                    let id = entries.get(index).map_or("", |it| it.0.as_str());
                    tracing::warn!(
                        deployment_object = id,
                        why,
                        "the server does not take what is told of it"
                    );
                }
                backoff.reset();
                continue;
            }
            Some(Err(error)) => {
                shared.metrics.reported(false);
                tracing::warn!(%error, "can't tell the server how things are; trying again");
                shared.outbox.put_back(entries);
                backoff.next(&AGAIN, chance.draw())
            }
        };
        if shared.end.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            return;
        }
    }
}

async fn tell(shared: &Shared, entries: &[(String, Entry)]) -> Result<Vec<(usize, String)>, String> {
    shared.servers.registered().await;
    shared.servers.report(entries).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::disabled;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_server_that_is_away_hears_the_newest_of_each_and_nothing_older() {
        let outbox = Outbox::default();
        for second in 0..1000 {
            outbox.put(vec![("a".to_owned(), disabled())], at(second), true);
        }
        outbox.put(vec![("b".to_owned(), disabled())], at(5), true);
        let (taken, _) = outbox.take();
        assert_eq!(taken.len(), 2);
        outbox.put(vec![("a".to_owned(), disabled())], at(2000), true);
        outbox.put_back(taken);
        let (again, beat) = outbox.take();
        let times: Vec<_> = again.iter().map(|(id, it)| (id.as_str(), it.checked_at)).collect();
        assert_eq!(times, [("a", at(2000)), ("b", at(5))]);
        assert!(beat);
    }

    #[test]
    fn what_is_not_looked_after_any_more_is_not_told() {
        let outbox = Outbox::default();
        outbox.put(vec![("a".to_owned(), disabled()), ("b".to_owned(), disabled())], at(1), false);
        outbox.keep_only(&BTreeSet::from(["b"]));
        assert_eq!(outbox.take().0.len(), 1);
    }
}
