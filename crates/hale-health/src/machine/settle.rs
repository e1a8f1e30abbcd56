//! Deciding anew: after every input and at every deadline, what is due is done.

use super::{
    Decision, Note, Observer, ReadyChange, Replica,
    around::Around,
    replica::{Life, Next},
};
use crate::{
    Damped, Hold, HoldBy, Impossible, Move, OnExhausted, Phase, ProbeKind, RestartCause, RestartMode, Time,
};

impl Replica {
    /// Does everything that is due now.
    pub(super) fn settle(
        &mut self,
        now: Time,
        around: &mut Around<'_>,
        out: &mut Vec<Decision>,
    ) -> Result<(), Impossible> {
        self.expire_pauses(now, out);
        self.prove(now, out);
        if self.phase == Phase::Starting && self.life == Life::Up && self.policy.startup.is_none() {
            self.started(now, "its startup probe was taken away", out)?;
        }
        self.check_startup_deadline(now, around, out);
        self.check_reported(now, around, out)?;
        self.decide_trip(now, around, out)?;
        self.decide_ready(now, around, out);
        self.proceed_stop(now, out);
        self.decide_start(now, around, out)
    }

    /// When something is due next without any input.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        let mut due: Vec<Time> = self.pauses.iter().filter_map(|(_, pause, _)| pause.until).collect();
        due.extend(self.damping.next_deadline(&self.policy.damping));
        due.extend(self.holds.next_deadline());
        match self.life {
            Life::LettingGo { drain_until, examine_until, .. } => due.extend(drain_until.max(examine_until)),
            Life::Ending { again_at, .. } | Life::Leaving { again_at, .. } => due.extend(again_at),
            Life::Up if self.phase == Phase::Failed => due.extend(self.next_start()),
            Life::Up => {
                due.extend(self.startup_deadline());
                due.extend(self.proved_at());
            }
            Life::Absent | Life::Spawning => {}
        }
        due.into_iter().min()
    }

    /// The minimum uptime: the restart has succeeded, the backoff begins anew (H16).
    fn prove(&mut self, now: Time, out: &mut Vec<Decision>) {
        if self.proved_at().is_none_or(|at| now < at) {
            return;
        }
        if let Some(run) = &mut self.run {
            run.proved = true;
        }
        self.backoff.reset();
        self.failed_in_a_row = 0;
        if self.origin.as_ref().is_some_and(|plan| plan.cause.is_some()) {
            let min_uptime = self.policy.restart.min_uptime;
            out.push(Decision::Note(Note::RestartSucceeded { min_uptime }));
        }
    }

    fn proved_at(&self) -> Option<Time> {
        let run = self.run.as_ref().filter(|run| !run.proved && self.life == Life::Up)?;
        let started = matches!(self.phase, Phase::Running | Phase::Unhealthy);
        run.healthy_since.filter(|_| started).map(|since| since + self.policy.restart.min_uptime)
    }

    /// The startup deadline, while it can trip: not while paused or blind, not while no check can be made.
    fn startup_deadline(&self) -> Option<Time> {
        let kind = ProbeKind::Startup;
        let waits =
            self.phase == Phase::Starting && self.trip.is_none() && self.pause_of(Some(kind)).is_none();
        let able = self.probe(kind).is_some_and(|probe| probe.prober_errors == 0) && !self.blind;
        self.run.as_ref().filter(|_| waits && able)?.startup_until
    }

    fn check_startup_deadline(&mut self, now: Time, around: &mut Around<'_>, out: &mut Vec<Decision>) {
        if self.life == Life::Up && self.startup_deadline().is_some_and(|until| now >= until) {
            self.trip(now, ProbeKind::Startup, around, out);
        }
    }

    /// Restarts for a probe that tripped, unless something holds that (H4, H16, H20 to H24).
    fn decide_trip(
        &mut self,
        now: Time,
        around: &mut Around<'_>,
        out: &mut Vec<Decision>,
    ) -> Result<(), Impossible> {
        let Some(mut trip) = self.trip.take() else { return Ok(()) };
        let cause = match trip.kind {
            ProbeKind::Startup => RestartCause::StartupFailure,
            _ => RestartCause::LivenessFailure,
        };
        if self.observes() && !trip.told {
            trip.told = true;
            out.push(Decision::Note(Note::WouldHave { action: "restart", reason: trip.reason.clone() }));
        }
        let mut holds = self.holds_before_budget(now, &trip, around);
        let counts = self.costs_budget(cause, around);
        let never = self.policy.restart.mode == RestartMode::Never;
        let gives_up = counts
            && !never
            && self.window.is_full(now)
            && self.policy.restart.on_exhausted == OnExhausted::Fail
            && !self.on_probation();
        if holds.is_empty() && gives_up {
            self.hold(now, "restart", Vec::new(), "given up", out);
            self.judge_run(now, &trip.reason, out);
            self.take_out(now, &trip.reason, out);
            self.step(now, Move::Restart, &trip.reason, out)?;
            return self.give_up(now, self.exhausted_text(&trip.reason), true, out);
        }
        if !gives_up {
            holds.extend(self.holds_from_budget(now, &mut trip, counts, around));
        }
        if !holds.is_empty() {
            self.hold(now, "restart", holds, "done", out);
            self.trip = Some(trip);
            return Ok(());
        }
        self.hold(now, "restart", Vec::new(), "done", out);
        self.judge_run(now, &trip.reason, out);
        self.step(now, Move::Restart, &trip.reason, out)?;
        self.next = if never {
            Next::Fail { reason: format!("{}: restart policy never", trip.reason), budget_exhausted: false }
        } else {
            self.plan_restart(now, cause, trip.reason.clone(), around, out)
        };
        self.in_probe_restart = true;
        self.let_go(now, Some(trip.kind), &trip.reason, out);
        Ok(())
    }

    /// Asks for the stop once drain and forensics are done, and again after one that failed (H18).
    fn proceed_stop(&mut self, now: Time, out: &mut Vec<Decision>) {
        let incarnation = self.incarnation;
        let reason = self.last_transition.as_ref().map_or_else(String::new, |(_, reason)| reason.clone());
        match &mut self.life {
            Life::LettingGo { drain_until, examine_until, grace }
                if (*drain_until).max(*examine_until).is_none_or(|until| now >= until) =>
            {
                out.push(Decision::Stop { incarnation, grace: *grace, reason });
                self.life = Life::Ending { again_at: None, tries: crate::Backoff::new() };
            }
            Life::Ending { again_at, .. } | Life::Leaving { again_at, .. }
                if again_at.is_some_and(|at| now >= at) =>
            {
                *again_at = None;
                let reason = "the last stop failed".to_owned();
                out.push(Decision::Stop { incarnation, grace: std::time::Duration::ZERO, reason });
            }
            _ => {}
        }
    }

    /// Starts what waits to be started, unless something holds that.
    fn decide_start(
        &mut self,
        now: Time,
        around: &mut Around<'_>,
        out: &mut Vec<Decision>,
    ) -> Result<(), Impossible> {
        let Next::Start(plan) = &self.next else { return Ok(()) };
        let live_failed = self.phase == Phase::Failed && self.life == Life::Up;
        if self.life != Life::Absent && !live_failed {
            return Ok(());
        }
        let plan = plan.clone();
        let holds = self.holds_on_start(now, &plan, around);
        let action = if plan.cause.is_some() { "restart" } else { "start" };
        let free = holds.is_empty();
        self.hold(now, action, holds, "done", out);
        if !free {
            return Ok(());
        }
        if live_failed {
            self.step(now, Move::Restart, &plan.reason, out)?;
            self.tell_restarting(now, &plan, out);
            self.let_go(now, None, &plan.reason, out);
            self.proceed_stop(now, out);
            return Ok(());
        }
        self.spawn(now, plan, out)
    }

    /// Whether it may receive traffic (H5, H22, H23, H27, H31).
    fn decide_ready(&mut self, now: Time, around: &Around<'_>, out: &mut Vec<Decision>) {
        if let Some(Damped::Reused { penalty, held }) = self.damping.tick(&self.policy.damping, now) {
            out.push(Decision::Note(Note::FlappingEnded { penalty, held }));
        }
        let observes = self.observes();
        let runs = self.life == Life::Up
            && (matches!(self.phase, Phase::Running | Phase::Unhealthy)
                || (observes && self.phase == Phase::Starting));
        if !runs {
            return;
        }
        if self.run.as_ref().is_some_and(|run| run.leaving) {
            self.set_ready(now, false, "the process says that it is stopping", out);
            return;
        }
        let verdict = match self.probe(ProbeKind::Readiness) {
            Some(probe) => probe.verdict() == Some(true),
            None => true,
        };
        if observes {
            self.tell_would_gate(verdict, out);
        }
        if verdict || observes {
            self.hold_gate(now, Vec::new(), "dissolved: the probe succeeds again", out);
            self.let_in(now, around, out);
        } else if self.ready {
            self.gate_by_probe(now, around, out);
        }
    }

    fn tell_would_gate(&mut self, verdict: bool, out: &mut Vec<Decision>) {
        let failed = self.probe(ProbeKind::Readiness).is_some_and(|probe| probe.verdict() == Some(false));
        if failed && !self.gate_told {
            let reason = self.trip_text(ProbeKind::Readiness);
            out.push(Decision::Note(Note::WouldHave { action: "gate", reason }));
        }
        self.gate_told = failed && !verdict;
    }

    /// Readiness has failed for good: out of traffic, unless the node doubts its probes.
    fn gate_by_probe(&mut self, now: Time, around: &Around<'_>, out: &mut Vec<Decision>) {
        if let Observer::Suspect { reason, .. } | Observer::Blind { reason } = around.observer {
            let reason = format!("the node doubts its probes: {reason}");
            let hold = Hold { by: HoldBy::Observer, since: now, until: None, reason };
            self.hold_gate(now, vec![hold], "done", out);
            return;
        }
        self.hold_gate(now, Vec::new(), "done", out);
        let reason = self.trip_text(ProbeKind::Readiness);
        self.set_ready(now, false, &reason, out);
        if let Some(Damped::Suppressed { penalty }) = self.damping.flap(&self.policy.damping, now) {
            let suppress = self.policy.damping.suppress;
            out.push(Decision::Note(Note::Flapping { penalty, suppress }));
        }
    }

    /// Probes say that it may serve: into traffic, unless damping holds it out and another one is ready (H23, H31).
    fn let_in(&mut self, now: Time, around: &Around<'_>, out: &mut Vec<Decision>) {
        let suppressed = self.damping.is_suppressed();
        if suppressed && around.others_ready > 0 {
            self.set_ready(now, false, "flapping: held out of traffic", out);
            return;
        }
        let kept = suppressed;
        let reason = match self.probe(ProbeKind::Readiness) {
            _ if kept => "flapping, but the last one that might serve".to_owned(),
            Some(probe) if !self.observes() => {
                format!("readiness: success {}/{}", probe.consecutive_successes(), probe.success_threshold())
            }
            Some(_) => "runs; readiness is only observed".to_owned(),
            None => "runs; no readiness probe".to_owned(),
        };
        self.kept_as_last = kept;
        self.set_ready(now, true, &reason, out);
    }

    /// Changes readiness, if it is a change.
    pub(super) fn set_ready(&mut self, now: Time, ready: bool, reason: &str, out: &mut Vec<Decision>) {
        if self.ready == ready {
            return;
        }
        self.ready = ready;
        self.kept_as_last &= ready;
        self.last_transition = Some((now, reason.to_owned()));
        self.remember(now, &format!("{}: {reason}", if ready { "ready" } else { "not ready" }));
        let probe = self.probe(ProbeKind::Readiness);
        let by_probe = !ready && probe.is_some_and(|probe| probe.verdict() == Some(false));
        let change = ReadyChange {
            incarnation: self.incarnation,
            ready,
            reason: reason.to_owned(),
            probe_reason: probe.and_then(|probe| probe.last_failure()).filter(|_| by_probe).map(|(it, _)| it),
            consecutive_failures: probe.map_or(0, |probe| probe.consecutive_failures()),
            failure_threshold: probe.map_or(0, |probe| probe.failure_threshold()),
            not_ready_for: self.not_ready_since.filter(|_| ready).map(|since| now.since(since)),
            kept_as_last: self.kept_as_last,
        };
        self.not_ready_since = (!ready).then_some(now);
        out.push(Decision::Ready(change));
    }
}
