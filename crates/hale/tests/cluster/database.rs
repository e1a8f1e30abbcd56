//! Several servers on PostgreSQL (S3): the database killed and back, failing over to its standby, and a server killed.

use std::{fs, time::Duration, time::Instant};

use serde_json::Value;

use crate::{
    api,
    cluster::Cluster,
    events::EventReader,
    flows::web,
    load::Load,
    postgres::Postgres,
    process::{free_port, kill, pid_of, wait_until},
};

/// Two servers on one database, two agents that know both, and a gateway.
struct House {
    cluster: Cluster,
    events: EventReader,
    port: u16,
}

impl House {
    fn start(url: &str) -> Self {
        let mut cluster = Cluster::empty();
        cluster.server_args = vec!["--database-url".to_owned(), url.to_owned()];
        cluster.server("s1");
        cluster.server("s2");
        for node in ["a", "b"] {
            cluster.agent(node);
        }
        cluster.wait_nodes_ready(&["a", "b"]);
        cluster.gateway("edge");
        let (events, port) = (cluster.follow_events(), free_port());
        cluster.apply(&web(&cluster, 2, port));
        cluster.wait_ready("web", 2);
        wait_until("the gateway serves", || {
            crate::load::body_of(port, "/").is_ok_and(|it| it.starts_with("web-"))
        });
        Self { cluster, events, port }
    }

    fn no_flip(&self, before: &Value) {
        let name = before["name"].as_str().unwrap();
        let now = self.cluster.replica(name);
        for field in ["pid", "restarts", "generation", "incarnation"] {
            assert_eq!(now[field], before[field], "{field}: {now:#}");
        }
        assert_eq!(self.events.of("replica.not_ready", name), Vec::<Value>::new());
    }

    /// Applies a workload by one server; how long until it is placed and runs.
    fn applied_runs(&self, server: &str, name: &str) -> Duration {
        let begin = Instant::now();
        let file = self.cluster.path(&format!("{name}.yaml"));
        let mark = self.cluster.mark();
        let yaml = format!(
            "kind: Workload\nname: {name}\nprocess: {{command: [sleep, \"688699\"], env: {{HALE_TEST_MARK: \"{mark}\"}}}}\n"
        );
        fs::write(&file, yaml).unwrap();
        let replica = format!("{name}-0");
        let token = self.cluster.admin();
        wait_until("it is taken", || {
            let output = self.cluster.cli_at(server, &token, &["apply", file.to_str().unwrap()]);
            output.status.success()
        });
        let runs = || {
            let path = format!("/api/v1/replicas/{replica}");
            let answer =
                api::ask(self.cluster.address(server), &self.cluster.admin_token(), "GET", &path, None);
            answer.is_ok_and(|it| it.status == 200 && it.json()["phase"] == "running")
        };
        wait_until(&format!("{replica} runs"), runs);
        begin.elapsed()
    }
}

#[test]
fn two_servers_are_one_cluster_and_when_one_is_killed_the_other_places_within_ten_seconds() {
    let Some(database) = Postgres::start() else { return };
    let url = format!("postgres://hale@127.0.0.1:{}/postgres", database.port);
    let mut house = House::start(&url);
    house.applied_runs("s1", "by-one");
    house.applied_runs("s2", "by-two");
    for name in ["s1", "s2"] {
        for workload in ["by-one", "by-two", "web"] {
            let path = format!("/api/v1/workloads/{workload}");
            assert_eq!(
                house.cluster.get_from(name, &path)["name"],
                workload,
                "{name} tells what the other took"
            );
        }
    }
    let before = house.cluster.replica("web-0");
    let load = Load::start(house.port, 2, "GET");
    // One after the other, so that the one that places is among them.
    for (killed, other) in [("s1", "s2"), ("s2", "s1")] {
        house.cluster.servers.get_mut(killed).unwrap().part.kill();
        let took = house.applied_runs(other, &format!("without-{killed}"));
        assert!(took < Duration::from_secs(20), "placing went on only after {took:?}");
        house.cluster.server(killed);
        house.cluster.wait_nodes_ready(&["a", "b"]);
    }
    load.wait_more(200);
    let (asked, failures) = load.finish();
    assert!(failures.is_empty(), "{} of {asked} requests failed: {failures:?}", failures.len());
    house.no_flip(&before);
    house.cluster.assert_stream_is_record(&house.events);
}

#[test]
fn with_the_database_killed_all_goes_on_and_with_it_back_all_is_told() {
    let Some(mut database) = Postgres::start() else { return };
    let url = format!("postgres://hale@127.0.0.1:{}/postgres", database.port);
    let house = House::start(&url);
    let (zero, one) = (house.cluster.replica("web-0"), house.cluster.replica("web-1"));
    let load = Load::start(house.port, 2, "GET");
    load.wait_more(100);
    database.kill();
    let ready = |expected: u16| {
        let at = house.cluster.address("s1");
        move || api::ask(at, "", "GET", "/readyz", None).is_ok_and(|it| it.status == expected)
    };
    wait_until("the server says that it is not ready", ready(503));
    kill("KILL", pid_of(&zero));
    load.wait_more(1000);
    database.up();
    wait_until("the server is ready again", ready(200));
    let back = house.cluster.wait_replica("web-0", "told anew", |it| {
        it["ready"] == true && it["pid"] != zero["pid"] && !it["pid"].is_null()
    });
    assert_eq!((&back["restarts"], &back["generation"]), (&Value::from(1), &zero["generation"]), "{back:#}");
    load.wait_more(100);
    let (asked, failures) = load.finish();
    assert!(failures.is_empty(), "{} of {asked} requests failed: {failures:?}", failures.len());
    house.no_flip(&one);
    house.applied_runs("s1", "afterwards");
    assert_eq!(house.events.of("replica.restarted", "web-0").len(), 1);
    house.cluster.assert_stream_is_record(&house.events);
}

#[test]
fn when_the_database_fails_over_the_servers_find_the_new_primary_and_nothing_acknowledged_is_lost() {
    let Some(mut primary) = Postgres::start() else { return };
    let standby = primary.standby();
    let url = format!("postgres://hale@127.0.0.1:{},127.0.0.1:{}/postgres", primary.port, standby.port);
    let house = House::start(&url);
    for at in 0..3 {
        house.applied_runs("s1", &format!("before-{at}"));
    }
    let before = house.cluster.replica("web-0");
    primary.kill();
    standby.promote();
    house.applied_runs("s1", "after");
    for workload in ["before-0", "before-1", "before-2", "after", "web"] {
        // The other server hears of it by the feed, at the latest when it looks by itself.
        let all = || house.cluster.get_from("s2", "/api/v1/status")["workloads"].clone();
        let named = |it: &Value| it["name"] == workload;
        house.cluster.wait(workload, all, |it| it.as_array().unwrap().iter().any(named));
    }
    house.no_flip(&before);
    house.cluster.assert_stream_is_record(&house.events);
}
