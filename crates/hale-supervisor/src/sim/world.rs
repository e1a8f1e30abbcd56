//! Everything scripted at once: clock, runtime, prober, and a sink that remembers.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use hale_health::{ProbeKind, ProbeTiming, ReplicaPolicy, WorkloadPolicy};
use hale_model::{
    event::{EventData, NewEvent},
    report::{EndpointReport, OutcomeRecord, Report},
    spec::{Check, Disconnect, Exec, Probe, Process, Resources, Rollout, Run, Workload},
};

use super::{SimProber, SimRuntime};
use crate::{
    clock::{Clock, TokioClock},
    mementos::{Kept, Mementos},
    runtime::BoxFuture,
    sink::Sink,
    supervisor::{Options, Supervisor, SupervisorHandle},
};

/// A sink that remembers everything, in order.
#[derive(Debug, Default)]
pub struct Recorder {
    reports: Mutex<Vec<Report>>,
}

impl Sink for Recorder {
    fn report(&self, report: Report) {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).push(report);
    }
}

impl Recorder {
    /// Everything that was told so far.
    #[must_use]
    pub fn reports(&self) -> Vec<Report> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The events that were told so far.
    #[must_use]
    pub fn events(&self) -> Vec<NewEvent> {
        let event = |report| if let Report::Event(event) = report { Some(*event) } else { None };
        self.reports().into_iter().filter_map(event).collect()
    }

    /// What happened to one subject so far.
    #[must_use]
    pub fn events_of(&self, subject: &str) -> Vec<EventData> {
        self.events().into_iter().filter(|event| event.subject == subject).map(|event| event.data).collect()
    }

    /// What happened to one subject so far, by kind: `restarted`, `ready`.
    #[must_use]
    pub fn kinds_of(&self, subject: &str) -> Vec<&'static str> {
        let short = |data: &EventData| data.kind().rsplit('.').next().unwrap_or_default();
        self.events_of(subject).iter().map(short).collect()
    }

    /// The outcomes that were told of one subject so far.
    #[must_use]
    pub fn outcomes_of(&self, subject: &str) -> Vec<OutcomeRecord> {
        let outcome = |report| if let Report::Outcome(record) = report { Some(record) } else { None };
        self.reports().into_iter().filter_map(outcome).filter(|record| record.subject == subject).collect()
    }

    /// What was told of one replica's endpoint so far.
    #[must_use]
    pub fn endpoints_of(&self, replica: &str) -> Vec<EndpointReport> {
        let endpoint = |report| if let Report::Endpoint(report) = report { Some(report) } else { None };
        self.reports().into_iter().filter_map(endpoint).filter(|report| report.replica == replica).collect()
    }

    /// Forgets what was told so far.
    pub fn clear(&self) {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// What a supervisor remembers, in memory.
#[derive(Debug, Default)]
pub struct Memory {
    kept: Mutex<BTreeMap<String, Kept>>,
}

impl Memory {
    /// All that is remembered, by replica.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Mementos for Memory {
    fn save(&self, replica: &str, kept: Kept) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(replica.to_owned(), kept);
    }

    fn forget(&self, replica: &str) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).remove(replica);
    }

    fn load(&self) -> BoxFuture<'static, Vec<(String, Kept)>> {
        Box::pin(std::future::ready(self.all().into_iter().collect()))
    }

    fn flush(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// A supervisor in a scripted world, under tokio's (paused) time.
pub struct SimWorld {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// What runs replicas.
    pub runtime: Arc<SimRuntime>,
    /// What asks them.
    pub prober: Arc<SimProber>,
    /// What was told.
    pub told: Arc<Recorder>,
    /// The supervisor.
    pub supervisor: SupervisorHandle,
}

impl SimWorld {
    /// A world where everything is well.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(|options| options)
    }

    /// A world where everything is well, and the supervisor has other options.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start_with(change: impl FnOnce(Options) -> Options) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::start());
        let runtime = SimRuntime::new(Arc::clone(&clock));
        let prober = SimProber::new(Arc::clone(&clock));
        let told = Arc::new(Recorder::default());
        Self::start_over(clock, runtime, prober, told, change)
    }

    /// Another supervisor over what this one has left, with a memory of its own.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn successor(&self, change: impl FnOnce(Options) -> Options) -> Self {
        let prober = SimProber::new(Arc::clone(&self.clock));
        let told = Arc::new(Recorder::default());
        Self::start_over(Arc::clone(&self.clock), Arc::clone(&self.runtime), prober, told, change)
    }

    fn start_over(
        clock: Arc<dyn Clock>,
        runtime: Arc<SimRuntime>,
        prober: Arc<SimProber>,
        told: Arc<Recorder>,
        change: impl FnOnce(Options) -> Options,
    ) -> Self {
        let sink: Arc<dyn Sink> = Arc::<Recorder>::clone(&told);
        let options =
            Options::new("sim", Arc::new(Arc::clone(&runtime)), Arc::new(Arc::clone(&prober)), sink, 1);
        let supervisor = Supervisor::start(change(Options { clock: Arc::clone(&clock), ..options }));
        Self { clock, runtime, prober, told, supervisor }
    }
}

/// A workload of so many replicas with the defaults of the rules, no probes and no ports, to change as needed.
#[must_use]
pub fn workload(name: &str, replicas: u32) -> Workload {
    let process = Process {
        command: vec![name.to_owned()],
        env: BTreeMap::new(),
        secret_env: BTreeMap::new(),
        env_from: Vec::new(),
        working_dir: PathBuf::from("/"),
        user: None,
        group: None,
        ulimits: BTreeMap::new(),
    };
    Workload {
        name: name.to_owned(),
        replicas,
        run: Run::Process(process),
        ports: Vec::new(),
        resources: Resources::default(),
        startup: None,
        liveness: None,
        readiness: None,
        policy: ReplicaPolicy::default(),
        together: WorkloadPolicy::default(),
        depends_on: Vec::new(),
        stop_signal: 15,
        service: None,
        rollout: Rollout::default(),
        disconnect: Disconnect::default(),
        node_selector: BTreeMap::new(),
        digest: format!("{name} {replicas}"),
    }
}

/// The same workload with a probe of this kind and timing.
#[must_use]
pub fn with_probe(mut workload: Workload, kind: ProbeKind, timing: ProbeTiming) -> Workload {
    let probe = Some(Probe { check: Check::Exec(Exec { command: vec!["ask".to_owned()] }), timing });
    let policy = &mut workload.policy;
    match kind {
        ProbeKind::Startup => (workload.startup, policy.startup) = (probe, Some(timing)),
        ProbeKind::Liveness => (workload.liveness, policy.liveness) = (probe, Some(timing)),
        ProbeKind::Readiness => (workload.readiness, policy.readiness) = (probe, Some(timing)),
    }
    workload.digest.push_str(&format!(" {kind} {timing:?}"));
    workload
}
