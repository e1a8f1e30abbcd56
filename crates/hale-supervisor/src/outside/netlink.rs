//! The links of this network namespace, from the kernel (rtnetlink), and its default routes, from `/proc/net`.
//!
//! Not from `/sys/class/net`: that shows the namespace in which `/sys` was mounted, not that of this process.

use std::collections::BTreeSet;

use hale_health::Network;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const NLMSG_DONE: u16 = 3;
const NLMSG_ERROR: u16 = 2;
const IFLA_IFNAME: u16 = 3;
/// A request, and for all there are.
const DUMP: u16 = 1 | 0x300;

/// Up, and with a carrier as far as the driver knows.
const UP_AND_RUNNING: u32 = 0x1 | 0x40;
const LOOPBACK: u32 = 0x8;

/// The most that the kernel sends in one piece.
const PIECE: usize = 64 * 1024;

/// What this node has now; `None` when the kernel does not tell.
#[must_use]
pub fn look() -> Option<Network> {
    let mut network = Network { default_routes: default_routes(), ..Network::default() };
    links(&mut network).ok()?.then_some(network)
}

/// False: it broke off.
fn links(network: &mut Network) -> rustix::io::Result<bool> {
    let flags = SocketFlags::CLOEXEC;
    // No protocol: the first of netlink, which is that of routes and links.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    let mut ask = Vec::with_capacity(32);
    ask.extend(32_u32.to_ne_bytes());
    ask.extend(RTM_GETLINK.to_ne_bytes());
    ask.extend(DUMP.to_ne_bytes());
    // Number, sender, and an empty `ifinfomsg`.
    ask.resize(32, 0);
    send(&socket, &ask, SendFlags::empty())?;
    let mut piece = vec![0; PIECE];
    loop {
        // The kernel has it ready: this does not wait.
        let (got, _) = recv(&socket, &mut piece[..], RecvFlags::DONTWAIT)?;
        match messages(&piece[..got], network) {
            Some(true) => return Ok(true),
            Some(false) => {}
            None => return Ok(false),
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// Takes the links of some messages; true at the end of all. `None`: it makes no sense.
fn messages(mut bytes: &[u8], network: &mut Network) -> Option<bool> {
    while !bytes.is_empty() {
        let length = u32_at(bytes, 0)? as usize;
        let message = bytes.get(..length).filter(|_| length >= 16)?;
        match u16_at(message, 4)? {
            NLMSG_DONE => return Some(true),
            NLMSG_ERROR => return None,
            RTM_NEWLINK => {
                let flags = u32_at(message, 24)?;
                if flags & LOOPBACK == 0 {
                    let up = flags & UP_AND_RUNNING == UP_AND_RUNNING;
                    network.links.insert(name(message.get(32..)?)?, up);
                }
            }
            _ => {}
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(false)
}

/// The name of a link, among its attributes.
fn name(mut attributes: &[u8]) -> Option<String> {
    loop {
        let length = usize::from(u16_at(attributes, 0)?);
        let value = attributes.get(4..length)?;
        if u16_at(attributes, 2)? == IFLA_IFNAME {
            let end = value.iter().position(|it| *it == 0).unwrap_or(value.len());
            return Some(String::from_utf8_lossy(&value[..end]).into_owned());
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

/// The links that default routes go over.
fn default_routes() -> BTreeSet<String> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let mut links = v4(&read("/proc/self/net/route"));
    links.extend(v6(&read("/proc/self/net/ipv6_route")));
    links
}

/// `Iface Destination Gateway Flags RefCnt Use Metric Mask …`
fn v4(table: &str) -> BTreeSet<String> {
    let lines = table.lines().skip(1).map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let default = lines.filter(|it| it.len() >= 8 && it[1] == "00000000" && it[7] == "00000000");
    default.map(|it| it[0].to_owned()).collect()
}

/// `destination prefix source prefix next-hop metric refcnt use flags iface`. The kernel has one that rejects, on `lo`.
fn v6(table: &str) -> BTreeSet<String> {
    let lines = table.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let default = lines.filter(|it| it.len() >= 10 && it[1] == "00" && it[0].bytes().all(|it| it == b'0'));
    default.filter(|it| it[9] != "lo").map(|it| it[9].to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_can_be_looked_at() {
        let network = look().unwrap();
        assert!(!network.links.contains_key("lo"), "{network:?}");
    }

    #[test]
    fn default_routes_are_those_to_anywhere() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                     eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                     eth1\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert_eq!(v4(table), BTreeSet::from(["eth0".to_owned()]));
        let zero = "0".repeat(32);
        let table = format!(
            "{zero} 00 {zero} 00 fe800000000000000000000000000001 00000400 1 0 00000003 wlan0\n\
             fe800000000000000000000000000000 40 {zero} 00 {zero} 00000100 1 0 00000001 eth0\n\
             {zero} 00 {zero} 00 {zero} ffffffff 1 0 00200200 lo\n"
        );
        assert_eq!(v6(&table), BTreeSet::from(["wlan0".to_owned()]));
    }

    #[test]
    fn what_makes_no_sense_is_not_read() {
        let mut network = Network::default();
        for bytes in [&[1, 2, 3][..], &[0; 16], &[255; 40]] {
            assert_eq!(messages(bytes, &mut network), None);
        }
        assert_eq!(messages(&[], &mut network), Some(false));
    }
}
