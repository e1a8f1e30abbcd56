//! What is known of each run while it may live.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hale_keeper::protocol::Running;
use hale_supervisor::{process::Masker, runtime::InstanceId};
use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Stage {
    /// Its start is under way.
    #[default]
    Starting,
    /// It runs, as far as is known.
    Running,
    /// It has ended, and that is being told.
    Ended,
}

/// One run.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub(crate) stage: Stage,
    /// Since when it is there or runs: a list that was asked for before says nothing of it.
    pub(crate) since: Instant,
    pub(crate) container: Option<String>,
    /// Somebody else made it.
    pub(crate) adopted: bool,
    /// The engine's own time of its start: another one is another run of the same container.
    pub(crate) started: Option<Timestamp>,
    /// Its main process as this machine knows it, where it is of this machine.
    pub(crate) process: Option<Running>,
    pub(crate) masker: Arc<Masker>,
    /// Whether the image's own check counts, and what it said last.
    pub(crate) healthcheck: bool,
    pub(crate) healthy: Option<bool>,
    /// When something of it was killed for want of memory.
    pub(crate) oom_at: Option<Instant>,
    /// It ended while its start was under way, so.
    pub(crate) died: Option<i64>,
    /// The last stop that was asked for: signal and grace.
    pub(crate) stop: Option<(i32, Duration)>,
    /// Counts when it was said last when it is to be ended by itself.
    pub(crate) stop_at: u64,
    /// Cancelled when a stop is asked for: a start that is under way is cut short.
    pub(crate) stopped: CancellationToken,
    /// Cancelled once it has ended.
    pub(crate) ended: CancellationToken,
    /// Cancelled once its output is kept to the end.
    pub(crate) followed: CancellationToken,
}

impl Live {
    pub(crate) fn new() -> Self {
        Self {
            stage: Stage::Starting,
            since: Instant::now(),
            container: None,
            adopted: false,
            started: None,
            process: None,
            masker: Arc::default(),
            healthcheck: false,
            healthy: None,
            oom_at: None,
            died: None,
            stop: None,
            stop_at: 0,
            stopped: CancellationToken::new(),
            ended: CancellationToken::new(),
            followed: CancellationToken::new(),
        }
    }
}

/// All runs.
#[derive(Debug, Default)]
pub(crate) struct Table {
    all: Mutex<Inner>,
}

#[derive(Debug, Default)]
pub(crate) struct Inner {
    live: HashMap<InstanceId, Live>,
    by_container: HashMap<String, InstanceId>,
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Fields are set one by one and each is right by itself: a panic elsewhere leaves nothing half done.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn enter(&self, id: InstanceId, live: Live) {
        let mut inner = self.lock();
        if let Some(container) = &live.container {
            inner.by_container.insert(container.clone(), id.clone());
        }
        inner.live.insert(id, live);
    }

    pub(crate) fn get(&self, id: &InstanceId) -> Option<Live> {
        self.lock().live.get(id).cloned()
    }

    /// Changes what is known of one, if it is there.
    pub(crate) fn with<T>(&self, id: &InstanceId, change: impl FnOnce(&mut Live) -> T) -> Option<T> {
        self.lock().live.get_mut(id).map(change)
    }

    /// From now on this container is that run.
    pub(crate) fn name(&self, id: &InstanceId, container: &str) {
        let mut inner = self.lock();
        inner.by_container.insert(container.to_owned(), id.clone());
        if let Some(live) = inner.live.get_mut(id) {
            live.container = Some(container.to_owned());
        }
    }

    /// Which run a container is.
    pub(crate) fn run_of(&self, container: &str) -> Option<InstanceId> {
        self.lock().by_container.get(container).cloned()
    }

    pub(crate) fn remove(&self, id: &InstanceId) -> Option<Live> {
        let mut inner = self.lock();
        let live = inner.live.remove(id)?;
        if let Some(container) = &live.container
            && inner.by_container.get(container) == Some(id)
        {
            inner.by_container.remove(container);
        }
        Some(live)
    }

    pub(crate) fn all(&self) -> Vec<(InstanceId, Live)> {
        self.lock().live.iter().map(|(id, live)| (id.clone(), live.clone())).collect()
    }

    /// Whether nothing is there that the engine has to be asked about.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().live.is_empty()
    }
}
