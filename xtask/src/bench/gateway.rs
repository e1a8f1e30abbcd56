//! O13: requests per CPU second through the gateway, HTTP/1.1 on kept connections, beside HAProxy in the same run.
//!
//! Both stand, one after the other and turn by turn, in front of the same two endpoints (an HAProxy that answers by
//! itself), under the same load of `wrk`. What counts is the CPU time of the proxy alone.

use std::{path::Path, process::Command};

use crate::{
    Outcome,
    bench::kit::{self, Running},
    run,
    tools::{self, Tool},
};

const TOOLS: &[Tool] = &[
    Tool { program: "haproxy", package: "haproxy", purpose: "the peer, and the endpoints", versions: None },
    Tool { program: "wrk", package: "wrk", purpose: "the load", versions: None },
];

const ROUNDS: usize = 3;
const SECONDS: u32 = 5;

/// Measures both, and fails when the gateway does less than 0.85 of the peer.
pub(crate) fn run() -> Outcome {
    tools::ensure(TOOLS)?;
    run::step(run::cargo().args(["build", "--release", "--package", "hale-gateway", "--example", "fixed"]))?;
    let folder = kit::folder("gateway")?;
    let ends = [kit::free_port()?, kit::free_port()?];
    let (ours, peers) = (kit::free_port()?, kit::free_port()?);
    let _ends = haproxy(&folder, "ends", &endpoints(ends))?;
    let peer = haproxy(&folder, "peer", &proxy(peers, ends))?;
    let mut command = run::program(run::target().join("release/examples/fixed"));
    command.arg(format!("127.0.0.1:{ours}")).args(ends.map(|port| format!("127.0.0.1:{port}")));
    let gateway = Running::start(&mut command)?;
    for port in ends.into_iter().chain([ours, peers]) {
        kit::wait_for_port(port)?;
    }
    let (mut ratios, mut tails) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let hale = load(&gateway, ours)?;
        let haproxy = load(&peer, peers)?;
        let ratio = hale.per_cpu_second() / haproxy.per_cpu_second();
        println!("round {round}: hale {hale}; haproxy {haproxy}; ratio {ratio:.2}");
        ratios.push(ratio);
        tails.push(hale.p99_ms / haproxy.p99_ms);
    }
    let (ratio, tail) = (kit::median(&mut ratios), kit::median(&mut tails));
    println!("requests per CPU second, hale / haproxy: {ratio:.2} (at least 0.85 wanted); p99: {tail:.2}");
    if ratio < 0.85 {
        Err(format!("the gateway does {ratio:.2} of HAProxy's requests per CPU second"))
    } else {
        Ok(())
    }
}

/// What one round of load came to.
#[derive(Debug)]
struct Load {
    requests: f64,
    cpu: f64,
    p99_ms: f64,
}

impl Load {
    fn per_cpu_second(&self) -> f64 {
        self.requests / self.cpu
    }
}

impl std::fmt::Display for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { requests, cpu, p99_ms } = self;
        write!(
            f,
            "{:.0} requests per CPU second ({requests:.0} in {cpu:.2} s, p99 {p99_ms:.2} ms)",
            self.per_cpu_second()
        )
    }
}

fn load(proxy: &Running, port: u16) -> Result<Load, String> {
    let before = proxy.cpu_seconds()?;
    let mut wrk = run::program("wrk");
    wrk.args(["--threads", "1", "--connections", "32", "--latency", "--duration", &format!("{SECONDS}s")]);
    let text = run::read(wrk.arg(format!("http://127.0.0.1:{port}/")))?;
    let cpu = proxy.cpu_seconds()? - before;
    if text.contains("Non-2xx") || text.contains("Socket errors") {
        return Err(format!("requests failed:\n{text}"));
    }
    let requests = text.lines().find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok());
    let p99 = text.lines().find_map(|line| milliseconds(line.trim().strip_prefix("99%")?.trim()));
    match (requests, p99) {
        (Some(requests), Some(p99_ms)) => Ok(Load { requests, cpu, p99_ms }),
        _ => Err(format!("what wrk says is not understood:\n{text}")),
    }
}

/// Reads `1.23ms`, `456.00us`, `1.20s`.
fn milliseconds(text: &str) -> Option<f64> {
    let unit = text.trim_start_matches(|it: char| it.is_ascii_digit() || it == '.');
    let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
    let factor = match unit {
        "us" => 0.001,
        "ms" => 1.0,
        "s" => 1000.0,
        _ => return None,
    };
    Some(number * factor)
}

fn haproxy(folder: &Path, name: &str, config: &str) -> Result<Running, String> {
    let file = folder.join(format!("{name}.cfg"));
    kit::write(&file, config)?;
    Running::start(Command::new("haproxy").arg("-db").arg("-f").arg(&file))
}

const COMMON: &str = "global\n  maxconn 4000\ndefaults\n  mode http\n  timeout connect 1s\n  timeout client 60s\n  timeout server 60s\n";

fn endpoints(ports: [u16; 2]) -> String {
    let binds = ports.map(|port| format!("  bind 127.0.0.1:{port}\n")).concat();
    format!(
        "{COMMON}frontend ends\n{binds}  http-request return status 200 content-type text/plain string hello\n"
    )
}

fn proxy(port: u16, ends: [u16; 2]) -> String {
    let servers = ends.map(|end| format!("  server s{end} 127.0.0.1:{end}\n")).concat();
    format!(
        "{COMMON}frontend front\n  bind 127.0.0.1:{port}\n  default_backend ends\nbackend ends\n  balance leastconn\n  \
         http-reuse always\n  option forwardfor\n{servers}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_wrk_are_read() {
        assert_eq!(milliseconds("1.50ms"), Some(1.5));
        assert_eq!(milliseconds("2.00s"), Some(2000.0));
        assert_eq!(milliseconds("nothing"), None);
    }
}
