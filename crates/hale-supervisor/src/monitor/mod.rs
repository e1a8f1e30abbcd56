//! The embeddable supervisor (H30): a program watches and restarts its own parts by the rules that hale runs replicas
//! by: thresholds, backoff, restart budget, dependencies.
//!
//! A [`Component`] is a name, its checks, a restart function and a policy. A [`Monitor`] asks the checks on time,
//! restarts what fails, and tells how everything is. All of it can be called from many tasks at once; a check or a
//! restart function that hangs or panics is cut off and harms nobody else.
//!
//! ```
//! use std::{sync::{Arc, atomic::{AtomicBool, Ordering}}, time::Duration};
//! use hale_health::{ProbeKind, ProbeTiming};
//! use hale_supervisor::monitor::{Change, Component, Monitor};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let connected = Arc::new(AtomicBool::new(true));
//! let (asked, restarted) = (Arc::clone(&connected), Arc::clone(&connected));
//!
//! let monitor = Monitor::new();
//! let mut changes = monitor.changes();
//! monitor.add(
//!     Component::new("uplink")
//!         .liveness(move || {
//!             let connected = asked.load(Ordering::Relaxed);
//!             async move { if connected { Ok(()) } else { Err("not connected") } }
//!         })
//!         .timing(ProbeKind::Liveness, ProbeTiming {
//!             period: Duration::from_secs(1),
//!             ..ProbeTiming::default_for(ProbeKind::Liveness)
//!         })
//!         .on_restart(move || {
//!             restarted.store(true, Ordering::Relaxed);
//!             async { Ok::<(), std::io::Error>(()) }
//!         }),
//! )?;
//! monitor.start("uplink").await?;
//! assert!(monitor.is_healthy("uplink").await);
//!
//! connected.store(false, Ordering::Relaxed);
//! while let Some(change) = changes.next().await {
//!     if let Change::Restarted { restarts, .. } = change {
//!         assert_eq!(restarts, 1);
//!         break;
//!     }
//! }
//! monitor.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod changes;
mod component;
mod prober;
mod runtime;

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use hale_health::{Phase, ProbeKind, Reason, Status, Verdict, WorkloadPolicy, worst_of};
use hale_model::spec::{Check, Disconnect, Exec, Probe, Process, Resources, Rollout, Run, Workload};

use self::{changes::Teller, component::Asks, prober::Asking, runtime::Components};
pub use self::{
    changes::{Change, Changes},
    component::Component,
};
use crate::{
    clock::{BootClock, Clock},
    runtime::Runtime,
    sink::Sink,
    supervisor::{Options, Pause, Supervisor, SupervisorError, SupervisorHandle},
};

/// How long [`Monitor::start`] and [`Monitor::stop`] wait beyond what the restart function may take.
const SETTLE: Duration = Duration::from_secs(5);

/// Why something asked of a monitor was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MonitorError {
    /// There is a component of this name already.
    #[error("there is a component {0:?} already")]
    Duplicate(String),
    /// There is none of this name.
    #[error("there is no component {0:?}")]
    NotFound(String),
    /// A component depends on one that is not there.
    #[error("{component:?} depends on {missing:?}, which is not there")]
    MissingDependency {
        /// Which component.
        component: String,
        /// What it depends on.
        missing: String,
    },
    /// What it was told to do did not come about.
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
}

/// How one component is.
#[derive(Debug, Clone, PartialEq)]
pub struct ComponentStatus {
    /// Its name.
    pub name: String,
    /// How it is, in one word.
    pub status: Status,
    /// What it is doing; `pending` before its first start.
    pub phase: Phase,
    /// Whether it is ready.
    pub ready: bool,
    /// How long its present run lasts.
    pub uptime: Option<Duration>,
    /// How often it was restarted.
    pub restarts: u64,
    /// What went wrong last, in one line: `liveness: check_failed 3/3`.
    pub last_error: Option<String>,
    /// What the last failed check said.
    pub last_detail: Option<String>,
}

/// How all components are.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// The worst of all; unknown when there is none.
    pub status: Status,
    /// How many are healthy.
    pub healthy: usize,
    /// How many are degraded.
    pub degraded: usize,
    /// How many are failing.
    pub failing: usize,
    /// How many are not known.
    pub unknown: usize,
    /// By name.
    pub components: Vec<ComponentStatus>,
}

/// What one check found when it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// What it was for.
    pub probe: ProbeKind,
    /// Why it failed and what it said; `None`: success.
    pub failure: Option<(Reason, String)>,
    /// How long it took.
    pub took: Duration,
}

/// Watches and restarts the components of a program. Cheap to clone.
#[derive(Clone)]
pub struct Monitor {
    components: Arc<Components>,
    teller: Arc<Teller>,
    supervisor: SupervisorHandle,
    /// Those that were started. Held while they are applied, so that two callers do not undo each other.
    started: Arc<tokio::sync::Mutex<BTreeMap<String, Arc<Workload>>>>,
    added: Arc<RwLock<HashMap<String, Duration>>>,
}

impl Default for Monitor {
    fn default() -> Self {
        Self::new()
    }
}

impl Monitor {
    /// A monitor without components, by the machine's clock.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(Arc::new(BootClock))
    }

    /// A monitor by another clock: [`crate::clock::ManualClock`] in tests that want no timers.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        let components = Arc::new(Components::new(Arc::clone(&clock)));
        let asking = Arc::new(Asking::new(Arc::clone(&clock), Arc::clone(&components)));
        let teller = Arc::new(Teller::new());
        let runtime: Arc<dyn Runtime> = Arc::new(Arc::clone(&components));
        let sink: Arc<dyn Sink> = Arc::<Teller>::clone(&teller);
        let seed = clock.now().as_nanos();
        let options = Options::new("embedded", runtime, Arc::new(asking), sink, seed);
        let supervisor = Supervisor::start(Options { clock, ..options });
        Self { components, teller, supervisor, started: Arc::default(), added: Arc::default() }
    }

    /// Adds a component, without starting it.
    ///
    /// # Errors
    /// [`MonitorError::Duplicate`], [`MonitorError::MissingDependency`]: add what it depends on first.
    pub fn add(&self, component: Component) -> Result<(), MonitorError> {
        let mut added = self.added.write().unwrap_or_else(PoisonError::into_inner);
        let name = component.name.clone();
        if added.contains_key(&name) {
            return Err(MonitorError::Duplicate(name));
        }
        if let Some(missing) = component.depends_on.iter().find(|on| !added.contains_key(*on)).cloned() {
            return Err(MonitorError::MissingDependency { component: name, missing });
        }
        added.insert(name, component.restart_timeout);
        self.components.insert(component);
        Ok(())
    }

    /// Starts a component: from now on it is watched. One without a startup check is running when this returns; its
    /// restart function is not called for the first start. Starting one that runs changes nothing; one that was
    /// stopped or given up is restarted.
    ///
    /// # Errors
    /// [`MonitorError::NotFound`]; [`SupervisorError::TooLate`] when a restart does not come about.
    pub async fn start(&self, name: &str) -> Result<(), MonitorError> {
        let component = self.components.get(name).ok_or_else(|| MonitorError::NotFound(name.to_owned()))?;
        self.begin(std::slice::from_ref(&component)).await?;
        self.begun(&component).await
    }

    /// Starts all components that were added, each after what it depends on.
    ///
    /// # Errors
    /// The first of [`Monitor::start`].
    pub async fn start_all(&self) -> Result<(), MonitorError> {
        let all: Vec<Component> = self.names().iter().filter_map(|name| self.components.get(name)).collect();
        self.begin(&all).await?;
        for component in &all {
            self.begun(component).await?;
        }
        Ok(())
    }

    /// Asks for the start of components, all at once: so each sees what it depends on.
    async fn begin(&self, components: &[Component]) -> Result<(), MonitorError> {
        let mut started = self.started.lock().await;
        let (again, new): (Vec<_>, Vec<_>) = components.iter().partition(|it| started.contains_key(&it.name));
        for component in new {
            started.insert(component.name.clone(), Arc::new(workload(component)));
        }
        self.supervisor.apply(started.values().cloned().collect()).await?;
        drop(started);
        for component in again {
            self.supervisor.start(&component.name, "the program").await?;
        }
        Ok(())
    }

    /// Waits until a start has begun, or waits for what it depends on.
    async fn begun(&self, component: &Component) -> Result<(), MonitorError> {
        let limit = component.restart_timeout + SETTLE;
        let begun =
            |phase| !matches!(phase, Phase::Pending | Phase::Restarting | Phase::Stopping | Phase::Stopped);
        let waits = !component.depends_on.is_empty();
        let is = |it: &hale_model::status::WorkloadStatus| {
            it.replicas.iter().all(|it| {
                let spawned = it.phase != Phase::Starting || it.started_at.is_some();
                (begun(it.phase) && spawned) || (waits && it.held_by.is_some())
            })
        };
        Ok(self.supervisor.wait(&component.name, "started", limit, is).await?)
    }

    /// Watches a component no more, until it is started again. Returns once no check of it runs.
    ///
    /// # Errors
    /// [`MonitorError::NotFound`], also of one that was never started.
    pub async fn stop(&self, name: &str) -> Result<(), MonitorError> {
        let limit = self.restart_timeout(name)? + SETTLE;
        self.supervisor.stop(name, "the program").await.map_err(|error| not_found(error, name))?;
        let is =
            |it: &hale_model::status::WorkloadStatus| it.replicas.iter().all(|it| it.phase == Phase::Stopped);
        Ok(self.supervisor.wait(name, "stopped", limit, is).await?)
    }

    /// Stops a component and forgets it.
    ///
    /// # Errors
    /// [`MonitorError::NotFound`].
    pub async fn remove(&self, name: &str) -> Result<(), MonitorError> {
        let limit = self.restart_timeout(name)? + SETTLE;
        let mut started = self.started.lock().await;
        if started.remove(name).is_some() {
            self.supervisor.apply(started.values().cloned().collect()).await?;
            match self.supervisor.wait(name, "gone", limit, |_| false).await {
                Err(SupervisorError::NotFound { .. }) | Ok(()) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.components.remove(name);
        self.teller.forget(name);
        self.added.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        Ok(())
    }

    /// Restarts a component now: its restart function is called, and it costs nothing of the budget (H16). Returns
    /// once it is ready again.
    ///
    /// # Errors
    /// [`MonitorError::NotFound`]; [`SupervisorError::TooLate`] when it was given up.
    pub async fn restart(&self, name: &str, by: &str) -> Result<(), MonitorError> {
        self.supervisor.restart_rolling(name, by, |_| {}).await.map_err(|error| not_found(error, name))
    }

    /// Pauses a component, or one purpose of its checks (H24).
    ///
    /// # Errors
    /// [`MonitorError::NotFound`].
    pub async fn pause(&self, name: &str, pause: Pause) -> Result<(), MonitorError> {
        self.supervisor.pause(name, pause).await.map_err(|error| not_found(error, name))
    }

    /// Ends a pause before its time.
    ///
    /// # Errors
    /// [`MonitorError::NotFound`].
    pub async fn resume(&self, name: &str, probe: Option<ProbeKind>, by: &str) -> Result<(), MonitorError> {
        self.supervisor.resume(name, probe, by).await.map_err(|error| not_found(error, name))
    }

    /// How a component is.
    ///
    /// # Errors
    /// [`MonitorError::NotFound`].
    pub async fn status(&self, name: &str) -> Result<ComponentStatus, MonitorError> {
        let found = self.summary().await.components.into_iter().find(|it| it.name == name);
        found.ok_or_else(|| MonitorError::NotFound(name.to_owned()))
    }

    /// How all components are. After a shutdown none of them is known.
    pub async fn summary(&self) -> Summary {
        let told = self.supervisor.status().await.unwrap_or_default();
        let mut known: HashMap<String, ComponentStatus> = HashMap::new();
        for workload in told {
            let last_detail = self.teller.last_detail(&workload.name);
            let Some(replica) = workload.replicas.into_iter().next() else { continue };
            let uptime = replica.uptime_seconds.and_then(|secs| Duration::try_from_secs_f64(secs).ok());
            known.insert(
                workload.name.clone(),
                ComponentStatus {
                    name: workload.name,
                    status: replica.status,
                    phase: replica.phase,
                    ready: replica.ready,
                    uptime,
                    restarts: replica.restarts,
                    last_error: replica.last_error,
                    last_detail,
                },
            );
        }
        let components: Vec<_> = self
            .names()
            .into_iter()
            .map(|name| known.remove(&name).unwrap_or_else(|| never_started(name)))
            .collect();
        let count = |status| components.iter().filter(|it| it.status == status).count();
        Summary {
            status: worst_of(components.iter().map(|it| it.status)),
            healthy: count(Status::Healthy),
            degraded: count(Status::Degraded),
            failing: count(Status::Failing),
            unknown: count(Status::Unknown),
            components,
        }
    }

    /// Whether a component is healthy now. One that is not there is not.
    pub async fn is_healthy(&self, name: &str) -> bool {
        self.status(name).await.is_ok_and(|it| it.status == Status::Healthy)
    }

    /// Makes the checks of a component now that it is asked anyway, beside their periods. They count as any others.
    ///
    /// # Errors
    /// [`MonitorError::NotFound`].
    pub async fn check_now(&self, name: &str) -> Result<Vec<Checked>, MonitorError> {
        let asked = self.supervisor.check_now(name).await.map_err(|error| not_found(error, name))?;
        let checked = asked.into_iter().map(|asked| Checked {
            probe: asked.outcome.probe,
            failure: match asked.outcome.verdict {
                Verdict::Success => None,
                Verdict::Failure { reason, detail } => Some((reason, detail)),
            },
            took: asked.outcome.took,
        });
        Ok(checked.collect())
    }

    /// What changes from now on.
    #[must_use]
    pub fn changes(&self) -> Changes {
        self.teller.listen()
    }

    /// Watches nothing any more, in reverse order of dependencies. Nothing can be asked afterwards.
    pub async fn shutdown(&self) {
        self.supervisor.shutdown(true).await;
    }

    fn names(&self) -> Vec<String> {
        let added = self.added.read().unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<_> = added.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    fn restart_timeout(&self, name: &str) -> Result<Duration, MonitorError> {
        let added = self.added.read().unwrap_or_else(PoisonError::into_inner);
        added.get(name).copied().ok_or_else(|| MonitorError::NotFound(name.to_owned()))
    }
}

fn not_found(error: SupervisorError, name: &str) -> MonitorError {
    match error {
        SupervisorError::NotFound { .. } => MonitorError::NotFound(name.to_owned()),
        error => error.into(),
    }
}

fn never_started(name: String) -> ComponentStatus {
    ComponentStatus {
        name,
        status: Status::Unknown,
        phase: Phase::Pending,
        ready: false,
        uptime: None,
        restarts: 0,
        last_error: None,
        last_detail: None,
    }
}

/// A component as the supervisor knows it: a workload of one replica. What would run it and what would be asked are
/// placeholders; [`Components`] and [`Asking`] look the component itself up by its name.
fn workload(component: &Component) -> Workload {
    let placeholder = || vec![component.name.clone()];
    let probe = |asks: &Option<Asks>| {
        let asks = asks.as_ref().filter(|it| !it.asks.is_empty())?;
        Some(Probe { check: Check::Exec(Exec { command: placeholder() }), timing: asks.timing })
    };
    let process = Process {
        command: placeholder(),
        env: BTreeMap::new(),
        secret_env: BTreeMap::new(),
        env_from: Vec::new(),
        working_dir: PathBuf::from("/"),
        user: None,
        group: None,
        ulimits: BTreeMap::new(),
    };
    Workload {
        name: component.name.clone(),
        replicas: 1,
        run: Run::Process(process),
        ports: Vec::new(),
        resources: Resources::default(),
        startup: probe(&component.startup),
        liveness: probe(&component.liveness),
        readiness: probe(&component.readiness),
        policy: component.replica_policy(),
        together: WorkloadPolicy::default(),
        depends_on: component.depends_on.clone(),
        stop_signal: 15,
        service: None,
        rollout: Rollout::default(),
        disconnect: Disconnect::default(),
        node_selector: BTreeMap::new(),
        digest: component.name.clone(),
    }
}
