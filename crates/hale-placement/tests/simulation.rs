//! Many nodes at once: the rate at which lost ones are given up, and that nothing is forgotten.

mod world;

use std::time::Duration;

use world::World;

#[test]
fn lost_nodes_are_given_up_a_few_at_a_time_and_in_the_end_everything_runs_elsewhere() {
    let mut world = World::new();
    world.quiet = true;
    for number in 0..60 {
        world.add_node(&format!("n{number:02}"), |it| it.facts.zone = format!("z{}", number % 3));
    }
    for number in 0..30 {
        world.apply(&format!(
            "{{kind: Workload, name: w{number}, replicas: 10, process: {{command: [./serve]}}}}"
        ));
    }
    world.advance(Duration::from_secs(3));
    for number in 0..24 {
        world.nodes.get_mut(&format!("n{number:02}")).unwrap().linked = false;
    }
    let mut given_up: Vec<(Duration, String)> = Vec::new();
    let start = world.now;
    while world.now.since(start) < Duration::from_secs(140) {
        world.advance(Duration::from_millis(500));
        for placement in world.placements.values().filter(|it| it.replaces.is_some()) {
            let old = placement.replaces.and_then(|it| world.placements.get(&it));
            let Some(old) = old else { continue };
            if !given_up.iter().any(|(_, it)| *it == old.node) {
                given_up.push((world.now.since(start), old.node.clone()));
            }
        }
    }
    assert_eq!(given_up.len(), 24, "{given_up:?}");
    for (index, (at, _)) in given_up.iter().enumerate() {
        let within =
            given_up[..=index].iter().filter(|(it, _)| *at - *it < Duration::from_millis(9_400)).count();
        assert!(within <= 3, "5 % of 60 nodes in 10 s: {given_up:?}");
    }
    for number in 0..30 {
        assert_eq!(world.ready(&format!("w{number}")).len(), 10);
    }
}
