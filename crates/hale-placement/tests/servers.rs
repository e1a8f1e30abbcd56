//! What the server itself goes through: other servers' sessions, a write that failed, a restored database.

mod world;

use std::{collections::BTreeSet, time::Duration};

use hale_model::cluster::*;
use hale_placement::{Action, Noun};
use world::World;

fn session(world: &World, node: &str, server: &str, number: u64, state: SessionState) -> Noun {
    Noun::Session(SessionRecord {
        node: node.into(),
        session: number,
        server: server.into(),
        instance: "i".into(),
        boot_id: "b".into(),
        state,
        since: world.wall,
        spool: String::new(),
        events_durable: 0,
        epoch: 1,
    })
}

fn three() -> World {
    let mut world = World::new();
    for name in ["n1", "n2", "n3"] {
        world.add_node(name, |_| {});
    }
    world.apply("{kind: Workload, name: web, replicas: 3, process: {command: [./serve]}}");
    world.advance(Duration::from_secs(20));
    assert_eq!(world.ready("web").len(), 3);
    world
}

fn live(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|it| (*it).to_owned()).collect()
}

#[test]
fn a_node_of_another_server_is_lost_when_that_servers_lease_is_and_it_does_not_register_again() {
    let mut world = three();
    // Its beats go to another server from now on.
    world.nodes.get_mut("n1").unwrap().linked = false;
    world.planner.servers(world.now, &live(&["s1", "s2"]));
    let connected = session(&world, "n1", "s2", 2, SessionState::Connected);
    world.put(connected);
    world.advance(Duration::from_secs(60));
    assert_eq!(world.node_records["n1"].condition, NodeCondition::Ready, "{}", world.log);
    world.planner.servers(world.now, &live(&["s1"]));
    world.advance(Duration::from_millis(14_500));
    assert_ne!(world.node_records["n1"].condition, NodeCondition::Lost, "{}", world.log);
    world.advance(Duration::from_secs(1));
    assert_eq!(world.node_records["n1"].condition, NodeCondition::Lost, "{}", world.log);
    let again = session(&world, "n1", "s1", 3, SessionState::Connected);
    world.put(again);
    world.decide();
    assert_eq!(world.node_records["n1"].condition, NodeCondition::Ready, "{}", world.log);
}

#[test]
fn an_agent_that_is_back_within_ten_seconds_changes_nothing() {
    let mut world = three();
    let before = world.log.clone();
    let last_beat = world.wall;
    let gone = session(&world, "n1", "s1", 1, SessionState::Disconnected { last_beat });
    world.nodes.get_mut("n1").unwrap().linked = false;
    world.put(gone);
    world.advance(Duration::from_millis(4_900));
    world.nodes.get_mut("n1").unwrap().linked = true;
    let back = session(&world, "n1", "s1", 2, SessionState::Connected);
    world.put(back);
    world.advance(Duration::from_secs(20));
    assert_eq!(world.log, before);
}

#[test]
fn one_that_said_it_goes_away_is_lost_only_when_it_is_not_back_by_then() {
    let mut world = three();
    world.nodes.get_mut("n1").unwrap().linked = false;
    let until = world.wall.checked_add(jiff::SignedDuration::from_secs(60)).unwrap();
    let away = session(&world, "n1", "s1", 1, SessionState::Away { until });
    world.put(away);
    // Its last beat is told of after that.
    let before = world.now - Duration::from_millis(50);
    world.planner.heard(before, "n1");
    world.advance(Duration::from_secs(59));
    assert_eq!(world.node_records["n1"].condition, NodeCondition::Away, "{}", world.log);
    world.advance(Duration::from_secs(2));
    assert_eq!(world.node_records["n1"].condition, NodeCondition::Lost, "{}", world.log);
}

#[test]
fn what_could_not_be_written_is_decided_again_and_the_same() {
    let mut world = three();
    world.apply("{kind: Workload, name: db, replicas: 2, process: {command: [./db]}}");
    let plan = world.planner.decide(world.now, world.wall);
    assert!(plan.actions.iter().any(|it| matches!(it, Action::Place(_))));
    world.planner.take_back(world.now, world.wall, &plan);
    let again = world.planner.decide(world.now, world.wall);
    assert_eq!(plan.actions, again.actions);
    assert_eq!(plan.last_generation, again.last_generation);
    assert!(world.planner.decide(world.now, world.wall).is_empty(), "a plan is taken for done");
}

#[test]
fn after_a_restore_what_nodes_run_is_taken_over_and_the_newest_wins() {
    let mut world = three();
    let placed = world.placements.values().find(|it| it.ordinal == 0).unwrap().clone();
    let elsewhere = if placed.node == "n1" { "n2" } else { "n1" };
    let mut newer = world.observed[&placed.generation].clone();
    (newer.generation, newer.node) = (50, elsewhere.to_owned());
    let mut older = newer.clone();
    (older.generation, older.node) = (40, "n3".to_owned());
    world.planner.adopt(world.now, Box::new(older));
    world.planner.adopt(world.now, Box::new(newer));
    let plan = world.planner.decide(world.now, world.wall);
    let adopted: Vec<_> = plan
        .actions
        .iter()
        .filter_map(|it| if let Action::Regrant(it) = it { Some(it) } else { None })
        .collect();
    assert_eq!(adopted.len(), 1, "{:#?}", plan.actions);
    assert_eq!((adopted[0].placement.node.as_str(), adopted[0].from.as_slice()), (elsewhere, &[50][..]));
    assert!(adopted[0].placement.generation > 50 && adopted[0].placement.continues == [50]);
    assert!(adopted[0].observed.as_ref().unwrap().ready);
    assert!(
        plan.actions
            .iter()
            .any(|it| matches!(it, Action::Withdraw(it) if it.generation == placed.generation))
    );
}
