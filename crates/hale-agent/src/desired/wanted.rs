//! What a server wants of this node, as it was told: full states and deltas. Pure.

use std::collections::BTreeMap;

use hale_api::proto;
use serde::{Deserialize, Serialize};

/// One replica that is to be here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Placed {
    /// Of this workload.
    pub(crate) workload: String,
    /// Which replica of it.
    pub(crate) ordinal: u32,
    /// The declaration it is to run by.
    pub(crate) digest: String,
    /// Who stopped it, if a person did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stopped_by: Option<String>,
    /// What is paused of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) pauses: Vec<PauseIntent>,
}

/// A pause by a person (H24).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PauseIntent {
    /// One probe; all when absent.
    pub(crate) probe: Option<String>,
    /// Microseconds since 1970; until it is resumed when absent.
    pub(crate) until: Option<i64>,
    /// Why.
    pub(crate) reason: String,
    /// Who.
    pub(crate) by: String,
}

/// A target that is to be probed here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TargetPlaced {
    /// The declaration.
    pub(crate) digest: String,
    /// What is paused of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) pauses: Vec<PauseIntent>,
}

/// All that is wanted of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Wanted {
    /// The cluster that said so.
    pub(crate) cluster: String,
    /// Its epoch then (S5).
    pub(crate) epoch: u64,
    /// The revision of the state.
    pub(crate) revision: u64,
    /// By generation.
    pub(crate) placements: BTreeMap<u64, Placed>,
    /// By name.
    #[serde(default)]
    pub(crate) targets: BTreeMap<String, TargetPlaced>,
    /// By digest: those that placements and targets refer to.
    pub(crate) documents: BTreeMap<String, String>,
}

/// Why a desired state was not taken on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    /// It is older than what is known already.
    #[error(
        "it is of epoch {epoch}, revision {revision}; epoch {known_epoch}, revision {known_revision} is known"
    )]
    Stale {
        /// Of the message.
        epoch: u64,
        /// Of the message.
        revision: u64,
        /// Known here.
        known_epoch: u64,
        /// Known here.
        known_revision: u64,
    },
    /// It tells changes of a state that is not known here: a full one is needed.
    #[error("it tells changes of a state that is not known here")]
    NoBase,
}

impl Wanted {
    /// Takes on a message of a cluster. `base`: whether these changes may build on what is known (it came from this
    /// very connection, or the server was told of it when the node registered).
    ///
    /// # Errors
    /// [`Unusable`]; nothing is changed then.
    pub(crate) fn take(&mut self, from: &proto::Desired, cluster: &str, base: bool) -> Result<(), Unusable> {
        let same_cluster = self.cluster == cluster;
        let stale = same_cluster
            && (from.epoch < self.epoch || (from.epoch == self.epoch && from.revision < self.revision));
        if stale {
            return Err(Unusable::Stale {
                epoch: from.epoch,
                revision: from.revision,
                known_epoch: self.epoch,
                known_revision: self.revision,
            });
        }
        let builds_on = base && same_cluster && from.epoch == self.epoch;
        if !(from.full || builds_on) {
            return Err(Unusable::NoBase);
        }
        if from.full {
            self.placements.clear();
            self.targets.clear();
        }
        (self.cluster, self.epoch, self.revision) = (cluster.to_owned(), from.epoch, from.revision);
        for generation in &from.withdrawn {
            self.placements.remove(generation);
        }
        for regrant in &from.regranted {
            self.placements.remove(&regrant.from);
        }
        for name in &from.withdrawn_targets {
            self.targets.remove(name);
        }
        for it in &from.placements {
            self.placements.insert(it.generation, placed(it));
        }
        for it in &from.targets {
            let target = TargetPlaced { digest: it.digest.clone(), pauses: pauses(&it.pauses) };
            self.targets.insert(it.name.clone(), target);
        }
        for it in &from.documents {
            self.documents.insert(it.digest.clone(), it.json.clone());
        }
        self.forget_documents();
        Ok(())
    }

    /// Takes declarations that come ahead of the placements that need them; false: there is more in it.
    pub(crate) fn take_ahead(&mut self, from: &proto::Desired) -> bool {
        let proto::Desired {
            revision: _,
            full,
            placements,
            withdrawn,
            documents,
            targets,
            withdrawn_targets,
            regranted,
            epoch: _,
        } = from;
        let ahead = !full
            && placements.is_empty()
            && withdrawn.is_empty()
            && targets.is_empty()
            && withdrawn_targets.is_empty()
            && regranted.is_empty()
            && !documents.is_empty();
        if ahead {
            self.documents.extend(documents.iter().map(|it| (it.digest.clone(), it.json.clone())));
        }
        ahead
    }

    fn forget_documents(&mut self) {
        let (placements, targets) = (&self.placements, &self.targets);
        let used: std::collections::BTreeSet<&str> = placements
            .values()
            .map(|it| it.digest.as_str())
            .chain(targets.values().map(|it| it.digest.as_str()))
            .collect();
        self.documents.retain(|digest, _| used.contains(digest.as_str()));
    }
}

fn placed(from: &proto::Placement) -> Placed {
    Placed {
        workload: from.workload.clone(),
        ordinal: from.ordinal,
        digest: from.digest.clone(),
        stopped_by: from.stopped_by.clone(),
        pauses: pauses(&from.pauses),
    }
}

fn pauses(from: &[proto::PauseIntent]) -> Vec<PauseIntent> {
    let one = |it: &proto::PauseIntent| PauseIntent {
        probe: it.probe.clone(),
        until: it.until,
        reason: it.reason.clone(),
        by: it.by.clone(),
    };
    from.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placement(generation: u64, digest: &str) -> proto::Placement {
        proto::Placement {
            generation,
            workload: "web".into(),
            ordinal: 0,
            digest: digest.into(),
            ..proto::Placement::default()
        }
    }

    fn document(digest: &str) -> proto::Document {
        proto::Document { digest: digest.into(), json: format!("{{{digest}}}") }
    }

    fn full(revision: u64, epoch: u64) -> proto::Desired {
        proto::Desired {
            revision,
            full: true,
            placements: vec![placement(1, "a"), placement(2, "b")],
            documents: vec![document("a"), document("b")],
            epoch,
            ..proto::Desired::default()
        }
    }

    #[test]
    fn deltas_build_on_a_full_state_and_unused_documents_go() {
        let mut wanted = Wanted::default();
        let delta = proto::Desired { revision: 6, withdrawn: vec![1], epoch: 1, ..proto::Desired::default() };
        assert_eq!(wanted.take(&delta, "c", true), Err(Unusable::NoBase));
        wanted.take(&full(5, 1), "c", false).unwrap();
        assert_eq!(wanted.take(&delta, "c", false), Err(Unusable::NoBase));
        wanted.take(&delta, "c", true).unwrap();
        assert!(wanted.placements.keys().eq([&2]) && wanted.documents.keys().eq(["b"]));
        assert_eq!(wanted.revision, 6);
    }

    #[test]
    fn an_older_epoch_or_revision_of_the_same_cluster_is_refused_and_another_cluster_is_believed() {
        let mut wanted = Wanted::default();
        wanted.take(&full(5, 2), "c", false).unwrap();
        let before = wanted.clone();
        assert!(matches!(wanted.take(&full(9, 1), "c", false), Err(Unusable::Stale { .. })));
        assert!(matches!(wanted.take(&full(4, 2), "c", false), Err(Unusable::Stale { .. })));
        assert_eq!(wanted, before);
        wanted.take(&full(3, 3), "c", false).unwrap();
        wanted.take(&full(1, 1), "another", false).unwrap();
        assert_eq!((wanted.cluster.as_str(), wanted.revision), ("another", 1));
    }

    #[test]
    fn declarations_may_come_ahead_of_their_placements() {
        let mut wanted = Wanted::default();
        let ahead =
            proto::Desired { documents: vec![document("a"), document("b")], ..proto::Desired::default() };
        assert!(wanted.take_ahead(&ahead));
        let rest = proto::Desired { documents: Vec::new(), ..full(5, 1) };
        assert!(!wanted.take_ahead(&rest));
        wanted.take(&rest, "c", false).unwrap();
        assert!(wanted.documents.keys().eq(["a", "b"]));
    }

    #[test]
    fn a_regrant_takes_the_earlier_number_away() {
        let mut wanted = Wanted::default();
        wanted.take(&full(5, 1), "c", false).unwrap();
        let regrant = proto::Desired {
            revision: 6,
            epoch: 1,
            placements: vec![placement(9, "a")],
            regranted: vec![proto::Regrant { from: 1, to: 9 }],
            ..proto::Desired::default()
        };
        wanted.take(&regrant, "c", true).unwrap();
        assert!(wanted.placements.keys().eq([&2, &9]));
    }
}
