//! What holds a restart or a start back, and telling it (H20 to H24).

use super::{
    Decision, Dependency, Note, Observer, Replica,
    around::Around,
    replica::{StartPlan, Trip},
};
use crate::{Hold, HoldBy, Holds, OnExhausted, Phase, ProbeKind, RestartMode, Time};

/// A hold that goes on for as long as its cause does.
fn open(by: HoldBy, now: Time, reason: String) -> Hold {
    Hold { by, since: now, until: None, reason }
}

impl Replica {
    fn pause_hold(&self, now: Time, probe: Option<ProbeKind>) -> Option<Hold> {
        let pause = self.pause_of(probe)?;
        let reason = format!("paused by {}: {}", pause.by, pause.reason);
        Some(Hold { until: pause.until, ..open(HoldBy::Pause, now, reason) })
    }

    /// Holds on a probe-caused restart that come before the budget's.
    pub(super) fn holds_before_budget(&self, now: Time, trip: &Trip, around: &Around<'_>) -> Vec<Hold> {
        let mut holds: Vec<Hold> = self.pause_hold(now, Some(trip.kind)).into_iter().collect();
        if self.observes() {
            holds.push(open(HoldBy::Observe, now, "the workload is only observed".to_owned()));
        }
        if let Observer::Suspect { reason, .. } | Observer::Blind { reason } = around.observer {
            holds.push(open(HoldBy::Observer, now, format!("the node doubts its probes: {reason}")));
        }
        if let Dependency::Failing { name } = around.dependency {
            holds.push(open(HoldBy::Dependency, now, format!("{name} is failing")));
        } else if let Some(until) = trip.spread_until.filter(|until| now < *until) {
            let reason = "a dependency has recovered: restarts are spread".to_owned();
            holds.push(Hold { until: Some(until), ..open(HoldBy::Dependency, now, reason) });
        }
        holds
    }

    /// Holds on a probe-caused restart from the budget's on.
    pub(super) fn holds_from_budget(
        &self,
        now: Time,
        trip: &mut Trip,
        counts: bool,
        around: &Around<'_>,
    ) -> Vec<Hold> {
        let mut holds = Vec::new();
        let restart = &self.policy.restart;
        let may_wait = restart.on_exhausted == OnExhausted::Wait && restart.mode != RestartMode::Never;
        if counts && may_wait {
            holds.extend(self.budget_hold(now));
        }
        if let Some(why) = around.no_room(self.ready) {
            let until = *trip.disruption_since.get_or_insert(now) + around.max_hold;
            if now < until {
                holds.push(Hold { until: Some(until), ..open(HoldBy::Disruption, now, why) });
            }
        }
        holds
    }

    fn budget_hold(&self, now: Time) -> Option<Hold> {
        if !self.window.is_full(now) {
            return None;
        }
        let reason = self.exhausted_text(&format!("{} restarts", self.window.count(now)));
        Some(Hold { until: self.window.frees_at(now), ..open(HoldBy::Budget, now, reason) })
    }

    /// Holds on a start. A person's start is held by nothing.
    pub(super) fn holds_on_start(&self, now: Time, plan: &StartPlan, around: &Around<'_>) -> Vec<Hold> {
        if plan.by_person {
            return Vec::new();
        }
        let mut holds: Vec<Hold> = self.pause_hold(now, None).into_iter().collect();
        if self.phase == Phase::Pending {
            match around.dependency {
                Dependency::Failing { name } => {
                    holds.push(open(HoldBy::Dependency, now, format!("{name} is failing")));
                }
                Dependency::NotYet { name } => {
                    holds.push(open(HoldBy::Dependency, now, format!("{name} has not come up yet")));
                }
                Dependency::Ok | Dependency::Unknown => {}
            }
        }
        if plan.counts {
            holds.extend(self.budget_hold(now));
        }
        if now < plan.not_before {
            let reason = plan.reason.clone();
            holds.push(Hold { until: Some(plan.not_before), ..open(HoldBy::Backoff, now, reason) });
        }
        holds
    }

    /// Puts these holds in the place of the present ones and tells what changed. Backoff is told by the restart, observe
    /// by what would have been done, a person's stop by the stop.
    pub(super) fn hold(
        &mut self,
        now: Time,
        action: &'static str,
        new: Vec<Hold>,
        otherwise: &str,
        out: &mut Vec<Decision>,
    ) {
        tell_holds(&mut self.holds, now, action, new, otherwise, out);
    }

    pub(super) fn hold_gate(&mut self, now: Time, new: Vec<Hold>, otherwise: &str, out: &mut Vec<Decision>) {
        tell_holds(&mut self.gate, now, "gate", new, otherwise, out);
    }
}

fn tell_holds(
    holds: &mut Holds,
    now: Time,
    action: &'static str,
    new: Vec<Hold>,
    otherwise: &str,
    out: &mut Vec<Decision>,
) {
    let told = |hold: &&Hold| !matches!(hold.by, HoldBy::Backoff | HoldBy::Observe | HoldBy::Person);
    if new.is_empty() && holds.is_empty() {
        return;
    }
    let before = holds.iter().find(told).cloned();
    holds.replace(new);
    let after = holds.iter().find(told);
    if before.as_ref().map(|it| it.by) == after.map(|it| it.by) {
        return;
    }
    if let Some(before) = before {
        let outcome = after.map_or_else(|| otherwise.to_owned(), |hold| format!("held by {}", hold.by));
        let held = now.since(before.since);
        out.push(Decision::Note(Note::Released { action, by: before.by, held, outcome }));
    }
    if let Some(hold) = after {
        out.push(Decision::Note(Note::Held { action, hold: hold.clone() }));
    }
}
