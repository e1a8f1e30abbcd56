//! A scripted server that speaks the real protocol, and a node whose replicas are made up.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of a test function")]

use std::{pin::Pin, sync::Arc, time::Duration};

use hale_agent::{
    Agent, AgentHandle, AgentOptions, Drains, Reports, first_version,
    link::{Identity, Remote},
    metrics::{AgentMetrics, LinkMetrics},
    spool::{MemorySpool, RecentOutcomes, Spool},
    targets::{TargetOptions, Targets},
};
use hale_api::{
    proto::{
        self, NodeMessage, ServerMessage,
        node_message::Message as Hear,
        node_service_server::{NodeService, NodeServiceServer},
        server_message::Message as Say,
    },
    wire,
};
use hale_check::EngineOptions;
use hale_health::{ProbeKind, Reason};
use hale_model::document::{self, Document};
use hale_supervisor::{
    clock::BootClock,
    engine::Checks,
    sim::{Answer, SimProber, SimRuntime},
    sink::Sink,
    supervisor::{Options, Supervisor, SupervisorHandle},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_stream::{
    Stream,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Request, Response, Status, Streaming};

/// The longest that anything is waited for.
const LIMIT: Duration = Duration::from_secs(30);

/// A server that does what a test says.
pub(crate) struct Server {
    pub(crate) url: String,
    sessions: tokio::sync::Mutex<mpsc::Receiver<Session>>,
    serving: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// One agent's stream.
pub(crate) struct Session {
    pub(crate) register: proto::Register,
    inbound: Streaming<NodeMessage>,
    out: mpsc::Sender<Result<ServerMessage, Status>>,
    asked: u64,
}

struct Nodes(mpsc::Sender<Session>);

#[tonic::async_trait]
impl NodeService for Nodes {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<ServerMessage, Status>> + Send>>;

    async fn connect(
        &self,
        request: Request<Streaming<NodeMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let mut inbound = request.into_inner();
        let Some(NodeMessage { message: Some(Hear::Register(register)) }) = inbound.message().await? else {
            return Err(Status::invalid_argument("no registration"));
        };
        let (out, sent) = mpsc::channel(64);
        let session = Session { register, inbound, out, asked: 0 };
        self.0.send(session).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(sent))))
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (come, sessions) = mpsc::channel(4);
        let serving = tokio::spawn(async move {
            let service = NodeServiceServer::new(Nodes(come)).max_decoding_message_size(1 << 24);
            let incoming = TcpListenerStream::new(listener);
            let _ =
                tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await;
        });
        Self { url, sessions: tokio::sync::Mutex::new(sessions), serving }
    }

    /// The next agent that registers.
    pub(crate) async fn session(&self) -> Session {
        let mut sessions = self.sessions.lock().await;
        tokio::time::timeout(LIMIT, sessions.recv()).await.expect("no agent came").unwrap()
    }
}

impl Session {
    pub(crate) async fn send(&mut self, message: Say) {
        // An agent that is gone hears nothing.
        let _ = self.out.send(Ok(ServerMessage { message: Some(message) })).await;
    }

    pub(crate) async fn welcome(&mut self, session: u64, heartbeat_ms: u32) {
        let server_time = jiff::Timestamp::now().as_microsecond();
        let welcome = proto::Welcome {
            session,
            cluster: "c".into(),
            epoch: 1,
            heartbeat_ms,
            server_time,
            ..proto::Welcome::default()
        };
        self.send(Say::Welcome(welcome)).await;
    }

    /// Wants replicas of `web` to run, by generation and ordinal.
    pub(crate) async fn want(&mut self, placements: &[(u64, u32)], full: bool, revision: u64) {
        let mut desired = placement(placements, &workload("web", 2), revision);
        desired.full = full;
        self.send(Say::Desired(desired)).await;
    }

    async fn next(&mut self) -> Option<Hear> {
        let message = tokio::time::timeout(LIMIT, self.inbound.message()).await.expect("nothing came");
        message.ok().flatten().and_then(|it| it.message)
    }

    /// The next beat.
    pub(crate) async fn beat(&mut self) -> proto::Beat {
        loop {
            match self.next().await {
                Some(Hear::Beat(beat)) => return beat,
                Some(_) => {}
                None => panic!("the agent went away"),
            }
        }
    }

    /// All that a beat said is durable.
    pub(crate) async fn acknowledge(&mut self, beat: &proto::Beat) {
        let ack = proto::Ack {
            sequence: beat.sequence,
            durable_sequence: beat.sequence,
            events_durable: beat.events.last().map_or(0, |it| it.number),
            sent_boottime: beat.sent_boottime,
            ..ack()
        };
        self.send(Say::Ack(ack)).await;
    }

    /// Asks for an order to be carried out, and acknowledges beats until it is answered.
    pub(crate) async fn ask(&mut self, order: proto::Order) -> proto::answer::What {
        self.asked += 1;
        let id = self.asked;
        self.send(Say::Ask(proto::Ask { id, what: Some(proto::ask::What::Order(order)) })).await;
        loop {
            match self.next().await.expect("the agent went away") {
                Hear::Beat(beat) => self.acknowledge(&beat).await,
                Hear::Answer(answer) if answer.id == id => return answer.what.unwrap(),
                other => panic!("{other:?}"),
            }
        }
    }

    /// The goodbye of the agent.
    pub(crate) async fn leaving(&mut self) -> proto::Leaving {
        self.leaving_and_gone().await.0
    }

    /// The goodbye of the agent, and what it told gone before.
    pub(crate) async fn leaving_and_gone(&mut self) -> (proto::Leaving, Vec<u64>) {
        let mut gone = Vec::new();
        loop {
            match self.next().await.expect("the agent went away without a word") {
                Hear::Beat(beat) => {
                    self.acknowledge(&beat).await;
                    gone.extend(beat.gone);
                }
                Hear::Leaving(leaving) => return (leaving, gone),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Waits until the agent has ended the session.
    pub(crate) async fn ended(mut self) {
        while self.next().await.is_some() {}
    }
}

/// An acknowledgement of nothing.
pub(crate) fn ack() -> proto::Ack {
    proto::Ack { server_time: jiff::Timestamp::now().as_microsecond(), ..proto::Ack::default() }
}

/// Acknowledges beats until one is as wanted; all that came.
pub(crate) async fn beats_until(
    session: &mut Session,
    mut is: impl FnMut(&proto::Beat) -> bool,
) -> Vec<proto::Beat> {
    let mut seen = Vec::new();
    let found = tokio::time::timeout(LIMIT, async {
        loop {
            let beat = session.beat().await;
            session.acknowledge(&beat).await;
            let found = is(&beat);
            seen.push(beat);
            if found {
                return;
            }
        }
    });
    let found = found.await.is_ok();
    assert!(found, "it did not come: {seen:#?}");
    seen
}

pub(crate) fn encoded_len(message: &NodeMessage) -> usize {
    prost::Message::encoded_len(message)
}

/// A workload with a readiness probe.
pub(crate) fn workload(name: &str, replicas: u32) -> Document {
    let text = format!(
        "kind: Workload\nname: {name}\nreplicas: {replicas}\nprocess: {{command: [/bin/true]}}\nreadinessProbe: \
         {{tcpSocket: {{port: 9}}, periodSeconds: 0.1, failureThreshold: 1}}\n"
    );
    document(&text)
}

/// What a file declares.
pub(crate) fn document(text: &str) -> Document {
    document::read_str("web.yaml", std::path::Path::new("/"), text).unwrap().remove(0)
}

pub(crate) fn placement(placements: &[(u64, u32)], document: &Document, revision: u64) -> proto::Desired {
    let one = |(generation, ordinal): &(u64, u32)| proto::Placement {
        generation: *generation,
        workload: document.name.clone(),
        ordinal: *ordinal,
        digest: document.digest.clone(),
        ..proto::Placement::default()
    };
    proto::Desired {
        revision,
        placements: placements.iter().map(one).collect(),
        documents: vec![wire::document(document)],
        epoch: 1,
        ..proto::Desired::default()
    }
}

/// A node with a real agent, whose replicas and probes are made up.
pub(crate) struct Node {
    agent: Option<AgentHandle>,
    pub(crate) supervisor: SupervisorHandle,
    /// What it can run.
    pub(crate) runtimes: watch::Sender<Vec<String>>,
    prober: Arc<SimProber>,
    dir: Option<tempfile::TempDir>,
}

impl Node {
    pub(crate) async fn start(servers: &[&str], heartbeat: Duration) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), servers, heartbeat).await
    }

    pub(crate) async fn start_in(dir: tempfile::TempDir, servers: &[&str], heartbeat: Duration) -> Self {
        let mut registry = prometheus_client::registry::Registry::default();
        let metrics = Arc::new(AgentMetrics::register(&mut registry));
        let link = LinkMetrics::register(&mut registry);
        let spool: Arc<dyn Spool> = Arc::new(MemorySpool::new("s", 1000));
        let reports = Reports::new("n1", metrics, spool, Arc::new(RecentOutcomes::default()), None);
        let clock = Arc::new(BootClock);
        let runtime = SimRuntime::new(Arc::clone(&clock) as _);
        let prober = SimProber::new(Arc::clone(&clock) as _);
        let sink = Arc::clone(&reports) as Arc<dyn Sink>;
        let drains = Drains::default();
        let mut options =
            Options::new("n1", Arc::new(runtime), Arc::new(Arc::clone(&prober)), Arc::clone(&sink), 7);
        options.drain = Arc::new(drains.clone());
        let supervisor = Supervisor::start(options);
        let checks = Checks::start(&EngineOptions::new(tokio::runtime::Handle::current())).unwrap();
        let targets = Targets::start(TargetOptions {
            node: "n1".into(),
            checks: checks.targets,
            sink,
            clock: Arc::clone(&clock) as _,
            guard: None,
            outside: None,
            lists: None,
            told: hale_agent::targets::Told::default(),
        });
        let identity = Identity {
            node: "n1".into(),
            instance: format!("{:?}", dir.path()),
            features: document::known_features().into_iter().collect(),
            ..Identity::default()
        };
        let servers = servers.iter().map(|it| (*it).to_owned()).collect();
        let (runtimes, can_run) = watch::channel(vec!["process".to_owned()]);
        let agent = Agent::start(AgentOptions {
            identity,
            runtimes: Some(can_run),
            connector: Arc::new(Remote { servers, ..Remote::default() }),
            heartbeat,
            supervisor: supervisor.clone(),
            targets,
            reports,
            drains,
            usages: Arc::new(Vec::new),
            metrics: link,
            clock,
            data_dir: dir.path().to_owned(),
            keep_desired: true,
            first_version: first_version(dir.path()),
        });
        Self { agent: Some(agent.await), supervisor, runtimes, prober, dir: Some(dir) }
    }

    pub(crate) fn agent(&self) -> &AgentHandle {
        self.agent.as_ref().unwrap()
    }

    /// From now on no replica is ready.
    pub(crate) fn fail_readiness(&self) {
        self.prober.answer("web", ProbeKind::Readiness, Answer::fails(Reason::ConnectionRefused));
    }

    pub(crate) async fn stop(mut self) {
        self.supervisor.shutdown(true).await;
        self.agent.take().unwrap().leave("the test is over", None).await;
    }

    /// Leaves on purpose; what is left of it on disk.
    pub(crate) async fn leave(mut self, reason: &str, away: Option<Duration>) -> tempfile::TempDir {
        let reason = reason.to_owned();
        self.agent.take().unwrap().leave(&reason, away).await;
        self.supervisor.shutdown(true).await;
        self.dir.take().unwrap()
    }
}
