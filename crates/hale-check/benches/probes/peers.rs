//! Other probers, set up to ask the same of the same targets as often.
//!
//! HAProxy and Envoy ask by themselves; blackbox_exporter asks when it is asked, as Prometheus does it.

use std::{
    fmt::Write as _,
    io::{Read, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use super::kit::{Running, Server, address};

/// How long each measurement takes.
const WINDOW: Duration = Duration::from_secs(3);

/// How long a peer has until it has asked each of its targets once.
const PATIENCE: Duration = Duration::from_secs(60);

/// A prober.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    HaProxy,
    Envoy,
    Blackbox,
}

/// What it asks: how many targets, how often, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) targets: u32,
    pub(crate) period: Duration,
    pub(crate) tls: bool,
    pub(crate) kept: bool,
}

impl Peer {
    pub(crate) const ALL: [Self; 3] = [Self::HaProxy, Self::Envoy, Self::Blackbox];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::HaProxy => "HAProxy",
            Self::Envoy => "Envoy",
            Self::Blackbox => "blackbox_exporter",
        }
    }

    /// Where it is, unless it is not installed. `HALE_BENCH_ENVOY` says where Envoy is.
    fn program(self) -> Option<PathBuf> {
        let name = match self {
            Self::HaProxy => "haproxy",
            Self::Envoy => match std::env::var_os("HALE_BENCH_ENVOY") {
                Some(path) => return Some(path.into()),
                None => "envoy",
            },
            Self::Blackbox => "prometheus-blackbox-exporter",
        };
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path)
            .chain(["/usr/sbin".into()])
            .map(|it| it.join(name))
            .find(|it| it.is_file())
    }

    /// Whether it can be measured here.
    pub(crate) fn is_there(self) -> bool {
        self.program().is_some()
    }

    /// Its version, as it says it.
    pub(crate) fn version(self) -> String {
        let Some(program) = self.program() else { return String::new() };
        let flag = if self == Self::HaProxy { "-v" } else { "--version" };
        let output = Command::new(program).arg(flag).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        let number = |it: &&str| it.starts_with(|c: char| c.is_ascii_digit()) && it.contains('.');
        let found = said.split([' ', '/', '-', ',', '\n']).find(number).unwrap_or("?");
        found.to_owned()
    }

    /// The prober, set up and started; and its own port.
    fn start(self, folder: &Path, port: u16, load: Load) -> (Running, u16) {
        let own = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).unwrap().port();
        let text = match self {
            Self::HaProxy => haproxy(own, port, load),
            Self::Envoy => envoy(port, load),
            Self::Blackbox => BLACKBOX.to_owned(),
        };
        let file =
            folder.join(format!("{}.{}", self.name(), if self == Self::Envoy { "json" } else { "cfg" }));
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(self.program().unwrap());
        match self {
            Self::HaProxy => command.arg("-db").arg("-f").arg(&file),
            Self::Envoy => command
                .args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "off", "-c"])
                .arg(&file),
            Self::Blackbox => command
                .arg(format!("--config.file={}", file.display()))
                .arg(format!("--web.listen-address=127.0.0.1:{own}")),
        };
        (Running::start(&mut command), own)
    }

    /// Microseconds of CPU per probe.
    pub(crate) fn cost(self, folder: &Path, server: &mut Server, load: Load) -> f64 {
        let (running, own) = self.start(folder, server.port, load);
        let drivers = (self == Self::Blackbox).then(|| Drivers::start(own, server.port, load));
        server.wait_for(u64::from(load.targets), PATIENCE);
        // What is special about the start is over by now.
        std::thread::sleep(Duration::from_millis(500));
        let (requests, cpu) = (server.requests(), running.cpu());
        std::thread::sleep(WINDOW);
        let (requests, cpu) = (server.requests() - requests, running.cpu() - cpu);
        drop(drivers);
        cpu.as_secs_f64() * 1e6 / requests as f64
    }

    /// Resident memory in KiB once it has asked each of its targets.
    pub(crate) fn resident(self, folder: &Path, server: &mut Server, load: Load) -> f64 {
        let (running, _) = self.start(folder, server.port, load);
        server.wait_for(u64::from(load.targets), PATIENCE);
        std::thread::sleep(Duration::from_secs(1));
        running.rss_kib()
    }
}

/// One thread, and each target on a connection of its own each time: it keeps none for checks.
fn haproxy(own: u16, port: u16, load: Load) -> String {
    let period = load.period.as_millis();
    let tls = if load.tls { "check-ssl verify none " } else { "" };
    let mut text = format!(
        "global\n  nbthread 1\n  maxconn 100\ndefaults\n  mode http\n  timeout connect 2s\n  timeout client 2s\n  \
         timeout server 2s\n  timeout check 2s\nfrontend none\n  bind 127.0.0.1:{own}\n  default_backend ends\n\
         backend ends\n  option httpchk\n  http-check send meth GET uri /healthz ver HTTP/1.1 hdr Host 127.0.0.1 \
         hdr Accept */*\n  http-check expect status 200-399\n  \
         default-server check {tls}inter {period}ms fall 3 rise 1\n"
    );
    for nth in 0..load.targets {
        writeln!(text, "  server s{nth} {}:{port}", address(nth)).unwrap();
    }
    text
}

fn envoy(port: u16, load: Load) -> String {
    let endpoints: Vec<_> = (0..load.targets)
        .map(|nth| {
            let address = serde_json::json!({ "address": address(nth).to_string(), "port_value": port });
            serde_json::json!({ "endpoint": { "address": { "socket_address": address } } })
        })
        .collect();
    let period = format!("{}s", load.period.as_secs_f64());
    let check = serde_json::json!({
        "timeout": "2s",
        "interval": period,
        // Without traffic, which there is none of, it would ask once a minute.
        "no_traffic_interval": period,
        "no_traffic_healthy_interval": period,
        "initial_jitter": period,
        "unhealthy_threshold": 3,
        "healthy_threshold": 1,
        "reuse_connection": load.kept,
        "http_health_check": { "path": "/healthz", "host": "127.0.0.1" },
    });
    let mut cluster = serde_json::json!({
        "name": "ends",
        "type": "STATIC",
        "connect_timeout": "2s",
        "health_checks": [check],
        "load_assignment": { "cluster_name": "ends", "endpoints": [{ "lb_endpoints": endpoints }] },
    });
    if load.tls {
        cluster["transport_socket"] = serde_json::json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                // Left to itself it would not go beyond 1.2.
                "common_tls_context": { "tls_params": { "tls_maximum_protocol_version": "TLSv1_3" } },
            },
        });
    }
    serde_json::json!({ "static_resources": { "clusters": [cluster] } }).to_string()
}

const BLACKBOX: &str = "modules:\n  plain:\n    prober: http\n    timeout: 2s\n    http:\n      \
                        preferred_ip_protocol: ip4\n      tls_config:\n        insecure_skip_verify: true\n";

/// How many ask the exporter at once.
const DRIVERS: u32 = 4;

/// Threads that ask the exporter for its targets, one after the other, each on a kept connection.
struct Drivers {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Drivers {
    fn start(exporter: u16, port: u16, load: Load) -> Self {
        let stop = std::sync::Arc::default();
        let threads = (0..DRIVERS).map(|first| {
            let stop = std::sync::Arc::clone(&stop);
            std::thread::spawn(move || drive(exporter, port, load, first, &stop))
        });
        Self { threads: threads.collect(), stop }
    }
}

impl Drop for Drivers {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

fn drive(exporter: u16, port: u16, load: Load, first: u32, stop: &std::sync::atomic::AtomicBool) {
    let to = SocketAddr::from(([127, 0, 0, 1], exporter));
    let began = Instant::now();
    let mut stream = loop {
        match TcpStream::connect(to) {
            Ok(stream) => break stream,
            Err(error) => assert!(began.elapsed() < PATIENCE, "blackbox_exporter: {error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let scheme = if load.tls { "https" } else { "http" };
    let mut nth = first;
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        let target = format!("{scheme}://{}:{port}/healthz", address(nth));
        write!(stream, "GET /probe?module=plain&target={target} HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .unwrap();
        let answer = chunked(&mut stream);
        assert!(answer.contains("\nprobe_success 1\n"), "of {target}: {answer}");
        nth = (nth + DRIVERS) % load.targets;
    }
}

/// An answer in chunks, as the exporter gives all of its metrics: what stands in them.
fn chunked(stream: &mut TcpStream) -> String {
    let (mut answer, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    while !answer.ends_with(b"\r\n0\r\n\r\n") {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "blackbox_exporter hung up: {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..count]);
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (mut left, mut text) = (answer.split_once("\r\n\r\n").unwrap().1, String::new());
    while let Some((size, rest)) = left.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            break;
        }
        text.push_str(&rest[..size]);
        left = rest[size..].trim_start();
    }
    text
}
