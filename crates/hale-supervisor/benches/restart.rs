//! From the death of a replica to its replacement running, without backoff, beside runit in the same run (O11).
//!
//! Both keep the same program, which writes the time as the first thing it does. The bench kills it with SIGKILL and
//! takes the time from there. `runsv` starts nothing twice within a second: each run lasts longer than that.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark fails by panicking and prints its figures"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::Arc,
    time::{Duration, Instant},
};

use hale_keeper::{LaunchOptions, launch, procfs};
use hale_model::spec::Run;
use hale_supervisor::{
    clock::BootClock,
    process::{ProcessOptions, ProcessRuntime},
    sim::{self, SimProber},
    supervisor::{Options, Supervisor},
};

const SAMPLES: usize = 40;
/// Tells the program that is kept where to write that it runs.
const LIVE: &str = "LIVE_FILE";
/// What is promised.
const RATIO: f64 = 0.7;

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("live");
    // A copy, so that both run the same file from the same place.
    fs::copy(env!("CARGO_BIN_EXE_hale-test-live"), &program).unwrap();
    let mut runit = Runit::start(dir.path(), &program);
    let (of_runit, of_hale, keeper) = measure(dir.path(), &program);
    runit.end();
    let (runit, hale) = (quantiles(of_runit), quantiles(of_hale));
    println!("death to replacement running, µs, {SAMPLES} each, alternating");
    println!("  runit  median {:>6}  p90 {:>6}", runit.0, runit.1);
    println!("  hale   median {:>6}  p90 {:>6}", hale.0, hale.1);
    let ratio = hale.0 as f64 / runit.0 as f64;
    println!("  hale / runit {ratio:.2} (at most {RATIO})");
    println!("keeper: {keeper} KiB resident");
    assert!(ratio <= RATIO, "hale took {ratio:.2} times as long as runit");
}

fn measure(dir: &Path, program: &Path) -> (Vec<u64>, Vec<u64>, u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let data = dir.join("data");
    fs::create_dir(&data).unwrap();
    let mut options = LaunchOptions::new(&data, true);
    options.command = vec![env!("CARGO_BIN_EXE_hale-test-keeper").into()];
    let launched = launch(options).unwrap();
    let keeper = launched.pid();
    let log = dir.join("hale.live");
    let mut workload = sim::workload("live", 1);
    let Run::Process(process) = &mut workload.run else { panic!("not a process") };
    process.command = vec![program.to_str().unwrap().to_owned()];
    process.env.insert(LIVE.to_owned(), log.to_str().unwrap().to_owned());
    workload.policy.restart.backoff.initial = Duration::ZERO;
    workload.policy.restart.max_restarts = 1000;
    let (processes, handle) = runtime.block_on(async {
        let processes = Arc::new(ProcessRuntime::connect(launched, ProcessOptions::default()).await.unwrap());
        let prober = Arc::new(SimProber::new(Arc::new(BootClock)));
        let told = Arc::new(sim::Recorder::default());
        let shared = Arc::clone(&processes);
        let handle = Supervisor::start(Options::new("bench", shared, prober, told, 1));
        handle.apply(vec![Arc::new(workload)]).await.unwrap();
        (processes, handle)
    });
    let (mut of_runit, mut of_hale) = (Vec::new(), Vec::new());
    let runit_log = dir.join("runit.live");
    for _ in 0..SAMPLES {
        std::thread::sleep(Duration::from_millis(1100));
        of_runit.push(replace(&runit_log));
        of_hale.push(replace(&log));
    }
    let pages = procfs::process(i32::try_from(keeper).unwrap()).unwrap().resident_pages;
    runtime.block_on(async {
        handle.shutdown(true).await;
        processes.shut_down(Duration::ZERO, Duration::from_secs(10)).await;
    });
    (of_runit, of_hale, pages * 4)
}

/// Kills the one that runs; microseconds until the next one does.
fn replace(log: &Path) -> u64 {
    let (count, pid, _) = last(log, 1);
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let killed = hale_keeper::clock::boot_nanos();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let (_, _, running) = last(log, count + 1);
    (running - killed) / 1000
}

/// The last of at least so many lines: how many there are, its pid and its time.
fn last(log: &Path, least: usize) -> (usize, i32, u64) {
    let begun = Instant::now();
    loop {
        let text = fs::read_to_string(log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        if lines.len() >= least && text.ends_with('\n') {
            let (pid, time) = lines[lines.len() - 1].split_once(' ').unwrap();
            return (lines.len(), pid.parse().unwrap(), time.parse().unwrap());
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "nothing new in {}", log.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Median and nine tenths.
fn quantiles(mut of: Vec<u64>) -> (u64, u64) {
    of.sort_unstable();
    (of[of.len() / 2], of[of.len() * 9 / 10])
}

/// `runsv` over a service directory of its own.
struct Runit {
    child: Child,
    service: PathBuf,
}

impl Runit {
    fn start(dir: &Path, program: &Path) -> Self {
        let service = dir.join("service");
        fs::create_dir(&service).unwrap();
        // The program itself, no shell in between: the supervisors are compared, not their scripts.
        fs::copy(program, service.join("run")).unwrap();
        let mut command = Command::new("runsv");
        command.arg(&service).env(LIVE, dir.join("runit.live"));
        let child = command.spawn().expect("runsv of runit is needed: apt-get install runit");
        Self { child, service }
    }

    fn end(&mut self) {
        let done = Command::new("sv").args(["-w", "5", "force-shutdown"]).arg(&self.service).status();
        if !done.is_ok_and(|it| it.success()) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}
