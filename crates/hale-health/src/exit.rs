//! How a replica ended.

use std::fmt;

/// How a replica's main process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Exit {
    /// Its exit status, when it ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether the kernel killed it, or a child of it, for want of memory.
    pub oom: bool,
}

impl Exit {
    /// Ended by itself with a status.
    #[must_use]
    pub const fn code(code: i32) -> Self {
        Self { code: Some(code), signal: None, oom: false }
    }

    /// Ended by a signal.
    #[must_use]
    pub const fn signal(signal: i32) -> Self {
        Self { code: None, signal: Some(signal), oom: false }
    }

    /// Whether it ended by itself with status 0.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(self.code, Some(0)) && !self.oom
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.oom {
            f.write_str("out of memory, ")?;
        }
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit {code}"),
            (None, Some(signal)) => write!(f, "signal {signal}"),
            (None, None) => f.write_str("exit status lost"),
        }
    }
}
