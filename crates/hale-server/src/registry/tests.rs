use std::net::{IpAddr, Ipv4Addr};

use hale_model::spec::{Balance, Protocol};

use super::*;

fn service(name: &str) -> Service {
    Service {
        name: name.to_owned(),
        port: "http".to_owned(),
        listen: None,
        protocol: Protocol::Http,
        balance: Balance::RoundRobin,
        panic_threshold: 0,
        slow_start: std::time::Duration::ZERO,
    }
}

fn report(replica: &str, incarnation: u64, ready: bool) -> EndpointReport {
    EndpointReport {
        workload: "web".to_owned(),
        replica: replica.to_owned(),
        node: "local".to_owned(),
        generation: 1,
        incarnation,
        address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        ports: [("http".to_owned(), 20_000)].into(),
        ready,
        damped: false,
        serving: true,
        draining: false,
        reason: "test".to_owned(),
        traceparent: None,
    }
}

fn ready(registry: &Registry) -> Vec<String> {
    registry.endpoints("web").unwrap().ready().map(|it| it.replica.clone()).collect()
}

fn registry() -> Registry {
    let registry = Registry::new();
    registry.declare("web", Some(&service("web")));
    registry
}

#[test]
fn a_change_is_seen_by_every_watcher_when_apply_returns() {
    let registry = registry();
    let watcher = registry.watch("web").unwrap();
    let before = watcher.borrow().revision;
    let changes = registry.apply(&report("web-0", 1, true));
    let set = Arc::clone(&watcher.borrow());
    assert!(set.revision > before);
    assert_eq!(changes, [Change { service: "web".to_owned(), revision: set.revision, ready: 1 }]);
    assert_eq!(ready(&registry), ["web-0"]);
    assert_eq!(set.none_ready_since, None);
}

#[test]
fn the_same_report_again_makes_no_new_revision() {
    let registry = registry();
    assert_eq!(registry.apply(&report("web-0", 1, true)).len(), 1);
    assert_eq!(registry.apply(&report("web-0", 1, true)), []);
}

#[test]
fn a_report_of_an_older_run_changes_nothing() {
    let registry = registry();
    registry.apply(&report("web-0", 2, false));
    assert_eq!(registry.apply(&report("web-0", 1, true)), []);
    assert!(ready(&registry).is_empty());
    let mut placed_anew = report("web-0", 1, true);
    placed_anew.generation = 2;
    registry.apply(&placed_anew);
    assert_eq!(ready(&registry), ["web-0"]);
}

#[test]
fn since_when_none_is_ready_stays_the_same_while_none_is() {
    let registry = registry();
    let since = registry.endpoints("web").unwrap().none_ready_since;
    assert!(since.is_some());
    registry.apply(&report("web-0", 1, false));
    assert_eq!(registry.endpoints("web").unwrap().none_ready_since, since);
    registry.apply(&report("web-0", 1, true));
    assert_eq!(registry.endpoints("web").unwrap().none_ready_since, None);
    registry.apply(&report("web-0", 1, false));
    assert!(registry.endpoints("web").unwrap().none_ready_since > since);
}

#[test]
fn a_damped_replica_is_served_only_when_no_other_is_ready_and_is_marked() {
    let registry = registry();
    registry.apply(&report("web-1", 1, true));
    registry.apply(&EndpointReport { damped: true, ..report("web-0", 1, false) });
    assert_eq!(ready(&registry), ["web-1"]);
    registry.apply(&report("web-1", 1, false));
    assert_eq!(ready(&registry), ["web-0"]);
    let set = registry.endpoints("web").unwrap();
    assert_eq!(set.endpoints[0].kept.as_deref(), Some("damping"));
    assert_eq!(set.none_ready_since, None);
    registry.apply(&report("web-1", 1, true));
    assert_eq!(ready(&registry), ["web-1"]);
}

#[test]
fn the_loss_of_every_node_empties_no_service() {
    let registry = registry();
    registry.apply(&EndpointReport { node: "a".to_owned(), ..report("web-0", 1, true) });
    registry.apply(&EndpointReport { node: "b".to_owned(), ..report("web-1", 1, true) });
    registry.set_node("a", Node { lost: true, ..Node::default() });
    assert_eq!(ready(&registry), ["web-1"]);
    registry.set_node("b", Node { lost: true, ..Node::default() });
    assert_eq!(ready(&registry), ["web-0", "web-1"]);
    assert!(
        registry.endpoints("web").unwrap().endpoints.iter().all(|it| it.kept.as_deref() == Some("node_lost"))
    );
    registry.set_node("b", Node { lost: false, ..Node::default() });
    assert_eq!(ready(&registry), ["web-1"]);
}

#[test]
fn what_is_not_ready_by_its_probe_or_draining_is_never_kept() {
    let registry = registry();
    registry.apply(&report("web-0", 1, false));
    registry.apply(&EndpointReport { draining: true, ..report("web-1", 1, true) });
    assert!(ready(&registry).is_empty());
}

#[test]
fn replicas_without_an_address_or_the_port_are_no_endpoints() {
    let registry = registry();
    registry.apply(&EndpointReport { address: None, ..report("web-0", 1, true) });
    registry.apply(&EndpointReport { ports: BTreeMap::new(), ..report("web-1", 1, true) });
    assert!(registry.endpoints("web").unwrap().endpoints.is_empty());
}

#[test]
fn an_address_of_a_container_alone_is_no_endpoint_where_gateways_are_elsewhere() {
    let registry = registry();
    let own = Some("172.17.0.2".parse().unwrap());
    registry.apply(&EndpointReport { node: "a".to_owned(), address: own, ..report("web-0", 1, true) });
    assert_eq!(ready(&registry), ["web-0"], "everything is on one machine");
    let reached = Some("10.0.0.1".parse().unwrap());
    registry.set_node("a", Node { address: reached, ..Node::default() });
    assert!(registry.endpoints("web").unwrap().endpoints.is_empty());
    registry.apply(&EndpointReport { node: "a".to_owned(), address: reached, ..report("web-0", 2, true) });
    assert_eq!(ready(&registry), ["web-0"], "published");
}

#[test]
fn endpoints_stand_by_ordinal() {
    let registry = registry();
    for name in ["web-10", "web-2", "web-0"] {
        registry.apply(&report(name, 1, true));
    }
    assert_eq!(ready(&registry), ["web-0", "web-2", "web-10"]);
}

#[test]
fn a_removed_replica_is_gone_and_a_removed_service_closes_its_watch() {
    let registry = registry();
    registry.apply(&report("web-0", 1, true));
    let watcher = registry.watch("web").unwrap();
    registry.remove_generation("web", "web-0", report("web-0", 1, true).generation);
    assert!(watcher.borrow().endpoints.is_empty());
    registry.declare("web", Some(&service("shop")));
    assert!(watcher.has_changed().is_err());
    assert!(registry.watch("web").is_none());
    assert_eq!(registry.services(), ["shop"]);
}

#[test]
fn reports_that_came_before_the_service_was_declared_count() {
    let registry = Registry::new();
    registry.apply(&report("web-0", 1, true));
    registry.declare("web", Some(&service("web")));
    assert_eq!(ready(&registry), ["web-0"]);
}
