//! Checks that need more than a socket of the shard: gRPC, exec, a CA file, a name to resolve, a redirect to follow.
//! They are made by tasks of a tokio runtime.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use super::{shard::Shard, state::ProbeId};
use crate::{CheckResult, Checker, Timings, checker::Kind, http::Destination, net::Trace, result::Fault};

/// A check that needs more than a socket.
#[derive(Debug)]
pub(super) struct Departure {
    pub(super) id: ProbeId,
    pub(super) checker: Arc<Checker>,
    pub(super) redirected: Option<(Destination, u8)>,
    pub(super) timeout: Duration,
    /// How much of the timeout is gone already.
    pub(super) spent: Duration,
}

impl Departure {
    /// Makes the check.
    pub(super) async fn run(self) -> CheckResult {
        match (&self.checker.kind, self.redirected) {
            (Kind::Http(check), Some((to, hops))) => {
                let began = Instant::now().checked_sub(self.spent).unwrap_or_else(Instant::now);
                check.run_from(to, hops, Trace::resume(began).within(self.timeout), self.timeout).await
            }
            _ => self.checker.run(self.timeout.saturating_sub(self.spent)).await,
        }
    }
}

/// Brings the result of a task back, whatever becomes of the task.
pub(super) struct Home {
    pub(super) shard: Weak<Shard>,
    pub(super) id: ProbeId,
    pub(super) result: Option<CheckResult>,
}

impl Drop for Home {
    fn drop(&mut self) {
        let result = self.result.take().unwrap_or_else(|| {
            CheckResult::failure(Fault::prober("the task of the check ended early"), Timings::default())
        });
        if let Some(shard) = self.shard.upgrade() {
            shard.come_home(self.id, result);
        }
    }
}
