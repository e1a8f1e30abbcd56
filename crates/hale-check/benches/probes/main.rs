//! What a probe costs (O10), measured against the least that a C loop needs in the same run.
//!
//! `cargo xtask bench probes`. Every figure is taken in a process of its own, rounds are interleaved and the median
//! counts, so that whatever else the machine does meets all of them alike. The server is a process too, so that only
//! the prober's CPU time is counted.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and stops at the first surprise"
)]

mod scale;

use std::{
    io::{BufRead, BufReader},
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use hale_check::{Checker, Deliver, Engine, EngineOptions, Finished, Registration, Start, Subject};
use hale_model::spec::{Check, HttpGet, PortRef};
use rustix::time::{ClockId, clock_gettime};

/// How often each figure is taken.
const ROUNDS: usize = 3;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["engine", port, targets, period_ms, seconds, kind] => {
            let period = Duration::from_millis(period_ms.parse().unwrap());
            let seconds = Duration::from_secs(seconds.parse().unwrap());
            measure(port.parse().unwrap(), targets.parse().unwrap(), period, seconds, kind == "kept");
        }
        ["scale"] => scale::run(&build()),
        _ => compare(),
    }
}

/// What one run of the engine found.
struct Figures {
    cpu_us: f64,
    late_p99_ms: f64,
    rss_kib: f64,
}

fn compare() {
    let built = build();
    let server = Server::start(&built.join("probe_server"), &[]);
    let port = server.port.to_string();
    let c = |kind| -> f64 {
        say(Command::new(built.join("probe_loop")).args([&port, "40000", kind])).parse().unwrap()
    };
    let engine = |targets: &str, period: &str, seconds: &str, kind| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let line = say(command.args(["engine", &port, targets, period, seconds, kind]));
        let numbers: Vec<f64> = line.split(' ').map(|it| it.parse().unwrap()).collect();
        Figures { cpu_us: numbers[0], late_p99_ms: numbers[1], rss_kib: numbers[2] }
    };
    let mut rounds: [Vec<f64>; 4] = Default::default();
    for _ in 0..ROUNDS {
        rounds[0].push(c("fresh"));
        rounds[1].push(engine("1000", "100", "4", "fresh").cpu_us);
        rounds[2].push(c("kept"));
        rounds[3].push(engine("1000", "100", "4", "kept").cpu_us);
    }
    let [c_fresh, fresh, c_kept, kept] = rounds.map(median);
    println!(
        "CPU per probe (user and system), median of {ROUNDS} interleaved rounds, 10,000 probes a second:"
    );
    println!("  C loop, fresh connection      {c_fresh:7.2} µs   1.00");
    println!("  engine, fresh connection      {fresh:7.2} µs   {:.2}   (O10: at most 1.20)", fresh / c_fresh);
    println!("  C loop, kept connection       {c_kept:7.2} µs   {:.2}", c_kept / c_fresh);
    println!("  engine, kept connection       {kept:7.2} µs   {:.2}   (O10: at most 0.40)", kept / c_fresh);
    let few = engine("10000", "10000", "21", "fresh");
    let many = engine("100000", "10000", "21", "fresh");
    let slope = (many.rss_kib - few.rss_kib) * 1024.0 / 90_000.0;
    println!("100,000 targets every 10 s, fresh, one shard:");
    println!("  CPU per probe                 {:7.2} µs", many.cpu_us);
    println!("  start delay, p99              {:7.2} ms              (O10: under 50)", many.late_p99_ms);
    println!("  memory per target             {slope:7.0} bytes           (O10: at most 2000)");
    println!(
        "  resident, 10,000 and 100,000  {:.1} and {:.1} MiB",
        few.rss_kib / 1024.0,
        many.rss_kib / 1024.0
    );
    drop(server);
    // In a process of its own, too: its memory and its CPU time are its own.
    let status = Command::new(std::env::current_exe().unwrap()).arg("scale").status().unwrap();
    assert!(status.success(), "not every one of the broken targets was told as it should be");
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The last line that a command prints.
fn say(command: &mut Command) -> String {
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap().lines().last().unwrap().to_owned()
}

/// Builds the C programs beside this one.
fn build() -> PathBuf {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benches");
    let folder = std::env::current_exe().unwrap().parent().unwrap().join("bench-c");
    std::fs::create_dir_all(&folder).unwrap();
    for name in ["probe_loop", "probe_server"] {
        let source = sources.join(name).with_extension("c");
        let status = Command::new("cc").arg("-O2").arg("-o").arg(folder.join(name)).arg(source).status();
        assert!(status.is_ok_and(|it| it.success()), "a C compiler (cc) is needed for the comparison");
    }
    folder
}

struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(program: &Path, args: &[&str]) -> Self {
        let mut child =
            Command::new(program).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, port: line.trim().parse().unwrap() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Counts results, and how late they began.
#[derive(Clone, Default)]
struct Tally(Arc<Mutex<Counts>>);

#[derive(Default)]
struct Counts {
    done: u64,
    failed: u64,
    late_us: Vec<u32>,
}

impl Deliver for Tally {
    fn deliver(&mut self, batch: &mut Vec<Finished>) {
        let mut counts = self.0.lock().unwrap();
        for finished in batch.drain(..) {
            counts.done += 1;
            counts.failed += u64::from(!finished.result.verdict.is_success());
            counts.late_us.push(u32::try_from(finished.late.as_micros()).unwrap_or(u32::MAX));
        }
    }
}

/// Runs the engine on many targets and prints: CPU per probe in µs, the 99th percentile of the start delay in ms,
/// resident memory in KiB.
fn measure(port: u16, targets: usize, period: Duration, run: Duration, kept: bool) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let tally = Tally::default();
    let options = EngineOptions { max_kept: Some(targets), ..EngineOptions::new(runtime.handle().clone()) };
    let engine = Engine::start(&options, tally.clone()).unwrap();
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let _probes: Vec<_> = (0..targets as u64)
        .map(|token| {
            let subject = Subject { address: Some(address), ..Subject::default() };
            let checker = Arc::new(Checker::compile(&Check::HttpGet(get(port, kept)), &subject).unwrap());
            let start = Start::Spread(token);
            engine.register(Registration { token, checker, period, timeout: Duration::from_secs(2), start })
        })
        .collect();
    // The first period warms up: sockets, connections that are kept, pages.
    std::thread::sleep(period.min(run / 2));
    std::mem::take(&mut *tally.0.lock().unwrap());
    let cpu_before = cpu();
    let began = Instant::now();
    while began.elapsed() + Duration::from_millis(1) < run.saturating_sub(period.min(run / 2)) {
        std::thread::sleep(run.saturating_sub(period.min(run / 2)).saturating_sub(began.elapsed()));
    }
    let used = cpu() - cpu_before;
    let rss = rss_kib();
    let mut counts = std::mem::take(&mut *tally.0.lock().unwrap());
    assert!(counts.done > 0 && counts.failed == 0, "{} of {} probes failed", counts.failed, counts.done);
    counts.late_us.sort_unstable();
    let late = counts.late_us[counts.late_us.len() * 99 / 100];
    // The tally's own list is not the engine's memory.
    let tally_kib = counts.late_us.capacity() as f64 * 4.0 / 1024.0;
    let each = used.as_secs_f64() * 1e6 / counts.done as f64;
    println!("{each:.3} {:.3} {:.0}", f64::from(late) / 1000.0, rss - tally_kib);
}

fn get(port: u16, keep_alive: bool) -> HttpGet {
    HttpGet {
        tls: false,
        host: None,
        port: PortRef::Number(port),
        path: "/healthz".into(),
        headers: Vec::new(),
        expected_status: vec![(200, 399)],
        expected_body: None,
        expected_json: Vec::new(),
        ca_file: None,
        tls_server_name: None,
        tls_insecure_skip_verify: None,
        keep_alive,
    }
}

/// CPU time of this process so far, user and system.
fn cpu() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec.unsigned_abs(), u32::try_from(used.tv_nsec).unwrap())
}

/// Resident memory of this process.
fn rss_kib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|it| it.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
