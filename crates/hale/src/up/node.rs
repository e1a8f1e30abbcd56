//! The parts of one node, wired together.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use hale_agent::{
    metrics::{AgentMetrics, exposition},
    targets::{TargetOptions, Targets},
};
use hale_check::EngineOptions;
use hale_keeper::Launched;
use hale_model::{
    Status,
    cluster::Role,
    event::{EventData, NewEvent, NodeStarted, NodeStopping},
    file::Declared,
    report::Report,
    spec::Workload,
};
use hale_server::{Limits, Listeners, Parts, Registry, TokenSet};
use hale_store::Store;
use hale_supervisor::{
    clock::BootClock,
    engine::Checks,
    guard::Guard,
    log::log_event,
    process::{ProcessOptions, ProcessRuntime},
    sink::Sink,
    supervisor::{Options, Supervisor, SupervisorHandle},
};
use jiff::Timestamp;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::watch,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{
    control::LocalNode, lock::DataDir, screen::Screen, signals::Signals, sink::FanOut, traffic::Traffic,
};
use crate::{cli::UpArgs, failure::Failure};

/// How long the keeper may take to end once its replicas have ended.
const KEEPER_ENDS: Duration = Duration::from_secs(5);

/// How long the store may take to write what is left. A disk that takes nothing must not keep hale from ending.
const LAST_WRITES: Duration = Duration::from_secs(5);

/// Runs everything until a signal ends it in order; a second one hurries (C2).
///
/// # Errors
/// A part that can't be started; nothing is left running then.
pub(super) async fn run(
    args: &UpArgs,
    declared: Declared,
    dir: &DataDir,
    keeper: Launched,
) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let node = Node::start(args, declared, dir, keeper).await?;
    let signal = signals.next().await;
    let supervisor = node.supervisor.clone();
    let stop = node.stop(signal);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return Ok(()),
            _ = signals.next() => {
                let supervisor = supervisor.clone();
                tokio::spawn(async move { supervisor.shutdown(true).await });
            }
        }
    }
}

/// A node that runs.
struct Node {
    name: String,
    supervisor: SupervisorHandle,
    runtime: Arc<ProcessRuntime>,
    gateways: Arc<Traffic>,
    sink: Arc<FanOut>,
    end: CancellationToken,
    serving: JoinHandle<()>,
}

/// What is shared by the parts that are told of changes.
struct Told {
    sink: Arc<FanOut>,
    gateways: Arc<Traffic>,
    metrics: hale_server::Metrics,
}

impl Node {
    async fn start(
        args: &UpArgs,
        declared: Declared,
        dir: &DataDir,
        keeper: Launched,
    ) -> Result<Self, Failure> {
        let (tcp, address) = listen(args.listen).await?;
        let socket = hale_server::bind_socket(&dir.path).map_err(|error| {
            Failure::failed(format!("can't make the socket in {}: {error}", dir.path.display()))
        })?;
        let token = hale_server::cli_token(&dir.path).map_err(|error| {
            Failure::failed(format!("can't make a token in {}: {error}", dir.path.display()))
        })?;
        let told = Told::open(args, &declared.workloads, dir).await?;
        let runtime = Arc::new(
            ProcessRuntime::connect(keeper, process_options(args))
                .await
                .map_err(|error| Failure::failed(format!("the keeper does not answer: {error}")))?,
        );
        told.sink.screen.say(&format!("listening on http://{address}"));
        told.sink.screen.invite(address, &token);
        told.sink.tell(
            &args.node,
            EventData::NodeStarted(NodeStarted { version: env!("CARGO_PKG_VERSION").into() }),
        );
        let (supervisor, targets) = supervise(args, &declared, &told, &runtime).await?;
        let control = LocalNode {
            name: args.node.clone(),
            supervisor: supervisor.clone(),
            targets,
            data_dir: dir.path.clone(),
            store: told.sink.store.clone(),
            runtime: Arc::clone(&runtime),
            deadlines: deadlines(&declared.workloads),
        };
        let end = CancellationToken::new();
        let serving = told.serve(control, &token, (tcp, socket, address), &end);
        Ok(Self {
            name: args.node.clone(),
            supervisor,
            runtime,
            gateways: told.gateways,
            sink: told.sink,
            end,
            serving,
        })
    }

    /// Ends all in order: replicas (each drained first), requests that are left, the record, the API, the keeper.
    async fn stop(self, why: &str) {
        self.sink.tell(&self.name, EventData::NodeStopping(NodeStopping { reason: why.to_owned() }));
        self.supervisor.shutdown(false).await;
        self.gateways.close().await;
        let store = &self.sink.store;
        if tokio::time::timeout(LAST_WRITES, store.close()).await.is_err() {
            tracing::error!("the last events could not be written in time");
        }
        self.end.cancel();
        if let Err(error) = self.serving.await {
            tracing::error!(%error, "the API ended badly");
        }
        self.runtime.shut_down(Duration::ZERO, KEEPER_ENDS).await;
        self.sink.screen.close();
    }
}

impl Told {
    /// Opens whatever is told of changes, before there are any.
    async fn open(args: &UpArgs, workloads: &[Arc<Workload>], dir: &DataDir) -> Result<Self, Failure> {
        let mut registered = prometheus_client::registry::Registry::default();
        let agent = Arc::new(AgentMetrics::register(&mut registered));
        let gateway = hale_gateway::Metrics::register(&mut registered);
        let registry = Arc::new(Registry::new());
        let gateways = Arc::new(Traffic::open(workloads, &registry, &gateway).await?);
        let database = dir.join("hale.db");
        let store = Store::open(&database, hale_store::Options::default())
            .await
            .map_err(|error| Failure::failed(format!("can't open {}: {error}", database.display())))?;
        let screen = Screen::new(args.output);
        let sink = Arc::new(FanOut { registry, store, metrics: agent, screen });
        let metrics: hale_server::Metrics = Arc::new(move |accept| {
            exposition::encode(&registered, accept).map_err(|error| error.to_string())
        });
        Ok(Self { sink, gateways, metrics })
    }

    fn serve(
        &self,
        control: LocalNode,
        token: &str,
        (tcp, socket, address): (TcpListener, UnixListener, SocketAddr),
        end: &CancellationToken,
    ) -> JoinHandle<()> {
        let router = hale_server::router(Parts {
            control: Arc::new(control),
            cluster: None,
            store: self.sink.store.clone(),
            registry: Arc::clone(&self.sink.registry),
            metrics: Arc::clone(&self.metrics),
            tokens: TokenSet::new().with("cli", token, Role::Admin),
            webhooks: None,
            loopback: address.ip().is_loopback(),
            end: end.clone(),
        });
        let listeners = Listeners { tcp: Some(tcp), socket: Some(socket), tls: None };
        tokio::spawn(hale_server::serve(router, listeners, Limits::default(), end.clone()))
    }
}

async fn listen(on: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let failed = |error: std::io::Error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => "; `--listen 127.0.0.1:0` picks a free port",
            _ => "",
        };
        Failure::failed(format!("can't listen on {on}: {error}{hint}"))
    };
    if !on.ip().is_loopback() {
        return Err(Failure::failed(format!(
            "{on} is not a loopback address: the API has no TLS yet, so it is served on this machine only"
        )));
    }
    let listener = TcpListener::bind(on).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

fn process_options(args: &UpArgs) -> ProcessOptions {
    ProcessOptions {
        allow_users: (!args.allow_user.is_empty()).then(|| args.allow_user.iter().cloned().collect()),
        no_root: args.no_root,
        ..ProcessOptions::default()
    }
}

/// Starts what decides, and gives it what is declared.
async fn supervise(
    args: &UpArgs,
    declared: &Declared,
    told: &Told,
    runtime: &Arc<ProcessRuntime>,
) -> Result<(SupervisorHandle, Targets), Failure> {
    let sink: Arc<dyn Sink> = Arc::clone(&told.sink) as _;
    let checks = Checks::start(&EngineOptions::new(tokio::runtime::Handle::current()))
        .map_err(|error| Failure::failed(format!("can't start probing: {error}")))?;
    let seed = u64::from(std::process::id()) ^ Timestamp::now().as_nanosecond() as u64;
    let clock = Arc::new(BootClock);
    let guard = Guard::start(&args.node, Arc::clone(&sink), Arc::clone(&clock) as _);
    let mut options = Options::new(
        &args.node,
        Arc::clone(runtime) as _,
        Arc::clone(&checks.prober) as _,
        Arc::clone(&sink),
        seed,
    );
    options.drain = Arc::clone(&told.gateways) as _;
    options.guard = Some(guard.clone());
    let supervisor = Supervisor::start(options);
    let targets = Targets::start(TargetOptions {
        node: args.node.clone(),
        checks: checks.targets,
        sink,
        clock,
        guard: Some(guard),
    });
    told.sink.metrics.watch(checks.prober, targets.statuses());
    // What depends on a target waits for its first outcome, rather than for nothing.
    for target in &declared.targets {
        supervisor.set_dependency(&target.name, Some(Status::Unknown)).await.map_err(Failure::failed)?;
    }
    tokio::spawn(pass_on(targets.statuses(), supervisor.clone()));
    targets.apply(declared.targets.clone()).await.map_err(Failure::failed)?;
    supervisor.apply(declared.workloads.clone()).await.map_err(Failure::failed)?;
    Ok((supervisor, targets))
}

/// Tells the supervisor how targets are, for the workloads that depend on them (H21).
async fn pass_on(mut statuses: watch::Receiver<Arc<BTreeMap<String, Status>>>, supervisor: SupervisorHandle) {
    let mut told = BTreeMap::new();
    while statuses.changed().await.is_ok() {
        let now = Arc::clone(&statuses.borrow_and_update());
        let changed = now.iter().filter(|(name, status)| told.get(*name) != Some(*status));
        for (name, status) in changed {
            if supervisor.set_dependency(name, Some(*status)).await.is_err() {
                return;
            }
        }
        told.clone_from(&now);
    }
}

fn deadlines(workloads: &[Arc<Workload>]) -> HashMap<String, Duration> {
    workloads.iter().map(|workload| (workload.name.clone(), workload.rollout.progress_deadline)).collect()
}

impl FanOut {
    /// An event about the node itself.
    fn tell(&self, node: &str, data: EventData) {
        log_event(node, &data);
        self.report(Report::Event(Box::new(NewEvent {
            time: Timestamp::now(),
            source: format!("/nodes/{node}"),
            subject: node.to_owned(),
            data,
        })));
    }
}
