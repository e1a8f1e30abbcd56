//! The way from the agent to the server within one process: the same gRPC, over memory (N1).

use std::io;

use hale_agent::link::{Connector, DialError, Dialed};
use hale_supervisor::runtime::BoxFuture;
use hyper_util::rt::TokioIo;
use tonic::{
    service::Routes,
    transport::{Endpoint, Server},
};

/// What may be on its way in one direction before the sender waits.
const PIPE: usize = 256 * 1024;

/// The name of this way, for logs.
const HERE: &str = "http://this.process";

/// Connects an agent with the server of the same process.
pub(super) struct Inside {
    routes: Routes,
    token: String,
}

impl Inside {
    /// To these services, with the token of the node.
    pub(super) fn new(routes: Routes, token: String) -> Self {
        Self { routes, token }
    }

    async fn dial(&self) -> Result<Dialed, DialError> {
        let (ours, theirs) = tokio::io::duplex(PIPE);
        let serving = Server::builder()
            .add_routes(self.routes.clone())
            .serve_with_incoming(tokio_stream::once(Ok::<_, io::Error>(theirs)));
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the agent's connection could not be served");
            }
        });
        let mut ours = Some(ours);
        let once = tower::service_fn(move |_| {
            let ours = ours.take().ok_or_else(|| io::Error::other("a new connection is dialed anew"));
            async move { ours.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static(HERE).connect_with_connector(once).await;
        let channel = channel.map_err(|error| DialError(format!("{HERE}: {error}")))?;
        Ok(Dialed { channel, token: Some(self.token.clone()) })
    }
}

impl Connector for Inside {
    fn servers(&self) -> Vec<String> {
        vec![HERE.to_owned()]
    }

    fn connect<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Dialed, DialError>> {
        Box::pin(self.dial())
    }
}
