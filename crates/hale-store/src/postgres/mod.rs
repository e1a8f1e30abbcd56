//! PostgreSQL: any number of servers write to one database (S3).
//!
//! Of several hosts the primary is found by asking all, and found again whenever one is lost. What must hold whatever
//! the network and the hosts do:
//! - Nothing is acknowledged before `COMMIT` was answered by a primary. No timeout of the *server* stands over a
//!   commit: it would end its wait for the synchronous standby, and then say that it was done. Ours drops the connection.
//! - A commit without an answer is asked for once the lock of the numbers is taken again, which waits for its end.
//! - A host with an older timeline than one that was written to is a primary of the past, and is left alone.

mod engine;
mod feed;
mod hosts;
mod primary;
mod read;
mod schema;
mod write;

pub(crate) use engine::Engine;
pub(crate) use feed::{follow, read_events};
pub(crate) use primary::Primary;
pub(crate) use read::Reader;

use std::{future::Future, io, time::Duration};

/// How long one statement may take before its host is taken for lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// On which servers tell each other of commits.
const CHANNEL: &str = "hale";

/// Gives a host that hangs up.
async fn bounded<T>(asked: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    within(PATIENCE, asked).await
}

async fn within<T>(
    patience: Duration,
    asked: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(patience, asked).await {
        Ok(answer) => answer,
        Err(_) => {
            let error = io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {patience:?}"));
            Err(sqlx::Error::Io(error))
        }
    }
}
