//! The pulse of a server: its lease, who else is alive, which of its agents have fallen silent (S3).

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use hale_health::Time;
use hale_model::cluster::{ServerRecord, SessionRecord, SessionState};
use hale_store::{
    StoreError,
    cluster::{Change, Guard, Key, Kind, Lease, Record, Write},
};
use jiff::{SignedDuration, Timestamp};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{Shared, clock, snapshot::Kept};

/// For so long the records of a server that is gone, and of orders that nobody waits for any more, are kept.
const KEPT: Duration = Duration::from_secs(120);

/// The most records of sessions that are put right at once.
const TOGETHER: usize = 500;

/// Servers whose lease lives.
#[derive(Debug, Default)]
pub(crate) struct Alive {
    names: HashSet<String>,
    /// Whether this one's does.
    pub(crate) own: bool,
}

impl Alive {
    /// Whether this server lives.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Whether there are others.
    pub(crate) fn others(&self, own: &str) -> bool {
        self.names.iter().any(|it| it != own)
    }

    /// All of them.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }
}

/// Since when servers that have a record have no lease, by the clock of decisions. While the database is away nobody
/// is seen to die: it is counted from when it answers again.
#[derive(Debug, Default)]
struct Gone {
    since: HashMap<String, Time>,
}

impl Gone {
    /// Of all servers that have a record those that have been without a lease for [`KEPT`].
    fn overdue<'a>(
        &mut self,
        recorded: impl IntoIterator<Item = &'a str>,
        is_alive: impl Fn(&str) -> bool,
        now: Time,
    ) -> Vec<String> {
        let before = std::mem::take(&mut self.since);
        for name in recorded.into_iter().filter(|it| !is_alive(it)) {
            self.since.insert(name.to_owned(), before.get(name).copied().unwrap_or(now));
        }
        let overdue = self.since.iter().filter(|(_, since)| now.since(**since) > KEPT);
        overdue.map(|(name, _)| name.clone()).collect()
    }
}

fn own_record(shared: &Shared) -> ServerRecord {
    ServerRecord {
        name: shared.name.clone(),
        url: shared.options.url.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: Timestamp::now(),
    }
}

/// Takes this server's lease and tells of it.
pub(crate) async fn join(shared: &Arc<Shared>) -> Result<(), StoreError> {
    beat(shared).await?;
    let write = Write { changes: vec![Change::Put(Record::Server(own_record(shared)))], guards: Vec::new() };
    let failed = |error: hale_store::cluster::WriteError| StoreError::Database {
        what: "be joined",
        detail: error.to_string(),
    };
    shared.store.write(write).await.map_err(failed)?;
    Ok(())
}

/// Gives the lease back, so that nobody waits for it to run out.
pub(crate) async fn leave(shared: &Shared) {
    let key = Key::new(Kind::Server, &shared.name);
    let write = Write { changes: vec![Change::Delete(key)], guards: Vec::new() };
    if let Err(error) = shared.store.write(write).await {
        tracing::debug!(%error, "the record of this server stays until another one clears it away");
    }
    match shared.store.leases().await {
        Ok(leases) => {
            for lease in leases.iter().filter(|it| it.holder == shared.name) {
                shared.store.release(lease).await;
            }
        }
        Err(error) => tracing::debug!(%error, "the lease of this server runs out by itself"),
    }
}

/// Goes on until the end.
pub(crate) async fn run(shared: Arc<Shared>) {
    let every = (shared.options.lease / 3).min(shared.options.heartbeat / 2).max(Duration::from_millis(10));
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut down_since: Option<Time> = None;
    let (own, mut gone) = (own_record(&shared), Gone::default());
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shared.end.cancelled() => return,
        }
        let beaten = beat(&shared).await;
        match &beaten {
            Ok(_) => down_since = None,
            Err(error) => {
                let since = *down_since.get_or_insert_with(clock::now);
                tracing::warn!(%error, "this server's lease can't be renewed");
                cut_off(&shared, clock::now().since(since));
            }
        }
        look_for_silence(&shared);
        // Who lives is known only while the lease is renewed.
        if matches!(beaten, Ok(Some(_))) && shared.feed.trouble().is_none() {
            let tidied = tidy(&shared, &own, &mut gone);
            // What is given to a database that goes away meanwhile is written when it is back; the pulse goes on.
            let _late = timeout(shared.options.lease, tidied).await.is_err();
        }
    }
}

/// Renews the lease, and sees who else is alive.
async fn beat(shared: &Shared) -> Result<Option<Lease>, StoreError> {
    // Counted from before it was asked for: it never lasts longer here than in the database.
    let asked = clock::now();
    let lease = shared.store.lease(&shared.name, &shared.name, shared.options.lease).await?;
    if lease.is_some() {
        let until = asked + shared.options.lease;
        shared.lease_until.store(until.as_nanos(), Ordering::Relaxed);
    }
    let leases = shared.store.leases().await?;
    // A server's own lease is one that is named like its holder.
    let names = leases.into_iter().filter(|it| it.name == it.holder).map(|it| it.name).collect();
    shared.alive.send_replace(Arc::new(Alive { names, own: lease.is_some() }));
    Ok(lease)
}

/// While the database can't be reached from here for longer than this server's lease lasts, the others hold its nodes
/// for silent: agents are sent to them, in time to register before they are given up. With no others they stay.
fn cut_off(shared: &Shared, since: Duration) {
    if since < shared.options.lease * 2 {
        return;
    }
    let alive = Arc::clone(&shared.alive.borrow());
    if !alive.others(&shared.name) {
        return;
    }
    if alive.own {
        let names = alive.names().map(str::to_owned).collect();
        shared.alive.send_replace(Arc::new(Alive { names, own: false }));
    }
    for session in shared.sessions.all() {
        session.stop("shutting_down", "this server can't reach the database");
    }
}

fn look_for_silence(shared: &Shared) {
    let now = clock::now();
    for session in shared.sessions.all() {
        let silent = now.since(session.live.last_beat());
        if silent >= shared.options.heartbeat * 6 {
            session.stop("resync", "no beat has come for long");
        } else if silent >= shared.options.heartbeat * 2 {
            session.wake();
        }
    }
}

/// Puts right what nobody else does any more: records of this server's sessions that have ended while the database took
/// nothing, of servers that are gone, of orders that nobody waits for; and this server's own, should it be missing.
async fn tidy(shared: &Shared, own: &ServerRecord, gone: &mut Gone) {
    let snapshot = shared.feed.current();
    let now = Timestamp::now();
    let mut writes: Vec<Write> = snapshot
        .sessions
        .values()
        .filter(|it| has_ended(shared, it, now))
        .take(TOGETHER)
        .map(|it| {
            let last_beat = shared.live.node(&it.node).map_or(it.since, |it| it.last_beat_at());
            let state = SessionState::Disconnected { last_beat };
            let key = Key::new(Kind::Session, &it.node);
            let record = SessionRecord { state, ..(*it.record).clone() };
            let guards = vec![Guard::Unchanged { key, revision: it.revision }];
            Write { changes: vec![Change::Put(Record::Session(record))], guards }
        })
        .collect();
    if !snapshot.servers.contains_key(own.name.as_str()) {
        let guards = vec![Guard::Absent(Key::new(Kind::Server, &own.name))];
        writes.push(Write { changes: vec![Change::Put(Record::Server(own.clone()))], guards });
    }
    let alive = Arc::clone(&shared.alive.borrow());
    let servers = gone.overdue(snapshot.servers.keys().map(|it| &**it), |it| alive.has(it), clock::now());
    let kept = SignedDuration::try_from(KEPT).unwrap_or(SignedDuration::MAX);
    let orders = snapshot.orders.values().filter(|it| now.duration_since(it.at) > kept);
    let orders = orders.map(|it| Change::Delete(Key::new(Kind::Order, &it.id)));
    let mut changes: Vec<Change> =
        servers.iter().map(|it| Change::Delete(Key::new(Kind::Server, it))).collect();
    changes.extend(orders);
    if !changes.is_empty() {
        writes.push(Write { changes, guards: Vec::new() });
    }
    // Each by itself, so that one that has changed meanwhile leaves the others; the store writes them together.
    for written in join_all(writes.into_iter().map(|it| shared.store.write(it))).await {
        if let Err(error) = written {
            tracing::debug!(%error, "a record could not be tidied up; tried again");
        }
    }
}

/// Whether a session of this server is recorded as one that goes on, and there is none.
fn has_ended(shared: &Shared, it: &Kept<SessionRecord>, now: Timestamp) -> bool {
    it.server == shared.name
        && matches!(it.state, SessionState::Connected | SessionState::Silent { .. })
        && now.duration_since(it.since) > SignedDuration::from_secs(15)
        && shared.sessions.get(&it.node).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_gone_once_it_has_had_no_lease_for_long_enough_however_long_ago_it_started() {
        let at = |seconds: u64| Time::from_nanos(seconds * 1_000_000_000);
        let mut gone = Gone::default();
        let both = ["a", "b"];
        // The database was away for an hour: nobody's lease lives as it comes back.
        assert!(gone.overdue(both, |_| false, at(3600)).is_empty());
        assert!(gone.overdue(both, |it| it == "a", at(3605)).is_empty());
        assert_eq!(gone.overdue(both, |it| it == "a", at(3721)), ["b"]);
        // Having been back it counts anew.
        assert!(gone.overdue(both, |_| true, at(3722)).is_empty());
        assert!(gone.overdue(both, |it| it == "a", at(3800)).is_empty());
        assert!(gone.overdue(["a"], |it| it == "a", at(4000)).is_empty());
        assert!(gone.since.is_empty(), "what has no record is forgotten");
    }
}
