//! A thousand replicas of `sleep` on one machine, each with an exec and a TCP probe: what supervising them costs.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::{
    Outcome,
    bench::kit::{self, Running},
    run,
};

const REPLICAS: u32 = 1000;

/// Long enough for each probe to run several times.
const MEASURED: Duration = Duration::from_secs(60);

/// Starts them, waits until all are ready, and says what hale and its keeper use in a minute.
pub(crate) fn run() -> Outcome {
    run::step(run::cargo().args(["build", "--release", "--package", "hale"]))?;
    let program = run::target().join("release/hale");
    let folder = kit::folder("thousand")?;
    let (file, data) = (folder.join("thousand.yaml"), folder.join("data"));
    kit::write(&file, &workload(accepting()?))?;
    let begin = Instant::now();
    let mut up = run::program(&program);
    up.arg("up").arg(&file).arg("--data-dir").arg(&data).args(["--listen", "127.0.0.1:0"]);
    let up = Running::start(&mut up)?;
    wait_healthy(&program, &data)?;
    println!("{REPLICAS} replicas ready after {:.1} s", begin.elapsed().as_secs_f64());

    let keeper = keeper_of(up.pid())?;
    let used = || Ok::<_, String>((up.cpu_seconds()?, kit::cpu_seconds(keeper)?));
    let before = used()?;
    thread::sleep(MEASURED);
    let after = used()?;
    let percent = |from: f64, to: f64| 100.0 * (to - from) / MEASURED.as_secs_f64();
    println!("300 checks a second: an exec probe each 10 s and a TCP probe each 5 s of every replica");
    println!(
        "hale:   {:.1} % of a CPU (without the commands it runs), {:.0} MiB resident",
        percent(before.0, after.0),
        kit::resident_mib(up.pid())?
    );
    println!(
        "keeper: {:.2} % of a CPU, {:.0} MiB resident",
        percent(before.1, after.1),
        kit::resident_mib(keeper)?
    );
    wait_healthy(&program, &data)
}

/// Something for the TCP probes to connect to. Accepts until the process ends.
fn accepting() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    let port = listener.local_addr().map_err(|error| error.to_string())?.port();
    thread::spawn(move || listener.incoming().for_each(drop));
    Ok(port)
}

fn workload(port: u16) -> String {
    format!(
        "kind: Workload\nname: sleeper\nreplicas: {REPLICAS}\nprocess: {{command: [sleep, '86400']}}\n\
         livenessProbe: {{exec: {{command: ['true']}}, periodSeconds: 10}}\n\
         readinessProbe: {{tcpSocket: {{host: 127.0.0.1, port: {port}}}, periodSeconds: 5}}\n"
    )
}

/// Until the socket is there nobody can be asked; after that the command itself waits.
fn wait_healthy(program: &Path, data: &Path) -> Outcome {
    let end = Instant::now() + Duration::from_secs(10);
    while !data.join("hale.sock").exists() && Instant::now() < end {
        thread::sleep(Duration::from_millis(10));
    }
    let mut status = run::program(program);
    status.args(["status", "--wait", "healthy", "--timeout", "120s", "--data-dir"]).arg(data);
    run::read(&mut status).map(drop)
}

/// The child whose command line says that it is the keeper.
fn keeper_of(up: u32) -> Result<u32, String> {
    let path = format!("/proc/{up}/task/{up}/children");
    let children = fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
    let keeps = |pid: &u32| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.split(|byte| *byte == 0).any(|word| word == b"--options"))
    };
    children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .find(keeps)
        .ok_or("no keeper is found".into())
}
