//! Several servers, and gateways.

use hale_api::proto::{
    self, GatewayMessage, RegistryMessage, gateway_message::Message as ToServer,
    gateway_service_client::GatewayServiceClient, registry_message::Message as FromServer,
};
use tokio::{sync::mpsc, time::timeout};
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
        let mut client = GatewayServiceClient::new(channel(server).await);
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
