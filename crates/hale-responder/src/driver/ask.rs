//! Asking whether a resource is healthy again (R10).

use std::time::Duration;

use hale_api::{Client, runs::Resource};
use hale_model::spec::Source;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    exec::{Executor, Job},
    source,
};

/// The longest that a program that tells may take.
pub(super) const LONGEST: Duration = Duration::from_secs(30);

/// How often it is asked: often at first, since most mends show soon.
const EVERY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// Asks a program until it says yes, or is called off (false).
pub(super) async fn program(executor: &Executor, job: &Job, off: &CancellationToken) -> bool {
    let mut every = EVERY.0;
    loop {
        match executor.ask(job, &job.program, job.timeout, off.clone()).await {
            Ok(true) => return true,
            Ok(false) => {}
            Err(why) => tracing::warn!(run = job.run.id, why, "can't ask whether the resource is healthy"),
        }
        if !pause(&mut every, off).await {
            return false;
        }
    }
}

/// Asks the source until it says yes, or is called off. A source that can't be asked tells by itself, or never.
pub(super) async fn source(
    source: &Source,
    own_hale: Option<&Client>,
    resource: &Resource,
    off: &CancellationToken,
) -> bool {
    let mut every = EVERY.0;
    loop {
        let asked = tokio::select! {
            asked = source::healthy(source, own_hale, resource) => asked,
            () = off.cancelled() => return false,
        };
        match asked {
            Ok(Some(true)) => return true,
            Ok(Some(false)) => {}
            Ok(None) => return false,
            Err(why) => {
                tracing::warn!(source = source.name, why, "can't ask whether the resource is healthy")
            }
        }
        if !pause(&mut every, off).await {
            return false;
        }
    }
}

/// False: called off meanwhile.
async fn pause(every: &mut Duration, off: &CancellationToken) -> bool {
    tokio::select! {
        () = sleep(*every) => {}
        () = off.cancelled() => return false,
    }
    *every = (*every * 2).min(EVERY.1);
    true
}
