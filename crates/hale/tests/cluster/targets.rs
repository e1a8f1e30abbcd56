//! Targets of a node and its server apart: each killed at any moment, and a node that loses its own network.

use std::{
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::{
    cluster::Cluster,
    events::EventReader,
    netns::{self, Host},
    web::Web,
};

fn wait_target(cluster: &Cluster, name: &str, status: &str) -> Value {
    let look = || {
        let all = cluster.get("/api/v1/status");
        all["targets"].as_array().unwrap().iter().find(|it| it["name"] == name).cloned().unwrap_or_default()
    };
    cluster.wait(&format!("{name} is {status}"), look, |it| it["status"] == status)
}

fn wait_events(cluster: &Cluster, events: &EventReader, kind: &str, subject: &str, count: usize) {
    let look = || Value::from(events.of(kind, subject).len());
    cluster.wait(&format!("{count} {kind} of {subject}"), look, |it| it.as_u64() >= Some(count as u64));
}

/// Kills the agent, the server, or both, and starts them again.
fn kill(cluster: &mut Cluster, which: usize) {
    if which % 3 != 1 {
        cluster.agents.get_mut("a").unwrap().kill();
    }
    if !which.is_multiple_of(3) {
        cluster.servers.get_mut("s1").unwrap().part.kill();
        cluster.server("s1");
    }
    if which % 3 != 1 {
        cluster.agent("a");
    }
}

#[test]
fn each_failure_and_each_recovery_is_told_once_over_kills_of_agent_and_server_at_any_moment() {
    let web = Web::start();
    let mut cluster = Cluster::start(&["a"]);
    let events = cluster.follow_events();
    cluster.apply(&format!(
        "kind: Target\nname: billing\nhttpGet: {{url: \"http://{}/up\"}}\nperiodSeconds: 0.05\n",
        web.at
    ));
    wait_target(&cluster, "billing", "healthy");
    for spell in 0..3 {
        web.say("/up", 503, "down");
        // Right around the moment of the third failure, its event on its way, and its acknowledgement.
        thread::sleep(Duration::from_millis(60 + 50 * spell as u64));
        kill(&mut cluster, spell);
        thread::sleep(Duration::from_millis(90 * spell as u64));
        kill(&mut cluster, spell + 1);
        wait_events(&cluster, &events, "target.probe_failed", "billing", spell + 1);
        wait_target(&cluster, "billing", "failing");
        kill(&mut cluster, spell + 2);
        wait_target(&cluster, "billing", "failing");
        web.say("/up", 200, "ok");
        thread::sleep(Duration::from_millis(20 + 50 * spell as u64));
        kill(&mut cluster, spell + 1);
        wait_events(&cluster, &events, "target.probe_recovered", "billing", spell + 1);
        kill(&mut cluster, spell);
        wait_target(&cluster, "billing", "healthy");
    }
    // What was told last goes behind whatever might come twice.
    web.say("/up", 503, "down");
    wait_events(&cluster, &events, "target.probe_failed", "billing", 4);
    cluster.assert_stream_is_record(&events);
    assert_eq!(events.of("target.probe_failed", "billing").len(), 4);
    assert_eq!(events.of("target.probe_recovered", "billing").len(), 3);
}

/// A node on a host of its own, and targets of this machine that it reaches over its wire alone.
#[test]
fn a_node_that_loses_its_network_reports_nothing_as_down_and_goes_on_once_it_is_back() {
    if let Some(why) = netns::unable() {
        eprintln!("skipped: no network namespaces can be made here: {why}");
        return;
    }
    let (host, web) = (Host::new(30), Web::start_at("0.0.0.0:0"));
    let mut cluster = Cluster::empty();
    cluster.server_args = vec!["--insecure-http".to_owned()];
    cluster.server_at("s1", "0.0.0.0:0");
    let port = cluster.address("s1").port();
    cluster.servers.get_mut("s1").unwrap().address = ([127, 0, 0, 1], port).into();
    let (server, address) = (format!("http://{}:{port}", host.gateway()), host.address());
    cluster.agent_at("a", &server, |agent| host.run(&agent), &["--address", &address]);
    cluster.wait_nodes_ready(&["a"]);
    let events = cluster.follow_events();
    let target = |name: &str, path: &str| {
        format!(
            "kind: Target\nname: {name}\nhttpGet: {{url: \"http://{}:{}{path}\"}}\nperiodSeconds: 0.2\n\
             timeoutSeconds: 0.5\nfailureThreshold: 2\n---\n",
            host.gateway(),
            web.at.port()
        )
    };
    cluster.apply(&format!("{}{}", target("one", "/one"), target("two", "/two")));
    wait_target(&cluster, "one", "healthy");
    wait_target(&cluster, "two", "healthy");

    host.cut();
    // Twenty periods, ten times what a verdict takes.
    thread::sleep(Duration::from_secs(4));
    host.heal();
    cluster.wait_nodes_ready(&["a"]);
    wait_target(&cluster, "one", "healthy");
    let told = |verdict: &str| {
        let all = events.of("node.observer_suspect", "a");
        all.iter().filter(|it| it["data"]["verdict"].as_str().unwrap_or("").contains(verdict)).count()
    };
    cluster.wait("it says what it had lost", || Value::from(told("default route")), |it| *it == 1);
    cluster.wait("and that it is well again", || Value::from(told("recovered")), |it| *it == 1);
    // What is down is told again, after that.
    web.say("/two", 500, "no");
    wait_events(&cluster, &events, "target.probe_failed", "two", 1);
    assert!(events.of("target.probe_failed", "one").is_empty());
    assert_eq!(events.of("target.probe_failed", "two").len(), 1);
    assert!(events.of("target.probe_recovered", "one").is_empty());
}

/// A name server whose records change under it: the list follows.
#[test]
fn the_srv_records_of_a_real_name_server_are_a_list() {
    let (one, two) = (Web::start(), Web::start());
    let mut cluster = Cluster::empty();
    let conf = cluster.path("dnsmasq.conf");
    let port = crate::process::free_port();
    let serve = |records: &[u16]| {
        let mut text = format!(
            "no-resolv\nno-hosts\nno-daemon\nuser=root\nlisten-address=127.0.0.1\nbind-interfaces\nport={port}\n\
             pid-file=\n"
        );
        for record in records {
            text += &format!("srv-host=_web._tcp.shop.test,localhost,{record}\n");
        }
        std::fs::write(&conf, text).unwrap();
        let mut command = Command::new("dnsmasq");
        command.arg("-C").arg(&conf).stdin(Stdio::null());
        crate::part::Part::start("dnsmasq", command)
    };
    let mut dns = serve(&[one.at.port(), two.at.port()]);
    dns.wait_line("started");
    cluster.server("s1");
    cluster.agent("a");
    cluster.wait_nodes_ready(&["a"]);
    cluster.apply(&format!(
        "kind: Target\nname: shop\ntargetsFrom: {{srv: _web._tcp.shop.test, server: \"127.0.0.1:{port}\", \
         refreshSeconds: 0.2}}\ntcpSocket: {{}}\nperiodSeconds: 0.1\n"
    ));
    let count = |cluster: &Cluster| {
        let all = cluster.get("/api/v1/status");
        let of = |it: &&Value| it["list"] == "shop";
        Value::from(all["targets"].as_array().unwrap().iter().filter(of).count())
    };
    cluster.wait("both are targets", || count(&cluster), |it| *it == 2);
    dns.kill();
    let why = |it: &Value| it["last_detail"].as_str().is_some_and(|it| it.contains("can't be read"));
    let shop = |cluster: &Cluster| {
        let all = cluster.get("/api/v1/status");
        all["targets"].as_array().unwrap().iter().find(|it| it["name"] == "shop").cloned().unwrap_or_default()
    };
    cluster.wait("it can't be read", || shop(&cluster), why);
    assert_eq!(count(&cluster), 2, "the last one stays");
    // Over a restart of the agent, too.
    cluster.agents.get_mut("a").unwrap().kill();
    cluster.agent("a");
    cluster.wait("it can't be read again", || shop(&cluster), why);
    cluster.wait("the last one stays", || count(&cluster), |it| *it == 2);
    let mut dns = serve(&[one.at.port()]);
    dns.wait_line("started");
    cluster.wait("one has left", || count(&cluster), |it| *it == 1);
    dns.kill();
}
