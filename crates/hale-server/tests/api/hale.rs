//! A hale to ask: the real API, store and registry on real sockets, and a node that is a value.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::stream;
use hale_api::{Client, TOKEN_FILE, logs::LogLine, operation::Verb, outcomes::ProbeHistory};
use hale_model::{
    Phase, Status,
    cluster::Role,
    event::{EventData, Instance, NewEvent, ReplicaReady},
    status::{NodeStatus, Overview, ReplicaStatus, TargetStatus, TransitionStatus, WorkloadStatus},
};
use hale_server::{
    Cluster, Control, Limits, Listeners, Parts, Registry, Runs, TokenSet, cluster,
    control::{BoxFuture, LogStream, Order, OrderError, Subject},
};
use hale_store::{Options, Store};
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub(crate) const TOKEN: &str = "hale_test_0123456789012345678901234567890123456789";

type Printed = Arc<Mutex<HashMap<String, Vec<LogLine>>>>;

/// A node that does what it is told at once: two replicas of `web`, and the target `billing`.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) overview: Mutex<Overview>,
    pub(crate) orders: Mutex<Vec<Order>>,
    /// How many were on record as the last order came.
    pub(crate) on_record: Mutex<usize>,
    pub(crate) printed: Printed,
    pub(crate) broken: Mutex<Option<String>>,
    version: watch::Sender<u64>,
    printing: watch::Sender<u64>,
    store: Store,
}

impl Node {
    pub(crate) fn change(&self, change: impl FnOnce(&mut Overview)) {
        change(&mut self.overview.lock().unwrap());
        self.version.send_modify(|it| *it += 1);
    }

    pub(crate) fn replica(&self, name: &str, change: impl FnOnce(&mut ReplicaStatus)) {
        self.change(|it| {
            let mut replicas = it.workloads.iter_mut().flat_map(|it| &mut it.replicas);
            change(replicas.find(|it| it.name == name).unwrap());
        });
    }

    pub(crate) fn print(&self, replica: &str, text: &str) {
        let mut printed = self.printed.lock().unwrap();
        let lines = printed.entry(replica.to_owned()).or_default();
        lines.push(LogLine {
            replica: replica.to_owned(),
            time: format!("2026-01-01T00:00:{:02}.000000Z", lines.len()),
            stream: "stdout".to_owned(),
            whole: true,
            text: text.to_owned(),
        });
        drop(printed);
        self.printing.send_modify(|it| *it += 1);
    }
}

impl Control for Node {
    fn overview(&self) -> BoxFuture<'_, Result<Overview, OrderError>> {
        Box::pin(async { Ok(self.overview.lock().unwrap().clone()) })
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    fn progress_deadline(&self, _: &str) -> Duration {
        Duration::from_millis(700)
    }

    fn order(&self, order: Order) -> BoxFuture<'_, Result<(), OrderError>> {
        Box::pin(async move {
            let Order { on, verb, .. } = order.clone();
            self.orders.lock().unwrap().push(order);
            let on_record = self.store.audit_log(0, 100).await.unwrap().len();
            *self.on_record.lock().unwrap() = on_record;
            if let Subject::Target(_) = on {
                return Ok(());
            }
            let is_meant =
                |it: &ReplicaStatus| it.name == on.name() || it.name.starts_with(&format!("{}-", on.name()));
            self.change(|overview| {
                let replicas = overview.workloads.iter_mut().flat_map(|it| &mut it.replicas);
                for replica in replicas.filter(|it| is_meant(it)) {
                    match verb {
                        Verb::Restart | Verb::Start => {
                            replica.incarnation += 1;
                            replica.phase = Phase::Starting;
                            replica.ready = false;
                        }
                        Verb::Stop => replica.phase = Phase::Stopping,
                        Verb::Pause => replica.paused = true,
                        Verb::Resume => replica.paused = false,
                    }
                }
            });
            Ok(())
        })
    }

    fn logs(
        &self,
        replica: String,
        tail: Option<u32>,
        follow: bool,
    ) -> BoxFuture<'_, Result<LogStream, OrderError>> {
        let printed = Arc::clone(&self.printed);
        let version = self.printing.subscribe();
        Box::pin(async move {
            let all = printed.lock().unwrap().get(&replica).map_or(0, Vec::len);
            let at = all.saturating_sub(tail.map_or(usize::MAX, |it| it as usize));
            let state = (printed, version, replica, at);
            let stream = stream::unfold(state, move |(printed, mut version, replica, at)| async move {
                loop {
                    version.mark_unchanged();
                    let lines =
                        printed.lock().unwrap().get(&replica).map_or(Vec::new(), |it| it[at..].to_vec());
                    if !lines.is_empty() {
                        let at = at + lines.len();
                        return Some((Ok(lines), (printed, version, replica, at)));
                    }
                    if !follow {
                        return None;
                    }
                    version.changed().await.ok()?;
                }
            });
            Ok(Box::pin(stream) as LogStream)
        })
    }

    fn history<'a>(&'a self, subject: &'a str) -> BoxFuture<'a, Result<Vec<ProbeHistory>, OrderError>> {
        Box::pin(async move {
            self.store.history(subject).await.map_err(|error| OrderError::Unavailable(error.to_string()))
        })
    }

    fn check(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async { self.broken.lock().unwrap().clone().map_or(Ok(()), Err) })
    }
}

/// A token of a role that is known to every [`Hale`].
pub(crate) fn token_of(role: Role) -> String {
    format!("hale_{}_0123456789012345678901234567890123456789", role.as_str())
}

/// Keeps the live tokens as the database has them, as a server does.
async fn follow(store: Store, tokens: TokenSet, end: CancellationToken) {
    let mut revisions = store.follow_revision();
    loop {
        revisions.mark_unchanged();
        if let Ok(changes) = store.load().await {
            tokens.take(&changes);
        }
        tokio::select! {
            changed = revisions.changed() => if changed.is_err() { return },
            () = end.cancelled() => return,
        }
    }
}

fn tokens() -> TokenSet {
    let tokens = TokenSet::new().with("cli", TOKEN, Role::Admin);
    Role::ALL.into_iter().fold(tokens, |tokens, role| match role {
        Role::Agent => tokens.with_agent("n1", &token_of(role)),
        _ => tokens.with(role.as_str(), &token_of(role), role),
    })
}

/// A running API.
pub(crate) struct Hale {
    pub(crate) node: Arc<Node>,
    pub(crate) store: Store,
    pub(crate) registry: Arc<Registry>,
    pub(crate) address: SocketAddr,
    pub(crate) dir: TempDir,
    router: axum::Router,
    cluster: Option<Cluster>,
    end: CancellationToken,
    serving: Option<JoinHandle<()>>,
}

impl Hale {
    pub(crate) async fn start() -> Self {
        Self::start_with(Limits::default()).await
    }

    pub(crate) async fn start_with(limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::start_in(dir, tcp, limits).await
    }

    /// With a real cluster behind it, of this server alone and no nodes.
    pub(crate) async fn start_cluster() -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::start_as(tempfile::tempdir().unwrap(), tcp, Limits::default(), true, None).await
    }

    /// With a responder beside it.
    pub(crate) async fn start_responder(runs: Arc<dyn Runs>) -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::start_as(tempfile::tempdir().unwrap(), tcp, Limits::default(), false, Some(runs)).await
    }

    pub(crate) async fn start_in(dir: TempDir, tcp: TcpListener, limits: Limits) -> Self {
        Self::start_as(dir, tcp, limits, false, None).await
    }

    async fn start_as(
        dir: TempDir,
        tcp: TcpListener,
        limits: Limits,
        clustered: bool,
        runs: Option<Arc<dyn Runs>>,
    ) -> Self {
        std::fs::write(dir.path().join(TOKEN_FILE), TOKEN).unwrap();
        let store = Store::open(&dir.path().join("hale.db"), Options::default()).await.unwrap();
        let node = Arc::new(node(store.clone()));
        let registry = Arc::new(Registry::new());
        let end = CancellationToken::new();
        let tokens = tokens();
        let cluster = if clustered {
            let options = cluster::Options::new("http://localhost");
            let (store, registry) = (store.clone(), Arc::clone(&registry));
            Some(Cluster::start(store, tokens.clone(), registry, options).await.unwrap())
        } else {
            tokio::spawn(follow(store.clone(), tokens.clone(), end.clone()));
            None
        };
        let control: Arc<dyn Control> = match &cluster {
            Some(cluster) => Arc::new(cluster.clone()),
            None => Arc::clone(&node) as _,
        };
        let kube = cluster.as_ref().map(|cluster| {
            let mut metrics = prometheus_client::registry::Registry::default();
            let options = hale_server::kube::Options::default();
            hale_server::kube::start(cluster, store.clone(), options, &mut metrics, end.clone())
        });
        let router = hale_server::router(Parts {
            control,
            cluster: cluster.clone(),
            store: store.clone(),
            registry: Arc::clone(&registry),
            metrics: Arc::new(|accept| Ok(("text/plain", format!("up 1 {}\n", accept.unwrap_or("-"))))),
            probing: None,
            tokens: tokens.clone(),
            webhooks: None,
            runs,
            kube,
            loopback: true,
            end: end.clone(),
        });
        let address = tcp.local_addr().unwrap();
        let socket = hale_server::bind_socket(dir.path()).unwrap();
        let listeners = Listeners { tcp: Some(tcp), socket: Some(socket), tls: None };
        let serving = tokio::spawn(hale_server::serve(router.clone(), listeners, limits, end.clone()));
        Self { node, store, registry, address, dir, router, cluster, end, serving: Some(serving) }
    }

    /// The API itself, to serve it elsewhere, too.
    pub(crate) fn router(&self) -> axum::Router {
        self.router.clone()
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        self.cluster.as_ref().unwrap()
    }

    pub(crate) fn client(&self) -> Client {
        Client::remote(&format!("http://{}", self.address), TOKEN).unwrap()
    }

    pub(crate) async fn record(&self, count: usize) {
        for _ in 0..count {
            self.store.append(ready("web-0"));
        }
        self.store.flush().await.unwrap();
    }

    /// Stops serving; its directory and address, to start another on.
    pub(crate) async fn stop(mut self) -> (TempDir, SocketAddr) {
        self.end.cancel();
        if let Some(cluster) = &self.cluster {
            cluster.stop().await;
        }
        self.serving.take().unwrap().await.unwrap();
        self.store.close().await;
        (self.dir, self.address)
    }
}

pub(crate) fn ready(replica: &str) -> NewEvent {
    let instance = Instance { workload: "web".to_owned(), node: "local".to_owned(), ..Instance::default() };
    NewEvent {
        time: Timestamp::now(),
        source: "/nodes/local".to_owned(),
        subject: replica.to_owned(),
        data: EventData::ReplicaReady(ReplicaReady {
            instance,
            reason: "readiness: 1/1".to_owned(),
            not_ready_seconds: None,
        }),
    }
}

fn node(store: Store) -> Node {
    let at = Timestamp::now();
    let web = WorkloadStatus {
        name: "web".to_owned(),
        status: Status::Healthy,
        note: None,
        desired: 2,
        ready: 2,
        address: None,
        replicas: vec![replica("web-0", at), replica("web-1", at)],
    };
    let billing = TargetStatus {
        name: "billing".to_owned(),
        status: Status::Healthy,
        since: Some(at),
        consecutive_failures: 0,
        last_reason: None,
        last_detail: None,
        last_outcome_at: Some(at),
        paused: false,
        prober_errors: 0,
        members: None,
        origin: Default::default(),
    };
    let local = NodeStatus::new("local", Status::Healthy, at);
    Node {
        overview: Mutex::new(Overview {
            status: Status::Healthy,
            at,
            workloads: vec![web],
            targets: vec![billing],
            nodes: vec![local],
        }),
        orders: Mutex::default(),
        on_record: Mutex::default(),
        printed: Arc::default(),
        broken: Mutex::default(),
        version: watch::Sender::new(0),
        printing: watch::Sender::new(0),
        store,
    }
}

fn replica(name: &str, at: Timestamp) -> ReplicaStatus {
    ReplicaStatus {
        name: name.to_owned(),
        status: Status::Healthy,
        node: "local".to_owned(),
        phase: Phase::Running,
        ready: true,
        flapping: false,
        restarting: false,
        paused: false,
        held_by: None,
        pid: Some(4711),
        address: Some("127.0.0.1".to_owned()),
        ports: [("http".to_owned(), 20_001)].into(),
        container_id: None,
        runtime: "process".to_owned(),
        restarts: 0,
        restarts_in_window: 0,
        last_exit: None,
        last_error: None,
        status_text: None,
        observed_at: at,
        stale: false,
        started_at: Some(at),
        uptime_seconds: Some(1.0),
        next_start_at: None,
        generation: 1,
        incarnation: 1,
        probes: Default::default(),
        last_transition: Some(TransitionStatus { at, reason: "readiness: 1/1".to_owned() }),
        possibly_running_on: Vec::new(),
    }
}

/// Sends bytes and reads the answer to its end.
pub(crate) async fn raw(address: SocketAddr, request: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    // An answer may come, and the connection end, before all was sent.
    let _sent = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    let _end = read.expect("an answer that ends");
    String::from_utf8(answer).unwrap()
}

/// A request with the token that closes the connection after.
pub(crate) fn request(method: &str, path: &str, more: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\n{more}\r\n"
    )
}
