//! The executor: options, and what the driver can ask of it.

use std::{
    collections::BTreeSet,
    fs::{DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use hale_keeper::{Stream, cgroup};
use hale_model::spec::{Program, Stdin};
use tokio_util::sync::CancellationToken;

use super::{
    Ended, How, Job, Retained,
    account::{Account, Allowed},
    beneath, found, leftovers,
    life::{self, Ends},
    prompt, retain,
    start::{self, Start},
    workspace,
};

/// The environment variable that marks every process of a run: `MARK/RUN` (R9).
pub const MARK_VARIABLE: &str = "HALE_RESPONDER_RUN";

/// The most bytes that are kept of each output of a program that is only asked something.
const MAX_ASKED_OUTPUT: u64 = 64 * 1024;

/// How programs are run.
#[derive(Debug, Clone)]
pub struct ExecOptions {
    /// The directory of all workspaces; made when it is not there.
    pub workspaces: PathBuf,
    /// A word that no other data directory has: letters, digits and `-`. What an earlier responder left is found by it.
    pub mark: String,
    /// Whether nothing may run as root (O9).
    pub no_root: bool,
    /// The users that programs may run as, by name or number, beside the responder's own; `None`: any.
    pub allow_users: Option<BTreeSet<String>>,
    /// From SIGTERM to SIGKILL.
    pub grace: Duration,
    /// How long workspaces are kept.
    pub keep: Duration,
    /// The most bytes of all workspaces.
    pub max_bytes: u64,
}

impl ExecOptions {
    /// The defaults: any user, 5 s of grace, workspaces for 7 days or 1 GiB.
    #[must_use]
    pub fn new(workspaces: impl Into<PathBuf>, mark: impl Into<String>) -> Self {
        Self {
            workspaces: workspaces.into(),
            mark: mark.into(),
            no_root: false,
            allow_users: None,
            grace: Duration::from_secs(5),
            keep: Duration::from_secs(7 * 24 * 60 * 60),
            max_bytes: 1 << 30,
        }
    }
}

/// Why programs can't be run at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// The options make no sense.
    #[error("can't run programs: {0}")]
    Options(String),
    /// The directory of all workspaces can't be made.
    #[error("can't make the directory of workspaces {}", path.display())]
    Workspaces {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `/proc` can't be read.
    #[error("can't look for processes of an earlier responder")]
    Processes(#[source] io::Error),
    /// Processes of an earlier responder can't be ended: nothing may be started beside them.
    #[error("processes {0} of an earlier responder outlive SIGKILL")]
    Leftovers(String),
}

/// Runs programs. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Executor {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: ExecOptions,
    allowed: Allowed,
    /// The directory for cgroups of runs.
    base: Option<PathBuf>,
    /// Where an earlier responder had its cgroups.
    last_base: Option<PathBuf>,
    hurry: CancellationToken,
    asked: AtomicU64,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Only if it is empty.
        self.base.as_deref().map(cgroup::remove_tree);
    }
}

impl Executor {
    /// Makes the directory of workspaces, and one for cgroups where that can be had. Starts nothing.
    ///
    /// # Errors
    /// The options make no sense, or the directory can't be made.
    pub fn new(options: ExecOptions) -> Result<Self, ExecError> {
        Self::make(options, leftovers::base)
    }

    /// The same without cgroups, for a machine where they do harm: runs are kept together by descent and mark.
    ///
    /// # Errors
    /// As [`Executor::new`].
    pub fn without_cgroups(options: ExecOptions) -> Result<Self, ExecError> {
        Self::make(options, |_, _| None)
    }

    fn make(options: ExecOptions, base: impl Fn(&Path, &str) -> Option<PathBuf>) -> Result<Self, ExecError> {
        let good = |it: char| it.is_ascii_alphanumeric() || it == '-';
        if options.mark.is_empty() || options.mark.len() > 64 || !options.mark.chars().all(good) {
            let mark = &options.mark;
            return Err(ExecError::Options(format!("{mark:?} is no mark: letters, digits and - only")));
        }
        let path = options.workspaces.clone();
        if !path.is_absolute() || path.to_str().is_none() {
            let path = path.display();
            return Err(ExecError::Options(format!(
                "the path of workspaces {path} is not absolute, or no UTF-8"
            )));
        }
        // Passed through by other users on the way to their own workspaces, which nobody else can enter.
        let made = DirBuilder::new().recursive(true).mode(0o711).create(&path);
        made.map_err(|source| ExecError::Workspaces { path: path.clone(), source })?;
        let last_base = leftovers::last_base(&path, &options.mark);
        let base = base(&path, &options.mark);
        let allowed = Allowed { no_root: options.no_root, users: options.allow_users.clone() };
        let (hurry, asked) = (CancellationToken::new(), AtomicU64::new(0));
        Ok(Self { shared: Arc::new(Shared { options, allowed, base, last_base, hurry, asked }) })
    }

    /// Whether runs are kept together by cgroups. Without, what clears its environment, makes a session of its own and
    /// loses its parent within half a second can get away from its run (R9).
    #[must_use]
    pub fn has_cgroups(&self) -> bool {
        self.shared.base.is_some()
    }

    /// Ends every process that an earlier responder of this data directory left (R12), by cgroup and mark; returns how
    /// many there were. To be called once, before anything is run. Blocks, 5 s at most.
    ///
    /// # Errors
    /// Something can't be ended: nothing may be started beside it.
    pub fn end_leftovers(&self) -> Result<usize, ExecError> {
        let shared = &self.shared;
        let bases: Vec<PathBuf> = shared.base.iter().chain(&shared.last_base).cloned().collect();
        let ended = leftovers::end(&bases, &shared.options.mark)?;
        for base in &bases {
            for entry in base.read_dir().into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|it| it.is_dir()) {
                    cgroup::remove_tree(&entry.path());
                }
            }
        }
        if let Some(last) = shared.last_base.as_ref().filter(|it| shared.base.as_ref() != Some(*it)) {
            cgroup::remove_tree(last);
        }
        Ok(ended)
    }

    /// The argument vector of a job with all values put in, for the record (R8).
    ///
    /// # Errors
    /// What is wrong with it, in a sentence: an unknown placeholder, a value that could be taken for an option.
    pub fn command(&self, job: &Job) -> Result<Vec<String>, String> {
        let workspace = self.shared.options.workspaces.join(&job.run.id);
        workspace::texts(job, &job.program, &workspace)?.0.arguments(&job.program.command)
    }

    /// Where the workspace of a run is, once it has one.
    #[must_use]
    pub fn workspace(&self, run: &str) -> PathBuf {
        self.shared.options.workspaces.join(run)
    }

    /// Makes the workspace of a job, whole or not at all; its path goes on record before the start. One that is there
    /// stays as it is. Blocks on the disk.
    ///
    /// # Errors
    /// Why there is none, in a sentence: a full disk, a prompt that can't be read, a user that is not allowed.
    pub fn prepare(&self, job: &Job) -> Result<PathBuf, String> {
        let account = self.shared.allowed.find(job.program.user.as_deref())?;
        workspace::make(&self.shared.options.workspaces, job, account.as_ref())
    }

    /// Runs a job to its end (R8, R9). When `stop` is cancelled it is ended: SIGTERM, the grace, SIGKILL of everything;
    /// so it is when this future is dropped. Never panics; nothing of it is left when it returns.
    pub async fn run(&self, job: Job, stop: CancellationToken) -> Ended {
        let (executor, stop) = (self.clone(), stop.child_token());
        let cancel = stop.clone().drop_guard();
        // A task of its own: dropping this future must still end the program, and wait for that.
        let ended = tokio::spawn(async move { executor.run_to_end(job, stop).await }).await;
        drop(cancel);
        ended.unwrap_or_else(|error| not_started(format!("the run was given up: {error}")))
    }

    async fn run_to_end(self, job: Job, stop: CancellationToken) -> Ended {
        let job = Arc::new(job);
        let (executor, its) = (self.clone(), Arc::clone(&job));
        let made = blocking(move || {
            let workspace = executor.prepare(&its)?;
            let logs = [log(&workspace, Stream::Stdout)?, log(&workspace, Stream::Stderr)?];
            let start = executor.start(&its, &its.program, &workspace, logs, None)?;
            Ok((workspace, start))
        });
        let (workspace, start) = match made.await {
            Ok(made) => made,
            Err(reason) => return not_started(reason),
        };
        let how = life::run(start, self.ends(job.timeout, stop)).await;
        let looked = blocking(move || {
            let how = match (how, &job.artifact) {
                (How::Exited(0), Some((path, least))) => found::required(&workspace, path, *least)
                    .map_or_else(How::NoArtifact, |()| How::Exited(0)),
                (how, _) => how,
            };
            let (artifacts, cost) = (found::artifacts(&workspace), found::cost(&workspace));
            retain::finished(&workspace);
            Ok(Ended { how, artifacts, cost })
        });
        looked.await.unwrap_or_else(not_started)
    }

    /// Runs a short program in the workspace of a run: true for exit status 0 (R10). The same limits hold; its output is
    /// in `logs/asked.log` (its standard error in `logs/asked.err.log`), the last time's.
    ///
    /// # Errors
    /// There is no answer, and why: it can't be started, did not end in time, or `stop` was cancelled.
    pub async fn ask(
        &self,
        job: &Job,
        program: &Program,
        timeout: Duration,
        stop: CancellationToken,
    ) -> Result<bool, String> {
        let (executor, job, program) = (self.clone(), job.clone(), program.clone());
        let stop = stop.child_token();
        let cancel = stop.clone().drop_guard();
        let task = tokio::spawn(async move {
            let its = executor.clone();
            let number = its.shared.asked.fetch_add(1, Ordering::Relaxed);
            let made = blocking(move || {
                let workspace = its.prepare(&job)?;
                let log = |name| {
                    beneath::create(&workspace, "logs", name, true).map_err(|error| log_failed(&error))
                };
                let logs = [log("asked.log")?, log("asked.err.log")?];
                its.start(&job, &program, &workspace, logs, Some(number))
            });
            let mut start = made.await?;
            start.max_output = start.max_output.min(MAX_ASKED_OUTPUT);
            let shown = start.program.display().to_string();
            match life::run(start, executor.ends(timeout, stop)).await {
                How::Exited(status) => Ok(status == 0),
                How::TimedOut => Err(format!("{shown} did not end within {timeout:?}")),
                How::Interrupted => Err(format!("{shown} was ended, because the responder is ending")),
                How::Signal(signal) => Err(format!("{shown} was ended by signal {signal}")),
                How::NotStarted(reason) | How::NoArtifact(reason) => Err(reason),
            }
        });
        let answer = task.await;
        drop(cancel);
        answer.unwrap_or_else(|error| Err(format!("the question was given up: {error}")))
    }

    /// From now on nothing is given time to end: SIGKILL follows SIGTERM at once (R13, the second signal).
    pub fn hurry(&self) {
        self.shared.hurry.cancel();
    }

    /// Takes workspaces away: those that have been finished for as long as they are kept, and then the oldest until all
    /// together are small enough; never one of `live` (ids of runs). Symlinks are not followed. Blocks on the disk.
    #[must_use]
    pub fn retain(&self, now: SystemTime, live: &BTreeSet<String>) -> Retained {
        let options = &self.shared.options;
        retain::retain(&options.workspaces, options.keep, options.max_bytes, now, live)
    }

    /// The end of an output of a run; what is no UTF-8 is replaced. Empty when there is none (any more). Blocks on the
    /// disk.
    #[must_use]
    pub fn tail(&self, run: &str, stream: Stream, bytes: u64) -> String {
        if !workspace::is_run(run) {
            return String::new();
        }
        let path = Path::new("logs").join(log_name(stream));
        let file = beneath::file(&self.shared.options.workspaces.join(run), &path);
        file.and_then(|file| beneath::tail(file, bytes)).unwrap_or_default()
    }

    fn ends(&self, timeout: Duration, stop: CancellationToken) -> Ends {
        let (grace, hurry) = (self.shared.options.grace, self.shared.hurry.clone());
        Ends { timeout, grace, stop, hurry }
    }

    /// All that is needed to start a program for a run; `asked` is the number of a question.
    fn start(
        &self,
        job: &Job,
        program: &Program,
        workspace: &Path,
        logs: [File; 2],
        asked: Option<u64>,
    ) -> Result<Start, String> {
        let account = self.shared.allowed.find(program.user.as_deref())?;
        if let Some(account) = &account {
            account.may_reach(&self.shared.options.workspaces)?;
        }
        let (values, prompt) = workspace::texts(job, program, workspace)?;
        let args = values.arguments(&program.command)?;
        let name = match asked {
            None => job.run.id.clone(),
            Some(number) => format!("{}-asks-{number}", job.run.id),
        };
        let mark = format!("{}/{name}", self.shared.options.mark);
        let env = start::environment(job, program, &values, account.as_ref(), &mark)?;
        let path = env.get("PATH").map_or("", String::as_str);
        let found = start::find(&args[0], path)?;
        let input = match program.stdin {
            Stdin::Alert => Some(prompt::json(job).into_bytes()),
            Stdin::Prompt => Some(prompt.into_bytes()),
            Stdin::None => None,
        };
        Ok(Start {
            program: found,
            args,
            env,
            dir: workspace.to_owned(),
            user: account.map(|it: Account| it.user),
            input,
            logs,
            max_output: program.max_output,
            mark,
            group: self.shared.base.as_ref().map(|base| base.join(&name)),
        })
    }
}

fn log_name(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout.log",
        Stream::Stderr | Stream::Hale => "stderr.log",
    }
}

/// A file for an output. One that is there tells that the run was started before (R12).
fn log(workspace: &Path, stream: Stream) -> Result<File, String> {
    beneath::create(workspace, "logs", log_name(stream), false).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            format!("it was started before: {} has its output", workspace.display())
        }
        _ => log_failed(&error),
    })
}

fn log_failed(error: &io::Error) -> String {
    format!("can't make a file for its output: {error}")
}

fn not_started(reason: String) -> Ended {
    Ended { how: How::NotStarted(reason), artifacts: Vec::new(), cost: None }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(format!("it was given up: {error}")),
    }
}
