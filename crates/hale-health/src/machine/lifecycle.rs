//! From spawn to end of an instance, and what follows.

use std::time::Duration;

use super::{
    Decision, Dependency, Handled, Note, ProbeState, Replica,
    around::Around,
    replica::{Life, Next, Run, StartPlan},
};
use crate::{
    Backoff, BackoffPolicy, BudgetCounts, Exit, Impossible, Incarnation, Move, OnExhausted, Phase, ProbeKind,
    RestartCause, RestartMode, Time,
};

/// How long forensics may take (H25).
pub(crate) const EXAMINE: Duration = Duration::from_secs(2);

impl Replica {
    /// Moves to another phase, with its reason.
    pub(super) fn step(
        &mut self,
        now: Time,
        event: Move,
        reason: &str,
        out: &mut Vec<Decision>,
    ) -> Result<(), Impossible> {
        let from = self.phase;
        let to = event.from(from)?;
        self.phase = to;
        self.last_transition = Some((now, reason.to_owned()));
        self.remember(now, &format!("{from} → {to}: {reason}"));
        if matches!(to, Phase::Running | Phase::Failed | Phase::Stopping) {
            self.in_probe_restart = false;
        }
        out.push(Decision::Transition { from, to, incarnation: self.incarnation, reason: reason.to_owned() });
        Ok(())
    }

    /// Asks for a start: a new incarnation, with counters at zero (H6).
    pub(super) fn spawn(
        &mut self,
        now: Time,
        plan: StartPlan,
        out: &mut Vec<Decision>,
    ) -> Result<(), Impossible> {
        self.incarnation = self.incarnation.next();
        self.step(now, Move::Spawn, &plan.reason, out)?;
        self.life = Life::Spawning;
        self.run = None;
        self.trip = None;
        self.reported = None;
        self.next = Next::Nothing;
        self.completed = false;
        self.gate_told = false;
        self.spread_next = false;
        self.gate = crate::Holds::new();
        self.probes = ProbeKind::ALL.map(|kind| self.policy.probe(kind).map(ProbeState::new));
        if plan.counts {
            self.window.record(now);
        }
        if plan.cause.is_some() {
            self.restarts += 1;
        }
        out.push(Decision::Note(Note::Starting { reason: plan.reason.clone(), restarts: self.restarts }));
        out.push(Decision::Spawn { incarnation: self.incarnation, reason: plan.reason.clone() });
        self.origin = Some(plan);
        Ok(())
    }

    pub(super) fn on_spawned(&mut self, now: Time, out: &mut Vec<Decision>) -> Result<Handled, Impossible> {
        if self.life != Life::Spawning {
            return Ok(Handled::Dropped);
        }
        let wanted = self.phase == Phase::Starting;
        self.came_up(now, out)?;
        if !wanted {
            // A stop or a restart was asked for while it was being spawned.
            let reason = self.last_transition.as_ref().map_or_else(String::new, |(_, reason)| reason.clone());
            self.let_go(now, None, &reason, out);
        }
        Ok(Handled::Applied)
    }

    pub(super) fn came_up(&mut self, now: Time, out: &mut Vec<Decision>) -> Result<(), Impossible> {
        self.life = Life::Up;
        let startup_until =
            self.policy.startup.as_ref().map(|timing| now + timing.initial_delay + timing.startup_deadline());
        self.run =
            Some(Run { started_at: now, startup_until, healthy_since: None, proved: false, leaving: false });
        if self.phase != Phase::Starting {
            return Ok(());
        }
        if let Some((plan, cause)) = self.origin.as_ref().and_then(|plan| Some((plan, plan.cause?))) {
            out.push(Decision::Note(Note::Restarted {
                reason: plan.reason.clone(),
                cause,
                restarts: self.restarts,
                restarts_in_window: self.window.count(now),
                max_restarts: self.policy.restart.max_restarts,
                down: self.ended_at.map_or(Duration::ZERO, |ended| now.since(ended)),
            }));
        }
        if self.policy.startup.is_some() {
            self.start_probe(now, ProbeKind::Startup, out);
            Ok(())
        } else {
            self.started(now, "spawned", out)
        }
    }

    /// It has started: liveness and readiness begin (H3).
    pub(super) fn started(
        &mut self,
        now: Time,
        reason: &str,
        out: &mut Vec<Decision>,
    ) -> Result<(), Impossible> {
        self.step(now, Move::Started, reason, out)?;
        let startup = self.run.as_ref().map_or(Duration::ZERO, |run| now.since(run.started_at));
        if let Some(run) = &mut self.run {
            run.healthy_since = Some(now);
            run.startup_until = None;
        }
        out.push(Decision::Note(Note::Running { reason: reason.to_owned(), startup }));
        self.start_probe(now, ProbeKind::Readiness, out);
        self.start_probe(now, ProbeKind::Liveness, out);
        Ok(())
    }

    /// Begins a probe of the present run, if the replica has one of this kind. Only liveness is spread (H10).
    pub(super) fn start_probe(&mut self, now: Time, kind: ProbeKind, out: &mut Vec<Decision>) {
        let (Some(timing), Some(run)) = (self.policy.probe(kind).copied(), &self.run) else { return };
        let first_after = (run.started_at + timing.initial_delay).since(now);
        let spread = kind == ProbeKind::Liveness;
        let slack = if spread { timing.period } else { Duration::ZERO };
        if let Some(probe) = self.probe_mut(kind) {
            probe.heard_at = Some(now + first_after + slack);
        }
        out.push(Decision::StartProbe { kind, incarnation: self.incarnation, first_after, spread });
    }

    pub(super) fn on_spawn_failed(
        &mut self,
        now: Time,
        (permanent, excused): (bool, bool),
        detail: &str,
        around: &mut Around<'_>,
        out: &mut Vec<Decision>,
    ) -> Result<Handled, Impossible> {
        if self.life != Life::Spawning {
            return Ok(Handled::Dropped);
        }
        self.life = Life::Absent;
        self.ended_at = Some(now);
        let reason = format!("start failed: {detail}");
        self.last_error = Some(reason.clone());
        if self.phase == Phase::Starting {
            self.judge_run(now, &reason, out);
            self.step(now, Move::Exit, &reason, out)?;
            self.next = if permanent || self.policy.restart.mode == RestartMode::Never {
                Next::Fail { reason, budget_exhausted: false }
            } else {
                let counts = !excused && self.costs_budget(RestartCause::Exit, around);
                self.plan_counting(now, RestartCause::Exit, (reason, counts), around, out)
            };
        }
        self.finish(now, out)?;
        Ok(Handled::Applied)
    }

    pub(super) fn on_exited(
        &mut self,
        now: Time,
        exit: Exit,
        around: &mut Around<'_>,
        out: &mut Vec<Decision>,
    ) -> Result<Handled, Impossible> {
        match self.life {
            Life::Absent | Life::Leaving { .. } => return Ok(Handled::Dropped),
            // The exit overtook the word that it was spawned.
            Life::Spawning => self.came_up(now, out)?,
            _ => {}
        }
        let uptime = self.run.as_ref().map_or(Duration::ZERO, |run| now.since(run.started_at));
        let expected = matches!(self.phase, Phase::Stopping | Phase::Restarting);
        self.last_exit = Some((exit, now));
        self.ended_at = Some(now);
        let reason = format!("{exit} after {}", brief(uptime));
        self.take_out(now, &reason, out);
        self.life = Life::Leaving { again_at: None, tries: Backoff::new() };
        out.push(Decision::Note(Note::Exited { exit, expected, uptime }));
        if !expected && self.phase != Phase::Failed {
            self.last_error = Some(reason.clone());
            self.follow_exit(now, exit, reason, around, out)?;
        }
        Ok(Handled::Applied)
    }

    /// Decides what follows an end that nobody asked for (H14).
    fn follow_exit(
        &mut self,
        now: Time,
        exit: Exit,
        reason: String,
        around: &mut Around<'_>,
        out: &mut Vec<Decision>,
    ) -> Result<(), Impossible> {
        let was_unhealthy = self.phase == Phase::Unhealthy || self.trip.is_some();
        self.drop_trip(now, "it exited", out);
        let mode = self.policy.restart.mode;
        let clean = exit.is_success() && !was_unhealthy;
        if clean && mode != RestartMode::Always {
            let reason = format!("completed: {reason}");
            self.step(now, Move::Complete, &reason, out)?;
            self.next = Next::Stop { reason, completed: true };
            return Ok(());
        }
        self.judge_run(now, &reason, out);
        self.step(now, Move::Exit, &reason, out)?;
        let permanent =
            exit.code.filter(|code| self.policy.restart.permanent_failure_codes.contains(code)).is_some();
        self.next = if permanent {
            Next::Fail { reason: format!("{reason}: a permanent failure code"), budget_exhausted: false }
        } else if mode == RestartMode::Never {
            Next::Fail { reason: format!("{reason}: restart policy never"), budget_exhausted: false }
        } else {
            self.plan_restart(now, RestartCause::Exit, reason, around, out)
        };
        Ok(())
    }

    /// Plans an automatic restart, or giving up where the budget does not allow one (H16).
    pub(super) fn plan_restart(
        &mut self,
        now: Time,
        cause: RestartCause,
        reason: String,
        around: &mut Around<'_>,
        out: &mut Vec<Decision>,
    ) -> Next {
        let counts = self.costs_budget(cause, around);
        self.plan_counting(now, cause, (reason, counts), around, out)
    }

    /// The same, where it is known whether it costs budget.
    fn plan_counting(
        &mut self,
        now: Time,
        cause: RestartCause,
        (reason, counts): (String, bool),
        around: &mut Around<'_>,
        out: &mut Vec<Decision>,
    ) -> Next {
        if self.on_probation() {
            return Next::Fail {
                reason: format!("{reason}: the probation attempt failed"),
                budget_exhausted: false,
            };
        }
        if counts && self.window.is_full(now) && self.policy.restart.on_exhausted == OnExhausted::Fail {
            return Next::Fail { reason: self.exhausted_text(&reason), budget_exhausted: true };
        }
        let backoff = self.backoff.next(&self.policy.restart.backoff, around.chance.draw());
        let plan = StartPlan {
            cause: Some(cause),
            reason,
            backoff,
            not_before: now + backoff,
            counts,
            probation: false,
            by_person: false,
        };
        self.tell_restarting(now, &plan, out);
        Next::Start(plan)
    }

    /// Whether the present run is the one attempt of `retryAfter`, and has not proved itself.
    pub(super) fn on_probation(&self) -> bool {
        self.origin.as_ref().is_some_and(|plan| plan.probation)
            && !self.run.as_ref().is_some_and(|run| run.proved)
    }

    /// Whether an automatic restart now would count against the budget.
    pub(super) fn costs_budget(&self, cause: RestartCause, around: &Around<'_>) -> bool {
        let dependency_fails =
            cause == RestartCause::Exit && matches!(around.dependency, Dependency::Failing { .. });
        let proved = self.run.as_ref().is_some_and(|run| run.proved);
        let short_only = self.policy.restart.counts == BudgetCounts::Short;
        !(dependency_fails || short_only && proved)
    }

    pub(super) fn exhausted_text(&self, reason: &str) -> String {
        let restart = &self.policy.restart;
        format!(
            "{reason}; the budget of {} restarts in {} is used up",
            restart.max_restarts,
            brief(restart.window)
        )
    }

    /// A restarted run that ends before its minimum uptime is a failed restart (H16).
    pub(super) fn judge_run(&mut self, now: Time, reason: &str, out: &mut Vec<Decision>) {
        let is_restart = self.origin.as_ref().is_some_and(|plan| plan.cause.is_some());
        if !is_restart || self.run.as_ref().is_some_and(|run| run.proved) {
            return;
        }
        self.failed_in_a_row = self.failed_in_a_row.saturating_add(1);
        out.push(Decision::Note(Note::RestartFailed {
            reason: reason.to_owned(),
            uptime: self.run.as_ref().map_or(Duration::ZERO, |run| now.since(run.started_at)),
            failed_in_a_row: self.failed_in_a_row,
        }));
    }

    pub(super) fn on_gone(
        &mut self,
        now: Time,
        around: &mut Around<'_>,
        out: &mut Vec<Decision>,
    ) -> Result<Handled, Impossible> {
        match self.life {
            Life::Absent => return Ok(Handled::Dropped),
            Life::Leaving { .. } => {}
            // Nobody saw it end.
            _ => {
                self.on_exited(now, Exit::default(), around, out)?;
            }
        }
        self.life = Life::Absent;
        self.finish(now, out)?;
        Ok(Handled::Applied)
    }

    /// Nothing is left of the instance: what was to follow follows.
    pub(super) fn finish(&mut self, now: Time, out: &mut Vec<Decision>) -> Result<(), Impossible> {
        match self.next.clone() {
            Next::Nothing => Ok(()),
            Next::Start(mut plan) => {
                if self.phase == Phase::Stopping {
                    self.step(now, Move::Ended, "ended, to be started again", out)?;
                }
                if self.phase != Phase::Failed {
                    plan.not_before = self.ended_at.unwrap_or(now) + plan.backoff;
                    self.next = Next::Start(plan);
                }
                Ok(())
            }
            Next::Stop { reason, completed } => {
                self.step(now, Move::Ended, &reason, out)?;
                self.next = Next::Nothing;
                self.completed = completed;
                let exit = self.last_exit.map(|(exit, _)| exit).filter(|_| self.run.is_some());
                out.push(Decision::Note(Note::Stopped { reason, exit, completed }));
                Ok(())
            }
            Next::Fail { reason, budget_exhausted } => self.give_up(now, reason, budget_exhausted, out),
        }
    }

    /// Gives it up. A live instance is left as it is: giving up never ends a run (H16).
    pub(super) fn give_up(
        &mut self,
        now: Time,
        reason: String,
        budget_exhausted: bool,
        out: &mut Vec<Decision>,
    ) -> Result<(), Impossible> {
        self.step(now, Move::GiveUp, &reason, out)?;
        self.last_error = Some(reason.clone());
        self.next = match self.policy.restart.retry_after {
            None => Next::Nothing,
            Some(wait) => Next::Start(StartPlan {
                cause: Some(RestartCause::Exit),
                reason: format!("one attempt after {} failed", brief(wait)),
                backoff: Duration::ZERO,
                not_before: now + wait,
                counts: false,
                probation: true,
                by_person: false,
            }),
        };
        let last_reasons = self.reasons.iter().rev().take(5).rev().map(|(_, text)| text.clone()).collect();
        out.push(Decision::Note(Note::Failed { reason, last_reasons, budget_exhausted }));
        Ok(())
    }

    /// Takes it out of traffic and ends its probing.
    pub(super) fn take_out(&mut self, now: Time, reason: &str, out: &mut Vec<Decision>) {
        self.gate = crate::Holds::new();
        self.set_ready(now, false, reason, out);
        if matches!(self.life, Life::Up) {
            out.push(Decision::StopProbes { incarnation: self.incarnation, only: None });
        }
    }

    /// Begins to end a live instance: out of traffic, drain, forensics where a probe tripped; the stop itself follows
    /// as soon as both are done (H18, H25).
    pub(super) fn let_go(
        &mut self,
        now: Time,
        tripped: Option<ProbeKind>,
        reason: &str,
        out: &mut Vec<Decision>,
    ) {
        if self.life == Life::Spawning {
            return;
        }
        self.take_out(now, reason, out);
        let drain = self.policy.stop.drain;
        let own_grace = tripped.and_then(|kind| self.policy.probe(kind)).and_then(|timing| timing.grace);
        let (mut drain_until, mut examine_until) = (None, None);
        if !drain.is_zero() {
            drain_until = Some(now + drain);
            out.push(Decision::Drain { incarnation: self.incarnation, at_most: drain });
        }
        if tripped.is_some() {
            examine_until = Some(now + EXAMINE);
            out.push(Decision::Examine { incarnation: self.incarnation, at_most: EXAMINE });
        }
        let grace = own_grace.unwrap_or(self.policy.stop.grace);
        self.life = Life::LettingGo { drain_until, examine_until, grace };
    }

    pub(super) const fn on_let_go(&mut self, drained: bool) -> Handled {
        match &mut self.life {
            Life::LettingGo { drain_until, .. } if drained => *drain_until = None,
            Life::LettingGo { examine_until, .. } => *examine_until = None,
            _ => return Handled::Dropped,
        }
        Handled::Applied
    }

    pub(super) fn on_stop_failed(&mut self, now: Time, detail: String, out: &mut Vec<Decision>) -> Handled {
        let wait = match &mut self.life {
            Life::Ending { again_at, tries } | Life::Leaving { again_at, tries } => {
                let wait = tries.next(&BackoffPolicy::default(), 0.5);
                *again_at = Some(now + wait);
                wait
            }
            _ => return Handled::Dropped,
        };
        let text = format!("stop failed: {detail}; tried again in {}", brief(wait));
        self.remember(now, &text);
        self.last_error = Some(text);
        out.push(Decision::Note(Note::StopFailed { detail }));
        Handled::Applied
    }

    pub(super) fn on_extend_startup(&mut self, now: Time, by: Duration) -> Handled {
        match self.run.as_mut().and_then(|run| run.startup_until.as_mut()) {
            Some(until) if self.life == Life::Up => {
                *until = (*until).max(now + by);
                Handled::Applied
            }
            _ => Handled::Dropped,
        }
    }

    pub(super) fn on_leaving(&mut self) -> Handled {
        match &mut self.run {
            Some(run) if self.life == Life::Up => {
                run.leaving = true;
                Handled::Applied
            }
            _ => Handled::Dropped,
        }
    }

    /// Continues the numbering of an earlier agent.
    pub(super) fn number_from(&mut self, last: Incarnation) {
        self.incarnation = self.incarnation.max(last);
    }
}

/// A duration in a reason: `250ms`, `12s`, `4m10s`.
pub(super) fn brief(d: Duration) -> String {
    let secs = d.as_secs();
    match secs {
        0 => format!("{}ms", d.as_millis()),
        1..=119 => format!("{secs}s"),
        _ if secs.is_multiple_of(60) => format!("{}m", secs / 60),
        _ => format!("{}m{}s", secs / 60, secs % 60),
    }
}
