//! Several runtimes as one: each workload goes to the one it names, each instance stays with the one it was given to.
//!
//! A runtime that is not well harms no other: their starts, stops and events do not wait for each other here.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use hale_health::Time;
use hale_model::{event::Forensics, spec::Workload};
use tokio::sync::mpsc;

use crate::runtime::{
    AdoptedInstance, BoxFuture, InstanceId, Launch, Runtime, RuntimeEvent, SpawnError, Started, Surroundings,
    Usage,
};

/// Events that may wait for the driver; when so many do, runtimes wait with telling theirs, and none is lost.
const EVENTS: usize = 1024;

/// Which runtime an instance is of.
type Places = Arc<Mutex<HashMap<InstanceId, usize>>>;

/// Dispatches over runtimes by [`hale_model::spec::Run::runtime`].
pub struct Runtimes {
    all: Vec<Arc<dyn Runtime>>,
    places: Places,
}

impl std::fmt::Debug for Runtimes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.all.iter().map(|it| it.name())).finish()
    }
}

fn lock(places: &Mutex<HashMap<InstanceId, usize>>) -> MutexGuard<'_, HashMap<InstanceId, usize>> {
    // Entries are replaced whole: a panic elsewhere leaves it right.
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Runtimes {
    /// These, by their names. The first is asked about instances that nobody knows.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn new(all: Vec<Arc<dyn Runtime>>) -> Self {
        assert!(!all.is_empty(), "there must be a runtime");
        Self { all, places: Places::default() }
    }

    fn of(&self, id: &InstanceId) -> &Arc<dyn Runtime> {
        &self.all[lock(&self.places).get(id).copied().unwrap_or(0)]
    }

    fn place_for(&self, workload: &Workload) -> Option<usize> {
        let name = workload.run.runtime();
        self.all.iter().position(|it| it.name() == name)
    }

    async fn start_one(&self, launch: Launch) -> Result<Started, SpawnError> {
        let Some(place) = self.place_for(&launch.workload) else {
            let runtime = launch.workload.run.runtime();
            let detail = format!("{} is a {runtime}, and this agent runs none", launch.workload.name);
            return Err(SpawnError { code: "runtime_unavailable", detail });
        };
        let id = launch.id.clone();
        // Entered first: a stop may come before the start is done.
        lock(&self.places).insert(id.clone(), place);
        let started = self.all[place].start(launch).await;
        if started.is_err() {
            lock(&self.places).remove(&id);
        }
        started
    }

    async fn adopt_all(&self) -> Vec<AdoptedInstance> {
        let found = join_all(self.all.iter().map(|it| it.adopt())).await;
        let mut places = lock(&self.places);
        let mut all = Vec::new();
        for (place, of_one) in found.into_iter().enumerate() {
            places.extend(of_one.iter().map(|it| (it.id.clone(), place)));
            all.extend(of_one);
        }
        all
    }
}

/// Passes on what one runtime tells.
async fn pass_on(mut from: mpsc::Receiver<RuntimeEvent>, to: mpsc::Sender<RuntimeEvent>, places: Places) {
    while let Some(event) = from.recv().await {
        let gone = match &event {
            RuntimeEvent::Gone { id } => Some(id.clone()),
            _ => None,
        };
        if to.send(event).await.is_err() {
            return;
        }
        if let Some(id) = gone {
            lock(&places).remove(&id);
        }
    }
}

impl Runtime for Runtimes {
    fn name(&self) -> &'static str {
        self.all[0].name()
    }

    fn name_for(&self, workload: &Workload) -> &'static str {
        workload.run.runtime()
    }

    fn start(&self, launch: Launch) -> BoxFuture<'_, Result<Started, SpawnError>> {
        Box::pin(self.start_one(launch))
    }

    fn stop(&self, id: &InstanceId, signal: i32, grace: Duration) {
        self.of(id).stop(id, signal, grace);
    }

    fn release(&self, id: &InstanceId, signal: i32, grace: Duration) {
        self.of(id).release(id, signal, grace);
    }

    fn events(&self) -> Option<mpsc::Receiver<RuntimeEvent>> {
        let (tell, events) = mpsc::channel(EVENTS);
        let mut any = false;
        for from in self.all.iter().filter_map(|it| it.events()) {
            any = true;
            tokio::spawn(pass_on(from, tell.clone(), Arc::clone(&self.places)));
        }
        any.then_some(events)
    }

    fn examine(&self, id: &InstanceId, limit: Duration) -> BoxFuture<'_, Forensics> {
        let runtime = Arc::clone(self.of(id));
        let id = id.clone();
        Box::pin(async move { runtime.examine(&id, limit).await })
    }

    fn adopt(&self) -> BoxFuture<'_, Vec<AdoptedInstance>> {
        Box::pin(self.adopt_all())
    }

    fn surroundings(&self, launch: &Launch) -> Option<Arc<Surroundings>> {
        self.of(&launch.id).surroundings(launch)
    }

    fn stop_at(&self, id: &InstanceId, at: Option<Time>, grace: Duration) {
        self.of(id).stop_at(id, at, grace);
    }

    fn forget(&self, id: &InstanceId) {
        self.of(id).forget(id);
        lock(&self.places).remove(id);
    }

    fn usage(&self, id: &InstanceId) -> Option<Usage> {
        self.of(id).usage(id)
    }

    /// A replica that was moved from one runtime to another has files of both in one place: any of them knows.
    fn log_files(&self, replica: &str) -> Vec<PathBuf> {
        self.all.iter().map(|it| it.log_files(replica)).find(|it| !it.is_empty()).unwrap_or_default()
    }
}
