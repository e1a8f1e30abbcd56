//! Where alerts come from (R1–R3). Each source is a task that connects, listens, and begins anew when that ends; what it
//! hears goes to the driver through one bounded channel, and waits there while the driver is busy.

use hale_api::runs::Resource;
use tokio::sync::oneshot;

use crate::alert::RawAlert;

/// What a source heard.
#[derive(Debug)]
pub struct Heard {
    /// Which source.
    pub source: String,
    /// What.
    pub what: What,
    /// Where the source goes on after this one; stored in the same write (R3).
    pub cursor: Option<String>,
    /// Told once it is durable, or why it was not taken: a sender waits for its answer.
    pub answer: Option<oneshot::Sender<Taken>>,
}

/// See [`Heard`].
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// An alert.
    Alert(Box<RawAlert>),
    /// The resource is well again, as the source says (R10).
    Recovered(Resource),
    /// A message that can't be read as an alert.
    Unreadable(String),
    /// Nothing of interest: only the cursor has moved.
    Nothing,
}

/// What became of something heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is durable, or needs not be.
    Yes,
    /// The queue is full (R5, `reject`): to be sent again later.
    Full,
    /// It is no alert.
    Invalid,
}

/// Why a connection failed (R3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorClass {
    /// It can't be reached, or the connection was lost.
    Network,
    /// It answered with a failure of its own.
    Server,
    /// It did not answer in time.
    Timeout,
    /// It does not believe us.
    Auth,
    /// What it says makes no sense.
    Protocol,
}

impl ErrorClass {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Network, Self::Server, Self::Timeout, Self::Auth, Self::Protocol];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Server => "server",
            Self::Timeout => "timeout",
            Self::Auth => "auth",
            Self::Protocol => "protocol",
        }
    }
}

/// How the connection of a source changed; for readiness, metrics and log lines (R14, R16, R17).
#[derive(Debug, Clone, PartialEq)]
pub enum Link {
    /// It is connected; a webhook: it listens. After a loss: for how long it was not.
    Up {
        /// Seconds without a connection; absent: the first one.
        downtime: Option<f64>,
    },
    /// It was connected, for so long, and is not any more.
    Down {
        /// Seconds.
        lasted: f64,
        /// Why.
        class: ErrorClass,
        /// In words.
        error: String,
        /// Seconds until the next attempt.
        retry_in: f64,
    },
    /// An attempt failed.
    Failed {
        /// Why.
        class: ErrorClass,
        /// In words.
        error: String,
        /// The number of the attempt since the last connection, from 1.
        attempt: u32,
        /// Seconds until the next one.
        retry_in: f64,
    },
}

/// What the driver's channel carries.
#[derive(Debug)]
pub enum Message {
    /// Something was heard.
    Heard(Heard),
    /// A connection changed.
    Link(String, Link),
}
