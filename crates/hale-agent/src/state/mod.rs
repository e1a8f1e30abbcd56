//! What a server is to know of this node, and what of it has been told (N7). Pure: no clock, no socket.
//!
//! Every replica stands under the number of its placement, with a version that rises with each change of it. A change
//! counts as told once the server has said that it is durable; what was only sent is sent again over the next
//! connection. What changes with every check (the time of the last outcome, durations, usage) is no change: it goes
//! along with others, so that a node at rest says almost nothing.

pub(crate) mod convert;

use std::collections::{BTreeMap, BTreeSet};

use hale_api::{proto, wire};

/// Times that differ by less are the same: they are worked out from two clocks that are read one after the other.
const SAME_MOMENT_MICROS: i64 = 1_000_000;

/// A node of more targets than this tells the details of failures in short: all of them go in one message when a server
/// asks for everything.
const MANY_TARGETS: usize = 5000;

/// So many bytes of each then.
const SHORT_DETAIL: usize = 64;

/// How far the versions leap when the server knows a higher one of a replica.
const LEAP: u64 = 1 << 32;

/// How a thing differs from what was known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Not in anything that is told for its own sake.
    None,
    /// It is told with the next beat.
    Quiet,
    /// Phase, readiness or where it is reached: told at once.
    Urgent,
}

/// How far something has been told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    No,
    /// With this beat of the present connection.
    Sent(u64),
    Durable,
}

#[derive(Debug, Clone)]
struct Entry<T> {
    now: T,
    told: Told,
}

/// What a beat says of replicas and targets.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Delta {
    /// As in [`proto::Beat`].
    pub replicas: Vec<proto::Replica>,
    /// As in [`proto::Beat`].
    pub gone: Vec<u64>,
    /// As in [`proto::Beat`].
    pub targets: Vec<proto::Target>,
    /// As in [`proto::Beat`].
    pub gone_targets: Vec<String>,
}

impl Delta {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.replicas.is_empty()
            && self.gone.is_empty()
            && self.targets.is_empty()
            && self.gone_targets.is_empty()
    }
}

/// The node's state, and how far it has been told.
#[derive(Debug, Clone)]
pub struct Tracker {
    replicas: BTreeMap<u64, Entry<proto::Replica>>,
    targets: BTreeMap<String, Entry<proto::Target>>,
    gone: BTreeMap<u64, Told>,
    gone_targets: BTreeMap<String, Told>,
    version: u64,
}

impl Tracker {
    /// Nothing yet. Versions begin after `version`, which must be above all that an earlier agent of this node gave.
    #[must_use]
    pub const fn new(version: u64) -> Self {
        Self {
            replicas: BTreeMap::new(),
            targets: BTreeMap::new(),
            gone: BTreeMap::new(),
            gone_targets: BTreeMap::new(),
            version,
        }
    }

    /// A replica is so now. Its `version` is given here.
    pub fn observe(&mut self, mut replica: proto::Replica) -> Change {
        self.gone.remove(&replica.generation);
        let old = self.replicas.get(&replica.generation);
        let change = match old {
            None => Change::Urgent,
            Some(old) => {
                steady(&old.now, &mut replica);
                if replica.usage.is_none() {
                    replica.usage.clone_from(&old.now.usage);
                }
                compare(&old.now, &replica)
            }
        };
        let told = match (change, old) {
            (Change::None, Some(old)) => {
                replica.version = old.now.version;
                old.told
            }
            _ => {
                self.version += 1;
                replica.version = self.version;
                Told::No
            }
        };
        self.replicas.insert(replica.generation, Entry { now: replica, told });
        change
    }

    /// Nothing of a placement is here (any more).
    pub fn observe_gone(&mut self, generation: u64) {
        self.replicas.remove(&generation);
        self.gone.entry(generation).or_insert(Told::No);
    }

    /// The agent has stopped everything: nothing is here any more.
    pub fn observe_all_gone(&mut self) {
        let all: Vec<u64> = self.generations().collect();
        all.into_iter().for_each(|it| self.observe_gone(it));
    }

    /// What a replica uses: goes along when it is told.
    pub fn observe_usage(&mut self, workload: &str, ordinal: u32, incarnation: u64, usage: proto::Usage) {
        let is_it = |it: &&mut Entry<proto::Replica>| {
            it.now.ordinal == ordinal && it.now.incarnation == incarnation && it.now.workload == workload
        };
        if let Some(entry) = self.replicas.values_mut().find(is_it) {
            entry.now.usage = Some(usage);
        }
    }

    /// These are the targets now, all of them.
    pub fn observe_targets(&mut self, targets: Vec<proto::Target>) -> Change {
        let mut most = Change::None;
        let names: BTreeSet<&str> = targets.iter().map(|it| it.name.as_str()).collect();
        let over: Vec<String> =
            self.targets.keys().filter(|it| !names.contains(it.as_str())).cloned().collect();
        for name in over {
            self.targets.remove(&name);
            self.gone_targets.insert(name, Told::No);
            most = most.max(Change::Quiet);
        }
        let many = names.len() > MANY_TARGETS;
        for mut target in targets {
            if let Some(detail) = target.last_detail.as_mut().filter(|_| many) {
                detail.truncate(detail.floor_char_boundary(SHORT_DETAIL));
            }
            self.gone_targets.remove(&target.name);
            let old = self.targets.get(&target.name);
            if let Some(old) = old {
                same_moment(old.now.since, &mut target.since);
            }
            let change = old.map_or(Change::Urgent, |old| compare_targets(&old.now, &target));
            let told = match (change, old) {
                (Change::None, Some(old)) => old.told,
                _ => Told::No,
            };
            most = most.max(change);
            self.targets.insert(target.name.clone(), Entry { now: target, told });
        }
        most
    }

    /// What has not been told, at most so many replicas and targets, as told with beat `sequence`.
    pub fn delta(&mut self, sequence: u64, limit: usize) -> Delta {
        Delta {
            replicas: take(&mut self.replicas, sequence, limit, false),
            gone: take_names(&mut self.gone, sequence),
            targets: take(&mut self.targets, sequence, limit, false),
            gone_targets: take_names(&mut self.gone_targets, sequence),
        }
    }

    /// Everything, as told with beat `sequence`.
    pub fn full(&mut self, sequence: u64) -> Delta {
        Delta {
            replicas: take(&mut self.replicas, sequence, usize::MAX, true),
            gone: take_names(&mut self.gone, sequence),
            targets: take(&mut self.targets, sequence, usize::MAX, true),
            gone_targets: take_names(&mut self.gone_targets, sequence),
        }
    }

    /// What beats up to this one said is durable.
    pub fn durable(&mut self, up_to: u64) {
        let done = |told: &Told| matches!(told, Told::Sent(sequence) if *sequence <= up_to);
        self.replicas.values_mut().filter(|it| done(&it.told)).for_each(|it| it.told = Told::Durable);
        self.targets.values_mut().filter(|it| done(&it.told)).for_each(|it| it.told = Told::Durable);
        self.gone.retain(|_, told| !done(told));
        self.gone_targets.retain(|_, told| !done(told));
    }

    /// A new connection: what is not durable has to be told again.
    pub fn reconnected(&mut self) {
        let again = |told: &mut Told| {
            if matches!(told, Told::Sent(_)) {
                *told = Told::No;
            }
        };
        self.replicas.values_mut().for_each(|it| again(&mut it.told));
        self.targets.values_mut().for_each(|it| again(&mut it.told));
        self.gone.values_mut().for_each(again);
        self.gone_targets.values_mut().for_each(again);
    }

    /// The server knows a later version of this replica than it was told: our numbers go far beyond it, and the
    /// replica is told again.
    pub fn leap(&mut self, generation: u64) {
        self.version = self.version.saturating_add(LEAP);
        if let Some(entry) = self.replicas.get_mut(&generation) {
            self.version = self.version.saturating_add(1);
            entry.now.version = self.version;
            entry.told = Told::No;
        }
    }

    /// Whether something has not been sent.
    #[must_use]
    pub fn has_news(&self) -> bool {
        let news = |told: &Told| *told == Told::No;
        self.replicas.values().any(|it| news(&it.told))
            || self.targets.values().any(|it| news(&it.told))
            || self.gone.values().any(news)
            || self.gone_targets.values().any(news)
    }

    /// What a full beat would hold, to be compared (N8).
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let replicas = self.replicas.values().map(|it| (it.now.generation, it.now.version));
        wire::digest(replicas, self.targets.values().map(|it| &it.now))
    }

    /// The placements that something is here of.
    pub fn generations(&self) -> impl Iterator<Item = u64> {
        self.replicas.keys().copied()
    }

    /// What is known of a placement.
    #[must_use]
    pub fn replica(&self, generation: u64) -> Option<&proto::Replica> {
        self.replicas.get(&generation).map(|it| &it.now)
    }
}

fn take<K: Ord, T: Clone>(
    all: &mut BTreeMap<K, Entry<T>>,
    sequence: u64,
    limit: usize,
    whole: bool,
) -> Vec<T> {
    let untold = all.values_mut().filter(|it| whole || it.told == Told::No).take(limit);
    untold
        .map(|it| {
            it.told = Told::Sent(sequence);
            it.now.clone()
        })
        .collect()
}

fn take_names<K: Ord + Clone>(all: &mut BTreeMap<K, Told>, sequence: u64) -> Vec<K> {
    let untold = all.iter_mut().filter(|(_, told)| **told == Told::No);
    untold
        .map(|(name, told)| {
            *told = Told::Sent(sequence);
            name.clone()
        })
        .collect()
}

/// Keeps a time that is the same moment.
fn same_moment(old: Option<i64>, new: &mut Option<i64>) {
    if let (Some(old), Some(new)) = (old, new)
        && new.abs_diff(old) < SAME_MOMENT_MICROS.unsigned_abs()
    {
        *new = old;
    }
}

/// Keeps all times of a replica that are the same moments.
fn steady(old: &proto::Replica, new: &mut proto::Replica) {
    same_moment(old.started_at, &mut new.started_at);
    same_moment(old.next_start_at, &mut new.next_start_at);
    if let (Some(old), Some(new)) = (&old.last_exit, &mut new.last_exit) {
        let mut at = Some(new.at);
        same_moment(Some(old.at), &mut at);
        new.at = at.unwrap_or(new.at);
    }
    if let (Some(old), Some(new)) = (&old.last_transition, &mut new.last_transition) {
        let mut at = Some(new.at);
        same_moment(Some(old.at), &mut at);
        new.at = at.unwrap_or(new.at);
    }
    if let (Some(old), Some(new)) = (&old.held_by, &mut new.held_by) {
        let mut since = Some(new.since);
        same_moment(Some(old.since), &mut since);
        new.since = since.unwrap_or(new.since);
        same_moment(old.until, &mut new.until);
    }
}

/// What is told of a replica for its own sake.
fn material(replica: &proto::Replica) -> proto::Replica {
    let mut it = replica.clone();
    (it.version, it.usage, it.restarts_in_window) = (0, None, 0);
    it.traceparent.clear();
    for probe in &mut it.probes {
        (probe.last_outcome_at, probe.last_duration_ms, probe.consecutive_successes) = (None, None, 0);
    }
    it
}

fn compare(old: &proto::Replica, new: &proto::Replica) -> Change {
    let urgent = old.phase != new.phase
        || (old.ready, old.serving, old.draining) != (new.ready, new.serving, new.draining)
        || (old.damped, old.incarnation, old.restarting) != (new.damped, new.incarnation, new.restarting)
        || (old.status != new.status || old.address != new.address || old.ports != new.ports)
        || (old.pid != new.pid || old.container_id != new.container_id || old.paused != new.paused);
    if urgent {
        Change::Urgent
    } else if material(old) == material(new) {
        Change::None
    } else {
        Change::Quiet
    }
}

fn compare_targets(old: &proto::Target, new: &proto::Target) -> Change {
    let told = |it: &proto::Target| proto::Target { last_outcome_at: None, ..it.clone() };
    if old.status != new.status || old.paused != new.paused {
        Change::Urgent
    } else if told(old) == told(new) {
        Change::None
    } else {
        Change::Quiet
    }
}

#[cfg(test)]
mod tests;
