//! The pulse of a server: its lease, who else is alive, which of its agents have fallen silent (S3).

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use hale_health::Time;
use hale_model::cluster::{ServerRecord, SessionRecord, SessionState};
use hale_store::{
    StoreError,
    cluster::{Change, Guard, Key, Kind, Lease, Record, Write},
};
use jiff::{SignedDuration, Timestamp};
use tokio::time::{MissedTickBehavior, interval};

use super::{Shared, clock, snapshot::Snapshot};

/// For so long the records of a server that is gone, and of orders that nobody waits for any more, are kept.
const KEPT: SignedDuration = SignedDuration::from_secs(120);

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

/// Takes this server's lease and tells of it.
pub(crate) async fn join(shared: &Arc<Shared>) -> Result<(), StoreError> {
    beat(shared).await?;
    let record = ServerRecord {
        name: shared.name.clone(),
        url: shared.options.url.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: Timestamp::now(),
    };
    let write = Write { changes: vec![Change::Put(Record::Server(record))], guards: Vec::new() };
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
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shared.end.cancelled() => return,
        }
        match beat(&shared).await {
            Ok(_) => down_since = None,
            Err(error) => {
                let since = *down_since.get_or_insert_with(clock::now);
                tracing::warn!(%error, "this server's lease can't be renewed");
                cut_off(&shared, clock::now().since(since));
            }
        }
        let snapshot = shared.feed.current();
        look_for_silence(&shared);
        if shared.feed.trouble().is_none() {
            tidy(&shared, &snapshot).await;
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
/// nothing, of servers that are gone, of orders that nobody waits for.
async fn tidy(shared: &Shared, snapshot: &Snapshot) {
    let mut write = Write::default();
    let now = Timestamp::now();
    let alive = Arc::clone(&shared.alive.borrow());
    let own = |it: &&super::snapshot::Kept<SessionRecord>| {
        it.server == shared.name
            && matches!(it.state, SessionState::Connected | SessionState::Silent { .. })
            && now.duration_since(it.since) > SignedDuration::from_secs(15)
            && shared.sessions.get(&it.node).is_none()
    };
    if let Some(it) = snapshot.sessions.values().find(own) {
        let last_beat = shared.live.node(&it.node).map_or(it.since, |it| it.last_beat_at());
        let state = SessionState::Disconnected { last_beat };
        let key = Key::new(Kind::Session, &it.node);
        write.guards.push(Guard::Unchanged { key, revision: it.revision });
        write.changes.push(Change::Put(Record::Session(SessionRecord { state, ..(*it.record).clone() })));
    }
    let old = |at: Timestamp| now.duration_since(at) > KEPT;
    let servers = snapshot.servers.values().filter(|it| !alive.has(&it.name) && old(it.started_at));
    write.changes.extend(servers.map(|it| Change::Delete(Key::new(Kind::Server, &it.name))));
    let orders = snapshot.orders.values().filter(|it| old(it.at));
    write.changes.extend(orders.map(|it| Change::Delete(Key::new(Kind::Order, &it.id))));
    if !write.changes.is_empty()
        && let Err(error) = shared.store.write(write).await
    {
        tracing::debug!(%error, "records could not be tidied up; tried again");
    }
}
