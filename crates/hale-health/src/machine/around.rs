//! What a replica's decision depends on beside itself.

use std::time::Duration;

use super::{Dependency, Observer};
use crate::Chance;

/// The surroundings of one replica at the moment of a decision, as its workload sees them.
#[derive(Debug)]
pub(super) struct Around<'a> {
    pub(super) dependency: &'a Dependency,
    pub(super) observer: &'a Observer,
    /// Ready replicas but this one, on this node.
    pub(super) others_ready_here: u32,
    /// Ready replicas but this one, on all nodes.
    pub(super) others_ready: u32,
    /// Probe-caused restarts going on, but of this one.
    pub(super) others_restarting: u32,
    /// Whether the server can be asked about the other nodes.
    pub(super) reachable: bool,
    pub(super) min_available: u32,
    pub(super) max_concurrent: u32,
    pub(super) max_hold: Duration,
    pub(super) chance: &'a mut Chance,
}

impl Around<'_> {
    /// Why there is no room to restart this replica for a probe now (H20); `None`: there is.
    pub(super) fn no_room(&self, ready: bool) -> Option<String> {
        if self.others_restarting >= self.max_concurrent {
            return Some(format!(
                "{} restarting already, {} may at once",
                self.others_restarting, self.max_concurrent
            ));
        }
        if !ready {
            return None;
        }
        // Where none has to stay available there is nothing that the server could know better.
        let spares = self.others_ready_here > 0 || self.min_available == 0;
        if !self.reachable && (!spares || self.others_restarting > 0) {
            return Some(
                "the server can't be asked, and no other replica of this node is ready to spare it"
                    .to_owned(),
            );
        }
        (self.reachable && self.others_ready < self.min_available).then(|| {
            format!("{} others ready, {} must stay available", self.others_ready, self.min_available)
        })
    }
}
