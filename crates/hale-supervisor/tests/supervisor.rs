//! The supervisor over a scripted world, under paused time.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of a test function")]

use std::{sync::Arc, time::Duration};

use hale_health::{Exit, Phase, ProbeKind, ProbeTiming, Reason, Status};
use hale_model::{
    event::EventData,
    report::Report,
    spec::{Check, Port, Workload},
    status::WorkloadStatus,
};
use hale_supervisor::{
    sim::{Answer, Script, SimWorld, with_probe, workload},
    supervisor::{Change, Pause, SupervisorError},
};

const MINUTE: Duration = Duration::from_secs(60);

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn every_second(failures: u32) -> ProbeTiming {
    ProbeTiming {
        period: secs(1),
        timeout: Duration::from_millis(500),
        failure_threshold: failures,
        ..ProbeTiming::default_for(ProbeKind::Liveness)
    }
}

fn live(workload: Workload) -> Workload {
    with_probe(workload, ProbeKind::Liveness, every_second(3))
}

fn gated(workload: Workload) -> Workload {
    with_probe(workload, ProbeKind::Readiness, every_second(3))
}

async fn apply(world: &SimWorld, workloads: impl IntoIterator<Item = Workload>) -> Vec<(String, Change)> {
    let list = workloads.into_iter().map(Arc::new).collect();
    let applied = world.supervisor.apply(list).await.unwrap();
    applied.into_iter().map(|it| (it.name, it.change)).collect()
}

fn is_ready(status: &WorkloadStatus) -> bool {
    status.ready == status.desired
}

async fn until_ready(world: &SimWorld, name: &str) {
    world.supervisor.wait(name, "ready", MINUTE, is_ready).await.unwrap();
}

async fn until_phase(world: &SimWorld, replica: &str, phase: Phase) {
    let is = |status: &WorkloadStatus| status.replicas.iter().all(|it| it.phase == phase);
    world.supervisor.wait(replica, phase.as_str(), MINUTE * 60, is).await.unwrap();
}

/// The seconds between one start of a replica and the next.
fn gaps(world: &SimWorld, replica: &str) -> Vec<u64> {
    let starts = world.runtime.starts_of(replica);
    starts.windows(2).map(|pair| pair[1].at.since(pair[0].at).as_secs()).collect()
}

fn nothing_ran_twice(world: &SimWorld) {
    assert!(
        world.runtime.starts().iter().all(|start| start.beside == 0),
        "an instance was started beside another"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_declared_comes_up_and_what_is_not_goes() {
    let world = SimWorld::start();
    assert_eq!(apply(&world, [workload("web", 2)]).await, [("web".into(), Change::Created)]);
    until_ready(&world, "web").await;
    assert_eq!(apply(&world, [workload("web", 2)]).await, [("web".into(), Change::Unchanged)]);
    assert_eq!(world.runtime.starts().len(), 2);
    assert_eq!(apply(&world, []).await, [("web".into(), Change::Deleted)]);
    let gone = world.supervisor.wait("web", "gone", MINUTE, |_| false).await;
    assert_eq!(gone, Err(SupervisorError::NotFound { name: "web".into() }));
    assert_eq!(world.runtime.alive(), 0);
    let removed = |report: &Report| matches!(report, Report::Removed { replica, .. } if replica == "web-1");
    assert!(world.told.reports().iter().any(removed));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_fails_at_each_start_backs_off_and_is_given_up_at_the_budget() {
    let world = SimWorld::start();
    world.runtime.script("web", Script::exits(Duration::ZERO, Exit::code(1)));
    apply(&world, [workload("web", 1)]).await;
    until_phase(&world, "web-0", Phase::Failed).await;
    assert_eq!(gaps(&world, "web-0"), [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
    let failed = world.told.events_of("web-0");
    let Some(EventData::ReplicaFailed(failed)) = failed.last() else { panic!("{failed:?}") };
    assert!(failed.budget_exhausted && failed.hint.contains("hale restart"), "{failed:?}");
    nothing_ran_twice(&world);

    world.runtime.script("web", Script::default());
    world.supervisor.restart_rolling("web", "ann", |_| {}).await.unwrap();
    let status = world.supervisor.status_of("web-0").await.unwrap();
    assert_eq!((status.status, status.replicas[0].restarts_in_window), (Status::Healthy, 0));
}

#[tokio::test(start_paused = true)]
async fn a_program_that_is_not_there_is_not_tried_for_ever() {
    let world = SimWorld::start();
    world.runtime.script("web", Script::start_error("not_found", "no file /bin/web"));
    apply(&world, [workload("web", 1)]).await;
    until_phase(&world, "web", Phase::Failed).await;
    let status = world.supervisor.status_of("web").await.unwrap();
    let error = status.replicas[0].last_error.clone().unwrap();
    assert!(error.contains("not_found: no file /bin/web"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_exit_takes_the_endpoint_out_before_anything_else_is_told() {
    let world = SimWorld::start();
    apply(&world, [workload("web", 1)]).await;
    until_ready(&world, "web").await;
    world.told.clear();
    world.runtime.kill("web-0", Exit::signal(9));
    until_phase(&world, "web-0", Phase::Restarting).await;
    let reports = world.told.reports();
    let Some(Report::Endpoint(first)) = reports.first() else { panic!("{reports:?}") };
    assert!(!first.ready && !first.serving && first.address.is_none());
    until_ready(&world, "web").await;
    assert_eq!(gaps(&world, "web-0"), [1]);
    let ready = world.told.endpoints_of("web-0");
    assert!(ready.last().is_some_and(|it| it.ready && it.incarnation == 2));
}

#[tokio::test(start_paused = true)]
async fn three_failures_of_liveness_restart_after_forensics_and_each_outcome_is_told_once() {
    let world = SimWorld::start();
    apply(&world, [live(workload("web", 1))]).await;
    until_ready(&world, "web").await;
    world.prober.answer("web", ProbeKind::Liveness, Answer::hangs());
    until_phase(&world, "web-0", Phase::Restarting).await;
    world.prober.answer("web", ProbeKind::Liveness, Answer::well());
    until_ready(&world, "web").await;

    let failed: Vec<_> =
        world.told.outcomes_of("web-0").into_iter().filter(|it| it.reason.is_some()).collect();
    let counts: Vec<_> = failed.iter().map(|it| (it.reason, it.consecutive, it.threshold)).collect();
    assert_eq!(counts, [1, 2, 3].map(|count| (Some(Reason::Timeout), count, 3)));
    let restarted = world.told.events_of("web-0").into_iter().find_map(|data| match data {
        EventData::ReplicaRestarted(restarted) => Some(restarted),
        _ => None,
    });
    let restarted = restarted.unwrap();
    assert!(restarted.reason.contains("timeout 3/3"), "{}", restarted.reason);
    let kept = restarted.forensics.unwrap();
    assert!(kept.probe_outcomes.last().is_some_and(|line| line.contains("timeout 3/3")), "{kept:?}");
    assert_eq!(kept.memory_bytes, Some(1 << 20));
    nothing_ran_twice(&world);
}

#[tokio::test(start_paused = true)]
async fn forensics_that_hang_delay_the_stop_by_two_seconds_at_most() {
    let world = SimWorld::start();
    world.runtime.script("web", Script { examine_takes: MINUTE, ..Script::default() });
    apply(&world, [live(workload("web", 1))]).await;
    until_ready(&world, "web").await;
    world.prober.answer("web", ProbeKind::Liveness, Answer::fails(Reason::ConnectionRefused));
    until_phase(&world, "web-0", Phase::Restarting).await;
    let tripped = world.clock.now();
    while world.runtime.stops().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let waited = world.clock.now().since(tripped);
    assert!(waited >= secs(2) - Duration::from_millis(20) && waited < secs(3), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn readiness_gates_and_never_restarts() {
    let world = SimWorld::start();
    apply(&world, [gated(workload("web", 1))]).await;
    until_ready(&world, "web").await;
    world.prober.answer("web", ProbeKind::Readiness, Answer::fails(Reason::StatusMismatch));
    world.supervisor.wait("web", "not ready", MINUTE, |it| it.ready == 0).await.unwrap();
    tokio::time::sleep(MINUTE * 10).await;
    world.prober.answer("web", ProbeKind::Readiness, Answer::well());
    until_ready(&world, "web").await;
    assert_eq!(world.runtime.starts().len(), 1);
    let kinds = world.told.kinds_of("web-0");
    assert!(
        kinds.contains(&"not_ready") && kinds.ends_with(&["ready"]) || kinds.ends_with(&["recovered"]),
        "{kinds:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn one_that_ignores_its_stop_signal_is_killed_at_the_end_of_its_grace() {
    let world = SimWorld::start();
    world.runtime.script("web", Script { ignore_signals: true, ..Script::default() });
    apply(&world, [workload("web", 1)]).await;
    until_ready(&world, "web").await;
    let start = world.clock.now();
    world.supervisor.stop("web", "ann").await.unwrap();
    until_phase(&world, "web", Phase::Stopped).await;
    assert_eq!(world.clock.now().since(start), secs(30));
    let status = world.supervisor.status_of("web").await.unwrap();
    assert_eq!((status.status, status.note.as_deref()), (Status::Healthy, Some("stopped")));
    world.supervisor.start("web", "ann").await.unwrap();
    until_ready(&world, "web").await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_is_asked_for_while_a_start_hangs_leaves_nothing_behind() {
    let world = SimWorld::start();
    world.runtime.script("web", Script { start_takes: secs(20), ..Script::default() });
    apply(&world, [workload("web", 1)]).await;
    tokio::time::sleep(secs(1)).await;
    world.supervisor.stop("web", "ann").await.unwrap();
    until_phase(&world, "web", Phase::Stopped).await;
    tokio::time::sleep(MINUTE).await;
    assert_eq!(world.runtime.alive(), 0);
    nothing_ran_twice(&world);
}

#[tokio::test(start_paused = true)]
async fn a_rolling_restart_keeps_one_ready_and_tells_how_far_it_is() {
    let world = SimWorld::start();
    world.runtime.script("web", Script { start_takes: secs(2), stop_takes: secs(1), ..Script::default() });
    apply(&world, [gated(workload("web", 3))]).await;
    until_ready(&world, "web").await;
    world.told.clear();
    let mut told = Vec::new();
    world.supervisor.restart_rolling("web", "ann", |replica| told.push(replica.to_owned())).await.unwrap();
    assert_eq!(told, ["web-0", "web-1", "web-2"]);
    let mut ready = [true; 3];
    for report in world.told.reports() {
        if let Report::Endpoint(endpoint) = report {
            let ordinal: usize = endpoint.replica[4..].parse().unwrap();
            ready[ordinal] = endpoint.ready;
            assert!(ready.iter().filter(|it| **it).count() >= 2, "{ready:?}");
        }
    }
    nothing_ran_twice(&world);
    assert_eq!(world.runtime.starts().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_rolling_restart_that_does_not_come_back_is_an_error_and_leaves_the_rest_alone() {
    let world = SimWorld::start();
    apply(&world, [gated(workload("web", 2))]).await;
    until_ready(&world, "web").await;
    world.prober.answer("web-0", ProbeKind::Readiness, Answer::fails(Reason::StatusMismatch));
    let error = world.supervisor.restart_rolling("web", "ann", |_| {}).await.unwrap_err();
    assert!(matches!(error, SupervisorError::TooLate { .. }), "{error}");
    assert_eq!(world.runtime.starts_of("web-1").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_changed_declaration_replaces_replica_by_replica_and_changed_probes_replace_none() {
    let world = SimWorld::start();
    apply(&world, [gated(workload("web", 2)), workload("other", 1)]).await;
    until_ready(&world, "web").await;
    let mut changed = gated(workload("web", 2));
    changed.ports = vec![Port { name: "http".into(), port: 8080, host_port: None }];
    changed.digest = "changed".into();
    let applied = apply(&world, [changed.clone(), workload("other", 1)]).await;
    assert_eq!(applied, [("other".into(), Change::Unchanged), ("web".into(), Change::Updated)]);
    let renewed = |it: &WorkloadStatus| it.replicas.iter().all(|it| it.incarnation == 2 && it.ready);
    world.supervisor.wait("web", "renewed", MINUTE, renewed).await.unwrap();
    assert!(world.runtime.starts_of("web-1").last().is_some_and(|start| start.digest == "changed"));
    assert_eq!(world.runtime.starts_of("other-0").len(), 1);

    let probed = live(changed);
    apply(&world, [probed, workload("other", 1)]).await;
    tokio::time::sleep(MINUTE).await;
    assert_eq!(world.runtime.starts_of("web-1").len(), 2);
    assert!(world.told.outcomes_of("web-1").iter().any(|it| it.probe == Some(ProbeKind::Liveness)));
}

#[tokio::test(start_paused = true)]
async fn a_dependency_orders_the_start_and_while_it_is_down_restarts_nobody() {
    let world = SimWorld::start();
    world.runtime.script("db", Script { start_takes: secs(5), ..Script::default() });
    let mut web = live(workload("web", 2));
    web.depends_on = vec!["db".into()];
    apply(&world, [web, live(workload("db", 1))]).await;
    until_ready(&world, "web").await;
    let starts = world.runtime.starts();
    assert_eq!(starts[0].id.replica, "db-0");
    assert!(starts[1].at.since(starts[0].at) >= secs(5));

    world.runtime.script("db", Script { start_takes: secs(3600), ..Script::default() });
    world.runtime.kill("db-0", Exit::code(1));
    world.supervisor.wait("db", "down", MINUTE, |it| it.status == Status::Failing).await.unwrap();
    world.prober.answer("web", ProbeKind::Liveness, Answer::fails(Reason::ConnectionRefused));
    tokio::time::sleep(MINUTE * 20).await;
    assert_eq!(world.runtime.starts_of("web-0").len(), 1);
    let status = world.supervisor.status_of("web-0").await.unwrap();
    assert_eq!(status.replicas[0].held_by.as_ref().map(|it| it.by.as_str()), Some("dependency"));
}

#[tokio::test(start_paused = true)]
async fn a_chain_of_dependencies_starts_in_its_order_whatever_the_names() {
    let world = SimWorld::start();
    let chain = [("a", Some("b")), ("b", Some("c")), ("c", None)].map(|(name, on)| {
        let mut it = workload(name, 1);
        it.depends_on = on.into_iter().map(str::to_owned).collect();
        it
    });
    for name in ["a", "b", "c"] {
        world.runtime.script(name, Script { start_takes: secs(1), ..Script::default() });
    }
    apply(&world, chain).await;
    until_ready(&world, "a").await;
    let order: Vec<_> = world.runtime.starts().into_iter().map(|start| start.id.replica).collect();
    assert_eq!(order, ["c-0", "b-0", "a-0"]);
}

#[tokio::test(start_paused = true)]
async fn a_target_can_be_a_dependency() {
    let world = SimWorld::start();
    let mut web = workload("web", 1);
    web.depends_on = vec!["billing".into()];
    world.supervisor.set_dependency("billing", Some(Status::Unknown)).await.unwrap();
    apply(&world, [web]).await;
    tokio::time::sleep(MINUTE).await;
    assert_eq!(world.runtime.starts().len(), 0);
    world.supervisor.set_dependency("billing", Some(Status::Healthy)).await.unwrap();
    until_ready(&world, "web").await;
}

#[tokio::test(start_paused = true)]
async fn a_pause_holds_restarts_until_it_ends() {
    let world = SimWorld::start();
    apply(&world, [live(workload("web", 1))]).await;
    until_ready(&world, "web").await;
    let pause =
        Pause { probe: None, lasts: Some(MINUTE * 5), reason: "looking at it".into(), by: "ann".into() };
    world.supervisor.pause("web-0", pause.clone()).await.unwrap();
    world.prober.answer("web", ProbeKind::Liveness, Answer::fails(Reason::Timeout));
    tokio::time::sleep(MINUTE * 4).await;
    assert_eq!(world.runtime.starts().len(), 1);
    assert!(world.supervisor.status_of("web-0").await.unwrap().replicas[0].paused);
    tokio::time::sleep(MINUTE * 2).await;
    assert!(world.runtime.starts().len() > 1);
    let startup = Pause { probe: Some(ProbeKind::Startup), ..pause };
    let error = world.supervisor.pause("web", startup).await.unwrap_err();
    assert_eq!(error, SupervisorError::NoSuchProbe { name: "web".into(), probe: ProbeKind::Startup });
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_stops_in_reverse_order_of_dependencies() {
    let world = SimWorld::start();
    world.runtime.script("web", Script { stop_takes: secs(3), ..Script::default() });
    let mut web = workload("web", 2);
    web.depends_on = vec!["db".into()];
    apply(&world, [workload("db", 1), web]).await;
    until_ready(&world, "web").await;
    world.supervisor.shutdown(false).await;
    let order: Vec<_> = world.runtime.stops().into_iter().map(|(id, ..)| id.replica).collect();
    assert_eq!(order.last().map(String::as_str), Some("db-0"), "{order:?}");
    assert_eq!(world.runtime.alive(), 0);
    assert_eq!(world.supervisor.status().await, Err(SupervisorError::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_second_shutdown_hurries() {
    let world = SimWorld::start();
    world.runtime.script("web", Script { ignore_signals: true, ..Script::default() });
    apply(&world, [workload("web", 2)]).await;
    until_ready(&world, "web").await;
    let start = world.clock.now();
    let (first, second) = (world.supervisor.clone(), world.supervisor.clone());
    let patient = tokio::spawn(async move { first.shutdown(false).await });
    tokio::time::sleep(secs(1)).await;
    second.shutdown(true).await;
    patient.await.unwrap();
    assert_eq!(world.clock.now().since(start), secs(1));
    assert_eq!(world.runtime.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_not_there_says_so() {
    let world = SimWorld::start();
    apply(&world, [workload("web", 1)]).await;
    let not_found = |name: &str| SupervisorError::NotFound { name: name.into() };
    assert_eq!(world.supervisor.stop("web-1", "ann").await, Err(not_found("web-1")));
    assert_eq!(world.supervisor.restart("wob", "ann").await.unwrap_err(), not_found("wob"));
    assert!(world.supervisor.status_of("web-0").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_thousand_replicas_are_supervised_through_trouble() {
    let world = SimWorld::start();
    let workloads = (0..10).map(|n| {
        let mut it = live(workload(&format!("w{n}"), 100));
        it.policy.liveness = Some(ProbeTiming { period: secs(30), ..every_second(3) });
        it.liveness.as_mut().unwrap().timing.period = secs(30);
        it
    });
    apply(&world, workloads).await;
    for n in 0..10 {
        until_ready(&world, &format!("w{n}")).await;
    }
    for n in 0..100 {
        world.runtime.kill(&format!("w3-{n}"), Exit::signal(9));
        world.prober.answer(&format!("w4-{n}"), ProbeKind::Liveness, Answer::hangs());
    }
    tokio::time::sleep(MINUTE * 5).await;
    for n in 0..100 {
        world.prober.answer(&format!("w4-{n}"), ProbeKind::Liveness, Answer::well());
    }
    tokio::time::sleep(MINUTE * 5).await;
    nothing_ran_twice(&world);
    assert_eq!(world.runtime.alive(), 1000);
    let restarted = |n: u32| {
        world.runtime.starts().iter().filter(|it| it.id.replica.starts_with(&format!("w{n}-"))).count()
    };
    assert_eq!((restarted(0), restarted(3)), (100, 200));
    assert!(restarted(4) > 100);
    world.supervisor.shutdown(false).await;
}

/// A workload whose process reports by itself for these purposes.
fn notifies(name: &str, kinds: &[ProbeKind]) -> Workload {
    let mut it = workload(name, 1);
    for kind in kinds {
        it = with_probe(it, *kind, every_second(3));
    }
    for probe in [&mut it.startup, &mut it.liveness, &mut it.readiness].into_iter().flatten() {
        probe.check = Check::Notify;
    }
    it
}

#[tokio::test(start_paused = true)]
async fn a_process_says_itself_when_it_has_started_and_what_it_does() {
    let world = SimWorld::start();
    apply(&world, [notifies("web", &[ProbeKind::Startup, ProbeKind::Readiness])]).await;
    until_phase(&world, "web", Phase::Starting).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    world.runtime.notify("web-0", "STATUS", "loading, token=abcdefghijkl").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let status = world.supervisor.status_of("web").await.unwrap();
    assert_eq!(status.replicas[0].status_text.as_deref(), Some("loading, token=***"));
    assert_eq!((status.replicas[0].phase, status.ready), (Phase::Starting, 0));
    world.runtime.notify("web-0", "READY", "1").await;
    until_ready(&world, "web").await;
    tokio::time::sleep(MINUTE).await;
    assert!(world.told.outcomes_of("web-0").len() > 50, "readiness goes on once a period");
    assert_eq!(world.prober.asking(), 0);
    assert_eq!(world.runtime.starts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_missed_watchdog_is_a_failure_of_liveness() {
    let world = SimWorld::start();
    apply(&world, [notifies("web", &[ProbeKind::Liveness])]).await;
    until_ready(&world, "web").await;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(900)).await;
        world.runtime.notify("web-0", "WATCHDOG", "1").await;
    }
    assert_eq!(world.runtime.starts().len(), 1);
    until_phase(&world, "web-0", Phase::Restarting).await;
    let status = world.supervisor.status_of("web-0").await.unwrap();
    assert_eq!(status.replicas[0].last_error.as_deref(), Some("liveness: watchdog 3/3"));
}

#[tokio::test(start_paused = true)]
async fn one_replica_that_does_not_come_back_from_its_restart_is_an_error_too() {
    let world = SimWorld::start();
    let mut web = gated(workload("web", 2));
    web.rollout.progress_deadline = secs(20);
    apply(&world, [web]).await;
    until_ready(&world, "web").await;
    world.prober.answer("web-1", ProbeKind::Readiness, Answer::fails(Reason::StatusMismatch));
    let start = world.clock.now();
    let error = world.supervisor.restart_rolling("web-1", "ann", |_| {}).await.unwrap_err();
    assert!(matches!(error, SupervisorError::TooLate { .. }), "{error}");
    assert_eq!(world.clock.now().since(start), secs(20));
}
