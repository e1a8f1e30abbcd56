//! A supervisor that goes on with what another one has left (N6), over a scripted world, under paused time.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of a test function")]

use std::{sync::Arc, time::Duration};

use hale_health::{Exit, Generation, Phase, ProbeKind, ProbeTiming, Reason};
use hale_model::{
    event::EventData,
    report::Report,
    spec::{Check, Port, Process, Run, Workload},
    status::ReplicaStatus,
};
use hale_supervisor::{
    mementos::Mementos,
    sim::{Answer, Memory, Script, SimWorld, with_probe, workload},
    supervisor::{Assignment, Options},
};

const MINUTE: Duration = Duration::from_secs(60);

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn remembering(memory: &Arc<Memory>) -> impl FnOnce(Options) -> Options {
    let mementos: Arc<dyn Mementos> = Arc::<Memory>::clone(memory);
    move |options| Options { mementos: Some(mementos), ..options }
}

fn start() -> (SimWorld, Arc<Memory>) {
    let memory = Arc::<Memory>::default();
    (SimWorld::start_with(remembering(&memory)), memory)
}

fn probed(name: &str, replicas: u32) -> Workload {
    let timing = |kind| ProbeTiming { period: secs(1), timeout: secs(1), ..ProbeTiming::default_for(kind) };
    let it = with_probe(workload(name, replicas), ProbeKind::Liveness, timing(ProbeKind::Liveness));
    with_probe(it, ProbeKind::Readiness, timing(ProbeKind::Readiness))
}

fn version(workload: Workload, version: u32) -> Arc<Workload> {
    let Run::Process(process) = workload.run else { panic!("not a process") };
    let command = vec![workload.name.clone(), format!("v{version}")];
    let digest = format!("{} v{version}", workload.digest);
    Arc::new(Workload { run: Run::Process(Process { command, ..process }), digest, ..workload })
}

fn one(workload: &Arc<Workload>, ordinal: u32, generation: u64) -> Assignment {
    Assignment::new(Arc::clone(workload), ordinal, Generation(generation))
}

async fn assign(world: &SimWorld, list: impl IntoIterator<Item = Assignment>) {
    world.supervisor.assign(list.into_iter().collect()).await.unwrap();
}

async fn settle(world: &SimWorld, time: Duration) {
    world.clock.sleep_until(world.clock.now() + time).await;
}

async fn replica(world: &SimWorld, name: &str) -> ReplicaStatus {
    world.supervisor.status_of(name).await.unwrap().replicas.remove(0)
}

async fn until_ready(world: &SimWorld, name: &str) {
    world.supervisor.wait(name, "ready", MINUTE, |it| it.ready == it.desired).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_runs_goes_on_with_everything_that_was_known_of_it() {
    let (world, memory) = start();
    let mut web = probed("web", 2);
    web.ports = vec![Port { name: "http".into(), port: 0, host_port: None }];
    let web = version(web, 1);
    assign(&world, [one(&web, 0, 3), one(&web, 1, 4)]).await;
    until_ready(&world, "web").await;
    for _ in 0..2 {
        world.runtime.kill("web-0", Exit::code(7));
        settle(&world, secs(6)).await;
    }
    // One failure of three, and it is not forgotten.
    world.prober.answer("web-0", ProbeKind::Readiness, Answer::fails(Reason::Timeout));
    world.supervisor.check_now("web-0").await.unwrap();
    let before = replica(&world, "web-0").await;
    assert_eq!((before.ready, before.restarts, before.restarts_in_window), (true, 2, 2));
    world.supervisor.detach().await;
    settle(&world, secs(20)).await;

    let next = world.successor(remembering(&memory));
    assign(&next, [one(&web, 0, 3), one(&web, 1, 4)]).await;
    let after = replica(&next, "web-0").await;
    assert!(after.ready && after.phase == Phase::Running, "{after:?}");
    let same = |it: &ReplicaStatus| {
        let exit = it.last_exit.clone().and_then(|it| it.code);
        let failures = it.probes["readiness"].consecutive_failures;
        (it.pid, it.restarts, it.restarts_in_window, it.ports.clone(), it.incarnation, exit, failures)
    };
    assert_eq!(same(&after), same(&before));
    assert_eq!(after.started_at, before.started_at);
    settle(&next, MINUTE).await;
    assert_eq!(next.runtime.starts().len(), 4, "nothing was started for it");
    let kinds = next.told.kinds_of("web-0");
    assert!(!kinds.iter().any(|it| ["not_ready", "ready", "starting"].contains(it)), "{kinds:?}");
    let endpoints = next.told.endpoints_of("web-0");
    assert!(endpoints.iter().all(|it| it.ready && it.generation == 3) && endpoints.len() == 1);
    // It is being looked after: what fails from now on counts.
    next.prober.answer("web-1", ProbeKind::Liveness, Answer::fails(Reason::Timeout));
    settle(&next, secs(10)).await;
    assert!(next.runtime.starts_of("web-1").len() > 1);
    assert!(next.runtime.starts().iter().all(|it| it.beside == 0));
}

#[tokio::test(start_paused = true)]
async fn the_backoff_and_the_budget_go_on_where_they_were() {
    let (world, memory) = start();
    world.runtime.script("web", Script::exits(Duration::ZERO, Exit::code(1)));
    let web = version(workload("web", 1), 1);
    assign(&world, [one(&web, 0, 1)]).await;
    settle(&world, secs(1 + 2 + 4 + 3)).await;
    assert_eq!(world.runtime.starts().len(), 4);
    world.supervisor.detach().await;
    let next = world.successor(remembering(&memory));
    assign(&next, [one(&web, 0, 1)]).await;
    settle(&next, MINUTE * 10).await;
    let starts = next.runtime.starts();
    let gaps: Vec<u64> = starts.windows(2).map(|pair| pair[1].at.since(pair[0].at).as_secs()).collect();
    assert_eq!(gaps, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
    assert_eq!(replica(&next, "web-0").await.phase, Phase::Failed);
    // And one that was given up stays so.
    next.supervisor.detach().await;
    let last = next.successor(remembering(&memory));
    assign(&last, [one(&web, 0, 1)]).await;
    settle(&last, MINUTE * 20).await;
    let status = replica(&last, "web-0").await;
    assert_eq!((status.phase, status.restarts, last.runtime.starts().len()), (Phase::Failed, 10, 11));
}

#[tokio::test(start_paused = true)]
async fn an_end_that_nobody_saw_is_an_exit_at_its_own_time() {
    let (world, memory) = start();
    let web = version(probed("web", 1), 1);
    assign(&world, [one(&web, 0, 1)]).await;
    until_ready(&world, "web").await;
    settle(&world, secs(15)).await;
    world.supervisor.detach().await;
    settle(&world, secs(5)).await;
    world.runtime.kill("web-0", Exit::code(42));
    let ended = world.clock.now();
    settle(&world, secs(30)).await;

    let next = world.successor(remembering(&memory));
    assign(&next, [one(&web, 0, 1)]).await;
    until_ready(&next, "web").await;
    // Its backoff was over long ago.
    assert!(next.clock.now().since(ended) < secs(32));
    let status = replica(&next, "web-0").await;
    assert_eq!((status.restarts, status.incarnation), (1, 2));
    let exit = status.last_exit.unwrap();
    assert_eq!((exit.code, exit.at), (Some(42), next.clock.wall_at(ended)));
    let exited = next.told.events_of("web-0").into_iter().find_map(|it| match it {
        EventData::ReplicaExited(it) => Some(it),
        _ => None,
    });
    let exited = exited.unwrap();
    assert_eq!((exited.exit.code, exited.expected), (Some(42), false));
    assert!((exited.uptime_seconds - 20.0).abs() < 1.0, "{exited:?}");
}

#[tokio::test(start_paused = true)]
async fn what_nothing_asks_for_any_more_is_ended_and_told_so() {
    let (world, memory) = start();
    let mut web = workload("web", 1);
    web.policy.stop.grace = secs(7);
    web.stop_signal = 2;
    assign(&world, [one(&version(web, 1), 0, 5)]).await;
    until_ready(&world, "web").await;
    world.supervisor.detach().await;
    let next = world.successor(remembering(&memory));
    assign(&next, []).await;
    settle(&next, MINUTE).await;
    assert_eq!(next.runtime.alive(), 0);
    assert_eq!(next.runtime.stops().iter().map(|it| (it.1, it.2)).collect::<Vec<_>>(), [(2, secs(7))]);
    assert!(next.told.reports().contains(&Report::Removed { replica: "web-0".into(), generation: 5 }));
    assert!(memory.all().is_empty());
}

#[tokio::test(start_paused = true)]
async fn another_placement_starts_once_what_was_left_is_gone() {
    let (world, memory) = start();
    world.runtime.script("web", Script { stop_takes: secs(3), ..Script::default() });
    assign(&world, [one(&version(workload("web", 1), 1), 0, 5)]).await;
    until_ready(&world, "web").await;
    world.supervisor.detach().await;
    let next = world.successor(remembering(&memory));
    let new = version(workload("web", 1), 2);
    assign(&next, [one(&new, 0, 6)]).await;
    settle(&next, secs(2)).await;
    assert_eq!(next.runtime.starts().len(), 1);
    settle(&next, MINUTE).await;
    let starts = next.runtime.starts();
    assert_eq!((starts.len(), starts[1].beside, &starts[1].digest), (2, 0, &new.digest));
    assert!(starts[1].id.incarnation > starts[0].id.incarnation);
    // The same declaration under another number is the same replica.
    next.supervisor.detach().await;
    let last = next.successor(remembering(&memory));
    assign(&last, [one(&new, 0, 9)]).await;
    settle(&last, MINUTE).await;
    assert_eq!((last.runtime.starts().len(), replica(&last, "web-0").await.generation), (2, 9));
}

#[tokio::test(start_paused = true)]
async fn a_stop_by_a_person_and_a_pause_outlive_the_agent() {
    let (world, memory) = start();
    let web = version(probed("web", 2), 1);
    let list = || [one(&web, 0, 1), one(&web, 1, 2)];
    assign(&world, list()).await;
    until_ready(&world, "web").await;
    world.supervisor.stop("web-0", "ann").await.unwrap();
    let pause = hale_supervisor::supervisor::Pause {
        probe: None,
        lasts: Some(secs(100)),
        reason: "looking".into(),
        by: "bob".into(),
    };
    world.supervisor.pause("web-1", pause).await.unwrap();
    settle(&world, secs(40)).await;
    world.supervisor.detach().await;
    let next = world.successor(remembering(&memory));
    assign(&next, list()).await;
    settle(&next, secs(40)).await;
    assert_eq!(replica(&next, "web-0").await.phase, Phase::Stopped);
    assert!(replica(&next, "web-1").await.paused);
    settle(&next, secs(21)).await;
    assert!(!replica(&next, "web-1").await.paused);
    assert_eq!(next.runtime.starts().len(), 2);
    // What is wished by the placement holds as well, and a wish that ended meanwhile is over.
    assign(&next, [one(&web, 0, 1), Assignment { stopped: Some("eve".into()), ..one(&web, 1, 2) }]).await;
    settle(&next, secs(40)).await;
    next.supervisor.detach().await;
    let last = next.successor(remembering(&memory));
    assign(&last, list()).await;
    settle(&last, secs(10)).await;
    assert_eq!(replica(&last, "web-1").await.phase, Phase::Running);
    assert_eq!(replica(&last, "web-0").await.phase, Phase::Stopped, "this one nobody started");
}

#[tokio::test(start_paused = true)]
async fn one_whose_time_without_word_is_over_is_not_started_by_a_successor_either() {
    let (world, memory) = start();
    let mut web = workload("web", 1);
    web.policy.restart.backoff.initial = Duration::ZERO;
    let web = version(web, 1);
    let stop_at = Some(world.clock.now() + secs(20));
    let list = || [Assignment { stop_at, ..one(&web, 0, 1) }];
    assign(&world, list()).await;
    until_ready(&world, "web").await;
    world.supervisor.detach().await;
    settle(&world, secs(30)).await;
    // As the keeper does with an agent that is dead.
    world.runtime.kill("web-0", Exit::signal(15));
    settle(&world, secs(1)).await;
    let next = world.successor(remembering(&memory));
    assign(&next, list()).await;
    settle(&next, MINUTE).await;
    assert_eq!((replica(&next, "web-0").await.phase, next.runtime.starts().len()), (Phase::Stopped, 1));
    assign(&next, [one(&web, 0, 2)]).await;
    settle(&next, MINUTE).await;
    assert_eq!((replica(&next, "web-0").await.phase, next.runtime.starts().len()), (Phase::Running, 2));
}

#[tokio::test(start_paused = true)]
async fn one_that_reports_by_itself_is_still_ready_and_still_watched() {
    let (world, memory) = start();
    let timing = |kind| ProbeTiming { period: secs(10), ..ProbeTiming::default_for(kind) };
    let mut web = workload("web", 1);
    for kind in [ProbeKind::Readiness, ProbeKind::Liveness] {
        web = with_probe(web, kind, timing(kind));
    }
    for probe in [&mut web.readiness, &mut web.liveness] {
        probe.as_mut().unwrap().check = Check::Notify;
    }
    let web = version(web, 1);
    assign(&world, [one(&web, 0, 1)]).await;
    settle(&world, secs(1)).await;
    world.runtime.notify("web-0", "READY", "1").await;
    until_ready(&world, "web").await;
    world.supervisor.detach().await;
    let next = world.successor(remembering(&memory));
    assign(&next, [one(&web, 0, 1)]).await;
    assert!(replica(&next, "web-0").await.ready);
    settle(&next, secs(25)).await;
    assert_eq!(next.runtime.starts().len(), 1, "two misses of three");
    assert!(replica(&next, "web-0").await.ready);
    settle(&next, secs(20)).await;
    assert_eq!(next.runtime.starts().len(), 2, "its watchdog is watched");
}
