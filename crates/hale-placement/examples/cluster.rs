//! A thousand nodes and ten thousand replicas on the real planner (S10): how long it takes to decide once a node is lost
//! and its time has come, quietly and while readiness flaps everywhere; and that mass loss is answered at the rate that
//! is allowed. Run by `cargo xtask bench placement`.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and stops where it is wrong"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::{Duration, Instant},
};

use hale_health::{Phase, Status, Time};
use hale_model::{cluster::*, document};
use hale_placement::{Action, Key, Noun, Options, Planner};
use jiff::Timestamp;

const NODES: usize = 1000;
const WORKLOADS: usize = 500;
const REPLICAS: usize = 20;
/// Changes of readiness a second while it flaps: 15,000 replicas whose readiness changes every 50 s.
const FLAPS: usize = 300;

struct Cluster {
    planner: Planner,
    now: Time,
    wall: Timestamp,
    records: BTreeMap<String, NodeRecord>,
    placements: BTreeMap<u64, PlacementRecord>,
    observed: BTreeMap<u64, ObservedRecord>,
    silent: BTreeSet<String>,
    /// Of each decision in which a lost node's replicas were placed: how long it took; and of all others.
    lost: Vec<Duration>,
    other: Vec<Duration>,
    /// Nodes given up, and when.
    given_up: Vec<(Time, String)>,
    flap: usize,
}

impl Cluster {
    fn new() -> Self {
        let (now, wall) = (Time::from_secs(100), "2026-01-01T00:00:00Z".parse().unwrap());
        let mut planner = Planner::new(now, Options::default());
        let mut records = BTreeMap::new();
        let features = document::known_features();
        for number in 0..NODES {
            let record = node(number, wall, &features);
            planner.put(now, wall, Noun::Node(Box::new(record.clone())));
            planner.heard(now, &record.name);
            records.insert(record.name.clone(), record);
        }
        for number in 0..WORKLOADS {
            planner.put(now, wall, Noun::Workload(Box::new(workload(number, wall))));
        }
        Self {
            planner,
            now,
            wall,
            records,
            placements: BTreeMap::new(),
            observed: BTreeMap::new(),
            silent: BTreeSet::new(),
            lost: Vec::new(),
            other: Vec::new(),
            given_up: Vec::new(),
            flap: 0,
        }
    }

    /// One second: beats, flaps, decisions, and what comes of them.
    fn second(&mut self, flaps: usize) {
        self.now += Duration::from_secs(1);
        self.wall = self.wall.checked_add(jiff::SignedDuration::from_secs(1)).unwrap();
        let beats = self
            .records
            .keys()
            .enumerate()
            .filter(|(at, _)| at % 5 == (self.now.as_nanos() / 1_000_000_000 % 5) as usize);
        let beats: Vec<String> =
            beats.map(|(_, it)| it.clone()).filter(|it| !self.silent.contains(it)).collect();
        for name in &beats {
            self.planner.heard(self.now, name);
        }
        self.flap(flaps);
        self.decide();
    }

    /// Readiness changes that have come since the last decision are part of what the next one costs.
    fn flap(&mut self, flaps: usize) {
        let generations: Vec<u64> = self.observed.keys().copied().collect();
        for _ in 0..flaps {
            self.flap += 7919;
            let observed = self.observed.get_mut(&generations[self.flap % generations.len()]).unwrap();
            observed.ready = !observed.ready;
            observed.version += 1;
            let noun = Noun::Observed(Box::new(observed.clone()));
            self.planner.put(self.now, self.wall, noun);
        }
    }

    fn decide(&mut self) {
        loop {
            let begin = Instant::now();
            let plan = self.planner.decide(self.now, self.wall);
            let took = begin.elapsed();
            if plan.is_empty() {
                self.other.push(took);
                return;
            }
            let answers = plan
                .actions
                .iter()
                .any(|it| matches!(it, Action::Place(it) if it.cause == PlacementCause::NodeLost));
            if answers { &mut self.lost } else { &mut self.other }.push(took);
            for action in plan.actions {
                self.carry_out(action);
            }
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Place(placement) => {
                let old =
                    placement.replaces.and_then(|it| self.placements.get(&it)).map(|it| it.node.clone());
                if let Some(old) = old.filter(|it| !self.given_up.iter().any(|(_, known)| known == it)) {
                    self.given_up.push((self.now, old));
                }
                let observed = observed(&placement, self.wall);
                self.observed.insert(placement.generation, observed.clone());
                self.placements.insert(placement.generation, placement);
                self.planner.put(self.now, self.wall, Noun::Observed(Box::new(observed)));
            }
            Action::Withdraw(placement) if self.silent.contains(&placement.node) => {
                self.observed.remove(&placement.generation);
                self.placements.insert(placement.generation, placement);
            }
            Action::Withdraw(placement) => self.gone(placement.generation),
            Action::Node(edit) => edit.apply(self.records.get_mut(&edit.name).unwrap()),
            _ => {}
        }
    }

    fn gone(&mut self, generation: u64) {
        self.placements.remove(&generation);
        self.observed.remove(&generation);
        self.planner.delete(self.now, Key::Placement(generation));
    }

    fn heal(&mut self) {
        for name in std::mem::take(&mut self.silent) {
            self.planner.heard(self.now, &name);
            let left = self.placements.values().filter(|it| it.node == name && !it.wanted());
            for generation in left.map(|it| it.generation).collect::<Vec<_>>() {
                self.gone(generation);
            }
        }
        self.given_up.clear();
        self.second(0);
    }

    /// Loses one node after the other, and says how long the decisions took.
    fn one_by_one(&mut self, rounds: usize, flaps: usize) {
        (self.lost, self.other) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            self.silent.insert(format!("n{:04}", round * 37 % NODES));
            for _ in 0..28 {
                self.second(flaps);
            }
            self.heal();
        }
    }
}

fn node(number: usize, wall: Timestamp, features: &BTreeSet<String>) -> NodeRecord {
    NodeRecord {
        name: format!("n{number:04}"),
        facts: NodeFacts {
            version: "0.1.0".into(),
            region: format!("r{}", number % 2),
            zone: format!("z{}", number % 10),
            cpu: 16.0,
            memory: 64 << 30,
            runtimes: BTreeSet::from(["process".to_owned()]),
            features: features.clone(),
            ..NodeFacts::default()
        },
        scheduling: Scheduling::Open,
        scheduling_by: None,
        condition: NodeCondition::Ready,
        condition_since: wall,
        joined_at: wall,
        failures: BTreeMap::new(),
    }
}

fn workload(number: usize, wall: Timestamp) -> WorkloadRecord {
    let text = format!(
        "{{kind: Workload, name: w{number:03}, replicas: {REPLICAS}, process: {{command: [./serve]}}, \
         resources: {{cpu: 0.5, memory: 256Mi}}, ports: [{{name: http, port: 0}}]}}"
    );
    WorkloadRecord {
        name: format!("w{number:03}"),
        document: document::read_str("bench.yaml", Path::new("/srv"), &text).unwrap().remove(0),
        owner: Owner::Api,
        previous: None,
        rolled_back: None,
        stopped: None,
        stopped_replicas: BTreeMap::new(),
        pauses: Vec::new(),
        applied_at: wall,
        applied_by: "bench".into(),
        adopts_all: false,
    }
}

fn observed(placement: &PlacementRecord, wall: Timestamp) -> ObservedRecord {
    ObservedRecord {
        generation: placement.generation,
        workload: placement.workload.clone(),
        ordinal: placement.ordinal,
        node: placement.node.clone(),
        digest: placement.digest.clone(),
        incarnation: 1,
        phase: Phase::Running,
        ready: true,
        serving: true,
        draining: false,
        damped: false,
        restarting: false,
        status: Status::Healthy,
        since: wall,
        runtime: "process".into(),
        pid: Some(4711),
        container_id: None,
        address: None,
        ports: BTreeMap::new(),
        started_at: Some(wall),
        restarts: 0,
        last_exit: None,
        last_error: None,
        last_transition: None,
        version: 1,
    }
}

fn report(what: &str, mut times: Vec<Duration>) -> Duration {
    times.sort();
    let at =
        |share: usize| times.get(times.len() * share / 100).or(times.last()).copied().unwrap_or_default();
    let millis = |it: Duration| it.as_secs_f64() * 1000.0;
    println!(
        "{what}: {} decisions, p50 {:.2} ms, p95 {:.2} ms, longest {:.2} ms",
        times.len(),
        millis(at(50)),
        millis(at(95)),
        millis(at(100))
    );
    at(95)
}

fn main() {
    let begin = Instant::now();
    let mut cluster = Cluster::new();
    println!(
        "{NODES} nodes, {} replicas of {WORKLOADS} workloads read in {:.0?}",
        WORKLOADS * REPLICAS,
        begin.elapsed()
    );
    let begin = Instant::now();
    cluster.decide();
    println!("all placed for the first time in {:.0?}", begin.elapsed());
    assert_eq!(cluster.placements.len(), WORKLOADS * REPLICAS);

    cluster.one_by_one(100, 0);
    let quiet = report("a node is lost, its replicas placed elsewhere", std::mem::take(&mut cluster.lost));
    report("other decisions meanwhile", std::mem::take(&mut cluster.other));
    cluster.one_by_one(100, FLAPS);
    let flapping =
        report("the same while readiness flaps 300 times a second", std::mem::take(&mut cluster.lost));
    report("other decisions meanwhile", std::mem::take(&mut cluster.other));

    for number in 0..400 {
        cluster.silent.insert(format!("n{number:04}"));
    }
    let begin = cluster.now;
    for _ in 0..140 {
        cluster.second(0);
    }
    let lost = std::mem::take(&mut cluster.lost);
    report("400 nodes lost at once, by turns", lost);
    let times: Vec<Time> = cluster.given_up.iter().map(|(at, _)| *at).collect();
    for at in &times {
        let within =
            times.iter().filter(|it| **it <= *at && at.since(**it) < Duration::from_secs(10)).count();
        assert!(within <= NODES / 20, "{within} nodes were given up within 10 s");
    }
    let last = times.last().map(|it| it.since(begin)).unwrap_or_default();
    println!("{} nodes given up, the last after {last:.0?}, never more than 5 % within 10 s", times.len());
    let homeless =
        cluster.placements.values().filter(|it| it.wanted() && cluster.silent.contains(&it.node)).count();
    assert_eq!(homeless, 0, "all run elsewhere");
    let limit = Duration::from_millis(200);
    assert!(quiet < limit && flapping < limit, "S10: p50 < 200 ms, p95 < 800 ms");
}
