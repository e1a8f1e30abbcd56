//! What is told by the server that decides what runs where.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Instance;
use crate::cluster::{NodeCondition, PlacementCause};

/// The data of `dev.hale.replica.placed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaPlaced {
    /// Which, and where.
    #[serde(flatten)]
    pub instance: Instance,
    /// What made it be placed.
    pub cause: PlacementCause,
    /// Why on this node.
    pub reason: String,
    /// The generation whose place it takes.
    pub replaces: Option<u64>,
}

/// The data of `dev.hale.replica.withdrawn`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaWithdrawn {
    /// Which, and where.
    #[serde(flatten)]
    pub instance: Instance,
    /// Why.
    pub reason: String,
}

/// The data of `dev.hale.replica.unplaceable`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaUnplaceable {
    /// Its workload.
    pub workload: String,
    /// Why no node takes it, by what spoke against how many.
    pub reason: String,
}

/// The data of `dev.hale.workload.updated`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkloadUpdated {
    /// The declaration that all replicas now run by.
    pub digest: String,
    /// How many there are.
    pub replicas: u32,
}

/// The data of `dev.hale.workload.rolled_back`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkloadRolledBack {
    /// The declaration that was taken back.
    pub digest: String,
    /// The one that holds again.
    pub to: String,
    /// Why.
    pub reason: String,
}

/// The data of `dev.hale.workload.update_stalled`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkloadUpdateStalled {
    /// The declaration that does not come up.
    pub digest: String,
    /// Why it goes no further.
    pub reason: String,
}

/// The data of `dev.hale.node.lost`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeLost {
    /// Seconds since it was last heard of, as far as is known.
    pub silent_seconds: f64,
    /// Replicas on it, whose health is unknown now.
    pub replicas: u32,
}

/// The data of `dev.hale.node.ready`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeReady {
    /// What it was before.
    pub was: NodeCondition,
}

/// The data of `dev.hale.node.drained`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeDrained {}

/// The data of `dev.hale.cluster.braked`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterBraked {
    /// Nodes that are not heard of.
    pub silent: u32,
    /// Of so many.
    pub nodes: u32,
}

/// The data of `dev.hale.cluster.brake_released`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterBrakeReleased {
    /// Nodes that are still not heard of.
    pub silent: u32,
    /// Of so many.
    pub nodes: u32,
    /// How long it held.
    pub held_seconds: f64,
}
