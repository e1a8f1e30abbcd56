//! What outlives the agent (N6): all that was decided of a replica, as plain data, and going on from there.
//!
//! Moments in it are of the boot it was made in: on another one it is worth nothing but for the number of the last
//! start. What the world did since is told beside it, as [`Found`]: an instance that goes on is taken over as it is, one
//! that ended is an exit at its own time, and one that is nowhere has ended, nobody knows how.

use std::{collections::VecDeque, time::Duration};

use super::{
    By, Decision, Pause, PauseScope, ProbeState, Replica,
    around::Around,
    replica::{Life, Next, Run, StartPlan, Trip},
};
use crate::{Backoff, Damping, Exit, Holds, Impossible, Incarnation, Phase, ProbeKind, RestartCause, Time};

/// Everything that is known of a replica, but for its settings.
#[derive(Debug, Clone, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
pub struct Memento {
    phase: Phase,
    incarnation: Incarnation,
    life: Life,
    run: Option<Run>,
    probes: [Option<ProbeState>; 3],
    trip: Option<Trip>,
    next: Next,
    origin: Option<StartPlan>,
    ready: bool,
    kept_as_last: bool,
    not_ready_since: Option<Time>,
    gate_told: bool,
    backoff: Backoff,
    restarted_at: Vec<Time>,
    damping: Damping,
    pauses: Vec<(PauseScope, Pause, Time)>,
    holds: Holds,
    gate: Holds,
    stopped_by: Option<By>,
    completed: bool,
    spread_next: bool,
    in_probe_restart: bool,
    restarts: u64,
    failed_in_a_row: u32,
    ended_at: Option<Time>,
    last_exit: Option<(Exit, Time)>,
    last_error: Option<String>,
    last_transition: Option<(Time, String)>,
    reasons: VecDeque<(Time, String)>,
}

impl Memento {
    /// The number of its last start.
    #[must_use]
    pub const fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// What it was doing.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Nothing but the number of its last start: what is left of one of another boot.
    #[must_use]
    pub fn only_number(&self) -> Self {
        Self { incarnation: self.incarnation, ..Self::default() }
    }
}

/// What was found of the last instance of a replica when nobody had looked for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Which start.
    pub incarnation: Incarnation,
    /// When it was started.
    pub started_at: Time,
    /// Whether its stop goes on.
    pub stopping: bool,
    /// How and when its main process ended, if it has.
    pub exit: Option<(Exit, Time)>,
    /// Whether nothing of it is left.
    pub gone: bool,
}

impl Replica {
    /// What is to be kept of it, for whoever goes on with it.
    #[must_use]
    pub fn memento(&self) -> Memento {
        Memento {
            phase: self.phase,
            incarnation: self.incarnation,
            life: self.life,
            run: self.run.clone(),
            probes: self.probes.clone(),
            trip: self.trip.clone(),
            next: self.next.clone(),
            origin: self.origin.clone(),
            ready: self.ready,
            kept_as_last: self.kept_as_last,
            not_ready_since: self.not_ready_since,
            gate_told: self.gate_told,
            backoff: self.backoff,
            restarted_at: self.window.taken().collect(),
            damping: self.damping,
            pauses: self.pauses.clone(),
            holds: self.holds.clone(),
            gate: self.gate.clone(),
            stopped_by: self.stopped_by.clone(),
            completed: self.completed,
            spread_next: self.spread_next,
            in_probe_restart: self.in_probe_restart,
            restarts: self.restarts,
            failed_in_a_row: self.failed_in_a_row,
            ended_at: self.ended_at,
            last_exit: self.last_exit,
            last_error: self.last_error.clone(),
            last_transition: self.last_transition.clone(),
            reasons: self.reasons.clone(),
        }
    }

    /// Takes over what was kept. Its settings stay, and what is counted is held against them.
    pub(super) fn recall(&mut self, kept: Memento) {
        kept.restarted_at.iter().for_each(|at| self.window.record(*at));
        let ready = kept.ready;
        let mut probes = kept.probes;
        self.probes = ProbeKind::ALL.map(|kind| {
            let timing = self.policy.probe(kind)?;
            let mut probe = probes[kind as usize].take().unwrap_or_else(|| {
                let mut fresh = ProbeState::new(timing);
                // A readiness that stands stays until answers change it.
                let stands = ready && kind == ProbeKind::Readiness;
                fresh.threshold = fresh.threshold.with_verdict(stands.then_some(true));
                fresh
            });
            probe.threshold = probe.threshold.against(timing.success_threshold, timing.failure_threshold);
            Some(probe)
        });
        self.phase = kept.phase;
        self.incarnation = self.incarnation.max(kept.incarnation);
        self.life = kept.life;
        self.run = kept.run;
        self.trip = kept.trip;
        self.next = kept.next;
        self.origin = kept.origin;
        self.ready = kept.ready;
        self.kept_as_last = kept.kept_as_last;
        self.not_ready_since = kept.not_ready_since;
        self.gate_told = kept.gate_told;
        self.backoff = kept.backoff;
        self.damping = kept.damping;
        self.pauses = kept.pauses;
        self.holds = kept.holds;
        self.gate = kept.gate;
        self.stopped_by = kept.stopped_by;
        self.completed = kept.completed;
        self.spread_next = kept.spread_next;
        self.in_probe_restart = kept.in_probe_restart;
        self.restarts = kept.restarts;
        self.failed_in_a_row = kept.failed_in_a_row;
        self.ended_at = kept.ended_at;
        self.last_exit = kept.last_exit;
        self.last_error = kept.last_error;
        self.last_transition = kept.last_transition;
        self.reasons = kept.reasons;
    }

    /// Goes on from what was recalled, with what the world did since.
    pub(super) fn resume(
        &mut self,
        now: Time,
        found: Option<&Found>,
        around: &mut Around<'_>,
        out: &mut Vec<Decision>,
    ) -> Result<(), Impossible> {
        let Some(found) = found.filter(|it| it.incarnation >= self.incarnation) else {
            return self.resume_without(now, around, out);
        };
        let mut told = Vec::new();
        let lives = found.exit.is_none() && !found.gone;
        if found.incarnation > self.incarnation || (lives && self.life == Life::Absent) {
            self.catch_up(found, &mut told)?;
        }
        match self.life {
            Life::Spawning if found.exit.is_none() => drop(self.on_spawned(found.started_at, &mut told)?),
            Life::Spawning => self.came_up(found.started_at, &mut told)?,
            _ => {}
        }
        // What was begun is begun already, and what is to be asked follows.
        let done = |it: &Decision| matches!(it, Decision::Spawn { .. } | Decision::StartProbe { .. });
        out.extend(told.into_iter().filter(|it| !done(it)));
        if matches!(self.life, Life::Ending { .. }) && !found.stopping {
            // Its stop was decided, but never asked for.
            let grace = self.policy.stop.grace;
            self.life = Life::LettingGo { drain_until: None, examine_until: None, grace };
        }
        let ended = found.exit.map_or(now, |(_, at)| at);
        if let Some((exit, at)) = found.exit {
            self.on_exited(at, exit, around, out)?;
        }
        if found.gone {
            self.on_gone(ended, around, out)?;
        }
        self.ask_again(now, out);
        self.start_forgotten(now, out)
    }

    /// Starts one that had just been declared, and of which nothing was kept yet.
    fn start_forgotten(&mut self, now: Time, out: &mut Vec<Decision>) -> Result<(), Impossible> {
        if self.phase == Phase::Pending && self.life == Life::Absent && self.next == Next::Nothing {
            self.on_start(now, &By::Declaration, out)?;
        }
        Ok(())
    }

    /// Of its last instance there is no trace.
    fn resume_without(
        &mut self,
        now: Time,
        around: &mut Around<'_>,
        out: &mut Vec<Decision>,
    ) -> Result<(), Impossible> {
        match self.life {
            Life::Absent => {}
            Life::Spawning => {
                let detail = "the agent ended before it was carried out";
                self.on_spawn_failed(now, (false, false), detail, around, out)?;
            }
            Life::Up | Life::LettingGo { .. } | Life::Ending { .. } | Life::Leaving { .. } => {
                self.on_gone(now, around, out)?;
            }
        }
        self.start_forgotten(now, out)
    }

    /// A later start than the last one that was kept: what came before it is over.
    fn catch_up(&mut self, found: &Found, out: &mut Vec<Decision>) -> Result<(), Impossible> {
        let at = found.started_at;
        let first = self.incarnation == Incarnation::default();
        self.trip = None;
        self.take_out(at, "a later start of it was found", out);
        let plan = match std::mem::take(&mut self.next) {
            Next::Start(plan) => plan,
            _ => StartPlan {
                cause: (!first).then_some(RestartCause::Exit),
                reason: "found running, started by an earlier agent".to_owned(),
                backoff: Duration::ZERO,
                not_before: at,
                counts: !first,
                probation: false,
                by_person: false,
            },
        };
        self.phase = if first { Phase::Pending } else { Phase::Restarting };
        self.life = Life::Absent;
        self.ended_at = self.ended_at.or((!first).then_some(at));
        self.incarnation = Incarnation(found.incarnation.0 - 1);
        self.spawn(at, plan, out)
    }

    /// Asks the probes of the present run again. Nothing was asked while nobody was there: that is no failure.
    fn ask_again(&mut self, now: Time, out: &mut Vec<Decision>) {
        let active: &[ProbeKind] = match self.phase {
            _ if self.life != Life::Up => return,
            Phase::Starting => &[ProbeKind::Startup],
            Phase::Running | Phase::Unhealthy => &[ProbeKind::Readiness, ProbeKind::Liveness],
            _ => return,
        };
        if let (Phase::Starting, Some(timing), Some(run)) =
            (self.phase, self.policy.startup.as_ref(), self.run.as_mut())
        {
            let again = now + timing.startup_deadline();
            run.startup_until = Some(run.startup_until.map_or(again, |until| until.max(again)));
        }
        for kind in active {
            self.start_probe(now, *kind, out);
            let Some(Decision::StartProbe { kind: of, spread, .. }) = out.last_mut() else { continue };
            // Many replicas are adopted at once (H10); but what is not known yet is asked at once.
            let known = self.probes[*kind as usize].as_ref().is_some_and(|it| it.verdict().is_some());
            *spread |= known && of == kind;
            if let Some(timing) = self.policy.probe(*kind).copied()
                && let Some(heard) = self.probe_mut(*kind).and_then(|it| it.heard_at.as_mut())
            {
                *heard = (*heard).max(now + timing.period);
            }
        }
    }
}
