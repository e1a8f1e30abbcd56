//! What the engine asks of the kernel: system calls per probe, counted by `strace`.

use std::{collections::BTreeMap, process::Command, time::Duration};

use super::{
    engine::{arguments, read},
    kit::own,
    peers::Load,
};

/// 1,000 probes a second: what is traced is slow, and only the number counts.
const PLAIN: Load = Load { targets: 100, period: Duration::from_millis(100), tls: false, kept: false };

/// Prints calls per probe of each way to ask. Nothing where there is no strace, or it may not trace.
pub(crate) fn table(plain: u16, tls: u16) {
    let ways = [
        ("fresh", plain, PLAIN),
        ("kept", plain, Load { kept: true, ..PLAIN }),
        ("TLS, fresh", tls, Load { tls: true, ..PLAIN }),
        ("TLS, kept", tls, Load { tls: true, kept: true, ..PLAIN }),
    ];
    let mut lines = Vec::new();
    for (how, port, load) in ways {
        let Some((calls, probes)) = count(port, load) else {
            println!("system calls were not counted: no strace here, or it may not trace\n");
            return;
        };
        let mut named: Vec<(&String, &u64)> = calls.iter().collect();
        named.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let each = |count: u64| count as f64 / probes;
        let sum: u64 = calls.values().sum();
        let named = named.iter().filter(|(_, count)| each(**count) >= 0.05);
        let named: Vec<String> = named.map(|(name, count)| format!("{name} {:.2}", each(**count))).collect();
        lines.push(format!("| {how} | {:.2} | {} |", each(sum), named.join(", ")));
    }
    println!("| hale, system calls per probe | all | of these |\n| --- | --- | --- |");
    println!("{}\n", lines.join("\n"));
}

/// The calls of a run by name, and how many probes it made. The few calls of its start are among them.
fn count(port: u16, load: Load) -> Option<(BTreeMap<String, u64>, f64)> {
    const WINDOW: Duration = Duration::from_secs(5);
    let file = std::env::current_exe().ok()?.with_extension("strace");
    let engine = own(&[]);
    let mut command = Command::new("strace");
    command.args(["-c", "-f", "-o"]).arg(&file).arg(engine.get_program());
    let output = command.args(arguments(port, load, WINDOW)).output().ok()?;
    if !output.status.success() {
        return None;
    }
    let table = std::fs::read_to_string(&file).ok()?;
    // % time, seconds, usecs/call, calls, errors where there are any, name.
    let calls = table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let count: u64 = fields.get(3)?.parse().ok()?;
        Some(((*fields.last()?).to_owned(), count)).filter(|(name, _)| name != "total")
    });
    let said = String::from_utf8(output.stdout).ok()?;
    Some((calls.collect(), read(said.lines().last()?).probes))
}
