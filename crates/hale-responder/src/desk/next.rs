//! What is started now, and what has waited for too long (R5–R7).

use std::sync::Arc;

use hale_api::runs::RunState;

use super::{
    Desk, Effect, Note, Now, StartRun,
    state::{Does, Moment, does, success_of},
};

/// The most runs that wait for their resources to be healthy; at that nothing is dequeued.
const MOST_RECOVERING: usize = 1000;

impl Desk {
    /// Starts what may be started now: steps of escalations first, then clusters by turns.
    pub fn next(&mut self, now: Now) -> Vec<Effect> {
        let (at, mut out) = (Moment::from(now), Vec::new());
        if self.holding {
            return out;
        }
        self.expire_queued(at, &mut out);
        self.start_escalations(at, &mut out);
        while self.has_worker() && self.recovering < MOST_RECOVERING && self.failure.admits(at.time) {
            let Some(cluster) = self.whose_turn(at, &mut out) else { break };
            let Some(run) = self.queues.pop(&cluster) else { break };
            self.queues.serve(&cluster);
            out.push(Effect::Note(Note::Dequeued { cluster }));
            out.extend(self.failure.started(&run, at.time).map(Effect::Note));
            self.start(&run, at, &mut out);
        }
        let queues = &self.queues;
        self.budgets.settle(at.time, |cluster| queues.len(cluster) > 0);
        out.extend(self.capacity.settle(&self.queues).map(Effect::Note));
        out
    }

    /// Looks after everything that has a deadline: what waits for its turn, for a person, for a resource to be healthy.
    /// May be called at any time.
    pub fn sweep(&mut self, now: Now, new_id: &mut dyn FnMut() -> String) -> Vec<Effect> {
        let (at, mut out) = (Moment::from(now), Vec::new());
        self.expire_queued(at, &mut out);
        let due = self.held.values().filter(|it| it.until.is_some_and(|until| at.time >= until));
        let due: Vec<(String, String, RunState)> =
            due.map(|it| (it.run.id.clone(), it.run.cluster.clone(), it.run.state)).collect();
        for (run, cluster, state) in due {
            if state == RunState::AwaitingApproval {
                self.wait_no_more(&cluster, &run);
                self.expire(&run, "nobody decided in time", at, &mut out);
            } else {
                self.give_up_recovery(&run, at, new_id, &mut out);
            }
        }
        self.seen.sweep(at.time);
        out.extend(self.capacity.settle(&self.queues).map(Effect::Note));
        out
    }

    fn expire_queued(&mut self, at: Moment, out: &mut Vec<Effect>) {
        let max_age = self.max_age();
        let too_old = |id: &&str| self.held.get(*id).is_some_and(|it| at.time.since(it.since) > max_age);
        // Escalations do not expire: people must be told, however late.
        let old: Vec<String> = self.queues.ids().filter(too_old).map(str::to_owned).collect();
        for run in old {
            if let Some(held) = self.held.get(&run) {
                let cluster = held.run.cluster.clone();
                self.queues.remove(&cluster, &run);
            }
            self.expire(&run, "it waited for too long for its turn", at, out);
        }
    }

    /// A run that waits, and is in no queue any more, has waited for too long.
    pub(super) fn expire(&mut self, run: &str, why: &str, at: Moment, out: &mut Vec<Effect>) {
        let Some(held) = self.held.get(run) else { return };
        let age = at.time.since(held.since);
        let approval = held.until.map(|until| until.since(held.since));
        let max_age = approval.unwrap_or_else(|| self.max_age());
        if let Some(held) = self.finish(run, RunState::Expired, Some(why.to_owned()), at, out) {
            out.push(Effect::Note(Note::Expired { run: Box::new(held.run), age, max_age }));
        }
    }

    fn has_worker(&self) -> bool {
        let most = usize::try_from(self.responder.limits.max_concurrent_runs).unwrap_or(usize::MAX);
        self.active_total() < most.max(1)
    }

    fn has_worker_for(&self, cluster: &str) -> bool {
        let most = usize::try_from(self.responder.limits.max_per_cluster).unwrap_or(usize::MAX);
        self.active(cluster) < most.max(1)
    }

    /// The next cluster for which something waits that may be started.
    fn whose_turn(&mut self, at: Moment, out: &mut Vec<Effect>) -> Option<String> {
        let clusters: Vec<String> = self.queues.by_turn().map(str::to_owned).collect();
        for cluster in clusters {
            if !self.has_worker_for(&cluster) {
                continue;
            }
            let (allowed, why) = self.budgets.allows(&cluster, at.time);
            if let Some(reason) = why {
                out.push(Effect::Note(Note::BudgetExhausted { cluster: cluster.clone(), reason }));
            }
            if allowed {
                return Some(cluster);
            }
        }
        None
    }

    /// Starts steps of escalations in the order they came, but past those whose cluster has no worker free.
    fn start_escalations(&mut self, at: Moment, out: &mut Vec<Effect>) {
        for run in std::mem::take(&mut self.lane) {
            let Some(held) = self.held.get(&run) else { continue };
            let rule = self.responder.rules.get(held.rule);
            let needs_worker = !matches!(rule.and_then(|it| does(it, held.run.step)), Some(Does::Sends(_)));
            if needs_worker && !(self.has_worker() && self.has_worker_for(&held.run.cluster)) {
                self.lane.push_back(run);
                continue;
            }
            self.start(&run, at, out);
        }
    }

    /// Starts a run that has left its queue.
    fn start(&mut self, run: &str, at: Moment, out: &mut Vec<Effect>) {
        let responder = Arc::clone(&self.responder);
        let Some(held) = self.held.get_mut(run) else { return };
        let Some(rule) = responder.rules.get(held.rule) else { return };
        let Some(does) = does(rule, held.run.step) else { return };
        held.run.state = RunState::Running;
        held.run.reason = None;
        held.run.started_at = Some(at.wall);
        held.well = false;
        match does {
            Does::Sends(to) => {
                out.push(Effect::PutRun(Box::new(held.run.clone())));
                out.push(Effect::Send { run: run.to_owned(), to: to.clone() });
            }
            Does::Runs(program) => {
                held.run.command.clone_from(&program.command);
                out.push(Effect::PutRun(Box::new(held.run.clone())));
                out.push(Effect::Start(Box::new(StartRun {
                    run: held.run.clone(),
                    alert: held.alert.clone(),
                    program: program.clone(),
                    success: success_of(rule, held.run.step),
                })));
                let cluster = held.run.cluster.clone();
                *self.active.entry(cluster.clone()).or_default() += 1;
                self.budgets.started(&cluster, at.time);
                out.push(Effect::Note(Note::Spawned { cluster }));
            }
        }
    }
}
