//! What the node has and uses, and each of its replicas (N10): one pass over `/proc` every ten seconds.

use std::{fs, path::Path, time::Duration};

use hale_api::proto;
use hale_supervisor::runtime::{InstanceId, Usage};
use tokio::sync::watch;

use std::sync::Arc;

use crate::state::convert;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(10);

/// What an instance uses.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Used {
    pub(crate) workload: String,
    pub(crate) ordinal: u32,
    pub(crate) incarnation: u64,
    pub(crate) usage: proto::Usage,
}

/// One look.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Sample {
    pub(crate) resources: Option<proto::Resources>,
    pub(crate) usages: Vec<Used>,
}

/// Tells what every instance of a node uses, in one pass.
pub type Usages = Arc<dyn Fn() -> Vec<(InstanceId, Usage)> + Send + Sync>;

/// CPU time of the machine, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Ticks {
    busy: u64,
    all: u64,
}

/// Looks from time to time, until nobody wants to know.
pub(crate) async fn look_again(tell: watch::Sender<Arc<Sample>>, dir: std::path::PathBuf, usages: Usages) {
    let mut before = Ticks::default();
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !tell.is_closed() {
        every.tick().await;
        let (dir, usages) = (dir.clone(), Arc::clone(&usages));
        let looked = tokio::task::spawn_blocking(move || {
            let ticks = ticks();
            let used = usages().iter().filter_map(|(id, usage)| used(id, usage)).collect();
            (ticks, resources(&dir, before, ticks), used)
        });
        if let Ok((ticks, resources, usages)) = looked.await {
            before = ticks;
            tell.send_replace(Arc::new(Sample { resources: Some(resources), usages }));
        }
    }
}

fn used(id: &InstanceId, usage: &Usage) -> Option<Used> {
    let (workload, ordinal) = id.replica.rsplit_once('-')?;
    Some(Used {
        workload: workload.to_owned(),
        ordinal: ordinal.parse().ok()?,
        incarnation: id.incarnation.0,
        usage: convert::usage(usage),
    })
}

fn resources(dir: &Path, before: Ticks, now: Ticks) -> proto::Resources {
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let (disk_total, disk_available) = disk(dir);
    let all = now.all.saturating_sub(before.all);
    let busy = now.busy.saturating_sub(before.busy);
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64;
    proto::Resources {
        cpu_busy: if all == 0 { 0.0 } else { cpus * busy as f64 / all as f64 },
        memory_total: meminfo(&memory, "MemTotal:"),
        memory_available: meminfo(&memory, "MemAvailable:"),
        disk_total,
        disk_available,
        cpu_pressure: pressure("cpu"),
        memory_pressure: pressure("memory"),
        io_pressure: pressure("io"),
    }
}

/// CPUs, bytes of memory, and bytes of the file system of a directory: what a node has, less nothing.
#[must_use]
pub fn capacity(dir: &Path) -> (f64, u64, u64) {
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    (cpus as f64, meminfo(&memory, "MemTotal:"), disk(dir).0)
}

/// Names this boot of the machine.
#[must_use]
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn disk(dir: &Path) -> (u64, u64) {
    rustix::fs::statvfs(dir).map_or((0, 0), |it| (it.f_blocks * it.f_frsize, it.f_bavail * it.f_frsize))
}

fn meminfo(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal.
fn ticks() -> Ticks {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    parse_ticks(line)
}

fn parse_ticks(line: &str) -> Ticks {
    let numbers: Vec<u64> =
        line.split_whitespace().skip(1).take(8).map(|it| it.parse().unwrap_or(0)).collect();
    let all = numbers.iter().sum();
    let idle: u64 = numbers.iter().skip(3).take(2).sum();
    Ticks { busy: all - idle, all }
}

/// The share of the last ten seconds that something waited, per cent; 0 where the kernel does not tell.
fn pressure(of: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/pressure/{of}")).unwrap_or_default();
    parse_pressure(&text)
}

fn parse_pressure(text: &str) -> f64 {
    let some = text.lines().find(|line| line.starts_with("some "));
    let share = some.and_then(|line| line.split_whitespace().find_map(|it| it.strip_prefix("avg10=")));
    share.and_then(|it| it.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_tells_is_understood() {
        let ticks = parse_ticks("cpu  100 10 50 800 40 0 5 0 0 0");
        assert_eq!(ticks, Ticks { busy: 165, all: 1005 });
        assert_eq!(parse_ticks(""), Ticks::default());
        let text =
            "some avg10=1.50 avg60=0.20 avg300=0.00 total=12\nfull avg10=9.00 avg60=0 avg300=0 total=1\n";
        assert!((parse_pressure(text) - 1.5).abs() < 1e-9);
        assert!(parse_pressure("").abs() < 1e-9);
        assert_eq!(meminfo("MemTotal:  2048 kB\nMemFree: 7 kB\n", "MemTotal:"), 2 * 1024 * 1024);
    }

    #[test]
    fn this_machine_has_something() {
        let (cpus, memory, disk) = capacity(Path::new("/"));
        assert!(cpus >= 1.0 && memory > 0 && disk > 0);
        assert!(!boot_id().is_empty());
        let before = ticks();
        assert!(before.all > 0 && before.busy <= before.all);
        let now = resources(Path::new("/"), Ticks::default(), before);
        assert!(now.memory_available <= now.memory_total && now.cpu_busy > 0.0);
    }
}
