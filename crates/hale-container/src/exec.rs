//! Commands of `exec` checks, run by the engine inside a container (H8).
//!
//! An engine can start a command in a container, and can't end it. What is left at the timeout is found among this
//! machine's processes by the mark in its environment, and killed; where that can't be done (another machine's engine,
//! not our processes to kill) it is said.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    sync::{
        Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bollard::exec::{CreateExecOptions, StartExecResults};
use futures_util::StreamExt;
use hale_check::{Commands, Inside, MARK, MAX_SNIPPET, Ran, RanEnd, kill_marked};
use hale_supervisor::runtime::InstanceId;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::{
    error::CallError,
    shared::{CALL, Shared},
    table::Stage,
};

/// How long it may take to see to what is left after a timeout.
const AFTER: Duration = Duration::from_secs(2);

/// Between looks whether the engine knows the end of a command whose output has ended.
const LOOK: Duration = Duration::from_millis(20);

/// What an engine, or the runtime below it, says where it can't start a program; its status is 126 or 127 then.
const NOT_STARTED: [&str; 4] =
    ["oci runtime", "executable file not found", "no such file or directory", "permission denied"];

/// Runs commands in one run's container.
#[derive(Debug)]
pub(crate) struct ContainerCommands {
    shared: Weak<Shared>,
    id: InstanceId,
}

impl ContainerCommands {
    pub(crate) fn inside(shared: Weak<Shared>, id: InstanceId) -> Inside {
        Inside(Arc::new(Self { shared, id }))
    }
}

impl Commands for ContainerCommands {
    fn run<'a>(
        &'a self,
        command: &'a [String],
        timeout: Duration,
    ) -> Pin<Box<dyn Future<Output = Ran> + Send + 'a>> {
        Box::pin(async move {
            let not_tried = |why: &str| Ran { end: RanEnd::NotTried(why.to_owned()), output: Vec::new() };
            let Some(shared) = self.shared.upgrade() else { return not_tried("the runtime has ended") };
            let live = shared.table.get(&self.id).filter(|live| live.stage == Stage::Running);
            match live.and_then(|live| live.container) {
                Some(container) => shared.exec(&container, command, timeout).await,
                None => not_tried("its container does not run"),
            }
        })
    }
}

/// A command that was begun. Dropped before its end, it is killed.
struct Begun {
    mark: Option<String>,
}

impl Begun {
    fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self {
            mark: Some(format!(
                "{MARK}=c{}-{}-{count}",
                std::process::id(),
                hale_keeper::clock::boot_nanos()
            )),
        }
    }

    async fn kill(&mut self) {
        if let Some(mark) = self.mark.take() {
            // Reading /proc is file I/O.
            let _ = tokio::task::spawn_blocking(move || kill_marked(&mark)).await;
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if let Some(mark) = self.mark.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn_blocking(move || kill_marked(&mark));
        }
    }
}

impl Shared {
    /// Runs a command in a container, within `limit`.
    async fn exec(&self, container: &str, command: &[String], limit: Duration) -> Ran {
        let deadline = Instant::now() + limit;
        let mut begun = Begun::new();
        let mut output = Vec::new();
        let end = self.exec_until(container, command, deadline, &mut begun, &mut output).await;
        Ran { end, output }
    }

    async fn exec_until(
        &self,
        container: &str,
        command: &[String],
        deadline: Instant,
        begun: &mut Begun,
        output: &mut Vec<u8>,
    ) -> RanEnd {
        let mark = begun.mark.clone();
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command.to_vec()),
            env: mark.map(|it| vec![it]),
            ..CreateExecOptions::default()
        };
        let left = || deadline.saturating_duration_since(Instant::now());
        let name = container.to_owned();
        let created =
            self.link.call(left(), |docker| async move { docker.create_exec(&name, options).await });
        let exec = match created.await {
            Ok(created) => created.id,
            Err(error) => {
                // Nothing was begun.
                begun.mark = None;
                return not_begun(&error);
            }
        };
        let name = exec.clone();
        let started = self.link.call(left(), |docker| async move { docker.start_exec(&name, None).await });
        let mut stream = match started.await {
            Ok(StartExecResults::Attached { output, .. }) => output,
            Ok(StartExecResults::Detached) => {
                return RanEnd::NotTried("it was started without output".to_owned());
            }
            Err(CallError::Late(_)) => return self.overdue(&exec, begun).await,
            Err(error) => return not_begun(&error),
        };
        loop {
            match timeout_at(deadline, stream.next()).await {
                Err(_) => return self.overdue(&exec, begun).await,
                Ok(Some(Ok(more))) => {
                    let more = more.into_bytes();
                    let room = MAX_SNIPPET.saturating_sub(output.len()).min(more.len());
                    output.extend_from_slice(&more[..room]);
                }
                Ok(Some(Err(_)) | None) => break,
            }
        }
        // Its output has ended; a child that keeps none open may outlive it, and so may the command itself.
        loop {
            match self.exec_state(&exec).await {
                Ok((false, Some(code))) => {
                    begun.mark = None;
                    return ended(code, output);
                }
                Ok(_) if Instant::now() >= deadline => return self.overdue(&exec, begun).await,
                Ok(_) => sleep(LOOK).await,
                Err(error) => return RanEnd::NotTried(error.to_string()),
            }
        }
    }

    /// Whether it runs, and its status once it does not.
    async fn exec_state(&self, exec: &str) -> Result<(bool, Option<i64>), CallError> {
        let name = exec.to_owned();
        let found = self.link.call(CALL, |docker| async move { docker.inspect_exec(&name).await }).await?;
        Ok((found.running.unwrap_or(false), found.exit_code))
    }

    /// It did not end in time: kills it, and says what is left.
    async fn overdue(&self, exec: &str, begun: &mut Begun) -> RanEnd {
        let left = timeout(AFTER, async {
            begun.kill().await;
            for _ in 0..20 {
                match self.exec_state(exec).await {
                    Ok((false, _)) => return None,
                    Ok((true, _)) => sleep(LOOK).await,
                    Err(error) => return Some(format!("and whether it runs on can't be told: {error}")),
                }
            }
            Some("and runs on: it could not be killed from here".to_owned())
        });
        RanEnd::TimedOut(
            left.await.unwrap_or_else(|_| Some("and whether it runs on can't be told".to_owned())),
        )
    }
}

/// What a refusal before the start means.
fn not_begun(error: &CallError) -> RanEnd {
    let missing = NOT_STARTED.iter().any(|words| error.says(words));
    if missing && !error.is_not_found() && !error.is_not_running() {
        return RanEnd::NotStarted(error.to_string());
    }
    RanEnd::NotTried(error.to_string())
}

fn ended(code: i64, output: &[u8]) -> RanEnd {
    let text = String::from_utf8_lossy(output).to_ascii_lowercase();
    if matches!(code, 126 | 127) && NOT_STARTED.iter().any(|words| text.contains(words)) {
        return RanEnd::NotStarted(String::from_utf8_lossy(output).trim().to_owned());
    }
    RanEnd::Exited(code)
}
