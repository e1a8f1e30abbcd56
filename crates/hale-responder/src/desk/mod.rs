//! Every decision about alerts and runs (R4–R7, R10–R12): pure. What happened and the time go in, what is to be done
//! comes out; the same inputs give the same outputs.
//!
//! ```text
//!                 ┌─ invalid, filtered, duplicate, refused
//! heard ─► rule ──┼─ observe ─► observed
//!                 ├─ approve ─► awaiting approval ─┬─ no ─► rejected      too late ─► expired
//!                 │                                ▼ yes
//!                 └─ act ─────────────────────► queued ──► dropped, expired
//!                                                  │ next
//!                    failed, timed out, ◄── ended ─┴ running ──► succeeded
//!                    interrupted                       │            ▲ recovered
//!                                                      └► recovering┴─► ineffective
//!     failed, timed out, ineffective ─► the next step of the escalation, as a run of its own
//! ```
//!
//! What the rules leave open is settled so:
//!
//! * **Duplicates.** A run that is not final claims its resource: every alert on it that a rule wants is attached to the
//!   run, whatever its kind of fault; but one that waits for a person claims its own kind of fault alone. Afterwards the fingerprint's window, counted from the alert that was accepted,
//!   attaches to the last run of its escalation. What never had a chance (dropped, rejected, expired, interrupted) is
//!   forgotten, so that the next alert gets a run.
//! * **A full queue** makes its own oldest give way. Where all queues together are full, the oldest of the longest does,
//!   so that a busy cluster never takes a quiet one's place; between queues of the same length the newcomer's own, when
//!   something waits in it.
//! * **The failure breaker** counts what rules' own programs came to: failed, timed out, and ineffective too, since a
//!   program that ends well and mends nothing is not to be run on and on. Interrupted runs say nothing. Steps of an
//!   escalation neither open nor close it: a pager that works does not mean that runs do. While a probe is out no
//!   other is let through, for as long as the probe may take to recover.
//! * **Escalations** wait in a lane of their own that is served before the queues: neither breaker nor budget hold
//!   them back, since people must be told. Programs among them keep to `maxConcurrentRuns` and `maxPerCluster`; webhooks
//!   need no worker. They are durable, do not expire, and what was being sent at a restart is sent again. The artifact is asked of the rule's own
//!   program only; the health signal of every program.
//! * **The health signal** counts from the moment it is heard: while the program still runs it is remembered until the
//!   program ends, unless another alert on that resource comes meanwhile.
//! * **A restart** interrupts what ran, watches again what recovered, for the time that is left, and keeps what waited.
//!   What is queued by a rule that does not act by itself any more expires. The breaker stands as recent runs left it, and so do budgets. A wall clock that was put back makes nothing older.

mod approvals;
mod breakers;
mod budget;
mod endings;
mod intake;
mod next;
mod queues;
mod restore;
mod rules;
mod seen;
mod state;
#[cfg(test)]
mod tests;

use std::time::Duration;

use hale_api::runs::{Alert, AlertRecord, Run};
use hale_health::Time;
use hale_model::spec::{AlertSeverity, Program, Remote, SuccessWhen};
use jiff::Timestamp;

pub use self::{
    approvals::DecideError,
    state::{Desk, DeskSettings},
};

/// What time it is, by both clocks: decisions are made by the first, records by the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Since the machine was started.
    pub time: Time,
    /// On the wall.
    pub wall: Timestamp,
}

/// What is to be done, in this order. The driver writes all `Put`s of a batch, durably, before it does anything else.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// An alert is on record.
    PutAlert(Box<AlertRecord>),
    /// A run is on record, new or changed.
    PutRun(Box<Run>),
    /// A run's program is started.
    Start(Box<StartRun>),
    /// It is asked again and again whether a resource is healthy, until [`Effect::Unwatch`] (R10).
    Watch(Box<WatchRun>),
    /// It is not asked any more.
    Unwatch {
        /// The run.
        run: String,
    },
    /// A run's record is sent somewhere: a step of an escalation.
    Send {
        /// The run of that step.
        run: String,
        /// Where to.
        to: Remote,
    },
    /// Something is counted and said.
    Note(Note),
}

/// See [`Effect::Start`].
#[derive(Debug, Clone, PartialEq)]
pub struct StartRun {
    /// The run, in state running.
    pub run: Run,
    /// Its alert.
    pub alert: Alert,
    /// What is run.
    pub program: Program,
    /// When it is a success.
    pub success: SuccessWhen,
}

/// See [`Effect::Watch`].
#[derive(Debug, Clone, PartialEq)]
pub struct WatchRun {
    /// The run, in state recovering.
    pub run: Run,
    /// Its alert.
    pub alert: Alert,
    /// The program that tells; absent: the source is asked, or tells by itself.
    pub when: Option<Program>,
}

/// The two breakers (R7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Breaker {
    /// Open while a queue refuses.
    Capacity,
    /// Open after failed runs in a row.
    Failure,
}

impl Breaker {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Capacity, Self::Failure];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Capacity => "capacity",
            Self::Failure => "failure",
        }
    }
}

/// How a breaker stands, as the metric has it: 0, 1, 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// Everything passes.
    Closed,
    /// Nothing does.
    Open,
    /// One probe run does.
    HalfOpen,
}

/// Why an alert led to no run (the label `reason` of `events_filtered_total`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FilterReason {
    /// Cluster, severity or resource are missing or make no sense.
    Invalid,
    /// No rule wants one of so little severity.
    Severity,
    /// No rule matches it.
    NoRule,
    /// A rule would match, but not now.
    Schedule,
    /// It is the same as one before.
    Duplicate,
}

impl FilterReason {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Invalid, Self::Severity, Self::NoRule, Self::Schedule, Self::Duplicate];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Severity => "severity",
            Self::NoRule => "no_rule",
            Self::Schedule => "schedule",
            Self::Duplicate => "duplicate",
        }
    }
}

/// Something that is counted (R16), said in the log (R17), and for some told as an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Note {
    /// An alert came; of an invalid one the severity is `warning`.
    Received {
        /// Its cluster.
        cluster: String,
        /// Its severity.
        severity: AlertSeverity,
    },
    /// An alert led to no run.
    Filtered {
        /// Its cluster.
        cluster: String,
        /// Why.
        reason: FilterReason,
        /// In words.
        detail: String,
    },
    /// An alert was queued.
    Queued {
        /// Its cluster.
        cluster: String,
    },
    /// A run left its queue to be started.
    Dequeued {
        /// Its cluster.
        cluster: String,
    },
    /// A queued run, or one that waited for a person, was too old.
    Expired {
        /// The run.
        run: Box<Run>,
        /// How long it waited.
        age: Duration,
        /// How long it might have.
        max_age: Duration,
    },
    /// A full queue made the oldest give way, or refused the new one.
    Overflowed {
        /// The cluster.
        cluster: String,
        /// The alert that is lost.
        alert: String,
        /// Whether it was the new one.
        refused: bool,
    },
    /// A program is started.
    Spawned {
        /// Its cluster.
        cluster: String,
    },
    /// A run has come to its end; its state is final. Not told of runs that were never started.
    Completed {
        /// The run.
        run: Box<Run>,
    },
    /// A breaker changed. One note per opening.
    Breaker {
        /// Which.
        breaker: Breaker,
        /// How it stands now.
        state: BreakerState,
        /// Why.
        reason: String,
    },
    /// A run waits for a person.
    AwaitsApproval {
        /// The run.
        run: Box<Run>,
    },
    /// A run is held back by the budget; told once per spell.
    BudgetExhausted {
        /// The cluster.
        cluster: String,
        /// In words.
        reason: String,
    },
}
