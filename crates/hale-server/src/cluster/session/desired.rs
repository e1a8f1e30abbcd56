//! What a node is to run and probe, and what of that it has been told.

use std::collections::{BTreeMap, HashSet};

use hale_api::{proto, wire};
use hale_model::{
    cluster::{Intent, PauseRecord, PlacementRecord, PlacementState, WorkloadRecord},
    document::Document,
};

use crate::cluster::{seen::micros, snapshot::Snapshot};

/// What a session has told its node.
#[derive(Debug, Default)]
pub(crate) struct Told {
    placements: BTreeMap<u64, proto::Placement>,
    targets: BTreeMap<String, proto::TargetPlacement>,
    documents: HashSet<String>,
    /// Whether anything was told: the first time it is all.
    begun: bool,
}

impl Told {
    /// What is to be told of `snapshot`, and takes it for told; nothing when nothing has changed.
    pub(crate) fn next(&mut self, snapshot: &Snapshot, node: &str, epoch: u64) -> Option<proto::Desired> {
        let (placements, mut documents) = placements(snapshot, node);
        let targets = targets(snapshot, node, &mut documents);
        let full = !self.begun;
        let changed: Vec<proto::Placement> = placements
            .values()
            .filter(|it| self.placements.get(&it.generation) != Some(*it))
            .cloned()
            .collect();
        let withdrawn: Vec<u64> =
            self.placements.keys().filter(|it| !placements.contains_key(it)).copied().collect();
        let changed_targets: Vec<proto::TargetPlacement> =
            targets.values().filter(|it| self.targets.get(&it.name) != Some(*it)).cloned().collect();
        let withdrawn_targets: Vec<String> =
            self.targets.keys().filter(|it| !targets.contains_key(*it)).cloned().collect();
        if !full
            && changed.is_empty()
            && withdrawn.is_empty()
            && changed_targets.is_empty()
            && withdrawn_targets.is_empty()
        {
            return None;
        }
        let regranted = changed.iter().flat_map(|it| regrants(snapshot, it.generation)).collect();
        documents.retain(|document| !self.documents.contains(&document.digest));
        self.documents.extend(documents.iter().map(|it| it.digest.clone()));
        let desired = proto::Desired {
            revision: snapshot.revision,
            full,
            placements: changed,
            withdrawn: if full { Vec::new() } else { withdrawn },
            documents,
            targets: changed_targets,
            withdrawn_targets: if full { Vec::new() } else { withdrawn_targets },
            regranted,
            epoch,
        };
        (self.placements, self.targets, self.begun) = (placements, targets, true);
        // What no placement needs any more is told again should one need it.
        let needed: HashSet<&String> = self
            .placements
            .values()
            .map(|it| &it.digest)
            .chain(self.targets.values().map(|it| &it.digest))
            .collect();
        self.documents.retain(|it| needed.contains(it));
        Some(desired)
    }
}

fn placements(snapshot: &Snapshot, node: &str) -> (BTreeMap<u64, proto::Placement>, Vec<proto::Document>) {
    let (mut placements, mut documents) = (BTreeMap::new(), Vec::new());
    let mut needed = HashSet::new();
    for it in snapshot.placed_on(node).filter(|it| it.state == PlacementState::Wanted) {
        let workload = snapshot.workloads.get(it.workload.as_str());
        placements.insert(it.generation, placement(it, workload.map(|it| &*it.record)));
        if needed.insert(it.digest.as_str())
            && let Some(document) = workload.and_then(|workload| of_digest(workload, &it.digest))
        {
            documents.push(wire::document(document));
        }
    }
    (placements, documents)
}

/// The declaration that a placement runs by: the present one or the one before.
fn of_digest<'a>(workload: &'a WorkloadRecord, digest: &str) -> Option<&'a Document> {
    [Some(&workload.document), workload.previous.as_ref()]
        .into_iter()
        .flatten()
        .find(|it| it.digest == digest)
}

fn placement(it: &PlacementRecord, workload: Option<&WorkloadRecord>) -> proto::Placement {
    let stopped =
        workload.and_then(|of| of.stopped.as_ref().or_else(|| of.stopped_replicas.get(&it.ordinal)));
    let pauses = workload.map_or(&[][..], |of| &of.pauses);
    let meant = |pause: &&PauseRecord| pause.ordinal.is_none_or(|ordinal| ordinal == it.ordinal);
    proto::Placement {
        generation: it.generation,
        workload: it.workload.clone(),
        ordinal: it.ordinal,
        digest: it.digest.clone(),
        stopped_by: stopped.map(by),
        pauses: pauses.iter().filter(meant).map(pause).collect(),
    }
}

fn by(intent: &Intent) -> String {
    if intent.reason.is_empty() { intent.by.clone() } else { format!("{} ({})", intent.by, intent.reason) }
}

fn pause(it: &PauseRecord) -> proto::PauseIntent {
    proto::PauseIntent {
        probe: it.probe.map(|it| it.as_str().to_owned()),
        until: it.until.map(micros),
        reason: it.intent.reason.clone(),
        by: it.intent.by.clone(),
    }
}

fn targets(
    snapshot: &Snapshot,
    node: &str,
    documents: &mut Vec<proto::Document>,
) -> BTreeMap<String, proto::TargetPlacement> {
    let mut targets = BTreeMap::new();
    for it in snapshot.targets.values().filter(|it| it.node.as_deref() == Some(node)) {
        documents.push(wire::document(&it.document));
        targets.insert(
            it.name.clone(),
            proto::TargetPlacement {
                name: it.name.clone(),
                digest: it.document.digest.clone(),
                pauses: it.pauses.iter().map(pause).collect(),
            },
        );
    }
    targets
}

/// Generations whose instance runs on under this one.
fn regrants(snapshot: &Snapshot, generation: u64) -> Vec<proto::Regrant> {
    let Some(placement) = snapshot.placements.get(generation) else { return Vec::new() };
    placement.continues.iter().map(|from| proto::Regrant { from: *from, to: generation }).collect()
}
