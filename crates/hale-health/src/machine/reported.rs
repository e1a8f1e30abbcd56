//! What runs a replica says how it is: a container's own HEALTHCHECK (N5), one more liveness source beside the probe.
//!
//! Such a source counts for itself and has thresholds of its own: what is told is a state, not an outcome. It is kept as
//! one, so that a pause, a doubt of the node or a start that is still going on delays what follows, and loses nothing.

use std::time::Duration;

use super::{
    Decision, Handled, Note, Replica,
    around::Around,
    replica::{Life, Trip},
};
use crate::{Impossible, Move, Phase, ProbeKind, Reason, Time};

/// How often such a check is made where nothing else is said: restarts after a dependency's recovery are spread so far.
const PERIOD: Duration = Duration::from_secs(30);

impl Replica {
    pub(super) fn on_reported(
        &mut self,
        now: Time,
        healthy: bool,
        detail: String,
        out: &mut Vec<Decision>,
    ) -> Result<Handled, Impossible> {
        if self.life != Life::Up {
            return Ok(Handled::Dropped);
        }
        if !healthy {
            let since = self.reported.as_ref().map_or(now, |(since, _)| *since);
            self.reported = Some((since, detail));
            return Ok(Handled::Applied);
        }
        let kind = ProbeKind::Liveness;
        let since = self.reported.take().map(|(since, _)| since);
        // What an earlier driver was told is not remembered; without a probe nothing else has made it unhealthy.
        if since.is_none() && !(self.phase == Phase::Unhealthy && self.probe(kind).is_none()) {
            return Ok(Handled::Dropped);
        }
        let down = since.map_or(Duration::ZERO, |since| now.since(since));
        out.push(Decision::Note(Note::Recovered { probe: kind, prior_failure_count: 1, down }));
        let probe_fails = self.probe(kind).is_some_and(|probe| probe.verdict() == Some(false));
        if self.phase == Phase::Unhealthy && !probe_fails {
            self.drop_trip(now, &detail, out);
            self.step(now, Move::Recover, &detail, out)?;
            let startup = Duration::ZERO;
            out.push(Decision::Note(Note::Running { reason: detail, startup }));
        }
        if let Some(run) = self.run.as_mut().filter(|_| !probe_fails) {
            run.healthy_since = run.healthy_since.or(Some(now));
        }
        Ok(Handled::Applied)
    }

    /// Wants a restart while it is said to be unwell, as soon as nothing stands in the way of believing that.
    pub(super) fn check_reported(
        &mut self,
        now: Time,
        around: &mut Around<'_>,
        out: &mut Vec<Decision>,
    ) -> Result<(), Impossible> {
        let kind = ProbeKind::Liveness;
        let believed = self.life == Life::Up
            && matches!(self.phase, Phase::Running | Phase::Unhealthy)
            && self.pause_of(Some(kind)).is_none()
            && !self.blind;
        let Some((since, detail)) = self.reported.clone().filter(|_| believed && self.trip.is_none()) else {
            return Ok(());
        };
        if let Some(run) = &mut self.run {
            run.healthy_since = None;
        }
        let reason = format!("{kind}: {detail}");
        if self.phase == Phase::Running {
            self.step(now, Move::Trip, &reason, out)?;
        }
        out.push(Decision::Note(Note::Unhealthy {
            probe: kind,
            probe_reason: Reason::CheckFailed,
            detail,
            consecutive_failures: 1,
            failure_threshold: 1,
            first_failure_at: since,
        }));
        self.last_error = Some(reason.clone());
        let spread_until = self.spread_next.then(|| now + PERIOD.mul_f64(around.chance.draw()));
        self.trip = Some(Trip { kind, at: now, reason, told: false, disruption_since: None, spread_until });
        Ok(())
    }
}
