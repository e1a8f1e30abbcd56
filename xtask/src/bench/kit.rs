//! What the benchmarks share: programs that end with their guard, CPU time, and waiting for a port.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::run;

/// A program that is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Running(Child);

impl Running {
    /// Starts it, with its output thrown away.
    pub(crate) fn start(command: &mut Command) -> Result<Self, String> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child =
            command.spawn().map_err(|error| format!("cannot run `{}`: {error}", run::shown(command)))?;
        Ok(Self(child))
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// CPU time of the process so far, user and system, in seconds.
    pub(crate) fn cpu_seconds(&self) -> Result<f64, String> {
        cpu_seconds(self.pid())
    }
}

/// A program that is listened to, and killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Talking {
    running: Running,
    lines: std::io::Lines<std::io::BufReader<std::process::ChildStdout>>,
}

impl Talking {
    /// Starts it.
    pub(crate) fn start(command: &mut Command) -> Result<Self, String> {
        use std::io::{BufRead, BufReader};

        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let failed = |error: &dyn std::fmt::Display| format!("cannot run: {error}");
        let mut child = command.spawn().map_err(|error| failed(&error))?;
        let out = child.stdout.take().ok_or_else(|| failed(&"it has no output"))?;
        Ok(Self { running: Running(child), lines: BufReader::new(out).lines() })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Waits for the next line that begins with a word.
    pub(crate) fn line(&mut self, word: &str) -> Result<String, String> {
        for line in self.lines.by_ref() {
            let line = line.map_err(|error| error.to_string())?;
            if line.split(' ').next() == Some(word) {
                return Ok(line);
            }
        }
        Err(format!("it ended without the line {word:?}"))
    }
}

/// The number after a word of a line.
pub(crate) fn field(line: &str, word: &str) -> Result<f64, String> {
    let mut words = line.split_whitespace().skip_while(|it| *it != word).skip(1);
    words.next().and_then(|it| it.parse().ok()).ok_or_else(|| format!("no {word} in {line:?}"))
}

/// CPU time of a process so far, user and system, without that of its children, in seconds.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64, String> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks: Vec<f64> = after_name.split(' ').skip(11).take(2).filter_map(|it| it.parse().ok()).collect();
    // The unit of these fields is fixed at a hundredth of a second for user space (USER_HZ).
    if ticks.len() == 2 {
        Ok((ticks[0] + ticks[1]) / 100.0)
    } else {
        Err(format!("{path} is not understood"))
    }
}

/// Resident memory of a process, in MiB.
pub(crate) fn resident_mib(pid: u32) -> Result<f64, String> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: Option<f64> = line.and_then(|it| it.trim().trim_end_matches(" kB").parse().ok());
    kib.map(|kib| kib / 1024.0).ok_or_else(|| format!("{path} is not understood"))
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port on loopback that is free now.
pub(crate) fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr());
    listener.map(|it| it.port()).map_err(|error| format!("no free port: {error}"))
}

/// Waits until something listens on a port of loopback.
pub(crate) fn wait_for_port(port: u16) -> Result<(), String> {
    let (address, begin) = (SocketAddr::from(([127, 0, 0, 1], port)), Instant::now());
    while begin.elapsed() < Duration::from_secs(10) {
        if TcpStream::connect(address).is_ok() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Err(format!("nothing listens on {address}"))
}

/// A folder for one benchmark, empty.
pub(crate) fn folder(name: &str) -> Result<PathBuf, String> {
    let folder = run::target().join("bench").join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(|error| format!("cannot empty {}: {error}", folder.display()))?;
    }
    fs::create_dir_all(&folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    Ok(folder)
}

/// Writes a file of a benchmark.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// The middle of some measurements.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
