//! What the keeper is told of containers: it outlives the agent, and ends them when that is dead (N19, S9).
//!
//! A container is told by name before it is made, so that no moment is left in which it could run and be known to nobody.

use std::{path::PathBuf, time::Duration};

use hale_health::Time;
use hale_keeper::protocol::{Key, Outsider, Running, Text};
use hale_supervisor::runtime::{InstanceId, Launch, SpawnError};
use tokio::time::timeout;

use crate::{record::Record, shared::Shared, table::Live};

/// How long the keeper may take to be told of what was taken over.
const TOLD: Duration = Duration::from_secs(5);

impl Shared {
    /// Returns once the keeper knows of a run that is about to start as this container.
    pub(crate) async fn enter_outside(
        &self,
        launch: &Launch,
        record: &Record,
        container: &str,
    ) -> Result<(), SpawnError> {
        let Some(keeper) = &self.options.keeper else { return Ok(()) };
        let Some(run) = self.outsider(record, container, None) else { return Ok(()) };
        let millis = |grace: Duration| u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let deadline = launch.stop_at.map(|(at, grace)| (at.as_nanos(), millis(grace)));
        keeper.enter(vec![Outsider { deadline, ..run }], false).await
    }

    /// Tells more of a run that the keeper knows.
    pub(crate) async fn tell_outside(&self, record: &Record, process: Option<&Running>) {
        let (Some(keeper), Some(container)) = (&self.options.keeper, &record.container) else { return };
        let Some(run) = self.outsider(record, container, process) else { return };
        if let Err(error) = keeper.enter(vec![run], false).await {
            // It knows the container already.
            tracing::debug!(replica = record.replica, %error, "the keeper was not told of a process");
        }
    }

    /// The keeper knows these and no others.
    pub(crate) async fn settle_outside(&self, all: Vec<(Record, Live)>) {
        let Some(keeper) = &self.options.keeper else { return };
        let told = all.iter().filter_map(|(record, live)| {
            self.outsider(record, record.container.as_deref()?, live.process.as_ref())
        });
        let told = timeout(TOLD, keeper.enter(told.collect(), true)).await;
        let late = || SpawnError { code: "internal", detail: format!("no answer within {TOLD:?}") };
        if let Err(error) = told.unwrap_or_else(|_| Err(late())) {
            tracing::warn!(%error, "the keeper was not told of containers that were taken over");
        }
    }

    /// Nothing of it is left.
    pub(crate) fn leave_outside(&self, id: &InstanceId) {
        if let Some(keeper) = &self.options.keeper {
            keeper.leave(id);
        }
    }

    /// Whether the keeper sees to it that a run ends then.
    pub(crate) fn stop_outside_at(&self, id: &InstanceId, at: Option<Time>, grace: Duration) -> bool {
        let Some(keeper) = &self.options.keeper else { return false };
        keeper.stop_at(id, at, grace);
        true
    }

    fn outsider(&self, record: &Record, container: &str, process: Option<&Running>) -> Option<Outsider> {
        let socket: PathBuf = record.socket.clone()?;
        Some(Outsider {
            key: Key {
                replica: record.replica.clone(),
                generation: record.generation,
                incarnation: record.incarnation,
            },
            socket: Text::from(&socket),
            container: container.to_owned(),
            stop_signal: record.stop_signal,
            process: process.map(|it| (it.pid, it.start_time)),
            borrowed: record.adopted,
            remove: self.options.end_leftovers,
            deadline: None,
        })
    }
}
