//! Why a replica is started again, by kind.

use std::fmt;

/// The kind of cause of a restart; the label `reason` of the restart counter (O1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum RestartCause {
    /// Liveness tripped.
    LivenessFailure,
    /// Startup tripped or its deadline passed.
    StartupFailure,
    /// It ended by itself, or could not be spawned.
    Exit,
    /// A changed declaration.
    Policy,
    /// A person asked for it.
    Manual,
}

impl RestartCause {
    /// All of them, in order.
    pub const ALL: [Self; 5] =
        [Self::LivenessFailure, Self::StartupFailure, Self::Exit, Self::Policy, Self::Manual];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LivenessFailure => "liveness_failure",
            Self::StartupFailure => "startup_failure",
            Self::Exit => "exit",
            Self::Policy => "policy",
            Self::Manual => "manual",
        }
    }

    /// Whether a probe caused it (H20).
    #[must_use]
    pub const fn is_probe(self) -> bool {
        matches!(self, Self::LivenessFailure | Self::StartupFailure)
    }

    /// Whether hale decided it by itself: those cost budget.
    #[must_use]
    pub const fn is_automatic(self) -> bool {
        matches!(self, Self::LivenessFailure | Self::StartupFailure | Self::Exit)
    }
}

impl fmt::Display for RestartCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
