//! A cluster made of nothing: nodes that beat, start what they are given and say so, around the real planner.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests, outside of a test function")]
#![allow(dead_code, clippy::allow_attributes, reason = "each test file uses its part")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    net::IpAddr,
    path::Path,
    time::Duration,
};

use hale_health::{Phase, Status, Time};
use hale_model::{
    cluster::*,
    document::{self, Document},
};
use hale_placement::{Action, Key, Noun, Options, Plan, Planner, check};
use jiff::Timestamp;

pub(crate) mod script;

/// One instance on a node.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) workload: String,
    pub(crate) ordinal: u32,
    pub(crate) digest: String,
    pub(crate) since: Time,
    pub(crate) ready: bool,
    pub(crate) phase: Phase,
    pub(crate) version: u64,
    pub(crate) stop_after: Option<Duration>,
}

/// How instances of a workload behave on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    Good,
    /// It is given up at once.
    Fails,
    /// It never becomes ready.
    Hangs,
}

#[derive(Debug)]
pub(crate) struct SimNode {
    /// Whether the network is there.
    pub(crate) linked: bool,
    pub(crate) runs: BTreeMap<u64, Run>,
    pub(crate) last_beat: Time,
    /// When the last beat that came through was sent, by the simulation's clock.
    pub(crate) last_acked: Time,
    /// How fast its clock runs.
    pub(crate) rate: f64,
    pub(crate) phase: Duration,
}

/// What is durable, and the world around it.
pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) wall: Timestamp,
    pub(crate) planner: Planner,
    pub(crate) nodes: BTreeMap<String, SimNode>,
    pub(crate) workloads: BTreeMap<String, WorkloadRecord>,
    pub(crate) node_records: BTreeMap<String, NodeRecord>,
    pub(crate) targets: BTreeMap<String, TargetRecord>,
    pub(crate) placements: BTreeMap<u64, PlacementRecord>,
    pub(crate) observed: BTreeMap<u64, ObservedRecord>,
    pub(crate) last_generation: u64,
    pub(crate) behaviour: Vec<(String, String, Behaviour)>,
    /// What was done, in words.
    pub(crate) log: String,
    pub(crate) quiet: bool,
    pub(crate) startup: Duration,
    /// Called with the real time each decision took, when set.
    pub(crate) costs: Vec<Duration>,
}

pub(crate) const BEAT: Duration = Duration::from_secs(5);

impl World {
    pub(crate) fn new() -> Self {
        let now = Time::from_secs(1000);
        Self {
            now,
            wall: "2026-01-01T00:00:00Z".parse().unwrap(),
            planner: Planner::new(now, Options { server: "s1".into(), ..Options::default() }),
            nodes: BTreeMap::new(),
            workloads: BTreeMap::new(),
            node_records: BTreeMap::new(),
            targets: BTreeMap::new(),
            placements: BTreeMap::new(),
            observed: BTreeMap::new(),
            last_generation: 0,
            behaviour: Vec::new(),
            log: String::new(),
            quiet: false,
            startup: Duration::from_secs(1),
            costs: Vec::new(),
        }
    }

    pub(crate) fn say(&mut self, line: impl AsRef<str>) {
        if !self.quiet {
            let at = self.now.since(Time::from_secs(1000)).as_secs_f64();
            writeln!(self.log, "{at:>7.1}  {}", line.as_ref()).unwrap();
        }
    }

    pub(crate) fn put(&mut self, noun: Noun) {
        self.planner.put(self.now, self.wall, noun);
    }

    pub(crate) fn add_node(&mut self, name: &str, change: impl FnOnce(&mut NodeRecord)) {
        let address: IpAddr = "127.0.0.1".parse().unwrap();
        let mut record = NodeRecord {
            name: name.into(),
            facts: NodeFacts {
                version: "0.1.0".into(),
                runtimes: BTreeSet::from(["process".to_owned()]),
                features: document::known_features(),
                address: Some(address),
                ..NodeFacts::default()
            },
            scheduling: Scheduling::Open,
            scheduling_by: None,
            condition: NodeCondition::Ready,
            condition_since: self.wall,
            joined_at: self.wall,
            failures: BTreeMap::new(),
        };
        change(&mut record);
        self.node_records.insert(name.into(), record.clone());
        self.put(Noun::Node(Box::new(record)));
        let phase = Duration::from_millis(137 * self.nodes.len() as u64 % 5000);
        self.nodes.insert(
            name.into(),
            SimNode {
                linked: true,
                runs: BTreeMap::new(),
                last_beat: self.now,
                last_acked: self.now,
                rate: 1.0,
                phase,
            },
        );
        self.planner.heard(self.now, name);
    }

    pub(crate) fn document(text: &str) -> Document {
        document::read_str("test.yaml", Path::new("/srv"), text).expect("a right file").remove(0)
    }

    pub(crate) fn apply(&mut self, text: &str) {
        let document = Self::document(text);
        let last = |it: &WorkloadRecord| it.previous.as_ref().unwrap_or(&it.document).clone();
        let record = WorkloadRecord {
            name: document.name.clone(),
            previous: self.workloads.get(&document.name).map(last),
            document,
            owner: Owner::Api,
            rolled_back: None,
            stopped: None,
            stopped_replicas: BTreeMap::new(),
            pauses: Vec::new(),
            applied_at: self.wall,
            applied_by: "ann".into(),
            adopts_all: false,
        };
        self.workloads.insert(record.name.clone(), record.clone());
        self.put(Noun::Workload(Box::new(record)));
    }

    pub(crate) fn edit_workload(&mut self, name: &str, change: impl FnOnce(&mut WorkloadRecord)) {
        let record = self.workloads.get_mut(name).unwrap();
        change(record);
        let record = record.clone();
        self.put(Noun::Workload(Box::new(record)));
    }

    pub(crate) fn edit_node(&mut self, name: &str, change: impl FnOnce(&mut NodeRecord)) {
        let record = self.node_records.get_mut(name).unwrap();
        change(record);
        let record = record.clone();
        self.put(Noun::Node(Box::new(record)));
    }

    /// Another server takes over, and knows what is durable.
    pub(crate) fn takeover(&mut self) {
        self.planner = Planner::new(self.now, Options { server: "s1".into(), ..Options::default() });
        let mut all: Vec<Noun> = Vec::new();
        all.extend(self.placements.values().cloned().map(Noun::Placement));
        all.extend(self.observed.values().cloned().map(|it| Noun::Observed(Box::new(it))));
        all.extend(self.workloads.values().cloned().map(|it| Noun::Workload(Box::new(it))));
        all.extend(self.node_records.values().cloned().map(|it| Noun::Node(Box::new(it))));
        all.extend(self.targets.values().cloned().map(|it| Noun::Target(Box::new(it))));
        let (id, last_generation) = (String::new(), self.last_generation);
        all.push(Noun::Cluster(ClusterRecord {
            id,
            epoch: 1,
            last_generation,
            last_session: 0,
            adoptable_below: 0,
        }));
        for noun in all {
            self.put(noun);
        }
    }

    /// Decides until there is nothing more to decide, checks every plan, and does what it says.
    pub(crate) fn decide(&mut self) {
        for round in 0.. {
            let started = std::time::Instant::now();
            let plan = self.planner.decide(self.now, self.wall);
            self.costs.push(started.elapsed());
            if plan.is_empty() {
                return;
            }
            assert!(round < 50, "decisions do not settle: {:#?}", plan.actions);
            if !self.quiet {
                let broken = check(&self.planner, self.now, &plan);
                assert!(broken.is_empty(), "{broken:?}\n{}\n{:#?}", self.log, plan.actions);
            }
            self.carry_out(&plan);
        }
    }

    pub(crate) fn carry_out(&mut self, plan: &Plan) {
        if let Some(last) = plan.last_generation {
            assert!(last > self.last_generation, "generations rise");
            self.last_generation = last;
        }
        for action in &plan.actions {
            if !self.quiet {
                let words = self.words(action);
                self.say(words);
            }
            match action.clone() {
                Action::Place(it) => {
                    self.check_fence(&it);
                    self.placements.insert(it.generation, it);
                }
                Action::Withdraw(it) => drop(self.placements.insert(it.generation, it)),
                Action::Regrant(it) => {
                    for from in &it.from {
                        self.placements.remove(from);
                        self.observed.remove(from);
                    }
                    self.observed.extend(it.observed.map(|it| (it.generation, *it)));
                    self.placements.insert(it.placement.generation, it.placement);
                }
                Action::Forget(generation) => {
                    self.placements.remove(&generation);
                    self.observed.remove(&generation);
                }
                Action::Node(it) => it.apply(self.node_records.get_mut(&it.name).unwrap()),
                Action::Workload(it) => assert!(it.apply(self.workloads.get_mut(it.name()).unwrap())),
                Action::Target(it) => it.apply(self.targets.get_mut(&it.name).unwrap()),
                Action::Event(_) => {}
            }
        }
    }

    fn words(&self, action: &Action) -> String {
        match action {
            Action::Place(it) => {
                let replaces = it.replaces.map(|it| format!(", replaces {it}")).unwrap_or_default();
                let (name, cause) = (format!("{}-{}", it.workload, it.ordinal), it.cause.as_str());
                format!("place {name} on {} as {} ({cause}{replaces})", it.node, it.generation)
            }
            Action::Withdraw(it) => {
                let PlacementState::Withdrawn { reason, .. } = &it.state else {
                    panic!("withdrawn is withdrawn")
                };
                format!(
                    "withdraw {} ({}-{} on {}): {reason}",
                    it.generation, it.workload, it.ordinal, it.node
                )
            }
            Action::Regrant(it) => {
                let to = &it.placement;
                let name = format!("{}-{}", to.workload, to.ordinal);
                format!("regrant {:?} to {} ({name} on {}): {}", it.from, to.generation, to.node, to.reason)
            }
            Action::Forget(it) => format!("forget {it}"),
            Action::Node(it) => match (&it.condition, &it.failures) {
                (Some((condition, _)), _) => format!("node {} is {}", it.name, condition.as_str()),
                (_, failures) => {
                    let failures =
                        failures.iter().flatten().map(|(name, it)| format!("{name} {:.2}", it.weight));
                    format!("node {} is blamed for {}", it.name, failures.collect::<Vec<_>>().join(", "))
                }
            },
            Action::Workload(it) => match **it {
                hale_placement::WorkloadEdit::Updated { .. } => format!("workload {} is updated", it.name()),
                hale_placement::WorkloadEdit::RolledBack { .. } => {
                    format!("workload {} goes back", it.name())
                }
            },
            Action::Target(it) => {
                format!("target {} is probed by {}", it.name, it.node.as_deref().unwrap_or("nobody"))
            }
            Action::Event(it) => format!("  ~ {} {}: {}", it.data.kind(), it.subject, it.data.message()),
        }
    }

    pub(crate) fn behaves(&self, workload: &str, node: &str) -> Behaviour {
        let found = self.behaviour.iter().rev().find(|(w, n, _)| w == workload && (n == node || n == "*"));
        found.map_or(Behaviour::Good, |(_, _, it)| *it)
    }

    /// Lets time pass in steps of a quarter of a second.
    pub(crate) fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        while self.now < until {
            let step = Duration::from_millis(250).min(until.since(self.now));
            self.now += step;
            self.wall = self.wall.checked_add(jiff::SignedDuration::try_from(step).unwrap()).unwrap();
            self.step_nodes();
            self.decide();
        }
    }

    fn step_nodes(&mut self) {
        let names: Vec<String> = self.nodes.keys().cloned().collect();
        for name in names {
            self.stop_unheard(&name);
            if !self.nodes[&name].linked {
                continue;
            }
            let (now, node) = (self.now, self.nodes.get_mut(&name).unwrap());
            if now.since(node.last_beat) >= BEAT {
                node.last_beat = now;
                self.beat(&name);
            }
            self.serve(&name);
        }
    }

    pub(crate) fn beat(&mut self, name: &str) {
        let node = self.nodes.get_mut(name).unwrap();
        node.last_acked = self.now;
        self.planner.heard(self.now, name);
    }

    /// The keeper stops what may not run without a server (S9), by its own clock.
    fn stop_unheard(&mut self, name: &str) {
        let now = self.now;
        let node = self.nodes.get_mut(name).unwrap();
        let silent = now.since(node.last_acked).mul_f64(node.rate);
        for run in node.runs.values_mut().filter(|it| it.stop_after.is_some_and(|after| silent > after)) {
            (run.phase, run.ready) = (Phase::Stopping, false);
        }
    }

    /// The node does what is desired of it and says what it sees.
    fn serve(&mut self, name: &str) {
        let mine: Vec<PlacementRecord> =
            self.placements.values().filter(|it| it.node == name).cloned().collect();
        let now = self.now;
        for placement in &mine {
            let node = self.nodes.get_mut(name).unwrap();
            for from in &placement.continues {
                if let Some(mut run) = node.runs.remove(from) {
                    run.digest.clone_from(&placement.digest);
                    node.runs.insert(placement.generation, run);
                }
            }
            let running = node.runs.contains_key(&placement.generation);
            match (&placement.state, running) {
                (PlacementState::Wanted, false) => {
                    let spec = self.workloads.get(&placement.workload).and_then(|it| it.document.workload());
                    let run = Run {
                        workload: placement.workload.clone(),
                        ordinal: placement.ordinal,
                        digest: placement.digest.clone(),
                        since: now,
                        ready: false,
                        phase: Phase::Starting,
                        version: 0,
                        // It ends as late as it may.
                        stop_after: spec.and_then(|it| {
                            Some(it.disconnect.stop_after? + it.policy.stop.drain + it.policy.stop.grace)
                        }),
                    };
                    self.nodes.get_mut(name).unwrap().runs.insert(placement.generation, run);
                }
                (PlacementState::Withdrawn { .. }, _) => {
                    self.nodes.get_mut(name).unwrap().runs.remove(&placement.generation);
                    self.placements.remove(&placement.generation);
                    self.observed.remove(&placement.generation);
                    self.planner.delete(now, Key::Observed(placement.generation));
                    self.planner.delete(now, Key::Placement(placement.generation));
                }
                _ => {}
            }
        }
        self.observe(name);
    }

    fn observe(&mut self, name: &str) {
        let (now, generations): (_, Vec<u64>) = (self.now, self.nodes[name].runs.keys().copied().collect());
        for generation in generations {
            let Some(placement) = self.placements.get(&generation).cloned() else {
                self.nodes.get_mut(name).unwrap().runs.remove(&generation);
                continue;
            };
            let behaves = self.behaves(&placement.workload, name);
            let started = now.since(self.nodes[name].runs[&generation].since) >= self.startup;
            let stopped = self.workloads.get(&placement.workload).is_some_and(|it| it.stopped.is_some());
            let (phase, ready) = match behaves {
                _ if stopped => (Phase::Stopped, false),
                Behaviour::Good if started => (Phase::Running, true),
                Behaviour::Good | Behaviour::Hangs => (Phase::Starting, false),
                Behaviour::Fails => (Phase::Failed, false),
            };
            let run = self.nodes.get_mut(name).unwrap().runs.get_mut(&generation).unwrap();
            if run.phase == phase && run.ready == ready && run.version > 0 {
                continue;
            }
            (run.phase, run.ready, run.version) = (phase, ready, run.version + 1);
            let record = observed(&placement, run, self.wall);
            self.observed.insert(generation, record.clone());
            self.put(Noun::Observed(Box::new(record)));
        }
    }

    /// Of what stops by itself (S9) no other is started while it may still run where nobody hears it, whatever the
    /// planner believes.
    fn check_fence(&self, new: &PlacementRecord) {
        let anew = matches!(new.cause, PlacementCause::NodeLost | PlacementCause::Wanted);
        for (name, node) in self.nodes.iter().filter(|(_, it)| !it.linked) {
            let lost = self.node_records[name].condition == NodeCondition::Lost;
            let same =
                node.runs.values().filter(|it| it.workload == new.workload && it.ordinal == new.ordinal);
            let alive = same.filter(|it| it.stop_after.is_some() && it.phase != Phase::Stopping).count();
            assert!(
                alive == 0 || !(anew || lost),
                "{}-{} still runs on {name}\n{}",
                new.workload,
                new.ordinal,
                self.log
            );
        }
    }

    /// Ready replicas of a workload, by ordinal, on nodes that are linked.
    pub(crate) fn ready(&self, workload: &str) -> BTreeSet<u32> {
        let runs = self.nodes.values().filter(|it| it.linked).flat_map(|it| it.runs.values());
        runs.filter(|it| it.workload == workload && it.ready).map(|it| it.ordinal).collect()
    }

    pub(crate) fn show(&mut self) {
        let lines: Vec<String> = self
            .placements
            .values()
            .map(|it| {
                let seen = self.observed.get(&it.generation);
                let seen = seen.map_or("unseen", |it| if it.ready { "ready" } else { it.phase.as_str() });
                let state = if it.wanted() { "" } else { " withdrawn" };
                format!("| {}-{} on {} as {} {seen}{state}", it.workload, it.ordinal, it.node, it.generation)
            })
            .collect();
        for line in lines {
            self.say(line);
        }
    }
}

pub(crate) fn observed(placement: &PlacementRecord, run: &Run, wall: Timestamp) -> ObservedRecord {
    ObservedRecord {
        generation: placement.generation,
        workload: placement.workload.clone(),
        ordinal: placement.ordinal,
        node: placement.node.clone(),
        digest: run.digest.clone(),
        incarnation: 1,
        phase: run.phase,
        ready: run.ready,
        serving: matches!(run.phase, Phase::Running | Phase::Starting | Phase::Unhealthy),
        draining: false,
        damped: false,
        restarting: false,
        status: if run.ready { Status::Healthy } else { Status::Degraded },
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
        version: run.version,
    }
}
