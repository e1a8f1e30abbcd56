//! On which node something is, and what it uses there.

use hale_api::kube::ResourceUse;

use super::{Cluster, control::placement_of};
use crate::{control::OrderError, replica_diagnostics};

impl Cluster {
    /// The node that a replica is placed on, or that a target is probed from; `None`: there is none now.
    ///
    /// # Errors
    /// There is no such thing.
    pub(crate) fn node_of(&self, subject: &str) -> Result<Option<String>, OrderError> {
        let snapshot = self.shared.feed.current();
        if let Some(target) = snapshot.targets.get(subject) {
            return Ok(target.node.clone());
        }
        if let Some((node, _)) = self.shared.live.list_of(subject) {
            return Ok(Some(node));
        }
        Ok(placement_of(&snapshot, subject)?.map(|it| it.node.clone()))
    }

    /// What the present run of a replica uses, as its node last told.
    ///
    /// # Errors
    /// There is no such replica.
    pub(super) fn use_of(&self, replica: &str) -> Result<Option<ResourceUse>, OrderError> {
        let snapshot = self.shared.feed.current();
        if snapshot.targets.contains_key(replica) {
            return Ok(None);
        }
        let placement = placement_of(&snapshot, replica)?;
        let seen = placement.and_then(|it| self.shared.live.seen(&snapshot, it));
        Ok(seen.and_then(|it| it.usage.as_ref().map(replica_diagnostics::used)))
    }
}
