//! The objects that a workload is made of, and how each is (K4).

use hale_model::Status;

use super::{
    decide::{Group, count},
    event::Events,
    look::Claims,
    objects::Kind,
    pod::Seen,
    verdict::{Draft, Resource},
    workload::Workload,
};

/// Adds the objects of a workload to what is told of it: itself, what it made that is still in use, its pods, and the
/// volume claims these mount.
pub(super) fn list(draft: &mut Draft, root: Option<&Workload>, groups: &[Group<'_>], claims: &Claims<'_>) {
    let said = draft.reasons.first().cloned().unwrap_or_default();
    if let Some(root) = root {
        let fine = matches!(draft.status, Status::Healthy | Status::Degraded);
        let ready = fine && draft.ready >= draft.total;
        draft.resources.push(Resource::new(root.kind, &root.meta.namespace, &root.meta.name, ready, &said));
    }
    for group in groups {
        let controller = group.controller;
        let own = root.is_some_and(|it| it.kind == controller.kind && it.meta.name == controller.meta.name);
        if !own && (controller.desired() > 0 || !group.pods.is_empty()) {
            draft.resources.push(made(controller, &group.pods));
        }
        for seen in &group.pods {
            pod(draft, seen, claims);
        }
    }
}

/// A replica set, or a job.
fn made(controller: &Workload, pods: &[Seen<'_>]) -> Resource {
    let (ready, message) = if controller.kind == Kind::Job {
        let ended = ["Complete", "Failed"].into_iter().find(|it| controller.conditions.holds(it));
        (ended != Some("Failed"), ended.unwrap_or("running").to_lowercase())
    } else {
        let ready = pods.iter().filter(|it| it.ready).count();
        let (ready, wanted) = (u32::try_from(ready).unwrap_or(u32::MAX), controller.desired());
        (ready >= wanted, count(ready, wanted))
    };
    Resource::new(controller.kind, &controller.meta.namespace, &controller.meta.name, ready, &message)
}

/// A pod and its claims.
pub(super) fn pod(draft: &mut Draft, seen: &Seen<'_>, claims: &Claims<'_>) {
    let meta = &seen.pod.meta;
    let ready = seen.ready || seen.done;
    draft.resources.push(Resource::new(Kind::Pod, &meta.namespace, &meta.name, ready, &seen.words()));
    for name in &seen.pod.claims {
        draft.resources.extend(claims.get(&meta.namespace, name));
    }
}

/// What is said of a claim that is not bound.
pub(super) fn claim(claim: &super::world::Claim, events: &Events<'_>) -> Resource {
    let about = events.about(Kind::PersistentVolumeClaim, &claim.meta);
    let newest = about.max_by_key(|it| (it.last, it.count, &it.message));
    let bound = claim.phase == "Bound";
    let message = match newest {
        Some(event) if !bound => format!("{}: {}: {}", claim.phase, event.reason, event.message),
        _ => claim.phase.clone(),
    };
    Resource::new(Kind::PersistentVolumeClaim, &claim.meta.namespace, &claim.meta.name, bound, &message)
}
