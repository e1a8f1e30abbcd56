//! O12: fifteen thousand nodes of fifty replicas each on one server, a beat each five seconds: what an idle beat costs,
//! beside a server that receives and sends and does nothing else; and how soon a change is durable, and visible to who
//! watches the registry.
//!
//! The peer speaks the same protocol over the same stack (`crates/hale-server/examples/heartbeats.rs`). With
//! `HALE_BENCH_POSTGRES` set to a URL of an empty database it is measured on PostgreSQL, too. `HALE_BENCH_NODES` and
//! `HALE_BENCH_REPLICAS` make it smaller.

use std::{env, time::Duration};

use crate::{
    Outcome,
    bench::{
        events::many_files,
        kit::{self, Talking},
    },
    run,
};

const BEAT: f64 = 5.0;
const SECONDS: f64 = 30.0;
const MOST_RATIO: f64 = 2.5;
const MOST_MS: f64 = 50.0;
/// Changes a second, in the second half.
const CHANGES: f64 = 20.0;

/// Measures the peer, then hale on each database, and fails above a limit.
pub(crate) fn run() -> Outcome {
    let example = ["build", "--release", "--package", "hale-server", "--example", "heartbeats"];
    run::step(run::cargo().args(example))?;
    let nodes = number("HALE_BENCH_NODES", 15_000);
    let replicas = number("HALE_BENCH_REPLICAS", 50);
    let peer = measure(&["bare"], nodes, 0)?;
    println!("bare: {:.1} µs of CPU per beat ({:.0} beats), {:.0} MiB", peer.micros(), peer.acks, peer.mib);
    let folder = kit::folder("heartbeats")?;
    let sqlite = folder.join("hale.db").display().to_string();
    let mut wrong = one("SQLite", &sqlite, &peer, nodes, replicas)?;
    if let Ok(url) = env::var("HALE_BENCH_POSTGRES") {
        wrong.extend(one("PostgreSQL", &url, &peer, nodes, replicas)?);
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

fn number(name: &str, usual: u32) -> u32 {
    env::var(name).ok().and_then(|it| it.parse().ok()).unwrap_or(usual)
}

fn one(
    name: &str,
    database: &str,
    peer: &Measured,
    nodes: u32,
    replicas: u32,
) -> Result<Vec<String>, String> {
    let (of, each) = (nodes.to_string(), replicas.to_string());
    let serve = ["serve", database, of.as_str(), each.as_str()];
    let idle = measure(&serve, nodes, replicas)?;
    let ratio = idle.micros() / peer.micros();
    println!(
        "{name}: {nodes} nodes × {replicas} replicas settled after {:.1} s; {:.1} µs of CPU per idle beat ({:.0} beats), \
         {ratio:.2} × bare (at most {MOST_RATIO} wanted), {:.0} MiB",
        idle.settled,
        idle.micros(),
        idle.acks,
        idle.mib
    );
    let mut wrong = Vec::new();
    if ratio > MOST_RATIO {
        wrong.push(format!("{name}: an idle beat costs {ratio:.2} × a bare one"));
    }
    for (what, took) in [("durable", &idle.durable), ("visible", &idle.visible)] {
        println!("{name}: a change {what}: {took}");
        if kit::field(took, "p99_ms")? >= MOST_MS {
            wrong.push(format!("{name}: a change is {what} too late"));
        }
    }
    Ok(wrong)
}

struct Measured {
    settled: f64,
    cpu: f64,
    acks: f64,
    mib: f64,
    durable: String,
    visible: String,
}

impl Measured {
    fn micros(&self) -> f64 {
        self.cpu / self.acks.max(1.0) * 1e6
    }
}

/// One server, and two drives on it: idle, and with changes.
fn measure(serve: &[&str], nodes: u32, replicas: u32) -> Result<Measured, String> {
    let program = run::target().join("release/examples/heartbeats");
    let port = kit::free_port()?;
    let address = format!("127.0.0.1:{port}");
    let mut command = many_files(&program);
    command.arg(serve[0]).arg(&address).args(&serve[1..]);
    let mut server = Talking::start(&mut command)?;
    server.line("serving")?;
    kit::wait_for_port(port)?;
    let drive = |changes: f64| {
        let mut command = many_files(&program);
        command.args(["drive", &address, &nodes.to_string(), &replicas.to_string()]);
        command.args([BEAT, SECONDS, changes].map(|it| it.to_string()));
        Talking::start(&mut command)
    };
    let mut idle = drive(0.0)?;
    let settled = kit::field(&idle.line("settled")?, &nodes.to_string())?;
    idle.line("measuring")?;
    let before = kit::cpu_seconds(server.pid())?;
    let acks = kit::field(&idle.line("acks")?, "acks")?;
    let cpu = kit::cpu_seconds(server.pid())? - before;
    let mib = kit::resident_mib(server.pid())?;
    drop(idle);
    let mut measured = Measured { settled, cpu, acks, mib, durable: String::new(), visible: String::new() };
    if serve[0] == "serve" {
        // The sessions of the first drive end, and are seen to.
        std::thread::sleep(Duration::from_secs(3));
        let mut changing = drive(CHANGES)?;
        changing.line("measuring")?;
        measured.durable = changing.line("durable")?;
        measured.visible = changing.line("visible")?;
    }
    Ok(measured)
}
