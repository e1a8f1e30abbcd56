//! The gateways, one per service that listens, and what the supervisor asks of them before a stop.

use std::{sync::Arc, time::Duration};

use hale_api::endpoints::EndpointSet;
use hale_gateway::{Gateway, GatewayHandle, Metrics, Options, Run};
use hale_model::spec::Workload;
use hale_server::Registry;
use hale_supervisor::{
    runtime::{BoxFuture, InstanceId},
    sink::Drain,
};
use tokio::sync::watch;

use crate::failure::Failure;

/// How long requests have to finish when hale ends; their replicas were drained before.
const LAST_REQUESTS: Duration = Duration::from_secs(1);

/// All gateways of this process.
#[derive(Debug, Default)]
pub(super) struct Gateways {
    handles: Vec<GatewayHandle>,
}

impl Gateways {
    /// Declares every service and listens for those that say where.
    ///
    /// # Errors
    /// An address that can't be listened on, by service.
    pub(super) fn open(
        workloads: &[Arc<Workload>],
        registry: &Registry,
        metrics: &Metrics,
    ) -> Result<Self, Failure> {
        let mut handles = Vec::new();
        for workload in workloads {
            registry.declare(&workload.name, workload.service.as_ref());
            let Some(service) = &workload.service else { continue };
            let (Some(address), Some(endpoints)) = (service.listen, registry.watch(&service.name)) else {
                continue;
            };
            handles.push(serve(address, endpoints, metrics)?);
        }
        Ok(Self { handles })
    }

    /// Takes no more requests, and ends when those in flight have finished or their time is over.
    pub(super) async fn close(self: Arc<Self>) {
        if let Ok(this) = Arc::try_unwrap(self) {
            for handle in this.handles {
                handle.shutdown(LAST_REQUESTS).await;
            }
        }
    }
}

fn serve(
    address: std::net::SocketAddr,
    endpoints: watch::Receiver<Arc<EndpointSet>>,
    metrics: &Metrics,
) -> Result<GatewayHandle, Failure> {
    Gateway::serve(address, endpoints, Options::default(), metrics).map_err(Failure::failed)
}

impl Drain for Gateways {
    fn drained(&self, id: &InstanceId) -> BoxFuture<'static, ()> {
        let run =
            Run { replica: id.replica.clone(), generation: id.generation.0, incarnation: id.incarnation.0 };
        let waits: Vec<_> = self.handles.iter().map(|handle| handle.drained(run.clone())).collect();
        Box::pin(async move {
            for wait in waits {
                wait.await;
            }
        })
    }
}
