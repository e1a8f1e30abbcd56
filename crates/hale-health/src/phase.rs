//! What a replica is doing.

use std::{fmt, str::FromStr};

use crate::UnknownWord;

/// What a replica is doing (H12). Kept apart from its health and from how old that knowledge is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Phase {
    /// Waits for placement, a dependency or an image.
    #[default]
    Pending,
    /// Spawned, its startup probe has not succeeded yet.
    Starting,
    /// Started; liveness has not tripped.
    Running,
    /// Liveness has tripped; it is about to be restarted, or that is held.
    Unhealthy,
    /// The old instance is being stopped, or the next start waits (backoff, hold).
    Restarting,
    /// Being stopped for good.
    Stopping,
    /// Ended on purpose; a person starts it again.
    Stopped,
    /// Given up on; left by a person, `retryAfter`, or another placement.
    Failed,
}

impl Phase {
    /// All of them, in order.
    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::Starting,
        Self::Running,
        Self::Unhealthy,
        Self::Restarting,
        Self::Stopping,
        Self::Stopped,
        Self::Failed,
    ];

    /// The word for it in files, API, events and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Unhealthy => "unhealthy",
            Self::Restarting => "restarting",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Phase {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        Self::ALL.into_iter().find(|it| it.as_str() == word).ok_or(UnknownWord)
    }
}
