//! The life of a program, from its start until nothing of it is left (R9).
//!
//! Its end is noticed before it is reaped: as long as it is not, its number and that of its group can't pass to somebody
//! else, and all that is left of it can be found and killed.

use std::{
    io::{self, Write},
    os::{fd::OwnedFd, unix::process::ExitStatusExt},
    process::{Child, ExitStatus},
    time::Duration,
};

use hale_keeper::cgroup;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, waitpid};
use tokio::{
    io::{AsyncWriteExt, Interest, unix::AsyncFd},
    net::unix::pipe,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    How,
    capture::capture,
    kin::Kin,
    start::{Spawned, Start},
};

/// How long killed processes may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(5);
/// How long outputs are read on once nobody should be left to write any.
const DRAINED_WITHIN: Duration = Duration::from_secs(2);
/// How often a run without a cgroup is looked at while it runs.
const LOOKED_AT_EVERY: Duration = Duration::from_millis(500);

/// When a run is to be ended.
#[derive(Debug, Clone)]
pub(super) struct Ends {
    pub(super) timeout: Duration,
    /// From SIGTERM to SIGKILL.
    pub(super) grace: Duration,
    pub(super) stop: CancellationToken,
    /// Cuts the grace.
    pub(super) hurry: CancellationToken,
}

/// Runs it to its end.
pub(super) async fn run(mut start: Start, ends: Ends) -> How {
    if ends.stop.is_cancelled() {
        return How::Interrupted;
    }
    let spawning = tokio::task::spawn_blocking(move || {
        // An owner from the first moment: dropped before it is waited for, it is killed.
        start.spawn().and_then(|spawned| Running::new(spawned, start))
    });
    match spawning.await {
        Ok(Ok(running)) => running.live(&ends).await,
        Ok(Err(reason)) => How::NotStarted(reason),
        Err(error) => How::NotStarted(format!("its start was given up: {error}")),
    }
}

/// A program that runs. Dropped before its end, it is killed with all that it has started.
struct Running {
    child: Child,
    kin: Kin,
    /// What is needed once a runtime is there.
    plumbing: Option<Plumbing>,
    /// Where to say what could not be ended.
    remarks: Option<std::fs::File>,
    reaped: bool,
}

struct Plumbing {
    pidfd: OwnedFd,
    outputs: [(io::PipeReader, std::fs::File); 2],
    max_output: u64,
    input: Option<(io::PipeWriter, Vec<u8>)>,
}

impl Running {
    fn new(spawned: Spawned, start: Start) -> Result<Self, String> {
        let Spawned { child, outputs, input } = spawned;
        let pid = Pid::from_child(&child);
        let main = pid.as_raw_nonzero().get();
        let kin = Kin::new(main, start.mark, start.group);
        let remarks = start.logs[1].try_clone().ok();
        let mut running = Self { child, kin, plumbing: None, remarks, reaped: false };
        let pidfd = pidfd_open(pid, PidfdFlags::NONBLOCK)
            .map_err(|error| format!("can't watch the program: {error}"))?;
        let [out, err] = outputs;
        let [out_log, err_log] = start.logs;
        let outputs = [(out, out_log), (err, err_log)];
        running.plumbing = Some(Plumbing { pidfd, outputs, max_output: start.max_output, input });
        Ok(running)
    }

    async fn live(mut self, ends: &Ends) -> How {
        let deadline = Instant::now() + ends.timeout;
        let drained = CancellationToken::new();
        let lines = match self.connect(&drained) {
            Ok(lines) => lines,
            Err(error) => return How::NotStarted(format!("can't watch the program: {error}")),
        };
        let Lines { exit, captures, input } = lines;
        let cut = self.wait(&exit, deadline, ends).await;
        if cut.is_some() {
            self.ask_to_end(&exit, ends).await;
        }
        let left = self.end_all().await;
        if let Some(input) = input {
            input.abort();
        }
        let all = futures_util::future::join_all(captures);
        tokio::pin!(all);
        if timeout(DRAINED_WITHIN, &mut all).await.is_err() {
            drained.cancel();
            let _ = timeout(DRAINED_WITHIN, &mut all).await;
        }
        self.tell(&left);
        let status = self.reap(&exit).await;
        cut.unwrap_or_else(|| how(status))
    }

    /// Begins to read, to write, and to watch.
    fn connect(&mut self, drained: &CancellationToken) -> io::Result<Lines> {
        let plumbing = self.plumbing.take().ok_or_else(|| io::Error::other("it was watched before"))?;
        let exit = watch(plumbing.pidfd)?;
        let mut captures = Vec::new();
        for (pipe, file) in plumbing.outputs {
            let pipe = pipe::Receiver::from_owned_fd(pipe.into())?;
            captures.push(tokio::spawn(capture(pipe, file, plumbing.max_output, drained.clone())));
        }
        let input = match plumbing.input {
            None => None,
            Some((pipe, bytes)) => {
                let mut pipe = pipe::Sender::from_owned_fd(pipe.into())?;
                // A program needs not read it, and may be gone meanwhile.
                Some(tokio::spawn(async move { drop(pipe.write_all(&bytes).await) }))
            }
        };
        Ok(Lines { exit, captures, input })
    }

    /// Until it ends by itself (`None`), or is to be ended.
    async fn wait(&mut self, exit: &AsyncFd<OwnedFd>, deadline: Instant, ends: &Ends) -> Option<How> {
        loop {
            tokio::select! {
                biased;
                _ = exit.readable() => return None,
                () = ends.stop.cancelled() => return Some(How::Interrupted),
                () = sleep_until(deadline) => return Some(How::TimedOut),
                () = sleep(LOOKED_AT_EVERY), if !self.kin.is_held() => {
                    self.with_kin(|kin| drop(kin.look())).await;
                }
            }
        }
    }

    /// SIGTERM to the group, and time to end.
    async fn ask_to_end(&mut self, exit: &AsyncFd<OwnedFd>, ends: &Ends) {
        let until = Instant::now() + ends.grace;
        self.with_kin(|kin| {
            drop(kin.look());
            kin.signal_group(Signal::TERM);
            // One that is suspended would not hear it.
            kin.signal_group(Signal::CONT);
        })
        .await;
        tokio::select! {
            () = sleep_until(until) => return,
            () = ends.hurry.cancelled() => return,
            _ = exit.readable() => {}
        }
        // Its children were asked, too, and may be at it yet.
        let mut pause = Duration::from_millis(10);
        while !self.with_kin(Kin::is_gone).await {
            tokio::select! {
                () = sleep_until(until) => return,
                () = ends.hurry.cancelled() => return,
                () = sleep(pause) => pause = (pause * 2).min(Duration::from_millis(200)),
            }
        }
    }

    /// SIGKILL to all that is left, until nothing is; returns what can't be ended.
    async fn end_all(&mut self) -> Vec<i32> {
        let deadline = Instant::now() + GONE_WITHIN;
        loop {
            let alive = self.with_kin(Kin::kill).await;
            if alive.is_empty() || Instant::now() > deadline {
                return alive;
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Looking through `/proc` is file I/O.
    async fn with_kin<T: Default + Send + 'static>(
        &mut self,
        look: impl FnOnce(&mut Kin) -> T + Send + 'static,
    ) -> T {
        let mut kin = self.kin.clone();
        match tokio::task::spawn_blocking(move || (look(&mut kin), kin)).await {
            Ok((result, kin)) => {
                self.kin = kin;
                result
            }
            Err(_) => T::default(),
        }
    }

    fn tell(&self, left: &[i32]) {
        if left.is_empty() {
            return;
        }
        let pids: Vec<String> = left.iter().map(ToString::to_string).collect();
        let pids = pids.join(", ");
        tracing::error!(%pids, "processes of a run outlive SIGKILL");
        if let Some(mut file) = self.remarks.as_ref() {
            let _ = writeln!(file, "[hale: processes {pids} outlive SIGKILL]");
        }
    }

    /// Reaps the main process, which can be in an uninterruptible wait; then a thread outlasts it.
    async fn reap(&mut self, exit: &AsyncFd<OwnedFd>) -> Option<ExitStatus> {
        if timeout(GONE_WITHIN, exit.readable()).await.is_err() {
            return None;
        }
        let status = self.child.wait().ok();
        self.reaped = true;
        if let Some(group) = &self.kin.group {
            cgroup::remove_tree(group);
        }
        status
    }
}

struct Lines {
    exit: AsyncFd<OwnedFd>,
    captures: Vec<JoinHandle<()>>,
    input: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        self.kin.kill();
        let (pid, group) = (Pid::from_child(&self.child), self.kin.group.take());
        let reap = move || {
            let _ = waitpid(Some(pid), WaitOptions::empty());
            group.as_deref().map(cgroup::remove_tree)
        };
        // Without a thread it stays a zombie until this process ends; there is nothing better to do.
        let _ = std::thread::Builder::new().name("hale-reap".into()).spawn(reap);
    }
}

fn how(status: Option<ExitStatus>) -> How {
    match (status.and_then(|it| it.code()), status.and_then(|it| it.signal())) {
        (Some(code), _) => How::Exited(code),
        (None, Some(signal)) => How::Signal(signal),
        (None, None) => How::Signal(Signal::KILL.as_raw()),
    }
}

#[expect(deprecated, reason = "an OwnedFd keeps the promise that the unsafe constructor asks for")]
fn watch(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(pidfd, Interest::READABLE)
}
