//! Which addresses a webhook may be on.
//!
//! Whoever may make a webhook makes this server send requests. Inside a network that reaches what its maker does not:
//! other services on loopback, routers, the metadata service of a cloud. Such addresses are refused unless the webhook
//! says that they are meant. What counts is the address that is connected to, not the name that was written.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address that is not out in the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{address} is {what}: such an address is refused unless the webhook allows it (--allow-private)")]
pub struct Forbidden {
    /// The address.
    pub address: IpAddr,
    /// What kind of address it is.
    pub what: &'static str,
}

/// Refuses what is not out in the world.
pub(super) fn public(address: IpAddr) -> Result<(), Forbidden> {
    let what = match address {
        IpAddr::V4(it) => not_public_v4(it),
        IpAddr::V6(it) => not_public_v6(it),
    };
    what.map_or(Ok(()), |what| Err(Forbidden { address, what }))
}

/// By the registry of special addresses (RFC 6890).
fn not_public_v4(address: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, _] = address.octets();
    Some(match (a, b, c) {
        (127, ..) => "a loopback address",
        (0, ..) => "an address of this host",
        (169, 254, _) => "a link-local address",
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => "a private address",
        (100, 64..=127, _) => "an address behind a carrier's NAT",
        (192, 0, 0 | 2) | (198, 51, 100) | (203, 0, 113) | (198, 18 | 19, _) => "a reserved address",
        (224..=239, ..) => "a multicast address",
        (240..=255, ..) => "a reserved address",
        _ => return None,
    })
}

fn not_public_v6(address: Ipv6Addr) -> Option<&'static str> {
    if let Some(inner) = embedded_v4(address) {
        return not_public_v4(inner);
    }
    let segments = address.segments();
    Some(match segments[0] {
        _ if address.is_loopback() => "a loopback address",
        _ if address.is_unspecified() => "an address of this host",
        0xfe80..=0xfebf => "a link-local address",
        0xfc00..=0xfdff | 0xfec0..=0xfeff => "a private address",
        0xff00..=0xffff => "a multicast address",
        // Documentation, discard-only, benchmarks, Teredo, and what is not given out yet.
        0x2001 if matches!(segments[1], 0x0000 | 0x0002 | 0x0db8) => "a reserved address",
        0x2000..=0x3fff => return None,
        _ => "a reserved address",
    })
}

/// The IPv4 address that packets to this one end up at: mapped, compatible, NAT64, 6to4.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    if address.is_loopback() || address.is_unspecified() {
        return None;
    }
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(v4(high, low)),
        [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_in_the_world_is_allowed() {
        for address in ["8.8.8.8", "1.1.1.1", "172.15.0.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111"] {
            assert_eq!(public(address.parse().unwrap()), Ok(()), "{address}");
        }
    }

    #[test]
    fn what_is_not_is_refused_however_it_is_written() {
        for address in [
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::10.0.0.1",
            "2002:7f00:1::",
            "fe80::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001:db8::1",
            "2001:0:1::1",
            "100::1",
        ] {
            assert!(public(address.parse().unwrap()).is_err(), "{address}");
        }
    }
}
