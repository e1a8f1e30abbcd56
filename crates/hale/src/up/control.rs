//! What the API asks, answered by the supervisor and the targets of this process.

use std::{io, sync::Arc, time::Duration};

use hale_agent::targets::{self, TargetError, Targets};
use hale_api::{logs::LogLine, operation::Verb, outcomes::ProbeHistory};
use hale_health::{Status, worst_of};
use hale_keeper::logs as files;
use hale_model::{
    spec::Rollout,
    status::{NodeStatus, Overview, WorkloadStatus},
};
use hale_server::control::{BoxFuture, Control, LogStream, Order, OrderError, Subject, log_stream};
use hale_store::Store;
use hale_supervisor::supervisor::{Pause, SupervisorError, SupervisorHandle};
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};

/// The longest that is read back for `hale logs` without `--tail`.
const MOST_LOG_BYTES: u64 = 64 * 1024 * 1024;

/// How often files are looked at for more.
const EVERY: Duration = Duration::from_millis(100);

/// Lines that wait for a reader who is slower than the disk, in pieces.
const PIECES: usize = 8;

/// The most lines in one piece.
const PIECE: usize = 500;

/// The node of this process.
pub(super) struct LocalNode {
    pub(super) name: String,
    pub(super) supervisor: SupervisorHandle,
    pub(super) targets: Targets,
    pub(super) data_dir: std::path::PathBuf,
    pub(super) store: Store,
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
            let node = NodeStatus::new(&self.name, Status::Healthy, at);
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

    fn logs(
        &self,
        replica: String,
        tail: Option<u32>,
        follow: bool,
    ) -> BoxFuture<'_, Result<LogStream, OrderError>> {
        let (sender, pieces) = mpsc::channel(PIECES);
        let source = Source { data_dir: self.data_dir.clone(), replica, sender };
        tokio::task::spawn_blocking(move || {
            // A reader who has gone needs no answer.
            let _gone = source.run(tail, follow);
        });
        Box::pin(async { Ok(log_stream(pieces)) })
    }

    fn history<'a>(&'a self, subject: &'a str) -> BoxFuture<'a, Result<Vec<ProbeHistory>, OrderError>> {
        Box::pin(async move {
            self.store.history(subject).await.map_err(|error| OrderError::Unavailable(error.to_string()))
        })
    }

    fn check(&self) -> BoxFuture<'_, Result<(), String>> {
        let answers = self.runtime.answers();
        Box::pin(async move { if answers { Ok(()) } else { Err("the keeper is being replaced".to_owned()) } })
    }
}

/// Reads the files of one replica in a thread of its own, at the reader's pace.
struct Source {
    data_dir: std::path::PathBuf,
    replica: String,
    sender: mpsc::Sender<Result<Vec<LogLine>, OrderError>>,
}

/// The reader has gone.
struct Gone;

impl Source {
    fn run(self, tail: Option<u32>, follow: bool) -> Result<(), Gone> {
        let most = tail.map_or(usize::MAX, |it| it as usize);
        // Follows from before the tail is read: a line between the two comes twice rather than never, and the second
        // time is left out.
        let mut following = files::Follow::from_end(&self.data_dir, &self.replica);
        let kept = files::files(&self.data_dir, &self.replica);
        let lines = self.or_tell(files::tail(&kept, most, MOST_LOG_BYTES))?;
        let mut after = lines.last().map(|it| it.time.clone()).unwrap_or_default();
        self.send(lines)?;
        while follow && !self.sender.is_closed() {
            let mut lines = self.or_tell(following.more())?;
            if lines.is_empty() {
                std::thread::sleep(EVERY);
                continue;
            }
            if !after.is_empty() {
                lines.retain(|line| line.time > after);
                if !lines.is_empty() {
                    after.clear();
                }
            }
            self.send(lines)?;
        }
        Ok(())
    }

    fn or_tell<T>(&self, result: io::Result<T>) -> Result<T, Gone> {
        result.map_err(|error| {
            let detail = format!("the output of {} can't be read: {error}", self.replica);
            let _gone = self.sender.blocking_send(Err(OrderError::Unavailable(detail)));
            Gone
        })
    }

    fn send(&self, lines: Vec<files::LogLine>) -> Result<(), Gone> {
        let mut lines = lines.into_iter().map(|line| told(&self.replica, line));
        loop {
            let piece: Vec<LogLine> = lines.by_ref().take(PIECE).collect();
            if piece.is_empty() {
                return Ok(());
            }
            self.sender.blocking_send(Ok(piece)).map_err(|_| Gone)?;
        }
    }
}

fn told(replica: &str, line: files::LogLine) -> LogLine {
    let files::LogLine { time, stream, whole, text } = line;
    LogLine { replica: replica.to_owned(), time, stream, whole, text }
}
