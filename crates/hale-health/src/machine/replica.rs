//! One replica: what is known of it, and what it is told.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::{Input, Pause, PauseScope, ProbeState, around::Around, decision::Decision};
use crate::{
    Backoff, Damping, Exit, Hold, Holds, Impossible, Incarnation, Mode, Phase, ProbeKind, ReplicaPolicy,
    RestartCause, RestartWindow, Status, Time, machine::By,
};

/// How many of the last reasons are kept.
const REASONS: usize = 16;

/// What came of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handled {
    /// It was taken.
    Applied,
    /// It was about an earlier start, about a replica that is not there, or changes nothing: dropped.
    Dropped,
}

/// What is left of the present instance, as far as the machine knows.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub(super) enum Life {
    /// Nothing runs.
    #[default]
    Absent,
    /// A start was asked for.
    Spawning,
    /// It runs.
    Up,
    /// It is out of traffic; the stop waits for consumers and for forensics.
    LettingGo { drain_until: Option<Time>, examine_until: Option<Time>, grace: Duration },
    /// The stop was asked for; after one that failed it is asked for again.
    Ending { again_at: Option<Time>, tries: Backoff },
    /// The main process ended; something of the instance may be left.
    Leaving { again_at: Option<Time>, tries: Backoff },
}

/// One run: from spawn to end.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Run {
    pub(super) started_at: Time,
    /// The moment up to which its startup probe has time (H2).
    pub(super) startup_until: Option<Time>,
    /// Since when it has been started and without a failed liveness.
    pub(super) healthy_since: Option<Time>,
    /// Whether it has been so for the minimum uptime.
    pub(super) proved: bool,
    /// It says itself that it is on its way out.
    pub(super) leaving: bool,
}

/// A start to come.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct StartPlan {
    pub(super) cause: Option<RestartCause>,
    pub(super) reason: String,
    /// From the end of the old instance.
    pub(super) backoff: Duration,
    /// Known once the old instance has ended.
    pub(super) not_before: Time,
    /// Whether it costs budget.
    pub(super) counts: bool,
    /// The one attempt of `retryAfter`.
    pub(super) probation: bool,
    /// Asked for by a person: nothing holds it.
    pub(super) by_person: bool,
}

/// What follows the end of the present instance.
#[derive(Debug, Clone, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub(super) enum Next {
    #[default]
    Nothing,
    Start(StartPlan),
    Stop {
        reason: String,
        completed: bool,
    },
    Fail {
        reason: String,
        budget_exhausted: bool,
    },
}

/// A probe that has tripped and whose restart has not begun.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Trip {
    pub(super) kind: ProbeKind,
    pub(super) at: Time,
    pub(super) reason: String,
    /// Told that observe mode suppresses it.
    pub(super) told: bool,
    pub(super) disruption_since: Option<Time>,
    /// After a dependency's recovery restarts are spread (H21).
    pub(super) spread_until: Option<Time>,
}

/// One replica. Everything that a status shows can be read from it; it changes only through its [`super::Workload`].
#[derive(Debug, Clone, PartialEq)]
pub struct Replica {
    pub(super) policy: Arc<ReplicaPolicy>,
    pub(super) phase: Phase,
    pub(super) incarnation: Incarnation,
    pub(super) life: Life,
    pub(super) run: Option<Run>,
    pub(super) probes: [Option<ProbeState>; 3],
    pub(super) trip: Option<Trip>,
    /// Since when what runs it says that it is not well, and what it says.
    pub(super) reported: Option<(Time, String)>,
    pub(super) next: Next,
    /// The start that made the present run.
    pub(super) origin: Option<StartPlan>,
    pub(super) ready: bool,
    pub(super) kept_as_last: bool,
    pub(super) not_ready_since: Option<Time>,
    pub(super) gate_told: bool,
    pub(super) backoff: Backoff,
    pub(super) window: RestartWindow,
    pub(super) damping: Damping,
    pub(super) pauses: Vec<(PauseScope, Pause, Time)>,
    pub(super) holds: Holds,
    pub(super) gate: Holds,
    pub(super) stopped_by: Option<By>,
    pub(super) completed: bool,
    pub(super) spread_next: bool,
    pub(super) blind: bool,
    pub(super) in_probe_restart: bool,
    pub(super) restarts: u64,
    pub(super) failed_in_a_row: u32,
    pub(super) ended_at: Option<Time>,
    pub(super) last_exit: Option<(Exit, Time)>,
    pub(super) last_error: Option<String>,
    pub(super) last_transition: Option<(Time, String)>,
    pub(super) reasons: VecDeque<(Time, String)>,
}

impl Replica {
    pub(super) fn new(policy: Arc<ReplicaPolicy>, last: Incarnation) -> Self {
        let window = RestartWindow::new(policy.restart.max_restarts, policy.restart.window);
        Self {
            policy,
            phase: Phase::Pending,
            incarnation: last,
            life: Life::Absent,
            run: None,
            probes: [None, None, None],
            trip: None,
            reported: None,
            next: Next::Nothing,
            origin: None,
            ready: false,
            kept_as_last: false,
            not_ready_since: None,
            gate_told: false,
            backoff: Backoff::new(),
            window,
            damping: Damping::new(),
            pauses: Vec::new(),
            holds: Holds::new(),
            gate: Holds::new(),
            stopped_by: None,
            completed: false,
            spread_next: false,
            blind: false,
            in_probe_restart: false,
            restarts: 0,
            failed_in_a_row: 0,
            ended_at: None,
            last_exit: None,
            last_error: None,
            last_transition: None,
            reasons: VecDeque::new(),
        }
    }

    pub(super) fn handle(
        &mut self,
        now: Time,
        input: Input,
        around: &mut Around<'_>,
        out: &mut Vec<Decision>,
    ) -> Result<Handled, Impossible> {
        match input {
            Input::Start { by } => self.on_start(now, &by, out),
            Input::Stop { by } => self.on_stop(now, by, out),
            Input::Restart { by } => self.on_restart(now, &by, out),
            Input::Pause { scope, pause } => Ok(self.on_pause(now, scope, pause, out)),
            Input::Resume { scope, by } => Ok(self.on_resume(now, scope, &by, out)),
            Input::Outcome(outcome) => self.on_outcome(now, &outcome, around, out),
            Input::Spawned { incarnation }
            | Input::SpawnFailed { incarnation, .. }
            | Input::Exited { incarnation, .. }
            | Input::Gone { incarnation }
            | Input::StopFailed { incarnation, .. }
            | Input::Drained { incarnation }
            | Input::Examined { incarnation }
            | Input::ExtendStartup { incarnation, .. }
            | Input::Leaving { incarnation }
            | Input::Reported { incarnation, .. }
                if incarnation != self.incarnation =>
            {
                Ok(Handled::Dropped)
            }
            Input::Spawned { .. } => self.on_spawned(now, out),
            Input::SpawnFailed { permanent, excused, detail, .. } => {
                self.on_spawn_failed(now, (permanent, excused), &detail, around, out)
            }
            Input::Exited { exit, .. } => self.on_exited(now, exit, around, out),
            Input::Gone { .. } => self.on_gone(now, around, out),
            Input::StopFailed { detail, .. } => Ok(self.on_stop_failed(now, detail, out)),
            Input::Drained { .. } => Ok(self.on_let_go(true)),
            Input::Examined { .. } => Ok(self.on_let_go(false)),
            Input::ExtendStartup { by, .. } => Ok(self.on_extend_startup(now, by)),
            Input::Leaving { .. } => Ok(self.on_leaving()),
            Input::Reported { healthy, detail, .. } => self.on_reported(now, healthy, detail, out),
        }
    }

    pub(super) fn remember(&mut self, now: Time, reason: &str) {
        if self.reasons.len() == REASONS {
            self.reasons.pop_front();
        }
        self.reasons.push_back((now, reason.to_owned()));
    }

    pub(super) fn observes(&self) -> bool {
        self.policy.mode == Mode::Observe
    }

    pub(super) const fn probe_mut(&mut self, kind: ProbeKind) -> Option<&mut ProbeState> {
        self.probes[kind as usize].as_mut()
    }

    /// What it is doing.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether it may receive traffic.
    #[must_use]
    pub const fn ready(&self) -> bool {
        self.ready
    }

    /// Whether it is in traffic only because it is the last one that might serve (H31).
    #[must_use]
    pub const fn kept_as_last(&self) -> bool {
        self.kept_as_last
    }

    /// Whether an instance of it runs: its process may answer.
    #[must_use]
    pub const fn serving(&self) -> bool {
        matches!(self.life, Life::Up | Life::LettingGo { .. } | Life::Ending { .. })
    }

    /// Whether it is on its way out: out of traffic, perhaps with requests still in flight.
    #[must_use]
    pub const fn draining(&self) -> bool {
        matches!(self.life, Life::LettingGo { .. } | Life::Ending { .. })
    }

    /// Whether damping holds it out of traffic (H23).
    #[must_use]
    pub const fn flapping(&self) -> bool {
        self.damping.is_suppressed()
    }

    /// Whether a person paused it as a whole (H24).
    #[must_use]
    pub fn paused(&self) -> bool {
        self.pause_of(None).is_some()
    }

    /// Whether a restart that a probe caused is going on: it counts against the disruption budget (H20).
    #[must_use]
    pub const fn in_probe_restart(&self) -> bool {
        self.in_probe_restart
    }

    /// The pause that holds this probe, or with `None` the replica as a whole.
    #[must_use]
    pub fn pause_of(&self, probe: Option<ProbeKind>) -> Option<&Pause> {
        self.pauses
            .iter()
            .find(|(scope, ..)| scope.probe().is_none() || scope.probe() == probe)
            .map(|(_, pause, _)| pause)
    }

    /// The first hold on what would be done next.
    #[must_use]
    pub fn held_by(&self) -> Option<&Hold> {
        match (self.holds.first(), self.gate.first()) {
            (Some(action), Some(gate)) => Some(if gate.by < action.by { gate } else { action }),
            (action, gate) => action.or(gate),
        }
    }

    /// Everything that holds the next start or restart, in order of precedence.
    #[must_use]
    pub const fn holds(&self) -> &Holds {
        &self.holds
    }

    /// Restarts since it was declared.
    #[must_use]
    pub const fn restarts(&self) -> u64 {
        self.restarts
    }

    /// Restarts that count against the budget now.
    #[must_use]
    pub fn restarts_in_window(&self, now: Time) -> u32 {
        self.window.count(now)
    }

    /// How its last run ended, and when.
    #[must_use]
    pub const fn last_exit(&self) -> Option<(Exit, Time)> {
        self.last_exit
    }

    /// What went wrong last, in one line: `liveness: timeout 3/3`.
    #[must_use]
    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// The last change of phase or readiness: when and why.
    #[must_use]
    pub fn last_transition(&self) -> Option<(Time, &str)> {
        self.last_transition.as_ref().map(|(at, reason)| (*at, reason.as_str()))
    }

    /// The last reasons, oldest first; at most 16 are kept (H26).
    pub fn reasons(&self) -> impl Iterator<Item = (Time, &str)> {
        self.reasons.iter().map(|(at, reason)| (*at, reason.as_str()))
    }

    /// What is known of a probe; `None` where the replica has none of this kind.
    #[must_use]
    pub const fn probe(&self, kind: ProbeKind) -> Option<&ProbeState> {
        self.probes[kind as usize].as_ref()
    }

    /// The number of its last start; zero: never started.
    #[must_use]
    pub const fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// When its present run began.
    #[must_use]
    pub fn started_at(&self) -> Option<Time> {
        let runs = matches!(self.life, Life::Up | Life::LettingGo { .. } | Life::Ending { .. });
        self.run.as_ref().filter(|_| runs).map(|run| run.started_at)
    }

    /// When the next start is due, while one waits for nothing but its time.
    #[must_use]
    pub fn next_start(&self) -> Option<Time> {
        match &self.next {
            Next::Start(plan) if self.life == Life::Absent || self.phase == Phase::Failed => {
                Some(plan.not_before)
            }
            _ => None,
        }
    }

    /// Whether it ended by itself, being done (H14).
    #[must_use]
    pub const fn completed(&self) -> bool {
        self.completed
    }

    /// On whose behalf it was stopped last, until it is started again.
    #[must_use]
    pub const fn stopped_by(&self) -> Option<&By> {
        self.stopped_by.as_ref()
    }

    /// The settings it is decided by.
    #[must_use]
    pub fn policy(&self) -> &ReplicaPolicy {
        &self.policy
    }

    /// Whether what the probes said is too old to be believed: a probe that should ask has had no outcome for more
    /// than three periods (H10, H28), or the node can't believe its own probes (H22).
    #[must_use]
    pub fn stale(&self, now: Time) -> bool {
        let active: &[ProbeKind] = match self.phase {
            Phase::Running | Phase::Unhealthy => &[ProbeKind::Liveness, ProbeKind::Readiness],
            _ => return false,
        };
        self.blind
            || active.iter().any(|kind| {
                let (Some(state), Some(timing)) = (self.probe(*kind), self.policy.probe(*kind)) else {
                    return false;
                };
                self.pause_of(Some(*kind)).is_none() && state.is_stale(timing, now)
            })
    }

    /// How it is (H28): healthy is running and ready, or ended on purpose; failing is `failed`; stale is unknown.
    #[must_use]
    pub fn status(&self, now: Time) -> Status {
        match self.phase {
            Phase::Failed => Status::Failing,
            Phase::Stopped => Status::Healthy,
            _ if self.stale(now) => Status::Unknown,
            Phase::Running if self.ready && !self.flapping() && self.pauses.is_empty() => Status::Healthy,
            _ => Status::Degraded,
        }
    }
}
