//! What a replica and a workload are told.

use std::{fmt, time::Duration};

use crate::{Exit, Incarnation, Outcome, ProbeKind, Time};

/// On whose behalf something is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum By {
    /// A person, by name.
    Person(String),
    /// The declaration: it was made, changed, scaled or deleted.
    Declaration,
    /// Hale itself is stopping.
    Shutdown,
}

impl By {
    /// Whether it is a person.
    #[must_use]
    pub const fn is_person(&self) -> bool {
        matches!(self, Self::Person(_))
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person(name) => write!(f, "by {name}"),
            Self::Declaration => f.write_str("by its declaration"),
            Self::Shutdown => f.write_str("as hale stops"),
        }
    }
}

/// What a pause is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum PauseScope {
    /// The whole workload.
    Workload,
    /// One replica.
    Replica,
    /// One probe of one replica.
    Probe(ProbeKind),
}

impl PauseScope {
    /// The probe it is about; `None`: all.
    #[must_use]
    pub const fn probe(self) -> Option<ProbeKind> {
        match self {
            Self::Probe(kind) => Some(kind),
            Self::Workload | Self::Replica => None,
        }
    }
}

/// A pause: who, why, until when (H24).
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Pause {
    /// The person's name.
    pub by: String,
    /// Their reason.
    pub reason: String,
    /// When it ends by itself.
    pub until: Option<Time>,
}

/// What a replica is told. Those with an incarnation are dropped when it is not the present one.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Start it: it was declared, or a person asks.
    Start {
        /// On whose behalf.
        by: By,
    },
    /// End it for good.
    Stop {
        /// On whose behalf.
        by: By,
    },
    /// End it and start it again at once; costs nothing, clears window, backoff and `failed` (H16).
    Restart {
        /// On whose behalf.
        by: By,
    },
    /// The start asked for was carried out.
    Spawned {
        /// Which start.
        incarnation: Incarnation,
    },
    /// The start asked for could not be carried out.
    SpawnFailed {
        /// Which start.
        incarnation: Incarnation,
        /// Whether trying again is pointless (the program is missing, the user does not exist).
        permanent: bool,
        /// Whether what failed is not its own: no engine, no registry. Then trying again costs no budget, and goes on.
        excused: bool,
        /// What was tried and what came back.
        detail: String,
    },
    /// A check has a result.
    Outcome(Outcome),
    /// The main process ended; [`Input::Gone`] follows once nothing of the instance is left.
    Exited {
        /// Which start.
        incarnation: Incarnation,
        /// How.
        exit: Exit,
    },
    /// Nothing of the instance is left.
    Gone {
        /// Which start.
        incarnation: Incarnation,
    },
    /// The instance could not be ended (H18).
    StopFailed {
        /// Which start.
        incarnation: Incarnation,
        /// What is left of it.
        detail: String,
    },
    /// Every consumer has let go of the instance (H18); answers [`crate::Decision::Drain`].
    Drained {
        /// Which start.
        incarnation: Incarnation,
    },
    /// What it was doing has been kept (H25); answers [`crate::Decision::Examine`].
    Examined {
        /// Which start.
        incarnation: Incarnation,
    },
    /// The process asks for more time to start (`EXTEND_TIMEOUT_USEC`, H9).
    ExtendStartup {
        /// Which start.
        incarnation: Incarnation,
        /// From now.
        by: Duration,
    },
    /// The process says that it is on its way out (`STOPPING=1`, H9).
    Leaving {
        /// Which start.
        incarnation: Incarnation,
    },
    /// What runs it checks it by itself (a container's own HEALTHCHECK), and says how it is: one more liveness source.
    /// It has thresholds of its own, so that one word is enough.
    Reported {
        /// Which start.
        incarnation: Incarnation,
        /// Whether it is well.
        healthy: bool,
        /// Who says so, and what was seen.
        detail: String,
    },
    /// A person pauses it, or one probe of it.
    Pause {
        /// What.
        scope: PauseScope,
        /// Who, why, until when.
        pause: Pause,
    },
    /// A person ends a pause.
    Resume {
        /// What.
        scope: PauseScope,
        /// Who.
        by: String,
    },
}

/// What is known of the things a workload depends on (H21). The worst of several counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Dependency {
    /// All are well, or there are none.
    #[default]
    Ok,
    /// Nothing is known of one, or it is stopped or paused on purpose: holds nothing.
    Unknown,
    /// One has not come up for the first time: holds the first start, and nothing else.
    NotYet {
        /// Which.
        name: String,
    },
    /// One is known to be failing: holds the first start and every trip.
    Failing {
        /// Which.
        name: String,
    },
}

/// What the node thinks of its own probes (H22); [`crate::ObserverGuard`] tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Observer {
    /// They can be believed.
    #[default]
    Sound,
    /// Too many failed at once: restarts and taking out of traffic are held. `confirmed`: the node has found itself
    /// unwell, so that counters begin at zero afterwards.
    Suspect {
        /// Whether the node has found itself unwell, rather than still being about to check itself.
        confirmed: bool,
        /// What speaks against it.
        reason: String,
    },
    /// It has been unwell for too long: health is unknown, failures change no verdict.
    Blind {
        /// What speaks against it.
        reason: String,
    },
}

/// What is known of the replicas of the workload on other nodes (H20).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elsewhere {
    /// So many are ready and so many are being restarted; none where there is one node only.
    Known {
        /// Ready replicas on other nodes.
        ready: u32,
        /// Probe-caused restarts going on there.
        restarting: u32,
    },
    /// The server can't be asked: at most one ready replica at a time, and only beside another ready one here.
    Unreachable,
}

impl Default for Elsewhere {
    fn default() -> Self {
        Self::Known { ready: 0, restarting: 0 }
    }
}

/// What a workload as a whole is told.
#[derive(Debug, Clone, PartialEq)]
pub enum WorkloadInput {
    /// Something is known of its dependencies.
    Dependency(Dependency),
    /// The node believes its probes, or does not.
    Observer(Observer),
    /// What goes on on other nodes.
    Elsewhere(Elsewhere),
    /// Start all.
    Start {
        /// On whose behalf.
        by: By,
    },
    /// Stop all.
    Stop {
        /// On whose behalf.
        by: By,
    },
    /// Restart all, one after the other: the next once the one before has been ready for `min_ready`. One that is not
    /// ready within `progress_deadline` ends the round.
    Restart {
        /// On whose behalf.
        by: By,
        /// How long a new run must have been ready.
        min_ready: Duration,
        /// The longest a replica may take to become ready.
        progress_deadline: Duration,
    },
    /// A person pauses all.
    Pause(Pause),
    /// A person ends that pause.
    Resume {
        /// Who.
        by: String,
    },
}
