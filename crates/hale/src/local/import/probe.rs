//! Probes in the making.

use std::time::Duration;

use super::{
    draft::seconds,
    out::{Fields, Out},
};

/// A command that is run inside.
pub(super) fn exec(command: &[String]) -> Fields {
    let command = Out::texts(command.iter().cloned());
    Fields::default().with("exec", Fields::default().with("command", command))
}

/// When a probe asks, and how many failures it takes.
pub(super) fn timed(mut probe: Fields, period: Duration, timeout: Duration, failures: u64) -> Fields {
    probe.set("periodSeconds", seconds(period));
    probe.set("timeoutSeconds", seconds(timeout));
    probe.set("failureThreshold", Out::word(failures.max(1)));
    probe
}
