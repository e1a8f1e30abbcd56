//! From what a source heard to a run (R4, R5, R11).

use std::sync::Arc;

use hale_api::runs::{Alert, AlertOutcome, AlertRecord, Run, RunState};
use hale_model::spec::{AlertSeverity, Autonomy, Overflow, Rule};

use super::{
    Desk, Effect, FilterReason, Note, Now, rules,
    state::{Held, Moment},
};
use crate::{
    alert::{Fingerprint, RawAlert},
    source::Taken,
};

impl Desk {
    /// A source heard an alert. An id of its own is asked for the alert, then for its run.
    pub fn heard(
        &mut self,
        source: &str,
        raw: RawAlert,
        now: Now,
        new_id: &mut dyn FnMut() -> String,
    ) -> (Taken, Vec<Effect>) {
        let at = Moment::from(now);
        let responder = Arc::clone(&self.responder);
        let Some(from) = responder.sources.iter().find(|it| it.name == source) else {
            let why = "no source has this name".to_owned();
            return (Taken::Invalid(why.clone()), self.unreadable(source, why));
        };
        let alert = match raw.accept(from, at.wall, new_id) {
            Ok(alert) => alert,
            Err(invalid) => {
                let why = invalid.to_string();
                return (Taken::Invalid(why.clone()), self.unreadable(source, why));
            }
        };
        let mut out =
            vec![Effect::Note(Note::Received { cluster: alert.cluster.clone(), severity: alert.severity })];
        let taken = match rules::choose(&responder.rules, &alert, at.wall) {
            Err((reason, detail)) => {
                filtered(alert, reason, detail, &mut out);
                Taken::Yes
            }
            Ok(_) if self.is_duplicate(&alert, at, &mut out) => Taken::Yes,
            Ok(index) => match responder.rules.get(index) {
                Some(rule) => self.accept(rule, index, alert, at, new_id, &mut out),
                None => Taken::Yes,
            },
        };
        out.extend(self.capacity.settle(&self.queues).map(Effect::Note));
        (taken, out)
    }

    /// A source heard something that can't be read as an alert.
    pub fn unreadable(&mut self, source: &str, detail: String) -> Vec<Effect> {
        let cluster = source.to_owned();
        vec![
            Effect::Note(Note::Received { cluster: cluster.clone(), severity: AlertSeverity::Warning }),
            Effect::Note(Note::Filtered { cluster, reason: FilterReason::Invalid, detail }),
        ]
    }

    /// Attaches an alert to the run that deals with the same already.
    fn is_duplicate(&mut self, alert: &Alert, at: Moment, out: &mut Vec<Effect>) -> bool {
        let fingerprint = Fingerprint::of(alert);
        let claim = (alert.cluster.clone(), fingerprint.resource.clone());
        // What waits for a person is not going on: another fault of the same resource need not wait for them.
        let deals = |id: &&String| {
            self.held.get(*id).is_some_and(|it| {
                it.run.state != RunState::AwaitingApproval || Fingerprint::of(&it.alert) == fingerprint
            })
        };
        let claimed = self.claims.get(&claim).and_then(|it| it.iter().find(deals)).cloned();
        let (run, why) = if let Some(held) = claimed.and_then(|it| self.held.get_mut(&it)) {
            held.run.duplicates = held.run.duplicates.saturating_add(1);
            // What was heard of its health is out of date.
            held.well = false;
            (held.run.clone(), "a run on the same resource is there")
        } else if let Some(run) = self.seen.attach(&fingerprint, at.time) {
            (run, "the same led to a run a short while ago")
        } else {
            return false;
        };
        let detail = format!("{why}: {}", run.id);
        out.push(Effect::PutAlert(Box::new(AlertRecord {
            alert: alert.clone(),
            outcome: AlertOutcome::Duplicate,
            reason: Some(detail.clone()),
            run: Some(run.id.clone()),
        })));
        out.push(Effect::PutRun(Box::new(run)));
        let cluster = alert.cluster.clone();
        out.push(Effect::Note(Note::Filtered { cluster, reason: FilterReason::Duplicate, detail }));
        true
    }

    /// Makes a run of an alert, if there is room for it.
    fn accept(
        &mut self,
        rule: &Rule,
        index: usize,
        alert: Alert,
        at: Moment,
        new_id: &mut dyn FnMut() -> String,
        out: &mut Vec<Effect>,
    ) -> Taken {
        let cluster = alert.cluster.clone();
        if rule.autonomy == Autonomy::Act
            && !self.make_room(&cluster, self.responder.limits.overflow, at, out)
        {
            refused(alert, out);
            return Taken::Full;
        }
        let mut run = draft(new_id(), &self.responder.name, rule, &alert, at);
        self.seen.accepted(Fingerprint::of(&alert), &run.id, at.time);
        out.push(Effect::PutAlert(Box::new(AlertRecord {
            alert: alert.clone(),
            outcome: AlertOutcome::Accepted,
            reason: None,
            run: Some(run.id.clone()),
        })));
        if rule.autonomy == Autonomy::Observe {
            run.state = RunState::Observed;
            run.reason = Some("the rule only observes".to_owned());
            run.finished_at = Some(at.wall);
            self.seen.ended(&Fingerprint::of(&alert), &run);
            out.push(Effect::PutRun(Box::new(run)));
            return Taken::Yes;
        }
        let held = Held { run, alert, rule: index, since: at.time, until: None, well: false };
        if rule.autonomy == Autonomy::Approve {
            self.ask(held, rule.approval_timeout, at, out);
        } else {
            self.enqueue(held, out);
            out.push(Effect::Note(Note::Queued { cluster }));
        }
        Taken::Yes
    }

    /// Puts a run into its cluster's queue, where there is room.
    pub(super) fn enqueue(&mut self, mut held: Held, out: &mut Vec<Effect>) {
        held.run.state = RunState::Queued;
        held.until = None;
        out.push(Effect::PutRun(Box::new(held.run.clone())));
        self.queues.push(&held.run.cluster, held.run.id.clone());
        self.keep(held);
    }

    /// Makes room for one more in a cluster's queue, at the cost of the oldest; `false`: there is none to be had.
    pub(super) fn make_room(
        &mut self,
        cluster: &str,
        overflow: Overflow,
        at: Moment,
        out: &mut Vec<Effect>,
    ) -> bool {
        while let Some(bound) = self.queues.full(cluster) {
            self.capacity.reached(cluster, bound);
            if overflow == Overflow::Reject {
                return false;
            }
            let since = |id: &str| self.held.get(id).map(|it| it.since);
            let Some(whose) = self.queues.gives_way(cluster, bound, since) else { return false };
            let Some(oldest) = self.queues.pop(&whose) else { return false };
            let why = "it gave way to a newer alert: too many wait".to_owned();
            if let Some(held) = self.finish(&oldest, RunState::Dropped, Some(why), at, out) {
                let alert = held.alert.id;
                out.push(Effect::Note(Note::Overflowed { cluster: whose, alert, refused: false }));
            }
        }
        true
    }
}

fn filtered(alert: Alert, reason: FilterReason, detail: String, out: &mut Vec<Effect>) {
    let cluster = alert.cluster.clone();
    out.push(Effect::PutAlert(Box::new(AlertRecord {
        alert,
        outcome: AlertOutcome::Filtered,
        reason: Some(detail.clone()),
        run: None,
    })));
    out.push(Effect::Note(Note::Filtered { cluster, reason, detail }));
}

fn refused(alert: Alert, out: &mut Vec<Effect>) {
    let (cluster, id) = (alert.cluster.clone(), alert.id.clone());
    out.push(Effect::PutAlert(Box::new(AlertRecord {
        alert,
        outcome: AlertOutcome::Refused,
        reason: Some("the queue is full".to_owned()),
        run: None,
    })));
    out.push(Effect::Note(Note::Overflowed { cluster, alert: id, refused: true }));
}

/// The record of a run of a rule's own program.
pub(super) fn draft(id: String, responder: &str, rule: &Rule, alert: &Alert, at: Moment) -> Run {
    Run {
        id,
        responder: responder.to_owned(),
        alert: alert.id.clone(),
        cluster: alert.cluster.clone(),
        severity: alert.severity,
        fault_type: alert.fault_type.clone(),
        resource: alert.resource.clone(),
        rule: rule.name.clone(),
        autonomy: rule.autonomy,
        step: 0,
        escalates: None,
        state: RunState::Queued,
        reason: None,
        duplicates: 0,
        queued_at: at.wall,
        approve_until: None,
        decided_by: None,
        started_at: None,
        ended_at: None,
        recover_until: None,
        finished_at: None,
        exit_code: None,
        signal: None,
        workspace: None,
        artifacts: Vec::new(),
        cost: None,
        command: rule.run.command.clone(),
    }
}
