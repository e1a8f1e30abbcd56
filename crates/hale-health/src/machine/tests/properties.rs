//! What holds whatever happens, in whatever order.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// One thing that may happen: to a replica, how long after the last, and what.
#[derive(Debug, Clone)]
enum Happening {
    Tell(Told),
    All(WorkloadInput),
    Scale(u32),
    /// The agent is gone, and another one goes on; what each replica did meanwhile.
    Successor([Meanwhile; 3]),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Meanwhile {
    WentOn,
    Exited(i32),
    Ended(i32),
    /// The start had not been carried out, or everything was lost.
    Nowhere,
}

fn meanwhile() -> impl Strategy<Value = Meanwhile> {
    let code = prop_oneof![Just(0), Just(1)];
    prop_oneof![
        4 => Just(Meanwhile::WentOn),
        1 => code.clone().prop_map(Meanwhile::Exited),
        1 => code.prop_map(Meanwhile::Ended),
        1 => Just(Meanwhile::Nowhere),
    ]
}

#[derive(Debug, Clone)]
enum Told {
    Start(bool),
    Stop(bool),
    Restart(bool),
    Spawned,
    SpawnFailed(bool),
    Outcome(ProbeKind, u8),
    Exited(i32),
    Gone,
    StopFailed,
    Drained,
    Examined,
    Extend,
    Leaving,
    Pause(PauseScope, Option<u64>),
    Resume(PauseScope),
}

fn scope() -> impl Strategy<Value = PauseScope> {
    prop_oneof![
        Just(PauseScope::Replica),
        Just(PauseScope::Probe(ProbeKind::Liveness)),
        Just(PauseScope::Probe(ProbeKind::Readiness)),
        Just(PauseScope::Probe(ProbeKind::Startup)),
    ]
}

fn told() -> impl Strategy<Value = Told> {
    let kind = prop_oneof![Just(ProbeKind::Startup), Just(ProbeKind::Liveness), Just(ProbeKind::Readiness)];
    prop_oneof![
        1 => any::<bool>().prop_map(Told::Start),
        1 => any::<bool>().prop_map(Told::Stop),
        1 => any::<bool>().prop_map(Told::Restart),
        8 => Just(Told::Spawned),
        1 => any::<bool>().prop_map(Told::SpawnFailed),
        16 => (kind, 0u8..8).prop_map(|(kind, what)| Told::Outcome(kind, what)),
        3 => prop_oneof![Just(0), Just(1), Just(125)].prop_map(Told::Exited),
        6 => Just(Told::Gone),
        1 => Just(Told::StopFailed),
        1 => Just(Told::Drained),
        1 => Just(Told::Examined),
        1 => Just(Told::Extend),
        1 => Just(Told::Leaving),
        1 => (scope(), proptest::option::of(0u64..60)).prop_map(|(scope, until)| Told::Pause(scope, until)),
        1 => scope().prop_map(Told::Resume),
    ]
}

fn all() -> impl Strategy<Value = WorkloadInput> {
    let name = || "db".to_owned();
    prop_oneof![
        Just(WorkloadInput::Dependency(Dependency::Ok)),
        Just(WorkloadInput::Dependency(Dependency::Unknown)),
        Just(WorkloadInput::Dependency(Dependency::NotYet { name: name() })),
        Just(WorkloadInput::Dependency(Dependency::Failing { name: name() })),
        Just(WorkloadInput::Observer(Observer::Sound)),
        any::<bool>().prop_map(|confirmed| {
            WorkloadInput::Observer(Observer::Suspect { confirmed, reason: "route".to_owned() })
        }),
        Just(WorkloadInput::Observer(Observer::Blind { reason: "route".to_owned() })),
        Just(WorkloadInput::Elsewhere(Elsewhere::Unreachable)),
        Just(WorkloadInput::Elsewhere(Elsewhere::default())),
        Just(WorkloadInput::Start { by: ana() }),
        Just(WorkloadInput::Stop { by: ana() }),
        Just(WorkloadInput::Restart { by: ana(), min_ready: s(1.0), progress_deadline: s(30.0) }),
        Just(WorkloadInput::Pause(pause(None))),
        Just(WorkloadInput::Resume { by: "ana".to_owned() }),
    ]
}

fn happening() -> impl Strategy<Value = (u32, u64, Happening)> {
    let what = prop_oneof![
        30 => told().prop_map(Happening::Tell),
        2 => all().prop_map(Happening::All),
        1 => (0u32..4).prop_map(Happening::Scale),
        1 => proptest::array::uniform3(meanwhile()).prop_map(Happening::Successor),
    ];
    (0u32..3, prop_oneof![Just(0), 0u64..3_000, 0u64..90_000], what)
}

fn policy() -> impl Strategy<Value = ReplicaPolicy> {
    (
        any::<[bool; 8]>(),
        1u32..4,
        prop_oneof![Just(RestartMode::Always), Just(RestartMode::OnFailure), Just(RestartMode::Never)],
    )
        .prop_map(|([startup, liveness, readiness, wait, short, observe, retry, drain], max, mode)| {
            let kinds = [
                (startup, ProbeKind::Startup),
                (liveness, ProbeKind::Liveness),
                (readiness, ProbeKind::Readiness),
            ];
            let kinds: Vec<ProbeKind> = kinds.into_iter().filter(|it| it.0).map(|it| it.1).collect();
            let mut policy = probed(&kinds);
            policy.restart.max_restarts = max;
            policy.restart.mode = mode;
            policy.restart.on_exhausted = if wait { OnExhausted::Wait } else { OnExhausted::Fail };
            policy.restart.counts = if short { BudgetCounts::Short } else { BudgetCounts::All };
            policy.restart.retry_after = retry.then_some(s(100.0));
            policy.mode = if observe { Mode::Observe } else { Mode::Act };
            policy.stop.drain = if drain { s(5.0) } else { Duration::ZERO };
            policy
        })
}

/// What an onlooker knows of a replica.
#[derive(Default)]
struct Seen {
    phase: Option<Phase>,
    /// The instance that may exist.
    alive: Option<Incarnation>,
    ready: bool,
    readiness_succeeded: bool,
    /// Starts that hale decided on by itself, since a person last cleared the window.
    counted: Vec<Time>,
    cause: Option<RestartCause>,
}

struct Onlooker {
    it: Workload,
    now: Time,
    policy: ReplicaPolicy,
    seen: BTreeMap<u32, Seen>,
    /// Restarts while a dependency fails cost nothing: then nothing is said of the budget.
    budget_is_certain: bool,
}

impl Onlooker {
    fn look(&mut self, out: Vec<(u32, Decision)>) -> Result<(), TestCaseError> {
        for (ordinal, decision) in out {
            let seen = self.seen.entry(ordinal).or_default();
            match decision {
                Decision::Spawn { incarnation, reason } => {
                    prop_assert_eq!(seen.alive, None, "two instances at once");
                    prop_assert!(!reason.is_empty());
                    seen.alive = Some(incarnation);
                    seen.readiness_succeeded = false;
                    let counts = self.policy.restart.counts == BudgetCounts::All;
                    if counts && seen.cause.take().is_some_and(RestartCause::is_automatic) {
                        let now = self.now;
                        seen.counted.retain(|at| now.since(*at) < self.policy.restart.window);
                        seen.counted.push(now);
                        let budget = self.policy.restart.max_restarts as usize;
                        prop_assert!(!self.budget_is_certain || seen.counted.len() <= budget, "over budget");
                    }
                }
                // The attempt of `retryAfter` is outside of the budget.
                Decision::Note(Note::Restarting { cause, reason, .. }) => {
                    seen.cause = (!reason.starts_with("one attempt after")).then_some(cause);
                }
                Decision::Transition { from, to, reason, .. } => {
                    prop_assert!(!reason.is_empty(), "{} -> {} without a reason", from, to);
                    prop_assert_eq!(seen.phase.unwrap_or(Phase::Pending), from);
                    prop_assert!(Move::ALL.iter().any(|it| it.from(from) == Ok(to)));
                    if matches!(to, Phase::Failed | Phase::Stopping) {
                        seen.cause = None;
                    }
                    if to == Phase::Stopping {
                        // Only a person or a declaration leads out of it again, and that clears the window.
                        seen.counted.clear();
                    }
                    seen.phase = Some(to);
                }
                Decision::Ready(change) => {
                    prop_assert!(!change.reason.is_empty() && change.ready != seen.ready);
                    let gated = self.policy.readiness.is_some() && self.policy.mode == Mode::Act;
                    prop_assert!(
                        !change.ready || !gated || seen.readiness_succeeded,
                        "ready before readiness"
                    );
                    prop_assert_eq!(
                        Some(change.incarnation),
                        self.it.replica(ordinal).map(Replica::incarnation)
                    );
                    seen.ready = change.ready;
                }
                Decision::Stop { incarnation, .. } | Decision::Drain { incarnation, .. } => {
                    prop_assert_eq!(seen.alive, Some(incarnation), "a stop of what is not there");
                }
                Decision::Removed => {
                    self.seen.remove(&ordinal);
                }
                _ => {}
            }
        }
        self.look_at_all()
    }

    fn look_at_all(&self) -> Result<(), TestCaseError> {
        for (ordinal, replica) in self.it.replicas() {
            let seen =
                self.seen.get(&ordinal).map_or(Phase::Pending, |it| it.phase.unwrap_or(Phase::Pending));
            prop_assert_eq!(replica.phase(), seen);
            prop_assert!(!replica.ready() || replica.serving());
            prop_assert!(replica.restarts_in_window(self.now) <= self.policy.restart.max_restarts.max(1));
        }
        let ready = self.it.replicas().filter(|(_, it)| it.ready()).count();
        prop_assert_eq!(self.it.ready() as usize, ready);
        Ok(())
    }

    fn input(&mut self, ordinal: u32, told: Told) -> Option<Input> {
        let incarnation = self.it.replica(ordinal)?.incarnation();
        let by = |person: bool| if person { ana() } else { By::Declaration };
        let seen = self.seen.entry(ordinal).or_default();
        // The world only tells what can be: an end of what is there.
        let there = seen.alive == Some(incarnation);
        Some(match told {
            Told::Start(person) | Told::Stop(person) | Told::Restart(person) => {
                if !matches!(told, Told::Stop(_)) {
                    seen.counted.clear();
                    seen.cause = None;
                }
                match told {
                    Told::Start(_) => Input::Start { by: by(person) },
                    Told::Stop(_) => Input::Stop { by: by(person) },
                    _ => Input::Restart { by: by(person) },
                }
            }
            Told::Spawned => Input::Spawned { incarnation },
            Told::SpawnFailed(permanent) => {
                let spawning = there && self.it.replica(ordinal).is_some_and(|it| it.started_at().is_none());
                let spawning = spawning && matches!(self.it.replica(ordinal)?.phase(), Phase::Starting);
                if spawning {
                    seen.alive = None;
                }
                if !spawning {
                    return None;
                }
                Input::SpawnFailed { incarnation, permanent, excused: false, detail: "no".to_owned() }
            }
            Told::Outcome(probe, what) => {
                let verdict = match what {
                    0..4 => Verdict::Success,
                    4 => Verdict::failure(Reason::ProberError, "no descriptor"),
                    _ => Verdict::failure(Reason::Timeout, "3s"),
                };
                seen.readiness_succeeded |= probe == ProbeKind::Readiness && verdict.is_success();
                Input::Outcome(Outcome {
                    incarnation,
                    probe,
                    verdict,
                    started_at: self.now,
                    took: Duration::ZERO,
                })
            }
            Told::Exited(code) if there => Input::Exited { incarnation, exit: Exit::code(code) },
            Told::Gone if there => {
                seen.alive = None;
                Input::Gone { incarnation }
            }
            Told::Exited(_) | Told::Gone => return None,
            Told::StopFailed => Input::StopFailed { incarnation, detail: "stuck".to_owned() },
            Told::Drained => Input::Drained { incarnation },
            Told::Examined => Input::Examined { incarnation },
            Told::Extend => Input::ExtendStartup { incarnation, by: s(10.0) },
            Told::Leaving => Input::Leaving { incarnation },
            Told::Pause(scope, until) => {
                Input::Pause { scope, pause: pause(until.map(|secs| self.now + Duration::from_secs(secs))) }
            }
            Told::Resume(scope) => Input::Resume { scope, by: "ana".to_owned() },
        })
    }

    /// Another machine goes on with what is remembered and found.
    fn succeed(&mut self, did: [Meanwhile; 3]) -> Result<(), TestCaseError> {
        let mut next = Workload::new(WorkloadPolicy::default(), self.policy.clone(), 8);
        let mut ready = BTreeMap::new();
        for (ordinal, replica) in self.it.replicas() {
            let seen = self.seen.entry(ordinal).or_default();
            let did = did[ordinal as usize];
            let stopping = matches!(replica.phase(), Phase::Stopping | Phase::Restarting);
            let now = self.now;
            let found = seen.alive.filter(|_| did != Meanwhile::Nowhere).map(|incarnation| Found {
                incarnation,
                started_at: replica.started_at().unwrap_or(now),
                stopping,
                exit: match did {
                    Meanwhile::Exited(code) | Meanwhile::Ended(code) => Some((Exit::code(code), now)),
                    _ => None,
                },
                gone: matches!(did, Meanwhile::Ended(_)),
            });
            if matches!(did, Meanwhile::Nowhere | Meanwhile::Ended(_)) {
                seen.alive = None;
            }
            if did == Meanwhile::WentOn {
                ready.insert(ordinal, replica.ready());
            }
            let resumed = Some(Resumed { memento: Some(replica.memento()), found });
            next.arrive(ordinal, Arrival { resumed, ..Arrival::default() });
        }
        let mut out = Vec::new();
        next.handle_all(self.now, WorkloadInput::Dependency(self.it.dependency().clone()), &mut out);
        let (all, wanted) = (self.it.replicas().map(|it| it.0).collect(), self.it.wanted().collect());
        let of = self.it.desired();
        // What the node itself thought of its probes is not remembered: it looks again.
        next.set_ordinals(self.now, all, of, &mut out);
        self.it = next;
        self.look(out)?;
        for (ordinal, ready) in ready {
            let it = self.it.replica(ordinal).map(|it| (it.ready(), it.started_at()));
            // One that was not up yet may have come up; one that was ready stays so.
            prop_assert!(!ready || it.is_some_and(|it| it.0), "a flip of {}", ordinal);
        }
        let mut out = Vec::new();
        self.it.set_ordinals(self.now, wanted, of, &mut out);
        self.look(out)
    }

    /// Wakes the machine at each of its deadlines up to then.
    fn wait(&mut self, until: Time) -> Result<(), TestCaseError> {
        while let Some(due) = self.it.next_deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            let mut out = Vec::new();
            self.it.tick(self.now, &mut out);
            self.look(out)?;
            prop_assert!(self.it.next_deadline().is_none_or(|it| it > self.now), "a deadline that stays");
        }
        self.now = until;
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_rules_hold(
        policy in policy(),
        happenings in proptest::collection::vec(happening(), 1..80),
    ) {
        let it = Workload::new(WorkloadPolicy::default(), policy.clone(), 7);
        let mut on = Onlooker { it, now: Time::ZERO, policy, seen: BTreeMap::new(), budget_is_certain: true };
        let mut out = Vec::new();
        on.it.set_replicas(on.now, 3, &mut out);
        on.look(out)?;
        for (ordinal, wait, what) in happenings {
            on.wait(on.now + Duration::from_millis(wait))?;
            let mut out = Vec::new();
            match what {
                Happening::Tell(told) => {
                    let Some(input) = on.input(ordinal, told) else { continue };
                    let _ = on.it.handle(on.now, ordinal, input, &mut out);
                }
                Happening::All(input) => {
                    on.budget_is_certain &= !matches!(input, WorkloadInput::Dependency(Dependency::Failing { .. }));
                    if matches!(input, WorkloadInput::Start { .. } | WorkloadInput::Restart { .. }) {
                        on.budget_is_certain = false;
                    }
                    on.it.handle_all(on.now, input, &mut out);
                }
                Happening::Scale(replicas) => on.it.set_replicas(on.now, replicas, &mut out),
                Happening::Successor(did) => on.succeed(did)?,
            }
            on.look(out)?;
        }
    }

    #[test]
    fn what_is_stale_changes_nothing(
        policy in policy(),
        happenings in proptest::collection::vec(happening(), 1..40),
        stale in told(),
    ) {
        let it = Workload::new(WorkloadPolicy::default(), policy.clone(), 7);
        let mut on = Onlooker { it, now: Time::ZERO, policy, seen: BTreeMap::new(), budget_is_certain: false };
        let mut out = Vec::new();
        on.it.set_replicas(on.now, 3, &mut out);
        on.look(out)?;
        for (ordinal, wait, what) in happenings {
            on.wait(on.now + Duration::from_millis(wait))?;
            let mut out = Vec::new();
            if let Happening::Tell(told) = what
                && let Some(input) = on.input(ordinal, told)
            {
                let _ = on.it.handle(on.now, ordinal, input, &mut out);
            }
            on.look(out)?;
            let mut out = Vec::new();
            on.it.tick(on.now, &mut out);
            on.look(out)?;
            let replica = on.it.replica(0).unwrap().clone();
            let incarnation = Incarnation(replica.incarnation().0.wrapping_sub(1));
            let input = match &stale {
                Told::Spawned => Input::Spawned { incarnation },
                Told::Exited(code) => Input::Exited { incarnation, exit: Exit::code(*code) },
                Told::Gone => Input::Gone { incarnation },
                Told::StopFailed => Input::StopFailed { incarnation, detail: String::new() },
                Told::Leaving => Input::Leaving { incarnation },
                Told::Extend => Input::ExtendStartup { incarnation, by: s(100.0) },
                _ => {
                    let verdict = Verdict::failure(Reason::Timeout, "");
                    let probe = ProbeKind::Liveness;
                    Input::Outcome(Outcome { incarnation, probe, verdict, started_at: on.now, took: Duration::ZERO })
                }
            };
            let mut out = Vec::new();
            prop_assert_eq!(on.it.handle(on.now, 0, input, &mut out), Ok(Handled::Dropped));
            prop_assert_eq!(out, vec![]);
            prop_assert_eq!(on.it.replica(0).unwrap(), &replica);
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn held_restarts_happen_once_there_is_room_and_never_below_min_available(
        replicas in 1u32..6,
        min in proptest::option::of(0u32..5),
        concurrent in proptest::option::of(1u32..4),
        failing in proptest::collection::vec(any::<bool>(), 6),
        stops_in in 0u64..4,
    ) {
        let together = WorkloadPolicy { min_available: min, max_concurrent_restarts: concurrent, max_hold: s(1e6) };
        let mut policy = probed(&[ProbeKind::Liveness, ProbeKind::Readiness]);
        policy.restart.max_restarts = 1000;
        let mut sim = Sim::new(replicas, together, policy);
        sim.secs(1.0);
        for ordinal in (0..replicas).filter(|it| failing[*it as usize]) {
            sim.fail(ordinal, ProbeKind::Liveness);
            sim.be(ordinal).stops_in = Duration::from_secs(stops_in);
        }
        let least = together.min_available(replicas).min(replicas);
        for _ in 0..400 {
            sim.secs(0.5);
            prop_assert!(sim.it.ready() >= least);
            let restarting = sim.it.replicas().filter(|(_, it)| it.phase() == Phase::Restarting).count();
            prop_assert!(restarting <= together.max_concurrent_restarts(replicas) as usize);
        }
        let room = least < replicas;
        for ordinal in (0..replicas).filter(|it| failing[*it as usize]) {
            prop_assert_eq!(sim.spawns(ordinal).len() > 1, room, "{} {}", ordinal, sim.log);
        }
    }
}
