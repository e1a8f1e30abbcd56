//! What a server tells, as the types that the gateway works by.

use std::net::SocketAddr;

use hale_api::{
    endpoints::{Endpoint, EndpointSet},
    model::spec::Balance,
    proto,
};
use jiff::Timestamp;

/// One service as a server told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) set: EndpointSet,
    /// What made no sense and was passed over.
    pub(crate) wrong: Vec<String>,
}

/// Reads a service. What makes no sense in it is left out: the rest of it, and other services, go on.
pub(crate) fn service(told: proto::Service) -> Told {
    let mut wrong = Vec::new();
    let proto::Service {
        name,
        revision,
        listen,
        balance,
        none_ready_since,
        endpoints,
        protocol: _,
        traceparent,
    } = told;
    let listen =
        (!listen.is_empty()).then(|| listen.parse().map_err(|_| wrong.push(format!("listen {listen:?}"))));
    let balance = match balance.as_str() {
        "round-robin" => Balance::RoundRobin,
        // A newer server may know more; least request is never wrong.
        _ => Balance::LeastRequest,
    };
    let none_ready_since = none_ready_since.and_then(|micros| Timestamp::from_microsecond(micros).ok());
    let endpoints =
        endpoints.into_iter().filter_map(|it| endpoint(it).map_err(|why| wrong.push(why)).ok()).collect();
    let traceparent = Some(traceparent).filter(|it| !it.is_empty());
    let set = EndpointSet { service: name, revision, balance, none_ready_since, endpoints, traceparent };
    Told { listen: listen.and_then(Result::ok), set, wrong }
}

fn endpoint(told: proto::Endpoint) -> Result<Endpoint, String> {
    let wrong = || format!("endpoint {} at {:?} port {}", told.replica, told.address, told.port);
    let address = told.address.parse().map_err(|_| wrong())?;
    let port = u16::try_from(told.port).ok().filter(|port| *port != 0).ok_or_else(wrong)?;
    Ok(Endpoint {
        replica: told.replica,
        node: told.node,
        address,
        port,
        weight: told.weight,
        zone: told.zone,
        ready: told.ready,
        kept: told.kept,
        serving: told.serving,
        draining: told.draining,
        generation: told.generation,
        incarnation: told.incarnation,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(replica: &str, address: &str, port: u32) -> proto::Endpoint {
        proto::Endpoint {
            replica: replica.into(),
            address: address.into(),
            port,
            ready: true,
            serving: true,
            ..Default::default()
        }
    }

    #[test]
    fn what_makes_no_sense_is_left_out_and_named() {
        let told = service(proto::Service {
            name: "web".into(),
            revision: 7,
            listen: "nowhere".into(),
            balance: "by-the-moon".into(),
            endpoints: vec![
                endpoint("web-0", "10.0.0.1", 80),
                endpoint("web-1", "ten", 80),
                endpoint("web-2", "10.0.0.3", 65_536),
                endpoint("web-3", "10.0.0.4", 0),
            ],
            ..Default::default()
        });
        assert_eq!(told.listen, None);
        assert_eq!(told.set.balance, Balance::LeastRequest);
        assert_eq!(told.set.endpoints.iter().map(|it| it.replica.as_str()).collect::<Vec<_>>(), ["web-0"]);
        assert_eq!(told.wrong.len(), 4, "{:?}", told.wrong);
    }
}
