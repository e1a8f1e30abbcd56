//! A made-up world around a workload: it spawns, stops and probes as told, in made-up time, and writes down what was
//! decided.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use crate::*;

/// How a replica behaves.
#[derive(Debug, Clone, Default)]
pub(crate) struct Behaviour {
    /// By probe: why it fails; a probe that is not here succeeds.
    pub(crate) fails: BTreeMap<ProbeKind, Reason>,
    /// Whether checks hang for longer than anyone waits.
    pub(crate) hangs: bool,
    /// How long a run lasts and how it ends.
    pub(crate) exits: Option<(Duration, Exit)>,
    /// Why it can't be started; whether that is permanent.
    pub(crate) cannot_start: Option<bool>,
    /// Whether that is not its own fault.
    pub(crate) excused: bool,
    /// How long it takes from the stop signal to the end.
    pub(crate) stops_in: Duration,
    /// How long requests are in flight once it is not ready.
    pub(crate) drains_in: Duration,
}

#[derive(Debug)]
struct Probing {
    incarnation: Incarnation,
    next: Time,
}

pub(crate) struct Sim {
    pub(crate) it: Workload,
    pub(crate) now: Time,
    pub(crate) log: String,
    pub(crate) all: Vec<(Time, u32, Decision)>,
    pub(crate) behaviour: BTreeMap<u32, Behaviour>,
    policy: ReplicaPolicy,
    probing: BTreeMap<(u32, ProbeKind), Probing>,
    /// Inputs to come; the number keeps those of one moment in order.
    agenda: BTreeMap<(Time, u64), (u32, Input)>,
    number: u64,
}

impl Sim {
    pub(crate) fn new(replicas: u32, together: WorkloadPolicy, policy: ReplicaPolicy) -> Self {
        let it = Workload::new(together, policy.clone(), 1);
        let mut sim = Self {
            it,
            now: Time::ZERO,
            log: String::new(),
            all: Vec::new(),
            behaviour: BTreeMap::new(),
            policy,
            probing: BTreeMap::new(),
            agenda: BTreeMap::new(),
            number: 0,
        };
        sim.with(|it, now, out| it.set_replicas(now, replicas, out));
        sim.advance(Duration::ZERO);
        sim
    }

    pub(crate) fn of(policy: ReplicaPolicy) -> Self {
        Self::new(1, WorkloadPolicy::default(), policy)
    }

    pub(crate) fn be(&mut self, ordinal: u32) -> &mut Behaviour {
        self.behaviour.entry(ordinal).or_default()
    }

    pub(crate) fn fail(&mut self, ordinal: u32, kind: ProbeKind) {
        self.be(ordinal).fails.insert(kind, Reason::Timeout);
    }

    pub(crate) fn mend(&mut self, ordinal: u32) {
        self.behaviour.remove(&ordinal);
    }

    pub(crate) fn with(&mut self, act: impl FnOnce(&mut Workload, Time, &mut Vec<(u32, Decision)>)) {
        let mut out = Vec::new();
        act(&mut self.it, self.now, &mut out);
        for (ordinal, decision) in out {
            self.carry_out(ordinal, decision);
        }
    }

    pub(crate) fn tell(&mut self, ordinal: u32, input: Input) -> Result<Handled, Impossible> {
        let mut result = Ok(Handled::Dropped);
        self.with(|it, now, out| result = it.handle(now, ordinal, input, out));
        self.advance(Duration::ZERO);
        result
    }

    pub(crate) fn tell_all(&mut self, input: WorkloadInput) {
        self.with(|it, now, out| it.handle_all(now, input, out));
        self.advance(Duration::ZERO);
    }

    pub(crate) fn exit(&mut self, ordinal: u32, exit: Exit) {
        let incarnation = self.replica(ordinal).incarnation();
        self.tell(ordinal, Input::Exited { incarnation, exit }).unwrap();
        self.tell(ordinal, Input::Gone { incarnation }).unwrap();
    }

    pub(crate) fn replica(&self, ordinal: u32) -> &Replica {
        self.it.replica(ordinal).unwrap()
    }

    pub(crate) fn phase(&self, ordinal: u32) -> Phase {
        self.replica(ordinal).phase()
    }

    pub(crate) fn held(&self, ordinal: u32) -> Option<HoldBy> {
        self.replica(ordinal).held_by().map(|hold| hold.by)
    }

    pub(crate) fn spawns(&self, ordinal: u32) -> Vec<Time> {
        let spawn = |it: &&(Time, u32, Decision)| it.1 == ordinal && matches!(it.2, Decision::Spawn { .. });
        self.all.iter().filter(spawn).map(|it| it.0).collect()
    }

    pub(crate) fn notes(&self) -> impl Iterator<Item = &Note> {
        self.all.iter().filter_map(|(.., it)| if let Decision::Note(note) = it { Some(note) } else { None })
    }

    pub(crate) fn take_log(&mut self) -> String {
        std::mem::take(&mut self.log)
    }

    pub(crate) fn secs(&mut self, secs: f64) {
        self.advance(Duration::from_secs_f64(secs));
    }

    /// Lets so much time pass, doing all that falls due on the way.
    pub(crate) fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        for _ in 0..1_000_000 {
            let agenda = self.agenda.first_key_value().map(|((at, _), _)| *at);
            let checks = self.probing.values().map(|it| it.next).min();
            let tick = self.it.next_deadline();
            let Some(next) = [agenda, checks, tick].into_iter().flatten().min().filter(|at| *at <= end)
            else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            if agenda == Some(next) {
                let (_, (ordinal, input)) = self.agenda.pop_first().unwrap();
                self.with(|it, now, out| {
                    let _ = it.handle(now, ordinal, input, out);
                });
            } else if checks == Some(next) {
                self.check(next);
            } else {
                self.with(|it, now, out| it.tick(now, out));
                assert!(self.it.next_deadline().is_none_or(|due| due > self.now), "a deadline that stays");
            }
        }
        panic!("time stands still at {:?}", self.now);
    }

    fn check(&mut self, at: Time) {
        let (&(ordinal, probe), probing) = self.probing.iter_mut().find(|(_, it)| it.next == at).unwrap();
        let timing = *self.policy.probe(probe).unwrap();
        let behaviour = self.behaviour.get(&ordinal).cloned().unwrap_or_default();
        let took = if behaviour.hangs { timing.timeout } else { Duration::ZERO };
        probing.next = at + timing.period.max(took);
        let incarnation = probing.incarnation;
        let reason = behaviour.fails.get(&probe).copied().or(behaviour.hangs.then_some(Reason::Timeout));
        let verdict = reason.map_or(Verdict::Success, |it| Verdict::failure(it, it.as_str()));
        let outcome = Outcome { incarnation, probe, verdict, started_at: at, took };
        self.later(took, ordinal, Input::Outcome(outcome));
    }

    fn later(&mut self, by: Duration, ordinal: u32, input: Input) {
        self.number += 1;
        self.agenda.insert((self.now + by, self.number), (ordinal, input));
    }

    fn carry_out(&mut self, ordinal: u32, decision: Decision) {
        self.write(ordinal, &decision);
        let behaviour = self.behaviour.get(&ordinal).cloned().unwrap_or_default();
        match &decision {
            Decision::Spawn { incarnation, .. } => {
                let incarnation = *incarnation;
                if let Some(permanent) = behaviour.cannot_start {
                    let (detail, excused) = ("web: not found".to_owned(), behaviour.excused);
                    self.later(
                        Duration::ZERO,
                        ordinal,
                        Input::SpawnFailed { incarnation, permanent, excused, detail },
                    );
                } else {
                    self.later(Duration::ZERO, ordinal, Input::Spawned { incarnation });
                    if let Some((after, exit)) = behaviour.exits {
                        self.later(after, ordinal, Input::Exited { incarnation, exit });
                        self.later(after, ordinal, Input::Gone { incarnation });
                    }
                }
            }
            Decision::StartProbe { kind, incarnation, first_after, .. } => {
                let next = self.now + *first_after;
                self.probing.insert((ordinal, *kind), Probing { incarnation: *incarnation, next });
            }
            Decision::StopProbes { only, .. } => {
                self.probing.retain(|(it, kind), _| *it != ordinal || only.is_some_and(|only| only != *kind));
            }
            Decision::Drain { incarnation, .. } => {
                self.later(behaviour.drains_in, ordinal, Input::Drained { incarnation: *incarnation });
            }
            Decision::Examine { incarnation, .. } => {
                self.later(Duration::ZERO, ordinal, Input::Examined { incarnation: *incarnation });
            }
            Decision::Stop { incarnation, grace, .. } => {
                let incarnation = *incarnation;
                let (after, exit) = if behaviour.stops_in > *grace {
                    (*grace, Exit::signal(9))
                } else {
                    (behaviour.stops_in, Exit::signal(15))
                };
                self.later(after, ordinal, Input::Exited { incarnation, exit });
                self.later(after, ordinal, Input::Gone { incarnation });
            }
            _ => {}
        }
        self.all.push((self.now, ordinal, decision));
    }

    fn write(&mut self, ordinal: u32, decision: &Decision) {
        let at = self.now.since(Time::ZERO).as_secs_f64();
        let text = match decision {
            Decision::Spawn { incarnation, reason } => format!("SPAWN #{incarnation}: {reason}"),
            Decision::StartProbe { kind, incarnation, first_after, spread } => {
                format!(
                    "PROBE {kind} #{incarnation} after {first_after:?}{}",
                    if *spread { ", spread" } else { "" }
                )
            }
            Decision::StopProbes { incarnation, only } => {
                format!("PROBE NO MORE {} #{incarnation}", only.map_or("all", ProbeKind::as_str))
            }
            Decision::Drain { incarnation, at_most } => format!("DRAIN #{incarnation} at most {at_most:?}"),
            Decision::Examine { incarnation, at_most } => {
                format!("EXAMINE #{incarnation} at most {at_most:?}")
            }
            Decision::Stop { incarnation, grace, reason } => {
                format!("STOP #{incarnation}, grace {grace:?}: {reason}")
            }
            Decision::Ready(it) => {
                let kept = if it.kept_as_last { " (kept)" } else { "" };
                format!("{}{kept}: {}", if it.ready { "READY" } else { "NOT READY" }, it.reason)
            }
            Decision::Transition { from, to, reason, .. } => format!("{from} -> {to}: {reason}"),
            Decision::Note(note) => format!("  {note:?}"),
            Decision::Removed => "REMOVED".to_owned(),
        };
        let _ = writeln!(self.log, "{at:>8.3} web-{ordinal} {text}");
    }
}
