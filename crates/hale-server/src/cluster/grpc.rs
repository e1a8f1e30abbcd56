//! The gRPC services for agents and gateways, with reflection and health (S24).

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::Stream;
use hale_api::proto::{
    self, GatewayMessage, NodeMessage, RegistryMessage, ServerMessage,
    gateway_message::Message as FromGateway,
    gateway_service_server::{GatewayService, GatewayServiceServer},
    node_message::Message as FromNode,
    node_service_server::{NodeService, NodeServiceServer},
};
use hale_model::cluster::Role;
use tokio::{sync::oneshot, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, service::Routes};

use super::{Cluster, Shared, gateways, session};

/// How long the first message may take to come.
const FIRST: Duration = Duration::from_secs(10);

/// How long a registration may take to be written.
const REGISTER: Duration = Duration::from_secs(30);

/// The largest message that is taken from an agent.
const MESSAGE: usize = 64 * 1024 * 1024;

type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Cluster {
    /// The services, to be served beside the REST API (see [`crate::with_grpc`]).
    pub async fn grpc(&self) -> Routes {
        let node = NodeServiceServer::new(Nodes { shared: Arc::clone(&self.shared) })
            .max_decoding_message_size(MESSAGE)
            .max_encoding_message_size(usize::MAX);
        let gateway = GatewayServiceServer::new(GatewayApi { shared: Arc::clone(&self.shared) })
            .max_encoding_message_size(usize::MAX);
        let (health, service) = tonic_health::server::health_reporter();
        health.set_serving::<NodeServiceServer<Nodes>>().await;
        health.set_serving::<GatewayServiceServer<GatewayApi>>().await;
        let mut routes = Routes::new(node).add_service(gateway).add_service(service);
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .build_v1();
        match reflection {
            Ok(reflection) => routes = routes.add_service(reflection),
            Err(error) => tracing::error!(%error, "gRPC reflection is not served"),
        }
        routes
    }
}

/// Agents come in here.
struct Nodes {
    shared: Arc<Shared>,
}

#[tonic::async_trait]
impl NodeService for Nodes {
    type ConnectStream = Outgoing<ServerMessage>;

    async fn connect(
        &self,
        request: Request<Streaming<NodeMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let caller = self.shared.tokens.authenticate(request.metadata(), &[Role::Agent])?;
        let mut inbound = request.into_inner();
        let first = timeout(FIRST, inbound.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no registration came"))??;
        let Some(NodeMessage { message: Some(FromNode::Register(register)) }) = first else {
            return Err(Status::invalid_argument("the first message of an agent is its registration"));
        };
        session::register::check(&register)?;
        if !caller.may_be(&register.node) {
            let own = caller.node.as_deref().unwrap_or("no node");
            return Err(Status::permission_denied(format!(
                "not_allowed: this token is for {own}, and not for {}",
                register.node
            )));
        }
        if self.shared.end.is_cancelled() {
            return Err(Status::unavailable("this server is shutting down"));
        }
        let (answer, answered) = oneshot::channel();
        let wanting = session::register::Wanting { register: register.clone(), answer };
        let full = |_| Status::unavailable("too many agents register at once; come again");
        self.shared.wanting.try_send(wanting).map_err(full)?;
        let late = || Status::unavailable("the registration could not be written in time");
        let granted = timeout(REGISTER, answered).await.map_err(|_| late())?.map_err(|_| late())??;
        let outgoing = session::begin(&self.shared, &register, granted, caller, inbound);
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}

/// Gateways come in here.
struct GatewayApi {
    shared: Arc<Shared>,
}

#[tonic::async_trait]
impl GatewayService for GatewayApi {
    type ConnectStream = Outgoing<RegistryMessage>;

    async fn connect(
        &self,
        request: Request<Streaming<GatewayMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let roles = [Role::Gateway, Role::Admin];
        let caller = self.shared.tokens.authenticate(request.metadata(), &roles)?;
        let mut inbound = request.into_inner();
        let first = timeout(FIRST, inbound.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no subscription came"))??;
        let Some(GatewayMessage { message: Some(FromGateway::Subscribe(subscribe)) }) = first else {
            return Err(Status::invalid_argument("the first message of a gateway is its subscription"));
        };
        let outgoing = gateways::begin(&self.shared, subscribe, caller, inbound);
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}
