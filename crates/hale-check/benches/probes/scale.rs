//! A hundred thousand targets, of which a tenth hang and a thousand break and mend: is each told of once, in time, and
//! does nobody else suffer (O10, N13, N17)?
//!
//! The targets are addresses of loopback, so that ports don't run out; the decisions are those of the agent.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::{Command, ExitCode},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use hale_check::{Checker, Deliver, Engine, EngineOptions, Finished, Registration, Start, Subject};
use hale_health::{
    Observer, ProbeKind, ProbeTiming, TargetMachine, TargetNote, TargetOutcome, TargetPolicy, Time,
};
use hale_model::spec::Check;

use super::{
    engine::{cpu, get},
    kit::{Server, load_average, machine, rss_kib},
};

const TARGETS: u32 = 100_000;
/// Each of these breaks, and mends.
const BREAKING: u32 = 1_000;
const PERIOD: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(2);
/// What a machine that is busy may add to the worst case: decisions wait for the CPU, too.
const GRACE: Duration = Duration::from_secs(1);
/// The start delay of 99 of 100 checks is to be less than this (O10).
const LATE_MS: f64 = 50.0;

/// What a target does, by the second number of its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Answers = 1,
    Hangs = 2,
    Breaks = 3,
}

const fn manner(nth: u32) -> Manner {
    match nth % 10 {
        0 => Manner::Hangs,
        1 if nth / 10 < BREAKING => Manner::Breaks,
        _ => Manner::Answers,
    }
}

const fn address(nth: u32) -> IpAddr {
    // A thousand targets to an address of its block would do; so many addresses leave every port free.
    let [_, _, high, low] = (nth % 65_000 + 256).to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(127, manner(nth) as u8, high, if low == 0 { 1 } else { low }))
}

/// What was told of a target, and when.
#[derive(Debug, Clone, Copy)]
struct Told {
    nth: u32,
    failed: bool,
    at: Time,
}

#[derive(Default)]
struct Seen {
    machines: Vec<TargetMachine>,
    told: Vec<Told>,
    /// Start delays in microseconds, of those that do not hang.
    late: Vec<u32>,
    done: u64,
    prober_errors: u64,
}

#[derive(Clone)]
struct Tally(Arc<Mutex<Seen>>);

fn now() -> Time {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Time::from_nanos(now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs())
}

impl Deliver for Tally {
    fn deliver(&mut self, batch: &mut Vec<Finished>) {
        let mut seen = self.0.lock().unwrap();
        let at = now();
        for finished in batch.drain(..) {
            let nth = u32::try_from(finished.token).unwrap();
            seen.done += 1;
            seen.prober_errors += u64::from(finished.result.reason().is_some_and(|it| it.is_prober_error()));
            if manner(nth) != Manner::Hangs {
                seen.late.push(u32::try_from(finished.late.as_micros()).unwrap_or(u32::MAX));
            }
            let outcome = TargetOutcome {
                verdict: finished.result.verdict,
                status: finished.result.http_status.unwrap_or(0),
                started_at: finished.started_at,
            };
            let note = seen.machines[nth as usize].outcome(at, &outcome, &Observer::Sound);
            let failed = matches!(note, Some(TargetNote::ProbeFailed { .. }));
            if note.is_some() {
                seen.told.push(Told { nth, failed, at });
            }
        }
    }
}

/// What was taken down of a trial.
struct Trial {
    seen: Seen,
    broke: Time,
    mended: Time,
    took: Duration,
    used: Duration,
    /// CPU seconds of the whole machine meanwhile.
    machine: f64,
    /// CPU of the server that is asked.
    server: Duration,
    held: u64,
    rss_kib: f64,
}

/// Runs it; fails when something was not told as it should be, or too many checks began late.
pub(super) fn run(built: &Path) -> ExitCode {
    println!("{TARGETS} targets every 10 s, a tenth of them hanging until their timeout of 2 s, one shard:");
    println!("  load average before           {}", load_average());
    let trial = trial(built);
    let Trial { ref seen, broke, mended, took, used, held, .. } = trial;
    let late = |share: usize| f64::from(seen.late[(seen.late.len() - 1) * share / 1000]) / 1000.0;
    let (p50, p99, p999) = (late(500), late(990), late(999));
    println!("  start delay of the rest       p50 {p50:.1}, p99 {p99:.1}, p99.9 {p999:.1} ms");
    let share = |cpu: f64| cpu / took.as_secs_f64();
    let (own, asked) = (share(used.as_secs_f64()), share(trial.server.as_secs_f64()));
    let others = share(trial.machine) - own - asked;
    println!("  CPUs in use                   {own:.2} by the engine and the decisions,");
    println!("                                {asked:.2} by the server that is asked, {others:.2} by others");
    println!("  CPU per check                 {:.1} µs", used.as_secs_f64() * 1e6 / seen.done as f64);
    println!("  resident, with all decisions  {:.1} MiB", trial.rss_kib / 1024.0);
    println!("  checks {}, prober errors {}, held back {held} times", seen.done, seen.prober_errors);
    let wrong = judge(&seen.told, broke, mended);
    if wrong > 0 {
        println!("  told of wrongly               {wrong}");
    }
    if p99 >= LATE_MS {
        println!("  p99 of the start delay is to be under {LATE_MS} ms; of 2 CPUs others used {others:.2}");
    }
    if wrong == 0 && seen.prober_errors == 0 && p99 < LATE_MS { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn trial(built: &Path) -> Trial {
    let mut server = Server::start(Command::new(built.join("probe_server")).arg("many"));
    let machines =
        (0..TARGETS).map(|_| TargetMachine::new(now(), timing(), TargetPolicy::default())).collect();
    let seen = Seen { machines, ..Seen::default() };
    let tally = Tally(Arc::new(Mutex::new(seen)));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let engine = Engine::start(&EngineOptions::new(runtime.handle().clone()), tally.clone()).unwrap();
    let probes: Vec<_> = (0..TARGETS)
        .map(|nth| {
            let subject = Subject { address: Some(address(nth)), ..Subject::default() };
            let check = Check::HttpGet(get(server.port, false, false));
            let checker = Arc::new(Checker::compile(&check, &subject).unwrap());
            let (token, start) = (nth.into(), Start::Spread(nth.into()));
            engine.register(Registration { token, checker, period: PERIOD, timeout: TIMEOUT, start })
        })
        .collect();
    // The first period warms up, and those that hang are all hanging by then.
    std::thread::sleep(PERIOD + TIMEOUT);
    {
        let mut seen = tally.0.lock().unwrap();
        seen.late.clear();
        seen.done = 0;
    }
    let (began, used, busy, asked) = (Instant::now(), cpu(), machine(), server.running.cpu());
    let broke = tell(&mut server, b'b');
    std::thread::sleep(PERIOD * timing().failure_threshold + TIMEOUT + GRACE);
    let mended = tell(&mut server, b'g');
    std::thread::sleep(PERIOD + TIMEOUT + GRACE);
    let (took, used, machine) = (began.elapsed(), cpu() - used, machine() - busy);
    let (server, held, rss_kib) = (server.running.cpu() - asked, engine.counters().held, rss_kib("self"));
    drop(probes);
    drop(engine);
    let mut seen = std::mem::take(&mut *tally.0.lock().unwrap());
    seen.late.sort_unstable();
    Trial { seen, broke, mended, took, used, machine, server, held, rss_kib }
}

fn timing() -> ProbeTiming {
    ProbeTiming { period: PERIOD, timeout: TIMEOUT, ..ProbeTiming::default_for(ProbeKind::Liveness) }
}

fn tell(server: &mut Server, word: u8) -> Time {
    server.tell(word);
    now()
}

/// Every one of the breaking is told once each way and in time; of the others the hanging are told once, and nobody else.
fn judge(told: &[Told], broke: Time, mended: Time) -> u32 {
    let mut by_target: HashMap<u32, Vec<Told>> = HashMap::new();
    for one in told {
        by_target.entry(one.nth).or_default().push(*one);
    }
    let (mut failure, mut recovery, mut wrong) = (Duration::ZERO, Duration::ZERO, 0);
    let mut hanging = 0;
    for nth in 0..TARGETS {
        let of = by_target.get(&nth).map_or(&[][..], Vec::as_slice);
        match (manner(nth), of) {
            (Manner::Answers, []) => {}
            (Manner::Hangs, [one]) if one.failed => hanging += 1,
            (Manner::Breaks, [down, up]) if down.failed && !up.failed => {
                failure = failure.max(down.at.since(broke));
                recovery = recovery.max(up.at.since(mended));
            }
            _ => wrong += 1,
        }
    }
    println!("  broken and mended             {BREAKING}, each told once each way:");
    let longest = PERIOD * timing().failure_threshold + TIMEOUT;
    println!("                                failed within {failure:.1?} (worst case {longest:?}),");
    println!(
        "                                recovered within {recovery:.1?} (worst case {:?})",
        PERIOD + TIMEOUT
    );
    println!("  hanging                       {hanging}, each told once");
    wrong
}
