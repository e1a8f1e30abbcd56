//! The process runtime (N4): replicas are processes of this machine, children of the keeper.
//!
//! Everything that needs thought is done here, in the agent: environment, ports, users, programs by name. The keeper
//! gets a finished order and carries it out, so that it can stay small and need no change when this does.
//!
//! A connection that breaks while the keeper lives (it was upgraded, or the agent was too slow to hear it) is made anew, and
//! what happened meanwhile is asked for. If the keeper dies while the agent lives, its replicas have lost their parent: nobody would see them end. They are
//! ended, a new keeper is started, and each is told as exited with its exit status lost, then as gone; the restart
//! policy does the rest.

mod account;
mod client;
mod env_file;
mod environment;
mod examine;
mod ports;
mod prepare;
mod usage;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hale_health::{Generation, Incarnation, Time};
use hale_keeper::{
    KeeperError, Launched,
    protocol::{InstanceState, Key, Running},
};
use hale_model::{
    event::Forensics,
    spec::{Process, Workload},
};
use jiff::Timestamp;
use tokio::sync::mpsc;

pub use client::KeptOutside;
pub use env_file::read as read_env_file;
pub use environment::{BaseEnvironment, port_variable};
pub use examine::examine;
pub use hale_keeper::logs;
use hale_model::mask;
pub use hale_model::mask::Masker;
pub use ports::{PortError, PortPool};
pub use usage::Meter;

use self::client::Client;
use crate::runtime::{
    AdoptedInstance, BoxFuture, InstanceId, Launch, Runtime, RuntimeEvent, SpawnError, Started, Surroundings,
    Usage,
};

/// How many events may wait for the driver. What waits beyond that stays with the connection: exits always, reports
/// of the processes themselves up to a bound.
const EVENTS: usize = 1024;

/// What this node allows and gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessOptions {
    /// What a replica's environment begins with.
    pub environment: BaseEnvironment,
    /// The users a workload may ask for, by name or number (`--allow-user`); `None`: any.
    pub allow_users: Option<BTreeSet<String>>,
    /// Whether nothing may run as root (`--no-root`).
    pub no_root: bool,
    /// Where replicas are reached.
    pub address: IpAddr,
}

impl Default for ProcessOptions {
    fn default() -> Self {
        Self {
            environment: BaseEnvironment::Inherit,
            allow_users: None,
            no_root: false,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }
}

/// What is known of an instance while it may live.
#[derive(Debug, Clone, Default)]
struct Live {
    running: Running,
    /// Whether its start has not been answered yet.
    starting: bool,
    /// A stop that was asked for meanwhile.
    stop_after: Option<(i32, Duration)>,
    /// The last stop that was sent.
    stop_sent: Option<(i32, Duration)>,
    masker: Arc<Masker>,
}

/// Instances by name, shared with the connection.
#[derive(Debug, Default)]
struct Table {
    live: Mutex<HashMap<InstanceId, Live>>,
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, HashMap<InstanceId, Live>> {
        // What is in it is replaced whole; a panic elsewhere leaves it right.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, id: &InstanceId) -> Option<Live> {
        self.lock().get(id).cloned()
    }
}

/// Runs replicas as processes of this machine.
#[derive(Debug)]
pub struct ProcessRuntime {
    options: Arc<ProcessOptions>,
    dir: PathBuf,
    client: Client,
    table: Arc<Table>,
    meter: Meter,
    events: Mutex<Option<mpsc::Receiver<RuntimeEvent>>>,
    /// Weak: that the keeper is gone shows by the end of the events.
    tell: mpsc::WeakSender<RuntimeEvent>,
}

impl ProcessRuntime {
    /// Connects to a keeper that was started by [`hale_keeper::launch`]. To be called within an async runtime.
    ///
    /// # Errors
    /// The keeper does not answer.
    pub async fn connect(keeper: Launched, options: ProcessOptions) -> Result<Self, KeeperError> {
        let (tell, events) = mpsc::channel(EVENTS);
        let table = Arc::new(Table::default());
        let dir = keeper.dir().to_owned();
        let weak = tell.downgrade();
        let client = Client::connect(keeper, Arc::clone(&table), tell).await?;
        Ok(Self {
            tell: weak,
            options: Arc::new(options),
            dir,
            client,
            table,
            meter: Meter::default(),
            events: Mutex::new(Some(events)),
        })
    }

    /// Ends everything the keeper still runs, then the keeper; returns when it has ended, or after `limit`.
    ///
    /// Each replica gets its stop signal and `grace`. Whoever has stopped its replicas before ends nothing but the
    /// keeper.
    pub async fn shut_down(&self, grace: Duration, limit: Duration) {
        if tokio::time::timeout(limit, self.client.end(grace)).await.is_err() {
            tracing::warn!(limit_seconds = limit.as_secs_f64(), "the keeper has not ended in time");
        }
    }

    /// By which the keeper is told of what it does not run, and ends when nobody else does (N19, S9).
    #[must_use]
    pub fn outside(&self) -> KeptOutside {
        self.client.outside()
    }

    /// Whether the keeper can be asked; while a lost one is replaced it can't be.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.client.is_connected()
    }

    /// What every instance uses that runs now, in one pass. Reads files of the kernel: not for an async task.
    #[must_use]
    pub fn usages(&self) -> Vec<(InstanceId, Usage)> {
        let live: Vec<(InstanceId, Running)> = {
            let live = self.table.lock();
            live.iter()
                .filter(|(_, it)| !it.starting)
                .map(|(id, it)| (id.clone(), it.running.clone()))
                .collect()
        };
        // The list of all processes is made once, and only if a replica has no cgroup of its own.
        let processes = std::cell::OnceCell::new();
        live.into_iter()
            .filter_map(|(id, running)| Some((id, self.meter.usage_among(&running, &processes)?)))
            .collect()
    }

    /// Which cgroups are in use and since which boot, as the keeper told: for logs and diagnostics.
    #[must_use]
    pub fn describe(&self) -> String {
        self.client.describe()
    }

    async fn adopt_all(&self) -> Vec<AdoptedInstance> {
        let found = self.client.list().await.into_iter().map(|state| self.adopted(state));
        let found: Vec<AdoptedInstance> = found.collect();
        tracing::info!(instances = found.len(), "the keeper tells of what it runs");
        found
    }

    fn adopted(&self, state: InstanceState) -> AdoptedInstance {
        let id = id_of(state.key);
        let ports = state.memo.as_deref().and_then(|memo| serde_json::from_str(memo).ok());
        let exit = state.exit.map(|it| (client::exit_of(&it), Time::from_nanos(it.at)));
        let started_wall = i64::try_from(state.started_wall_ms).ok();
        let pid = Some(state.running.pid);
        if !state.gone {
            let live = Live { running: state.running, ..Live::default() };
            self.table.lock().entry(id.clone()).or_insert(live);
        }
        AdoptedInstance {
            id,
            started: self.started(pid, None),
            started_at: Time::from_nanos(state.started_at),
            started_wall: started_wall.and_then(|ms| Timestamp::from_millisecond(ms).ok()),
            ports: ports.unwrap_or_default(),
            stopping: state.stopping,
            exit,
            gone: state.gone,
            notified: state.notified.into_iter().map(|(name, (value, _))| (name, value)).collect(),
        }
    }

    fn started(&self, pid: Option<u32>, surroundings: Option<Arc<Surroundings>>) -> Started {
        let address = self.options.address;
        Started { pid, container_id: None, address, ports: BTreeMap::new(), surroundings }
    }

    async fn start_one(&self, launch: Launch) -> Result<Started, SpawnError> {
        let options = Arc::clone(&self.options);
        let id = launch.id.clone();
        // Entered first: a stop may come before the start is done, and its end may be told before its start is.
        self.table.lock().insert(id.clone(), Live { starting: true, ..Live::default() });
        let started = self.start_entered(&id, launch, options).await;
        let mut live = self.table.lock();
        let stop = live.get_mut(&id).and_then(|it| {
            it.starting = false;
            it.stop_after.take()
        });
        if started.is_err() {
            live.remove(&id);
        }
        drop(live);
        if let Some((signal, grace)) = stop {
            // For one that did not start this tells that it is gone.
            self.client.stop(id, signal, grace);
        }
        started
    }

    /// Tells that limits are not kept. Where events wait in heaps it is only logged.
    fn warn(&self, id: &InstanceId, detail: String) {
        let event = RuntimeEvent::Warning { id: id.clone(), code: "limit_not_kept", detail };
        if let Some(tell) = self.tell.upgrade() {
            let _ = tell.try_send(event);
        }
    }

    async fn start_entered(
        &self,
        id: &InstanceId,
        launch: Launch,
        options: Arc<ProcessOptions>,
    ) -> Result<Started, SpawnError> {
        let process = process_of(&launch.workload)?;
        let limited = launch.workload.resources.memory.is_some() || launch.workload.resources.cpu.is_some();
        // A way to another thread and back costs more than a few looks along PATH; whole files are another matter.
        let prepared = if process.env_from.is_empty() && process.user.is_none() && process.group.is_none() {
            prepare::prepare(&launch, &options)
        } else {
            let prepared = tokio::task::spawn_blocking(move || prepare::prepare(&launch, &options)).await;
            let lost = |error| spawn_error("internal", format!("can't prepare {}: {error}", id.replica));
            prepared.map_err(lost)?
        }?;
        if let Some(live) = self.table.lock().get_mut(id) {
            live.masker = Arc::clone(&prepared.surroundings.masker);
        }
        let surroundings = Some(Arc::new(prepared.surroundings));
        let running = self.client.start(prepared.start).await?;
        for warning in &running.warnings {
            tracing::warn!(replica = %id.replica, "{warning}");
        }
        // Once a placement: every start of it says the same.
        if limited && id.incarnation.0 == 1 && !running.warnings.is_empty() {
            self.warn(id, format!("{}: it runs without", running.warnings.join("; ")));
        }
        let pid = running.pid;
        if let Some(live) = self.table.lock().get_mut(id) {
            live.running = running;
        }
        Ok(self.started(Some(pid), surroundings))
    }
}

impl Runtime for ProcessRuntime {
    fn name(&self) -> &'static str {
        "process"
    }

    fn start(&self, launch: Launch) -> BoxFuture<'_, Result<Started, SpawnError>> {
        Box::pin(self.start_one(launch))
    }

    fn stop(&self, id: &InstanceId, signal: i32, grace: Duration) {
        if let Some(live) = self.table.lock().get_mut(id).filter(|it| it.starting) {
            let grace = live.stop_after.map_or(grace, |(_, earlier)| earlier.min(grace));
            live.stop_after = Some((signal, grace));
            return;
        }
        self.client.stop(id.clone(), signal, grace);
    }

    fn events(&self) -> Option<mpsc::Receiver<RuntimeEvent>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn examine(&self, id: &InstanceId, limit: Duration) -> BoxFuture<'_, Forensics> {
        let files = self.log_files(&id.replica);
        let (running, masker) = self.table.get(id).map(|live| (live.running, live.masker)).unzip();
        Box::pin(examine(running, masker.unwrap_or_default(), files, limit))
    }

    fn adopt(&self) -> BoxFuture<'_, Vec<AdoptedInstance>> {
        Box::pin(self.adopt_all())
    }

    fn surroundings(&self, launch: &Launch) -> Option<Arc<Surroundings>> {
        let prepared = match prepare::prepare(launch, &self.options) {
            Ok(prepared) => prepared,
            Err(error) => {
                tracing::warn!(replica = launch.id.replica, %error, "can't tell what checks beside it run in");
                return None;
            }
        };
        if let Some(live) = self.table.lock().get_mut(&launch.id) {
            live.masker = Arc::clone(&prepared.surroundings.masker);
        }
        Some(Arc::new(prepared.surroundings))
    }

    fn stop_at(&self, id: &InstanceId, at: Option<Time>, grace: Duration) {
        self.client.stop_at(id.clone(), at, grace);
    }

    fn forget(&self, id: &InstanceId) {
        self.client.forget(id.clone());
    }

    fn usage(&self, id: &InstanceId) -> Option<Usage> {
        let live = self.table.get(id)?;
        self.meter.usage(&live.running)
    }

    fn log_files(&self, replica: &str) -> Vec<PathBuf> {
        logs::files(&self.dir, replica)
    }
}

fn key_of(id: &InstanceId) -> Key {
    Key { replica: id.replica.clone(), generation: id.generation.0, incarnation: id.incarnation.0 }
}

fn id_of(key: Key) -> InstanceId {
    InstanceId {
        replica: key.replica,
        generation: Generation(key.generation),
        incarnation: Incarnation(key.incarnation),
    }
}

fn spawn_error(code: &'static str, detail: impl Into<String>) -> SpawnError {
    SpawnError { code, detail: detail.into() }
}

/// What is run, where it is a process.
fn process_of(workload: &Workload) -> Result<&Process, SpawnError> {
    workload.run.as_process().ok_or_else(|| {
        spawn_error(
            "runtime_unavailable",
            format!("{} is a {}, not a process", workload.name, workload.run.runtime()),
        )
    })
}
