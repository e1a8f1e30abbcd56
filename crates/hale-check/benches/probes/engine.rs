//! The engine, measured in a process of its own: CPU per probe, start delay, memory.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use hale_check::{Checker, Deliver, Engine, EngineOptions, Finished, Registration, Start, Subject};
use hale_model::spec::{Check, HttpGet, PortRef};
use rustix::time::{ClockId, clock_gettime};

use super::{
    kit::{address, own, rss_kib, say},
    peers::Load,
};

/// What one run of the engine found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) cpu_us: f64,
    pub(crate) late_p99_ms: f64,
    pub(crate) rss_kib: f64,
    /// Probes made from the first on.
    pub(crate) probes: f64,
}

/// The arguments of the process that [`serve`] is the body of.
pub(crate) fn arguments(port: u16, load: Load, window: Duration) -> [String; 7] {
    [
        "engine".into(),
        port.to_string(),
        load.targets.to_string(),
        load.period.as_millis().to_string(),
        window.as_millis().to_string(),
        if load.tls { "tls" } else { "plain" }.into(),
        if load.kept { "kept" } else { "fresh" }.into(),
    ]
}

/// Has the engine probe for so long, after a first period that warms it up.
pub(crate) fn run(port: u16, load: Load, window: Duration) -> Figures {
    let arguments = arguments(port, load, window);
    read(&say(&mut own(&arguments.each_ref().map(String::as_str))))
}

/// Reads what the process of [`serve`] prints.
pub(crate) fn read(line: &str) -> Figures {
    let numbers: Vec<f64> = line.split(' ').map(|it| it.parse().unwrap()).collect();
    Figures { cpu_us: numbers[0], late_p99_ms: numbers[1], rss_kib: numbers[2], probes: numbers[3] }
}

/// The process of [`run`].
pub(crate) fn serve(arguments: &[&str]) {
    let number = |nth: usize| arguments[nth].parse::<u64>().unwrap();
    let load = Load {
        targets: u32::try_from(number(1)).unwrap(),
        period: Duration::from_millis(number(2)),
        tls: arguments[4] == "tls",
        kept: arguments[5] == "kept",
    };
    let port = u16::try_from(number(0)).unwrap();
    let figures = measure(port, load, Duration::from_millis(number(3)));
    let Figures { cpu_us, late_p99_ms, rss_kib, probes } = figures;
    println!("{cpu_us:.3} {late_p99_ms:.3} {rss_kib:.0} {probes}");
}

/// Counts results, and how late they began.
#[derive(Clone, Default)]
struct Tally(Arc<Mutex<Counts>>);

#[derive(Default)]
struct Counts {
    done: u64,
    failed: u64,
    first_failure: Option<String>,
    late_us: Vec<u32>,
}

impl Deliver for Tally {
    fn deliver(&mut self, batch: &mut Vec<Finished>) {
        let mut counts = self.0.lock().unwrap();
        for finished in batch.drain(..) {
            counts.done += 1;
            if !finished.result.verdict.is_success() {
                counts.failed += 1;
                counts.first_failure.get_or_insert_with(|| format!("{:?}", finished.result.verdict));
            }
            counts.late_us.push(u32::try_from(finished.late.as_micros()).unwrap_or(u32::MAX));
        }
    }
}

fn measure(port: u16, load: Load, window: Duration) -> Figures {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let tally = Tally::default();
    let max_kept = Some(load.targets as usize);
    let options = EngineOptions { max_kept, ..EngineOptions::new(runtime.handle().clone()) };
    let engine = Engine::start(&options, tally.clone()).unwrap();
    let probes: Vec<_> = (0..load.targets)
        .map(|nth| {
            let check = Check::HttpGet(get(port, load.tls, load.kept));
            let subject = Subject { address: Some(IpAddr::V4(address(nth))), ..Subject::default() };
            let checker = Arc::new(Checker::compile(&check, &subject).unwrap());
            let (period, timeout) = (load.period, Duration::from_secs(2));
            let (token, start) = (nth.into(), Start::Spread(nth.into()));
            engine.register(Registration { token, checker, period, timeout, start })
        })
        .collect();
    // The first period warms up: sockets, connections that are kept, pages.
    std::thread::sleep(load.period + Duration::from_millis(500));
    std::mem::take(&mut *tally.0.lock().unwrap());
    let (used, began) = (cpu(), Instant::now());
    while let Some(left) = window.checked_sub(began.elapsed()).filter(|it| !it.is_zero()) {
        std::thread::sleep(left);
    }
    let used = cpu() - used;
    let rss = rss_kib("self");
    let mut counts = std::mem::take(&mut *tally.0.lock().unwrap());
    let started = engine.counters().started;
    drop(probes);
    // On a machine that is busy with something else one or the other may not be answered in time.
    assert!(
        counts.failed * 100 < counts.done,
        "{} of {} probes failed: {:?}",
        counts.failed,
        counts.done,
        counts.first_failure
    );
    counts.late_us.sort_unstable();
    let late = counts.late_us[counts.late_us.len() * 99 / 100];
    // The tally's own list is not the engine's memory.
    let tally_kib = counts.late_us.capacity() as f64 * 4.0 / 1024.0;
    Figures {
        cpu_us: used.as_secs_f64() * 1e6 / counts.done as f64,
        late_p99_ms: f64::from(late) / 1000.0,
        rss_kib: rss - tally_kib,
        probes: started as f64,
    }
}

/// The check that all of them make.
pub(crate) fn get(port: u16, tls: bool, keep_alive: bool) -> HttpGet {
    HttpGet {
        tls,
        host: None,
        port: PortRef::Number(port),
        path: "/healthz".into(),
        headers: Vec::new(),
        expected_status: vec![(200, 399)],
        expected_body: None,
        expected_json: Vec::new(),
        ca_file: None,
        tls_server_name: None,
        tls_insecure_skip_verify: tls.then_some(true),
        keep_alive,
    }
}

/// CPU time of this process so far, user and system.
pub(crate) fn cpu() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec.unsigned_abs(), u32::try_from(used.tv_nsec).unwrap())
}
