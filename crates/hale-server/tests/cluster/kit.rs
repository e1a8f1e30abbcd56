//! Servers in this process, and agents that speak the real protocol and do what a test says.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use hale_api::proto::{
    self, Beat, NodeMessage, Register, ServerMessage, Welcome, node_message::Message as Say,
    node_service_client::NodeServiceClient, server_message::Message as Heard,
};
use hale_model::{
    cluster::{Owner, PlacementRecord, PlacementState, Role},
    document::{self, Document},
};
use hale_server::{
    Cluster, Limits, Listeners, Registry, TokenSet,
    cluster::{Options, desired::Person, snapshot::Snapshot},
};
use hale_store::{
    Store,
    cluster::{Change, Record, Write},
};
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Status, Streaming,
    transport::{Channel, Endpoint},
};

/// The longest that anything is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Beats of the tests.
pub(crate) const BEAT: Duration = Duration::from_millis(500);

pub(crate) struct Server {
    pub(crate) cluster: Cluster,
    pub(crate) store: Store,
    pub(crate) registry: Arc<Registry>,
    pub(crate) address: SocketAddr,
    end: CancellationToken,
    serving: JoinHandle<()>,
}

/// The token of a node's agent, which every server of the tests knows.
pub(crate) fn token(node: &str) -> String {
    format!("hale_{node}_{}", "0".repeat(64))
}

impl Server {
    /// On a database that this server has alone. Nothing is placed but what the test places.
    pub(crate) async fn start(dir: &Path) -> Self {
        let store = Store::open(&dir.join("hale.db"), hale_store::Options::default()).await.unwrap();
        let lease = store.lease("placement", "the test", Duration::from_secs(3600)).await.unwrap();
        assert!(lease.is_some());
        Self::on(store).await
    }

    pub(crate) async fn on(store: Store) -> Self {
        Self::with(
            store,
            Options { heartbeat: BEAT, lease: Duration::from_secs(10), url: "http://here".into() },
        )
        .await
    }

    pub(crate) async fn with(store: Store, options: Options) -> Self {
        let tokens =
            ["n1", "n2", "n3"].iter().fold(TokenSet::new(), |set, node| set.with_agent(node, &token(node)));
        let tokens =
            tokens.with("gateway", "hale_gw_0123456789abcdef0123456789abcdef0123456789abcdef", Role::Gateway);
        let registry = Arc::new(Registry::new());
        let cluster = Cluster::start(store.clone(), tokens, Arc::clone(&registry), options).await.unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let end = CancellationToken::new();
        let router = hale_server::with_grpc(axum::Router::new(), cluster.grpc().await);
        let listeners = Listeners { tcp: Some(tcp), ..Listeners::default() };
        let serving = tokio::spawn(hale_server::serve(router, listeners, Limits::default(), end.clone()));
        Self { cluster, store, registry, address, end, serving }
    }

    /// Ends in order.
    pub(crate) async fn stop(self) {
        self.cluster.stop().await;
        self.end.cancel();
        self.serving.await.unwrap();
        self.store.close().await;
    }

    pub(crate) async fn apply(&self, text: &str) -> Vec<Document> {
        let documents = document::read_str("test.yaml", Path::new("/"), text).unwrap();
        self.cluster.apply(&documents, Owner::Api, &Person::new("test"), false).await.unwrap();
        documents
    }

    /// Places replicas by hand.
    pub(crate) async fn place(&self, placements: &[PlacementRecord]) -> Arc<Snapshot> {
        let changes = placements.iter().map(|it| Change::Put(Record::Placement(it.clone()))).collect();
        let committed = self.store.write(Write { changes, guards: Vec::new() }).await.unwrap();
        self.cluster.caught_up(committed.revision).await
    }

    /// Waits until a snapshot is so.
    pub(crate) async fn until(&self, what: &str, is: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
        let mut follow = self.cluster.follow();
        let reached = timeout(PATIENCE, follow.wait_for(|it| is(it))).await;
        Arc::clone(&reached.unwrap_or_else(|_| panic!("never: {what}")).unwrap())
    }

    /// How many endpoints of a service are ready.
    pub(crate) fn ready(&self, service: &str) -> usize {
        self.registry.endpoints(service).map_or(0, |it| it.ready().count())
    }

    pub(crate) async fn until_ready(&self, service: &str, count: usize) {
        until(&format!("{count} ready endpoints of {service}"), || self.ready(service) == count).await;
    }
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, is: impl Fn() -> bool) {
    let waiting = async {
        while !is() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

pub(crate) fn placement(generation: u64, workload: &Document, ordinal: u32, node: &str) -> PlacementRecord {
    PlacementRecord {
        generation,
        workload: workload.name.clone(),
        ordinal,
        node: node.to_owned(),
        digest: workload.digest.clone(),
        state: PlacementState::Wanted,
        placed_at: Timestamp::now(),
        reason: "the test".to_owned(),
        replaces: None,
        cause: Default::default(),
        moves: 0,
        continues: Vec::new(),
        fence_ms: None,
    }
}

pub(crate) fn register(node: &str) -> Register {
    Register {
        node: node.to_owned(),
        version: "1.2.3".to_owned(),
        address: "127.0.0.1".to_owned(),
        instance: format!("{node}-run-1"),
        boot_id: "boot".to_owned(),
        spool: format!("{node}-spool"),
        zone: "z1".to_owned(),
        runtimes: vec!["process".to_owned()],
        features: document::known_features().into_iter().collect(),
        ..Register::default()
    }
}

/// An agent that does what the test says.
pub(crate) struct Agent {
    out: mpsc::Sender<NodeMessage>,
    inbound: Streaming<ServerMessage>,
    pub(crate) welcome: Welcome,
    sequence: u64,
}

impl Agent {
    pub(crate) async fn connect(server: &Server, register: Register) -> Result<Self, Status> {
        let token = token(&register.node);
        Self::connect_as(server, register, &token).await
    }

    pub(crate) async fn at(address: SocketAddr, register: Register) -> Result<Self, Status> {
        let token = token(&register.node);
        Self::dial(address, register, &token).await
    }

    pub(crate) async fn connect_as(server: &Server, register: Register, token: &str) -> Result<Self, Status> {
        Self::dial(server.address, register, token).await
    }

    async fn dial(address: SocketAddr, register: Register, token: &str) -> Result<Self, Status> {
        let (out, sent) = mpsc::channel(64);
        out.send(NodeMessage { message: Some(Say::Register(register)) }).await.unwrap();
        let mut client = NodeServiceClient::new(channel(address).await);
        let mut request = Request::new(ReceiverStream::new(sent));
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        let mut inbound = client.connect(request).await?.into_inner();
        let first = inbound.message().await?.and_then(|it| it.message);
        let Some(Heard::Welcome(welcome)) = first else { panic!("no welcome but {first:?}") };
        Ok(Self { out, inbound, welcome, sequence: 0 })
    }

    pub(crate) async fn say(&self, message: Say) {
        self.out.send(NodeMessage { message: Some(message) }).await.unwrap();
    }

    /// Sends a beat; its sequence is the next.
    pub(crate) async fn beat(&mut self, beat: Beat) -> u64 {
        self.sequence += 1;
        let beat = Beat {
            sequence: self.sequence,
            sent_at: Timestamp::now().as_microsecond(),
            sent_boottime: self.sequence * 1000,
            ..beat
        };
        self.say(Say::Beat(beat)).await;
        self.sequence
    }

    /// The next message; `None` at the end of the stream.
    pub(crate) async fn hear(&mut self) -> Option<Heard> {
        let message = timeout(PATIENCE, self.inbound.message()).await.expect("a message in time");
        message.ok().flatten().and_then(|it| it.message)
    }

    /// The next message, however long it takes.
    pub(crate) async fn next(&mut self) -> Option<Heard> {
        self.inbound.message().await.ok().flatten().and_then(|it| it.message)
    }

    /// Passes over messages until one that is meant.
    pub(crate) async fn until<T>(&mut self, mut meant: impl FnMut(Heard) -> Option<T>) -> T {
        loop {
            let message = self.hear().await.expect("the stream goes on");
            if let Some(found) = meant(message) {
                return found;
            }
        }
    }

    pub(crate) async fn desired(&mut self) -> proto::Desired {
        self.until(|it| if let Heard::Desired(it) = it { Some(it) } else { None }).await
    }

    pub(crate) async fn ack(&mut self, meant: impl Fn(&proto::Ack) -> bool) -> proto::Ack {
        self.until(|it| if let Heard::Ack(it) = it { Some(it).filter(&meant) } else { None }).await
    }

    pub(crate) async fn ask(&mut self) -> proto::Ask {
        self.until(|it| if let Heard::Ask(it) = it { Some(it) } else { None }).await
    }

    pub(crate) async fn goodbye(&mut self) -> proto::Goodbye {
        self.until(|it| if let Heard::Goodbye(it) = it { Some(it) } else { None }).await
    }

    /// Sends a beat and waits until what it said is durable.
    pub(crate) async fn tell(&mut self, beat: Beat) -> proto::Ack {
        let sequence = self.beat(beat).await;
        self.ack(|it| it.durable_sequence >= sequence).await
    }
}

/// A connection to a server.
pub(crate) async fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

/// A replica of `web` as its agent tells of it.
pub(crate) fn replica(generation: u64, ordinal: u32, version: u64, ready: bool) -> proto::Replica {
    proto::Replica {
        generation,
        workload: "web".to_owned(),
        ordinal,
        incarnation: 1,
        phase: "running".to_owned(),
        ready,
        serving: true,
        status: if ready { "healthy" } else { "degraded" }.to_owned(),
        runtime: "process".to_owned(),
        pid: Some(4711),
        address: Some("127.0.0.1".to_owned()),
        ports: [("http".to_owned(), 20_000 + u32::try_from(generation).unwrap())].into(),
        started_at: Some(1_700_000_000_000_000),
        version,
        reason: "the test".to_owned(),
        ..proto::Replica::default()
    }
}

pub(crate) fn of(replicas: Vec<proto::Replica>) -> Beat {
    Beat { replicas, ..Beat::default() }
}

pub(crate) fn event(node: &str, number: u64) -> proto::SpooledEvent {
    proto::SpooledEvent {
        number,
        time: 1_700_000_000_000_000 + i64::try_from(number).unwrap(),
        source: format!("/nodes/{node}"),
        subject: node.to_owned(),
        data: format!(r#"{{"type":"dev.hale.node.started","data":{{"version":"{number}"}}}}"#),
    }
}

/// Two replicas behind a service.
pub(crate) const WEB: &str = "kind: Workload\nname: web\nreplicas: 2\nprocess: {command: [/bin/true]}\nports: [{name: http}]\nservice: {port: http}\n";

pub(crate) fn dir() -> TempDir {
    tempfile::tempdir().unwrap()
}
