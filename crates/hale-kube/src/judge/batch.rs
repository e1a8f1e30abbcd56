//! Jobs and cron jobs: what is to end, and end well (K5, K7).

use std::collections::BTreeSet;

use hale_model::Status;

use super::{
    Moment,
    decide::{Group, Scales, failed_create, unknown, weigh},
    event::Events,
    finding::Finding,
    objects::{Role, State},
    pod::Seen,
    rollout::Rollout,
    verdict::Draft,
    workload::Workload,
};

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Complete,
    Failed,
    Running,
}

fn end(job: &Workload) -> End {
    let conditions = &job.conditions;
    if conditions.holds("Failed") || conditions.holds("FailureTarget") {
        End::Failed
    } else if conditions.holds("Complete") || conditions.holds("SuccessCriteriaMet") {
        End::Complete
    } else {
        End::Running
    }
}

/// Judges a job by its own conditions, and while it runs by its pods.
pub(super) fn job(group: &Group<'_>, known: bool, events: &Events<'_>, moment: Moment<'_>) -> Draft {
    let job = group.controller;
    if !known && job.counted.is_none() {
        return unknown("neither its status nor its pods are known");
    }
    match end(job) {
        End::Complete => {
            let all = job.job.completions.unwrap_or(job.job.succeeded).max(1);
            let mut draft = Draft::new(all, all);
            draft.because(format!("{} completed", job.meta.name));
            draft
        }
        End::Failed => failed(group),
        End::Running if job.suspended => {
            let mut draft = Draft::new(0, 0);
            draft.because(format!("{} is suspended", job.meta.name));
            draft
        }
        End::Running => running(group, known, events, moment),
    }
}

/// Out of retries, or out of time.
fn failed(group: &Group<'_>) -> Draft {
    let job = group.controller;
    let all = job.job.completions.unwrap_or(job.job.parallelism).max(1);
    let mut draft = Draft::new(job.job.succeeded.min(all), all);
    draft.at_least(Status::Failing);
    let why = ["Failed", "FailureTarget"].into_iter().filter_map(|it| job.conditions.get(it));
    let why = why.filter(|it| it.holds == Some(true)).find(|it| !it.reason.is_empty());
    let reason = why.map_or("", |it| it.reason.as_str());
    let words = [reason, why.map_or("", |it| it.message.as_str())];
    let words: Vec<&str> = words.into_iter().filter(|it| !it.is_empty()).collect();
    draft.because(format!("{} has failed for good: {}", job.meta.name, words.join(": ")));
    // None of its pods is replaced any more: each that failed counts.
    let findings: Vec<Finding> =
        group.pods.iter().filter(|it| it.failed || it.active()).flat_map(|it| it.findings.clone()).collect();
    let mut conditions: BTreeSet<String> = findings.iter().filter_map(|it| it.condition.clone()).collect();
    if reason == "DeadlineExceeded" {
        conditions.insert(reason.to_owned());
    } else if job.job.failed > 0 {
        conditions.insert("PodFailed".to_owned());
    } else if conditions.is_empty() && !reason.is_empty() {
        conditions.insert(reason.to_owned());
    }
    draft.conditions = conditions;
    for words in super::finding::in_words(&findings) {
        draft.because(words);
    }
    draft
}

fn running(group: &Group<'_>, known: bool, events: &Events<'_>, moment: Moment<'_>) -> Draft {
    let job = group.controller;
    let done = number(group.pods.iter().filter(|it| it.done).count()).max(job.job.succeeded);
    let wanted = match job.job.completions {
        Some(all) => all.saturating_sub(done).min(job.job.parallelism),
        // A work queue: when one has ended well no new ones are started.
        None if done > 0 => number(group.pods.iter().filter(|it| it.active()).count()),
        None => job.job.parallelism,
    };
    let ready = if known {
        number(group.pods.iter().filter(|it| it.active() && works(it)).count())
    } else {
        job.counted.as_ref().map_or(0, |it| it.ready.max(it.all))
    };
    let mut draft = Draft::new(ready, wanted);
    if wanted == 0 {
        draft.because(format!("{} is ending", job.meta.name));
        return draft;
    }
    draft.because(format!("{} runs: {} of {wanted} pods ready", job.meta.name, ready.min(wanted)));
    let mut findings = group.findings(wanted, ready);
    findings.extend(group.failed_create(wanted, known, events));
    let began = job.job.started.or(job.meta.created);
    let young = began.is_some_and(|it| moment.since(it) <= moment.settings.progress_deadline);
    let fresh = !group.pods.iter().any(|it| it.was_ready || it.failed || it.done);
    let rollout = if ready < wanted && fresh && young {
        Rollout::Going { first: true, says: "its first pods are starting".to_owned() }
    } else {
        Rollout::Complete
    };
    let none_there = group.here(known) == 0
        && !group.pods.iter().any(|it| it.failed)
        && moment.past_grace(began.max(job.meta.created));
    let findings = &findings;
    weigh(&mut draft, &Scales { wanted, enough: wanted, ready, none_there, rollout: &rollout, findings });
    draft
}

/// A job's pod also works when some of its containers have ended well and the others run.
fn works(seen: &Seen<'_>) -> bool {
    let main = || seen.pod.containers.iter().filter(|it| it.role == Role::Main);
    let fine = |state: &State, ready: bool| match state {
        State::Running { .. } => ready,
        State::Ended(ended) => ended.code == 0,
        State::Waiting { .. } => false,
    };
    let lost = seen.findings.iter().any(|it| it.condition.as_deref() == Some("NodeNotReady"));
    let running = main().any(|it| matches!(it.state, State::Running { .. }));
    seen.ready || (!lost && running && main().all(|it| fine(&it.state, it.ready)))
}

/// Judges a cron job by the jobs that run, and by the last one that ended: what came before it is over.
pub(super) fn cron_job(
    cron: &Workload,
    jobs: &[Group<'_>],
    known: bool,
    events: &Events<'_>,
    moment: Moment<'_>,
) -> Draft {
    let mut draft = Draft::new(0, 0);
    let running = jobs.iter().filter(|it| end(it.controller) == End::Running);
    for group in running {
        draft.take_in(job(group, known, events, moment));
    }
    let key = |it: &&Group<'_>| {
        let Workload { meta, job, .. } = it.controller;
        (job.started.or(meta.created), job.finished, meta.name.clone())
    };
    let ended = jobs.iter().filter(|it| end(it.controller) != End::Running).max_by_key(key);
    if cron.suspended {
        draft.because("suspended");
    } else if let Some(group) = ended {
        draft.take_in(job(group, known, events, moment));
    }
    if jobs.is_empty() && !cron.suspended {
        draft.because(match cron.job.scheduled {
            Some(at) => format!("it last ran at {at}, and none of its jobs is left"),
            None => "it has not run yet".to_owned(),
        });
    }
    let newest = jobs.iter().filter_map(|it| it.controller.meta.created).max();
    if let Some(finding) = failed_create(cron, events, newest).filter(|_| !cron.suspended) {
        draft.at_least(if draft.ready == 0 { Status::Failing } else { Status::Degraded });
        draft.because(format!("FailedCreate: {}", finding.says));
        draft.conditions.insert("FailedCreate".to_owned());
    }
    draft
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
