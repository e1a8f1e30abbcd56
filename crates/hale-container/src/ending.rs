//! The end of a run: asked for, or met.

use std::{sync::Arc, time::Duration};

use bollard::query_parameters::{KillContainerOptionsBuilder, StopContainerOptionsBuilder};
use hale_health::Exit;
use hale_supervisor::runtime::{InstanceId, RuntimeEvent};
use jiff::Timestamp;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::{
    error::CallError,
    exit::exit_of,
    record::{Ended, Record},
    shared::{CALL, Shared, moment},
    table::{Live, Stage},
};

/// How long an end waits for the rest of its output.
const OUTPUT: Duration = Duration::from_secs(2);

/// How long SIGKILL may take.
const KILLED: Duration = Duration::from_secs(10);

/// What was killed for want of memory so shortly before its end ended for that.
const OOM_BEFORE: Duration = Duration::from_secs(10);

/// Between attempts to reach an engine that does not answer.
const AGAIN: Duration = Duration::from_millis(500);

const SIGKILL: i32 = 9;

impl Shared {
    /// Begins to end a run; returns at once.
    pub(crate) fn stop(self: &Arc<Self>, id: &InstanceId, signal: i32, grace: Duration) {
        let live = self.table.with(id, |live| {
            let first = live.stop.is_none();
            let grace = live.stop.map_or(grace, |(_, earlier)| earlier.min(grace));
            live.stop = Some((signal, grace));
            if live.stage == Stage::Starting {
                live.stopped.cancel();
            }
            (live.clone(), first)
        });
        let (shared, id) = (Arc::clone(self), id.clone());
        match live {
            None => drop(tokio::spawn(async move { shared.tell(RuntimeEvent::Gone { id }).await })),
            Some((live, first)) if live.stage == Stage::Running => {
                tokio::spawn(async move { shared.stop_running(&id, live, (signal, grace), first).await });
            }
            // One that starts is cut short; one that has ended is told gone anyway.
            Some(_) => {}
        }
    }

    async fn stop_running(
        self: &Arc<Self>,
        id: &InstanceId,
        live: Live,
        (signal, grace): (i32, Duration),
        first: bool,
    ) {
        let Some(container) = live.container.clone() else { return };
        let until = Instant::now() + grace;
        if first && let Some(record) = self.record_of(id) {
            self.records.save(&Record { stopping: true, ..record });
        }
        if live.adopted {
            self.stop_adopted(&container, grace).await;
        } else if first && !grace.is_zero() {
            self.signal(id, &container, signal, until).await;
        }
        tokio::select! {
            () = live.ended.cancelled() => return,
            () = sleep_until(until) => {}
        }
        let killed = self.signal(id, &container, SIGKILL, Instant::now() + KILLED).await;
        if timeout(KILLED, live.ended.cancelled()).await.is_ok() {
            return;
        }
        let detail = match (killed, self.look(id, &container).await) {
            (_, Ok(false)) => return,
            (Some(error), _) | (None, Err(error)) => format!("{container}: {error}"),
            (None, Ok(true)) => format!("{container} runs on {KILLED:?} after SIGKILL"),
        };
        self.tell(RuntimeEvent::StopFailed { id: id.clone(), detail }).await;
    }

    /// The engine's own stop: it takes note that the container is not to be restarted by a policy of its own.
    async fn stop_adopted(&self, container: &str, grace: Duration) {
        let name = container.to_owned();
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let stopped = self.link.call(grace + KILLED, |docker| async move {
            let options = StopContainerOptionsBuilder::default().t(seconds).build();
            docker.stop_container(&name, Some(options)).await
        });
        if let Err(error) = stopped.await {
            tracing::debug!(container, %error, "the engine did not stop a container");
        }
    }

    /// Sends a signal; tried again while the engine does not answer. What stood in the way, if something did.
    async fn signal(
        self: &Arc<Self>,
        id: &InstanceId,
        container: &str,
        signal: i32,
        until: Instant,
    ) -> Option<CallError> {
        loop {
            let name = container.to_owned();
            let sent = self.link.call(CALL, |docker| async move {
                let options = KillContainerOptionsBuilder::default().signal(&signal.to_string()).build();
                docker.kill_container(&name, Some(options)).await
            });
            match sent.await {
                Ok(()) => return None,
                Err(error) if error.is_not_found() || error.is_not_running() => {
                    // Its end was not heard of.
                    let _ = self.look(id, container).await;
                    return Some(error);
                }
                Err(error) if !error.is_engine() || Instant::now() + AGAIN >= until => return Some(error),
                Err(_) => sleep(AGAIN).await,
            }
        }
    }

    /// Looks at one container, and tells its end if it has one. Whether it runs.
    pub(crate) async fn look(self: &Arc<Self>, id: &InstanceId, container: &str) -> Result<bool, CallError> {
        match self.inspect(container).await? {
            None => {
                self.ended(id, Exit::default(), None);
                Ok(false)
            }
            Some(facts) => {
                let same = self.table.with(id, |live| {
                    live.started.is_none() || facts.started.is_none() || live.started == facts.started
                });
                if same == Some(false) {
                    // It was started again by somebody else: the run that we knew is over.
                    self.ended(id, Exit::default(), None);
                    return Ok(false);
                }
                self.meet(id, &facts).await;
                Ok(facts.running)
            }
        }
    }

    /// A run has ended, so. Told once, whoever hears of it first.
    pub(crate) fn ended(self: &Arc<Self>, id: &InstanceId, exit: Exit, at: Option<Timestamp>) {
        let ended = self.table.with(id, |live| {
            if live.stage == Stage::Ended {
                return None;
            }
            live.stage = Stage::Ended;
            live.ended.cancel();
            Some(live.clone())
        });
        let Some(live) = ended.flatten() else { return };
        let killed = exit.signal == Some(SIGKILL);
        let oom = exit.oom || killed && live.oom_at.is_some_and(|at| at.elapsed() < OOM_BEFORE);
        let (shared, id) = (Arc::clone(self), id.clone());
        tokio::spawn(async move { shared.tell_end(&id, live, Exit { oom, ..exit }, at).await });
    }

    async fn tell_end(self: &Arc<Self>, id: &InstanceId, live: Live, exit: Exit, at: Option<Timestamp>) {
        let wall = at.unwrap_or_else(Timestamp::now);
        if let Some(record) = self.record_of(id) {
            self.records.save(&Record { ended: Some(Ended::new(exit, wall)), ..record });
        }
        self.tell(RuntimeEvent::Exited { id: id.clone(), exit, at: moment(wall) }).await;
        let _ = timeout(OUTPUT, live.followed.cancelled()).await;
        self.remember_last(id);
        self.tell(RuntimeEvent::Gone { id: id.clone() }).await;
        self.gone(id, live).await;
    }

    /// Nothing of a run is left but its container, which goes too, once its output is read.
    async fn gone(self: &Arc<Self>, id: &InstanceId, live: Live) {
        let _ = timeout(CALL, live.followed.cancelled()).await;
        self.table.remove(id);
        let removed = match live.container.filter(|_| !live.adopted) {
            Some(container) => self.remove_container(&container).await,
            None => true,
        };
        if removed {
            self.leave_outside(id);
        }
    }

    /// Lets a run be that somebody else made: it goes on, and is none of ours any more.
    pub(crate) fn release(self: &Arc<Self>, id: &InstanceId, signal: i32, grace: Duration) {
        if !self.table.get(id).is_some_and(|live| live.adopted) {
            return self.stop(id, signal, grace);
        }
        if let Some(live) = self.table.remove(id) {
            live.ended.cancel();
            live.stopped.cancel();
        }
        self.records.remove(id);
        self.leave_outside(id);
        self.unclaim(id);
        tracing::info!(replica = id.replica, "a container that somebody else made is let be");
        let (shared, id) = (Arc::clone(self), id.clone());
        tokio::spawn(async move { shared.tell(RuntimeEvent::Gone { id }).await });
    }

    /// The record of a run as it stands.
    fn record_of(&self, id: &InstanceId) -> Option<Record> {
        self.records.load_one(id)
    }

    /// The engine says that a container ended.
    pub(crate) async fn died(self: &Arc<Self>, id: &InstanceId, code: Option<i64>) {
        let stage = self.table.with(id, |live| {
            if live.stage == Stage::Starting {
                live.died = code;
            }
            let oom_heard = live.oom_at.is_some_and(|at| at.elapsed() < OOM_BEFORE);
            (live.stage, oom_heard, live.container.clone())
        });
        let Some((Stage::Running, oom_heard, Some(container))) = stage else { return };
        // Whether it was killed for want of memory is told before its end, or by its state.
        let sure = code.is_some_and(|code| code != 128 + i64::from(SIGKILL)) || oom_heard;
        if let (Some(code), true) = (code, sure) {
            return self.ended(id, exit_of(code, false), None);
        }
        match self.inspect(&container).await {
            Ok(Some(facts)) if !facts.running => {
                self.ended(id, exit_of(facts.exit_code, facts.oom), facts.finished);
            }
            _ => self.ended(id, code.map_or_else(Exit::default, |code| exit_of(code, false)), None),
        }
    }
}
