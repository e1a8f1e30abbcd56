//! Diagnostics of what runs on nodes (K12): asked for, kept and told like those of clusters.
//!
//! No agent claims them: the server that was asked takes the request at once and asks the node over the session that it
//! has anyway, or through the server that has it. When that server dies meanwhile, the claim runs out and the request
//! fails: who asked asks again.

use std::sync::Arc;

use hale_api::{Code, kube::DiagnosticsAccepted};
use hale_store::cluster::{Change, Record};
use sha2::{Digest, Sha256};

use super::{Kube, diagnostics::Of, new_id, queue};
use crate::{
    asker::Asker,
    control::Control,
    problems::{Answer, Refusal},
    replica_diagnostics,
};

impl Kube {
    /// Asks for diagnostics of a replica or target, and begins to collect them.
    ///
    /// # Errors
    /// When there is no such thing, too many wait, or the database takes nothing.
    pub(crate) async fn ask_replica(
        &self,
        control: Arc<dyn Control>,
        name: &str,
        asker: &Asker,
    ) -> Answer<DiagnosticsAccepted> {
        let overview = control.overview().await?;
        let known = overview.targets.iter().any(|it| it.name == name)
            || overview.workloads.iter().flat_map(|it| &it.replicas).any(|it| it.name == name);
        if !known {
            return Err(Refusal::not_found("replica or target", name));
        }
        let node = self.cluster.node_of(name)?.unwrap_or_default();
        let (id, now) = (new_id()?, self.store.now().await?);
        let (_, record) = self
            .attempt(|kube| {
                let of = Of::Replica(name.to_owned());
                let (mut write, record) = self.queued(kube, &id, of, (&node, None), asker, now)?;
                let taken = queue::claim(&record, self.options.claim, now)?;
                for change in &mut write.changes {
                    if let Change::Put(Record::Diagnostics(it)) = change {
                        **it = taken.clone();
                    }
                }
                Ok((write, taken))
            })
            .await?;
        self.counted.asked.inc();
        let (kube, name, request) = (self.clone(), name.to_owned(), record.id.clone());
        // At most so many at once as requests of one node may be open; each part of it ends within seconds.
        tokio::spawn(async move {
            if let Err(refusal) = kube.collect(&*control, &request, &name).await {
                tracing::warn!(request, replica = name, error = %refusal.problem, "diagnostics are lost");
            }
        });
        Ok(DiagnosticsAccepted {
            request_id: record.id,
            status: record.status,
            expires_at: record.expires_at,
        })
    }

    async fn collect(&self, control: &dyn Control, request: &str, name: &str) -> Answer<()> {
        let overview = control.overview().await?;
        let mut bundle = replica_diagnostics::collect(control, &self.store, &overview, name).await;
        bundle.node = self.cluster.node_of(name).ok().flatten();
        let text = serde_json::to_string(&bundle)
            .map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
        let digest = Sha256::digest(&text).iter().map(|it| format!("{it:02x}")).collect();
        self.end(request, Some(text), None, digest).await.map(drop)
    }
}
