//! What all measurements share: the programs that are measured and asked, and what the kernel says of them.

use std::{
    io::{BufRead, BufReader, Write},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

/// A program that is killed when this is dropped.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Starts it without input; what it prints is thrown away.
    pub(crate) fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// CPU time so far, user and system, of all its threads. In hundredths of a second.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let ticks = |nth: usize| fields[nth].parse::<u64>().unwrap();
        Duration::from_millis(10 * (ticks(11) + ticks(12)))
    }

    /// Resident memory in KiB.
    pub(crate) fn rss_kib(&self) -> f64 {
        rss_kib(&self.0.id().to_string())
    }
}

/// Resident memory of a process, or of `self`, in KiB.
pub(crate) fn rss_kib(process: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|it| it.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A server that is probed: prints its port, and the number of requests so far when it is asked.
pub(crate) struct Server {
    pub(crate) running: Running,
    pub(crate) port: u16,
    input: ChildStdin,
    lines: BufReader<ChildStdout>,
}

impl Server {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, lines) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut server = Self { running: Running(child), port: 0, input, lines: BufReader::new(lines) };
        server.port = server.line().parse().unwrap();
        server
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// Says a word to it, of one letter.
    pub(crate) fn tell(&mut self, word: u8) {
        self.input.write_all(&[word]).unwrap();
    }

    /// How many requests came so far.
    pub(crate) fn requests(&mut self) -> u64 {
        self.tell(b'c');
        self.line().parse().unwrap()
    }

    /// Waits until so many more requests have come.
    pub(crate) fn wait_for(&mut self, more: u64, within: Duration) {
        let (wanted, began) = (self.requests() + more, Instant::now());
        while self.requests() < wanted {
            assert!(began.elapsed() < within, "not {more} requests came within {within:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The address of a target: one of its own for each, so that ports don't run out and peers take none for another.
pub(crate) const fn address(nth: u32) -> Ipv4Addr {
    Ipv4Addr::new(127, 1, (nth / 250 + 1) as u8, (nth % 250 + 1) as u8)
}

/// The middle of some measurements.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The last line that a command prints.
pub(crate) fn say(command: &mut Command) -> String {
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap().lines().last().unwrap().to_owned()
}

/// This program in another of its roles.
pub(crate) fn own(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(arguments);
    command
}

/// Builds the C programs beside this one.
pub(crate) fn build() -> PathBuf {
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

/// CPU seconds that the machine has spent since it started, on anything.
pub(crate) fn machine() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    let fields: Vec<f64> =
        stat.lines().next().unwrap().split_whitespace().skip(1).filter_map(|it| it.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal.
    (fields[..3].iter().sum::<f64>() + fields[5..8].iter().sum::<f64>()) / 100.0
}

/// The load of the last minute.
pub(crate) fn load_average() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    load.split(' ').next().unwrap_or_default().to_owned()
}
