//! What the API asks, answered by the supervisor and the targets of this process.

use std::{io, sync::Arc, time::Duration};

use hale_agent::targets::{self, TargetError, Targets};
use hale_api::{logs::LogLine, operation::Verb};
use hale_health::{Status, worst_of};
use hale_keeper::logs as files;
use hale_model::{
    spec::Rollout,
    status::{NodeStatus, Overview, WorkloadStatus},
};
use hale_server::control::{BoxFuture, Control, LogFollow, Order, OrderError, Subject};
use hale_supervisor::supervisor::{Pause, SupervisorError, SupervisorHandle};
use jiff::Timestamp;
use tokio::sync::watch;

/// The longest that is read back for `hale logs` without `--tail`.
const MOST_LOG_BYTES: u64 = 64 * 1024 * 1024;

/// The node of this process.
pub(super) struct LocalNode {
    pub(super) name: String,
    pub(super) supervisor: SupervisorHandle,
    pub(super) targets: Targets,
    pub(super) data_dir: std::path::PathBuf,
    pub(super) runtime: Arc<hale_supervisor::process::ProcessRuntime>,
    pub(super) deadlines: std::collections::HashMap<String, Duration>,
}

impl LocalNode {
    /// Who asks, with their reason where they gave one.
    fn asker(order: &Order) -> String {
        if order.reason.is_empty() { order.by.clone() } else { format!("{} ({})", order.by, order.reason) }
    }

    async fn carry_out(&self, order: Order) -> Result<(), OrderError> {
        if let Subject::Target(name) = &order.on {
            return self.on_target(name, &order).await;
        }
        let (name, by) = (order.on.name(), Self::asker(&order));
        match order.verb {
            // The restart goes on whether or not anybody watches it.
            Verb::Restart => self.supervisor.restart(name, &by).await.map(drop),
            Verb::Stop => self.supervisor.stop(name, &by).await,
            Verb::Start => self.supervisor.start(name, &by).await,
            Verb::Pause => {
                let pause = Pause {
                    probe: order.probe,
                    lasts: order.lasting,
                    reason: order.reason.clone(),
                    by: order.by.clone(),
                };
                self.supervisor.pause(name, pause).await
            }
            Verb::Resume => self.supervisor.resume(name, order.probe, &by).await,
        }
        .map_err(refused)
    }

    async fn on_target(&self, name: &str, order: &Order) -> Result<(), OrderError> {
        match order.verb {
            Verb::Pause => {
                let (reason, by) = (order.reason.clone(), order.by.clone());
                let pause = targets::Pause { lasts: order.lasting, reason, by };
                self.targets.pause(name, pause).await.map_err(no_target)
            }
            Verb::Resume => self.targets.resume(name, &Self::asker(order)).await.map_err(no_target),
            verb => Err(OrderError::NotApplicable(format!(
                "{name} is a target: hale does not run it, so it can't {} it",
                verb.as_str()
            ))),
        }
    }
}

fn no_target(error: TargetError) -> OrderError {
    match error {
        TargetError::NotFound { .. } => OrderError::NotFound(error.to_string()),
        TargetError::Closed => OrderError::Unavailable(error.to_string()),
        _ => OrderError::NotApplicable(error.to_string()),
    }
}

fn refused(error: SupervisorError) -> OrderError {
    match error {
        SupervisorError::NotFound { .. } => OrderError::NotFound(error.to_string()),
        SupervisorError::Closed => OrderError::Unavailable(error.to_string()),
        _ => OrderError::NotApplicable(error.to_string()),
    }
}

impl Control for LocalNode {
    fn overview(&self) -> BoxFuture<'_, Result<Overview, OrderError>> {
        Box::pin(async move {
            let workloads = self.supervisor.status().await.map_err(refused)?;
            let targets = self.targets.status().await.map_err(no_target)?;
            let at = Timestamp::now();
            let node = NodeStatus { name: self.name.clone(), status: Status::Healthy, last_heartbeat_at: at };
            let status = worst_of(
                workloads
                    .iter()
                    .map(|workload| workload.status)
                    .chain(targets.iter().map(|target| target.status)),
            );
            Ok(Overview { status, at, workloads, targets, nodes: vec![node] })
        })
    }

    fn workload<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<WorkloadStatus>, OrderError>> {
        Box::pin(async move {
            match self.supervisor.status_of(name).await {
                Ok(workload) if workload.name == name => Ok(Some(workload)),
                // The name of a replica is not that of a workload.
                Ok(_) | Err(SupervisorError::NotFound { .. }) => Ok(None),
                Err(error) => Err(refused(error)),
            }
        })
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.supervisor.version()
    }

    fn progress_deadline(&self, workload: &str) -> Duration {
        self.deadlines.get(workload).copied().unwrap_or_else(|| Rollout::default().progress_deadline)
    }

    fn order(&self, order: Order) -> BoxFuture<'_, Result<(), OrderError>> {
        Box::pin(self.carry_out(order))
    }

    fn log_tail(&self, replica: &str, lines: usize) -> io::Result<Vec<LogLine>> {
        let kept = files::tail(&files::files(&self.data_dir, replica), lines, MOST_LOG_BYTES)?;
        Ok(kept.into_iter().map(|line| told(replica, line)).collect())
    }

    fn log_follow(&self, replica: &str) -> Box<dyn LogFollow> {
        let follow = files::Follow::from_end(&self.data_dir, replica);
        Box::new(Following { replica: replica.to_owned(), follow })
    }

    fn check(&self) -> BoxFuture<'_, Result<(), String>> {
        let answers = self.runtime.answers();
        Box::pin(async move { if answers { Ok(()) } else { Err("the keeper is being replaced".to_owned()) } })
    }
}

/// Follows one replica's output.
struct Following {
    replica: String,
    follow: files::Follow,
}

impl LogFollow for Following {
    fn more(&mut self) -> io::Result<Vec<LogLine>> {
        let lines = self.follow.more()?;
        Ok(lines.into_iter().map(|line| told(&self.replica, line)).collect())
    }
}

fn told(replica: &str, line: files::LogLine) -> LogLine {
    let files::LogLine { time, stream, whole, text } = line;
    LogLine { replica: replica.to_owned(), time, stream, whole, text }
}
