//! Pauses, and counters that begin anew when something that froze or distorted them is over (H21, H22, H24).

use std::sync::Arc;

use super::{Decision, Handled, Note, Pause, PauseScope, ProbeState, Replica, replica::Life};
use crate::{Phase, ProbeKind, ReplicaPolicy, Time};

impl Replica {
    pub(super) fn on_pause(
        &mut self,
        now: Time,
        scope: PauseScope,
        pause: Pause,
        out: &mut Vec<Decision>,
    ) -> Handled {
        self.remember(now, &format!("paused by {}: {}", pause.by, pause.reason));
        out.push(Decision::Note(Note::Paused { scope, pause: pause.clone() }));
        match self.pauses.iter_mut().find(|(it, ..)| *it == scope) {
            Some((_, present, _)) => *present = pause,
            None => self.pauses.push((scope, pause, now)),
        }
        Handled::Applied
    }

    pub(super) fn on_resume(
        &mut self,
        now: Time,
        scope: PauseScope,
        by: &str,
        out: &mut Vec<Decision>,
    ) -> Handled {
        let Some(at) = self.pauses.iter().position(|(it, ..)| *it == scope) else { return Handled::Dropped };
        self.pauses.remove(at);
        self.remember(now, &format!("resumed by {by}"));
        out.push(Decision::Note(Note::Resumed { scope, by: by.to_owned() }));
        let kinds: Vec<ProbeKind> = match scope {
            PauseScope::Probe(kind) => vec![kind],
            PauseScope::Workload | PauseScope::Replica => ProbeKind::ALL.to_vec(),
        };
        for kind in kinds {
            if self.pause_of(Some(kind)).is_none() {
                self.begin_anew(now, kind, "the pause is over, counters begin at zero", out);
            }
        }
        Handled::Applied
    }

    pub(super) fn expire_pauses(&mut self, now: Time, out: &mut Vec<Decision>) {
        let over = |(_, pause, _): &&(PauseScope, Pause, Time)| pause.until.is_some_and(|until| now >= until);
        while let Some(scope) = self.pauses.iter().find(over).map(|(scope, ..)| *scope) {
            self.on_resume(now, scope, "expired", out);
        }
    }

    /// Begins to count a probe at zero: the present state is decided anew. A trip it caused is taken back; a readiness
    /// that stands stays until answers change it.
    pub(super) fn begin_anew(&mut self, now: Time, kind: ProbeKind, why: &str, out: &mut Vec<Decision>) {
        if self.trip.as_ref().is_some_and(|trip| trip.kind == kind) {
            self.drop_trip(now, why, out);
        }
        let deadline = self.policy.probe(kind).map(crate::ProbeTiming::startup_deadline);
        let held_in = self.ready;
        let Some(probe) = self.probe_mut(kind) else { return };
        if kind == ProbeKind::Readiness {
            probe.threshold.clear_streak();
            if held_in && probe.verdict() == Some(false) {
                probe.threshold = probe.threshold.with_verdict(Some(true));
            }
            probe.counts_from = now;
        } else {
            probe.begin_anew(now);
        }
        probe.heard_at = probe.heard_at.map(|at| at.max(now));
        if kind == ProbeKind::Startup
            && self.phase == Phase::Starting
            && let (Some(run), Some(deadline)) = (&mut self.run, deadline)
        {
            run.startup_until = run.startup_until.map(|until| until.max(now + deadline));
        }
    }

    /// Takes other settings. A probe of the present run whose timing changed begins anew, one that is new begins, one
    /// that is no longer there ends.
    pub(super) fn set_policy(&mut self, now: Time, policy: Arc<ReplicaPolicy>, out: &mut Vec<Decision>) {
        self.window.resize(policy.restart.max_restarts, policy.restart.window);
        let old = std::mem::replace(&mut self.policy, policy);
        let active: &[ProbeKind] = match self.phase {
            _ if self.life != Life::Up => &[],
            Phase::Starting => &[ProbeKind::Startup],
            Phase::Running | Phase::Unhealthy => &[ProbeKind::Readiness, ProbeKind::Liveness],
            _ => &[],
        };
        for kind in ProbeKind::ALL {
            let timing = self.policy.probe(kind).copied();
            if old.probe(kind) == timing.as_ref() {
                continue;
            }
            if self.trip.as_ref().is_some_and(|trip| trip.kind == kind) {
                self.drop_trip(now, "the probe has changed", out);
            }
            let was = self.ready && kind == ProbeKind::Readiness;
            self.probes[kind as usize] = timing.as_ref().map(|timing| {
                let mut probe = ProbeState::new(timing);
                probe.threshold = probe.threshold.with_verdict(was.then_some(true));
                probe.counts_from = now;
                probe
            });
            if !active.contains(&kind) {
                continue;
            }
            if timing.is_some() {
                self.start_probe(now, kind, out);
            } else {
                out.push(Decision::StopProbes { incarnation: self.incarnation, only: Some(kind) });
            }
            if kind == ProbeKind::Startup
                && let Some(run) = &mut self.run
            {
                run.startup_until =
                    timing.map(|timing| now + timing.initial_delay + timing.startup_deadline());
            }
        }
    }

    /// A dependency is no longer failing: counters begin at zero, and the next trip is spread (H21).
    pub(super) fn dependency_released(&mut self, now: Time, out: &mut Vec<Decision>) {
        for kind in [ProbeKind::Startup, ProbeKind::Liveness] {
            self.begin_anew(now, kind, "the dependency has recovered, counters begin at zero", out);
        }
        self.spread_next = true;
    }

    /// The node believes its probes again, or has given up judging: what they said meanwhile is forgotten (H22).
    pub(super) fn observer_changed(&mut self, now: Time, blind: bool, out: &mut Vec<Decision>) {
        self.blind = blind;
        for kind in ProbeKind::ALL {
            self.begin_anew(now, kind, "what the node saw while unwell is forgotten", out);
        }
    }
}
