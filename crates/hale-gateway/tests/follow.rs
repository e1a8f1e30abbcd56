//! A gateway that follows a server over the real protocol: what it does when the server changes its mind, goes away,
//! comes back as another, refuses, or says nothing.

#![expect(clippy::unwrap_used, reason = "a test that can not go on says where")]

mod kit;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use hale_api::proto::{
    self, Applied, GatewayMessage, RegistryMessage, Snapshot,
    gateway_message::Message as FromGateway,
    gateway_service_server::{GatewayService, GatewayServiceServer},
    registry_message::Message as ToGateway,
};
use hale_gateway::{
    Catalog, Gateways, Metrics, Options,
    follow::{Connection, FollowOptions, Follower},
};
use kit::{Backend, Client, Does, status, until};
use prometheus_client::registry::Registry;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

const TOKEN: &str = "hale_gate_1234567890";

/// What a server of this test was told, and a way to tell its gateway.
#[derive(Debug, Default)]
struct Seen {
    subscribed: Vec<proto::Subscribe>,
    applied: Vec<Applied>,
    gateways: Vec<mpsc::Sender<Result<RegistryMessage, Status>>>,
}

#[derive(Debug, Clone)]
struct Service {
    seen: Arc<Mutex<Seen>>,
    snapshot: Arc<Mutex<Option<Snapshot>>>,
}

#[tonic::async_trait]
impl GatewayService for Service {
    type ConnectStream = ReceiverStream<Result<RegistryMessage, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<GatewayMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let token = request.metadata().get("authorization").and_then(|it| it.to_str().ok());
        if token != Some(&format!("Bearer {TOKEN}")) {
            return Err(Status::unauthenticated("this token is not known"));
        }
        let mut inbound = request.into_inner();
        let (tell, told) = mpsc::channel(16);
        if let Some(snapshot) = self.snapshot.lock().unwrap().clone() {
            tell.try_send(Ok(message(ToGateway::Snapshot(snapshot)))).unwrap();
        }
        self.seen.lock().unwrap().gateways.push(tell);
        let seen = Arc::clone(&self.seen);
        tokio::spawn(async move {
            while let Ok(Some(message)) = inbound.message().await {
                let mut seen = seen.lock().unwrap();
                match message.message {
                    Some(FromGateway::Subscribe(hello)) => seen.subscribed.push(hello),
                    Some(FromGateway::Applied(applied)) => seen.applied.push(applied),
                    None => {}
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(told)))
    }
}

/// A server that can be ended at once.
struct Server {
    address: SocketAddr,
    service: Service,
    end: CancellationToken,
}

impl Server {
    async fn start(snapshot: Option<Vec<proto::Service>>) -> Self {
        Self::start_at((std::net::Ipv4Addr::LOCALHOST, 0).into(), snapshot).await
    }

    async fn start_at(address: SocketAddr, snapshot: Option<Vec<proto::Service>>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let snapshot = Arc::new(Mutex::new(snapshot.map(|services| Snapshot { services })));
        let service = Service { seen: Arc::default(), snapshot };
        let end = CancellationToken::new();
        let serving = tonic::transport::Server::builder()
            .add_service(GatewayServiceServer::new(service.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let stop = end.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                _ = serving => {}
            }
        });
        Self { address, service, end }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.service.seen.lock().unwrap())
    }

    async fn tell(&self, what: ToGateway) {
        let gateway = self.seen(|seen| seen.gateways.last().cloned()).expect("a gateway is connected");
        gateway.send(Ok(message(what))).await.unwrap();
    }

    /// Ends its streams and takes no new ones.
    fn stop(&self) {
        self.end.cancel();
        self.service.seen.lock().unwrap().gateways.clear();
    }

    fn quiet(&self, replica: &str, incarnation: u64) -> usize {
        self.seen(|seen| {
            let quiet = seen.applied.iter().flat_map(|it| &it.quiet);
            quiet.filter(|it| it.replica == replica && it.incarnation == incarnation).count()
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn message(message: ToGateway) -> RegistryMessage {
    RegistryMessage { message: Some(message) }
}

fn endpoint(replica: &str, incarnation: u64, address: SocketAddr, ready: bool) -> proto::Endpoint {
    proto::Endpoint {
        replica: replica.into(),
        node: "a".into(),
        address: address.ip().to_string(),
        port: address.port().into(),
        weight: 1,
        ready,
        serving: true,
        generation: 1,
        incarnation,
        ..Default::default()
    }
}

fn service(revision: u64, endpoints: Vec<proto::Endpoint>) -> proto::Service {
    proto::Service {
        name: "web".into(),
        revision,
        listen: "127.0.0.1:0".into(),
        balance: "round-robin".into(),
        endpoints,
        ..Default::default()
    }
}

/// A gateway that follows servers.
struct Following {
    gateways: Gateways,
    connection: watch::Receiver<Connection>,
    end: CancellationToken,
    _token: tempfile::NamedTempFile,
}

impl Following {
    fn start(servers: Vec<String>, token: &str) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{token}\n")).unwrap();
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let (catalog, end) = (Catalog::default(), CancellationToken::new());
        let gateways = Gateways::start(catalog.offers(), Options::default(), &metrics);
        let options = FollowOptions {
            servers,
            token_file: file.path().to_owned(),
            ca_file: None,
            name: "edge".into(),
            services: Vec::new(),
        };
        let follower = Follower::new(options, catalog, gateways.clone(), &metrics, end.clone()).unwrap();
        let connection = follower.connection();
        tokio::spawn(follower.run());
        Self { gateways, connection, end, _token: file }
    }

    async fn address(&self) -> SocketAddr {
        let mut found = None;
        until("it listens", || {
            found = self.gateways.listeners().first().and_then(|it| it.state.clone().ok());
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    async fn lost(&self) {
        until("the server is missed", || self.connection.borrow().server.is_none()).await;
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

#[tokio::test]
async fn endpoints_are_served_as_told_and_the_revision_is_told_back() {
    let (one, two) = (Backend::named("one").await, Backend::named("two").await);
    let server = Server::start(Some(vec![service(5, vec![endpoint("web-0", 1, one.address, true)])])).await;
    let following = Following::start(vec![server.url()], TOKEN);
    let mut client = Client::connect(following.address().await).await;
    assert!(client.get("/").await.ends_with("one"));
    until("revision 5 is applied", || server.seen(|seen| seen.applied.iter().any(|it| it.revision == 5)))
        .await;
    assert_eq!(server.seen(|seen| seen.subscribed[0].name.clone()), "edge");

    let endpoints = vec![endpoint("web-0", 1, one.address, false), endpoint("web-1", 1, two.address, true)];
    server.tell(ToGateway::Service(service(6, endpoints))).await;
    until("revision 6 is applied", || server.seen(|seen| seen.applied.iter().any(|it| it.revision == 6)))
        .await;
    let before = one.seen().len();
    for _ in 0..5 {
        assert!(client.get("/").await.ends_with("two"));
    }
    assert_eq!(one.seen().len(), before);
    until("web-0 is told quiet", || server.quiet("web-0", 1) == 1).await;

    server.tell(ToGateway::Gone("web".into())).await;
    until("nothing is listened for", || following.gateways.listeners().is_empty()).await;
}

#[tokio::test]
async fn a_run_is_quiet_only_when_its_last_request_has_ended() {
    let (slow, other) = (Backend::start(|_| Does::Waits).await, Backend::named("other").await);
    let server = Server::start(Some(vec![service(1, vec![endpoint("web-0", 3, slow.address, true)])])).await;
    let following = Following::start(vec![server.url()], TOKEN);
    let mut client = Client::connect(following.address().await).await;
    client.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n").await;
    slow.until("it has come", |it| it.seen().len() == 1).await;
    let draining =
        vec![endpoint("web-0", 3, slow.address, false), endpoint("web-1", 1, other.address, false)];
    server.tell(ToGateway::Service(service(2, draining))).await;
    until("the idle one is quiet", || server.quiet("web-1", 1) == 1).await;
    assert_eq!(server.quiet("web-0", 3), 0);
    slow.release();
    assert!(client.read().await.ends_with("late"));
    until("now it is quiet too", || server.quiet("web-0", 3) == 1).await;

    // In traffic once more and out again: told once more.
    server.tell(ToGateway::Service(service(3, vec![endpoint("web-0", 3, slow.address, true)]))).await;
    server.tell(ToGateway::Service(service(4, vec![]))).await;
    until("told once more", || server.quiet("web-0", 3) == 2).await;
}

#[tokio::test]
async fn without_a_server_it_goes_on_and_the_next_one_s_snapshot_takes_over_at_once() {
    let (one, two) = (Backend::named("one").await, Backend::named("two").await);
    let mut first = service(1_000_000, vec![endpoint("web-0", 1, one.address, true)]);
    let listen = free().await;
    first.listen = listen.to_string();
    let gone = proto::Service { name: "old".into(), ..service(7, vec![]) };
    let server = Server::start(Some(vec![first, gone])).await;
    // The other one's revisions are lower: what a stream says counts, whatever another said before.
    let mut second = service(1, vec![endpoint("web-0", 2, two.address, true)]);
    second.listen = listen.to_string();
    let other = free().await;
    let following = Following::start(vec![server.url(), format!("http://{other}")], TOKEN);
    until("both are listened for", || following.gateways.listeners().len() == 2).await;
    let mut client = Client::connect(listen).await;
    assert!(client.get("/").await.ends_with("one"));

    server.stop();
    following.lost().await;
    assert!(client.get("/").await.ends_with("one"), "it goes on with what it knows");
    assert_eq!(following.gateways.listeners().len(), 2);

    let other = Server::start_at(other, Some(vec![second])).await;
    until("the other tells", || following.connection.borrow().server == Some(other.url())).await;
    assert!(client.get("/").await.ends_with("two"), "the same connection of the client, without a failure");
    until("what is not named is gone", || following.gateways.listeners().len() == 1).await;
}

#[tokio::test]
async fn a_server_that_says_nothing_is_left_for_another() {
    let one = Backend::named("one").await;
    let silent = Server::start(None).await;
    let server = Server::start(Some(vec![service(1, vec![endpoint("web-0", 1, one.address, true)])])).await;
    let following = Following::start(vec![silent.url(), server.url()], TOKEN);
    // Longer than its patience, should it have asked the silent one first.
    let wait = async {
        while following.gateways.listeners().first().is_none_or(|it| it.state.is_err()) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(40), wait).await.expect("it went to the other");
}

#[tokio::test]
async fn a_wrong_token_is_said_and_a_replaced_file_is_read() {
    let server = Server::start(Some(vec![service(1, vec![])])).await;
    let following = Following::start(vec![server.url()], "hale_wrong_0");
    until("it is refused", || {
        following
            .connection
            .borrow()
            .why
            .as_ref()
            .is_some_and(|why| why.contains("not known") && why.contains("token file"))
    })
    .await;
    assert!(!following.connection.borrow().informed);
    std::fs::write(following._token.path(), TOKEN).unwrap();
    until("it is let in", || following.connection.borrow().server.is_some()).await;
    let mut client = Client::connect(following.address().await).await;
    assert_eq!(status(&client.get("/").await), 503);
}

#[tokio::test]
async fn a_url_that_makes_no_sense_is_refused_at_once() {
    let catalog = Catalog::default();
    let metrics = Metrics::register(&mut Registry::default());
    let gateways = Gateways::start(catalog.offers(), Options::default(), &metrics);
    let options = FollowOptions {
        servers: vec!["server:7450".into()],
        token_file: "token".into(),
        ca_file: None,
        name: "edge".into(),
        services: Vec::new(),
    };
    let error = Follower::new(options, catalog, gateways, &metrics, CancellationToken::new()).unwrap_err();
    assert!(error.to_string().contains("http://host:port"), "{error}");
}

/// An address of this test process alone: a port that is only free for now could be another test's a moment later.
async fn free() -> SocketAddr {
    let [.., high, low] = std::process::id().to_be_bytes();
    TcpListener::bind((std::net::Ipv4Addr::new(127, 77, high, low), 0)).await.unwrap().local_addr().unwrap()
}
