//! Kubernetes on the server's side: stacks, agents of clusters, how things are there, diagnostics (K1, K8, K9, K13, K14).
//!
//! Everything stands in the database, and every server reads the same: any of them takes any request, and none remembers
//! what another must know. What decides is pure: [`status`] (which report counts, what it changes, which event it
//! makes), [`queue`] (the life of a request for diagnostics), [`silence`] (which agents are not heard any more). Around
//! it: what people do ([`stacks`], [`diagnostics`]), what agents do ([`agents`], [`reports`]), and the one loop of the
//! cluster that sees to what nobody asks for ([`monitor`]). Each decides over a snapshot and writes under guards of what
//! it has read; when something was changed meanwhile, it decides again.

pub(crate) mod agents;
pub(crate) mod diagnostics;
mod manifests;
mod metrics;
mod monitor;
mod queue;
mod replicas;
pub(crate) mod reports;
mod silence;
pub(crate) mod stacks;
mod status;
pub(crate) mod view;

use std::{sync::Arc, time::Duration};

use hale_api::Code;
use hale_store::{
    Store,
    cluster::{Change, Guard, Key, Kind, Record, Write, WriteError},
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::metrics::Counted;
use crate::{
    cluster::{
        Cluster,
        snapshot::{Kept, KubeRecords, Snapshot},
    },
    problems::{Answer, Refusal},
};

/// How often something is decided again because others changed the same meanwhile.
const TRIES: usize = 8;

/// How long it is waited for what others changed.
const NEWER: Duration = Duration::from_secs(2);

/// How a server sees to Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How long requests for diagnostics and their results are told (K9). 60 min.
    pub retention: Duration,
    /// How often those that are not told any more are deleted (K9). 15 min.
    pub cleanup_interval: Duration,
    /// How long an agent that has taken a request may take to post its result (K9). 2 min.
    pub claim: Duration,
    /// How long the lease of the loop lasts that looks for silence (S3). 5 s.
    pub lease: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            retention: Duration::from_secs(3600),
            cleanup_interval: Duration::from_secs(900),
            claim: queue::CLAIM_LASTS,
            lease: Duration::from_secs(5),
        }
    }
}

/// A server's part in Kubernetes. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Kube {
    pub(crate) store: Store,
    pub(crate) cluster: Cluster,
    pub(crate) options: Arc<Options>,
    pub(crate) counted: Arc<Counted>,
}

impl std::fmt::Debug for Kube {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kube").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Begins to see to Kubernetes as a part of a cluster, until `end` is cancelled; its metrics are registered.
pub fn start(
    cluster: &Cluster,
    store: Store,
    options: Options,
    registry: &mut prometheus_client::registry::Registry,
    end: CancellationToken,
) -> Kube {
    let counted = Arc::new(Counted::default());
    let kube = Kube { store, cluster: cluster.clone(), options: Arc::new(options), counted };
    metrics::register(registry, &kube);
    tokio::spawn(monitor::run(kube.clone(), end));
    kube
}

impl Kube {
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.cluster.snapshot()
    }

    /// The snapshot with all that is in the database now: asked for where something is not found that another server
    /// may have made just now.
    pub(crate) async fn fresh(&self) -> Arc<Snapshot> {
        let snapshot = self.snapshot();
        match self.store.changes(snapshot.revision, 1000).await {
            Ok(it) if it.revision > snapshot.revision => self.cluster.caught_up(it.revision).await,
            _ => snapshot,
        }
    }

    /// Decides over what is known and writes that; decides again when others changed the same meanwhile. What was
    /// written can be seen here when it returns.
    pub(crate) async fn attempt<T>(
        &self,
        mut decide: impl FnMut(&KubeRecords) -> Answer<(Write, T)>,
    ) -> Answer<(Arc<Snapshot>, T)> {
        let mut snapshot = self.snapshot();
        for _ in 0..TRIES {
            let (write, value) = decide(&snapshot.kube)?;
            if write.changes.is_empty() {
                return Ok((snapshot, value));
            }
            match self.store.write(write).await {
                Ok(committed) => return Ok((self.cluster.caught_up(committed.revision).await, value)),
                Err(WriteError::Conflict { .. }) => snapshot = self.newer(snapshot.revision).await,
                Err(error) => return Err(error.into()),
            }
        }
        Err(Refusal::new(Code::Conflict, "others changed the same meanwhile; try again"))
    }

    async fn newer(&self, than: u64) -> Arc<Snapshot> {
        let mut follow = self.cluster.follow();
        let newer = follow.wait_for(|it| it.revision > than);
        match timeout(NEWER, newer).await {
            Ok(Ok(snapshot)) => Arc::clone(&snapshot),
            _ => self.snapshot(),
        }
    }
}

/// That a record is as it was read.
pub(crate) fn unchanged<T>(kept: &Kept<T>, key: Key) -> Guard {
    Guard::Unchanged { key, revision: kept.revision }
}

/// That a record is as it was read, or still not there.
pub(crate) fn unchanged_or_absent<T>(kept: Option<&Kept<T>>, key: Key) -> Guard {
    match kept {
        Some(kept) => unchanged(kept, key),
        None => Guard::Absent(key),
    }
}

/// Deletes what agents told of an object, and what was asked about it.
pub(crate) fn forget_object(kube: &KubeRecords, object: &str, changes: &mut Vec<Change>) {
    let health = kube.health_of(object).map(|it| Record::ObjectHealth(Box::new((*it.record).clone())).key());
    changes.extend(health.map(Change::Delete));
    let asked = kube.diagnostics.values().filter(|it| it.object_id.as_deref() == Some(object));
    changes.extend(asked.map(|it| Change::Delete(Key::new(Kind::Diagnostics, &it.id))));
}

/// A random id.
///
/// # Errors
/// When the system has no random bytes.
pub(crate) fn new_id() -> Answer<String> {
    let mut bytes = [0_u8; 12];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes)
        .map_err(|_| Refusal::new(Code::Internal, "the system has no random bytes"))?;
    Ok(crate::auth::hex(&bytes))
}
