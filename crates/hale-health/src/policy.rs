//! The settings decisions are made by. Plain values with the defaults of the rules; reading them is `hale-model`'s.

use std::time::Duration;

use crate::ProbeKind;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// When a probe asks and how many answers it takes to change a verdict (H2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeTiming {
    /// From the start of the replica to the first check.
    pub initial_delay: Duration,
    /// From the start of one check to the start of the next; above zero.
    pub period: Duration,
    /// The longest one check may take; above zero.
    pub timeout: Duration,
    /// Consecutive successes that turn the verdict to good; at least 1, exactly 1 but for readiness.
    pub success_threshold: u32,
    /// Consecutive failures that turn the verdict to bad; at least 1.
    pub failure_threshold: u32,
    /// The grace of a restart that this probe causes, where it differs from the workload's.
    pub grace: Option<Duration>,
}

impl ProbeTiming {
    /// The defaults of a kind (H2): period / timeout / failures / successes are startup 1 s / 5 s / 30 / 1,
    /// liveness 10 s / 3 s / 3 / 1, readiness 5 s / 2 s / 3 / 1.
    #[must_use]
    pub const fn default_for(kind: ProbeKind) -> Self {
        let (period, timeout, failure_threshold) = match kind {
            ProbeKind::Startup => (1, 5, 30),
            ProbeKind::Liveness => (10, 3, 3),
            ProbeKind::Readiness => (5, 2, 3),
        };
        Self {
            initial_delay: Duration::ZERO,
            period: secs(period),
            timeout: secs(timeout),
            success_threshold: 1,
            failure_threshold,
            grace: None,
        }
    }

    /// How long a startup probe may go without success (H2): failure threshold × period.
    #[must_use]
    pub fn startup_deadline(&self) -> Duration {
        self.period.saturating_mul(self.failure_threshold)
    }
}

/// M failures among the last N outcomes: a verdict on what fails now and then (N12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureWindow {
    /// So many failures make the verdict bad; from 1 to `of`.
    pub failures: u32,
    /// Of so many outcomes; at most [`Self::MOST`].
    pub of: u32,
}

impl FailureWindow {
    /// The longest window.
    pub const MOST: u32 = 64;
}

/// What a target is decided by beside its timing (N12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TargetPolicy {
    /// In place of failures in a row.
    pub window: Option<FailureWindow>,
    /// The period while a verdict is being made; not above the usual one.
    pub fast_period: Option<Duration>,
}

/// Whether a replica that ended is started again (H14).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RestartMode {
    /// Always, after exit 0 too.
    #[default]
    Always,
    /// After anything but exit 0; a failed liveness is a failure.
    OnFailure,
    /// Never: exit 0 is stopped, anything else failed.
    Never,
}

/// What happens when the restart budget is used up (H16).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnExhausted {
    /// The replica is given up: `failed`.
    #[default]
    Fail,
    /// It is held until the window frees a slot.
    Wait,
}

/// Which restarts count against the budget (H16).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BudgetCounts {
    /// Every automatic attempt.
    #[default]
    All,
    /// Only those after runs shorter than the minimum uptime.
    Short,
}

/// Backoff before restart n (H15).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BackoffPolicy {
    /// The first wait; zero is allowed.
    pub initial: Duration,
    /// The longest wait.
    pub max: Duration,
    /// What each wait is multiplied by to give the next; at least 1.
    pub multiplier: f64,
    /// The share of the wait that chance may add or take, 0 to 1.
    pub jitter: f64,
}

impl Default for BackoffPolicy {
    fn default() -> Self {
        Self { initial: secs(1), max: secs(60), multiplier: 2.0, jitter: 0.0 }
    }
}

/// How a replica is restarted and when it is given up (H14 to H16).
#[derive(Debug, Clone, PartialEq)]
pub struct RestartPolicy {
    /// Whether it is started again.
    pub mode: RestartMode,
    /// How many restarts the window allows.
    pub max_restarts: u32,
    /// The sliding window of the budget.
    pub window: Duration,
    /// Whether the workload itself says how many; else its node may have a default of its own (N18).
    pub max_restarts_given: bool,
    /// Whether the workload itself says how long the window is.
    pub window_given: bool,
    /// How long a run must have been healthy for its restart to have succeeded.
    pub min_uptime: Duration,
    /// The wait before each restart.
    pub backoff: BackoffPolicy,
    /// What happens when the budget is used up.
    pub on_exhausted: OnExhausted,
    /// Which restarts count.
    pub counts: BudgetCounts,
    /// Exit codes after which a restart is pointless; 125 is one unless the file says otherwise.
    pub permanent_failure_codes: Vec<i32>,
    /// One attempt per interval once `failed`, outside the budget; off by default.
    pub retry_after: Option<Duration>,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            mode: RestartMode::Always,
            max_restarts: 10,
            window: secs(600),
            max_restarts_given: false,
            window_given: false,
            min_uptime: secs(10),
            backoff: BackoffPolicy::default(),
            on_exhausted: OnExhausted::Fail,
            counts: BudgetCounts::All,
            permanent_failure_codes: vec![125],
            retry_after: None,
        }
    }
}

/// Flap damping (H23).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DampingPolicy {
    /// Above this penalty a replica is held out of traffic.
    pub suppress: f64,
    /// Below this one it comes back.
    pub reuse: f64,
    /// In this time the penalty halves.
    pub half_life: Duration,
    /// After so long it comes back whatever the penalty.
    pub max_hold: Duration,
}

impl Default for DampingPolicy {
    fn default() -> Self {
        Self { suppress: 6.0, reuse: 2.0, half_life: secs(120), max_hold: secs(600) }
    }
}

/// Whether probe verdicts are acted on (H27).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// They are.
    #[default]
    Act,
    /// They are recorded, with what would have been done; starts and restarts after exits go on.
    Observe,
}

/// How a replica is stopped (H18).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopPolicy {
    /// The longest wait for consumers to let go of it before the stop signal.
    pub drain: Duration,
    /// From the stop signal to SIGKILL.
    pub grace: Duration,
}

impl Default for StopPolicy {
    fn default() -> Self {
        Self { drain: Duration::ZERO, grace: secs(30) }
    }
}

/// Everything one replica's lifecycle is decided by.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ReplicaPolicy {
    /// The startup probe, if there is one.
    pub startup: Option<ProbeTiming>,
    /// The liveness probe, if there is one.
    pub liveness: Option<ProbeTiming>,
    /// The readiness probe, if there is one.
    pub readiness: Option<ProbeTiming>,
    /// How it is restarted.
    pub restart: RestartPolicy,
    /// How it is stopped.
    pub stop: StopPolicy,
    /// Flap damping of its readiness.
    pub damping: DampingPolicy,
    /// Whether probe verdicts are acted on.
    pub mode: Mode,
}

impl ReplicaPolicy {
    /// The timing of a kind of probe, if the replica has one.
    #[must_use]
    pub const fn probe(&self, kind: ProbeKind) -> Option<&ProbeTiming> {
        match kind {
            ProbeKind::Startup => self.startup.as_ref(),
            ProbeKind::Liveness => self.liveness.as_ref(),
            ProbeKind::Readiness => self.readiness.as_ref(),
        }
    }
}

/// What holds for a workload as a whole (H20, H21).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkloadPolicy {
    /// Ready replicas that liveness restarts never go below; `None`: replicas − 1, and 0 for one replica.
    pub min_available: Option<u32>,
    /// Probe-caused restarts that may go on at once; `None`: max(1, 25 % of the replicas).
    pub max_concurrent_restarts: Option<u32>,
    /// The longest a restart is held by the disruption budget.
    pub max_hold: Duration,
}

impl Default for WorkloadPolicy {
    fn default() -> Self {
        Self { min_available: None, max_concurrent_restarts: None, max_hold: secs(600) }
    }
}

impl WorkloadPolicy {
    /// The ready replicas that liveness restarts of this many never go below (H20).
    #[must_use]
    pub fn min_available(&self, replicas: u32) -> u32 {
        self.min_available.unwrap_or_else(|| replicas.saturating_sub(1))
    }

    /// How many probe-caused restarts of this many may go on at once (H20).
    #[must_use]
    pub fn max_concurrent_restarts(&self, replicas: u32) -> u32 {
        self.max_concurrent_restarts.unwrap_or(replicas / 4).max(1)
    }
}
