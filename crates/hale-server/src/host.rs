//! The `Host` header on loopback: a page elsewhere must not reach in by a name that it lets point here (DNS
//! rebinding).

use std::net::IpAddr;

use http::{Request, header};

/// Whether a request to a loopback address names this machine.
pub(crate) fn is_local<B>(request: &Request<B>) -> bool {
    let header = request.headers().get(header::HOST).and_then(|it| it.to_str().ok());
    let Some(authority) = header.or_else(|| request.uri().authority().map(|it| it.as_str())) else {
        return false;
    };
    let host = match authority.strip_prefix('[').and_then(|it| it.split_once(']')) {
        Some((host, _)) => host,
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_local() {
        let with = |host: &str| Request::builder().header(header::HOST, host).body(()).unwrap();
        for host in [
            "localhost",
            "localhost:7450",
            "LOCALHOST",
            "127.0.0.1:80",
            "127.9.9.9",
            "[::1]:7450",
            "localhost.",
        ] {
            assert!(is_local(&with(host)), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "10.0.0.1", "[::2]", "", "127.0.0.1.nip.io:80"]
        {
            assert!(!is_local(&with(host)), "{host}");
        }
        assert!(!is_local(&Request::builder().body(()).unwrap()));
    }
}
