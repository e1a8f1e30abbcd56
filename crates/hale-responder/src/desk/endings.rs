//! What a run came to, and what follows from it (R9, R10).

use std::{sync::Arc, time::Duration};

use hale_api::runs::{Resource, Run, RunState};
use hale_model::spec::Rule;

use super::{
    Desk, Effect, Note, Now, WatchRun,
    intake::draft,
    state::{Does, Held, Moment, does},
};
use crate::{
    alert::{Fingerprint, ResourceKey},
    exec::{Ended, How},
};

impl Desk {
    /// A run's program has ended (of [`Effect::Start`]). Of a run that does not run it says nothing.
    pub fn ended(
        &mut self,
        run: &str,
        ended: Ended,
        now: Now,
        new_id: &mut dyn FnMut() -> String,
    ) -> Vec<Effect> {
        let (at, mut out) = (Moment::from(now), Vec::new());
        let responder = Arc::clone(&self.responder);
        let Some(held) = self.held.get_mut(run).filter(|it| it.run.state == RunState::Running) else {
            return out;
        };
        let Some(rule) = responder.rules.get(held.rule) else { return out };
        let Some(Does::Runs(program)) = does(rule, held.run.step) else { return out };
        let timeout = program.timeout.unwrap_or(self.settings.run_timeout);
        let Ended { how, artifacts, cost } = ended;
        held.run.ended_at = Some(at.wall);
        held.run.artifacts = artifacts;
        held.run.cost = cost;
        let cluster = held.run.cluster.clone();
        let verdict = verdict(&mut held.run, how, timeout);
        let is_well = held.well;
        if let Some(active) = self.active.get_mut(&cluster) {
            *active = active.saturating_sub(1);
        }
        if let Some(cost) = cost {
            self.budgets.cost(&cluster, at.time, cost);
        }
        match (verdict, rule.success.recovered_within) {
            (Some((state, reason)), _) => self.conclude(run, state, Some(reason), at, new_id, &mut out),
            (None, Some(within)) if !is_well => self.watch(run, rule, within, at, &mut out),
            (None, wanted) => {
                let reason = wanted.map(|_| "the resource was healthy before the program ended".to_owned());
                self.conclude(run, RunState::Succeeded, reason, at, new_id, &mut out);
            }
        }
        out
    }

    /// A run's record was sent, or not (of [`Effect::Send`]).
    pub fn sent(
        &mut self,
        run: &str,
        result: Result<(), String>,
        now: Now,
        new_id: &mut dyn FnMut() -> String,
    ) -> Vec<Effect> {
        let (at, mut out) = (Moment::from(now), Vec::new());
        let Some(held) = self.held.get_mut(run).filter(|it| it.run.state == RunState::Running) else {
            return out;
        };
        let rule = self.responder.rules.get(held.rule);
        if !matches!(rule.and_then(|it| does(it, held.run.step)), Some(Does::Sends(_))) {
            return out;
        }
        held.run.ended_at = Some(at.wall);
        let (state, reason) = match result {
            Ok(()) => (RunState::Succeeded, None),
            Err(why) => (RunState::Failed, Some(format!("could not be sent: {why}"))),
        };
        self.conclude(run, state, reason, at, new_id, &mut out);
        out
    }

    /// A resource is healthy, as the source or a program that was asked says: what recovers on it has succeeded.
    pub fn recovered(
        &mut self,
        source: &str,
        resource: &Resource,
        now: Now,
        new_id: &mut dyn FnMut() -> String,
    ) -> Vec<Effect> {
        let (at, mut out) = (Moment::from(now), Vec::new());
        let claim = (source.to_owned(), ResourceKey::from(resource));
        let runs = self.claims.get(&claim).cloned().unwrap_or_default();
        for run in runs {
            let Some(held) = self.held.get_mut(&run) else { continue };
            match held.run.state {
                RunState::Running => held.well = true,
                RunState::Recovering => {
                    self.recovering = self.recovering.saturating_sub(1);
                    out.push(Effect::Unwatch { run: run.clone() });
                    let reason = Some("the resource is healthy".to_owned());
                    self.conclude(&run, RunState::Succeeded, reason, at, new_id, &mut out);
                }
                _ => {}
            }
        }
        out
    }

    /// A resource was not healthy in time.
    pub(super) fn give_up_recovery(
        &mut self,
        run: &str,
        at: Moment,
        new_id: &mut dyn FnMut() -> String,
        out: &mut Vec<Effect>,
    ) {
        let Some(held) = self.held.get(run) else { return };
        let ended = held.run.ended_at.unwrap_or(held.run.queued_at);
        let waited = held.run.recover_until.map_or(Duration::ZERO, |until| {
            Duration::try_from(until.duration_since(ended)).unwrap_or(Duration::ZERO)
        });
        self.recovering = self.recovering.saturating_sub(1);
        out.push(Effect::Unwatch { run: run.to_owned() });
        let reason = format!("the resource was not healthy within {waited:?}");
        self.conclude(run, RunState::Ineffective, Some(reason), at, new_id, out);
    }

    /// Waits for a run's resource to be healthy; it holds no worker meanwhile.
    fn watch(&mut self, run: &str, rule: &Rule, within: Duration, at: Moment, out: &mut Vec<Effect>) {
        let Some(held) = self.held.get_mut(run) else { return };
        held.run.state = RunState::Recovering;
        held.run.recover_until = Some(at.wall_in(within));
        held.until = Some(at.time + within);
        self.recovering += 1;
        out.push(Effect::PutRun(Box::new(held.run.clone())));
        out.push(watching(held, rule));
    }

    /// Brings a run that was started to its end, tells the breaker, and takes the next step where that is due.
    fn conclude(
        &mut self,
        run: &str,
        state: RunState,
        reason: Option<String>,
        at: Moment,
        new_id: &mut dyn FnMut() -> String,
        out: &mut Vec<Effect>,
    ) {
        let Some(held) = self.finish(run, state, reason, at, out) else { return };
        out.push(Effect::Note(Note::Completed { run: Box::new(held.run.clone()) }));
        if held.run.step == 0 {
            out.extend(self.failure.ended(&held.run, at.time).map(Effect::Note));
        }
        if matches!(state, RunState::Failed | RunState::TimedOut | RunState::Ineffective) {
            self.escalate(held, at, new_id, out);
        }
    }

    /// The next step of the escalation, where there is one, as a run of its own on the same alert.
    fn escalate(
        &mut self,
        held: Held,
        at: Moment,
        new_id: &mut dyn FnMut() -> String,
        out: &mut Vec<Effect>,
    ) {
        let Held { run: before, alert, rule: index, .. } = held;
        let step = before.step.saturating_add(1);
        let Some(rule) = self.responder.rules.get(index) else { return };
        let command = match does(rule, step) {
            Some(Does::Runs(program)) => program.command.clone(),
            Some(Does::Sends(_)) => Vec::new(),
            None => return,
        };
        let run = Run {
            step,
            reason: Some(format!("run {} was no success: {}", before.id, before.state.as_str())),
            escalates: Some(before.id.clone()),
            command,
            ..draft(new_id(), &self.responder.name, rule, &alert, at)
        };
        self.seen.escalated(&Fingerprint::of(&alert), &before.id, &run.id);
        out.push(Effect::PutRun(Box::new(run.clone())));
        self.lane.push_back(run.id.clone());
        self.keep(Held { run, alert, rule: index, since: at.time, until: None, well: false });
    }
}

/// Asks for a run's resource.
pub(super) fn watching(held: &Held, rule: &Rule) -> Effect {
    let (run, alert) = (held.run.clone(), held.alert.clone());
    Effect::Watch(Box::new(WatchRun { run, alert, when: rule.success.recovered_when.clone() }))
}

/// How a program's end stands on record; `None` for an end that is good.
fn verdict(run: &mut Run, how: How, timeout: Duration) -> Option<(RunState, String)> {
    match how {
        How::Exited(code) => {
            run.exit_code = Some(code);
            (code != 0).then(|| (RunState::Failed, format!("it ended with exit status {code}")))
        }
        How::Signal(signal) => {
            run.signal = Some(signal);
            Some((RunState::Failed, format!("it was ended by signal {signal}")))
        }
        How::TimedOut => Some((RunState::TimedOut, format!("it ran for longer than {timeout:?}"))),
        How::Interrupted => Some((RunState::Interrupted, "the responder ended while it ran".to_owned())),
        How::NoArtifact(why) => {
            run.exit_code = Some(0);
            Some((RunState::Failed, why))
        }
        How::NotStarted(why) => Some((RunState::Failed, format!("it could not be started: {why}"))),
    }
}
