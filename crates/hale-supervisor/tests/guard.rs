//! The observer guard over a supervisor in a scripted world (H22).

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of a test function")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use hale_health::{ObserverPolicy, ProbeKind, ProbeTiming, Reason, Status};
use hale_model::spec::{Check, PortRef, TcpSocket, Workload};
use hale_supervisor::{
    clock::Clock,
    guard::{Guard, SelfCheck},
    sim::{Answer, Recorder, SimWorld, with_probe, workload},
    sink::Sink,
    supervisor::Options,
};

type Found = Arc<Mutex<Result<(), String>>>;

/// A world whose node finds of itself what it is told to find.
fn world(found: &Found) -> SimWorld {
    let answer = Arc::clone(found);
    let check: SelfCheck = Arc::new(move || {
        let found = answer.lock().unwrap().clone();
        Box::pin(std::future::ready(found))
    });
    SimWorld::start_with(|options| {
        let (sink, clock): (Arc<dyn Sink>, Arc<dyn Clock>) =
            (Arc::clone(&options.sink), Arc::clone(&options.clock));
        let guard = Guard::start_with("sim", sink, clock, ObserverPolicy::default(), check);
        Options { guard: Some(guard), ..options }
    })
}

/// A workload that is asked over the network, at a host of its own.
fn asked_at(name: &str, host: &str) -> Arc<Workload> {
    let timing = ProbeTiming {
        period: Duration::from_secs(1),
        timeout: Duration::from_millis(500),
        failure_threshold: 2,
        ..ProbeTiming::default_for(ProbeKind::Liveness)
    };
    let mut it = with_probe(workload(name, 1), ProbeKind::Liveness, timing);
    let socket = TcpSocket { host: Some(host.to_owned()), port: PortRef::Number(80) };
    it.liveness.as_mut().unwrap().check = Check::TcpSocket(socket);
    Arc::new(it)
}

async fn six_at_six_hosts(world: &SimWorld) {
    let all = (0..6).map(|n| asked_at(&format!("w{n}"), &format!("10.0.0.{n}"))).collect();
    world.supervisor.apply(all).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    for n in 0..6 {
        world.prober.answer(&format!("w{n}"), ProbeKind::Liveness, Answer::fails(Reason::Unreachable));
    }
}

fn verdicts(told: &Recorder) -> Vec<&'static str> {
    told.kinds_of("sim").into_iter().filter(|kind| *kind == "observer_suspect").collect()
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_itself_unwell_restarts_nobody_and_says_unknown_in_the_end() {
    let found: Found = Arc::new(Mutex::new(Err("no route to anywhere".to_owned())));
    let world = world(&found);
    six_at_six_hosts(&world).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    // Those whose turn came before the suspicion are believed; that is at most four of six, and each had to fail twice.
    let restarted = world.runtime.starts().len() - 6;
    assert_eq!(restarted, 0, "{:?}", world.told.kinds_of("w0-0"));
    tokio::time::sleep(Duration::from_secs(60)).await;
    let statuses = world.supervisor.status().await.unwrap();
    assert!(statuses.iter().all(|it| it.status == Status::Unknown), "{statuses:?}");
    assert!(verdicts(&world.told).len() >= 3, "suspect, unwell, blind");

    *found.lock().unwrap() = Ok(());
    for n in 0..6 {
        world.prober.answer(&format!("w{n}"), ProbeKind::Liveness, Answer::well());
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    let statuses = world.supervisor.status().await.unwrap();
    assert!(statuses.iter().all(|it| it.status == Status::Healthy), "{statuses:?}");
    assert_eq!(world.runtime.starts().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_well_believes_what_it_sees() {
    let found: Found = Arc::new(Mutex::new(Ok(())));
    let world = world(&found);
    six_at_six_hosts(&world).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(world.runtime.starts().len() >= 12);
}
