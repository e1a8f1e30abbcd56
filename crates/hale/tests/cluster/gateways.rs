//! `hale gateway` as a process: killed, without a server, with an address in use, and what it says of itself.

use std::net::TcpListener;

use serde_json::Value;

use crate::{
    api,
    cluster::Cluster,
    flows::{Site, web},
    load::{Load, body_of},
    process::{free_port, wait_until},
};

/// What a gateway's `/readyz` says: status and body.
fn readyz(health: std::net::SocketAddr) -> (u16, Value) {
    match api::ask(health, "", "GET", "/readyz", None) {
        Ok(answer) => (answer.status, answer.json()),
        Err(_) => (0, Value::Null),
    }
}

#[test]
fn a_gateway_that_is_killed_serves_again_once_it_is_back_and_restarts_nobody() {
    let mut site = Site::start();
    let before = site.replica("web-0");
    site.cluster.gateways.get_mut("edge").unwrap().kill();
    wait_until("nobody listens", || std::net::TcpStream::connect(("127.0.0.1", site.port)).is_err());
    let health = site.cluster.gateway("edge");
    wait_until("it is ready", || readyz(health).0 == 200);
    site.wait_served(&["web-0", "web-1"]);
    assert_eq!(site.replica("web-0")["pid"], before["pid"]);
    let text = api::ask(health, "", "GET", "/metrics", None).unwrap().body;
    assert!(text.contains("hale_gateway_server_connected 1"), "{text}");
    assert!(text.contains("hale_gateway_listening{service=\"web\"} 1"), "{text}");
}

#[test]
fn a_gateway_without_its_server_goes_on_and_says_since_when() {
    let mut site = Site::start();
    let health = site.cluster.gateway("second");
    wait_until("it was told", || readyz(health).1["informed"] == true);
    site.cluster.servers.get_mut("s1").unwrap().part.kill();
    wait_until("it misses its server", || readyz(health).1["server"].is_null());
    let (_, told) = readyz(health);
    assert!(told["why"].as_str().is_some_and(|why| !why.is_empty()), "{told:#}");
    let load = Load::start(site.port, 2, "GET");
    load.wait_more(300);
    site.cluster.server("s1");
    wait_until("it has its server again", || readyz(health).1["server"].is_string());
    load.wait_more(300);
    let (asked, failures) = load.finish();
    assert!(failures.is_empty(), "{} of {asked} requests failed: {failures:?}", failures.len());
}

#[test]
fn a_gateway_that_never_heard_of_a_server_is_not_ready_and_one_whose_address_is_taken_says_so() {
    let mut cluster = Cluster::start(&["a"]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (first, second) = (taken.local_addr().unwrap().port(), free_port());
    cluster.apply(&web(&cluster, 1, first));
    let other = web(&cluster, 1, second).replace("name: web", "name: api");
    cluster.apply(&other);
    cluster.wait_ready("web", 1);
    cluster.wait_ready("api", 1);
    let health = cluster.gateway("edge");
    wait_until("the other service is served", || {
        body_of(second, "/").is_ok_and(|it| it.starts_with("api-0"))
    });
    let (status, told) = readyz(health);
    assert_eq!(status, 503, "{told:#}");
    let listeners = told["listeners"].as_array().unwrap();
    let web = listeners.iter().find(|it| it["service"] == "web").unwrap();
    assert!(web["error"].as_str().is_some_and(|why| why.contains("something else")), "{told:#}");
    drop(taken);
    wait_until("it is served now", || body_of(first, "/").is_ok_and(|it| it.starts_with("web-0")));
    wait_until("and ready", || readyz(health).0 == 200);

    cluster.servers.get_mut("s1").unwrap().part.kill();
    let lonely = cluster.gateway("lonely");
    wait_until("it tries", || readyz(lonely).1["why"].as_str().is_some_and(|why| why.contains("http://")));
    assert_eq!(readyz(lonely).0, 503);
}
