//! Scripts: a cluster in a few words, and what was decided, as text.

use std::time::Duration;

use hale_health::Phase;
use hale_model::cluster::{Intent, Scheduling};
use hale_placement::Key;

use super::{Behaviour, World};

/// Runs a script, one command a line; `#` begins a comment.
pub(crate) fn run(script: &str) -> String {
    let mut world = World::new();
    for line in script.lines().map(str::trim).filter(|it| !it.is_empty() && !it.starts_with('#')) {
        world.say(format!("> {line}"));
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        command(&mut world, verb, rest.trim());
        world.decide();
    }
    world.log
}

fn command(world: &mut World, verb: &str, rest: &str) {
    let now = world.now;
    match verb {
        "node" => add_node(world, rest),
        "apply" => world.apply(&format!("{{kind: Workload, process: {{command: [./serve]}}, {rest}}}")),
        "containers" => world.apply(&format!("{{kind: Workload, container: {{image: web}}, {rest}}}")),
        "engine" => {
            let (name, answers) = rest.split_once(' ').unwrap();
            world.edit_node(name, |record| {
                record.facts.runtimes.remove("container");
                if answers == "answers" {
                    record.facts.runtimes.insert("container".into());
                }
            });
        }
        "delete" => {
            world.workloads.remove(rest);
            world.planner.delete(now, Key::Workload(rest));
        }
        "stop" => {
            let at = world.wall;
            let intent = Intent { by: "ann".into(), reason: "holiday".into(), at };
            world.edit_workload(rest, |it| it.stopped = Some(intent));
        }
        "start" => world.edit_workload(rest, |it| it.stopped = None),
        "target" => add_target(world, rest),
        "cut" => rest.split(' ').for_each(|it| world.nodes.get_mut(it).unwrap().linked = false),
        "heal" => {
            for name in rest.split(' ') {
                world.nodes.get_mut(name).unwrap().linked = true;
                world.beat(name);
            }
        }
        "kill" => {
            let node = world.nodes.get_mut(rest).unwrap();
            node.linked = false;
            node.runs.clear();
        }
        "cordon" => world.edit_node(rest, |it| it.scheduling = Scheduling::Cordoned),
        "drain" => world.edit_node(rest, |it| it.scheduling = Scheduling::Draining),
        "uncordon" => world.edit_node(rest, |it| it.scheduling = Scheduling::Open),
        "remove" => {
            world.nodes.remove(rest);
            world.node_records.remove(rest);
            world.planner.delete(now, Key::Node(rest));
        }
        "behave" => behave(world, rest),
        "takeover" => world.takeover(),
        "advance" => world.advance(duration(rest)),
        "show" => world.show(),
        "explain" => {
            let (workload, ordinal) = rest.rsplit_once('-').unwrap();
            let why = world.planner.explain(now, world.wall, workload, ordinal.parse().unwrap()).unwrap();
            for line in why.to_string().lines() {
                world.say(format!("| {line}"));
            }
        }
        "running" => running(world),
        other => panic!("no such command: {other}"),
    }
}

fn behave(world: &mut World, rest: &str) {
    let mut words = rest.split(' ');
    let (workload, node) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
    let behaviour = match words.next().unwrap() {
        "good" => Behaviour::Good,
        "fails" => Behaviour::Fails,
        "hangs" => Behaviour::Hangs,
        other => panic!("no such behaviour: {other}"),
    };
    world.behaviour.push((workload, node, behaviour));
}

/// What runs in truth, whatever the server knows of it.
fn running(world: &mut World) {
    let runs = world.nodes.iter().flat_map(|(name, node)| {
        node.runs.iter().filter(|(_, it)| it.phase != Phase::Stopping).map(move |(generation, run)| {
            format!("| {}-{} really runs on {name} as {generation}", run.workload, run.ordinal)
        })
    });
    for line in runs.collect::<Vec<_>>() {
        world.say(line);
    }
}

fn add_node(world: &mut World, rest: &str) {
    let mut words = rest.split(' ');
    let name = words.next().unwrap();
    let settings: Vec<(&str, &str)> = words.map(|it| it.split_once('=').unwrap()).collect();
    world.add_node(name, |record| {
        for (key, value) in settings {
            match key {
                "zone" => record.facts.zone = value.into(),
                "region" => record.facts.region = value.into(),
                "cpu" => record.facts.cpu = value.parse().unwrap(),
                "memory" => record.facts.memory = value.parse().unwrap(),
                "without" => assert!(record.facts.features.remove(value)),
                "label" => drop(record.facts.labels.insert(value.into(), "yes".into())),
                other => panic!("no such setting: {other}"),
            }
        }
    });
}

fn add_target(world: &mut World, name: &str) {
    use hale_model::cluster::{Owner, TargetRecord};
    let text = format!("{{kind: Target, name: {name}, httpGet: {{url: \"http://127.0.0.1:9/\"}}}}");
    let record = TargetRecord {
        name: name.into(),
        document: World::document(&text),
        owner: Owner::Api,
        node: None,
        pauses: Vec::new(),
        applied_at: world.wall,
        applied_by: "ann".into(),
    };
    world.targets.insert(name.into(), record.clone());
    world.put(hale_placement::Noun::Target(Box::new(record)));
}

fn duration(text: &str) -> Duration {
    let (number, unit) = text.split_at(text.find(|it: char| it.is_alphabetic()).unwrap());
    let number: f64 = number.parse().unwrap();
    Duration::from_secs_f64(match unit {
        "ms" => number / 1000.0,
        "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        other => panic!("no such unit: {other}"),
    })
}
