//! From counts and findings to a status (K7): of whatever keeps a number of pods running, and of a pod alone.

use hale_model::Status;

use super::{
    Moment, PROGRESSING,
    event::Events,
    finding::{Finding, in_words},
    objects::Kind,
    pod::Seen,
    replaced,
    rollout::Rollout,
    verdict::{Draft, Resource, Verdict},
    workload::Workload,
};

/// A controller and the pods that it controls itself.
pub(super) struct Group<'a> {
    pub(super) controller: &'a Workload,
    pub(super) pods: Vec<Seen<'a>>,
}

impl Group<'_> {
    fn active(&self) -> impl Iterator<Item = &Seen<'_>> {
        self.pods.iter().filter(|it| it.active())
    }

    /// What is found on its pods, those included that have failed and are not replaced yet.
    pub(super) fn findings(&self, wanted: u32, ready: u32) -> Vec<Finding> {
        let all: Vec<&Seen<'_>> = self.pods.iter().collect();
        let failed = replaced::counting(&all, ready >= wanted).into_iter();
        self.active().chain(failed).flat_map(|it| it.findings.iter().cloned()).collect()
    }

    /// It can't make its pods. Only events say why; they count while pods are missing and none was made since. Where
    /// pods are not known, its own count says how many there are.
    pub(super) fn failed_create(&self, wanted: u32, known: bool, events: &Events<'_>) -> Option<Finding> {
        if self.here(known) >= wanted {
            return None;
        }
        let newest = self.pods.iter().filter_map(|it| it.pod.meta.created).max();
        failed_create(self.controller, events, newest)
    }

    /// How many pods it has, ready or not.
    pub(super) fn here(&self, known: bool) -> u32 {
        let counted = self.controller.counted.as_ref().map_or(0, |it| it.all);
        if known { u32::try_from(self.active().count()).unwrap_or(u32::MAX) } else { counted }
    }

    /// Its pods that should be gone, and are not.
    fn lingering(&self, moment: Moment<'_>) -> impl Iterator<Item = &Seen<'_>> {
        self.pods.iter().filter(move |it| it.leaving && overdue(it, moment))
    }
}

/// Whether a pod that is being deleted should be gone for a while.
fn overdue(seen: &Seen<'_>, moment: Moment<'_>) -> bool {
    seen.pod.meta.deleting.is_some_and(|it| it < moment.now && moment.past_grace(Some(it)))
}

/// What a controller says of not being able to make something, since the newest that it made.
pub(super) fn failed_create(
    controller: &Workload,
    events: &Events<'_>,
    newest: Option<jiff::Timestamp>,
) -> Option<Finding> {
    let part = format!("{} {}", controller.kind.as_str(), controller.meta.name);
    let failure = controller.conditions.get("ReplicaFailure").filter(|it| it.holds == Some(true));
    if let Some(failure) = failure {
        let reason = if failure.reason.is_empty() { "FailedCreate" } else { &failure.reason };
        return Some(Finding::new(reason, part, failure.message.clone()));
    }
    events
        .about(controller.kind, &controller.meta)
        .filter(|it| it.reason == "FailedCreate" && it.seen_from(newest))
        .max_by_key(|it| (it.last, it.count, &it.message))
        .map(|it| Finding::new("FailedCreate", part, it.message.clone()))
}

/// What is put on the scales.
pub(super) struct Scales<'a> {
    pub(super) wanted: u32,
    pub(super) enough: u32,
    pub(super) ready: u32,
    /// Pods are known of, none is there, and they have had their time to come.
    pub(super) none_there: bool,
    pub(super) rollout: &'a Rollout,
    pub(super) findings: &'a [Finding],
}

/// Judges a workload that keeps a number of pods running. `known` is whether all its pods would be among the groups.
pub(super) fn workload(
    root: &Workload,
    groups: &[Group<'_>],
    known: bool,
    events: &Events<'_>,
    moment: Moment<'_>,
) -> Draft {
    let wanted = root.desired();
    if !known && root.counted.is_none() {
        return unknown("neither its status nor its pods are known");
    }
    let ready = ready(root, groups, known);
    let mut draft = Draft::new(ready, wanted);
    if wanted == 0 {
        return at_zero(root, draft);
    }
    draft.because(count(ready.min(wanted), wanted));
    let mut findings = Vec::new();
    let mut created = root.meta.created;
    for group in groups {
        let own = group.controller.desired();
        let here = group.active().filter(|it| it.ready).count();
        findings.extend(group.findings(own, u32::try_from(here).unwrap_or(u32::MAX)));
        findings.extend(group.failed_create(own, known, events));
        created = created.max(group.controller.meta.created);
    }
    // What a deployment says of its replica sets, unless they have said it.
    let says =
        |findings: &[Finding]| findings.iter().any(|it| it.condition.as_deref() == Some("FailedCreate"));
    if root.kind == Kind::Deployment && !says(&findings) {
        findings.extend(failed_create(root, events, None).filter(|_| ready < wanted));
    }
    let pods = || groups.iter().flat_map(|it| it.pods.iter());
    let here = match known {
        true => pods().filter(|it| it.active()).count() > 0,
        false => root.counted.as_ref().is_some_and(|it| it.all > 0),
    };
    let none_there = !here && moment.past_grace(created);
    let rollout = Rollout::of(root, pods(), ready, moment);
    let scales =
        Scales { wanted, enough: root.enough(), ready, none_there, rollout: &rollout, findings: &findings };
    if !known {
        draft.because("its pods are not known: its own status is believed");
    }
    weigh(&mut draft, &scales);
    for seen in groups.iter().flat_map(|it| it.lingering(moment)) {
        draft.because(format!("pod {} should be gone, and is not", seen.pod.meta.name));
    }
    draft
}

/// Pods say how many are ready, and the controller's count may say fewer, never more: it lags behind when they crash.
fn ready(root: &Workload, groups: &[Group<'_>], known: bool) -> u32 {
    let seen = groups.iter().flat_map(Group::active).filter(|it| it.ready).count();
    let seen = u32::try_from(seen).unwrap_or(u32::MAX);
    match (known, root.current()) {
        (true, Some(counted)) => seen.min(counted.ready),
        (true, None) => seen,
        (false, _) => root.counted.as_ref().map_or(0, |it| it.ready),
    }
}

fn at_zero(root: &Workload, mut draft: Draft) -> Draft {
    if root.kind != Kind::DaemonSet {
        draft.because("scaled to zero");
    } else if root.unobserved() {
        draft.at_least(Status::Degraded);
        draft.conditions.insert(PROGRESSING.to_owned());
        draft.because("its controller has not looked at it yet");
    } else {
        draft.because("no node is to run it");
    }
    draft
}

/// Puts all that is known on the scales (K7). Nothing here makes a status better.
pub(super) fn weigh(draft: &mut Draft, scales: &Scales<'_>) {
    let Scales { wanted, enough, ready, rollout, findings, .. } = *scales;
    draft.conditions.extend(findings.iter().filter_map(|it| it.condition.clone()));
    match rollout {
        Rollout::Complete => {}
        Rollout::Going { says, .. } => draft.because(format!("{PROGRESSING}: {says}")),
        Rollout::Late { says } => {
            draft.conditions.insert("ProgressDeadlineExceeded".to_owned());
            draft.because(format!("ProgressDeadlineExceeded: {says}"));
        }
    }
    let settled = draft.conditions.is_empty();
    let going = matches!(rollout, Rollout::Going { .. });
    let first = matches!(rollout, Rollout::Going { first: true, .. });
    if scales.none_there {
        draft.at_least(Status::Failing);
        draft.because(if wanted == 1 {
            "its pod is not there".to_owned()
        } else {
            format!("none of its {wanted} pods is there")
        });
    } else if ready == 0 {
        draft.at_least(if first && settled { Status::Degraded } else { Status::Failing });
    } else if !settled || (ready < wanted && !(going && ready >= enough)) {
        draft.at_least(Status::Degraded);
    }
    if settled && !scales.none_there && (going || !findings.is_empty()) {
        draft.conditions.insert(PROGRESSING.to_owned());
    }
    for words in in_words(findings) {
        draft.because(words);
    }
}

/// Judges a pod that nothing replaces.
pub(super) fn bare_pod(seen: &Seen<'_>, moment: Moment<'_>) -> Draft {
    if seen.leaving {
        return leaving_pod(seen, moment);
    }
    let ready = u32::from(seen.ready || seen.done);
    let mut draft = Draft::new(ready, 1);
    if seen.done {
        draft.because("completed");
        return draft;
    }
    draft.because(count(ready, 1));
    let young = seen.pod.meta.created.is_some_and(|it| moment.since(it) <= moment.settings.progress_deadline);
    let rollout = if seen.ready || seen.failed || seen.was_ready || !young {
        Rollout::Complete
    } else {
        Rollout::Going { first: true, says: "it is starting".to_owned() }
    };
    let findings = &seen.findings;
    weigh(
        &mut draft,
        &Scales { wanted: 1, enough: 1, ready, none_there: false, rollout: &rollout, findings },
    );
    draft
}

/// One that is being deleted is not wanted any more; but it should go.
fn leaving_pod(seen: &Seen<'_>, moment: Moment<'_>) -> Draft {
    let mut draft = Draft::new(0, 0);
    draft.because("it is being deleted");
    if overdue(seen, moment) {
        draft.at_least(Status::Degraded);
        draft.conditions.insert("Terminating".to_owned());
        draft.because("Terminating: it should be gone, and is not");
    }
    draft
}

/// Judges a volume claim that is wanted for itself. One that waits for its first pod is as it should be.
pub(super) fn claim(claim: Resource) -> Verdict {
    let mut draft = Draft::new(0, 0);
    let message = claim.message.clone().unwrap_or_default();
    let waits = message.contains("WaitForFirstConsumer");
    if !claim.ready && !waits {
        let lost = message.starts_with("Lost");
        draft.at_least(if lost { Status::Failing } else { Status::Degraded });
        draft.conditions.insert(if lost { "Lost" } else { "Pending" }.to_owned());
    }
    draft.because(message);
    let (namespace, name) = (claim.namespace.clone().unwrap_or_default(), claim.name.clone());
    draft.resources.push(Resource { ready: claim.ready || waits, ..claim });
    draft.of(Kind::PersistentVolumeClaim, &namespace, &name)
}

/// What nothing is known of.
pub(super) fn unknown(why: &str) -> Draft {
    let mut draft = Draft::new(0, 0);
    draft.at_least(Status::Unknown);
    draft.because(why);
    draft
}

/// `1 of 2 pods ready`.
pub(super) fn count(ready: u32, wanted: u32) -> String {
    format!("{ready} of {wanted} pod{} ready", if wanted == 1 { "" } else { "s" })
}
