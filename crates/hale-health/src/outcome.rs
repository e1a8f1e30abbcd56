//! The result of one check.

use std::{fmt, str::FromStr, time::Duration};

use crate::{Incarnation, Reason, Time, UnknownWord};

/// What a probe is for (H1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ProbeKind {
    /// Holds back the other two until it has succeeded (H3).
    Startup,
    /// Restarts (H4).
    Liveness,
    /// Gates traffic, never restarts (H5).
    Readiness,
}

impl ProbeKind {
    /// All of them, in order.
    pub const ALL: [Self; 3] = [Self::Startup, Self::Liveness, Self::Readiness];

    /// The word for it in events, API and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
        }
    }
}

impl fmt::Display for ProbeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ProbeKind {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        Self::ALL.into_iter().find(|it| it.as_str() == word).ok_or(UnknownWord)
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Verdict {
    /// It is as it should be.
    Success,
    /// It is not. [`Reason::ProberError`] stands for a check that could not be made: it changes no verdict (H10).
    Failure {
        /// Why, from the closed list.
        reason: Reason,
        /// What was seen, at most 1 KiB (H11).
        detail: String,
    },
}

impl Verdict {
    /// A failure. The detail is cut to 1 KiB, on a character boundary.
    #[must_use]
    pub fn failure(reason: Reason, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        detail.truncate(detail.floor_char_boundary(1024));
        Self::Failure { reason, detail }
    }

    /// Whether it is a success.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(self, Self::Success)
    }
}

/// The result of one check: of which instance and probe, what it found, when it began and how long it took.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Outcome {
    /// The start it was made for; an outcome of an earlier start is dropped (H6).
    pub incarnation: Incarnation,
    /// What the check was for.
    pub probe: ProbeKind,
    /// What it found.
    pub verdict: Verdict,
    /// When the check began.
    pub started_at: Time,
    /// How long it took.
    pub took: Duration,
}
