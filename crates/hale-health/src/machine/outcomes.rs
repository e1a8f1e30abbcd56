//! What the outcome of a check changes.

use super::{
    Decision, Handled, Note, Observer, Replica,
    around::Around,
    replica::{Life, Trip},
};
use crate::{Impossible, Move, Outcome, Phase, ProbeKind, Reason, Time, Verdict};

impl Replica {
    pub(super) fn on_outcome(
        &mut self,
        now: Time,
        outcome: &Outcome,
        around: &mut Around<'_>,
        out: &mut Vec<Decision>,
    ) -> Result<Handled, Impossible> {
        let kind = outcome.probe;
        let awaited = match self.phase {
            Phase::Starting => kind == ProbeKind::Startup,
            Phase::Running | Phase::Unhealthy => kind != ProbeKind::Startup,
            _ => false,
        };
        let present = outcome.incarnation == self.incarnation && self.life == Life::Up;
        let paused = self.pause_of(Some(kind)).is_some();
        let Some(probe) = self.probe_mut(kind).filter(|_| awaited && present) else {
            return Ok(Handled::Dropped);
        };
        if outcome.started_at < probe.counts_from {
            return Ok(Handled::Dropped);
        }
        if let Verdict::Failure { reason: Reason::ProberError, detail } = &outcome.verdict {
            probe.prober_errors = probe.prober_errors.saturating_add(1);
            probe.last_prober_error = Some(detail.clone());
            if probe.prober_errors == 1 {
                let text = format!("{kind}: prober error: {detail}");
                out.push(Decision::Note(Note::ProberError { probe: kind, detail: detail.clone() }));
                self.remember(now, &text);
            }
            return Ok(Handled::Applied);
        }
        probe.heard(now, outcome);
        let success = outcome.verdict.is_success();
        let blind = !success && matches!(around.observer, Observer::Blind { .. });
        if !(paused || blind) {
            self.count(now, outcome, around, out)?;
        }
        Ok(Handled::Applied)
    }

    /// Feeds an outcome to its threshold.
    fn count(
        &mut self,
        now: Time,
        outcome: &Outcome,
        around: &mut Around<'_>,
        out: &mut Vec<Decision>,
    ) -> Result<(), Impossible> {
        let kind = outcome.probe;
        let success = outcome.verdict.is_success();
        let Some(probe) = self.probe_mut(kind) else { return Ok(()) };
        let (change, over) = probe.feed(outcome);
        if !success {
            let text = format!("{kind}: {}", probe.failure_text());
            // Past the threshold nothing new is said; the chain that led there must not be pushed out by it.
            if probe.threshold.failures() <= probe.threshold.failure_threshold() {
                self.remember(now, &text);
            }
            self.last_error = Some(text);
        }
        if let Some((prior_failure_count, since)) = over {
            let down = now.since(since);
            out.push(Decision::Note(Note::Recovered { probe: kind, prior_failure_count, down }));
        }
        match kind {
            ProbeKind::Startup => self.startup_counted(now, success, change, around, out),
            ProbeKind::Liveness => self.liveness_counted(now, success, change, around, out),
            ProbeKind::Readiness => Ok(()),
        }
    }

    fn startup_counted(
        &mut self,
        now: Time,
        success: bool,
        change: Option<bool>,
        around: &mut Around<'_>,
        out: &mut Vec<Decision>,
    ) -> Result<(), Impossible> {
        if success {
            self.drop_trip(now, "startup succeeded", out);
            out.push(Decision::StopProbes { incarnation: self.incarnation, only: Some(ProbeKind::Startup) });
            return self.started(now, "startup succeeded", out);
        }
        // The deadline may have passed while no check could be made; a real failure now is the answer to it.
        if change == Some(false) || self.startup_overdue(now) {
            self.trip(now, ProbeKind::Startup, around, out);
        }
        Ok(())
    }

    fn liveness_counted(
        &mut self,
        now: Time,
        success: bool,
        change: Option<bool>,
        around: &mut Around<'_>,
        out: &mut Vec<Decision>,
    ) -> Result<(), Impossible> {
        if success {
            // Two sources: it is well when neither says otherwise.
            if self.reported.is_some() {
                return Ok(());
            }
            if self.phase == Phase::Unhealthy {
                self.drop_trip(now, "liveness succeeded", out);
                self.step(now, Move::Recover, "liveness succeeded", out)?;
                let startup = std::time::Duration::ZERO;
                out.push(Decision::Note(Note::Running { reason: "liveness succeeded".to_owned(), startup }));
            }
            self.spread_next = false;
            if let Some(run) = &mut self.run {
                run.healthy_since = run.healthy_since.or(Some(now));
            }
            return Ok(());
        }
        if let Some(run) = &mut self.run {
            run.healthy_since = None;
        }
        if change == Some(false) {
            if self.phase == Phase::Running {
                let reason = self.trip_text(ProbeKind::Liveness);
                self.step(now, Move::Trip, &reason, out)?;
            }
            self.trip(now, ProbeKind::Liveness, around, out);
        }
        Ok(())
    }

    /// `liveness: timeout 3/3`.
    pub(super) fn trip_text(&self, kind: ProbeKind) -> String {
        self.probe(kind).map_or_else(|| kind.to_string(), |probe| format!("{kind}: {}", probe.failure_text()))
    }

    /// Startup or liveness has failed for good: a restart is wanted.
    pub(super) fn trip(
        &mut self,
        now: Time,
        kind: ProbeKind,
        around: &mut Around<'_>,
        out: &mut Vec<Decision>,
    ) {
        if self.trip.is_some() {
            return;
        }
        let mut reason = self.trip_text(kind);
        if kind == ProbeKind::Startup && self.startup_overdue(now) {
            reason.push_str(", its time to start is over");
        }
        let Some(probe) = self.probe(kind) else { return };
        let (probe_reason, detail) = probe
            .last_failure
            .clone()
            .unwrap_or((Reason::Timeout, "no check has succeeded in time".to_owned()));
        out.push(Decision::Note(Note::Unhealthy {
            probe: kind,
            probe_reason,
            detail,
            consecutive_failures: probe.threshold.failures(),
            failure_threshold: probe.threshold.failure_threshold(),
            first_failure_at: probe
                .first_failure_at
                .unwrap_or_else(|| self.run.as_ref().map_or(now, |run| run.started_at)),
        }));
        let spread_until = self.spread_next.then(|| {
            let period = self.policy.probe(kind).map_or(std::time::Duration::ZERO, |timing| timing.period);
            now + period.mul_f64(around.chance.draw())
        });
        self.last_error = Some(reason.clone());
        self.trip = Some(Trip { kind, at: now, reason, told: false, disruption_since: None, spread_until });
    }

    /// Takes a trip back, and tells that what was held is dissolved.
    pub(super) fn drop_trip(&mut self, now: Time, why: &str, out: &mut Vec<Decision>) {
        if self.trip.take().is_some() {
            self.hold(now, "restart", Vec::new(), &format!("dissolved: {why}"), out);
        }
    }

    /// Whether its time to start is over (H2).
    pub(super) fn startup_overdue(&self, now: Time) -> bool {
        self.run.as_ref().and_then(|run| run.startup_until).is_some_and(|until| now >= until)
    }
}
