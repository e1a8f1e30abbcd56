//! Placement, decided by the one server that holds the lease for it (S3).

use std::sync::Arc;

use hale_store::cluster::Changes;

use super::{Cluster, Shared};

/// What the decider is told.
#[derive(Debug, Default)]
pub(crate) struct Desk {}

impl Desk {
    /// Records have changed.
    pub(crate) fn feed(&self, _changes: &Changes) {}
}

/// Competes for the lease, and decides while it is held.
pub(crate) async fn run(shared: Arc<Shared>) {
    shared.end.cancelled().await;
}

impl Cluster {
    /// Why replicas are where they are.
    pub(crate) fn explain_placement(&self, _name: &str) -> Vec<String> {
        Vec::new()
    }
}
