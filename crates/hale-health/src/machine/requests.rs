//! What persons and declarations ask of a replica: start, stop, restart.

use super::{
    By, Decision, Handled, Note, Replica,
    replica::{Life, Next, StartPlan},
};
use crate::{Hold, HoldBy, Impossible, Move, Phase, RestartCause, Time};

impl Replica {
    pub(super) fn on_start(
        &mut self,
        now: Time,
        by: &By,
        out: &mut Vec<Decision>,
    ) -> Result<Handled, Impossible> {
        let plan = asked_start(now, by, None, format!("started {by}"));
        match self.phase {
            Phase::Starting | Phase::Running | Phase::Unhealthy => {
                Err(Impossible { event: Move::Spawn, phase: self.phase })
            }
            Phase::Stopped | Phase::Stopping if !self.may_leave_stop(by) => Ok(Handled::Dropped),
            Phase::Failed if self.life != Life::Absent => self.on_restart(now, by, out),
            Phase::Restarting if !by.is_person() => Ok(Handled::Dropped),
            _ => {
                self.forget_past();
                self.next = Next::Start(plan);
                Ok(Handled::Applied)
            }
        }
    }

    pub(super) fn on_restart(
        &mut self,
        now: Time,
        by: &By,
        out: &mut Vec<Decision>,
    ) -> Result<Handled, Impossible> {
        if matches!(self.phase, Phase::Stopped | Phase::Stopping) && !self.may_leave_stop(by) {
            return Ok(Handled::Dropped);
        }
        let cause = if by.is_person() { RestartCause::Manual } else { RestartCause::Policy };
        let plan = asked_start(now, by, Some(cause), format!("restarted {by}"));
        self.forget_past();
        let runs = matches!(self.life, Life::Spawning | Life::Up);
        let moves = matches!(self.phase, Phase::Starting | Phase::Running | Phase::Unhealthy | Phase::Failed);
        if moves && self.life != Life::Absent {
            let reason = plan.reason.clone();
            self.drop_trip(now, "a person or a declaration restarts it", out);
            self.step(now, Move::Restart, &reason, out)?;
            self.tell_restarting(now, &plan, out);
            self.next = Next::Start(plan);
            if runs {
                self.let_go(now, None, &reason, out);
            }
        } else {
            self.next = Next::Start(plan);
        }
        Ok(Handled::Applied)
    }

    pub(super) fn on_stop(
        &mut self,
        now: Time,
        by: By,
        out: &mut Vec<Decision>,
    ) -> Result<Handled, Impossible> {
        let reason = format!("stopped {by}");
        self.drop_trip(now, "stopped", out);
        self.holds = crate::Holds::new();
        if by.is_person() {
            self.holds.add(Hold { by: HoldBy::Person, since: now, until: None, reason: reason.clone() });
        }
        self.stopped_by = Some(by);
        let next = Next::Stop { reason: reason.clone(), completed: false };
        match self.phase {
            Phase::Stopped => {
                self.next = Next::Nothing;
                self.completed = false;
            }
            Phase::Stopping => self.next = next,
            _ => {
                self.step(now, Move::Stop, &reason, out)?;
                self.next = next;
                match self.life {
                    Life::Absent => self.finish(now, out)?,
                    Life::Up => self.let_go(now, None, &reason, out),
                    _ => self.take_out(now, &reason, out),
                }
            }
        }
        Ok(Handled::Applied)
    }

    /// A stop is left by whoever may: a person always; a declaration one that was its own or hale's.
    fn may_leave_stop(&self, by: &By) -> bool {
        by.is_person() || matches!(self.stopped_by, Some(By::Declaration | By::Shutdown))
    }

    /// A person's start or a changed declaration clears window, backoff and `failed` (H16), and a stop.
    fn forget_past(&mut self) {
        self.window.clear();
        self.backoff.reset();
        self.failed_in_a_row = 0;
        self.stopped_by = None;
        self.completed = false;
        self.holds = crate::Holds::new();
    }

    pub(super) fn tell_restarting(&self, now: Time, plan: &StartPlan, out: &mut Vec<Decision>) {
        let Some(cause) = plan.cause else { return };
        out.push(Decision::Note(Note::Restarting {
            reason: plan.reason.clone(),
            cause,
            restarts_in_window: self.window.count(now).saturating_add(u32::from(plan.counts)),
            max_restarts: self.policy.restart.max_restarts,
            backoff: plan.backoff,
        }));
    }
}

const fn asked_start(now: Time, by: &By, cause: Option<RestartCause>, reason: String) -> StartPlan {
    StartPlan {
        cause,
        reason,
        backoff: std::time::Duration::ZERO,
        not_before: now,
        counts: false,
        probation: false,
        by_person: by.is_person(),
    }
}
