//! Replicas that are placed one by one, over a scripted world, under paused time.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of a test function")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use hale_health::{Elsewhere, Exit, Generation, Phase, ProbeKind, ProbeTiming, Reason, Status};
use hale_model::{
    report::Report,
    spec::{Process, Run, Workload},
    status::ReplicaStatus,
};
use hale_supervisor::{
    mementos::Mementos,
    sim::{Answer, Memory, Script, SimWorld, with_probe, workload},
    supervisor::{Assignment, Change, Options, PlacedPause, SupervisorError},
};
use proptest::{collection::vec, prelude::*, test_runner::TestCaseError};

const MINUTE: Duration = Duration::from_secs(60);

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A workload whose versions each take a new instance.
fn version(workload: Workload, version: u32) -> Arc<Workload> {
    let Run::Process(process) = workload.run else { panic!("not a process") };
    let command = vec![workload.name.clone(), format!("v{version}")];
    let digest = format!("{} v{version}", workload.digest);
    Arc::new(Workload { run: Run::Process(Process { command, ..process }), digest, ..workload })
}

fn one(workload: &Arc<Workload>, ordinal: u32, generation: u64) -> Assignment {
    Assignment::new(Arc::clone(workload), ordinal, Generation(generation))
}

async fn assign(world: &SimWorld, list: impl IntoIterator<Item = Assignment>) -> Vec<(String, Change)> {
    let applied = world.supervisor.assign(list.into_iter().collect()).await.unwrap();
    applied.into_iter().map(|it| (it.name, it.change)).collect()
}

async fn until(world: &SimWorld, replica: &str, phase: Phase) -> ReplicaStatus {
    let is = |status: &hale_model::status::WorkloadStatus| status.replicas.iter().all(|it| it.phase == phase);
    world.supervisor.wait(replica, phase.as_str(), MINUTE, is).await.unwrap();
    world.supervisor.status_of(replica).await.unwrap().replicas.remove(0)
}

async fn settle(world: &SimWorld, time: Duration) {
    world.clock.sleep_until(world.clock.now() + time).await;
}

fn generations(world: &SimWorld, replica: &str) -> Vec<u64> {
    world.runtime.starts_of(replica).iter().map(|it| it.id.generation.0).collect()
}

#[tokio::test(start_paused = true)]
async fn only_the_placed_replicas_run_each_under_its_own_number() {
    let world = SimWorld::start();
    let web = version(workload("web", 5), 1);
    let applied = assign(&world, [one(&web, 1, 7), one(&web, 4, 9)]).await;
    assert_eq!(applied, [("web-1".into(), Change::Created), ("web-4".into(), Change::Created)]);
    assert_eq!(until(&world, "web-4", Phase::Running).await.generation, 9);
    let status = world.supervisor.status_of("web").await.unwrap();
    assert_eq!((status.desired, status.ready, status.status), (2, 2, Status::Healthy));
    assert_eq!(generations(&world, "web-1"), [7]);
    let told = world.told.events_of("web-4");
    assert!(!told.is_empty() && told.iter().all(|it| it.instance().is_some_and(|it| it.generation == 9)));

    let applied = assign(&world, [one(&web, 1, 7)]).await;
    assert_eq!(applied, [("web-1".into(), Change::Unchanged), ("web-4".into(), Change::Deleted)]);
    settle(&world, MINUTE).await;
    assert_eq!((world.runtime.alive(), world.runtime.starts().len()), (1, 2));
    let removed = Report::Removed { replica: "web-4".into(), generation: 9 };
    assert!(world.told.reports().contains(&removed));
}

#[tokio::test(start_paused = true)]
async fn a_new_number_for_the_same_declaration_lets_the_run_go_on() {
    let world = SimWorld::start();
    let web = version(workload("web", 1), 1);
    assign(&world, [one(&web, 0, 1)]).await;
    until(&world, "web-0", Phase::Running).await;
    assert_eq!(assign(&world, [one(&web, 0, 2)]).await, [("web-0".into(), Change::Granted)]);
    let endpoint = world.told.endpoints_of("web-0").pop().unwrap();
    assert_eq!((endpoint.generation, endpoint.ready, endpoint.serving), (2, true, true));
    assert_eq!(generations(&world, "web-0"), [1]);
    // The next start is made under the number that it has now, and the end of the run is heard under the old one.
    world.runtime.kill("web-0", Exit::code(1));
    settle(&world, secs(10)).await;
    assert_eq!(generations(&world, "web-0"), [1, 2]);
    assert_eq!(until(&world, "web-0", Phase::Running).await.generation, 2);
}

#[tokio::test(start_paused = true)]
async fn a_new_number_for_another_declaration_starts_once_nothing_of_the_old_is_left() {
    let world = SimWorld::start();
    world.runtime.script("web", Script { stop_takes: secs(3), gone_after: secs(2), ..Script::default() });
    let (old, new) = (version(workload("web", 2), 1), version(workload("web", 2), 2));
    assign(&world, [one(&old, 0, 1), one(&old, 1, 2)]).await;
    until(&world, "web-1", Phase::Running).await;
    assert_eq!(assign(&world, [one(&new, 0, 3), one(&old, 1, 2)]).await[0].1, Change::Updated);
    settle(&world, secs(4)).await;
    assert_eq!(world.runtime.starts_of("web-0").len(), 1, "the old one is not gone yet");
    settle(&world, secs(4)).await;
    let starts = world.runtime.starts_of("web-0");
    assert_eq!((starts[1].id.generation.0, starts[1].beside), (3, 0));
    assert!(starts[1].id.incarnation > starts[0].id.incarnation);
    assert_eq!((&starts[1].digest, starts.len()), (&new.digest, 2));
    // The neighbour is still what it was declared as.
    world.runtime.kill("web-1", Exit::code(1));
    settle(&world, secs(10)).await;
    assert_eq!(world.runtime.starts_of("web-1")[1].digest, old.digest);
    let status = world.supervisor.status_of("web-0").await.unwrap().replicas.remove(0);
    assert_eq!((status.generation, status.restarts), (3, 0), "another placement is another life");
}

#[tokio::test(start_paused = true)]
async fn a_changed_declaration_under_the_same_number_takes_effect_as_an_apply_does() {
    let world = SimWorld::start();
    let web = version(workload("web", 2), 1);
    assign(&world, [one(&web, 0, 1), one(&web, 1, 2)]).await;
    until(&world, "web", Phase::Running).await;
    let timing = ProbeTiming { period: secs(1), ..ProbeTiming::default_for(ProbeKind::Readiness) };
    let probed = Arc::new(with_probe(Workload::clone(&web), ProbeKind::Readiness, timing));
    assert_eq!(assign(&world, [one(&probed, 0, 1), one(&web, 1, 2)]).await[0].1, Change::Updated);
    settle(&world, secs(5)).await;
    assert_eq!(world.runtime.starts().len(), 2, "a new probe needs no new instance");
    let status = world.supervisor.status_of("web").await.unwrap();
    assert_eq!((status.replicas[0].probes.len(), status.replicas[1].probes.len()), (1, 0));

    let other = version(workload("web", 2), 2);
    assign(&world, [one(&other, 0, 1), one(&other, 1, 2)]).await;
    settle(&world, MINUTE).await;
    assert_eq!(world.runtime.starts().len(), 4);
    assert!(world.runtime.starts()[2..].iter().all(|it| it.digest == other.digest && it.beside == 0));
}

#[tokio::test(start_paused = true)]
async fn what_a_person_asked_for_comes_with_the_placement() {
    let world = SimWorld::start();
    let web = version(workload("web", 1), 1);
    let stopped = Assignment { stopped: Some("ann".into()), ..one(&web, 0, 1) };
    assign(&world, [stopped.clone()]).await;
    until(&world, "web-0", Phase::Stopped).await;
    assert_eq!(world.runtime.starts().len(), 0);
    assign(&world, [one(&web, 0, 1)]).await;
    until(&world, "web-0", Phase::Running).await;
    assign(&world, [stopped]).await;
    let status = until(&world, "web-0", Phase::Stopped).await;
    assert!(status.last_transition.unwrap().reason.contains("by ann"));

    let until_then = world.clock.wall().checked_add(secs(30)).unwrap();
    let pause =
        PlacedPause { probe: None, until: Some(until_then), reason: "looking".into(), by: "bob".into() };
    let paused = Assignment { pauses: vec![pause], ..one(&web, 0, 1) };
    assign(&world, [paused.clone()]).await;
    assert!(until(&world, "web-0", Phase::Running).await.paused);
    settle(&world, secs(20)).await;
    assign(&world, [paused.clone()]).await;
    assert!(until(&world, "web-0", Phase::Running).await.paused);
    settle(&world, secs(11)).await;
    assign(&world, [paused]).await;
    assert!(!until(&world, "web-0", Phase::Running).await.paused, "it was over at its time");
    assert_eq!(world.told.kinds_of("web-0").iter().filter(|it| **it == "paused").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_is_drained_ended_and_shown_until_it_is_no_longer_placed() {
    let world = SimWorld::start();
    let web = version(workload("web", 1), 1);
    assign(&world, [one(&web, 0, 1)]).await;
    until(&world, "web-0", Phase::Running).await;
    assign(&world, [Assignment { draining: true, ..one(&web, 0, 1) }]).await;
    until(&world, "web-0", Phase::Stopped).await;
    assert_eq!(world.runtime.alive(), 0);
    // The server thought better of it.
    assign(&world, [one(&web, 0, 2)]).await;
    assert_eq!(until(&world, "web-0", Phase::Running).await.generation, 2);
    assert_eq!(assign(&world, []).await, [("web-0".into(), Change::Deleted)]);
    settle(&world, MINUTE).await;
    assert_eq!(world.supervisor.status().await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_speaks_for_ends_at_its_time_and_only_another_word_of_the_server_brings_it_back() {
    let world = SimWorld::start();
    let web = version(workload("web", 2), 1);
    let at = |secs| Some(world.clock.now() + Duration::from_secs(secs));
    let list = |stop_at| [0, 1].map(|it| Assignment { stop_at, ..one(&web, it, 1) });
    assign(&world, list(at(10))).await;
    until(&world, "web", Phase::Running).await;
    for _ in 0..5 {
        settle(&world, secs(5)).await;
        world.supervisor.set_stop_at(vec![("web-0".into(), at(10))]).await.unwrap();
    }
    assert_eq!(until(&world, "web-0", Phase::Running).await.restarts, 0);
    assert_eq!(until(&world, "web-1", Phase::Stopped).await.phase, Phase::Stopped);
    settle(&world, secs(11)).await;
    until(&world, "web-0", Phase::Stopped).await;
    assert_eq!(world.runtime.alive(), 0);
    // The link is back, but the server has not said yet who has it now.
    let over = world.supervisor.set_stop_at(vec![("web-0".into(), at(10)), ("web-1".into(), None)]).await;
    assert_eq!(over.unwrap(), ["web-0", "web-1"]);
    settle(&world, secs(5)).await;
    assert_eq!(world.runtime.alive(), 0);
    assign(&world, list(None)).await;
    until(&world, "web", Phase::Running).await;
    assert!(world.supervisor.set_stop_at(vec![("web-0".into(), None)]).await.unwrap().is_empty());
    settle(&world, MINUTE).await;
    assert_eq!((world.runtime.alive(), world.runtime.starts().len()), (2, 4));
}

#[tokio::test(start_paused = true)]
async fn the_same_placement_twice_is_refused_and_of_two_the_later_counts() {
    let world = SimWorld::start();
    let web = version(workload("web", 1), 1);
    let twice = world.supervisor.assign(vec![one(&web, 0, 1), one(&web, 0, 1)]).await;
    assert_eq!(twice, Err(SupervisorError::Duplicate { name: "web-0".into() }));
    assign(&world, [one(&web, 0, 2), one(&web, 0, 1)]).await;
    assert_eq!(until(&world, "web-0", Phase::Running).await.generation, 2);
    assert_eq!(generations(&world, "web-0"), [2]);
}

fn live(workload: Workload) -> Workload {
    let timing =
        ProbeTiming { period: secs(1), timeout: secs(1), ..ProbeTiming::default_for(ProbeKind::Liveness) };
    with_probe(workload, ProbeKind::Liveness, timing)
}

#[tokio::test(start_paused = true)]
async fn the_disruption_budget_counts_the_replicas_of_other_nodes() {
    let world = SimWorld::start();
    let web = version(live(workload("web", 2)), 1);
    let few = Elsewhere::Known { ready: 0, restarting: 0 };
    world.supervisor.set_elsewhere("web", few).await.unwrap();
    assign(&world, [one(&web, 0, 1)]).await;
    until(&world, "web-0", Phase::Running).await;
    world.prober.answer("web-0", ProbeKind::Liveness, Answer::fails(Reason::Timeout));
    let held = until(&world, "web-0", Phase::Unhealthy).await;
    settle(&world, secs(30)).await;
    assert_eq!(world.runtime.starts().len(), 1, "the other one is not ready: {held:?}");
    // Told of a change, the machine looks again at once.
    world.supervisor.set_elsewhere("web", Elsewhere::Known { ready: 1, restarting: 0 }).await.unwrap();
    settle(&world, secs(3)).await;
    assert_eq!(world.runtime.starts().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_cannot_ask_restarts_none_that_it_has_no_other_for_unless_none_has_to_stay() {
    let world = SimWorld::start();
    let (two, single) = (version(live(workload("two", 2)), 1), version(live(workload("single", 1)), 1));
    for name in ["two", "single"] {
        world.supervisor.set_elsewhere(name, Elsewhere::Unreachable).await.unwrap();
    }
    assign(&world, [one(&two, 0, 1), one(&single, 0, 1)]).await;
    until(&world, "single-0", Phase::Running).await;
    for name in ["two-0", "single-0"] {
        world.prober.answer(name, ProbeKind::Liveness, Answer::fails(Reason::Timeout));
    }
    settle(&world, secs(20)).await;
    assert_eq!(world.runtime.starts_of("two-0").len(), 1);
    assert!(world.runtime.starts_of("single-0").len() > 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_known_of_a_dependency_as_a_whole_counts_more_than_the_part_that_runs_here() {
    let world = SimWorld::start();
    let db = version(workload("db", 3), 1);
    let web = version(Workload { depends_on: vec!["db".into()], ..live(workload("web", 1)) }, 1);
    assign(&world, [one(&db, 0, 1), one(&web, 0, 1)]).await;
    until(&world, "web-0", Phase::Running).await;
    world.supervisor.set_dependency("db", Some(Status::Failing)).await.unwrap();
    world.prober.answer("web-0", ProbeKind::Liveness, Answer::fails(Reason::Timeout));
    until(&world, "web-0", Phase::Unhealthy).await;
    settle(&world, MINUTE).await;
    assert_eq!(world.runtime.starts_of("web-0").len(), 1, "held by the dependency");
    world.supervisor.set_dependency("db", None).await.unwrap();
    settle(&world, secs(30)).await;
    assert!(world.runtime.starts_of("web-0").len() > 1, "what runs here is well");
}

fn remembering(memory: &Arc<Memory>) -> impl FnOnce(Options) -> Options {
    let mementos: Arc<dyn Mementos> = Arc::<Memory>::clone(memory);
    move |options| Options { mementos: Some(mementos), ..options }
}

/// One replica in a made-up set of placements: its version, a step of its number, what is wished of it.
type Made = (u32, u32, u64, bool, bool);

/// A set of placements, how long it lasts, and whether another agent goes on then.
type Sets = Vec<(Vec<Made>, u64, bool)>;

fn sets() -> impl Strategy<Value = Sets> {
    let one = (0_u32..3, 1_u32..3, 0_u64..3, prop::bool::weighted(0.1), prop::bool::weighted(0.1));
    vec((vec(one, 0..4), 0_u64..6, prop::bool::weighted(0.2)), 1..12)
}

fn check(world: &SimWorld, last: &BTreeMap<u32, Assignment>) -> Result<(), TestCaseError> {
    let starts = world.runtime.starts();
    prop_assert!(starts.iter().all(|it| it.beside == 0), "two at once: {starts:?}");
    let runs = last.values().filter(|it| it.stopped.is_none() && !it.draining);
    prop_assert_eq!(world.runtime.alive(), runs.clone().count());
    for it in runs {
        let name = it.workload.replica_name(it.ordinal);
        let start = starts.iter().rev().find(|start| start.id.replica == name).unwrap();
        prop_assert_eq!(&start.digest, &it.workload.digest);
        let endpoint = world.told.endpoints_of(&name).pop().unwrap();
        prop_assert!(endpoint.ready && endpoint.serving);
        prop_assert_eq!(endpoint.generation, it.generation.0);
    }
    prop_assert!(world.runtime.starts().len() < 60, "nothing is started again and again");
    Ok(())
}

/// Whatever is told of a replica goes up in its number, and no number is told before it was given.
fn numbers_rise(worlds: &[SimWorld], given: &BTreeSet<(String, u64)>) -> Result<(), TestCaseError> {
    let mut latest = BTreeMap::<String, u64>::new();
    for report in worlds.iter().flat_map(|world| world.told.reports()) {
        let (replica, generation) = match report {
            Report::Endpoint(it) => (it.replica, it.generation),
            Report::Removed { replica, generation } => (replica, generation),
            Report::Event(it) => match it.data.instance() {
                Some(instance) => (it.subject, instance.generation),
                None => continue,
            },
            Report::Outcome(_) | Report::Forgotten(_) => continue,
        };
        prop_assert!(given.contains(&(replica.clone(), generation)), "{replica} {generation}");
        let before = latest.insert(replica.clone(), generation).unwrap_or_default();
        prop_assert!(generation >= before, "{replica}: {before} then {generation}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_placed_never_runs_twice_and_is_told_under_its_number(sets in sets()) {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        tokio.block_on(async {
            let memory: Arc<Memory> = Arc::default();
            let mut worlds = vec![SimWorld::start_with(remembering(&memory))];
            let slow = Script { start_takes: secs(1), stop_takes: secs(2), gone_after: secs(1), ..Script::default() };
            worlds[0].runtime.script("web", slow);
            let mut numbers = BTreeMap::<u32, u64>::new();
            let mut given = BTreeSet::new();
            let mut last = BTreeMap::new();
            for (made, wait, succeeds) in &sets {
                let world = worlds.last().unwrap();
                let mut set = BTreeMap::new();
                for (ordinal, version_of, step, stopped, draining) in made {
                    let number = numbers.entry(*ordinal).or_insert(1);
                    *number += step;
                    let mut it = one(&version(workload("web", 3), *version_of), *ordinal, *number);
                    it.stopped = stopped.then(|| "ann".to_owned());
                    it.draining = *draining;
                    given.insert((format!("web-{ordinal}"), *number));
                    set.insert(*ordinal, it);
                }
                assign(world, set.values().cloned()).await;
                last = set;
                settle(world, secs(*wait)).await;
                if *succeeds {
                    world.supervisor.detach().await;
                    let next = world.successor(remembering(&memory));
                    // As an agent does: with what it knew last.
                    assign(&next, last.values().cloned()).await;
                    worlds.push(next);
                }
            }
            let world = worlds.last().unwrap();
            settle(world, MINUTE * 5).await;
            check(world, &last)?;
            numbers_rise(&worlds, &given)
        })?;
    }
}
