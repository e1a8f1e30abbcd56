//! One target that is watched, and a list of them.

use std::{collections::BTreeSet, sync::Arc};

use hale_check::{Finished, ProbeHandle};
use hale_health::TargetNote;
use hale_health::{Status, TargetMachine, Time, Verdict, worst_of};
use hale_model::{
    event::{EventData, TargetProbeFailed, TargetProbeRecovered},
    report::OutcomeRecord,
    spec::{ListEntry, Target},
    status::TargetStatus,
};
use hale_supervisor::clock::Clock;
use jiff::Timestamp;

use super::read::Reader;

/// One target that is watched.
pub(super) struct Watched {
    pub(super) target: Arc<Target>,
    pub(super) machine: TargetMachine,
    /// Dropped, it ends the checks.
    pub(super) checks: ProbeHandle,
    pub(super) period: std::time::Duration,
    pub(super) token: u64,
    pub(super) host: Option<String>,
    /// Whether that is another machine.
    pub(super) elsewhere: bool,
    /// Whether a person paused it, or its list.
    pub(super) by_person: bool,
    /// Until when a maintenance window lasts that is going on.
    pub(super) in_window: Option<Timestamp>,
    /// When a failure began that an earlier run told.
    pub(super) told_since: Option<Timestamp>,
}

/// A target that is a list of others.
pub(super) struct List {
    pub(super) target: Arc<Target>,
    /// Tells this reading from an earlier one of the same name.
    pub(super) reading: u64,
    /// Dropped, it ends the reading.
    pub(super) _reader: Option<Reader>,
    pub(super) members: BTreeSet<String>,
    /// What was read last: an entry that was passed over is taken when its name is free.
    pub(super) entries: Vec<ListEntry>,
    /// Whether an entry was passed over, as its name belongs to another target.
    pub(super) passed_over: bool,
    /// Whether it has been read at all.
    pub(super) was_read: bool,
    /// Why it can't be read, while it can't.
    pub(super) fault: Option<String>,
    /// Since when it is so.
    pub(super) since: Option<Timestamp>,
    pub(super) paused: bool,
}

impl Watched {
    /// Freezes or thaws the machine, as person and windows have it (H24); whether that changed.
    pub(super) fn settle_pause(&mut self, now: Time) -> bool {
        let paused = self.by_person || self.in_window.is_some();
        if paused == self.machine.paused() {
            return false;
        }
        if paused {
            self.machine.pause();
        } else {
            self.machine.resume(now);
        }
        true
    }

    /// Has the engine ask in the rhythm that the machine wants now.
    pub(super) fn keep_period(&mut self) {
        let period = self.machine.period();
        if period != self.period {
            self.period = period;
            self.checks.set_period(period);
        }
    }

    /// A note of its machine as an event.
    pub(super) fn event(&mut self, note: TargetNote, clock: &dyn Clock) -> EventData {
        let about = self.target.origin.clone();
        match note {
            TargetNote::ProbeFailed { consecutive_failures, since, last_status, last_reason, last_error } => {
                EventData::TargetProbeFailed(TargetProbeFailed {
                    consecutive_failures,
                    last_status,
                    last_reason,
                    last_error,
                    since: Some(clock.wall_at(since)),
                    declaration: self.target.digest.clone(),
                    about,
                })
            }
            TargetNote::ProbeRecovered { prior_failure_count, down_for } => {
                // The scale of decisions begins with the boot; a failure may be older.
                let told =
                    self.told_since.take().map(|since| clock.wall().duration_since(since).as_secs_f64());
                let down_for = down_for.as_secs_f64().max(told.unwrap_or(0.0));
                EventData::TargetProbeRecovered(TargetProbeRecovered { prior_failure_count, down_for, about })
            }
        }
    }

    pub(super) fn record(&self, finished: &Finished, clock: &dyn Clock) -> OutcomeRecord {
        let (reason, detail) = match &finished.result.verdict {
            Verdict::Success => (None, None),
            Verdict::Failure { reason, detail } => (Some(*reason), Some(detail.clone())),
        };
        let timing = &self.target.timing;
        let failures = self.target.policy.window.map_or(timing.failure_threshold, |it| it.failures);
        let (consecutive, threshold) = match reason {
            None => (self.machine.consecutive_successes(), timing.success_threshold),
            Some(reason) if reason.is_prober_error() => (self.machine.prober_errors(), failures),
            Some(_) => (self.machine.consecutive_failures(), failures),
        };
        OutcomeRecord {
            subject: self.target.name.clone(),
            probe: None,
            incarnation: 0,
            at: clock.wall_at(finished.started_at),
            took_ms: finished.result.timings.total.as_secs_f64() * 1000.0,
            reason,
            detail,
            consecutive,
            threshold,
        }
    }

    pub(super) fn status(&self, now: Time, clock: &dyn Clock) -> TargetStatus {
        let failure = self.machine.last_failure();
        TargetStatus {
            name: self.target.name.clone(),
            status: self.machine.status(now),
            since: self.machine.since().map(|at| clock.wall_at(at)),
            consecutive_failures: self.machine.consecutive_failures(),
            last_reason: failure.map(|(reason, _)| reason),
            last_detail: failure.map(|(_, detail)| detail.to_owned()),
            last_outcome_at: self.machine.last_outcome_at().map(|at| clock.wall_at(at)),
            paused: self.machine.paused(),
            prober_errors: self.machine.prober_errors(),
            members: None,
            origin: self.target.origin.clone(),
        }
    }

    /// What those who depend on it go by: one that is paused holds nothing (H21).
    pub(super) fn holds(&self, now: Time) -> Status {
        if self.machine.paused() { Status::Unknown } else { self.machine.status(now) }
    }
}

impl List {
    /// Worst of its members; one that can't be read is degraded at best, and an empty one is unknown (H28).
    pub(super) fn status(&self, members: impl Iterator<Item = Status>) -> Status {
        match worst_of(members) {
            Status::Healthy if self.fault.is_some() => Status::Degraded,
            status => status,
        }
    }

    pub(super) fn told(&self, status: Status) -> TargetStatus {
        TargetStatus {
            status,
            since: self.since,
            last_detail: self.fault.as_ref().map(|why| format!("the list can't be read: {why}")),
            paused: self.paused,
            members: Some(u32::try_from(self.members.len()).unwrap_or(u32::MAX)),
            origin: self.target.origin.clone(),
            ..TargetStatus::unknown(&self.target.name)
        }
    }
}
