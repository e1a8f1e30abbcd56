//! Ten thousand alerts at once over fifty clusters (R5, R6).

use std::collections::BTreeMap;

use hale_api::runs::RunState;
use hale_model::spec::ResponderLimits;

use super::{
    super::Effect,
    kit::{Bench, ended, raw, responder, secs},
};
use crate::exec::How;

struct Burst {
    bench: Bench,
    running: Vec<String>,
    starts: BTreeMap<String, usize>,
}

impl Burst {
    fn new(limits: ResponderLimits) -> Self {
        Self { bench: Bench::new(responder(50, limits)), running: Vec::new(), starts: BTreeMap::new() }
    }

    fn hear(&mut self, cluster: usize, name: usize) {
        self.bench.hear_raw(&format!("c{cluster:02}"), raw("act", &format!("pod-{name}")));
        self.start();
    }

    fn start(&mut self) {
        for effect in self.bench.next_effects() {
            if let Effect::Start(it) = effect {
                *self.starts.entry(it.run.cluster).or_default() += 1;
                self.running.push(it.run.id);
            }
        }
        let limits = &self.bench.responder.limits;
        let desk = &self.bench.desk;
        assert!(self.running.len() <= limits.max_concurrent_runs as usize);
        assert!(desk.queued_total() <= limits.global_queue_size as usize);
        for source in &self.bench.responder.sources {
            assert!(desk.depth(&source.name) <= limits.queue_size as usize);
            assert!(desk.active(&source.name) <= limits.max_per_cluster as usize);
        }
    }

    fn end_oldest(&mut self) {
        if !self.running.is_empty() {
            let run = self.running.remove(0);
            self.bench.end_effects(&run, ended(How::Exited(0)));
        }
        self.start();
    }

    fn counted(&self) -> BTreeMap<&'static str, usize> {
        let mut counted = BTreeMap::new();
        for run in self.bench.runs.values() {
            *counted.entry(run.state.as_str()).or_default() += 1;
        }
        counted
    }
}

#[test]
fn of_ten_thousand_alerts_each_is_accounted_for_and_each_cluster_gets_the_same() {
    let mut burst = Burst::new(ResponderLimits::default());
    for at in 0..10_000 {
        burst.hear(at % 50, at);
        if at % 20 == 0 {
            burst.end_oldest();
        }
    }
    while !burst.running.is_empty() {
        burst.end_oldest();
    }
    let counted = burst.counted();
    assert_eq!(counted.values().sum::<usize>(), 10_000);
    assert_eq!(counted.len(), 2, "{counted:?}");
    assert_eq!(counted["succeeded"], burst.starts.values().sum::<usize>());
    assert_eq!(burst.starts.len(), 50);
    let (least, most) = (burst.starts.values().min(), burst.starts.values().max());
    assert!(most.unwrap() - least.unwrap() <= 2, "{:?}", burst.starts);
}

#[test]
fn a_cluster_that_floods_takes_nothing_from_the_others() {
    let mut burst = Burst::new(ResponderLimits { global_queue_size: 60, ..ResponderLimits::default() });
    // Of each hundred alerts 51 come from one cluster, and one from each of the rest.
    for round in 0..100 {
        for at in 0..100 {
            burst.hear(if at % 2 == 0 { 0 } else { at / 2 }, round * 100 + at);
        }
        // Work for one of each.
        for _ in 0..50 {
            burst.end_oldest();
            burst.bench.pass(secs(1));
        }
    }
    while !burst.running.is_empty() {
        burst.end_oldest();
    }
    let dropped = burst.bench.runs.values().filter(|it| it.state == RunState::Dropped);
    let of_others = dropped.filter(|it| it.cluster != "c00").count();
    assert_eq!(of_others, 0);
    let quiet = burst.starts.iter().filter(|(name, _)| *name != "c00").map(|it| it.1);
    assert!(quiet.clone().all(|it| *it == 100), "{:?}", burst.starts);
    assert_eq!(quiet.count(), 49);
}
