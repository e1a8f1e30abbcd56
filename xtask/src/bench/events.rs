//! O14: ten thousand readers of the event stream on one server, ten events a second to all; and five thousand events a
//! second appended with ten readers.

use std::{process::Command, time::Duration};

use crate::{
    Outcome,
    bench::kit::{self, Running},
    run,
};

const READERS: u32 = 10_000;
const MOST_KB: f64 = 20.0;
const MOST_MS: f64 = 1000.0;
const FAST: u32 = 5000;

/// Measures both halves, and fails above a limit.
pub(crate) fn run() -> Outcome {
    run::step(run::cargo().args(["build", "--release", "--package", "hale-server", "--example", "stream"]))?;
    let many = half("many", READERS, 10, 20)?;
    println!(
        "{READERS} readers, 10 events a second: {:.1} kB each (at most {MOST_KB} wanted), p50 {} ms, p99 {} ms (below \
         {MOST_MS} wanted), worst {} ms; {:.2} CPUs; {} of {} arrived, {} gaps, {} cut off",
        many.kb_each,
        many.p50_ms,
        many.p99_ms,
        many.max_ms,
        many.cpus,
        many.events,
        many.expected,
        many.gaps,
        many.broken
    );
    let fast = half("fast", 10, FAST, 20)?;
    println!(
        "10 readers, {FAST} events a second: p50 {} ms, p99 {} ms, worst {} ms; {:.2} CPUs; {} of {} arrived, {} gaps",
        fast.p50_ms, fast.p99_ms, fast.max_ms, fast.cpus, fast.events, fast.expected, fast.gaps
    );
    let whole = |it: &Half| it.gaps == 0.0 && it.broken == 0.0 && it.events >= 0.98 * it.expected;
    if many.kb_each > MOST_KB || many.p99_ms >= MOST_MS || !whole(&many) || !whole(&fast) {
        Err("what is asked for is not met".into())
    } else {
        Ok(())
    }
}

struct Half {
    kb_each: f64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    cpus: f64,
    events: f64,
    expected: f64,
    gaps: f64,
    broken: f64,
}

fn half(name: &str, readers: u32, rate: u32, seconds: u32) -> Result<Half, String> {
    let folder = kit::folder(&format!("events-{name}"))?;
    let address = format!("127.0.0.1:{}", kit::free_port()?);
    let program = run::target().join("release/examples/stream");
    let mut serve = many_files(&program);
    serve.args(["serve", &address]).arg(&folder).arg(rate.to_string());
    let server = Running::start(&mut serve)?;
    kit::wait_for_port(address.rsplit(':').next().and_then(|it| it.parse().ok()).unwrap_or(0))?;
    std::thread::sleep(Duration::from_secs(1));
    let before = (kit::resident_mib(server.pid())?, server.cpu_seconds()?);
    let mut read = many_files(&program);
    read.args(["read", &address, &readers.to_string(), &seconds.to_string()]);
    let mut read = kit::Talking::start(&mut read)?;
    read.line("connected")?;
    // What connecting used is not what being connected does.
    std::thread::sleep(Duration::from_secs(1));
    let from = server.cpu_seconds()?;
    let text = read.line("events")?;
    let cpus = (server.cpu_seconds()? - from) / f64::from(seconds + 1);
    let resident = kit::resident_mib(server.pid())?;
    let field = |name: &str| kit::field(&text, name);
    Ok(Half {
        kb_each: (resident - before.0) * 1048.576 / f64::from(readers),
        p50_ms: field("p50_ms")?,
        p99_ms: field("p99_ms")?,
        max_ms: field("max_ms")?,
        cpus,
        events: field("events")?,
        expected: f64::from(readers) * f64::from(rate) * f64::from(seconds),
        gaps: field("gaps")?,
        broken: field("broken")?,
    })
}

/// Runs it with as many open files as the machine allows: one for each connection.
pub(super) fn many_files(program: &std::path::Path) -> Command {
    let mut command = run::program("sh");
    command.args(["-c", "ulimit -n $(ulimit -Hn) && exec \"$@\"", "sh"]).arg(program);
    command
}
