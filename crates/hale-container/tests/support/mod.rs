//! A container runtime over a real engine, and what tests say about it.
#![allow(
    clippy::allow_attributes,
    dead_code,
    clippy::unwrap_used,
    reason = "each test file uses a part of it"
)]

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use hale_check::EngineOptions;
use hale_container::{ContainerOptions, ContainerRuntime};
use hale_health::{Exit, Generation, Incarnation};
use hale_model::{
    event::EventData,
    report::Report,
    spec::{Container, ContainerFrom, Pull, Run, Workload},
    status::ReplicaStatus,
};
use hale_supervisor::{
    engine::Checks,
    mementos::FileMementos,
    runtime::{InstanceId, Launch, Runtime, RuntimeEvent, SpawnError, Started},
    sim::{Recorder, workload},
    sink::Sink,
    supervisor::{Options, Supervisor, SupervisorHandle},
};
use tokio::sync::mpsc;

/// How long anything may take; machines that test are slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// A container of this image.
pub(crate) fn container(image: &str, script: &str) -> Container {
    Container {
        from: ContainerFrom::Image { image: image.to_owned(), pull: Pull::Missing },
        command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        args: Vec::new(),
        env: BTreeMap::new(),
        secret_env: BTreeMap::new(),
        env_from: Vec::new(),
        working_dir: None,
        user: None,
        volumes: Vec::new(),
        network: None,
        labels: BTreeMap::new(),
        read_only: false,
        ulimits: BTreeMap::new(),
        healthcheck: true,
    }
}

/// Those that somebody else made.
pub(crate) fn adopted(label: &str) -> Container {
    let from = ContainerFrom::Adopted { label: (label.to_owned(), None) };
    Container { from, command: Vec::new(), ..container("", "") }
}

/// A workload of such containers; restarts come soon.
pub(crate) fn of(name: &str, container: Container) -> Workload {
    let mut it = workload(name, 1);
    it.run = Run::Container(container);
    it.policy.restart.backoff.initial = Duration::from_millis(100);
    it.policy.stop.grace = Duration::from_secs(5);
    it.policy.stop.drain = Duration::ZERO;
    it.digest = format!("{:?}", it.run);
    it
}

/// A runtime by itself.
pub(crate) struct Bare {
    pub(crate) runtime: Arc<ContainerRuntime>,
    events: mpsc::Receiver<RuntimeEvent>,
}

impl Bare {
    pub(crate) fn new(host: &str, dir: &Path) -> Self {
        Self::with(ContainerOptions { host: Some(host.to_owned()), ..ContainerOptions::new(dir) })
    }

    pub(crate) fn with(options: ContainerOptions) -> Self {
        let runtime = Arc::new(ContainerRuntime::new(options));
        let events = runtime.events().unwrap();
        Self { runtime, events }
    }

    pub(crate) async fn start(&self, it: &Workload, incarnation: u64) -> Result<Started, SpawnError> {
        self.runtime.start(launch(it, incarnation)).await
    }

    /// The next event of this kind; what comes before it is passed over.
    pub(crate) async fn next<T>(&mut self, what: &str, is: impl Fn(&RuntimeEvent) -> Option<T>) -> T {
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(found) = is(&self.events.recv().await.expect("the runtime is there")) {
                    return found;
                }
            }
        });
        found.await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
    }

    pub(crate) async fn exited(&mut self, of: &InstanceId) -> Exit {
        self.next("an exit", |event| match event {
            RuntimeEvent::Exited { id, exit, .. } if id == of => Some(*exit),
            _ => None,
        })
        .await
    }

    pub(crate) async fn gone(&mut self, of: &InstanceId) {
        self.next("the end", |event| matches!(event, RuntimeEvent::Gone { id } if id == of).then_some(()))
            .await;
    }

    /// What is heard within a moment.
    pub(crate) async fn heard(&mut self, within: Duration) -> Vec<RuntimeEvent> {
        let mut all = Vec::new();
        let until = tokio::time::Instant::now() + within;
        while let Ok(Some(event)) = tokio::time::timeout_at(until, self.events.recv()).await {
            all.push(event);
        }
        all
    }

    pub(crate) fn output(&self, replica: &str) -> String {
        let files = self.runtime.log_files(replica);
        files.iter().rev().map(|it| std::fs::read_to_string(it).unwrap_or_default()).collect()
    }
}

pub(crate) fn id(replica: &str, incarnation: u64) -> InstanceId {
    InstanceId {
        replica: replica.to_owned(),
        generation: Generation(1),
        incarnation: Incarnation(incarnation),
    }
}

pub(crate) fn launch(it: &Workload, incarnation: u64) -> Launch {
    let ports = it.ports.iter().map(|port| (port.name.clone(), port.host_port.unwrap_or(port.port)));
    Launch {
        id: id(&it.replica_name(0), incarnation),
        workload: Arc::new(it.clone()),
        ports: ports.collect(),
        stop_at: None,
    }
}

/// A supervisor over a container runtime.
pub(crate) struct Node {
    pub(crate) supervisor: SupervisorHandle,
    pub(crate) runtime: Arc<ContainerRuntime>,
    pub(crate) told: Arc<Recorder>,
}

impl Node {
    pub(crate) fn start(host: &str, dir: &Path) -> Self {
        let options = ContainerOptions { host: Some(host.to_owned()), ..ContainerOptions::new(dir) };
        let runtime = Arc::new(ContainerRuntime::new(options));
        let checks = Checks::start(&EngineOptions::new(tokio::runtime::Handle::current())).unwrap();
        let told = Arc::new(Recorder::default());
        let sink: Arc<dyn Sink> = Arc::<Recorder>::clone(&told);
        let mut options =
            Options::new("local", Arc::<ContainerRuntime>::clone(&runtime), checks.prober, sink, 1);
        options.mementos = Some(FileMementos::open(dir).unwrap());
        Self { supervisor: Supervisor::start(options), runtime, told }
    }

    pub(crate) async fn apply(&self, workloads: Vec<Workload>) {
        self.supervisor.apply(workloads.into_iter().map(Arc::new).collect()).await.unwrap();
    }

    async fn replicas(&self, name: &str) -> Vec<ReplicaStatus> {
        let all = self.supervisor.status().await.unwrap();
        all.into_iter().find(|it| it.name == name).map(|it| it.replicas).unwrap_or_default()
    }

    pub(crate) async fn replica(&self, name: &str) -> ReplicaStatus {
        self.replicas(name).await.remove(0)
    }

    pub(crate) async fn until(&self, name: &str, what: &str, is: impl Fn(&ReplicaStatus) -> bool) {
        let end = Instant::now() + PATIENCE;
        let mut version = self.supervisor.version();
        loop {
            version.borrow_and_update();
            let now = self.replicas(name).await;
            if now.first().is_some_and(&is) {
                return;
            }
            assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}; {now:#?}");
            let _ = tokio::time::timeout(Duration::from_millis(200), version.changed()).await;
        }
    }

    pub(crate) fn events(&self) -> Vec<EventData> {
        let all = self.told.reports();
        all.into_iter()
            .filter_map(|it| match it {
                Report::Event(event) => Some(event.data),
                _ => None,
            })
            .collect()
    }
}

/// Waits for something that nobody tells.
pub(crate) async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
