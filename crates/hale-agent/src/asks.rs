//! What a server asks of a node beside what it wants to run: orders, logs, outcomes.
//!
//! Each is carried out in a task of its own, which ends with the session it came in; so many at once and no more.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hale_api::{
    logs::LogLine,
    proto::{self, NodeMessage, answer, ask::What, node_message::Message as Say},
};
use hale_health::ProbeKind;
use hale_supervisor::{
    process::logs,
    supervisor::{self, SupervisorError, SupervisorHandle},
};
use tokio::{
    sync::{Semaphore, mpsc},
    task::AbortHandle,
};

use crate::{
    reports::Reports,
    targets::{self, TargetError, Targets},
};

/// Answers that wait for a slow server: whoever answers waits then.
const ANSWERS: usize = 8;

/// The most that is asked at one time; more is refused.
const MOST_ASKED: usize = 64;

/// About how much of a log goes in one answer, bytes.
const CHUNK: usize = 256 * 1024;

/// The longest that is read back of a log.
const MOST_LOG_BYTES: u64 = 64 * 1024 * 1024;

/// So many logs are read back at one time: each may take as much memory as is read of it, a few times over. More wait.
const MOST_TAILS: usize = 2;

/// How often a log that is followed is looked at.
const FOLLOW_EVERY: Duration = Duration::from_millis(200);

/// Answers what is asked.
#[derive(Clone)]
pub(crate) struct Asks {
    pub(crate) supervisor: SupervisorHandle,
    pub(crate) targets: Targets,
    pub(crate) reports: Arc<Reports>,
    /// Where replicas' logs are.
    pub(crate) data_dir: PathBuf,
    /// Who may read a log back now.
    pub(crate) tails: Arc<Semaphore>,
}

/// What is asked in one session. Dropped, all of it ends.
pub(crate) struct Asking {
    asks: Asks,
    answers: mpsc::Sender<NodeMessage>,
    running: Arc<AtomicUsize>,
    streams: Arc<Mutex<HashMap<u64, AbortHandle>>>,
}

impl Drop for Asking {
    fn drop(&mut self) {
        for (_, task) in self.streams.lock().unwrap_or_else(PoisonError::into_inner).drain() {
            task.abort();
        }
    }
}

/// Why something asked was not done: a stable word, and words.
struct Refusal(&'static str, String);

impl Asks {
    /// Room for those who read logs back.
    pub(crate) fn tails() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(MOST_TAILS))
    }

    /// What is asked in a new session, and the answers.
    pub(crate) fn session(&self) -> (Asking, mpsc::Receiver<NodeMessage>) {
        let (answers, given) = mpsc::channel(ANSWERS);
        let asking = Asking { asks: self.clone(), answers, running: Arc::default(), streams: Arc::default() };
        (asking, given)
    }
}

impl Asking {
    /// Begins to carry out what is asked. Returns at once.
    pub(crate) fn ask(&self, ask: proto::Ask) {
        let id = ask.id;
        if let Some(What::Cancel(_)) = ask.what {
            let task = self.streams.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            if let Some(task) = task {
                task.abort();
                self.running.fetch_sub(1, Ordering::Relaxed);
            }
            return;
        }
        let answers = self.answers.clone();
        if self.running.fetch_add(1, Ordering::Relaxed) >= MOST_ASKED {
            self.running.fetch_sub(1, Ordering::Relaxed);
            let refused =
                Refusal("unavailable", format!("{MOST_ASKED} things are asked of this node already"));
            // When even this finds no room the asker's own time limit ends its wait.
            let _ = answers.try_send(answer(id, refusal(refused)));
            return;
        }
        let (asks, running, streams) =
            (self.asks.clone(), Arc::clone(&self.running), Arc::clone(&self.streams));
        // Held until the task is entered, so that it does not take itself out before.
        let mut entered = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let task = tokio::spawn(async move {
            let last = asks.carry_out(id, ask.what, &answers).await;
            let _ = answers.send(answer(id, last)).await;
            if streams.lock().unwrap_or_else(PoisonError::into_inner).remove(&id).is_some() {
                running.fetch_sub(1, Ordering::Relaxed);
            }
        });
        if let Some(old) = entered.insert(id, task.abort_handle()) {
            old.abort();
            self.running.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn answer(id: u64, what: answer::What) -> NodeMessage {
    NodeMessage { message: Some(Say::Answer(proto::Answer { id, what: Some(what) })) }
}

fn refusal(Refusal(code, detail): Refusal) -> answer::What {
    answer::What::Refused(proto::Refused { code: code.to_owned(), detail })
}

impl Asks {
    async fn carry_out(
        &self,
        id: u64,
        what: Option<What>,
        answers: &mpsc::Sender<NodeMessage>,
    ) -> answer::What {
        let done = match what {
            Some(What::Order(order)) => self.order(order).await,
            Some(What::Logs(ask)) => self.logs(id, ask, answers).await,
            Some(What::OutcomesOf(subject)) => match self.reports.outcomes.history(subject.clone()).await {
                Ok(mut history) => {
                    self.reports.histories.complete(&subject, &mut history);
                    // A history always has a JSON form.
                    return answer::What::Outcomes(serde_json::to_string(&history).unwrap_or_default());
                }
                Err(error) => Err(Refusal("unavailable", error)),
            },
            Some(What::Cancel(_)) => Ok(()),
            None => Err(Refusal("not_applicable", "this release does not know what was asked".to_owned())),
        };
        match done {
            Ok(()) => answer::What::Done(proto::Done {}),
            Err(refused) => refusal(refused),
        }
    }

    async fn order(&self, order: proto::Order) -> Result<(), Refusal> {
        let proto::Order { verb, name, by, reason, probe, lasting_ms, generation } = order;
        let asker = if reason.is_empty() { by.clone() } else { format!("{by} ({reason})") };
        let probe = match probe {
            Some(word) => Some(
                word.parse::<ProbeKind>()
                    .map_err(|_| Refusal("not_applicable", format!("this release knows no {word} probe")))?,
            ),
            None => None,
        };
        let lasts = lasting_ms.map(Duration::from_millis);
        if self.is_target(&name).await {
            return self.on_target(&verb, &name, asker, targets::Pause { lasts, reason, by }).await;
        }
        self.is_meant(&name, generation).await?;
        let said = (!reason.is_empty()).then_some(reason.as_str());
        tracing::info!(name, verb, by, reason = said, "an order of the server");
        let it = &self.supervisor;
        match verb.as_str() {
            "restart" => it.restart(&name, &asker).await.map(drop),
            "stop" => it.stop(&name, &asker).await,
            "start" => it.start(&name, &asker).await,
            "pause" => it.pause(&name, supervisor::Pause { probe, lasts, reason, by }).await,
            "resume" => it.resume(&name, probe, &asker).await,
            _ => return Err(unknown(&verb)),
        }
        .map_err(refused)
    }

    /// Whether the placement that an order is meant for is the one that is here.
    async fn is_meant(&self, name: &str, generation: u64) -> Result<(), Refusal> {
        let status = self.supervisor.status_of(name).await.map_err(refused)?;
        let here = status.replicas.iter().find(|it| it.name == name).map(|it| it.generation);
        match here {
            Some(here) if generation != 0 && here != generation => {
                Err(Refusal("not_found", format!("{name} is here under placement {here}, not {generation}")))
            }
            _ => Ok(()),
        }
    }

    async fn is_target(&self, name: &str) -> bool {
        self.targets.status().await.is_ok_and(|all| all.iter().any(|it| it.name == name))
    }

    async fn on_target(
        &self,
        verb: &str,
        name: &str,
        asker: String,
        pause: targets::Pause,
    ) -> Result<(), Refusal> {
        let done = match verb {
            "pause" => self.targets.pause(name, pause).await,
            "resume" => self.targets.resume(name, &asker).await,
            "restart" | "stop" | "start" => {
                let detail = format!("{name} is a target: hale does not run it, so it can't {verb} it");
                return Err(Refusal("not_applicable", detail));
            }
            _ => return Err(unknown(verb)),
        };
        done.map_err(|error| match error {
            TargetError::NotFound(_) => Refusal("not_found", error.to_string()),
            TargetError::Closed => Refusal("unavailable", error.to_string()),
            TargetError::Invalid { .. } => Refusal("not_applicable", error.to_string()),
        })
    }

    /// Tells the end of a replica's log, and what comes after, until it is cancelled.
    async fn logs(
        &self,
        id: u64,
        ask: proto::LogAsk,
        answers: &mpsc::Sender<NodeMessage>,
    ) -> Result<(), Refusal> {
        let proto::LogAsk { replica, tail, follow, only_new } = ask;
        // The name becomes part of a path.
        if replica.is_empty() || !replica.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-') {
            return Err(Refusal("not_found", format!("no replica is named {replica:?}")));
        }
        let failed = |error: std::io::Error| Refusal("unavailable", format!("the log of {replica}: {error}"));
        let (dir, name) = (self.data_dir.clone(), replica.clone());
        let lines = if tail == 0 { usize::MAX } else { tail as usize };
        let following = logs::Follow::from_end(&self.data_dir, &replica);
        if !only_new {
            // Never closed.
            let _permit = self.tails.acquire().await;
            let kept = tokio::task::spawn_blocking(move || {
                logs::tail(&logs::files(&dir, &name), lines, MOST_LOG_BYTES)
            });
            let kept = kept.await.map_err(std::io::Error::other).and_then(|it| it).map_err(failed)?;
            if !tell(id, &replica, kept, answers).await {
                return Ok(());
            }
        }
        let mut following = follow.then_some(following);
        while let Some(follow) = &mut following {
            tokio::time::sleep(FOLLOW_EVERY).await;
            let more = follow.more().map_err(failed)?;
            if !tell(id, &replica, more, answers).await {
                break;
            }
        }
        Ok(())
    }
}

/// Tells lines in chunks; false: nobody hears them any more.
async fn tell(id: u64, replica: &str, lines: Vec<logs::LogLine>, to: &mpsc::Sender<NodeMessage>) -> bool {
    let mut chunk: Vec<LogLine> = Vec::new();
    let mut bytes = 0;
    let mut lines = lines.into_iter().peekable();
    while let Some(line) = lines.next() {
        let logs::LogLine { time, stream, whole, text } = line;
        bytes += text.len() + 64;
        chunk.push(LogLine { replica: replica.to_owned(), time, stream, whole, text });
        if bytes >= CHUNK || lines.peek().is_none() {
            let json = serde_json::to_string(&chunk).unwrap_or_default();
            if to.send(answer(id, answer::What::LogLines(json))).await.is_err() {
                return false;
            }
            (chunk, bytes) = (Vec::new(), 0);
        }
    }
    !to.is_closed()
}

fn unknown(verb: &str) -> Refusal {
    Refusal("not_applicable", format!("this release does not know how to {verb}"))
}

fn refused(error: SupervisorError) -> Refusal {
    match error {
        SupervisorError::NotFound { .. } => Refusal("not_found", error.to_string()),
        SupervisorError::Closed => Refusal("unavailable", error.to_string()),
        _ => Refusal("not_applicable", error.to_string()),
    }
}
