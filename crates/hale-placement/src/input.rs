//! What decisions are made from.

use std::time::Duration;

use hale_model::cluster::{
    ClusterRecord, NodeRecord, ObservedRecord, PlacementRecord, SessionRecord, TargetRecord, WorkloadRecord,
};

/// Times of the cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The name of this server's lease: beats of sessions with it are told by [`crate::Planner::heard`].
    pub server: String,
    /// From beat to beat of a node. Two missed make it suspect, three lost (S6).
    pub heartbeat: Duration,
    /// At this share of silent nodes, and at least two, the server suspects itself (S6).
    pub brake_at: f64,
    /// This share of the nodes, and at least one, may be given up within `give_up_every` (S6).
    pub give_up_share: f64,
    /// See `give_up_share`.
    pub give_up_every: Duration,
    /// The wait between the first and the second move of a failed replica; it doubles (S8).
    pub first_move_wait: Duration,
    /// The longest such wait. A replica that has been ready for so long begins anew.
    pub longest_move_wait: Duration,
    /// In this time what a node is blamed for halves (S7).
    pub failure_half_life: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            server: "server".to_owned(),
            heartbeat: Duration::from_secs(5),
            brake_at: 0.55,
            give_up_share: 0.05,
            give_up_every: Duration::from_secs(10),
            first_move_wait: Duration::from_secs(30),
            longest_move_wait: Duration::from_secs(3600),
            failure_half_life: Duration::from_secs(1800),
        }
    }
}

impl Options {
    /// Silence after which a node is suspect.
    #[must_use]
    pub fn suspect_after(&self) -> Duration {
        self.heartbeat * 2
    }

    /// Silence after which a node is lost; the patience of the monitor after a start, a takeover or an outage (S3).
    #[must_use]
    pub fn lost_after(&self) -> Duration {
        self.heartbeat * 3
    }

    /// The wait after so many moves in a row (S8).
    #[must_use]
    pub fn move_wait(&self, moves: u32) -> Duration {
        match moves {
            0 => Duration::ZERO,
            n => self
                .first_move_wait
                .saturating_mul(2_u32.saturating_pow((n - 1).min(20)))
                .min(self.longest_move_wait),
        }
    }
}

/// A record that decisions are made from, as it is known to be durable.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each variant is the record of its name")]
pub enum Noun {
    Cluster(ClusterRecord),
    Workload(Box<WorkloadRecord>),
    Target(Box<TargetRecord>),
    Node(Box<NodeRecord>),
    Session(SessionRecord),
    Placement(PlacementRecord),
    Observed(Box<ObservedRecord>),
}

/// Names a record that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the record of its name")]
pub enum Key<'a> {
    Workload(&'a str),
    Target(&'a str),
    Node(&'a str),
    Session(&'a str),
    Placement(u64),
    Observed(u64),
}
