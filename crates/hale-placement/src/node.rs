//! One node as decisions see it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use hale_health::Time;
use hale_model::cluster::{NodeCondition, NodeRecord, Scheduling, SessionRecord};

use crate::workload::Demand;

/// How it is known whether a node lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contact {
    /// It beats at this server.
    Here {
        /// The last beat.
        last: Time,
    },
    /// Another server, whose lease lives, has its session and complains of nothing.
    There,
    /// Nobody hears it.
    Silent {
        /// Since when, as far as its condition goes.
        since: Time,
        /// The latest moment at which a beat of it can have been acknowledged: what fencing counts from (S9).
        fence: Time,
    },
    /// It said that it goes, and comes back until then.
    Away {
        /// When that was learned: a beat from before may be told of later.
        told: Time,
        /// Until when.
        until: Time,
        /// As in `Silent`.
        fence: Time,
    },
}

/// What is taken of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) cpu: u64,
    pub(crate) memory: u64,
    pub(crate) ports: BTreeMap<u16, u32>,
    pub(crate) count: u32,
}

impl Load {
    pub(crate) fn add(&mut self, demand: &Demand) {
        self.cpu += demand.cpu;
        self.memory += demand.memory;
        self.count += 1;
        for port in &demand.ports {
            *self.ports.entry(*port).or_default() += 1;
        }
    }

    pub(crate) fn remove(&mut self, demand: &Demand) {
        self.cpu = self.cpu.saturating_sub(demand.cpu);
        self.memory = self.memory.saturating_sub(demand.memory);
        self.count = self.count.saturating_sub(1);
        for port in &demand.ports {
            if let Some(count) = self.ports.get_mut(port) {
                *count -= 1;
                if *count == 0 {
                    self.ports.remove(port);
                }
            }
        }
    }
}

/// A node.
#[derive(Debug)]
pub(crate) struct Node {
    /// Absent: it was deleted, or never registered, and placements name it nevertheless.
    pub(crate) record: Option<NodeRecord>,
    pub(crate) session: Option<SessionRecord>,
    /// Which of the planner's sets of features its agent knows: most agents know the same.
    pub(crate) features: usize,
    pub(crate) contact: Contact,
    pub(crate) placements: BTreeSet<u64>,
    pub(crate) targets: BTreeSet<String>,
    pub(crate) load: Load,
    /// Since when it is known here to be lost.
    pub(crate) lost_since: Option<Time>,
    /// Whether its replicas may be placed elsewhere: its turn has come (S6).
    pub(crate) given_up: bool,
    /// Whether it was told that nothing is left on it.
    pub(crate) told_drained: bool,
    pub(crate) deadline: Option<Time>,
}

impl Node {
    pub(crate) fn new(now: Time) -> Self {
        Self {
            record: None,
            session: None,
            features: 0,
            contact: Contact::Silent { since: now, fence: now },
            placements: BTreeSet::new(),
            targets: BTreeSet::new(),
            load: Load::default(),
            lost_since: None,
            given_up: false,
            told_drained: false,
            deadline: None,
        }
    }

    pub(crate) fn condition(&self) -> NodeCondition {
        self.record.as_ref().map_or(NodeCondition::Lost, |it| it.condition)
    }

    pub(crate) fn scheduling(&self) -> Scheduling {
        self.record.as_ref().map(|it| it.scheduling).unwrap_or_default()
    }

    pub(crate) fn lost(&self) -> bool {
        self.condition() == NodeCondition::Lost
    }

    /// Whether it is heard of: what is placed on it begins now.
    pub(crate) fn connected(&self) -> bool {
        matches!(self.contact, Contact::Here { .. } | Contact::There)
    }

    /// Whether replicas run well on it as far as it is concerned.
    pub(crate) fn ready(&self) -> bool {
        self.record.is_some() && self.condition() == NodeCondition::Ready && self.connected()
    }

    /// How long nothing has been heard of it; `None`: it is heard of, or it said until when it is away.
    pub(crate) fn silent_for(&self, now: Time) -> Option<Duration> {
        match self.contact {
            Contact::There => None,
            Contact::Here { last } => Some(now.since(last)),
            Contact::Silent { since, .. } => Some(now.since(since)),
            Contact::Away { until, .. } if now < until => None,
            // It promised to be back: from then on there is nothing to wait for.
            Contact::Away { .. } => Some(Duration::MAX),
        }
    }

    /// The latest moment at which a beat of it can have been acknowledged; `None`: that may be now.
    pub(crate) fn fence(&self) -> Option<Time> {
        match self.contact {
            Contact::Here { last } => Some(last),
            Contact::There => None,
            Contact::Silent { fence, .. } | Contact::Away { fence, .. } => Some(fence),
        }
    }
}
