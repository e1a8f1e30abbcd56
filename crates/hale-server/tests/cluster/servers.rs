//! Several servers, and gateways.

use std::time::Duration;

use hale_api::{
    operation::Verb,
    proto::{
        self, GatewayMessage, RegistryMessage, gateway_message::Message as ToServer,
        gateway_service_client::GatewayServiceClient, node_message::Message as Say,
        registry_message::Message as FromServer, server_message::Message as ToNode,
    },
};
use hale_model::cluster::{NodeCondition, Scheduling};
use hale_server::{
    Control,
    cluster::{Options, desired::Person},
    control::{Order, Subject},
};
use hale_store::Store;
use hale_testkit::Postgres;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming};

use super::kit::*;

/// A gateway that does what the test says.
struct Gateway {
    out: mpsc::Sender<GatewayMessage>,
    inbound: Streaming<RegistryMessage>,
}

impl Gateway {
    async fn connect(server: &Server) -> Self {
        let (out, sent) = mpsc::channel(16);
        let hello = proto::Subscribe { name: "g1".to_owned(), ..proto::Subscribe::default() };
        out.send(GatewayMessage { message: Some(ToServer::Subscribe(hello)) }).await.unwrap();
        let mut client = GatewayServiceClient::new(channel(server.address).await);
        let mut request = Request::new(ReceiverStream::new(sent));
        let token = "Bearer hale_gw_0123456789abcdef0123456789abcdef0123456789abcdef";
        request.metadata_mut().insert("authorization", token.parse().unwrap());
        Self { out, inbound: client.connect(request).await.unwrap().into_inner() }
    }

    async fn hear(&mut self) -> FromServer {
        let message = timeout(PATIENCE, self.inbound.message()).await.expect("a message in time");
        message.unwrap().unwrap().message.unwrap()
    }

    /// The service once it has so many ready endpoints.
    async fn service(&mut self, ready: usize) -> proto::Service {
        loop {
            let services = match self.hear().await {
                FromServer::Snapshot(it) => it.services,
                FromServer::Service(it) => vec![it],
                FromServer::Gone(_) | FromServer::KeepAlive(_) => Vec::new(),
            };
            for service in services {
                if service.endpoints.iter().filter(|it| it.ready && !it.draining).count() == ready {
                    return service;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_gateway_hears_of_endpoints_and_an_agent_of_what_is_drained() {
    let dir = dir();
    let server = Server::start(dir.path()).await;
    let web = server.apply(WEB).await.remove(0);
    server.place(&[placement(1, &web, 0, "n1"), placement(2, &web, 1, "n1")]).await;
    let mut agent = Agent::connect(&server, register("n1")).await.unwrap();
    let mut gateway = Gateway::connect(&server).await;
    assert!(matches!(gateway.hear().await, FromServer::Snapshot(it) if it.services.len() == 1));
    agent.tell(of(vec![replica(1, 0, 1, true), replica(2, 1, 1, true)])).await;
    let both = gateway.service(2).await;
    assert_eq!(both.endpoints[0].zone.as_deref(), Some("z1"));

    let draining = proto::Replica { draining: true, ..replica(1, 0, 2, false) };
    agent.tell(of(vec![draining])).await;
    let one = gateway.service(1).await;
    let quiet = proto::Quiet { replica: "web-0".to_owned(), generation: 1, incarnation: 1 };
    let applied = proto::Applied { revision: one.revision, quiet: vec![quiet] };
    gateway.out.send(GatewayMessage { message: Some(ToServer::Applied(applied)) }).await.unwrap();
    let ack = agent.ack(|it| !it.drained.is_empty()).await;
    assert_eq!((ack.drained[0].generation, ack.drained[0].replica.as_str()), (1, "web-0"));

    // One that goes without a word may still send requests by what it knew.
    drop(gateway);
    until("the gateway has gone", || server.cluster.gateways() == 0).await;
    agent.tell(of(vec![proto::Replica { draining: true, ..replica(2, 1, 2, false) }])).await;
    let sequence = agent.beat(Default::default()).await;
    assert!(agent.ack(|it| it.sequence == sequence).await.drained.is_empty());
    server.stop().await;
}

/// Two replicas anywhere, and the servers of one database.
async fn pair(database: &str) -> (Server, Server) {
    let mut servers = Vec::new();
    for _ in 0..2 {
        let store = Store::connect(database, hale_store::Options::default()).await.unwrap();
        let options = Options { heartbeat: BEAT, lease: Duration::from_secs(2), url: "http://here".into() };
        servers.push(Server::with(store, options).await);
    }
    let second = servers.pop().unwrap();
    (servers.pop().unwrap(), second)
}

/// An agent that runs whatever is placed on it, at once, and beats.
fn obedient(server: &Server, node: &str) -> tokio::task::JoinHandle<()> {
    let (address, node) = (server.address, node.to_owned());
    tokio::spawn(async move {
        let mut agent = Agent::at(address, register(&node)).await.unwrap();
        let mut runs: std::collections::BTreeMap<u64, proto::Replica> = Default::default();
        let mut beat = tokio::time::interval(BEAT / 2);
        loop {
            let heard = tokio::select! {
                heard = agent.next() => heard,
                _ = beat.tick() => {
                    agent.beat(Default::default()).await;
                    continue;
                }
            };
            match heard {
                Some(ToNode::Desired(desired)) => {
                    let gone: Vec<u64> =
                        desired.withdrawn.iter().filter(|it| runs.remove(it).is_some()).copied().collect();
                    for it in desired.placements {
                        let mut told = replica(it.generation, it.ordinal, 1, true);
                        told.workload = it.workload;
                        told.digest = it.digest;
                        runs.entry(it.generation).or_insert(told);
                    }
                    let replicas = runs.values().cloned().collect();
                    agent.beat(proto::Beat { gone, ..of(replicas) }).await;
                }
                Some(ToNode::Ask(ask)) => {
                    if let Some(proto::ask::What::Order(_)) = ask.what {
                        let done = proto::answer::What::Done(proto::Done {});
                        agent.say(Say::Answer(proto::Answer { id: ask.id, what: Some(done) })).await;
                    }
                }
                Some(ToNode::Goodbye(_)) | None => return,
                Some(_) => {}
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_servers_either_takes_requests_and_one_takes_over_what_the_other_decided() {
    let postgres = Postgres::start();
    let database = postgres.database();
    let (first, second) = pair(&database).await;
    let n1 = obedient(&first, "n1");
    let n2 = obedient(&second, "n2");
    first.until("both are there", |it| it.nodes.len() == 2 && it.sessions.len() == 2).await;
    second.until("both are there", |it| it.nodes.len() == 2 && it.sessions.len() == 2).await;
    // Declared at one server, placed by whichever decides, and served by both alike.
    first.cluster.schedule("n1", Scheduling::Cordoned, &Person::new("ann")).await.unwrap();
    second.apply(WEB).await;
    first.until_ready("web", 2).await;
    second.until_ready("web", 2).await;
    for server in [&first, &second] {
        let set = server.registry.endpoints("web").unwrap();
        assert!(set.endpoints.iter().all(|it| it.node == "n2"), "{set:?}");
    }
    second.cluster.schedule("n1", Scheduling::Open, &Person::new("ann")).await.unwrap();

    // An order for a node of the other server goes there by way of the database.
    let on_n2 = second.until("placed", |it| it.placed_on("n2").next().is_some()).await;
    let ordinal = on_n2.placed_on("n2").next().unwrap().ordinal;
    let restart = Order {
        on: Subject::Replica(format!("web-{ordinal}")),
        verb: Verb::Restart,
        by: "ann".to_owned(),
        from: String::new(),
        reason: String::new(),
        lasting: None,
        probe: None,
    };
    first.cluster.order(restart).await.unwrap();
    first.until("the order is cleared away", |it| it.orders.is_empty()).await;

    // One server goes; its node registers at the other, which decides from now on.
    first.stop().await;
    n1.await.unwrap();
    let n1 = obedient(&second, "n1");
    second.until("n1 is here", |it| it.sessions["n1"].server == second.cluster.name()).await;
    second.apply(&WEB.replace("replicas: 2", "replicas: 4")).await;
    second.until_ready("web", 4).await;
    second.stop().await;
    n1.await.unwrap();
    n2.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ran_on_a_node_that_is_lost_is_placed_elsewhere_and_the_node_is_told_when_it_is_back() {
    let dir = dir();
    let store = Store::open(&dir.path().join("hale.db"), hale_store::Options::default()).await.unwrap();
    let server = Server::on(store).await;
    let stays = obedient(&server, "n2");
    let more = obedient(&server, "n3");
    let goes = obedient(&server, "n1");
    server.until("all are there", |it| it.nodes.len() == 3 && it.sessions.len() == 3).await;
    let quick = format!("{WEB}disconnect: {{replaceAfter: 1s}}\n").replace("replicas: 2", "replicas: 3");
    server.apply(&quick).await;
    server.until_ready("web", 3).await;
    server
        .until("one on each", |it| ["n1", "n2", "n3"].iter().all(|node| it.placed_on(node).count() == 1))
        .await;
    goes.abort();
    let lost = server.until("n1 is lost", |it| it.nodes["n1"].condition == NodeCondition::Lost).await;
    let old = lost.placed_on("n1").next().unwrap().generation;
    let moved = timeout(PATIENCE, async {
        loop {
            let overview = server.cluster.overview().await.unwrap();
            let mut replicas = overview.workloads[0].replicas.iter();
            if let Some(it) = replicas.find(|it| it.ready && !it.possibly_running_on.is_empty()) {
                return it.clone();
            }
            sleep(Duration::from_millis(5)).await;
        }
    });
    let moved = moved.await.expect("a replica that moved");
    server.until_ready("web", 3).await;
    assert_eq!(moved.possibly_running_on, ["n1"]);
    assert!(moved.node != "n1" && moved.ready);
    assert!(server.cluster.placement(&moved.name).await.unwrap().join("\n").contains("may run there unseen"));

    // It is back: what it ran is not wanted there any more, and it is the newest again as a node.
    let back = obedient(&server, "n1");
    server.until("n1 is ready", |it| it.nodes["n1"].condition == NodeCondition::Ready).await;
    // The script runs nothing of before, and says so by a full beat only when asked; the placement goes with that.
    server
        .until("the old placement is gone or withdrawn", |it| {
            it.placements.get(old).is_none_or(|it| !it.wanted())
        })
        .await;
    assert_eq!(server.ready("web"), 3);
    for agent in [stays, more, back] {
        agent.abort();
    }
    server.stop().await;
}
