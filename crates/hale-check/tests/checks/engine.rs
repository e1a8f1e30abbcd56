//! The engine (H10) on real sockets.

use std::{
    io::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use hale_check::{CheckResult, Checker, Deliver, Engine, EngineOptions, Finished, Registration, Start};
use hale_health::Reason;
use hale_model::spec::{Check, Exec, HttpGet};
use tokio::{runtime::Handle, sync::mpsc};

use crate::support::{AMPLE, SOON, Server, at, failed, get, hang, http, ok, request, succeeded, tcp, until};

pub(crate) fn options() -> EngineOptions {
    EngineOptions::new(Handle::current())
}

pub(crate) fn engine(options: &EngineOptions) -> (Engine, mpsc::Receiver<Finished>) {
    let (results, receiver) = mpsc::channel(1024);
    (Engine::start(options, results).expect("an engine"), receiver)
}

pub(crate) async fn next(results: &mut mpsc::Receiver<Finished>) -> Finished {
    tokio::time::timeout(AMPLE, results.recv()).await.expect("a result in time").expect("an engine")
}

pub(crate) fn every(period: Duration, checker: &Arc<Checker>) -> Registration {
    Registration { token: 1, checker: Arc::clone(checker), period, timeout: AMPLE, start: Start::Now }
}

/// Makes a check by an engine, once.
pub(crate) async fn once(checker: Arc<Checker>, timeout: Duration) -> CheckResult {
    let (engine, mut results) = engine(&options());
    let _probe = engine.register(Registration { timeout, ..every(Duration::from_secs(3600), &checker) });
    next(&mut results).await.result
}

/// Answers every request of a connection.
fn patient() -> Server {
    Server::new(|mut stream, _| {
        while request(&mut stream).is_some() {
            let _ = stream.write_all(ok("").as_bytes());
        }
    })
}

#[tokio::test]
async fn a_probe_is_made_again_and_again_on_its_period() {
    let server = patient();
    let checker = Arc::new(http(get(server.address), server.address));
    let (engine, mut results) = engine(&options());
    let period = Duration::from_millis(50);
    let _probe = engine.register(every(period, &checker));
    let mut before = None;
    for _ in 0..8 {
        let finished = next(&mut results).await;
        succeeded(&finished.result);
        let due = finished.started_at - finished.late;
        if let Some(before) = before {
            // The grid is kept: however late one starts, the next is due a period after the last was.
            let apart = due.since(before);
            assert!(apart >= period || apart + finished.late >= period, "{apart:?}");
        }
        before = Some(due);
    }
    assert!(engine.counters().started >= 8);
    assert_eq!(engine.counters().registered, 1);
}

#[tokio::test]
async fn a_hanging_check_delays_nobody_and_is_not_started_again() {
    let hanging = Server::new(|mut stream, _| hang(&mut stream));
    let server = patient();
    let slow = Arc::new(http(get(hanging.address), hanging.address));
    let fast = Arc::new(http(get(server.address), server.address));
    let (engine, mut results) = engine(&options());
    let period = Duration::from_millis(20);
    let _hanging: Vec<_> =
        (0..20).map(|_| engine.register(Registration { token: 2, ..every(period, &slow) })).collect();
    let _fast = engine.register(every(period, &fast));
    for _ in 0..20 {
        let finished = next(&mut results).await;
        assert_eq!(finished.token, 1);
        succeeded(&finished.result);
    }
    assert_eq!(hanging.accepted(), 20);
    assert_eq!(engine.counters().in_flight.clamp(20, 21), engine.counters().in_flight);
}

#[tokio::test]
async fn an_overdue_check_is_ended_and_the_next_follows_at_once() {
    let server = Server::new(|mut stream, _| hang(&mut stream));
    let checker = Arc::new(tcp_or_http(&server));
    let (engine, mut results) = engine(&options());
    let timeout = Duration::from_millis(100);
    let _probe = engine.register(Registration { timeout, ..every(Duration::from_millis(10), &checker) });
    let first = next(&mut results).await;
    let second = next(&mut results).await;
    failed(&first.result, Reason::Timeout, &["within 100ms"]);
    let end = first.started_at + first.result.timings.total;
    assert!(second.started_at.since(first.started_at) >= timeout);
    assert!(second.started_at.since(end) < Duration::from_secs(2));
    assert_eq!(second.late, Duration::ZERO.max(second.late));
}

fn tcp_or_http(server: &Server) -> Checker {
    http(get(server.address), server.address)
}

#[tokio::test]
async fn probes_are_spread_over_their_period() {
    let server = patient();
    let checker = Arc::new(tcp(server.address));
    let (engine, mut results) = engine(&options());
    let period = Duration::from_secs(1);
    let began = Instant::now();
    let probes: Vec<_> = (0..100)
        .map(|nth| {
            let start = Start::Spread(nth);
            engine.register(Registration { token: nth, start, ..every(period, &checker) })
        })
        .collect();
    let mut due = Vec::new();
    while due.len() < 100 {
        let finished = next(&mut results).await;
        if !due.iter().any(|(token, _)| *token == finished.token) {
            due.push((finished.token, finished.started_at - finished.late));
        }
    }
    assert!(began.elapsed() < AMPLE);
    let first = due.iter().map(|(_, at)| *at).min().unwrap();
    let mut tenths = [0; 11];
    for (_, at) in &due {
        tenths[(at.since(first).as_millis() / 100).min(10) as usize] += 1;
    }
    assert!(tenths[..9].iter().all(|count| (1..30).contains(count)), "{tenths:?}");
    drop(probes);
    assert_eq!(engine.counters().registered, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_cancelled_check_is_no_outcome() {
    let hanging = Server::new(|mut stream, _| hang(&mut stream));
    let server = patient();
    let (engine, mut results) = engine(&options());
    let here = Arc::new(http(get(hanging.address), hanging.address));
    let spec = HttpGet { tls: true, ..get(hanging.address) };
    let away = Arc::new(http(spec, hanging.address));
    let cancelled: Vec<_> = [here, away]
        .iter()
        .map(|checker| {
            let timeout = Duration::from_secs(1);
            engine.register(Registration { token: 2, timeout, ..every(AMPLE, checker) })
        })
        .collect();
    until("both ask", || hanging.accepted() == 2);
    drop(cancelled);
    assert_eq!((engine.counters().registered, engine.counters().in_flight), (0, 0));
    // Well after their timeouts nothing has come but what others found.
    let checker = Arc::new(http(get(server.address), server.address));
    let _probe = engine.register(every(Duration::from_millis(100), &checker));
    for _ in 0..15 {
        assert_eq!(next(&mut results).await.token, 1);
    }
}

#[tokio::test]
async fn a_trigger_makes_a_check_at_once_and_one_more_after_one_under_way() {
    let server = patient();
    let checker = Arc::new(http(get(server.address), server.address));
    let (engine, mut results) = engine(&options());
    let start = Start::After(Duration::from_secs(3600));
    let probe = engine.register(Registration { start, ..every(Duration::from_secs(3600), &checker) });
    probe.trigger_now();
    succeeded(&next(&mut results).await.result);
    probe.trigger_now();
    succeeded(&next(&mut results).await.result);
    probe.cancel();

    let hanging = Server::new(|mut stream, _| hang(&mut stream));
    let checker = Arc::new(http(get(hanging.address), hanging.address));
    let probe = engine.register(Registration { timeout: SOON, ..every(Duration::from_secs(3600), &checker) });
    until("it asks", || hanging.accepted() == 1);
    probe.trigger_now();
    next(&mut results).await;
    next(&mut results).await;
    assert_eq!(hanging.accepted(), 2);
}

#[tokio::test]
async fn beyond_the_limit_checks_wait_in_order_and_count_as_late() {
    let server = Server::new(|mut stream, _| hang(&mut stream));
    let checker = Arc::new(http(get(server.address), server.address));
    let (engine, mut results) = engine(&EngineOptions { max_in_flight: Some(1), ..options() });
    let timeout = Duration::from_millis(500);
    let _probes: Vec<_> = (0..4)
        .map(|token| {
            engine.register(Registration { token, timeout, ..every(Duration::from_secs(3600), &checker) })
        })
        .collect();
    until("one asks", || server.accepted() == 1);
    assert_eq!((engine.counters().in_flight, engine.counters().waiting), (1, 3));
    for token in 0..4 {
        let finished = next(&mut results).await;
        assert_eq!(finished.token, token);
        assert_eq!(finished.late >= timeout, token > 0, "{finished:?}");
    }
    // On a machine that is busy the first may have been late, too.
    assert!((3..=4).contains(&engine.counters().late_starts), "{:?}", engine.counters());
}

/// Takes results only while it is open.
#[derive(Clone, Default)]
struct Gate(Arc<std::sync::Mutex<GateState>>);

#[derive(Default)]
struct GateState {
    open: bool,
    offers: usize,
    taken: u64,
}

impl Deliver for Gate {
    fn deliver(&mut self, batch: &mut Vec<Finished>) {
        let mut gate = self.0.lock().unwrap();
        gate.offers += 1;
        if gate.open {
            gate.taken += batch.drain(..).count() as u64;
        }
    }
}

#[tokio::test]
async fn results_that_are_not_taken_hold_up_new_checks_and_none_is_lost() {
    let server = patient();
    let checker = Arc::new(http(get(server.address), server.address));
    let gate = Gate::default();
    let engine = Engine::start(&options(), gate.clone()).unwrap();
    let probe = engine.register(every(Duration::from_millis(5), &checker));
    let offers = || gate.0.lock().unwrap().offers;
    until("results wait and the next check is due", || {
        offers() > 0 && engine.counters().in_flight == 0 && engine.counters().waiting == 1
    });
    let (started, offered) = (engine.counters().started, offers());
    until("they are offered again and again", || offers() > offered + 3);
    assert_eq!(engine.counters().started, started);
    gate.0.lock().unwrap().open = true;
    until("checks go on", || engine.counters().started > started + 3);
    // Once the probe is gone, what has started has come, but for one that was cut off.
    drop(probe);
    until("all have come", || gate.0.lock().unwrap().taken + 1 >= engine.counters().started);
}

#[tokio::test]
async fn a_kept_connection_serves_check_after_check() {
    let server = patient();
    let spec = HttpGet { keep_alive: true, ..get(server.address) };
    let checker = Arc::new(http(spec, server.address));
    let (engine, mut results) = engine(&options());
    let probe = engine.register(every(Duration::from_millis(10), &checker));
    let first = next(&mut results).await.result;
    assert!(first.timings.connect.is_some());
    for _ in 0..5 {
        let result = next(&mut results).await.result;
        succeeded(&result);
        assert!(result.timings.connect.is_none());
    }
    assert_eq!(server.accepted(), 1);
    drop(probe);
}

#[tokio::test]
async fn a_kept_connection_closed_by_the_peer_costs_no_failure() {
    // Says it keeps the connection; closes it after the second answer, in place of the third.
    let server = Server::new(|mut stream, _| {
        for _ in 0..2 {
            if request(&mut stream).is_none() {
                return;
            }
            let _ = stream.write_all(ok("").as_bytes());
        }
        request(&mut stream);
    });
    let spec = HttpGet { keep_alive: true, ..get(server.address) };
    let checker = Arc::new(http(spec, server.address));
    let (engine, mut results) = engine(&options());
    let _probe = engine.register(every(Duration::from_millis(10), &checker));
    for _ in 0..9 {
        succeeded(&next(&mut results).await.result);
    }
    assert!((4..=6).contains(&server.accepted()), "{}", server.accepted());
}

#[tokio::test]
async fn many_probes_of_many_kinds_all_get_their_answer() {
    let server = patient();
    let refused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let command = vec!["true".to_owned()];
    let kinds = [
        http(get(server.address), server.address),
        http(HttpGet { keep_alive: true, ..get(server.address) }, server.address),
        tcp(server.address),
        http(get(refused), refused),
        Checker::compile(&Check::Exec(Exec { command }), &at(refused)).unwrap(),
    ]
    .map(Arc::new);
    let (engine, mut results) = engine(&EngineOptions { shards: 2, ..options() });
    let probes: Vec<_> = (0..100)
        .map(|nth| {
            let checker = &kinds[nth % kinds.len()];
            engine.register(Registration { token: nth as u64, ..every(Duration::from_secs(3600), checker) })
        })
        .collect();
    let mut seen = [false; 100];
    for _ in 0..100 {
        let finished = next(&mut results).await;
        let nth = finished.token as usize;
        assert!(!std::mem::replace(&mut seen[nth], true));
        match nth % kinds.len() {
            3 => failed(&finished.result, Reason::ConnectionRefused, &[]),
            _ => succeeded(&finished.result),
        }
    }
    drop(probes);
    assert_eq!(engine.counters().in_flight, 0);
}

#[tokio::test]
async fn handles_outlive_the_engine_without_harm() {
    let server = patient();
    let checker = Arc::new(http(get(server.address), server.address));
    let (engine, mut results) = engine(&options());
    let probe = engine.register(every(Duration::from_millis(10), &checker));
    succeeded(&next(&mut results).await.result);
    drop(engine);
    probe.trigger_now();
    drop(probe);
}
