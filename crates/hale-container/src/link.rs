//! The connection to the engine: made when it is first needed, made anew when it breaks, never waited for without bound.

use std::{
    env,
    future::Future,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bollard::{ClientVersion, Docker, models::SystemInfoCgroupVersionEnum};
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};

use crate::{error::CallError, socket};

/// The newest version that both Docker 20.10 and Podman 4.3 speak.
const VERSION: ClientVersion = ClientVersion { major_version: 1, minor_version: 41 };

/// The client's own limit, seconds. Every call has a shorter one of ours; streams outlive it.
const CLIENT_LIMIT: u64 = 3600;

/// There, where systemd is the first process.
const SYSTEMD: &str = "/run/systemd/system";

/// How long the first answer may take.
const HELLO: Duration = Duration::from_secs(5);

/// How long a start waits for an engine that is being looked for.
const WAIT: Duration = Duration::from_secs(6);

/// Between attempts to find an engine again: this at first, then twice as long each time.
const AGAIN_FIRST: Duration = Duration::from_millis(250);

/// The longest wait between attempts.
const AGAIN_MAX: Duration = Duration::from_secs(10);

/// An engine that answered.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    pub(crate) docker: Docker,
    /// Whether containers write to `json-file` unless they are told otherwise: then what it keeps is bounded.
    pub(crate) bounds_logs: bool,
    /// Whether it runs a HEALTHCHECK by itself: Podman leaves that to timers of systemd.
    pub(crate) runs_checks: bool,
    /// Whether it tells what was killed for want of memory: Podman can't where cgroups are of version 1.
    pub(crate) tells_oom: bool,
    /// Where it listens.
    pub(crate) socket: PathBuf,
    /// Name, version, socket: for logs and diagnostics.
    pub(crate) what: String,
}

/// How it stands.
#[derive(Debug, Clone)]
pub(crate) enum State {
    /// It is being looked for; nothing is known yet.
    Unknown,
    /// It answers.
    Up(Engine),
    /// It does not, and why.
    Down(String),
}

/// The connection, shared.
#[derive(Debug)]
pub(crate) struct Link {
    host: Option<String>,
    state: watch::Sender<State>,
    wanted: AtomicBool,
    /// Wakes the attempt to find it again.
    hurry: Notify,
    /// A call that could not reach it: the connection may be dead without anybody saying so.
    doubt: Notify,
    version_told: Mutex<Option<String>>,
    last: Mutex<Option<PathBuf>>,
}

impl Link {
    pub(crate) fn new(host: Option<String>) -> Self {
        Self {
            host,
            state: watch::Sender::new(State::Unknown),
            wanted: AtomicBool::new(false),
            hurry: Notify::new(),
            doubt: Notify::new(),
            version_told: Mutex::default(),
            last: Mutex::default(),
        }
    }

    /// Whether this is the first time that it is wanted: then somebody has to look for it.
    pub(crate) fn want(&self) -> bool {
        !self.wanted.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    pub(crate) fn set(&self, state: State) {
        if let State::Up(engine) = &state {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(engine.socket.clone());
            let told =
                self.version_told.lock().unwrap_or_else(PoisonError::into_inner).replace(engine.what.clone());
            if told.as_ref() != Some(&engine.what) {
                tracing::info!(engine = engine.what, "a container engine is there");
            }
        }
        self.state.send_replace(state);
    }

    /// The engine, now or within a few seconds.
    pub(crate) async fn engine(&self) -> Result<Engine, CallError> {
        self.hurry.notify_one();
        let mut state = self.state.subscribe();
        let up = async {
            loop {
                match &*state.borrow_and_update() {
                    State::Up(engine) => return Ok(engine.clone()),
                    State::Down(why) => return Err(CallError::Unreachable(why.clone())),
                    State::Unknown => {}
                }
                if state.changed().await.is_err() {
                    return Err(CallError::Unreachable("the runtime has ended".to_owned()));
                }
            }
        };
        timeout(WAIT, up).await.unwrap_or(Err(CallError::Late(WAIT)))
    }

    /// The next engine, however long that takes.
    pub(crate) async fn next_engine(&self) -> Option<Engine> {
        let mut state = self.state.subscribe();
        let up = state.wait_for(|state| matches!(state, State::Up(_))).await.ok()?;
        match &*up {
            State::Up(engine) => Some(engine.clone()),
            _ => None,
        }
    }

    /// Asks the engine for something, within `limit`.
    pub(crate) async fn call<T, F>(
        &self,
        limit: Duration,
        ask: impl FnOnce(Docker) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, bollard::errors::Error>>,
    {
        let engine = self.engine().await?;
        let result = match timeout(limit, ask(engine.docker)).await {
            Ok(result) => result.map_err(CallError::from),
            Err(_) => Err(CallError::Late(limit)),
        };
        if result.as_ref().is_err_and(CallError::is_engine) {
            self.doubt.notify_one();
        }
        result
    }

    /// Somebody could not reach it.
    pub(crate) async fn doubted(&self) {
        self.doubt.notified().await;
    }

    /// Waits before the next attempt: `tries` have failed in a row. Whoever needs it cuts that short, but not below the
    /// first wait.
    pub(crate) async fn pause(&self, tries: u32) {
        let wait = AGAIN_FIRST.saturating_mul(1 << tries.min(8)).min(AGAIN_MAX);
        sleep(AGAIN_FIRST).await;
        tokio::select! {
            () = sleep(wait.saturating_sub(AGAIN_FIRST)) => {}
            () = self.hurry.notified() => {}
        }
    }

    /// Whether there is a socket to try, or somebody said which.
    pub(crate) fn may_find(&self) -> bool {
        let candidates = socket::candidates(self.host.as_deref(), |name| env::var(name).ok());
        self.host.is_some() || candidates.is_ok_and(|(all, _)| all.iter().any(|it| it.exists()))
    }

    /// Where the last engine that answered listens.
    pub(crate) fn last(&self) -> Option<PathBuf> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks for an engine, once. `holding`: the socket of the one that runs of ours are in. No other is asked then, unless
    /// somebody says which: it would know nothing of them, and they would be started a second time there.
    pub(crate) async fn find(&self, holding: Option<PathBuf>) -> Result<Engine, String> {
        let (candidates, said) = socket::candidates(self.host.as_deref(), |name| env::var(name).ok())?;
        match holding.filter(|_| !said) {
            None => Self::find_among(&candidates).await,
            Some(socket) => Self::find_among(std::slice::from_ref(&socket)).await.map_err(|why| {
                format!("{why} (no other engine is asked while replicas are in this one, unless --container-host says so)")
            }),
        }
    }

    async fn find_among(candidates: &[PathBuf]) -> Result<Engine, String> {
        let there: Vec<&PathBuf> = candidates.iter().filter(|it| it.exists()).collect();
        if there.is_empty() {
            let all = candidates.iter().map(|it| it.display().to_string()).collect::<Vec<_>>().join(", ");
            return Err(format!(
                "no container engine: none of these sockets is there: {all}; start Docker or Podman, or say where it is \
                 with --container-host"
            ));
        }
        let mut why = Vec::new();
        for path in there {
            let path = path.display().to_string();
            match timeout(HELLO, hello(&path)).await {
                Ok(Ok(engine)) => return Ok(engine),
                Ok(Err(error)) => why.push(format!("{path}: {error}")),
                Err(_) => why.push(format!("{path}: no answer within {HELLO:?}")),
            }
        }
        Err(format!("no container engine answers: {}", why.join("; ")))
    }
}

async fn hello(path: &str) -> Result<Engine, CallError> {
    let docker = Docker::connect_with_unix(path, CLIENT_LIMIT, &VERSION)?;
    let version = docker.version().await?;
    let name = version.components.iter().flatten().next().map_or("", |it| it.name.as_str());
    let podman = name.to_ascii_lowercase().contains("podman");
    let info = docker.info().await?;
    let bounds_logs = !podman && info.logging_driver.as_deref() == Some("json-file");
    let release = version.version.unwrap_or_default();
    let what = format!("{} {release} at {path}", if podman { "Podman" } else { "Docker" });
    let old_cgroups = info.cgroup_version.is_some_and(|it| it == SystemInfoCgroupVersionEnum::_1);
    Ok(Engine {
        docker,
        bounds_logs,
        runs_checks: !podman || Path::new(SYSTEMD).is_dir(),
        tells_oom: !podman || !old_cgroups,
        socket: PathBuf::from(path),
        what,
    })
}

/// Shared by everything of the runtime.
pub(crate) type SharedLink = Arc<Link>;
