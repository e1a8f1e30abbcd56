//! The parts of an agent, wired together.

use std::{
    net::{IpAddr, Ipv4Addr, ToSocketAddrs, UdpSocket},
    sync::Arc,
    time::Duration,
};

use hale_agent::{
    Agent, AgentHandle, AgentOptions, Drains, Reports,
    blackbox::Blackbox,
    boot_id, capacity, first_version,
    health::{self, Answers},
    link::{Identity, Remote},
    metrics::{AgentMetrics, LinkMetrics, exposition},
    spool::{Outcomes, Spool},
    systemd::Notifier,
    targets::{TargetOptions, Targets, Told},
};
use hale_check::EngineOptions;
use hale_keeper::Launched;
use hale_model::{
    document,
    event::{EventData, NodeStarted, NodeStopping},
};
use hale_supervisor::{
    clock::BootClock,
    engine::Checks,
    guard::Guard,
    mementos::FileMementos,
    outside::Outside,
    process::{BaseEnvironment, ProcessOptions, ProcessRuntime},
    sink::Sink,
    supervisor::{HealthProbes as Probes, Introduction, Options, Supervisor, SupervisorHandle},
};
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
};

use super::{
    args::{AgentArgs, HealthProbes},
    random_id,
    spool::StoreSpool,
    watch::Pulse,
};
use crate::{
    failure::Failure,
    runs::{Containers, Runs},
    up::{lock::DataDir, signals::Signals},
};

/// How long the keeper may take to end once its replicas have ended.
const KEEPER_ENDS: Duration = Duration::from_secs(5);

/// How long the last writes may take. A disk that takes nothing must not keep the agent from ending.
const LAST_WRITES: Duration = Duration::from_secs(5);

/// Runs until a signal ends it; a second one hurries (C2). SIGHUP has tokens and certificates read anew (C12).
///
/// # Errors
/// A part that can't be started; replicas that ran before run on then.
pub(super) async fn run(args: &AgentArgs, dir: &DataDir, keeper: Launched) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let mut hangup = signal(SignalKind::hangup())
        .map_err(|error| Failure::failed(format!("can't hear signals: {error}")))?;
    let notifier = Notifier::from_environment()
        .map_err(|error| Failure::failed(format!("NOTIFY_SOCKET names no socket: {error}")))?;
    let notifier = Arc::new(notifier);
    let node = Node::start(args, dir, keeper, Arc::clone(&notifier)).await?;
    notifier.ready("running");
    let signal = node.wait(&mut signals, &mut hangup).await;
    notifier.stopping();
    let supervisor = node.supervisor.clone();
    let leave = node.leave(args, signal);
    tokio::pin!(leave);
    loop {
        tokio::select! {
            () = &mut leave => return Ok(()),
            _ = signals.next() => {
                if !args.stop_replicas {
                    tracing::warn!("ending at once");
                    return Ok(());
                }
                let supervisor = supervisor.clone();
                tokio::spawn(async move { supervisor.shutdown(true).await });
            }
        }
    }
}

/// A node that runs.
struct Node {
    agent: AgentHandle,
    supervisor: SupervisorHandle,
    runtime: Runs,
    reports: Arc<Reports>,
    spool: Arc<StoreSpool>,
}

impl Node {
    async fn start(
        args: &AgentArgs,
        dir: &DataDir,
        keeper: Launched,
        notifier: Arc<Notifier>,
    ) -> Result<Self, Failure> {
        let (listener, address) = listen(args).await?;
        let name = args.name.clone().unwrap_or_else(host_name);
        let mut registered = Registry::default();
        let metrics = Arc::new(AgentMetrics::register(&mut registered));
        let link_metrics = LinkMetrics::register(&mut registered);
        let spool = Arc::new(StoreSpool::open(&dir.path).await?);
        let outcomes: Arc<dyn Outcomes> = Arc::clone(&spool) as _;
        let events: Arc<dyn Spool> = Arc::clone(&spool) as _;
        let reports = Reports::new(&name, Arc::clone(&metrics), events, outcomes, None);
        let reached = args.address.map_or_else(|| own_address(dir, &args.server), Ok)?;
        let runtime = ProcessRuntime::connect(keeper, process_options(args, reached)).await;
        let process =
            runtime.map_err(|error| Failure::failed(format!("the keeper does not answer: {error}")))?;
        let host = args.container_host.as_deref();
        let (no_root, publish) = (args.no_root, reached);
        let allow_users = &args.allow_user;
        let containers = Containers { host, no_root, allow_users, publish, end_leftovers: false };
        let runtime = Runs::new(process, &dir.path, containers);
        let version = env!("CARGO_PKG_VERSION").to_owned();
        reports.tell(EventData::NodeStarted(NodeStarted { version: version.clone() }));
        let drains = Drains::default();
        let before = spool.told(&name).await?;
        let told = (&reports, &drains, &*metrics, before);
        let (supervisor, targets) = supervise(args, &name, dir, &runtime, told)?;
        let runtimes = runtime.watch().await;
        let identity = identity(args, &name, version, reached, dir)?;
        let first_version = first_version(&dir.path);
        let used = runtime.clone();
        let agent = Agent::start(AgentOptions {
            runtimes: Some(runtimes),
            identity,
            connector: Arc::new(Remote {
                servers: args.server.clone(),
                token_file: Some(args.token_file.clone()),
                ca_file: args.ca_file.clone(),
            }),
            heartbeat: args.heartbeat_interval,
            supervisor: supervisor.clone(),
            targets,
            reports: Arc::clone(&reports),
            drains,
            usages: Arc::new(move || used.usages()),
            metrics: link_metrics,
            clock: Arc::new(BootClock),
            data_dir: dir.path.clone(),
            keep_desired: true,
            first_version,
        })
        .await;
        let pulse = Pulse::watch(supervisor.clone(), notifier);
        let answers = answers(pulse, &agent, runtime.clone(), registered, args.scrape.open()?);
        tokio::spawn(health::serve(listener, answers));
        tracing::info!(node = name, health = %address, replicas = %reached, "the agent runs");
        Ok(Self { agent, supervisor, runtime, reports, spool })
    }

    /// Waits until it is told to end.
    async fn wait(&self, signals: &mut Signals, hangup: &mut Signal) -> &'static str {
        loop {
            tokio::select! {
                signal = signals.next() => return signal,
                _ = hangup.recv() => {
                    tracing::info!("tokens and certificates are read anew");
                    self.agent.reload();
                }
            }
        }
    }

    /// Ends, and leaves replicas to the keeper and the next agent, or stops them first.
    async fn leave(self, args: &AgentArgs, why: &str) {
        self.reports.tell(EventData::NodeStopping(NodeStopping { reason: why.to_owned() }));
        if args.stop_replicas {
            self.supervisor.shutdown(false).await;
        } else {
            self.supervisor.detach().await;
        }
        self.reports.keep_series();
        // Written before it is told: what is told is read back from there.
        let _ = tokio::time::timeout(LAST_WRITES, self.spool.flush()).await;
        let away = (!args.stop_replicas).then_some(args.away);
        self.agent.leave(why, away).await;
        if tokio::time::timeout(LAST_WRITES, self.spool.close()).await.is_err() {
            tracing::error!("the last events could not be written in time");
        }
        if args.stop_replicas {
            self.runtime.shut_down(Duration::ZERO, KEEPER_ENDS).await;
        }
    }
}

async fn listen(args: &AgentArgs) -> Result<(TcpListener, std::net::SocketAddr), Failure> {
    let on = args.health_listen;
    let failed = |error: std::io::Error| {
        Failure::failed(format!("can't listen on {on} for health: {error}; `--health-listen` says where"))
    };
    let listener = TcpListener::bind(on).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

fn process_options(args: &AgentArgs, address: IpAddr) -> ProcessOptions {
    ProcessOptions {
        environment: BaseEnvironment::Clean,
        allow_users: (!args.allow_user.is_empty()).then(|| args.allow_user.iter().cloned().collect()),
        no_root: args.no_root,
        address,
    }
}

/// Starts what decides; what it is to run comes from the desired state.
fn supervise(
    args: &AgentArgs,
    name: &str,
    dir: &DataDir,
    runtime: &Runs,
    (reports, drains, metrics, told): (&Arc<Reports>, &Drains, &AgentMetrics, Told),
) -> Result<(SupervisorHandle, Targets), Failure> {
    let sink: Arc<dyn Sink> = Arc::clone(reports) as _;
    let checks = Checks::start(&EngineOptions::new(tokio::runtime::Handle::current()))
        .map_err(|error| Failure::failed(format!("can't start probing: {error}")))?;
    let mementos = FileMementos::open(&dir.path).map_err(|error| {
        Failure::failed(format!(
            "can't keep what the next agent has to know in {}: {error}",
            dir.path.display()
        ))
    })?;
    let seed = u64::from(std::process::id()) ^ Timestamp::now().as_nanosecond() as u64;
    let clock = Arc::new(BootClock);
    let guard = Guard::start(name, Arc::clone(&sink), Arc::clone(&clock) as _);
    let prober = Arc::clone(&checks.prober);
    let mut options = Options::new(name, runtime.runtime(), prober as _, Arc::clone(&sink), seed);
    options.drain = Arc::new(drains.clone());
    options.guard = Some(guard.clone());
    options.mementos = Some(mementos);
    options.introduction = introduction(args);
    let supervisor = Supervisor::start(options);
    let references = args.observer.references.clone();
    let outside = Outside::start(name, Arc::clone(&sink), Arc::clone(&clock) as _, references);
    let targets = Targets::start(TargetOptions {
        node: name.to_owned(),
        checks: checks.targets,
        sink,
        clock,
        guard: Some(guard),
        outside: Some(outside),
        lists: Some(dir.join("lists")),
        told,
    });
    metrics.watch(checks.prober, targets.statuses());
    Ok((supervisor, targets))
}

const fn introduction(args: &AgentArgs) -> Introduction {
    Introduction {
        health_probes: match args.health_probes {
            HealthProbes::On => Probes::On,
            HealthProbes::Observe => Probes::Observe,
            HealthProbes::Off => Probes::Off,
        },
        percent: args.health_probes_percent,
        max_restarts: args.max_restarts,
        restart_window: args.restart_window,
    }
}

fn identity(
    args: &AgentArgs,
    name: &str,
    version: String,
    address: IpAddr,
    dir: &DataDir,
) -> Result<Identity, Failure> {
    let instance = random_id().map_err(|error| Failure::failed(format!("no random number: {error}")))?;
    Ok(Identity {
        node: name.to_owned(),
        version,
        labels: args.labels.iter().cloned().collect(),
        region: args.region.clone(),
        zone: args.zone.clone(),
        address: address.to_string(),
        instance,
        boot_id: boot_id(),
        features: document::known_features().into_iter().collect(),
        capacity: capacity(&dir.path),
        ..Identity::default()
    })
}

fn answers(
    pulse: Pulse,
    agent: &AgentHandle,
    runtime: Runs,
    registered: Registry,
    blackbox: Option<Arc<Blackbox>>,
) -> Answers {
    let loaded = agent.loaded();
    Answers {
        well: "ok",
        alive: Arc::new(move || pulse.check()),
        ready: Arc::new(move || {
            if !runtime.answers() {
                return Err("the keeper is being replaced".to_owned());
            }
            if !loaded() {
                return Err(
                    "no desired state has been loaded yet, from a server or from an earlier run".to_owned()
                );
            }
            Ok(())
        }),
        metrics: Arc::new(move |accept| {
            exposition::encode(&registered, accept).map_err(|error| error.to_string())
        }),
        blackbox,
    }
}

/// What this machine calls itself.
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The file in the data directory that keeps where replicas of this node were reached last.
const ADDRESS_FILE: &str = "address";

/// Where replicas of this node are reached, unless it is told: the address that this machine reaches a server from. It is
/// kept, for an agent that starts before its network does.
///
/// # Errors
/// It can't be told, and never could.
fn own_address(dir: &DataDir, servers: &[String]) -> Result<IpAddr, Failure> {
    let file = dir.join(ADDRESS_FILE);
    if let Some(found) = servers.iter().find_map(|server| reaches(server)) {
        // Not worth more than a line: it is found again as a rule.
        if let Err(error) = std::fs::write(&file, found.to_string()) {
            tracing::warn!(path = %file.display(), %error, "can't keep where this node's replicas are reached");
        }
        return Ok(found);
    }
    let kept = std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok());
    kept.inspect(|address| {
        tracing::warn!(%address, "no way to a server yet: replicas are taken to be reached where they were last");
    })
    .ok_or_else(|| {
        Failure::failed(
            "can't tell where this node's replicas are reached: there is no way to any server yet; `--address` says where",
        )
    })
}

/// The address that this machine reaches a server from; nothing is sent for it.
fn reaches(server: &str) -> Option<IpAddr> {
    let rest = server.split_once("://")?.1;
    let host = rest.split('/').next()?;
    let with_port = if host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        host.to_owned()
    } else {
        format!("{host}:443")
    };
    let to = with_port.to_socket_addrs().ok()?.next()?;
    let any: IpAddr =
        if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(to).ok()?;
    socket.local_addr().ok().map(|it| it.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_node_is_reached_is_found_or_known_from_before_or_asked_for() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = DataDir::take(temporary.path()).unwrap();
        let nowhere = ["nonsense".to_owned(), "https://host.invalid".to_owned()];
        let Err(Failure::Failed(why)) = own_address(&dir, &nowhere) else {
            panic!("there is no way to a server")
        };
        assert!(why.contains("--address"), "{why}");
        let here = ["nonsense".to_owned(), "http://127.0.0.1:7450".to_owned()];
        for servers in [&here, &nowhere] {
            assert_eq!(own_address(&dir, servers).unwrap(), IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
    }
}
