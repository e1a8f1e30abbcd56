//! What comes out: what is to be done, and what is to be told.

use std::time::Duration;

use crate::{
    Exit, Hold, HoldBy, Incarnation, Pause, PauseScope, Phase, ProbeKind, Reason, RestartCause, Time,
};

/// One thing to carry out or to tell, in order. Each has its reason in words.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Start an instance under this number. Answer with `Spawned` or `SpawnFailed`.
    Spawn {
        /// The number of the start.
        incarnation: Incarnation,
        /// Why.
        reason: String,
    },
    /// Begin to probe, or begin anew with other timing.
    StartProbe {
        /// Which probe.
        kind: ProbeKind,
        /// For which start; its outcomes carry it.
        incarnation: Incarnation,
        /// The earliest first check, from now.
        first_after: Duration,
        /// Whether the first check is spread over a period; else it runs as soon as `first_after` is over (H10).
        spread: bool,
    },
    /// Stop probing. A check that is under way is cancelled: it has no outcome (H10).
    StopProbes {
        /// For which start.
        incarnation: Incarnation,
        /// Only this one; all when absent.
        only: Option<ProbeKind>,
    },
    /// Wait for consumers to let go of it. Answer with `Drained`; after `at_most` the machine goes on by itself.
    Drain {
        /// Which start.
        incarnation: Incarnation,
        /// The longest wait.
        at_most: Duration,
    },
    /// Keep what it is doing (H25). Answer with `Examined`; after `at_most` the machine goes on by itself.
    Examine {
        /// Which start.
        incarnation: Incarnation,
        /// The longest wait.
        at_most: Duration,
    },
    /// Send the stop signal, after the grace SIGKILL. Answer with `Exited` and `Gone`, or `StopFailed`.
    Stop {
        /// Which start.
        incarnation: Incarnation,
        /// From the signal to SIGKILL.
        grace: Duration,
        /// Why.
        reason: String,
    },
    /// Whether it may receive traffic has changed.
    Ready(ReadyChange),
    /// The phase has changed.
    Transition {
        /// From.
        from: Phase,
        /// To.
        to: Phase,
        /// The number of the start it is about.
        incarnation: Incarnation,
        /// Why.
        reason: String,
    },
    /// Something to tell.
    Note(Note),
    /// The replica is no longer wanted and nothing of it is left: forget it.
    Removed,
}

/// A change of readiness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyChange {
    /// Which start.
    pub incarnation: Incarnation,
    /// Whether it may receive traffic now.
    pub ready: bool,
    /// Why: `readiness: timeout 3/3`.
    pub reason: String,
    /// The typed reason, when a probe took it out.
    pub probe_reason: Option<Reason>,
    /// Failures of the readiness probe in a row.
    pub consecutive_failures: u32,
    /// How many it takes; 0 without a readiness probe.
    pub failure_threshold: u32,
    /// When it becomes ready: how long it was not, where it was before.
    pub not_ready_for: Option<Duration>,
    /// Whether it is in traffic only because it is the last one that might serve (H31).
    pub kept_as_last: bool,
}

/// What is told of a replica; each is one event of the stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Note {
    /// A start was asked for.
    Starting {
        /// Why.
        reason: String,
        /// Restarts so far.
        restarts: u64,
    },
    /// It has started, or is well again.
    Running {
        /// Why.
        reason: String,
        /// From spawn to here.
        startup: Duration,
    },
    /// Liveness or startup has tripped.
    Unhealthy {
        /// Which probe.
        probe: ProbeKind,
        /// The typed reason of the last failure.
        probe_reason: Reason,
        /// What was seen.
        detail: String,
        /// Failures in a row.
        consecutive_failures: u32,
        /// How many it takes.
        failure_threshold: u32,
        /// When the first of them began.
        first_failure_at: Time,
    },
    /// A probe that had failed its threshold succeeds again.
    Recovered {
        /// Which probe.
        probe: ProbeKind,
        /// How long the streak was.
        prior_failure_count: u32,
        /// How long it lasted.
        down: Duration,
    },
    /// The process ended.
    Exited {
        /// How.
        exit: Exit,
        /// Whether hale was ending it.
        expected: bool,
        /// How long it ran.
        uptime: Duration,
    },
    /// It is to be started again.
    Restarting {
        /// The chain in one line.
        reason: String,
        /// The kind of cause.
        cause: RestartCause,
        /// Those that count against the budget, with this one.
        restarts_in_window: u32,
        /// The budget.
        max_restarts: u32,
        /// The wait, from the end of the old instance.
        backoff: Duration,
    },
    /// It was started again.
    Restarted {
        /// The chain in one line.
        reason: String,
        /// The kind of cause.
        cause: RestartCause,
        /// Restarts so far, with this one.
        restarts: u64,
        /// Those that count against the budget, with this one.
        restarts_in_window: u32,
        /// The budget.
        max_restarts: u32,
        /// From the end of the old instance to here.
        down: Duration,
    },
    /// A restarted run has been healthy for its minimum uptime (H16).
    RestartSucceeded {
        /// The minimum uptime.
        min_uptime: Duration,
    },
    /// A restarted run ended, or could not begin, before its minimum uptime.
    RestartFailed {
        /// Why.
        reason: String,
        /// How long it ran.
        uptime: Duration,
        /// Failed restarts in a row.
        failed_in_a_row: u32,
    },
    /// Something that would be done is held back.
    Held {
        /// What: `restart`, `start`, `gate`.
        action: &'static str,
        /// By what.
        hold: Hold,
    },
    /// A hold has ended.
    Released {
        /// What was held.
        action: &'static str,
        /// What had held it.
        by: HoldBy,
        /// How long.
        held: Duration,
        /// What happens now: `done`, `dissolved`, or the next that holds.
        outcome: String,
    },
    /// It was given up.
    Failed {
        /// Why.
        reason: String,
        /// The last reasons, newest last.
        last_reasons: Vec<String>,
        /// Whether the restart budget was used up.
        budget_exhausted: bool,
    },
    /// It has ended on purpose.
    Stopped {
        /// Why.
        reason: String,
        /// How it ended, when it ran.
        exit: Option<Exit>,
        /// Whether it ended by itself, being done.
        completed: bool,
    },
    /// The old instance can't be ended.
    StopFailed {
        /// What is left.
        detail: String,
    },
    /// Its readiness flaps: it is held out of traffic (H23).
    Flapping {
        /// The penalty.
        penalty: f64,
        /// Above this one it is held out.
        suppress: f64,
    },
    /// It is let back.
    FlappingEnded {
        /// The penalty.
        penalty: f64,
        /// How long it was held out.
        held: Duration,
    },
    /// A person paused it.
    Paused {
        /// What of it.
        scope: PauseScope,
        /// Who, why, until when.
        pause: Pause,
    },
    /// A pause has ended.
    Resumed {
        /// What of it.
        scope: PauseScope,
        /// Who, or `expired`.
        by: String,
    },
    /// In observe mode: what would have been done (H27).
    WouldHave {
        /// What: `restart`, `gate`.
        action: &'static str,
        /// Why.
        reason: String,
    },
    /// A check could not be made; told once per spell (H10).
    ProberError {
        /// Which probe.
        probe: ProbeKind,
        /// What went wrong.
        detail: String,
    },
    /// A rolling restart ended before its last replica.
    RollingStalled {
        /// Why.
        reason: String,
    },
}
