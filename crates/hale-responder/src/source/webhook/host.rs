//! The `Host` header where no token is asked for: a page elsewhere must not reach in by a name that it lets point here
//! (DNS rebinding).

use std::net::IpAddr;

use http::{HeaderMap, header};

/// Whether a request names this machine, and nothing else.
pub(super) fn is_local(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).into_iter();
    let host = hosts.next().and_then(|it| it.to_str().ok());
    host.is_some_and(names_loopback) && hosts.next().is_none()
}

fn names_loopback(authority: &str) -> bool {
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
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_names_of_this_machine_are_local() {
        let with = |hosts: &[&'static str]| -> HeaderMap {
            hosts.iter().map(|it| (header::HOST, HeaderValue::from_static(it))).collect()
        };
        for host in ["localhost", "LOCALHOST:7450", "localhost.", "127.0.0.1:80", "127.9.9.9", "[::1]:7450"] {
            assert!(is_local(&with(&[host])), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "10.0.0.1", "[::2]", "", "127.0.0.1.nip.io:80"]
        {
            assert!(!is_local(&with(&[host])), "{host}");
        }
        assert!(!is_local(&HeaderMap::new()));
        assert!(!is_local(&with(&["localhost", "evil.example"])));
    }
}
