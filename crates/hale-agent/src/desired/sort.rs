//! From what is wanted to what can be carried out.

use std::sync::Arc;

use hale_api::{proto, wire};
use hale_health::{Generation, Time};
use hale_model::spec::{Target, Workload};
use hale_supervisor::supervisor::{Assignment, PlacedPause};
use jiff::Timestamp;

use super::{Desk, PauseIntent, Placed, Unsupported};

/// What can be carried out, and what can't.
pub(super) struct Sorted {
    pub(super) assignments: Vec<Assignment>,
    pub(super) unsupported: Vec<Unsupported>,
    pub(super) targets: Vec<Arc<Target>>,
    /// Whether a declaration is not here that should be.
    pub(super) missing: bool,
}

impl Desk {
    pub(super) fn sort(&mut self) -> Sorted {
        self.read_documents();
        let mut sorted =
            Sorted { assignments: Vec::new(), unsupported: Vec::new(), targets: Vec::new(), missing: false };
        for (generation, placed) in &self.wanted.placements {
            match self.workloads.get(&placed.digest) {
                Some(Ok(workload)) if workload.name == placed.workload => {
                    let stop_at = workload.disconnect.stop_after.map(|after| self.heard.plus(after));
                    sorted.assignments.push(assignment(*generation, placed, workload, stop_at));
                }
                Some(Ok(workload)) => {
                    let why = format!("its document declares {}", workload.name);
                    refused(placed, *generation, &why);
                    sorted.unsupported.push(unsupported(*generation, placed, why));
                }
                Some(Err(why)) => {
                    refused(placed, *generation, why);
                    sorted.unsupported.push(unsupported(*generation, placed, why.clone()));
                }
                None => {
                    sorted.missing = true;
                    let why = "its declaration has not come".to_owned();
                    // It is asked for, or the placement is about to be withdrawn.
                    let Placed { workload, ordinal, .. } = placed;
                    tracing::debug!(workload, ordinal, generation, why, "a placement waits");
                    sorted.unsupported.push(unsupported(*generation, placed, why));
                }
            }
        }
        for (name, placed) in &self.wanted.targets {
            match self.checks.get(&placed.digest) {
                Some(Ok(target)) => sorted.targets.push(Arc::clone(target)),
                Some(Err(why)) => tracing::warn!(target = name, why, "a target can not be probed"),
                None => sorted.missing = true,
            }
        }
        sorted
    }

    /// Reads declarations that were not read yet, and forgets those that are not used any more.
    fn read_documents(&mut self) {
        let documents = &self.wanted.documents;
        self.workloads.retain(|digest, _| documents.contains_key(digest));
        self.checks.retain(|digest, _| documents.contains_key(digest));
        for (digest, json) in documents {
            if self.workloads.contains_key(digest) {
                continue;
            }
            let (workload, target) = read(digest, json);
            for why in [workload.as_ref().err(), target.as_ref().err()].into_iter().flatten() {
                tracing::debug!(digest, why, "a declaration is not of this kind");
            }
            self.workloads.insert(digest.clone(), workload);
            self.checks.insert(digest.clone(), target);
        }
    }
}

/// A declaration as the two things it may be.
fn read(digest: &str, json: &str) -> (Result<Arc<Workload>, String>, Result<Arc<Target>, String>) {
    let sent = proto::Document { digest: digest.to_owned(), json: json.to_owned() };
    let declared = wire::read_document(&sent).and_then(|document| {
        document.declared().map_err(|errors| {
            let first = errors.first().map(ToString::to_string).unwrap_or_default();
            format!("this release does not understand its declaration: {first}")
        })
    });
    match declared {
        Ok(declared) => (
            declared.workloads.into_iter().next().ok_or_else(|| "it declares no workload".to_owned()),
            declared.targets.into_iter().next().ok_or_else(|| "it declares no target".to_owned()),
        ),
        Err(why) => (Err(why.clone()), Err(why)),
    }
}

fn unsupported(generation: u64, placed: &Placed, why: String) -> Unsupported {
    let Placed { workload, ordinal, digest, .. } = placed.clone();
    Unsupported { generation, workload, ordinal, digest, why }
}

fn refused(placed: &Placed, generation: u64, why: &str) {
    let Placed { workload, ordinal, .. } = placed;
    tracing::error!(workload, ordinal, generation, why, "a placement is not carried out");
}

fn assignment(
    generation: u64,
    placed: &Placed,
    workload: &Arc<Workload>,
    stop_at: Option<Time>,
) -> Assignment {
    Assignment {
        workload: Arc::clone(workload),
        ordinal: placed.ordinal,
        generation: Generation(generation),
        stopped: placed.stopped_by.clone(),
        pauses: placed.pauses.iter().filter_map(pause).collect(),
        stop_at,
        draining: false,
    }
}

fn pause(from: &PauseIntent) -> Option<PlacedPause> {
    let until = match from.until {
        Some(until) => Some(Timestamp::from_microsecond(until).ok()?),
        None => None,
    };
    let probe = match &from.probe {
        Some(probe) => Some(probe.parse().ok()?),
        None => None,
    };
    Some(PlacedPause { probe, until, reason: from.reason.clone(), by: from.by.clone() })
}
