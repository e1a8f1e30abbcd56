//! Many nodes and one server, for the benchmark `heartbeats`.
//!
//! `serve ADDRESS DATABASE NODES REPLICAS` is the real server: store, cluster, controller, sessions, registry. `bare
//! ADDRESS` receives the same messages over the same stack and sends an acknowledgement for each: the least a server
//! can do. `drive ADDRESS NODES REPLICAS BEAT SECONDS CHANGES` speaks the protocol for all nodes, over few connections,
//! with so many changes of readiness a second, and watches the registry as a gateway does.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::too_many_lines,
    reason = "what it finds is read from its output"
)]

use std::{
    collections::{BTreeMap, HashMap},
    env,
    error::Error,
    path::Path,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::Stream;
use hale_api::proto::{
    self, GatewayMessage, NodeMessage, ServerMessage,
    gateway_message::Message as ToServerFromGateway,
    gateway_service_client::GatewayServiceClient,
    node_message::Message as ToServer,
    node_service_client::NodeServiceClient,
    node_service_server::{NodeService, NodeServiceServer},
    registry_message::Message as ToGateway,
    server_message::Message as ToAgent,
};
use hale_model::{
    cluster::{
        ClusterRecord, NodeCondition, NodeFacts, NodeRecord, Owner, PlacementCause, PlacementRecord,
        PlacementState, Role, Scheduling, WorkloadRecord,
    },
    document,
};
use hale_server::{
    Limits, Listeners, Registry, TokenSet,
    cluster::{Cluster, Options},
};
use hale_store::{
    Store,
    cluster::{Change, Record, Write},
};
use jiff::Timestamp;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc},
    time::{Instant, MissedTickBehavior, interval_at, sleep, timeout},
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, transport::Channel};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// Nodes that share a workload, and so a service.
const SHARED: usize = 10;

/// Nodes that share a connection.
const MULTIPLEXED: usize = 150;

#[tokio::main]
async fn main() -> Outcome {
    let args: Vec<String> = env::args().skip(1).collect();
    let number = |at: usize| args.get(at).and_then(|it| it.parse::<f64>().ok()).ok_or("a number is missing");
    match args.first().map(String::as_str) {
        Some("serve") => serve(&args[1], &args[2], number(3)? as usize, number(4)? as usize).await,
        Some("bare") => bare(&args[1]).await,
        Some("drive") => {
            let drive = Drive {
                nodes: number(2)? as usize,
                replicas: number(3)? as usize,
                beat: Duration::from_secs_f64(number(4)?),
                lasts: Duration::from_secs_f64(number(5)?),
                changes: number(6)?,
            };
            drive.run(&args[1]).await
        }
        _ => {
            Err("serve ADDRESS DATABASE NODES REPLICAS, bare ADDRESS, or drive ADDRESS NODES REPLICAS BEAT \
                  SECONDS CHANGES"
                .into())
        }
    }
}

fn node(at: usize) -> String {
    format!("n{at}")
}

fn token(at: usize) -> String {
    format!("hale_{at:08x}_0123456789012345678901234567890123456789")
}

const GATEWAY: &str = "hale_ffffffff_0123456789012345678901234567890123456789";

/// The workload that a node has replicas of, and the ordinal of its first.
fn of(at: usize, replicas: usize) -> (String, usize) {
    (format!("w{}", at / SHARED), (at % SHARED) * replicas)
}

async fn serve(address: &str, database: &str, nodes: usize, replicas: usize) -> Outcome {
    let options = hale_store::Options::default();
    let store = if database.starts_with("postgres") {
        Store::connect(database, options).await?
    } else {
        Store::open(Path::new(database), options).await?
    };
    seed(&store, nodes, replicas).await?;
    let tokens = (0..nodes).fold(TokenSet::new(), |set, at| set.with_agent(&node(at), &token(at)));
    let tokens = tokens.with("gateway", GATEWAY, Role::Gateway);
    let registry = Arc::new(Registry::new());
    let cluster = Cluster::start(store, tokens, registry, Options::new(format!("http://{address}"))).await?;
    let tcp = TcpListener::bind(address).await?;
    println!("serving");
    let limits = Limits { connections: 16_000, ..Limits::default() };
    let listeners = Listeners { tcp: Some(tcp), ..Listeners::default() };
    let router = hale_server::with_grpc(axum::Router::new(), cluster.grpc().await);
    hale_server::serve(router, listeners, limits, CancellationToken::new()).await;
    Ok(())
}

/// What would be there had all of it been placed.
async fn seed(store: &Store, nodes: usize, replicas: usize) -> Outcome {
    let now = Timestamp::now();
    let last_generation = (nodes * replicas) as u64;
    let mut changes = vec![Change::Put(Record::Cluster(ClusterRecord {
        id: "bench".into(),
        epoch: 1,
        last_generation,
        last_session: 0,
        adoptable_below: 0,
    }))];
    let mut digests = BTreeMap::new();
    for at in 0..nodes.div_ceil(SHARED) {
        let (name, wanted) = (format!("w{at}"), replicas * SHARED.min(nodes - at * SHARED));
        let text = format!(
            "kind: Workload\nname: {name}\nreplicas: {wanted}\nprocess: {{command: [sleep, '1']}}\n\
             ports: [{{name: http, port: 0}}]\nservice: {{name: {name}, port: http}}\n"
        );
        let document = document::read_str("bench.yaml", Path::new("/"), &text);
        let document = document.map_err(|it| format!("{it:?}"))?.remove(0);
        digests.insert(name.clone(), document.digest.clone());
        changes.push(Change::Put(Record::Workload(Box::new(WorkloadRecord {
            name,
            document,
            owner: Owner::Api,
            previous: None,
            rolled_back: None,
            stopped: None,
            stopped_replicas: BTreeMap::new(),
            pauses: Vec::new(),
            applied_at: now,
            applied_by: "bench".into(),
            adopts_all: false,
        }))));
    }
    for at in 0..nodes {
        changes.push(Change::Put(Record::Node(Box::new(NodeRecord {
            name: node(at),
            facts: NodeFacts { runtimes: ["process".to_owned()].into(), ..NodeFacts::default() },
            scheduling: Scheduling::Open,
            scheduling_by: None,
            condition: NodeCondition::Ready,
            condition_since: now,
            joined_at: now,
            failures: BTreeMap::new(),
        }))));
        let (workload, first) = of(at, replicas);
        for n in 0..replicas {
            changes.push(Change::Put(Record::Placement(PlacementRecord {
                generation: (at * replicas + n + 1) as u64,
                workload: workload.clone(),
                ordinal: (first + n) as u32,
                node: node(at),
                digest: digests[&workload].clone(),
                state: PlacementState::Wanted,
                placed_at: now,
                reason: "bench".into(),
                replaces: None,
                cause: PlacementCause::default(),
                moves: 0,
                continues: Vec::new(),
                fence_ms: None,
            })));
        }
        if changes.len() > 4000 {
            store.write(Write { changes: std::mem::take(&mut changes), guards: Vec::new() }).await?;
        }
    }
    store.write(Write { changes, guards: Vec::new() }).await?;
    Ok(())
}

/// Receives and sends, and no more.
struct Bare;

#[tonic::async_trait]
impl NodeService for Bare {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<ServerMessage, Status>> + Send>>;

    async fn connect(
        &self,
        request: Request<Streaming<NodeMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let answers = request.into_inner().map(|message| {
            let message = match message?.message {
                Some(ToServer::Beat(beat)) => ToAgent::Ack(proto::Ack {
                    sequence: beat.sequence,
                    durable_sequence: beat.sequence,
                    sent_boottime: beat.sent_boottime,
                    ..proto::Ack::default()
                }),
                _ => ToAgent::Welcome(proto::Welcome { session: 1, ..proto::Welcome::default() }),
            };
            Ok(ServerMessage { message: Some(message) })
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

async fn bare(address: &str) -> Outcome {
    let service = NodeServiceServer::new(Bare);
    println!("serving");
    tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .add_service(service)
        .serve(address.parse()?)
        .await?;
    Ok(())
}

#[derive(Debug, Clone, Copy)]
struct Drive {
    nodes: usize,
    replicas: usize,
    beat: Duration,
    lasts: Duration,
    changes: f64,
}

/// What the nodes saw.
#[derive(Default)]
struct Seen {
    welcome: AtomicU64,
    settled: AtomicU64,
    acks: AtomicU64,
    broken: AtomicU64,
    /// Changes under way, by replica: when they were sent, and whether it is ready then.
    under_way: Mutex<HashMap<String, (Instant, bool)>>,
    /// Milliseconds from a change to both its durable acknowledgement and a watcher.
    durable: Mutex<Vec<f64>>,
    visible: Mutex<Vec<f64>>,
}

fn lock<T>(it: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drive {
    async fn run(self, address: &str) -> Outcome {
        let seen = Arc::new(Seen::default());
        let opening = Arc::new(Semaphore::new(500));
        let mut orders = Vec::new();
        let mut channel = None;
        for at in 0..self.nodes {
            if at % MULTIPLEXED == 0 {
                let endpoint = Channel::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
                channel = Some(endpoint.connect().await?);
            }
            let Some(channel) = channel.clone() else { continue };
            let (order, ordered) = mpsc::channel(4);
            orders.push(order);
            let (seen, opening) = (Arc::clone(&seen), Arc::clone(&opening));
            tokio::spawn(async move {
                if let Err(error) = self.node(at, channel, &seen, opening, ordered).await
                    && seen.broken.fetch_add(1, Ordering::Relaxed) < 3
                {
                    eprintln!("n{at}: {error}");
                }
            });
        }
        let begun = Instant::now();
        while seen.settled.load(Ordering::Relaxed) < self.nodes as u64 {
            if begun.elapsed() > Duration::from_secs(900) || seen.broken.load(Ordering::Relaxed) > 0 {
                let (welcome, settled) =
                    (seen.welcome.load(Ordering::Relaxed), seen.settled.load(Ordering::Relaxed));
                return Err(format!("{welcome} were let in, {settled} of them are settled").into());
            }
            sleep(Duration::from_millis(100)).await;
        }
        println!("settled {} {:.1}", self.nodes, begun.elapsed().as_secs_f64());
        if self.changes > 0.0 {
            let channel = Channel::from_shared(format!("http://{address}"))?.connect().await?;
            let watching = Arc::clone(&seen);
            tokio::spawn(async move { watch(channel, &watching).await });
            sleep(Duration::from_secs(2)).await;
        }
        let before = seen.acks.load(Ordering::Relaxed);
        println!("measuring");
        self.change(&orders).await;
        println!("acks {}", seen.acks.load(Ordering::Relaxed) - before);
        println!("durable {}", told(&lock(&seen.durable)));
        println!("visible {}", told(&lock(&seen.visible)));
        println!("broken {} late {}", seen.broken.load(Ordering::Relaxed), lock(&seen.under_way).len());
        Ok(())
    }

    /// Lets nodes change, evenly, for as long as it lasts.
    async fn change(&self, orders: &[mpsc::Sender<()>]) {
        let end = Instant::now() + self.lasts;
        if self.changes <= 0.0 || self.replicas == 0 {
            return tokio::time::sleep_until(end).await;
        }
        let mut tick = interval_at(Instant::now(), Duration::from_secs_f64(1.0 / self.changes));
        let mut at = 0;
        while Instant::now() < end {
            tick.tick().await;
            // Far from each other: each is another workload.
            at = (at + 7 * SHARED + 1) % orders.len();
            let _busy = orders[at].try_send(());
        }
        // The last ones arrive, too.
        sleep(Duration::from_secs(2)).await;
    }

    async fn node(
        self,
        at: usize,
        channel: Channel,
        seen: &Seen,
        opening: Arc<Semaphore>,
        mut ordered: mpsc::Receiver<()>,
    ) -> Outcome {
        let permit = opening.acquire_owned().await?;
        let (out, outgoing) = mpsc::channel(16);
        let register = proto::Register {
            node: node(at),
            version: env!("CARGO_PKG_VERSION").into(),
            runtimes: vec!["process".into()],
            address: "127.0.0.1".into(),
            instance: format!("i{at}"),
            boot_id: "b".into(),
            spool: format!("s{at}"),
            ..proto::Register::default()
        };
        out.send(NodeMessage { message: Some(ToServer::Register(register)) }).await?;
        let mut request = Request::new(ReceiverStream::new(outgoing));
        request.metadata_mut().insert("authorization", format!("Bearer {}", token(at)).parse()?);
        let mut client = NodeServiceClient::new(channel).max_decoding_message_size(64 << 20);
        let mut inbound = client.connect(request).await?.into_inner();
        let mut replicas = self.replicas_of(at);
        let (mut sequence, mut settled) = (0, false);
        // Spread over the time from beat to beat, as agents are.
        let first = self.beat.mul_f64(at as f64 / self.nodes as f64);
        let mut beats = interval_at(Instant::now() + first, self.beat);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut permit, mut changing) = (Some(permit), None);
        loop {
            tokio::select! {
                message = inbound.message() => match message?.and_then(|it| it.message) {
                    Some(ToAgent::Welcome(_)) => {
                        seen.welcome.fetch_add(1, Ordering::Relaxed);
                        sequence += 1;
                        let beat = proto::Beat { full: true, replicas: replicas.clone(), ..idle(sequence) };
                        out.send(NodeMessage { message: Some(ToServer::Beat(beat)) }).await?;
                    }
                    Some(ToAgent::Ack(ack)) => {
                        seen.acks.fetch_add(1, Ordering::Relaxed);
                        if let Some(rejected) = ack.rejected.first() {
                            return Err(format!("{rejected:?}").into());
                        }
                        if !settled && ack.durable_sequence >= 1 {
                            settled = true;
                            permit.take();
                            seen.settled.fetch_add(1, Ordering::Relaxed);
                        }
                        if let Some((since, of)) = changing
                            && ack.durable_sequence >= of
                        {
                            changing = None;
                            lock(&seen.durable).push(Instant::now().duration_since(since).as_secs_f64() * 1000.0);
                        }
                    }
                    Some(ToAgent::Goodbye(goodbye)) => return Err(format!("{goodbye:?}").into()),
                    Some(_) => {}
                    None => return Err("the server ended it".into()),
                },
                _ = beats.tick() => {
                    sequence += 1;
                    out.send(NodeMessage { message: Some(ToServer::Beat(idle(sequence))) }).await?;
                }
                Some(()) = ordered.recv(), if settled && changing.is_none() => {
                    sequence += 1;
                    let changed = &mut replicas[0];
                    (changed.ready, changed.version) = (!changed.ready, changed.version + 1);
                    let name = format!("{}-{}", changed.workload, changed.ordinal);
                    let beat = proto::Beat { replicas: vec![changed.clone()], ..idle(sequence) };
                    let now = Instant::now();
                    changing = Some((now, sequence));
                    lock(&seen.under_way).insert(name, (now, changed.ready));
                    out.send(NodeMessage { message: Some(ToServer::Beat(beat)) }).await?;
                }
            }
        }
    }

    fn replicas_of(&self, at: usize) -> Vec<proto::Replica> {
        let (workload, first) = of(at, self.replicas);
        (0..self.replicas)
            .map(|n| proto::Replica {
                generation: (at * self.replicas + n + 1) as u64,
                workload: workload.clone(),
                ordinal: (first + n) as u32,
                incarnation: 1,
                phase: "running".into(),
                ready: true,
                serving: true,
                status: "healthy".into(),
                runtime: "process".into(),
                pid: Some(1000 + n as u32),
                address: Some("127.0.0.1".into()),
                ports: BTreeMap::from([("http".to_owned(), 20_000 + n as u32)]),
                reason: "started".into(),
                version: 1,
                ..proto::Replica::default()
            })
            .collect()
    }
}

/// A beat with nothing new in it.
fn idle(sequence: u64) -> proto::Beat {
    proto::Beat {
        sequence,
        sent_at: Timestamp::now().as_microsecond(),
        sent_boottime: sequence,
        ..proto::Beat::default()
    }
}

/// Follows all services, as a gateway does.
async fn watch(channel: Channel, seen: &Seen) -> Outcome {
    let (out, outgoing) = mpsc::channel(4);
    let subscribe = proto::Subscribe { name: "bench".into(), ..proto::Subscribe::default() };
    out.send(GatewayMessage { message: Some(ToServerFromGateway::Subscribe(subscribe)) }).await?;
    let mut request = Request::new(ReceiverStream::new(outgoing));
    request.metadata_mut().insert("authorization", format!("Bearer {GATEWAY}").parse()?);
    let mut client = GatewayServiceClient::new(channel).max_decoding_message_size(1 << 30);
    let mut inbound = client.connect(request).await?.into_inner();
    while let Some(message) = timeout(Duration::from_secs(60), inbound.message()).await?? {
        let Some(ToGateway::Service(service)) = message.message else { continue };
        let now = Instant::now();
        let mut under_way = lock(&seen.under_way);
        for endpoint in &service.endpoints {
            let Some((since, ready)) = under_way.get(&endpoint.replica).copied() else { continue };
            if endpoint.ready == ready {
                under_way.remove(&endpoint.replica);
                lock(&seen.visible).push(now.duration_since(since).as_secs_f64() * 1000.0);
            }
        }
    }
    Ok(())
}

/// How many, and how long they took, in milliseconds.
fn told(took: &[f64]) -> String {
    let mut sorted = took.to_vec();
    sorted.sort_by(f64::total_cmp);
    let share = |of: f64| sorted.get((sorted.len() as f64 * of) as usize).copied().unwrap_or(0.0);
    let last = sorted.last().copied().unwrap_or(0.0);
    format!("{} p50_ms {:.2} p99_ms {:.2} max_ms {last:.2}", sorted.len(), share(0.5), share(0.99))
}
