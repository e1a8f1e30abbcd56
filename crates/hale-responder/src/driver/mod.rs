//! What drives a responder: one task that owns the [`Desk`] and the [`Book`], tells the one what happens and writes down
//! in the other what it decides, before anything is done about it.
//!
//! What it hears comes through bounded channels: while the disk is slow, sources wait. What can't be written is tried
//! again until it can, and nothing is started meanwhile.

mod act;
mod ask;
mod ending;
mod notes;
mod send;
mod tasks;
mod work;

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hale_api::{
    Client,
    runs::{AlertList, Run, RunDetail, RunPage, RunQuery},
};
use hale_model::{event::NewEvent, spec::Responder};
use tokio::{
    sync::{Mutex, mpsc, oneshot, watch},
    task::{AbortHandle, JoinHandle},
};
use tokio_util::sync::CancellationToken;

use self::work::Work;
use crate::desk::DecideError;
use crate::{
    book::{Book, BookError},
    exec::{ExecError, ExecOptions, Executor, Stream},
    metrics::Metrics,
};

/// What was heard and waits for the driver; sources wait while it is full.
const HEARD: usize = 256;

/// Decisions of people that wait for the driver.
const ASKED: usize = 64;

/// The ends of outputs that are shown.
const TAIL: u64 = 16 * 1024;

/// Is told what happens, in order. Must not block.
pub trait Tell: Send + Sync + 'static {
    /// Takes an event.
    fn tell(&self, event: NewEvent);
}

/// How a responder runs (R15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long a program may run where nothing else is said.
    pub run_timeout: Duration,
    /// How long an alert may wait where nothing else is said.
    pub max_queue_age: Duration,
    /// How often it is looked for alerts that are too old.
    pub queue_sweep_interval: Duration,
    /// How long runs in flight have at the end.
    pub shutdown_timeout: Duration,
    /// The first wait after a lost connection.
    pub reconnect_initial: Duration,
    /// The longest.
    pub reconnect_max: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            run_timeout: Duration::from_secs(300),
            max_queue_age: Duration::from_secs(600),
            queue_sweep_interval: Duration::from_secs(60),
            shutdown_timeout: Duration::from_secs(30),
            reconnect_initial: Duration::from_secs(1),
            reconnect_max: Duration::from_secs(60),
        }
    }
}

/// What a responder stands on.
pub struct Options {
    /// What it is to do.
    pub responder: Arc<Responder>,
    /// Its own directory: its record and its workspaces. Made when it is not there; nobody else may use it.
    pub dir: PathBuf,
    /// How it runs.
    pub settings: Settings,
    /// Refuses programs that would run as root.
    pub no_root: bool,
    /// The only users that programs may run as; `None`: any.
    pub allow_users: Option<BTreeSet<String>>,
    /// What is counted.
    pub metrics: Metrics,
    /// Who is told what happens.
    pub tell: Arc<dyn Tell>,
    /// The hale that it is a part of, for sources without a URL.
    pub own_hale: Option<Client>,
}

/// Why a responder could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its directory can't be made or used.
    #[error("can't use {path}: {source}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its record can't be used.
    #[error(transparent)]
    Book(#[from] BookError),
    /// Programs can't be run here, or what an earlier one left can't be ended.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// A source can't be used as it is declared.
    #[error("source {name}: {why}")]
    Source {
        /// Which.
        name: String,
        /// Why.
        why: String,
    },
}

/// Why a decision of a person is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecisionError {
    /// The run is not there, or does not wait.
    #[error(transparent)]
    Desk(#[from] DecideError),
    /// Nothing is begun any more.
    #[error("the responder is shutting down")]
    Ending,
}

/// How a responder stands, for readiness (R14).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// Whether it is ending.
    pub ending: bool,
    /// Sources that are connected.
    pub connected: BTreeSet<String>,
    /// Breakers that are not closed, and why.
    pub open: Vec<String>,
}

impl Standing {
    /// What keeps it from being ready, a reason a line.
    ///
    /// # Errors
    /// It is not ready.
    pub fn ready(&self) -> Result<(), String> {
        let mut reasons = Vec::new();
        if self.ending {
            reasons.push("shutting down".to_owned());
        }
        if self.connected.is_empty() {
            reasons.push("no source is connected".to_owned());
        }
        reasons.extend(self.open.iter().map(|it| format!("circuit breaker {it}")));
        if reasons.is_empty() { Ok(()) } else { Err(reasons.join("\n")) }
    }

    /// Whether it is not ending.
    ///
    /// # Errors
    /// It is.
    pub fn alive(&self) -> Result<(), String> {
        if self.ending { Err("shutting down".to_owned()) } else { Ok(()) }
    }
}

/// What became of a responder at its end (R17).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Farewell {
    /// Programs that ran when the end was asked for.
    pub in_flight: usize,
    /// Those of them that ended by themselves.
    pub completed: usize,
    /// Those that were ended.
    pub interrupted: usize,
}

/// A question of a person.
pub(crate) struct Decision {
    run: String,
    approve: bool,
    by: String,
    reason: String,
    answer: oneshot::Sender<Result<(), DecideError>>,
}

/// A responder that runs.
pub struct Handle {
    name: String,
    book: Arc<Book>,
    executor: Executor,
    asks: mpsc::Sender<Decision>,
    standing: watch::Receiver<Standing>,
    signs: watch::Sender<Standing>,
    end: CancellationToken,
    hurry: CancellationToken,
    task: Mutex<Option<JoinHandle<Farewell>>>,
    running: AbortHandle,
    clean: Arc<AtomicBool>,
}

/// Starts a responder: ends what an earlier one of this directory left, takes up its queue, and connects.
///
/// # Errors
/// See [`StartError`]; nothing runs then.
pub async fn start(options: Options) -> Result<Handle, StartError> {
    let dir = std::path::absolute(&options.dir).unwrap_or_else(|_| options.dir.clone());
    let failed = |source| StartError::Directory { path: dir.clone(), source };
    // Other users pass through on the way to the workspaces of their own programs; the record is for nobody else.
    fs::DirBuilder::new().recursive(true).mode(0o711).create(&dir).map_err(failed)?;
    let limits = &options.responder.limits;
    let executor = Executor::new(ExecOptions {
        no_root: options.no_root,
        allow_users: options.allow_users.clone(),
        keep: limits.keep_workspaces,
        max_bytes: limits.workspace_bytes,
        ..ExecOptions::new(dir.join("workspaces"), mark(&dir).map_err(failed)?)
    })?;
    let sweeper = executor.clone();
    let swept = tokio::task::spawn_blocking(move || sweeper.end_leftovers()).await;
    let swept = swept.map_err(|error| failed(io::Error::other(error)))??;
    if swept > 0 {
        tracing::warn!(processes = swept, "ended what an earlier responder had left running");
    }
    let book = Arc::new(Book::open(&dir.join("responder.db")).await?);
    let (asks, asked) = mpsc::channel(ASKED);
    let (standing, stands) = watch::channel(Standing::default());
    let (end, hurry) = (CancellationToken::new(), CancellationToken::new());
    let clean = Arc::new(AtomicBool::new(false));
    let name = options.responder.name.clone();
    let work = Work::begin(
        options,
        work::Parts {
            book: Arc::clone(&book),
            executor: executor.clone(),
            asked,
            standing: standing.clone(),
            end: end.clone(),
            hurry: hurry.clone(),
        },
    )
    .await?;
    let ended = Arc::clone(&clean);
    let task = tokio::spawn(async move {
        let farewell = work.run().await;
        ended.store(true, Ordering::Release);
        farewell
    });
    let running = task.abort_handle();
    let task = Mutex::new(Some(task));
    Ok(Handle {
        name,
        book,
        executor,
        asks,
        standing: stands,
        signs: standing,
        end,
        hurry,
        task,
        running,
        clean,
    })
}

/// The name by which processes of this directory's programs are found again, made at its first use.
fn mark(dir: &Path) -> io::Result<String> {
    let path = dir.join("mark");
    match fs::read_to_string(&path) {
        Ok(text) if text.trim().len() >= 16 => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let made = fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().replace('-', "");
    // Whole or not at all: half a mark would not be found again.
    let new = dir.join("mark.new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(made.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, &path)?;
    Ok(made)
}

impl Handle {
    /// The responder's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it stands, as that changes.
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Whether its task has ended without being asked to: it panicked, and does nothing any more.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.running.is_finished() && !self.clean.load(Ordering::Acquire)
    }

    /// Runs, the newest first.
    ///
    /// # Errors
    /// The record can't be read.
    pub async fn runs(&self, query: &RunQuery) -> Result<RunPage, BookError> {
        self.book.runs(query).await
    }

    /// One run with its alert and the ends of its outputs.
    ///
    /// # Errors
    /// The record can't be read.
    pub async fn run(&self, id: &str) -> Result<Option<RunDetail>, BookError> {
        let Some(run) = self.book.run(id).await? else { return Ok(None) };
        let (alert, duplicates) = self.book.alerts_of(&run).await?;
        let (executor, id) = (self.executor.clone(), run.id.clone());
        let tails = tokio::task::spawn_blocking(move || {
            (executor.tail(&id, Stream::Stdout, TAIL), executor.tail(&id, Stream::Stderr, TAIL))
        });
        let (stdout, stderr) = tails.await.unwrap_or_default();
        Ok(Some(RunDetail { run, alert, duplicates, stdout, stderr }))
    }

    /// The newest alerts.
    ///
    /// # Errors
    /// The record can't be read.
    pub async fn alerts(&self) -> Result<AlertList, BookError> {
        Ok(AlertList { alerts: self.book.alerts().await? })
    }

    /// A person says yes or no to a run (R11). It is durable when this returns; the run as it is then.
    ///
    /// # Errors
    /// There is no such run here, it does not wait for anybody, or the responder is ending.
    pub async fn decide(
        &self,
        run: &str,
        approve: bool,
        by: &str,
        reason: &str,
    ) -> Result<Run, DecisionError> {
        let (answer, wait) = oneshot::channel();
        let decision =
            Decision { run: run.to_owned(), approve, by: by.to_owned(), reason: reason.to_owned(), answer };
        self.asks.send(decision).await.map_err(|_| DecisionError::Ending)?;
        wait.await.map_err(|_| DecisionError::Ending)??;
        self.book.run(run).await.ok().flatten().ok_or(DecisionError::Desk(DecideError::Unknown))
    }

    /// Begins the end (R13): sources are closed, nothing is started any more, and programs that run have the time of the
    /// settings.
    pub fn shut_down(&self) {
        self.signs.send_modify(|it| it.ending = true);
        self.end.cancel();
    }

    /// Ends programs at once; after [`Self::shut_down`].
    pub fn hurry(&self) {
        self.hurry.cancel();
    }

    /// Waits for the end. Only the first who asks is told how it was.
    pub async fn ended(&self) -> Farewell {
        let Some(task) = self.task.lock().await.take() else { return Farewell::default() };
        let farewell = task.await.unwrap_or_else(|error| {
            tracing::error!(%error, "the responder ended badly");
            Farewell::default()
        });
        self.book.close().await;
        farewell
    }
}
