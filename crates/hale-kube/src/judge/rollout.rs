//! Where the rollout of a workload is (K5, K7).

use jiff::{SignedDuration, Timestamp};

use super::{
    Moment,
    objects::Kind,
    pod::Seen,
    workload::{Counted, Workload},
};

/// How long a controller may take to look at a deployment that was just made.
const FIRST_LOOK: SignedDuration = SignedDuration::from_secs(10);

/// How far what is wanted is carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rollout {
    /// All of it, or a person holds it where it is.
    Complete,
    /// It is on its way, within its deadline.
    Going {
        /// Nothing of it was ready before.
        first: bool,
        /// In words.
        says: String,
    },
    /// It has made no progress for longer than it may.
    Late {
        /// In words.
        says: String,
    },
}

impl Rollout {
    /// Where the rollout of a workload is, whose pods these are.
    pub(super) fn of<'p, 's: 'p>(
        workload: &Workload,
        pods: impl Iterator<Item = &'p Seen<'s>>,
        ready: u32,
        moment: Moment<'_>,
    ) -> Self {
        let mut past = Past { ready: false, failed: false, moved: workload.meta.created };
        for seen in pods {
            past.ready |= seen.was_ready;
            past.failed |= seen.failed;
            // A pod that goes makes room for the next one.
            past.moved = past.moved.max(seen.pod.meta.created).max(seen.pod.meta.deleting);
        }
        match workload.kind {
            Kind::Deployment => deployment(workload, &past, moment),
            _ => set(workload, &past, ready, moment),
        }
    }
}

/// What has been of the pods there are.
struct Past {
    /// One of them was ready at some time.
    ready: bool,
    /// One of them has failed.
    failed: bool,
    /// When the newest of them came, or is to be gone.
    moved: Option<Timestamp>,
}

/// Deployments say themselves how far they are. That one has `NewReplicaSetAvailable` tells only that its last rollout
/// once ended: of how its pods are since, it tells nothing.
fn deployment(workload: &Workload, past: &Past, moment: Moment<'_>) -> Rollout {
    let first = never_available(workload) && !past.ready;
    if workload.paused {
        return Rollout::Complete;
    }
    if workload.unobserved() {
        let says = "its controller has not looked at the newest specification yet".to_owned();
        return Rollout::Going { first, says };
    }
    let progressing = workload.conditions.get("Progressing");
    if let Some(it) =
        progressing.filter(|it| it.reason == "ProgressDeadlineExceeded" && it.holds != Some(true))
    {
        return Rollout::Late { says: it.message.clone() };
    }
    let Some(counted) = workload.counted.as_ref() else { return Rollout::Complete };
    let ended = progressing.is_some_and(|it| it.reason == "NewReplicaSetAvailable");
    let says = behind(workload, counted);
    if says.is_none() && (ended || counted.available >= workload.desired()) {
        return Rollout::Complete;
    }
    if ended && says.is_none() {
        // Rolled out, and not all there: that is for the pods to tell.
        return Rollout::Complete;
    }
    let moved = progressing.and_then(|it| it.updated.max(it.since)).or(workload.meta.created);
    let deadline = workload.deadline.unwrap_or(moment.settings.progress_deadline);
    // After a rollout that ended, the condition's time is that of its end, and no new deadline runs.
    if !ended && moved.is_some_and(|it| moment.since(it) > deadline) {
        return Rollout::Late { says: late(deadline) };
    }
    let says = says.unwrap_or_else(|| "a rollout is in progress".to_owned());
    Rollout::Going { first: first && !ended, says }
}

/// What of a deployment is not as the specification has it.
fn behind(workload: &Workload, counted: &Counted) -> Option<String> {
    let desired = workload.desired();
    if counted.updated < desired {
        return Some(format!("{} of {desired} pods are of the newest specification", counted.updated));
    }
    let old = counted.all.saturating_sub(counted.updated);
    (old > 0).then(|| format!("{old} pods of an older specification are still there"))
}

/// `Available` is False from when the controller first looks; a later turn means that it was True in between.
fn never_available(workload: &Workload) -> bool {
    workload.conditions.get("Available").is_none_or(|it| match (it.since, workload.meta.created) {
        _ if it.holds == Some(true) => false,
        (Some(turned), Some(created)) => turned.duration_since(created) <= FIRST_LOOK,
        _ => true,
    })
}

/// All others do not say it: what they have counted does, and their age.
fn set(workload: &Workload, past: &Past, ready: u32, moment: Moment<'_>) -> Rollout {
    let deadline = workload.deadline.unwrap_or(moment.settings.progress_deadline);
    let young = |since: Option<Timestamp>| since.is_some_and(|it| moment.since(it) <= deadline);
    let one_revision = workload.counted.as_ref().is_none_or(|it| it.one_revision);
    let first = young(workload.meta.created) && one_revision && !past.ready && !past.failed;
    let going = |says: String| {
        if young(past.moved) {
            Rollout::Going { first, says }
        } else {
            Rollout::Late { says: late(deadline) }
        }
    };
    if workload.unobserved() {
        let says = "its controller has not looked at the newest specification yet".to_owned();
        return Rollout::Going { first, says };
    }
    let desired = workload.desired();
    if let Some(counted) = workload.counted.as_ref() {
        let updating = match workload.kind {
            Kind::StatefulSet => !counted.one_revision || counted.updated < counted.all,
            Kind::DaemonSet => counted.updated < desired,
            _ => false,
        };
        if updating && !workload.by_hand {
            let says = format!("{} of {desired} pods are of the newest specification", counted.updated);
            return going(says);
        }
        // One after the other; when that takes too long, that pods are missing is enough.
        if workload.kind != Kind::DaemonSet && counted.all < desired && young(past.moved) {
            let says = format!("{} of {desired} pods are there", counted.all);
            return Rollout::Going { first, says };
        }
    }
    if first && ready < desired {
        return going("its first pods are starting".to_owned());
    }
    Rollout::Complete
}

fn late(deadline: SignedDuration) -> String {
    format!("it has made no progress for more than {} s", deadline.as_secs())
}
