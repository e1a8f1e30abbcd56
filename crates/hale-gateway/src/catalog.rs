//! The services that a server elsewhere told of last.
//!
//! They stay as they are while no server answers (S4): nothing expires by itself.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use hale_api::endpoints::EndpointSet;
use tokio::sync::watch;

use crate::{Offer, Offers, wire::Told};

/// All services by name, and those who follow them.
#[derive(Debug)]
pub struct Catalog {
    services: BTreeMap<String, Held>,
    offers: watch::Sender<Arc<Offers>>,
}

#[derive(Debug)]
struct Held {
    listen: Option<SocketAddr>,
    set: watch::Sender<Arc<EndpointSet>>,
}

impl Default for Catalog {
    fn default() -> Self {
        Self { services: BTreeMap::new(), offers: watch::Sender::new(Arc::default()) }
    }
}

impl Catalog {
    /// What to serve, as it changes: for [`Gateways::start`](crate::Gateways::start).
    #[must_use]
    pub fn offers(&self) -> watch::Receiver<Arc<Offers>> {
        self.offers.subscribe()
    }

    /// Takes over everything: services that are not named are gone. A service that is goes on under its listener; its
    /// new endpoints are in force at once.
    pub(crate) fn replace(&mut self, told: Vec<Told>) {
        let mut reshaped = false;
        let gone: Vec<String> = self
            .services
            .keys()
            .filter(|name| !told.iter().any(|it| it.set.service == **name))
            .cloned()
            .collect();
        for name in gone {
            reshaped |= self.forget(&name);
        }
        for service in told {
            reshaped |= self.take(service);
        }
        if reshaped {
            self.offer();
        }
    }

    /// Takes over one service.
    pub(crate) fn put(&mut self, told: Told) {
        if self.take(told) {
            self.offer();
        }
    }

    /// A service is gone.
    pub(crate) fn gone(&mut self, name: &str) {
        if self.forget(name) {
            self.offer();
        }
    }

    /// True when there is another service, or one listens elsewhere.
    fn take(&mut self, told: Told) -> bool {
        let Told { listen, set, .. } = told;
        if let Some(held) = self.services.get_mut(&set.service) {
            let moved = held.listen != listen;
            held.listen = listen;
            held.set.send_if_modified(|now| {
                let differs = **now != set;
                if differs {
                    *now = Arc::new(set);
                }
                differs
            });
            return moved;
        }
        self.services.insert(set.service.clone(), Held { listen, set: watch::Sender::new(Arc::new(set)) });
        true
    }

    /// True when it was there. Its listener sends nobody there from now on, before it closes.
    fn forget(&mut self, name: &str) -> bool {
        let Some(held) = self.services.remove(name) else { return false };
        held.set.send_modify(|set| {
            let mut none = (**set).clone();
            none.endpoints.clear();
            none.none_ready_since.get_or_insert_with(jiff::Timestamp::now);
            *set = Arc::new(none);
        });
        true
    }

    fn offer(&self) {
        let offer = |(name, held): (&String, &Held)| {
            (name.clone(), Offer { listen: held.listen, endpoints: held.set.subscribe() })
        };
        self.offers.send_replace(Arc::new(self.services.iter().map(offer).collect()));
    }
}
