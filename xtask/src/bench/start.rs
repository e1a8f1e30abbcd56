//! O16: from `hale up` to the first replica that runs, and the size of the program.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    Outcome,
    bench::kit::{self, Running},
    run,
};

const ROUNDS: usize = 11;
const MOST_MS: f64 = 100.0;
const MOST_BYTES: u64 = 40 * 1024 * 1024;

/// Measures both, and fails above either limit.
pub(crate) fn run() -> Outcome {
    run::step(run::cargo().args(["build", "--release", "--package", "hale"]))?;
    let program = run::target().join("release/hale");
    let size =
        fs::metadata(&program).map_err(|error| format!("cannot read {}: {error}", program.display()))?.len();
    let folder = kit::folder("start")?;
    let mut times = (0..ROUNDS).map(|round| once(&program, &folder, round)).collect::<Result<Vec<_>, _>>()?;
    let worst = times.iter().copied().fold(0.0, f64::max);
    let median = kit::median(&mut times);
    println!(
        "from `hale up` to the first replica: median {median:.1} ms, worst {worst:.1} ms (below {MOST_MS} wanted)"
    );
    println!("size of the program: {:.1} MiB (below 40 wanted)", bytes(size));
    if median >= MOST_MS || size >= MOST_BYTES { Err("above the limit".into()) } else { Ok(()) }
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn bytes(size: u64) -> f64 {
    size as f64 / 1024.0 / 1024.0
}

/// Starts it in a new data directory; the replica makes a file, and that is waited for. In milliseconds.
fn once(program: &Path, folder: &Path, round: usize) -> Result<f64, String> {
    let (data, mark) = (folder.join(format!("data-{round}")), folder.join(format!("mark-{round}")));
    let file = folder.join(format!("{round}.yaml"));
    let command = format!("[\"/bin/sh\", \"-c\", \": > {}; exec sleep 60\"]", mark.display());
    kit::write(&file, &format!("kind: Workload\nname: mark\nprocess: {{command: {command}}}\n"))?;
    let mut up = run::program(program);
    up.arg("up").arg(&file).arg("--data-dir").arg(&data).args(["--listen", "127.0.0.1:0"]);
    let begin = Instant::now();
    let running = Running::start(&mut up)?;
    while !mark.exists() {
        if begin.elapsed() > Duration::from_secs(10) {
            return Err("no replica within 10 s".into());
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    let took = begin.elapsed();
    // Its replicas end with it.
    drop(running);
    Ok(took.as_secs_f64() * 1000.0)
}
