//! The name servers of this machine (`/etc/resolv.conf`).

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};

use crate::result::Fault;

const PATH: &str = "/etc/resolv.conf";

/// As many as the system's own resolver uses.
const MOST: usize = 3;

/// The servers of this machine, in order; where none are named the one on loopback, as the system does.
pub(crate) fn servers() -> Result<Vec<SocketAddr>, Fault> {
    match std::fs::read_to_string(PATH) {
        Ok(text) => Ok(parse(&text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(parse("")),
        Err(error) => Err(Fault::prober(format!(
            "could not read the name servers of this machine from {PATH}: {error}; name one in the check"
        ))),
    }
}

fn parse(text: &str) -> Vec<SocketAddr> {
    let lines = text.lines().filter_map(|line| line.trim_start().strip_prefix("nameserver"));
    let mut servers: Vec<SocketAddr> =
        lines.filter_map(|rest| address(rest.split_ascii_whitespace().next()?)).take(MOST).collect();
    if servers.is_empty() {
        servers.push(SocketAddr::from((Ipv4Addr::LOCALHOST, 53)));
    }
    servers
}

/// An address, with the number of an interface where it has one (`fe80::1%2`).
fn address(text: &str) -> Option<SocketAddr> {
    match text.split_once('%') {
        Some((ip, zone)) => {
            let scope = zone.parse().ok()?;
            Some(SocketAddrV6::new(ip.parse().ok()?, 53, 0, scope).into())
        }
        None => Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, 53)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_three_servers_are_used_and_the_one_on_loopback_where_none_is_named() {
        let told = |text: &str| parse(text).iter().map(ToString::to_string).collect::<Vec<_>>();
        let text = "# comment\nsearch example.com\nnameserver 192.0.2.1\n nameserver 2001:db8::1 # second\n\
                    nameserver nonsense\nnameserver fe80::1%2\nnameserver 192.0.2.4\n";
        assert_eq!(told(text), ["192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%2]:53"]);
        assert_eq!(told("options ndots:1"), ["127.0.0.1:53"]);
    }
}
