//! What every black-box test does with processes: start the program, wait for things with a bound, end by pid.
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses a part of it")]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// Long enough for a busy machine; what is waited for comes much sooner, or the test fails with what it last saw.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The program under test.
pub(crate) fn hale() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hale"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HALE_")) {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1");
    command
}

/// Collects what a process prints.
pub(crate) fn keep_lines(from: impl std::io::Read + Send + 'static, lines: Arc<Mutex<Vec<String>>>) {
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            lines.lock().unwrap().push(line);
        }
    });
}

/// Looks again and again, with a bound. `Err(Some(why))` gives up at once.
pub(crate) fn wait_for<T>(mut look: impl FnMut() -> Result<T, Option<String>>) -> Result<T, Option<String>> {
    let end = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(Some(why)) => return Err(Some(why)),
            Err(None) if Instant::now() > end => return Err(None),
            Err(None) => thread::park_timeout(Duration::from_millis(10)),
        }
    }
}

/// Waits until something is true.
pub(crate) fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    wait_for(|| if is() { Ok(()) } else { Err(None) }).unwrap_or_else(|_| panic!("not seen: {what}"));
}

/// Sends a signal by name.
pub(crate) fn kill(signal: &str, pid: u32) {
    let status = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status().unwrap();
    assert!(status.success(), "kill -{signal} {pid}");
}

/// Whether a process runs; a zombie does not.
pub(crate) fn alive(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// The processes whose command line holds `mark`.
pub(crate) fn processes_with(mark: &str) -> Vec<u32> {
    let own = std::process::id();
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != own && alive(*pid))
        .filter(|pid| {
            fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).replace('\0', " ").contains(mark))
        })
        .collect()
}

pub(crate) fn pid_of(replica: &Value) -> u32 {
    u32::try_from(replica["pid"].as_u64().unwrap_or_else(|| panic!("no pid in {replica:#}"))).unwrap()
}

/// A free port of this machine, for a service's listener.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
