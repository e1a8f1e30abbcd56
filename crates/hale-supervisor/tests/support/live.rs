//! What the benchmark of restarts keeps: writes its number and the time as the first thing it does, then waits to be
//! killed. As small as a program is, so that the supervisors are compared and not the start of what they run.

use std::{fs::OpenOptions, io::Write, process::ExitCode};

use rustix::time::{ClockId, clock_gettime};

fn main() -> ExitCode {
    let now = clock_gettime(ClockId::Boottime);
    let Some(path) = std::env::var_os("LIVE_FILE") else { return ExitCode::FAILURE };
    let line = format!("{} {}\n", std::process::id(), now.tv_sec * 1_000_000_000 + now.tv_nsec);
    let told = OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .and_then(|mut it| it.write_all(line.as_bytes()));
    if told.is_err() {
        return ExitCode::FAILURE;
    }
    loop {
        std::thread::park();
    }
}
