//! The gateways of this process, as the registry offers services, and what the supervisor asks of them before a stop.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hale_gateway::{Gateways, Metrics, Offer, Offers, Options, Run, listen_hint};
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
    /// Listens for every service of the registry that says where, as they come and go.
    pub(super) fn open(registry: Arc<Registry>, metrics: &Metrics) -> Self {
        let mut changes = registry.changes();
        let (told, follow) = watch::channel(Arc::new(offers(&registry)));
        tokio::spawn(async move {
            // The endpoints have channels of their own; here it is which services there are, and where they listen.
            while changes.changed().await.is_ok() {
                let now = offers(&registry);
                told.send_if_modified(|before| {
                    let differ = !same(before, &now);
                    if differ {
                        *before = Arc::new(now);
                    }
                    differ
                });
            }
        });
        Self { gateways: Gateways::start(follow, Options::default(), metrics) }
    }

    /// Takes no more requests, and ends when those in flight have finished or their time is over.
    pub(super) async fn close(&self) {
        self.gateways.shutdown(LAST_REQUESTS).await;
    }
}

fn offers(registry: &Registry) -> Offers {
    let offer = |name: String| {
        let (listen, endpoints) = (registry.declared(&name)?.listen, registry.watch(&name)?);
        Some((name, Offer { listen, endpoints }))
    };
    registry.services().into_iter().filter_map(offer).collect()
}

fn same(some: &Offers, others: &Offers) -> bool {
    some.len() == others.len()
        && some.iter().zip(others).all(|((name, it), (other, that))| {
            name == other && it.listen == that.listen && it.endpoints.same_channel(&that.endpoints)
        })
}

/// Whether every address that the files name can be listened on. Later, one in use would be tried again; at the start
/// it is a mistake that somebody can mend.
///
/// # Errors
/// One that can't be, by service.
pub(super) fn can_listen(workloads: &[Arc<Workload>]) -> Result<(), Failure> {
    for service in workloads.iter().filter_map(|workload| workload.service.as_ref()) {
        let Some(address) = service.listen else { continue };
        probe(address).map_err(|error| {
            Failure::failed(format!(
                "cannot listen on {address} for service {}: {error}{}",
                service.name,
                listen_hint(&error, address)
            ))
        })?;
    }
    Ok(())
}

/// Listens there for a moment.
fn probe(address: SocketAddr) -> std::io::Result<()> {
    std::net::TcpListener::bind(address).map(drop)
}

impl Drain for Traffic {
    fn drained(&self, id: &InstanceId) -> BoxFuture<'static, ()> {
        let run =
            Run { replica: id.replica.clone(), generation: id.generation.0, incarnation: id.incarnation.0 };
        Box::pin(self.gateways.drained(run))
    }
}
