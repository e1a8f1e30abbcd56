//! The embeddable supervisor, as a program uses it.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of a test function")]

use std::{
    future::{pending, ready},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use hale_health::{Phase, ProbeKind, ProbeTiming, Reason, RestartPolicy, Status};
use hale_supervisor::{
    clock::{Clock, ManualClock, TokioClock},
    monitor::{Change, Changes, Component, Monitor, MonitorError},
};

fn timing() -> ProbeTiming {
    ProbeTiming {
        period: Duration::from_secs(1),
        timeout: Duration::from_millis(500),
        ..ProbeTiming::default_for(ProbeKind::Liveness)
    }
}

fn paused_monitor() -> (Monitor, Arc<dyn Clock>) {
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::start());
    (Monitor::with_clock(Arc::clone(&clock)), clock)
}

/// A component that is well while `flag` is up, and whose restart puts it up again.
fn flagged(name: &str, flag: &Arc<AtomicBool>) -> Component {
    let (asked, restarted) = (Arc::clone(flag), Arc::clone(flag));
    Component::new(name)
        .timing(ProbeKind::Liveness, timing())
        .liveness(move || ready(if asked.load(Ordering::SeqCst) { Ok(()) } else { Err("no connection") }))
        .on_restart(move || {
            restarted.store(true, Ordering::SeqCst);
            ready(Ok::<(), String>(()))
        })
}

async fn until(changes: &mut Changes, is: impl Fn(&Change) -> bool) -> Vec<Change> {
    let mut seen = Vec::new();
    loop {
        let change = tokio::time::timeout(Duration::from_secs(3600), changes.next()).await;
        let change = change.unwrap_or_else(|_| panic!("never came; saw {seen:#?}")).unwrap();
        let done = is(&change);
        seen.push(change);
        if done {
            return seen;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_fails_its_checks_is_restarted_and_everything_on_the_way_is_told() {
    let (monitor, clock) = paused_monitor();
    let flag = Arc::new(AtomicBool::new(true));
    monitor.add(flagged("uplink", &flag)).unwrap();
    let mut changes = monitor.changes();
    monitor.start("uplink").await.unwrap();
    assert!(monitor.is_healthy("uplink").await);

    flag.store(false, Ordering::SeqCst);
    let restarted = |change: &Change| matches!(change, Change::Restarted { .. });
    let seen = until(&mut changes, restarted).await;
    let failures: Vec<_> = seen
        .iter()
        .filter_map(|change| match change {
            Change::CheckFailed { reason, detail, count, threshold, .. } => {
                Some((*reason, detail.as_str(), *count, *threshold))
            }
            _ => None,
        })
        .collect();
    assert_eq!(failures, [1, 2, 3].map(|count| (Reason::CheckFailed, "no connection", count, 3)));
    let phases: Vec<_> = seen
        .iter()
        .filter_map(|change| if let Change::Phase { phase, .. } = change { Some(*phase) } else { None })
        .collect();
    assert!(phases.contains(&Phase::Unhealthy) && phases.contains(&Phase::Restarting), "{phases:?}");

    until(&mut changes, |change| matches!(change, Change::Ready { ready: true, .. })).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let status = monitor.status("uplink").await.unwrap();
    assert_eq!((status.restarts, status.phase, status.ready), (1, Phase::Running, true));
    assert!(status.uptime.is_some_and(|uptime| uptime >= Duration::from_secs(5)));
    assert_eq!(status.last_error.as_deref(), Some("liveness: check_failed 3/3"));
    assert_eq!(status.last_detail.as_deref(), Some("no connection"));
    assert!(clock.now().as_nanos() > 0);
    monitor.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_check_that_hangs_is_cut_off_and_delays_nobody_else() {
    let (monitor, _) = paused_monitor();
    let other = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&other);
    monitor
        .add(
            Component::new("hangs")
                .timing(ProbeKind::Liveness, timing())
                .liveness(pending::<Result<(), String>>),
        )
        .unwrap();
    monitor
        .add(Component::new("well").timing(ProbeKind::Liveness, timing()).liveness(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            ready(Ok::<(), String>(()))
        }))
        .unwrap();
    let mut changes = monitor.changes();
    monitor.start_all().await.unwrap();
    let unhealthy = |change: &Change| matches!(change, Change::Phase { phase: Phase::Unhealthy, .. });
    let seen = until(&mut changes, unhealthy).await;
    assert!(seen.iter().any(|it| matches!(it, Change::CheckFailed { reason: Reason::Timeout, .. })));
    assert!(other.load(Ordering::SeqCst) >= 2);
    assert!(monitor.is_healthy("well").await);
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_hangs_is_cut_off_after_thirty_seconds_counts_and_backs_off() {
    let (monitor, clock) = paused_monitor();
    let begun = Arc::new(Mutex::new(Vec::new()));
    let (record, time) = (Arc::clone(&begun), Arc::clone(&clock));
    let policy = RestartPolicy { max_restarts: 3, ..RestartPolicy::default() };
    let component = Component::new("stuck")
        .timing(ProbeKind::Liveness, timing())
        .liveness(|| ready(Err::<(), _>("down")))
        .policy(policy)
        .on_restart(move || {
            record.lock().unwrap().push(time.now());
            pending::<Result<(), String>>()
        });
    monitor.add(component).unwrap();
    let mut changes = monitor.changes();
    monitor.start("stuck").await.unwrap();
    let seen = until(&mut changes, |it| matches!(it, Change::Phase { phase: Phase::Failed, .. })).await;
    let begun = begun.lock().unwrap().clone();
    let gaps: Vec<_> = begun.windows(2).map(|pair| pair[1].since(pair[0]).as_secs()).collect();
    assert_eq!(gaps, [32, 34], "30 s for the function, then 2 s and 4 s of backoff");
    let cut_off = |it: &Change| matches!(it, Change::RestartFailed { reason, .. } if reason.contains("30s"));
    assert!(seen.iter().any(cut_off), "{seen:#?}");
    assert_eq!(monitor.summary().await.status, Status::Failing);
}

#[tokio::test(start_paused = true)]
async fn a_check_or_a_restart_that_panics_is_a_failure_and_harms_nobody_else() {
    let (monitor, _) = paused_monitor();
    let times = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&times);
    let component = Component::new("wild")
        .timing(ProbeKind::Liveness, timing())
        .liveness(|| async { if true { panic!("a check gone wild") } else { Ok::<(), String>(()) } })
        .on_restart(move || {
            let nth = counted.fetch_add(1, Ordering::SeqCst);
            async move { if nth == 0 { panic!("a restart gone wild") } else { Ok::<(), String>(()) } }
        });
    monitor.add(component).unwrap();
    let mut changes = monitor.changes();
    monitor.start("wild").await.unwrap();
    let seen = until(&mut changes, |it| matches!(it, Change::Restarted { .. })).await;
    let panicked =
        |it: &Change| matches!(it, Change::RestartFailed { reason, .. } if reason.contains("panicked"));
    assert!(seen.iter().any(panicked), "{seen:#?}");
    assert_eq!(times.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_clock_by_hand_drives_everything_without_timers() {
    let clock = Arc::new(ManualClock::new());
    let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let monitor = Monitor::with_clock(shared);
    let flag = Arc::new(AtomicBool::new(true));
    monitor.add(flagged("cache", &flag)).unwrap();
    let mut changes = monitor.changes();
    monitor.start("cache").await.unwrap();
    flag.store(false, Ordering::SeqCst);
    let mut restarts = 0;
    for _ in 0..1000 {
        // Whatever is due is done between two steps; what it does next is waited for by turning to the others.
        clock.advance(Duration::from_millis(100));
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        restarts = monitor.status("cache").await.unwrap().restarts;
        if restarts > 0 {
            break;
        }
    }
    assert_eq!(restarts, 1);
    let failed = until(&mut changes, |it| matches!(it, Change::Restarted { .. })).await;
    assert_eq!(failed.iter().filter(|it| matches!(it, Change::CheckFailed { .. })).count(), 3);
}

#[tokio::test(start_paused = true)]
async fn checks_can_be_made_now_and_count() {
    let (monitor, _) = paused_monitor();
    let slow = ProbeTiming { period: Duration::from_secs(600), ..timing() };
    let component = Component::new("db")
        .timing(ProbeKind::Readiness, slow)
        .timing(ProbeKind::Liveness, slow)
        .liveness(|| ready(Ok::<(), String>(())))
        .liveness(|| ready(Err::<(), _>("one of two says no")))
        .readiness(|| ready(Ok::<(), String>(())));
    monitor.add(component).unwrap();
    monitor.start("db").await.unwrap();
    for count in 1..=3 {
        let checked = monitor.check_now("db").await.unwrap();
        let told: Vec<_> =
            checked.iter().map(|it| (it.probe, it.failure.as_ref().map(|(_, it)| it.as_str()))).collect();
        let expected = [(ProbeKind::Liveness, Some("one of two says no")), (ProbeKind::Readiness, None)];
        assert_eq!(told, expected, "{count}");
    }
    assert_ne!(monitor.status("db").await.unwrap().phase, Phase::Running);
    assert_eq!(monitor.check_now("nobody").await, Err(MonitorError::NotFound("nobody".into())));
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_blocks_nothing_and_is_told_what_it_missed() {
    let (monitor, _) = paused_monitor();
    let failing = ProbeTiming { failure_threshold: u32::MAX, ..timing() };
    monitor
        .add(
            Component::new("noisy")
                .timing(ProbeKind::Readiness, failing)
                .readiness(|| ready(Err::<(), _>("no"))),
        )
        .unwrap();
    let mut slow = monitor.changes();
    monitor.start("noisy").await.unwrap();
    tokio::time::sleep(Duration::from_secs(3000)).await;
    assert_eq!(monitor.status("noisy").await.unwrap().phase, Phase::Running);
    let Some(Change::Missed { count }) = slow.next().await else { panic!("nothing was missed") };
    assert!(count > 1000, "{count}");
    assert!(matches!(slow.next().await, Some(Change::CheckFailed { .. })));
}

#[tokio::test(start_paused = true)]
async fn what_is_stopped_is_asked_no_more_until_it_is_started_again() {
    let (monitor, _) = paused_monitor();
    let asked = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&asked);
    monitor
        .add(Component::new("cache").timing(ProbeKind::Liveness, timing()).liveness(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            ready(Ok::<(), String>(()))
        }))
        .unwrap();
    assert_eq!(monitor.status("cache").await.unwrap().phase, Phase::Pending);
    monitor.start("cache").await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    monitor.stop("cache").await.unwrap();
    let before = asked.load(Ordering::SeqCst);
    assert!(before >= 9, "{before}");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(asked.load(Ordering::SeqCst), before);
    monitor.start("cache").await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(asked.load(Ordering::SeqCst) > before);
    monitor.remove("cache").await.unwrap();
    assert_eq!(monitor.status("cache").await, Err(MonitorError::NotFound("cache".into())));
    assert_eq!(monitor.summary().await.status, Status::Unknown, "empty is unknown");
}

#[tokio::test(start_paused = true)]
async fn a_component_whose_dependency_fails_is_not_restarted_for_it() {
    let (monitor, _) = paused_monitor();
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let db = Arc::new(AtomicBool::new(true));
    let (asked, also) = (Arc::clone(&db), Arc::clone(&db));
    let well =
        move |flag: &Arc<AtomicBool>| ready(if flag.load(Ordering::SeqCst) { Ok(()) } else { Err("down") });
    let never = RestartPolicy { max_restarts: 0, ..RestartPolicy::default() };
    monitor
        .add(
            Component::new("db")
                .timing(ProbeKind::Liveness, timing())
                .liveness(move || well(&asked))
                .policy(never),
        )
        .unwrap();
    let api = Component::new("api")
        .depends_on(["db"])
        .timing(ProbeKind::Liveness, ProbeTiming { failure_threshold: 6, ..timing() })
        .liveness(move || well(&also))
        .on_restart(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            ready(Ok::<(), String>(()))
        });
    monitor.add(api).unwrap();
    let mut changes = monitor.changes();
    monitor.start_all().await.unwrap();
    let first = changes.next().await;
    assert!(matches!(&first, Some(Change::Phase { component, .. }) if component == "db"), "{first:?}");
    tokio::time::sleep(Duration::from_secs(5)).await;
    db.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    assert_eq!(monitor.status("db").await.unwrap().phase, Phase::Failed);
    let missing = monitor.add(Component::new("x").depends_on(["y"]));
    assert!(matches!(missing, Err(MonitorError::MissingDependency { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_it_can_be_called_from_many_tasks_at_once() {
    let monitor = Monitor::new();
    let tasks = (0..32).map(|n| {
        let monitor = monitor.clone();
        tokio::spawn(async move {
            let name = format!("c{n}");
            let fast = ProbeTiming { period: Duration::from_millis(500), ..timing() };
            monitor
                .add(
                    Component::new(&name)
                        .timing(ProbeKind::Liveness, fast)
                        .liveness(|| ready(Ok::<(), String>(()))),
                )
                .unwrap();
            monitor.start(&name).await.unwrap();
            assert!(monitor.is_healthy(&name).await);
            monitor.check_now(&name).await.unwrap();
            monitor.summary().await;
            monitor.restart(&name, "test").await.unwrap();
            monitor.stop(&name).await.unwrap();
            if n % 2 == 0 {
                monitor.remove(&name).await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(monitor.summary().await.components.len(), 16);
    monitor.shutdown().await;
}
