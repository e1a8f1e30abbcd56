//! The loop that sees to what nobody asks for: agents that fall silent, claims that run out, what is told of things that
//! are gone, requests whose time is over (K8, K9). One server at a time, under a lease (S3).

use std::time::Duration;

use hale_model::cluster::{DiagnosticsRecord, KubeSeenRecord};
use hale_store::cluster::{Change, Guard, Key, Kind, Lease, Record, Write, WriteError};
use jiff::Timestamp;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Kube, diagnostics, queue,
    silence::{Recorded, Silences},
    status, unchanged,
};
use crate::cluster::{
    clock,
    snapshot::{Kept, KubeRecords},
};

/// The name of the lease.
const LEASE: &str = "kubernetes";

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(1);

/// The most changes of one write: what is left is for the next look.
const TOGETHER: usize = 500;

/// Looks, whenever this server holds the lease, until `end` is cancelled.
pub(super) async fn run(kube: Kube, end: CancellationToken) {
    let every = EVERY.min(kube.options.lease / 4).max(Duration::from_millis(20));
    while !end.is_cancelled() {
        match kube.store.lease(LEASE, kube.cluster.name(), kube.options.lease).await {
            Ok(Some(lease)) => {
                Holding::new(&kube, lease.clone()).run(every, &end).await;
                if end.is_cancelled() {
                    kube.store.release(&lease).await;
                    return;
                }
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "the lease on Kubernetes can't be asked for; tried again"),
        }
        tokio::select! {
            () = sleep(kube.options.lease / 4) => {}
            () = end.cancelled() => {}
        }
    }
}

/// The loop while the lease is held.
struct Holding<'a> {
    kube: &'a Kube,
    lease: Lease,
    silences: Silences,
    swept: Option<Instant>,
}

impl<'a> Holding<'a> {
    fn new(kube: &'a Kube, lease: Lease) -> Self {
        Self { kube, lease, silences: Silences::default(), swept: None }
    }

    async fn run(&mut self, every: Duration, end: &CancellationToken) {
        let lasts = self.kube.options.lease;
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut held_until, mut renewed_at) = (Instant::now() + lasts, Instant::now());
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = end.cancelled() => return,
            }
            let asked = Instant::now();
            if asked.duration_since(renewed_at) >= lasts / 4 {
                match self.kube.store.lease(LEASE, self.kube.cluster.name(), lasts).await {
                    Ok(Some(it)) if it.number == self.lease.number => {
                        (held_until, renewed_at) = (asked + lasts, asked)
                    }
                    Ok(_) => return,
                    Err(error) => {
                        tracing::warn!(%error, "the lease on Kubernetes can't be renewed");
                        // Nobody could have been heard meanwhile.
                        self.silences.excuse();
                        if Instant::now() >= held_until {
                            return;
                        }
                        continue;
                    }
                }
            }
            if self.kube.cluster.ready().is_err() {
                self.silences.excuse();
                continue;
            }
            self.look().await;
        }
    }

    async fn look(&mut self) {
        let now = match self.kube.store.now().await {
            Ok(now) => now,
            Err(error) => {
                tracing::warn!(%error, "Kubernetes is not looked at: the database does not tell the time");
                self.silences.excuse();
                return;
            }
        };
        let snapshot = self.kube.snapshot();
        let records = &snapshot.kube;
        let agents = records.agents.values().map(|it| {
            let seen = records.seen.get(it.id.as_str());
            Recorded {
                id: &it.id,
                stale_after: Duration::from_secs(it.stale_after_seconds.into()),
                heard: seen.map_or(0, |it| it.revision),
                silent: seen.is_some_and(|it| it.silent),
            }
        });
        for id in self.silences.overdue(agents, clock::now()) {
            let write = silenced(records, &id, now);
            if self.write(write).await {
                tracing::warn!(agent = id, "an agent of a cluster is silent: what it watches is unknown");
            }
        }
        for write in run_outs(self.kube, records, now) {
            self.write(write).await;
        }
        self.write(orphans(records)).await;
        let due = self.swept.is_none_or(|at| at.elapsed() >= self.kube.options.cleanup_interval);
        if due {
            self.swept = Some(Instant::now());
            self.sweep(records, now).await;
        }
    }

    /// Writes under the lease; whether it was written. What has changed meanwhile is looked at again the next time.
    async fn write(&self, mut write: Write) -> bool {
        if write.changes.is_empty() {
            return false;
        }
        write.guards.push(Guard::Lease { name: LEASE.to_owned(), number: self.lease.number });
        match self.kube.store.write(write).await {
            // What was written is seen before the next look: else it would be decided once more.
            Ok(committed) => {
                self.kube.cluster.caught_up(committed.revision).await;
                true
            }
            Err(WriteError::Conflict { .. }) => false,
            Err(error) => {
                tracing::warn!(%error, "what Kubernetes needs is not written; tried again");
                false
            }
        }
    }

    /// Deletes requests whose time is over with their results, and says which (K9).
    async fn sweep(&self, records: &KubeRecords, now: Timestamp) {
        let over: Vec<&Kept<DiagnosticsRecord>> =
            records.diagnostics.values().filter(|it| queue::has_expired(it, now)).collect();
        for some in over.chunks(TOGETHER) {
            let changes = some.iter().map(|it| Change::Delete(Key::new(Kind::Diagnostics, &it.id))).collect();
            if !self.write(Write { changes, guards: Vec::new() }).await {
                continue;
            }
            self.kube.counted.swept.inc_by(some.len() as u64);
            for it in some {
                tracing::info!(
                    request = it.id,
                    deployment_object = it.object_id,
                    replica = it.replica,
                    agent = it.agent_id,
                    status = it.status.as_str(),
                    requested_by = it.requested_by,
                    created_at = %it.created_at,
                    "deleted a request for diagnostics that has expired, and its result"
                );
            }
        }
    }
}

/// An agent is silent: so it stands, and what it told is unknown.
fn silenced(records: &KubeRecords, agent_id: &str, now: Timestamp) -> Write {
    let Some(agent) = records.agent(agent_id) else { return Write::default() };
    let key = Key::new(Kind::KubeSeen, agent_id);
    let seen = records.seen.get(agent_id);
    // Whatever it tells meanwhile is written with this record: it then is not silent.
    let mut guards = vec![super::unchanged_or_absent(seen, key)];
    guards.push(unchanged(agent, Key::new(Kind::KubeAgent, &agent.name)));
    let mut record = seen.map_or_else(
        || KubeSeenRecord {
            agent_id: agent_id.to_owned(),
            last_seen: agent.registered_at,
            checked: Default::default(),
            silent: false,
        },
        |it| (*it.record).clone(),
    );
    record.silent = true;
    let mut changes = vec![Change::Put(Record::KubeSeen(record))];
    for (name, health) in records.health.iter().filter(|(_, it)| it.agent_id == agent_id) {
        if let Some(unknown) = status::silence(health, agent.stale_after_seconds, now) {
            guards.push(unchanged(health, Key::new(Kind::ObjectHealth, &**name)));
            changes.push(Change::Put(Record::ObjectHealth(Box::new(unknown))));
        }
    }
    Write { changes, guards }
}

/// Claims that have run out, each by itself.
fn run_outs(kube: &Kube, records: &KubeRecords, now: Timestamp) -> Vec<Write> {
    let over = |it: &Kept<DiagnosticsRecord>| {
        let next = queue::run_out(it, kube.options.claim, now)?;
        tracing::warn!(
            request = it.id,
            agent = it.agent_id,
            claims = it.claims,
            status = next.status.as_str(),
            "a claim on a request for diagnostics has run out"
        );
        kube.counted.run_outs.inc();
        let guards = vec![unchanged(it, Key::new(Kind::Diagnostics, &it.id))];
        let event = next.status.is_final().then(|| diagnostics::ended(records, &next, now));
        let mut changes = vec![Change::Put(Record::Diagnostics(Box::new(next)))];
        changes.extend(event);
        Some(Write { changes, guards })
    };
    records.diagnostics.values().filter_map(over).take(TOGETHER).collect()
}

/// What is told of, or asked about, what is not there any more, is superseded, or is not given to the agent any more.
fn orphans(records: &KubeRecords) -> Write {
    let mut write = Write::default();
    let mut delete = |key: Key, revision: u64| {
        write.guards.push(Guard::Unchanged { key: key.clone(), revision });
        write.changes.push(Change::Delete(key));
    };
    let orphaned = records.health.iter().filter(|(_, it)| {
        let stack = records.stack(&it.stack_id).filter(|stack| stack.current() == Some(&it.object_id));
        let agent = records.agent(&it.agent_id);
        !matches!((stack, agent), (Some(stack), Some(agent)) if agent.is_given(stack))
    });
    for (name, it) in orphaned.take(TOGETHER) {
        delete(Key::new(Kind::ObjectHealth, &**name), it.revision);
    }
    let seen = records.seen.iter().filter(|(id, _)| records.agent(id).is_none());
    for (id, it) in seen.take(TOGETHER) {
        delete(Key::new(Kind::KubeSeen, &**id), it.revision);
    }
    let asked = records.diagnostics.values().filter(|it| {
        let object = it.object_id.as_deref();
        object.is_some_and(|id| !records.objects.contains_key(id) || records.agent(&it.agent_id).is_none())
    });
    for it in asked.take(TOGETHER) {
        delete(Key::new(Kind::Diagnostics, &it.id), it.revision);
    }
    write
}
