//! Names with more addresses than one, and name servers that hang: each in a network and with files of its own (`unshare`,
//! which needs root).

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    process::Command,
    time::Duration,
};

use hale_check::{Checker, Subject};
use hale_health::Reason;
use hale_model::spec::{Check, Exec, HttpGet};
use socket2::{Domain, Socket, Type};

use crate::support::{AMPLE, SOON, Server, both, failed, get, ok, request, succeeded};

const CHILD: &str = "HALE_TEST_ADDRESSES_CHILD";

/// Runs one test of this file again, in a child process in a network of its own where there is no IPv6, with these as
/// its names and its name servers. Whether this is that child.
fn is_the_child(test: &str, hosts: &str, resolv: &str) -> bool {
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let folder = tempfile::tempdir().unwrap();
    let (names, servers) = (folder.path().join("hosts"), folder.path().join("resolv.conf"));
    std::fs::write(&names, hosts).unwrap();
    std::fs::write(&servers, resolv).unwrap();
    let setup = "ip link set lo up && echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6 \
                 && mount --bind \"$1\" /etc/hosts && mount --bind \"$2\" /etc/resolv.conf && shift 2 && exec \"$@\"";
    let status = Command::new("unshare")
        .args(["-n", "-m", "sh", "-c", setup, "sh"])
        .args([&names, &servers, &std::env::current_exe().unwrap()])
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .status()
        .unwrap();
    assert!(status.success());
    false
}

fn named(name: &str, port: SocketAddr) -> Checker {
    let spec = HttpGet { host: Some(name.into()), ..get(port) };
    Checker::compile(&Check::HttpGet(spec), &Subject::default()).unwrap()
}

#[tokio::test]
async fn without_ipv6_a_service_that_is_down_is_told_as_down() {
    let test = "addresses::without_ipv6_a_service_that_is_down_is_told_as_down";
    if !is_the_child(test, "127.0.0.1 both.test\n::1 both.test\n", "") {
        return;
    }
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    failed(&both(named("both.test", nobody), SOON).await, Reason::ConnectionRefused, &["both.test"]);
    let v6 = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 81);
    let literal = both(named("::1", v6), SOON).await;
    failed(&literal, Reason::Unreachable, &["no address to ask ::1 from"]);
    assert!(literal.timings.total < SOON, "it was waited for what does not come");
}

#[tokio::test]
async fn an_address_that_swallows_packets_does_not_keep_the_next_from_being_tried() {
    let test = "addresses::an_address_that_swallows_packets_does_not_keep_the_next_from_being_tried";
    if !is_the_child(test, "127.0.0.1 two.test\n127.0.0.2 two.test\n", "") {
        return;
    }
    let server = Server::at(Ipv4Addr::new(127, 0, 0, 2).into(), |mut stream, _| {
        request(&mut stream);
        let _ = stream.write_all(ok("").as_bytes());
    });
    // One whose queue is full drops what comes.
    let dead = SocketAddr::from((Ipv4Addr::LOCALHOST, server.address.port()));
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    full.bind(&dead.into()).unwrap();
    full.listen(0).unwrap();
    let _waiting: Vec<Socket> = (0..4)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&dead.into());
            socket
        })
        .collect();
    let gone = Checker::compile(
        &Check::HttpGet(get(dead)),
        &Subject { address: Some(dead.ip()), ..Subject::default() },
    );
    failed(&gone.unwrap().run(SOON).await, Reason::Timeout, &["no connection"]);
    succeeded(&both(named("two.test", server.address), 4 * SOON).await);
}

#[test]
fn names_that_nobody_resolves_leave_threads_for_commands() {
    let test = "addresses::names_that_nobody_resolves_leave_threads_for_commands";
    let resolv = "nameserver 127.0.0.1\noptions timeout:5 attempts:1\n";
    if !is_the_child(test, "127.0.0.1 localhost\n", resolv) {
        return;
    }
    let _silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).unwrap();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).max_blocking_threads(80).enable_all().build().unwrap();
    runtime.block_on(async {
        let port = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
        let asking: Vec<_> = (0..120)
            .map(|nth| named(&format!("host-{nth}.example"), port))
            .map(|checker| tokio::spawn(async move { checker.run(Duration::from_secs(1)).await }))
            .collect();
        tokio::task::yield_now().await;
        let spec = Exec { command: vec!["/bin/true".into()] };
        let command = Checker::compile(&Check::Exec(spec), &Subject::default()).unwrap();
        succeeded(&command.run(Duration::from_secs(2)).await);
        let (mut late, mut not_begun) = (0, 0);
        for asked in asking {
            match asked.await.unwrap().reason() {
                Some(Reason::Timeout) => late += 1,
                Some(Reason::ProberError) => not_begun += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((late, not_begun), (64, 56), "those that were not begun say nothing of anybody");
    });
    runtime.shutdown_timeout(AMPLE / 100);
}
