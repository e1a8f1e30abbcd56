//! Where alerts come from (R1–R3). Each source is a task that connects, listens, and begins anew when that ends; what it
//! hears goes to the driver through one bounded channel, and waits there while the driver is busy.
//!
//! ```text
//! mcp, hale, sse ─► connect (waits, backoff) ─┐
//!                                             ├─► Message ─► the driver
//! webhook ─► listener ─► forms ───────────────┘     ▲ Taken: a webhook's sender is answered once it is durable
//! ```

mod connect;
mod decode;
mod hale;
pub(crate) mod http;
mod mcp;
mod plain;
mod sse;
mod webhook;

use std::{net::SocketAddr, time::Duration};

use hale_api::{Client, runs::Resource};
use hale_model::spec::{Source, SourceKind};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::alert::RawAlert;
use connect::{Line, keep};

/// How sources are connected to (R3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceSettings {
    /// The wait before the second attempt; each further one is twice as long.
    pub initial_delay: Duration,
    /// The longest wait. Whoever does not believe us is asked again this rarely from the beginning.
    pub max_delay: Duration,
    /// How often an MCP server is asked whether the subscription is still there (R2).
    pub check_every: Duration,
}

impl Default for SourceSettings {
    fn default() -> Self {
        Self {
            initial_delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(60),
            check_every: Duration::from_secs(30),
        }
    }
}

/// What a source starts with.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// How it is connected to.
    pub settings: SourceSettings,
    /// Where it goes on, as the last [`Heard::cursor`] that was stored says; absent: from now on.
    pub cursor: Option<String>,
    /// The hale that the responder is a part of.
    pub own_hale: Option<Client>,
    /// Of the chance in the waits: one for each source, so that not all come back at once.
    pub seed: u64,
    /// Told where a webhook listens, each time it begins to.
    pub listening: Option<watch::Sender<Option<SocketAddr>>>,
}

/// Says whether a source can be started at all: a webhook that anyone could call is refused (R1).
///
/// # Errors
/// Why not, and what to do about it.
pub fn verify(source: &Source) -> Result<(), String> {
    match &source.kind {
        SourceKind::Webhook(webhook) => webhook::verify(&source.name, webhook),
        SourceKind::Mcp(_) | SourceKind::Hale(_) | SourceKind::Sse(_) => Ok(()),
    }
}

/// Starts the task of one source. It ends when `end` is cancelled, at once; a webhook answers those who wait with 503
/// first. One that [`verify`] refuses says so as a failed connection, and ends.
pub fn start(
    source: &Source,
    context: Context,
    out: mpsc::Sender<Message>,
    end: CancellationToken,
) -> JoinHandle<()> {
    let line = Line::new(&source.name, out, &context.settings, context.seed);
    match source.kind.clone() {
        SourceKind::Mcp(mcp) => {
            let mcp = mcp::Mcp::new(mcp, context.settings.check_every);
            tokio::spawn(keep(mcp, line, end))
        }
        SourceKind::Hale(hale) => {
            let hale = hale::Hale::new(hale, context.own_hale, context.cursor.as_deref());
            tokio::spawn(keep(hale, line, end))
        }
        SourceKind::Sse(sse) => tokio::spawn(keep(sse::Sse::new(sse, context.cursor), line, end)),
        SourceKind::Webhook(webhook) => tokio::spawn(webhook::run(webhook, context.listening, line, end)),
    }
}

/// Asks a source whether a resource is healthy (R10). `None`: this kind of source, or of resource, can't be asked; it
/// tells by [`What::Recovered`], or a program does.
///
/// # Errors
/// The source can't be reached, or refuses.
pub async fn healthy(
    source: &Source,
    own_hale: Option<&Client>,
    resource: &Resource,
) -> Result<Option<bool>, String> {
    match &source.kind {
        SourceKind::Hale(of) => hale::healthy(of, own_hale, resource).await,
        SourceKind::Mcp(_) | SourceKind::Sse(_) | SourceKind::Webhook(_) => Ok(None),
    }
}

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It is durable, or needs not be.
    Yes,
    /// The queue is full (R5, `reject`): to be sent again later.
    Full,
    /// It is no alert, and why not.
    Invalid(String),
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
