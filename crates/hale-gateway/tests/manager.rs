//! Listeners as services come, move, change and go.

#![expect(clippy::unwrap_used, reason = "a test that can not go on says where")]

mod kit;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use hale_api::endpoints::EndpointSet;
use hale_gateway::{Gateways, Metrics, Offer, Offers, Options};
use kit::{Backend, Client, Does, SOON, endpoint, run, set, status, until};
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, sync::watch};

/// Gateways, and the registry's side of them.
struct House {
    gateways: Gateways,
    offers: watch::Sender<Arc<Offers>>,
    registry: Registry,
}

impl House {
    fn new() -> Self {
        let offers = watch::Sender::new(Arc::default());
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let gateways = Gateways::start(offers.subscribe(), Options::default(), &metrics);
        Self { gateways, offers, registry }
    }

    fn offer(&self, services: Vec<(&str, SocketAddr, watch::Receiver<Arc<EndpointSet>>)>) {
        let offer = |(name, listen, endpoints): (&str, _, _)| {
            (name.to_owned(), Offer { listen: Some(listen), endpoints })
        };
        self.offers.send_replace(Arc::new(services.into_iter().map(offer).collect::<BTreeMap<_, _>>()));
    }

    fn listening(&self) -> Vec<(String, bool)> {
        self.gateways.listeners().into_iter().map(|it| (it.service, it.state.is_ok())).collect()
    }

    async fn opened(&self, service: &str) -> SocketAddr {
        let mut found = None;
        until("it listens", || {
            let listeners = self.gateways.listeners();
            found = listeners.into_iter().find(|it| it.service == service).and_then(|it| it.state.ok());
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

fn any() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// An address that is free, and that others are not given for now.
async fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

async fn refuses(address: SocketAddr) -> bool {
    tokio::net::TcpStream::connect(address).await.is_err()
}

#[tokio::test]
async fn a_service_that_comes_is_listened_for_and_one_that_goes_is_not() {
    let (house, backend) = (House::new(), Backend::named("one").await);
    let (_sets, source) = watch::channel(set(vec![endpoint("web-0", 1, backend.address)]));
    house.offer(vec![("web", any(), source)]);
    let address = house.opened("web").await;
    assert!(Client::connect(address).await.get("/").await.ends_with("one"));
    assert!(house.metrics().contains("hale_gateway_listening{service=\"web\"} 1"), "{}", house.metrics());

    house.offer(vec![]);
    until("it is closed", || house.listening().is_empty()).await;
    while !refuses(address).await {}
    until("its metrics are gone", || !house.metrics().contains("service=\"web\"")).await;
}

#[tokio::test]
async fn a_request_in_flight_at_a_service_that_goes_is_finished_and_waited_for() {
    let (house, backend) = (House::new(), Backend::start(|_| Does::Waits).await);
    let (_sets, source) = watch::channel(set(vec![endpoint("web-0", 1, backend.address)]));
    house.offer(vec![("web", any(), source)]);
    let mut client = Client::connect(house.opened("web").await).await;
    client.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n").await;
    backend.until("it has come", |it| it.seen().len() == 1).await;
    house.offer(vec![]);
    until("it is closed", || house.listening().is_empty()).await;
    assert_eq!(house.gateways.in_flight(&run("web-0", 1)), 1);
    let drained = tokio::spawn(house.gateways.drained(run("web-0", 1)));
    assert!(!drained.is_finished());
    backend.release();
    assert!(client.read().await.ends_with("late"));
    tokio::time::timeout(SOON, drained).await.expect("drained").unwrap();
}

#[tokio::test]
async fn an_address_in_use_is_tried_again_and_keeps_nobody_else_from_serving() {
    let (house, backend) = (House::new(), Backend::named("one").await);
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let (_sets, source) = watch::channel(set(vec![endpoint("web-0", 1, backend.address)]));
    house.offer(vec![("api", any(), source.clone()), ("web", address, source)]);
    let api = house.opened("api").await;
    assert!(Client::connect(api).await.get("/").await.ends_with("one"));
    let listeners = house.gateways.listeners();
    let web = listeners.iter().find(|it| it.service == "web").unwrap();
    assert!(web.state.as_ref().unwrap_err().contains("something else"), "{web:?}");
    assert!(house.metrics().contains("hale_gateway_listening{service=\"web\"} 0"), "{}", house.metrics());

    drop(taken);
    assert_eq!(house.opened("web").await, address);
    assert!(Client::connect(address).await.get("/").await.ends_with("one"));
    assert!(house.metrics().contains("hale_gateway_listening{service=\"web\"} 1"), "{}", house.metrics());
}

#[tokio::test]
async fn a_service_that_moves_answers_at_its_new_address_and_no_longer_at_the_old() {
    let (house, backend) = (House::new(), Backend::named("one").await);
    let (_sets, source) = watch::channel(set(vec![endpoint("web-0", 1, backend.address)]));
    let (old, new) = (free().await, free().await);
    house.offer(vec![("web", old, source.clone())]);
    assert_eq!(house.opened("web").await, old);
    let mut kept = Client::connect(old).await;
    assert!(kept.get("/").await.ends_with("one"));
    house.offer(vec![("web", new, source)]);
    until("it has moved", || house.gateways.listeners().iter().all(|it| it.state == Ok(new))).await;
    assert!(Client::connect(new).await.get("/").await.ends_with("one"));
    while !refuses(old).await {}
    assert_eq!(kept.rest().await, "", "the kept connection was ended in order");
    until("the old one's end takes no metrics along", || {
        house.metrics().contains("hale_gateway_requests_total{service=\"web\",code=\"2xx\"} 2")
    })
    .await;
}

#[tokio::test]
async fn an_address_goes_from_one_service_to_another() {
    let house = House::new();
    let (one, two) = (Backend::named("one").await, Backend::named("two").await);
    let (_ones, ones) = watch::channel(set(vec![endpoint("web-0", 1, one.address)]));
    let (_twos, twos) = watch::channel(set(vec![endpoint("api-0", 1, two.address)]));
    let address = free().await;
    house.offer(vec![("web", address, ones)]);
    house.opened("web").await;
    house.offer(vec![("api", address, twos)]);
    assert_eq!(house.opened("api").await, address);
    assert!(Client::connect(address).await.get("/").await.ends_with("two"));
}

#[tokio::test]
async fn a_service_declared_anew_goes_on_at_its_listener_with_its_new_endpoints() {
    let house = House::new();
    let (one, two) = (Backend::named("one").await, Backend::named("two").await);
    let (sets, source) = watch::channel(set(vec![endpoint("web-0", 1, one.address)]));
    let address = free().await;
    house.offer(vec![("web", address, source)]);
    house.opened("web").await;
    let mut client = Client::connect(address).await;
    assert!(client.get("/").await.ends_with("one"));
    drop(sets);
    let (sets, source) = watch::channel(set(vec![endpoint("web-0", 2, two.address)]));
    house.offer(vec![("web", address, source)]);
    two.until("requests go there", |_| true).await;
    let mut settled = house.gateways.settled();
    settled.mark_unchanged();
    house.offers.send_modify(|_| {});
    settled.changed().await.unwrap();
    assert!(client.get("/").await.ends_with("two"), "the kept connection goes on");
    // And what is said by the new source later is heard without a request.
    sets.send_replace(set(vec![]));
    tokio::time::timeout(SOON, house.gateways.drained(run("web-0", 2))).await.expect("heard");
    assert_eq!(status(&client.get("/").await), 503);
}

#[tokio::test]
async fn two_placements_of_one_replica_drain_apart() {
    let (house, backend) = (House::new(), Backend::start(|_| Does::Waits).await);
    let (sets, source) = watch::channel(set(vec![endpoint("web-0", 1, backend.address)]));
    house.offer(vec![("web", any(), source)]);
    let mut client = Client::connect(house.opened("web").await).await;
    client.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n").await;
    backend.until("it has come", |it| it.seen().len() == 1).await;
    let mut other = endpoint("web-0", 1, "127.0.0.1:9".parse().unwrap());
    (other.generation, other.ready) = (2, false);
    sets.send_replace(set(vec![endpoint("web-0", 1, backend.address), other]));
    let second = hale_gateway::Run { replica: "web-0".into(), generation: 2, incarnation: 1 };
    tokio::time::timeout(SOON, house.gateways.drained(second)).await.expect("nothing was ever sent there");
    assert_eq!(house.gateways.in_flight(&run("web-0", 1)), 1);
    backend.release();
    client.read().await;
}
