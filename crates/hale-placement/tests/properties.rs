//! Whatever happens to a cluster, every plan keeps the invariants, and in the end everything runs where it should.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of a test function")]

mod world;

use std::time::Duration;

use hale_model::cluster::{PlacementCause, Scheduling};
use hale_placement::Key;
use proptest::prelude::*;
use world::{Behaviour, World};

#[derive(Debug, Clone)]
enum Step {
    Advance(u64),
    Cut(usize),
    Heal(usize),
    Behave(usize, usize, Behaviour),
    Apply(usize, u32, u32),
    Delete(usize),
    Schedule(usize, Scheduling),
    Takeover,
}

const NODES: [&str; 5] = ["n1", "n2", "n3", "n4", "n5"];
const WORKLOADS: [&str; 3] = ["web", "db", "job"];

fn step() -> impl Strategy<Value = Step> {
    let behaviour = prop_oneof![Just(Behaviour::Good), Just(Behaviour::Fails), Just(Behaviour::Hangs)];
    let scheduling =
        prop_oneof![Just(Scheduling::Open), Just(Scheduling::Cordoned), Just(Scheduling::Draining)];
    prop_oneof![
        4 => (1_u64..40_000).prop_map(Step::Advance),
        2 => (0..NODES.len()).prop_map(Step::Cut),
        2 => (0..NODES.len()).prop_map(Step::Heal),
        2 => (0..WORKLOADS.len(), 0..NODES.len(), behaviour).prop_map(|(w, n, b)| Step::Behave(w, n, b)),
        2 => (0..WORKLOADS.len(), 0_u32..4, 0_u32..3).prop_map(|(w, r, v)| Step::Apply(w, r, v)),
        1 => (0..WORKLOADS.len()).prop_map(Step::Delete),
        1 => (0..NODES.len(), scheduling).prop_map(|(n, s)| Step::Schedule(n, s)),
        1 => Just(Step::Takeover),
    ]
}

fn text(name: &str, replicas: u32, version: u32, fenced: bool) -> String {
    let disconnect =
        if fenced { ", disconnect: {stopAfter: 30s}, terminationGracePeriodSeconds: 5" } else { "" };
    let port = if name == "db" { ", ports: [{name: db, port: 5432}]" } else { "" };
    format!(
        "{{kind: Workload, name: {name}, replicas: {replicas}, process: {{command: [./serve, v{version}]}}, \
         rollout: {{progressDeadline: 30s}}{disconnect}{port}}}"
    )
}

fn perform(world: &mut World, step: &Step) {
    match step {
        Step::Advance(millis) => world.advance(Duration::from_millis(*millis)),
        Step::Cut(node) => world.nodes.get_mut(NODES[*node]).unwrap().linked = false,
        Step::Heal(node) => {
            let node = NODES[*node];
            if !std::mem::replace(&mut world.nodes.get_mut(node).unwrap().linked, true) {
                world.beat(node);
            }
        }
        Step::Behave(workload, node, it) => {
            world.behaviour.push((WORKLOADS[*workload].into(), NODES[*node].into(), *it));
        }
        // One of a kind of declaration keeps its fence: whoever changes it while a node is cut off gets what was
        // promised when it was placed.
        Step::Apply(workload, replicas, version) => {
            world.apply(&text(WORKLOADS[*workload], *replicas, *version, *workload == 2));
        }
        Step::Delete(workload) => {
            world.workloads.remove(WORKLOADS[*workload]);
            let now = world.now;
            world.planner.delete(now, Key::Workload(WORKLOADS[*workload]));
        }
        Step::Schedule(node, scheduling) => world.edit_node(NODES[*node], |it| it.scheduling = *scheduling),
        Step::Takeover => {
            world.takeover();
            let linked: Vec<String> =
                world.nodes.iter().filter(|(_, it)| it.linked).map(|(name, _)| name.clone()).collect();
            linked.iter().for_each(|it| world.beat(it));
        }
    }
    world.say(format!("> {step:?}"));
    world.decide();
}

fn play(steps: &[Step], rates: &[f64]) -> World {
    let mut world = World::new();
    for (name, rate) in NODES.iter().zip(rates) {
        world.add_node(name, |_| {});
        world.nodes.get_mut(*name).unwrap().rate = *rate;
    }
    for step in steps {
        perform(&mut world, step);
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn after_everything_is_healed_everything_runs_once_where_it_may(
        steps in prop::collection::vec(step(), 1..40),
        rates in prop::collection::vec(0.91_f64..1.1, NODES.len()),
    ) {
        let mut world = play(&steps, &rates);
        for name in NODES {
            perform(&mut world, &Step::Schedule(NODES.iter().position(|it| *it == name).unwrap(), Scheduling::Open));
            perform(&mut world, &Step::Heal(NODES.iter().position(|it| *it == name).unwrap()));
        }
        world.behaviour.clear();
        world.advance(Duration::from_secs(900));
        for record in world.workloads.clone().into_values() {
            let wanted: u32 = record.document.workload().unwrap().replicas;
            let ready = world.ready(&record.name);
            let expected: std::collections::BTreeSet<u32> = (0..wanted).collect();
            prop_assert_eq!(&ready, &expected, "{}: {}", record.name, world.log);
        }
        let runs = world.nodes.values().map(|it| it.runs.len()).sum::<usize>();
        let wanted: u32 = world.workloads.values().map(|it| it.document.workload().unwrap().replicas).sum();
        prop_assert_eq!(runs, wanted as usize, "{}", world.log);
        prop_assert_eq!(world.placements.len(), wanted as usize, "{}", world.log);
    }

    #[test]
    fn the_same_history_gives_the_same_decisions(
        steps in prop::collection::vec(step(), 1..20),
    ) {
        let rates = [1.0; 5];
        prop_assert_eq!(play(&steps, &rates).log, play(&steps, &rates).log);
    }
}

#[test]
fn a_service_below_its_minimum_is_healed_and_not_refused() {
    let mut world = World::new();
    for name in NODES {
        world.add_node(name, |_| {});
    }
    world.apply("{kind: Workload, name: web, replicas: 3, minAvailable: 3, process: {command: [./serve]}}");
    world.advance(Duration::from_secs(3));
    assert_eq!(world.ready("web").len(), 3);
    let failing = world.placements.values().next().unwrap().node.clone();
    world.behaviour.push(("web".into(), failing.clone(), Behaviour::Fails));
    world.advance(Duration::from_secs(3));
    assert_eq!(world.ready("web").len(), 3, "{}", world.log);
    let moved = world.placements.values().find(|it| it.cause == PlacementCause::Failed).unwrap();
    assert_ne!(moved.node, failing);
    let before = world.workloads["web"].document.digest.clone();
    assert_eq!(moved.digest, before, "it keeps its probes and ports: it runs by the same declaration");
}
