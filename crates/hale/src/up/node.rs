//! A server and its one node, in this process, wired together (N1).

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hale_agent::{
    Agent, AgentHandle, AgentOptions, Drains, Reports,
    blackbox::Blackbox,
    link::Identity,
    metrics::{AgentMetrics, LinkMetrics, exposition},
    spool::{MemorySpool, Outcomes},
    targets::{TargetOptions, Targets},
};
use hale_api::outcomes::ProbeHistory;
use hale_check::EngineOptions;
use hale_keeper::Launched;
use hale_model::{
    cluster::Role,
    event::{EventData, NodeStarted, NodeStopping},
    report::{OutcomeRecord, SeriesPiece},
};
use hale_server::{
    Limits, Listeners, Parts, Registry, TokenSet,
    cluster::{Cluster, Options as ClusterOptions},
};
use hale_store::Store;
use hale_supervisor::{
    clock::BootClock,
    engine::Checks,
    guard::Guard,
    outside,
    process::{ProcessOptions, ProcessRuntime},
    runtime::BoxFuture,
    sink::Sink,
    supervisor::{Options, Supervisor, SupervisorHandle},
};
use jiff::Timestamp;
use prometheus_client::registry::Registry as MetricsRegistry;
use tokio::{
    net::{TcpListener, UnixListener},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{
    files::Files, following, link::Inside, lock::DataDir, responding, screen::Screen, signals::Signals,
    sink::Outside, traffic,
};
use crate::{
    agent::told,
    cli::UpArgs,
    failure::Failure,
    responder::together::Responders,
    runs::{Containers, Runs},
};

/// How long the keeper may take to end once its replicas have ended.
const KEEPER_ENDS: Duration = Duration::from_secs(5);

/// How long the store may take to write what is left. A disk that takes nothing must not keep hale from ending.
const LAST_WRITES: Duration = Duration::from_secs(5);

/// The file in the data directory that stored secrets are encrypted with (S25).
const KEY_FILE: &str = "secret.key";

/// Events that may wait for the server of the same process: it takes them as fast as the disk does.
const SPOOL: usize = 100_000;

/// Runs everything until a signal ends it in order; a second one hurries (C2).
///
/// # Errors
/// A part that can't be started; nothing is left running then.
pub(super) async fn run(args: &UpArgs, files: Files, dir: &DataDir, keeper: Launched) -> Result<(), Failure> {
    let mut signals = Signals::of_service()?;
    let node = Node::start(args, files, dir, keeper).await?;
    let signal = signals.next().await;
    let (supervisor, responders) = (node.supervisor.clone(), node.responders.clone());
    let stop = node.stop(signal);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return Ok(()),
            _ = signals.next() => {
                responders.iter().for_each(|it| it.hurry());
                let supervisor = supervisor.clone();
                tokio::spawn(async move { supervisor.shutdown(true).await });
            }
        }
    }
}

/// A server and its node that run.
struct Node {
    store: Store,
    cluster: Cluster,
    agent: AgentHandle,
    reports: Arc<Reports>,
    supervisor: SupervisorHandle,
    runtime: Runs,
    traffic: Arc<traffic::Traffic>,
    screen: Arc<Screen>,
    responders: Option<Arc<Responders>>,
    end: CancellationToken,
    serving: JoinHandle<()>,
}

/// Where the API is served, and the token of the command line.
struct Door {
    tcp: TcpListener,
    socket: UnixListener,
    address: SocketAddr,
    token: String,
}

impl Door {
    async fn open(args: &UpArgs, dir: &DataDir) -> Result<Self, Failure> {
        let (tcp, address) = listen(args.listen).await?;
        let socket = hale_server::bind_socket(&dir.path).map_err(|error| {
            Failure::failed(format!("can't make the socket in {}: {error}", dir.path.display()))
        })?;
        let token = hale_server::cli_token(&dir.path).map_err(|error| {
            Failure::failed(format!("can't make a token in {}: {error}", dir.path.display()))
        })?;
        Ok(Self { tcp, socket, address, token })
    }
}

impl Node {
    async fn start(args: &UpArgs, files: Files, dir: &DataDir, keeper: Launched) -> Result<Self, Failure> {
        traffic::can_listen(&files.declared.workloads)?;
        let door = Door::open(args, dir).await?;
        let mut metrics = MetricsRegistry::default();
        let store = open_store(dir).await?;
        let registry = Arc::new(Registry::new());
        let agent_token = hale_server::make_token()
            .map_err(|error| Failure::failed(format!("the system has no random bytes: {error}")))?;
        let tokens =
            TokenSet::new().with("cli", &door.token, Role::Admin).with_agent(&args.node, &agent_token);
        let options = ClusterOptions::new(format!("http://{}", door.address));
        let cluster = Cluster::start(store.clone(), tokens.clone(), Arc::clone(&registry), options)
            .await
            .map_err(Failure::failed)?;
        files.forget_stale(&cluster).await?;
        let traffic = Arc::new(traffic::Traffic::open(
            Arc::clone(&registry),
            &hale_gateway::Metrics::register(&mut metrics),
        ));
        let process = ProcessRuntime::connect(keeper, process_options(args))
            .await
            .map_err(|error| Failure::failed(format!("the keeper does not answer: {error}")))?;
        let containers = Containers {
            host: args.container_host.as_deref(),
            no_root: args.no_root,
            allow_users: &args.allow_user,
            publish: Ipv4Addr::LOCALHOST.into(),
            end_leftovers: true,
        };
        let runtime = Runs::new(process, &dir.path, containers);
        let screen = Arc::new(Screen::new(args.output));
        screen.say(&format!("listening on http://{}", door.address));
        screen.invite(door.address, &door.token);
        let parts = Room { args, dir, runtime: &runtime, traffic: &traffic, screen: &screen, store: &store };
        let (agent, supervisor, reports) = parts.agent(&cluster, agent_token, &mut metrics).await?;
        files.declare(&cluster).await?;
        let end = CancellationToken::new();
        following::start(cluster.clone(), runtime.clone(), end.clone());
        let responders = responding::start(args, &files, dir, &cluster, &screen, &mut metrics).await?;
        let runs = responders.clone().map(|it| it as Arc<dyn hale_server::Runs>);
        let shared = (registry, tokens, metrics, args.scrape.open()?, runs);
        let serving = serve(&cluster, &store, shared, door, dir, &end).await;
        if let (Err(_), Some(responders)) = (&serving, &responders) {
            responders.give_up().await;
        }
        let serving = serving?;
        Ok(Self {
            store,
            cluster,
            agent,
            reports,
            supervisor,
            runtime,
            traffic,
            screen,
            responders,
            end,
            serving,
        })
    }

    /// Ends all in order: replicas (each drained first), requests that are left, the node, the server, the record, the
    /// API, the keeper.
    async fn stop(self, why: &str) {
        // Before anything else: what ends on purpose is no alert.
        if let Some(responders) = &self.responders {
            responders.shut_down(why).await;
        }
        self.reports.tell(EventData::NodeStopping(NodeStopping { reason: why.to_owned() }));
        self.supervisor.shutdown(false).await;
        self.reports.keep_series();
        self.traffic.close().await;
        self.agent.leave(why, None).await;
        self.cluster.stop().await;
        if tokio::time::timeout(LAST_WRITES, self.store.close()).await.is_err() {
            tracing::error!("the last events could not be written in time");
        }
        self.end.cancel();
        if let Err(error) = self.serving.await {
            tracing::error!(%error, "the API ended badly");
        }
        self.runtime.shut_down(Duration::ZERO, KEEPER_ENDS).await;
        self.screen.close();
    }
}

async fn open_store(dir: &DataDir) -> Result<Store, Failure> {
    let database = dir.join("hale.db");
    let failed = |error: hale_store::StoreError| {
        Failure::failed(format!("can't open {}: {error}", database.display()))
    };
    let store = Store::open(&database, hale_store::Options::default()).await.map_err(failed)?;
    // The directory is ours alone: whoever holds a lease in it has been killed, and need not be waited for.
    for lease in store.leases().await.map_err(failed)? {
        store.release(&lease).await;
    }
    Ok(store)
}

/// What the node is made of.
struct Room<'a> {
    args: &'a UpArgs,
    dir: &'a DataDir,
    runtime: &'a Runs,
    traffic: &'a Arc<traffic::Traffic>,
    screen: &'a Arc<Screen>,
    store: &'a Store,
}

impl Room<'_> {
    async fn agent(
        self,
        cluster: &Cluster,
        token: String,
        metrics: &mut MetricsRegistry,
    ) -> Result<(AgentHandle, SupervisorHandle, Arc<Reports>), Failure> {
        let counted = Arc::new(AgentMetrics::register(metrics));
        let instance = format!("{}-{}", std::process::id(), Timestamp::now().as_nanosecond());
        let reports = self.reports(&instance, &counted);
        let Self { args, dir, runtime, traffic, store, .. } = self;
        let sink: Arc<dyn Sink> = Arc::clone(&reports) as _;
        let checks = Checks::start(&EngineOptions::new(tokio::runtime::Handle::current()))
            .map_err(|error| Failure::failed(format!("can't start probing: {error}")))?;
        let seed = u64::from(std::process::id()) ^ Timestamp::now().as_nanosecond() as u64;
        let clock = Arc::new(BootClock);
        let guard = Guard::start(&args.node, Arc::clone(&sink), Arc::clone(&clock) as _);
        let mut options = Options::new(
            &args.node,
            runtime.runtime(),
            Arc::clone(&checks.prober) as _,
            Arc::clone(&sink),
            seed,
        );
        options.drain = Arc::clone(traffic) as _;
        options.guard = Some(guard.clone());
        let supervisor = Supervisor::start(options);
        let told = told::load(store, &args.node)
            .await
            .map_err(|error| Failure::failed(format!("can't read what was told of targets: {error}")))?;
        let references = args.observer.references.clone();
        let outside =
            outside::Outside::start(&args.node, Arc::clone(&sink), Arc::clone(&clock) as _, references);
        let targets = Targets::start(TargetOptions {
            node: args.node.clone(),
            checks: checks.targets,
            sink,
            clock: Arc::clone(&clock) as _,
            guard: Some(guard),
            outside: Some(outside),
            lists: Some(dir.join("lists")),
            told,
        });
        counted.watch(checks.prober, targets.statuses());
        reports.tell(EventData::NodeStarted(NodeStarted { version: env!("CARGO_PKG_VERSION").into() }));
        let first_version = hale_agent::first_version(&dir.path);
        let used = runtime.clone();
        let agent = Agent::start(AgentOptions {
            runtimes: None,
            identity: identity(args, dir, instance),
            connector: Arc::new(Inside::new(cluster.grpc().await, token)),
            heartbeat: Duration::from_secs(5),
            supervisor: supervisor.clone(),
            targets,
            reports: Arc::clone(&reports),
            drains: Drains::default(),
            usages: Arc::new(move || used.usages()),
            metrics: LinkMetrics::register(metrics),
            clock,
            data_dir: dir.path.clone(),
            keep_desired: false,
            first_version,
        })
        .await;
        Ok((agent, supervisor, reports))
    }

    /// Who is told what happens here: the screen, the record of this process, and the agent.
    fn reports(&self, instance: &str, counted: &Arc<AgentMetrics>) -> Arc<Reports> {
        let outside = Outside { screen: Arc::clone(self.screen) };
        Reports::new(
            &self.args.node,
            Arc::clone(counted),
            Arc::new(MemorySpool::new(instance, SPOOL)),
            Arc::new(Recorded { store: self.store.clone() }),
            Some(Arc::new(outside)),
        )
    }
}

/// Outcomes go into the record of this process, where `hale explain` finds them after a restart too.
struct Recorded {
    store: Store,
}

impl Outcomes for Recorded {
    fn outcome(&self, outcome: OutcomeRecord) {
        self.store.outcome(outcome);
    }

    fn series(&self, piece: SeriesPiece) {
        self.store.series(piece);
    }

    fn forget(&self, subject: &str) {
        self.store.forget(subject);
    }

    fn history(&self, subject: String) -> BoxFuture<'_, Result<Vec<ProbeHistory>, String>> {
        Box::pin(async move { self.store.history(&subject).await.map_err(|error| error.to_string()) })
    }
}

fn identity(args: &UpArgs, dir: &DataDir, instance: String) -> Identity {
    Identity {
        node: args.node.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        address: "127.0.0.1".to_owned(),
        instance,
        boot_id: hale_agent::boot_id(),
        // The one node there is takes everything: what it misses it says when it is to start it.
        runtimes: vec!["process".to_owned(), "container".to_owned()],
        features: hale_model::document::known_features().into_iter().collect(),
        capacity: hale_agent::capacity(&dir.path),
        ..Identity::default()
    }
}

/// What the API is served from, beside the cluster.
type Shared =
    (Arc<Registry>, TokenSet, MetricsRegistry, Option<Arc<Blackbox>>, Option<Arc<dyn hale_server::Runs>>);

/// The way in: REST and gRPC, as a server serves them.
async fn serve(
    cluster: &Cluster,
    store: &Store,
    shared: Shared,
    door: Door,
    dir: &DataDir,
    end: &CancellationToken,
) -> Result<JoinHandle<()>, Failure> {
    let (registry, tokens, mut metrics, blackbox, runs) = shared;
    let Door { tcp, socket, address, .. } = door;
    let counted = hale_server::metrics::start(&mut metrics, cluster, store, end.clone());
    let key = dir.join(KEY_FILE);
    let webhooks = hale_server::webhooks::start(cluster, store.clone(), &key, counted, end.clone())
        .map_err(Failure::failed)?;
    let options = hale_server::kube::Options::default();
    let kube = hale_server::kube::start(cluster, store.clone(), options, &mut metrics, end.clone());
    let metrics: hale_server::Metrics =
        Arc::new(move |accept| exposition::encode(&metrics, accept).map_err(|error| error.to_string()));
    let probing = blackbox.map(|blackbox| -> hale_server::Probing {
        Arc::new(move |query, headers| {
            let blackbox = Arc::clone(&blackbox);
            Box::pin(async move { blackbox.answer(&query, &headers).await })
        })
    });
    let router = hale_server::router(Parts {
        control: Arc::new(cluster.clone()),
        cluster: Some(cluster.clone()),
        store: store.clone(),
        registry,
        metrics,
        probing,
        tokens,
        webhooks: Some(webhooks),
        runs,
        kube: Some(kube),
        loopback: address.ip().is_loopback(),
        end: end.clone(),
    });
    let router = hale_server::with_grpc(router, cluster.grpc().await);
    let listeners = Listeners { tcp: Some(tcp), socket: Some(socket), tls: None };
    Ok(tokio::spawn(hale_server::serve(router, listeners, Limits::default(), end.clone())))
}

async fn listen(on: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let failed = |error: std::io::Error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => "; `--listen 127.0.0.1:0` picks a free port",
            _ => hale_gateway::listen_hint(&error, on),
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
