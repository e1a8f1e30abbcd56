//! A driver of made-up time that believes nothing: it keeps its own books of what the desk does, and compares.

use std::collections::{BTreeMap, BTreeSet};

use hale_api::runs::{Run, RunState};
use hale_health::Time;
use hale_model::spec::ResponderLimits;

use super::{
    super::{Breaker, BreakerState, Effect, Note},
    kit::{Bench, ended, lines, raw, responder, secs},
};
use crate::exec::{Ended, How};

pub(super) const CLUSTERS: usize = 4;
pub(super) const FAULTS: [&str; 4] = ["act", "heal", "approve", "observe"];

/// Something that happens.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Hear { cluster: usize, fault: usize, name: u8 },
    End { which: usize, how: How, cost: Option<f64> },
    Send { which: usize, ok: bool },
    Recover { cluster: usize, name: u8 },
    Decide { which: usize, yes: bool },
    Pass(u64),
    Restart,
}

/// The desk, and what a suspicious driver knows.
pub(super) struct World {
    pub(super) bench: Bench,
    pub(super) log: Vec<String>,
    /// Programs that run, with their clusters, and what is being sent.
    running: BTreeMap<String, String>,
    sending: BTreeSet<String>,
    started: BTreeSet<String>,
    finals: BTreeMap<String, RunState>,
    /// When programs were started, on a clock that no restart resets.
    starts: Vec<(String, u64)>,
    clock: u64,
    open_told: BTreeMap<&'static str, bool>,
    /// How often each other cluster was served since this one could have been.
    passed_over: BTreeMap<String, BTreeMap<String, u32>>,
}

impl World {
    pub(super) fn new(limits: ResponderLimits) -> Self {
        Self {
            bench: Bench::new(responder(CLUSTERS, limits)),
            log: Vec::new(),
            running: BTreeMap::new(),
            sending: BTreeSet::new(),
            started: BTreeSet::new(),
            finals: BTreeMap::new(),
            starts: Vec::new(),
            clock: 0,
            open_told: BTreeMap::new(),
            passed_over: BTreeMap::new(),
        }
    }

    /// One thing happens; then the desk is asked what to do, as the driver asks after everything.
    pub(super) fn step(&mut self, step: Step) {
        let effects = self.happen(step);
        self.learn(&effects, None);
        let swept = self.bench.sweep_effects();
        self.learn(&swept, None);
        let before = self.before_next();
        let next = self.bench.next_effects();
        self.learn(&next, Some(&before));
        self.compare();
    }

    fn happen(&mut self, step: Step) -> Vec<Effect> {
        let nth = |of: Vec<String>, which: usize| (!of.is_empty()).then(|| of[which % of.len()].clone());
        match step {
            Step::Hear { cluster, fault, name } => {
                self.bench.hear_raw(&format!("c{cluster:02}"), raw(FAULTS[fault], &format!("p{name}"))).1
            }
            Step::End { which, how, cost } => {
                let Some(run) = nth(self.running.keys().cloned().collect(), which) else { return Vec::new() };
                self.running.remove(&run);
                self.bench.end_effects(&run, Ended { cost, ..ended(how) })
            }
            Step::Send { which, ok } => {
                let Some(run) = nth(self.sending.iter().cloned().collect(), which) else { return Vec::new() };
                self.sending.remove(&run);
                self.bench.sent_effects(&run, if ok { Ok(()) } else { Err("no".to_owned()) })
            }
            Step::Recover { cluster, name } => {
                self.bench.recover_effects(&format!("c{cluster:02}"), &format!("p{name}"))
            }
            Step::Decide { which, yes } => {
                let waiting = self.bench.runs.values().filter(|it| it.state == RunState::AwaitingApproval);
                let Some(run) = nth(waiting.map(|it| it.id.clone()).collect(), which) else {
                    return Vec::new();
                };
                self.bench.decide_effects(&run, yes).unwrap_or_default()
            }
            Step::Pass(by) => {
                self.bench.pass(secs(by));
                self.clock += by;
                Vec::new()
            }
            Step::Restart => {
                self.running.clear();
                // What was being sent is sent again: nobody knows whether it arrived.
                for run in std::mem::take(&mut self.sending) {
                    self.started.remove(&run);
                }
                self.passed_over.clear();
                // What a restart says of breakers is not told again: each opening is the old one or a new one.
                self.open_told.clear();
                self.bench.restart_effects()
            }
        }
    }

    fn before_next(&self) -> (BreakerState, BTreeSet<String>) {
        let limits = &self.bench.responder.limits;
        let may = |cluster: &String| {
            self.bench.desk.depth(cluster) > 0
                && self.active(cluster) < limits.max_per_cluster as usize
                && self.within_budget(cluster)
        };
        let clusters = (0..CLUSTERS).map(|it| format!("c{it:02}")).filter(may).collect();
        (self.bench.desk.breaker(Breaker::Failure, self.bench.now), clusters)
    }

    fn active(&self, cluster: &str) -> usize {
        self.running.values().filter(|it| *it == cluster).count()
    }

    fn within_budget(&self, cluster: &str) -> bool {
        let lately =
            self.starts.iter().filter(|(name, at)| name == cluster && self.clock - at < 3600).count();
        self.bench.responder.limits.runs_per_hour.is_none_or(|it| lately < it as usize)
    }

    fn learn(&mut self, effects: &[Effect], next: Option<&(BreakerState, BTreeSet<String>)>) {
        self.log.extend(lines(effects));
        let mut probes = 0;
        for effect in effects {
            match effect {
                Effect::PutRun(run) => self.learn_run(run),
                Effect::Start(it) => {
                    let (breaker, eligible) = next.expect("nothing is started but by next");
                    let run = &it.run;
                    assert!(self.started.insert(run.id.clone()), "{} was started twice", run.id);
                    assert_eq!(self.bench.runs[&run.id].state, RunState::Running);
                    assert!(self.active(&run.cluster) < self.bench.responder.limits.max_per_cluster as usize);
                    if run.step == 0 {
                        probes += 1;
                        match breaker {
                            BreakerState::Closed => {}
                            BreakerState::HalfOpen => assert_eq!(probes, 1, "one probe"),
                            BreakerState::Open => panic!("{} was started while the breaker is open", run.id),
                        }
                        assert!(self.within_budget(&run.cluster), "{} is over the budget", run.id);
                        self.take_turn(&run.cluster, eligible);
                    }
                    self.running.insert(run.id.clone(), run.cluster.clone());
                    self.starts.push((run.cluster.clone(), self.clock));
                }
                Effect::Send { run, .. } => {
                    assert!(self.started.insert(run.clone()), "{run} was sent twice");
                    self.sending.insert(run.clone());
                }
                Effect::Note(Note::Breaker { breaker, state, .. }) => {
                    let open = *state == BreakerState::Open;
                    if *state != BreakerState::HalfOpen {
                        let before = self.open_told.insert(breaker.as_str(), open);
                        assert_ne!(before, Some(open), "{} was told twice", breaker.as_str());
                    }
                }
                _ => {}
            }
        }
    }

    fn learn_run(&mut self, run: &Run) {
        if let Some(state) = self.finals.get(&run.id) {
            assert_eq!(*state, run.state, "{} has left its final state", run.id);
        } else if run.state.is_final() {
            assert!(run.finished_at.is_some(), "{} has no time of its end", run.id);
            self.finals.insert(run.id.clone(), run.state);
        }
    }

    /// While a cluster could have its turn, no other has two.
    fn take_turn(&mut self, served: &str, eligible: &BTreeSet<String>) {
        self.passed_over.remove(served);
        self.passed_over.retain(|it, _| eligible.contains(it));
        for waits in eligible.iter().filter(|it| *it != served) {
            if self.bench.desk.depth(waits) == 0 {
                continue;
            }
            let times =
                self.passed_over.entry(waits.clone()).or_default().entry(served.to_owned()).or_default();
            *times += 1;
            assert!(*times <= 1, "{waits} waited while {served} had two turns");
        }
    }

    fn compare(&self) {
        let Bench { desk, responder, now, .. } = &self.bench;
        let limits = &responder.limits;
        assert!(desk.queued_total() <= limits.global_queue_size as usize);
        assert_eq!(desk.active_total(), self.running.len());
        assert!(self.running.len() <= limits.max_concurrent_runs as usize);
        let mut total = 0;
        for cluster in (0..CLUSTERS).map(|it| format!("c{it:02}")) {
            let of = |state| self.bench.runs.values().filter(move |it| it.state == state && it.step == 0);
            let queued = of(RunState::Queued).filter(|it| it.cluster == cluster).count();
            assert_eq!(desk.depth(&cluster), queued);
            assert!(queued <= limits.queue_size as usize);
            let waits = of(RunState::AwaitingApproval).filter(|it| it.cluster == cluster).count();
            assert!(waits <= limits.queue_size as usize);
            assert_eq!(desk.active(&cluster), self.active(&cluster));
            total += queued;
        }
        assert_eq!(desk.queued_total(), total);
        let open = self.bench.runs.values().filter(|it| !it.state.is_final()).count();
        assert_eq!(desk.runs().count(), open, "what the desk holds is what is on record");
        // Nothing is due that was not done.
        assert!(desk.wake_at(*now).is_none_or(|it: Time| it > now.time));
    }
}
