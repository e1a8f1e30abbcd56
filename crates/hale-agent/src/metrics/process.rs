//! What the process itself uses, under the names every Prometheus client gives them, read when they are scraped.

use std::{fs, sync::LazyLock};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};

/// Clock ticks a second, and the size of a page in bytes.
static SCALE: LazyLock<(f64, u64)> =
    LazyLock::new(|| (rustix::param::clock_ticks_per_second() as f64, rustix::param::page_size() as u64));

/// Adds the process's own figures to a registry.
pub fn register(registry: &mut Registry) {
    registry.register_collector(Box::new(ProcessCollector));
}

#[derive(Debug)]
struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(figures) = read() else { return Ok(()) };
        let counter = ConstCounter::new(figures.cpu_seconds);
        counter.encode(to.encode_descriptor(
            "process_cpu",
            "CPU time of this process, user and system",
            Some(&Unit::Seconds),
            MetricType::Counter,
        )?)?;
        let gauges = [
            ("process_resident_memory", "Resident memory", Some(Unit::Bytes), figures.resident_bytes),
            ("process_open_fds", "Open file descriptors", None, figures.open_files),
            ("process_threads", "Threads", None, figures.threads),
        ];
        for (name, help, unit, value) in gauges {
            let gauge = ConstGauge::new(value);
            gauge.encode(to.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?)?;
        }
        Ok(())
    }
}

struct Figures {
    cpu_seconds: f64,
    resident_bytes: i64,
    open_files: i64,
    threads: i64,
}

/// `None` where `/proc` can't be read: the figures are then absent, never wrong.
fn read() -> Option<Figures> {
    let (ticks, page) = *SCALE;
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in brackets and may hold anything: count from its end (proc(5)).
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Figures {
        cpu_seconds: (field(14)? + field(15)?) as f64 / ticks,
        resident_bytes: i64::try_from(field(24)? * page).ok()?,
        threads: i64::try_from(field(20)?).ok()?,
        open_files: i64::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()?,
    })
}
