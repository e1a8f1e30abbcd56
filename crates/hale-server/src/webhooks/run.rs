//! The loop that delivers: on the one server that holds the lease, a task per webhook (S3, S22).
//!
//! How far a webhook is stands in the database under the lease's number, written after what it tells of was done. A
//! server that is killed in the middle of a delivery therefore leaves it undone, and whoever takes over does it again,
//! under the same `webhook-id`. A server that has lost the lease can't write, and stops.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use hale_model::cluster::{WebhookCursor, WebhookRecord};
use hale_store::{
    Store,
    cluster::{Guard, Lease},
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{Book, KeyError, Opened, SecretKey, Sender, Timeouts, task::LaneTask};
use crate::{
    cluster::{Cluster, snapshot::Snapshot},
    metrics::ServerMetrics,
};

/// The name of the lease.
pub const LEASE: &str = "webhooks";

/// How long the lease lasts by itself. It is renewed, or asked for, every quarter of that: another server takes over
/// within the sum (S3: 10 s).
pub const LASTS: Duration = Duration::from_secs(7);

/// What the loop is made of.
#[derive(Debug, Clone)]
pub struct Deliveries {
    /// The database.
    pub store: Store,
    /// The records, as they change.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Opens addresses and secrets.
    pub key: Arc<SecretKey>,
    /// Sends.
    pub sender: Sender,
    /// The name of this server.
    pub holder: String,
    /// Counts deliveries.
    pub metrics: Arc<ServerMetrics>,
    /// How long the lease lasts: [`LASTS`].
    pub lease: Duration,
}

/// A webhook as its lane follows it: the record and when it was last changed.
pub(super) type Followed = (Arc<WebhookRecord>, u64);

struct Going {
    record: watch::Sender<Followed>,
    end: CancellationToken,
}

impl Deliveries {
    /// Delivers, whenever this server holds the lease, until `end` is cancelled.
    pub async fn run(self, end: CancellationToken) {
        while !end.is_cancelled() {
            match self.store.lease(LEASE, &self.holder, self.lease).await {
                Ok(Some(lease)) => {
                    tracing::info!(number = lease.number, "this server delivers to webhooks now");
                    self.hold(&lease, &end).await;
                    tracing::info!("this server no longer delivers to webhooks");
                    if end.is_cancelled() {
                        self.store.release(&lease).await;
                        return;
                    }
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "the lease on webhooks can't be asked for; tried again"),
            }
            tokio::select! {
                () = sleep(self.lease / 4) => {}
                () = end.cancelled() => {}
            }
        }
    }

    /// Keeps a lane per webhook going while the lease is held.
    async fn hold(&self, lease: &Lease, end: &CancellationToken) {
        let ours = end.child_token();
        let (mut lanes, mut tasks) = (BTreeMap::new(), JoinSet::new());
        let mut snapshots = self.snapshots.clone();
        let mut renew = interval(self.lease / 4);
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut held_until = Instant::now() + self.lease;
        loop {
            let snapshot = Arc::clone(&snapshots.borrow_and_update());
            self.reconcile(&snapshot, lease, &ours, &mut lanes, &mut tasks);
            tokio::select! {
                changed = snapshots.changed() => if changed.is_err() { break },
                Some(ended) = tasks.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a webhook's lane ended badly; begun again");
                    }
                    lanes.retain(|_, lane: &mut Going| !lane.record.is_closed());
                    // Not at once: what ended it may still be so.
                    sleep(Duration::from_millis(200)).await;
                }
                _ = renew.tick() => {
                    let asked = Instant::now();
                    match self.store.lease(LEASE, &self.holder, self.lease).await {
                        Ok(Some(renewed)) if renewed.number == lease.number => held_until = asked + self.lease,
                        Ok(_) => break,
                        Err(error) => {
                            tracing::warn!(%error, "the lease on webhooks can't be renewed");
                            if Instant::now() >= held_until {
                                break;
                            }
                        }
                    }
                }
                () = end.cancelled() => break,
            }
        }
        ours.cancel();
        // Lanes wait for nothing once they are cancelled.
        while tasks.join_next().await.is_some() {}
    }

    fn reconcile(
        &self,
        snapshot: &Snapshot,
        lease: &Lease,
        ours: &CancellationToken,
        lanes: &mut BTreeMap<Arc<str>, Going>,
        tasks: &mut JoinSet<()>,
    ) {
        let there: BTreeSet<&Arc<str>> = snapshot.webhooks.keys().collect();
        lanes.retain(|name, lane| {
            let stays = there.contains(name);
            if !stays {
                lane.end.cancel();
                self.metrics.forget_webhook(name);
            }
            stays
        });
        for (name, kept) in snapshot.webhooks.iter() {
            let followed = (Arc::clone(&kept.record), kept.revision);
            if let Some(lane) = lanes.get(name) {
                lane.record.send_if_modified(|it| {
                    let newer = it.1 != followed.1;
                    *it = followed;
                    newer
                });
                continue;
            }
            let cursor = snapshot.cursors.get(name).map_or_else(
                // One that was made without a cursor begins with what comes from now on.
                || WebhookCursor { name: name.to_string(), after: self.store.latest(), ..Default::default() },
                |it| WebhookCursor::clone(&it.record),
            );
            let (record, follow) = watch::channel(followed);
            let end = ours.child_token();
            let guard = Guard::Lease { name: LEASE.to_owned(), number: lease.number };
            let task = LaneTask::new(self, follow, cursor, guard);
            let ended = end.clone();
            tasks.spawn(async move { ended.run_until_cancelled(task.run()).await.unwrap_or_default() });
            lanes.insert(Arc::clone(name), Going { record, end });
        }
    }
}

/// Begins to deliver as a part of a cluster, and gives what the API has of webhooks.
///
/// The key is read from its file, which is made at the first start.
///
/// # Errors
/// When there is no key although something is sealed already, the file can't be used, or what is sealed was sealed with
/// another key.
pub fn start(
    cluster: &Cluster,
    store: Store,
    key_file: &Path,
    metrics: Arc<ServerMetrics>,
    end: CancellationToken,
) -> Result<Book, KeyError> {
    let snapshot = cluster.snapshot();
    let key = Arc::new(SecretKey::open(key_file, !snapshot.webhooks.is_empty())?);
    for record in snapshot.webhooks.values() {
        match Opened::of(&key, record) {
            Err(error @ KeyError::Other { .. }) => return Err(error),
            // One that is damaged is told where it is shown; the others are delivered to.
            Err(error) => tracing::error!(%error, "a webhook can't be delivered to"),
            Ok(_) => {}
        }
    }
    let sender = Sender::new(Timeouts::default());
    let deliveries = Deliveries {
        store: store.clone(),
        snapshots: cluster.follow(),
        key: Arc::clone(&key),
        sender: sender.clone(),
        holder: cluster.name().to_owned(),
        metrics,
        lease: LASTS,
    };
    tokio::spawn(deliveries.run(end));
    Ok(Book { store, snapshots: cluster.follow(), key, sender })
}
