//! What a probe costs (O10), beside the least that a C loop needs and beside other probers, in the same run; and a
//! trial of a hundred thousand targets (N17).
//!
//! `cargo xtask bench probes`. Every figure is taken in a process of its own, rounds are interleaved and the median
//! counts, so that whatever else the machine does meets all of them alike. The servers are processes too, so that
//! only the prober's CPU time is counted. What other probers are not installed is left out.
//!
//! With arguments it is one of the processes: `engine …`, `scale`, `tls-server`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and stops at the first surprise"
)]

mod engine;
mod kit;
mod peers;
mod scale;
mod syscalls;
mod tls;

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, ExitCode},
    time::Duration,
};

use kit::{Server, median};
use peers::{Load, Peer};

/// How often each figure is taken.
const ROUNDS: usize = 3;

/// How long the engine is measured in each round.
const WINDOW: Duration = Duration::from_secs(3);

/// 5,000 probes a second: what the slower of the probers can do with one thread, so that none is measured out of
/// breath.
const PLAIN: Load = Load { targets: 1000, period: Duration::from_millis(200), tls: false, kept: false };

/// 200 handshakes a second. Some need more than a millisecond of CPU for one, and a prober that is overrun fails them.
const TLS: Load = Load { targets: 400, period: Duration::from_secs(2), tls: true, kept: false };

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["engine", ref rest @ ..] => engine::serve(rest),
        ["tls-server"] => tls::serve(),
        ["scale"] => return scale::run(&kit::build()),
        [] => return compare(),
        _ => {
            println!("what is {args:?}? Without arguments it runs all");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn compare() -> ExitCode {
    let built = kit::build();
    println!("load average at the beginning: {}", kit::load_average());
    let mut plain = Server::start(Command::new(built.join("probe_server")).arg("many"));
    let mut tls = Server::start(&mut kit::own(&["tls-server"]));
    let mut wrong = costs(&built, &mut plain, &mut tls);
    syscalls::table(plain.port, tls.port);
    wrong.extend(memory(&built, &mut plain));
    drop((plain, tls));
    // In a process of its own, too: its memory and its CPU time are its own.
    if !kit::own(&["scale"]).status().unwrap().success() {
        wrong.push("the trial of 100,000 targets".into());
    }
    println!("load average at the end: {}", kit::load_average());
    if wrong.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("not as it should be: {}", wrong.join("; "));
    ExitCode::FAILURE
}

/// A line of the table: who, how, and whether over TLS or on kept connections.
type Line = (String, &'static str);

/// CPU per probe of all of them. Returns what is not as it should be.
fn costs(built: &Path, plain: &mut Server, tls: &mut Server) -> Vec<String> {
    let mut found: BTreeMap<usize, (Line, Vec<f64>)> = BTreeMap::new();
    for round in 1..=ROUNDS {
        let measured = round_of(built, plain, tls);
        println!("round {round} of {ROUNDS}, load average {}", kit::load_average());
        for (nth, (line, us)) in measured.into_iter().enumerate() {
            found.entry(nth).or_insert_with(|| (line, Vec::new())).1.push(us);
        }
    }
    let found: Vec<(Line, f64)> = found.into_values().map(|(line, all)| (line, median(&all))).collect();
    let measure = found[0].1;
    println!("\n| CPU per HTTP probe | connection | µs | ratio to the C loop | asked for |");
    println!("| --- | --- | --- | --- | --- |");
    let mut wrong = Vec::new();
    for ((who, how), us) in found {
        let ratio = us / measure;
        let most = match (who.as_str(), how) {
            ("hale", "fresh") => Some(1.2),
            ("hale", "kept") => Some(0.4),
            _ => None,
        };
        let asked = most.map_or_else(String::new, |it| format!("at most {it:.2}"));
        println!("| {who} | {how} | {us:.1} | {ratio:.2} | {asked} |");
        if most.is_some_and(|it| ratio > it) {
            wrong.push(format!("{who}, {how}: {ratio:.2} times the C loop"));
        }
    }
    println!();
    wrong
}

/// Each of them once, one after the other.
fn round_of(built: &Path, plain: &mut Server, tls: &mut Server) -> Vec<(Line, f64)> {
    let c = |kind, count| -> f64 {
        let port = plain.port.to_string();
        kit::say(Command::new(built.join("probe_loop")).args([port.as_str(), count, kind])).parse().unwrap()
    };
    let kept = |load: Load| Load { kept: true, ..load };
    let mut all = vec![
        (("C loop".into(), "fresh"), c("fresh", "40000")),
        (("C loop".into(), "kept"), c("kept", "100000")),
    ];
    for (how, port, load) in [
        ("fresh", plain.port, PLAIN),
        ("kept", plain.port, kept(PLAIN)),
        ("TLS, fresh", tls.port, TLS),
        ("TLS, kept", tls.port, kept(Load { tls: true, ..PLAIN })),
    ] {
        all.push((("hale".into(), how), engine::run(port, load, WINDOW).cpu_us));
    }
    for peer in Peer::ALL.into_iter().filter(|it| it.is_there()) {
        let who = format!("{} {}", peer.name(), peer.version());
        all.push(((who.clone(), "fresh"), peer.cost(built, plain, PLAIN)));
        if peer == Peer::Envoy {
            all.push(((who.clone(), "kept"), peer.cost(built, plain, kept(PLAIN))));
        }
        all.push(((who.clone(), "TLS, fresh"), peer.cost(built, tls, TLS)));
        if peer == Peer::Envoy {
            all.push(((who, "TLS, kept"), peer.cost(built, tls, kept(Load { tls: true, ..PLAIN }))));
        }
    }
    all
}

/// Memory per target: the slope of resident memory, with checks every 10 s.
fn memory(built: &Path, server: &mut Server) -> Vec<String> {
    let load = |targets| Load { targets, period: Duration::from_secs(10), tls: false, kept: false };
    let (few, many) = (load(10_000), load(100_000));
    let (small, large) = (engine_at(server, few), engine_at(server, many));
    let slope = |small: f64, large: f64, more: u32| (large - small) * 1024.0 / f64::from(more);
    let ours = slope(small.rss_kib, large.rss_kib, many.targets - few.targets);
    println!("| memory per target | from, to | resident | bytes per target | asked for |");
    println!("| --- | --- | --- | --- | --- |");
    let line = |who: &str, from: u32, to: u32, small: f64, large: f64, each: f64, asked: &str| {
        let (small, large) = (small / 1024.0, large / 1024.0);
        println!("| {who} | {from}, {to} | {small:.1} and {large:.1} MiB | {each:.0} | {asked} |");
    };
    line("hale", few.targets, many.targets, small.rss_kib, large.rss_kib, ours, "at most 2000");
    let (few, many) = (load(1_000), load(10_000));
    for peer in [Peer::HaProxy, Peer::Envoy].into_iter().filter(|it| it.is_there()) {
        let (small, large) = (peer.resident(built, server, few), peer.resident(built, server, many));
        let each = slope(small, large, many.targets - few.targets);
        let who = format!("{} {}", peer.name(), peer.version());
        line(&who, few.targets, many.targets, small, large, each, "");
    }
    println!();
    println!("100,000 targets every 10 s, all of them answering, one shard, a window of one period:");
    println!("  CPU per probe {:.1} µs, start delay p99 {:.1} ms\n", large.cpu_us, large.late_p99_ms);
    if ours > 2000.0 { vec![format!("{ours:.0} bytes per target")] } else { Vec::new() }
}

fn engine_at(server: &Server, load: Load) -> engine::Figures {
    engine::run(server.port, load, load.period)
}
