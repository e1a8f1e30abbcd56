//! What is decided: changes of records, and events.

use std::collections::BTreeMap;

use hale_health::Time;
use hale_model::{
    cluster::{
        FailureMemory, NodeCondition, NodeRecord, ObservedRecord, PlacementRecord, RolledBack, TargetRecord,
        WorkloadRecord,
    },
    document::Document,
    event::NewEvent,
};
use jiff::Timestamp;

use crate::input::Noun;

/// What is to be written, as one transaction, under the lease.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// In order.
    pub actions: Vec<Action>,
    /// What [`hale_model::cluster::ClusterRecord::last_generation`] is to be; absent: unchanged.
    pub last_generation: Option<u64>,
    /// How what changed was before, newest change first: what [`crate::Planner::take_back`] puts back.
    pub(crate) before: Vec<Before>,
}

/// Something before a plan.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Before {
    /// A record.
    Was(Noun),
    /// There was no placement of this generation.
    AbsentPlacement(u64),
    /// This was reported and not decided on.
    Reported(Box<ObservedRecord>),
    /// The last generation that had been given.
    LastGeneration(u64),
    /// Whether the server suspected itself.
    Brake(Option<Time>),
    /// This had not been told of this workload.
    Told(String, String),
}

impl Plan {
    /// Whether nothing is to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// A new placement, under a new generation.
    Place(PlacementRecord),
    /// This placement is `Withdrawn` now; the whole record, to be put. Its node may say at the same time that it is
    /// gone, and the record with it: guard that it is unchanged, or leave the withdrawal out when it is gone.
    Withdraw(PlacementRecord),
    /// A new generation for an instance that runs on.
    Regrant(Box<Regranted>),
    /// The placement of this generation and what was observed of it go: its node is no more, or nothing refers to it.
    Forget(u64),
    /// A node changes.
    Node(NodeEdit),
    /// A workload changes.
    Workload(Box<WorkloadEdit>),
    /// A target is given to a node.
    Target(TargetEdit),
    /// Something to tell.
    Event(Box<NewEvent>),
}

/// See [`Action::Regrant`]: `placement` and `observed` are put, the placements and observations `from` deleted.
#[derive(Debug, Clone, PartialEq)]
pub struct Regranted {
    /// The generations that end; empty for an adopted instance, whose former generation nobody knows here.
    pub from: Vec<u64>,
    /// The new one; its `continues` says which instances become it.
    pub placement: PlacementRecord,
    /// What was observed, under the new generation: nothing changes for consumers.
    pub observed: Option<Box<ObservedRecord>>,
}

/// What changes of a node. Others write the rest of the record: apply it to the newest one, guarded by its revision.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeEdit {
    /// Which.
    pub name: String,
    /// Its condition, and since when.
    pub condition: Option<(NodeCondition, Timestamp)>,
    /// What it is blamed for.
    pub failures: Option<BTreeMap<String, FailureMemory>>,
}

impl NodeEdit {
    /// Changes the record.
    pub fn apply(&self, record: &mut NodeRecord) {
        if let Some((condition, since)) = self.condition {
            (record.condition, record.condition_since) = (condition, since);
        }
        if let Some(failures) = &self.failures {
            record.failures.clone_from(failures);
        }
    }
}

/// What changes of a workload; guard it by the digest that it was decided for.
#[derive(Debug, Clone, PartialEq)]
pub enum WorkloadEdit {
    /// The update is through: there is nothing to go back to any more.
    Updated {
        /// Which.
        name: String,
        /// The declaration that is through.
        digest: String,
    },
    /// The update did not come up: the declaration before it holds again.
    RolledBack {
        /// Which.
        name: String,
        /// What is taken back.
        rolled_back: RolledBack,
        /// What holds again.
        to: Document,
    },
}

impl WorkloadEdit {
    /// Which workload.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Updated { name, .. } | Self::RolledBack { name, .. } => name,
        }
    }

    /// The declaration that it was decided for: when the record has another by now, the edit is void.
    #[must_use]
    pub fn digest(&self) -> &str {
        match self {
            Self::Updated { digest, .. } => digest,
            Self::RolledBack { rolled_back, .. } => &rolled_back.digest,
        }
    }

    /// Changes the record; `false` when it has another declaration by now.
    pub fn apply(&self, record: &mut WorkloadRecord) -> bool {
        if record.document.digest != self.digest() {
            return false;
        }
        record.previous = None;
        if let Self::RolledBack { rolled_back, to, .. } = self {
            record.document = to.clone();
            record.rolled_back = Some(rolled_back.clone());
        }
        true
    }
}

/// Which node probes a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetEdit {
    /// Which.
    pub name: String,
    /// Where from now on; absent: no node can.
    pub node: Option<String>,
}

impl TargetEdit {
    /// Changes the record.
    pub fn apply(&self, record: &mut TargetRecord) {
        record.node.clone_from(&self.node);
    }
}
