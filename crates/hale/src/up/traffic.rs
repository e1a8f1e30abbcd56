//! The gateways, one per service that listens, and what the supervisor asks of them before a stop.

use std::{sync::Arc, time::Duration};

use hale_gateway::{Gateways, Metrics, Offer, Offers, Options, Run};
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
#[derive(Debug)]
pub(super) struct Traffic {
    gateways: Gateways,
}

impl Traffic {
    /// Declares every service and listens for those that say where.
    ///
    /// # Errors
    /// An address that can't be listened on, by service.
    pub(super) async fn open(
        workloads: &[Arc<Workload>],
        registry: &Registry,
        metrics: &Metrics,
    ) -> Result<Self, Failure> {
        let mut offers = Offers::new();
        for workload in workloads {
            registry.declare(&workload.name, workload.service.as_ref());
            let Some(service) = &workload.service else { continue };
            let Some(endpoints) = registry.watch(&service.name) else { continue };
            offers.insert(service.name.clone(), Offer { listen: service.listen, endpoints });
        }
        let (_told_once, offers) = watch::channel(Arc::new(offers));
        let gateways = Gateways::start(offers, Options::default(), metrics);
        // Later, an address in use would be tried again; at the start it is a mistake that somebody can mend.
        let _ = gateways.settled().wait_for(|times| *times > 0).await;
        match gateways.listeners().into_iter().find_map(|listener| listener.state.err()) {
            Some(why) => Err(Failure::Failed(why)),
            None => Ok(Self { gateways }),
        }
    }

    /// Takes no more requests, and ends when those in flight have finished or their time is over.
    pub(super) async fn close(&self) {
        self.gateways.shutdown(LAST_REQUESTS).await;
    }
}

impl Drain for Traffic {
    fn drained(&self, id: &InstanceId) -> BoxFuture<'static, ()> {
        let run =
            Run { replica: id.replica.clone(), generation: id.generation.0, incarnation: id.incarnation.0 };
        Box::pin(self.gateways.drained(run))
    }
}
