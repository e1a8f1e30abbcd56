//! The runtime as its driver holds it.

use std::{
    cell::OnceCell,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hale_health::Time;
use hale_keeper::logs;
use hale_model::event::Forensics;
use hale_supervisor::{
    clock::{BootClock, Clock},
    process::{Meter, examine},
    runtime::{
        AdoptedInstance, BoxFuture, InstanceId, Launch, Runtime, RuntimeEvent, SpawnError, Started,
        Surroundings, Usage,
    },
};
use tokio::sync::mpsc;

use crate::{link::State, options::ContainerOptions, shared::Shared, table::Stage};

/// Events that may wait for the driver. Whoever tells one waits when it is full; none is lost.
const EVENTS: usize = 1024;

/// The signal of a stop that comes by itself, as the driver's own stops begin with.
const SIGTERM: i32 = 15;

/// Runs replicas as containers of an engine of this machine.
#[derive(Debug)]
pub struct ContainerRuntime {
    shared: Arc<Shared>,
    meter: Meter,
    events: Mutex<Option<mpsc::Receiver<RuntimeEvent>>>,
}

impl ContainerRuntime {
    /// One that asks no engine for anything until a container is wanted, or one was left by an earlier agent. To be used
    /// within an async runtime.
    #[must_use]
    pub fn new(options: ContainerOptions) -> Self {
        let (tell, events) = mpsc::channel(EVENTS);
        Self { shared: Shared::new(options, tell), meter: Meter::default(), events: Mutex::new(Some(events)) }
    }

    /// What every container uses that runs now, where its processes are this machine's. Reads files of the kernel: not for
    /// an async task.
    #[must_use]
    pub fn usages(&self) -> Vec<(InstanceId, Usage)> {
        let processes = OnceCell::new();
        let running = self.shared.table.all().into_iter();
        let running = running.filter(|(_, live)| live.stage == Stage::Running);
        running
            .filter_map(|(id, live)| Some((id, self.meter.usage_among(&live.process?, &processes)?)))
            .collect()
    }

    /// Whether there is a socket where an engine would listen, or somebody said where that is. Nothing is asked.
    #[must_use]
    pub fn may_find_engine(&self) -> bool {
        self.shared.link.may_find()
    }

    /// Whether an engine answers now: asked, unless it is known to be there. Takes seconds where one hangs.
    pub async fn answers(&self) -> bool {
        match self.shared.link.state() {
            State::Up(_) => true,
            State::Unknown | State::Down(_) => self.shared.find_engine().await.is_ok(),
        }
    }

    /// Which engine it is, or why there is none; `None` while nobody has needed one.
    #[must_use]
    pub fn describe(&self) -> Option<Result<String, String>> {
        match self.shared.link.state() {
            State::Unknown => None,
            State::Up(engine) => Some(Ok(engine.what)),
            State::Down(why) => Some(Err(why)),
        }
    }

    /// How many containers with this label (name, and value where one is asked for) somebody else made.
    ///
    /// # Errors
    /// The engine can't be asked; in words.
    pub async fn count_labelled(&self, label: (&str, Option<&str>)) -> Result<usize, String> {
        self.shared.watched();
        self.shared.labelled(label).await.map(|it| it.len()).map_err(|error| error.to_string())
    }

    async fn examine_now(&self, id: &InstanceId, limit: Duration) -> Forensics {
        let live = self.shared.table.get(id);
        let files = self.log_files(&id.replica);
        let (process, masker) =
            live.as_ref().map(|live| (live.process.clone(), Arc::clone(&live.masker))).unzip();
        let masker = masker.unwrap_or_default();
        let container = live.as_ref().and_then(|live| live.container.clone());
        let looked = tokio::time::timeout(limit, async {
            match &container {
                Some(container) => self.shared.inspect(container).await.map(Option::unwrap_or_default),
                None => Ok(crate::facts::Facts::default()),
            }
        });
        let (mut found, looked) =
            tokio::join!(examine(process.flatten(), Arc::clone(&masker), files, limit), looked);
        match looked {
            Ok(Ok(facts)) if container.is_some() => {
                let health = facts.healthy.map(|well| if well { ", healthy" } else { ", unhealthy" });
                let error = if facts.error.is_empty() { String::new() } else { format!(": {}", facts.error) };
                let state =
                    format!("container {} {}{}{error}", facts.name, facts.status, health.unwrap_or(""));
                found.state.push(masker.line(&state));
                if !facts.health_output.is_empty() {
                    found.state.push(masker.line(&facts.health_detail()));
                }
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => found.missing.push(format!("the container's state: {error}")),
            Err(_) => found.missing.push(format!("the container's state: no answer within {limit:?}")),
        }
        found
    }
}

impl Runtime for ContainerRuntime {
    fn name(&self) -> &'static str {
        "container"
    }

    fn start(&self, launch: Launch) -> BoxFuture<'_, Result<Started, SpawnError>> {
        Box::pin(self.shared.start(launch))
    }

    fn stop(&self, id: &InstanceId, signal: i32, grace: Duration) {
        self.shared.stop(id, signal, grace);
    }

    fn release(&self, id: &InstanceId, signal: i32, grace: Duration) {
        self.shared.release(id, signal, grace);
    }

    fn events(&self) -> Option<mpsc::Receiver<RuntimeEvent>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn examine(&self, id: &InstanceId, limit: Duration) -> BoxFuture<'_, Forensics> {
        let id = id.clone();
        Box::pin(async move { self.examine_now(&id, limit).await })
    }

    fn adopt(&self) -> BoxFuture<'_, Vec<AdoptedInstance>> {
        Box::pin(self.shared.adopt())
    }

    fn surroundings(&self, launch: &Launch) -> Option<Arc<Surroundings>> {
        Some(self.shared.surroundings(&launch.id, Shared::masker_of(launch)))
    }

    /// An engine ends nothing by itself at a moment: the keeper does, or where there is none the agent while it lives.
    fn stop_at(&self, id: &InstanceId, at: Option<Time>, grace: Duration) {
        if self.shared.stop_outside_at(id, at, grace) {
            return;
        }
        let number = self.shared.table.with(id, |live| {
            live.stop_at += 1;
            live.stop_at
        });
        let (Some(at), Some(number)) = (at, number) else { return };
        let (shared, id) = (Arc::downgrade(&self.shared), id.clone());
        tokio::spawn(async move {
            BootClock.sleep_until(at).await;
            let Some(shared) = shared.upgrade() else { return };
            if shared.table.with(&id, |live| live.stop_at) == Some(number) {
                shared.stop(&id, SIGTERM, grace);
            }
        });
    }

    fn forget(&self, id: &InstanceId) {
        self.shared.records.remove(id);
    }

    fn usage(&self, id: &InstanceId) -> Option<Usage> {
        self.meter.usage(&self.shared.table.get(id)?.process?)
    }

    fn log_files(&self, replica: &str) -> Vec<PathBuf> {
        logs::files(self.shared.dir(), replica)
    }
}
