//! What was on record when the responder started (R5, R12).

use std::sync::Arc;

use hale_api::runs::{Alert, Run, RunState};
use hale_model::spec::{Autonomy, Overflow};

use super::{
    Desk, Effect, Note, Now,
    endings::watching,
    state::{Does, Held, Moment, does},
};
use crate::alert::Fingerprint;

impl Desk {
    /// Takes up what was on record: runs that are not final, with their alerts, and recent ones, for the window of
    /// duplicates, the budgets and the failure breaker. Called once, before anything else.
    ///
    /// What ran is interrupted and never run again by itself. What waited goes on waiting, its age by the wall clock. What
    /// the file has no rule, step or source for any more comes to its end.
    pub fn restore(&mut self, mut runs: Vec<(Run, Alert)>, now: Now) -> Vec<Effect> {
        let (at, mut out) = (Moment::from(now), Vec::new());
        runs.sort_by(|(a, _), (b, _)| (a.queued_at, &a.id).cmp(&(b.queued_at, &b.id)));
        self.restore_budgets(&runs, at);
        self.restore_breaker(&runs, at);
        for (run, alert) in runs {
            // A step of an escalation is remembered in place of the run that it escalates.
            self.seen.accepted(Fingerprint::of(&alert), &run.id, at.past(alert.received_at));
            if run.state.is_final() {
                self.seen.ended(&Fingerprint::of(&alert), &run);
            } else {
                self.take_up(run, alert, at, &mut out);
            }
        }
        self.seen.sweep(at.time);
        out.extend(self.capacity.settle(&self.queues).map(Effect::Note));
        out
    }

    fn restore_budgets(&mut self, runs: &[(Run, Alert)], at: Moment) {
        let programs = || runs.iter().map(|(run, _)| run).filter(|it| !it.command.is_empty());
        let mut starts: Vec<_> =
            programs().filter_map(|it| it.started_at.map(|at| (at, &it.cluster))).collect();
        starts.sort();
        for (started, cluster) in starts {
            self.budgets.started(cluster, at.past(started));
        }
        let mut ends: Vec<_> =
            programs().filter_map(|it| Some((it.ended_at?, it.cost?, &it.cluster))).collect();
        ends.sort_by_key(|(ended, ..)| *ended);
        for (ended, cost, cluster) in ends {
            self.budgets.cost(cluster, at.past(ended), cost);
        }
    }

    fn restore_breaker(&mut self, runs: &[(Run, Alert)], at: Moment) {
        let own = runs.iter().map(|(run, _)| run).filter(|it| it.step == 0 && it.state.is_final());
        let mut ended: Vec<_> = own.filter_map(|it| it.finished_at.map(|at| (at, it))).collect();
        ended.sort_by_key(|(finished, run)| (*finished, run.id.as_str()));
        for (finished, run) in ended {
            // What it has to say was said then.
            self.failure.ended(run, at.past(finished));
        }
    }

    fn take_up(&mut self, run: Run, alert: Alert, at: Moment, out: &mut Vec<Effect>) {
        let responder = Arc::clone(&self.responder);
        let rule = responder.rules.iter().position(|it| it.name == run.rule);
        let step = rule.and_then(|it| responder.rules.get(it)).and_then(|it| Some((it, does(it, run.step)?)));
        let has_source = responder.sources.iter().any(|it| it.name == run.cluster);
        let id = run.id.clone();
        let since = at.past(run.queued_at);
        let held = Held { run, alert, rule: rule.unwrap_or(usize::MAX), since, until: None, well: false };
        let sends = matches!(step, Some((_, Does::Sends(_))));
        if held.run.state == RunState::Running && !(sends && has_source) {
            return self.interrupt(held, "the responder ended while it ran", at, out);
        }
        let Some((rule, does)) = step.filter(|_| has_source) else {
            let what = if has_source { "rule or step" } else { "source" };
            let why = format!("the file has no such {what} any more");
            if held.run.state == RunState::Recovering {
                return self.interrupt(held, &why, at, out);
            }
            self.keep(held);
            return self.expire(&id, &why, at, out);
        };
        match held.run.state {
            RunState::AwaitingApproval => {
                let until = at.to_come(held.run.approve_until.unwrap_or(at.wall));
                let until = until.min(at.time + rule.approval_timeout);
                self.let_wait(Held { until: Some(until), ..held }, at, out);
            }
            RunState::Recovering => {
                let until = at.to_come(held.run.recover_until.unwrap_or(at.wall));
                let longest = rule.success.recovered_within.map(|it| at.time + it);
                let until = until.min(longest.unwrap_or(until));
                let held = Held { until: Some(until), ..held };
                self.recovering += 1;
                out.push(watching(&held, rule));
                self.keep(held);
            }
            // Nobody knows whether it arrived: told twice is better than not at all.
            RunState::Running => {
                let held =
                    Held { run: Run { state: RunState::Queued, started_at: None, ..held.run }, ..held };
                out.push(Effect::PutRun(Box::new(held.run.clone())));
                self.lane.push_back(id);
                self.keep(held);
            }
            _ if held.run.step > 0 => {
                self.lane.push_back(id);
                self.keep(held);
            }
            _ if rule.autonomy != Autonomy::Act && held.run.decided_by.is_none() => {
                self.keep(held);
                self.expire(&id, "its rule does not act by itself any more", at, out);
            }
            _ => {
                let Does::Runs(_) = does else { return };
                // It was accepted: it is not refused now, whatever the file says.
                if self.make_room(&held.run.cluster, Overflow::DropOldest, at, out) {
                    self.queues.push(&held.run.cluster, id);
                    self.keep(held);
                }
            }
        }
    }

    fn interrupt(&mut self, held: Held, why: &str, at: Moment, out: &mut Vec<Effect>) {
        let id = held.run.id.clone();
        self.keep(held);
        if let Some(held) = self.finish(&id, RunState::Interrupted, Some(why.to_owned()), at, out) {
            out.push(Effect::Note(Note::Completed { run: Box::new(held.run) }));
        }
    }
}
