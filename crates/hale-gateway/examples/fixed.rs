//! A gateway in front of endpoints that never change: `fixed LISTEN ENDPOINT…`. The benchmark measures it alone.
//!
//! It also shows how the gateway is embedded: whoever holds the sending half of the watch decides who gets requests.
#![expect(clippy::print_stdout, reason = "a program for the command line")]

use std::{error::Error, net::SocketAddr, sync::Arc};

use hale_api::{
    endpoints::{Endpoint, EndpointSet},
    model::spec::Balance,
};
use hale_gateway::{Gateway, Metrics, Options};
use prometheus_client::registry::Registry;
use tokio::sync::watch;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut addresses = std::env::args().skip(1).map(|it| it.parse::<SocketAddr>());
    let listen = addresses.next().ok_or("usage: fixed LISTEN ENDPOINT…")??;
    let endpoints = addresses.enumerate().map(|(at, address)| Ok(endpoint(at, address?)));
    let set = EndpointSet {
        service: "fixed".into(),
        revision: 1,
        balance: Balance::LeastRequest,
        none_ready_since: None,
        endpoints: endpoints.collect::<Result<_, std::net::AddrParseError>>()?,
        traceparent: None,
    };
    let (registry, source) = watch::channel(Arc::new(set));
    let metrics = Metrics::register(&mut Registry::default());
    let gateway = Gateway::serve(listen, source, Options::default(), &metrics)?;
    println!("listening on http://{}", gateway.local_addr());
    std::future::pending::<()>().await;
    drop(registry);
    Ok(())
}

fn endpoint(at: usize, address: SocketAddr) -> Endpoint {
    Endpoint {
        replica: format!("fixed-{at}"),
        node: "local".into(),
        address: address.ip(),
        port: address.port(),
        weight: 1,
        zone: None,
        ready: true,
        kept: None,
        serving: true,
        draining: false,
        generation: 1,
        incarnation: 1,
    }
}
