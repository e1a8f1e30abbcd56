//! What is allowed but probably not meant: the warnings of `hale check` (C5).

mod responder;

use std::{fmt, time::Duration};

use hale_health::{OnExhausted, ProbeKind, RestartMode};

pub use self::responder::lint_responder;
use crate::spec::{Check, Container, ContainerFrom, Probe, Pull, Run, Workload};

/// A longer wait than this before a check has failed makes detection slow.
const LONG_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a node goes unheard before its server takes it for lost, with the beats that it has unless told otherwise.
const THREE_BEATS: Duration = Duration::from_secs(15);

/// Something that is allowed but probably not meant.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Warning {
    /// A stable word for it.
    pub code: &'static str,
    /// The workload, or the responder.
    pub workload: String,
    /// The field it is about.
    pub field: String,
    /// What it leads to.
    pub message: String,
    /// What to try.
    pub help: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.workload, self.field, self.message)
    }
}

/// The warnings of one document.
struct Warnings {
    of: String,
    all: Vec<Warning>,
}

impl Warnings {
    fn of(name: &str) -> Self {
        Self { of: name.to_owned(), all: Vec::new() }
    }

    fn warn(&mut self, code: &'static str, field: &str, message: String, help: &str) {
        let workload = self.of.clone();
        self.all.push(Warning { code, workload, field: field.into(), message, help: help.into() });
    }
}

/// Looks a valid workload over.
#[must_use]
pub fn lint(workload: &Workload) -> Vec<Warning> {
    let mut all = Warnings::of(&workload.name);
    let mut warn = |code, field: &str, message: String, help: &str| all.warn(code, field, message, help);
    for (kind, probe) in probes(workload) {
        lint_probe(kind, probe, &mut warn);
    }
    let restart = &workload.policy.restart;
    if restart.mode != RestartMode::Never && restart.on_exhausted == OnExhausted::Wait {
        let message = "a replica that can't start is tried again for ever, at the pace of the budget".into();
        warn("no_budget", "restart.onExhausted", message, "with `fail` it is given up, and says so");
    }
    if restart.mode != RestartMode::Never && restart.max_restarts > 1000 {
        let message = format!("{} restarts are no budget", restart.max_restarts);
        warn("no_budget", "restart.maxRestarts", message, "10 in 10m is the default");
    }
    if restart.mode != RestartMode::Never && restart.backoff.max.is_zero() {
        let message = "a replica that ends at once is restarted without any wait".into();
        warn("no_backoff", "restart.maxBackoff", message, "keep a longest wait of some seconds");
    }
    if workload.service.is_some() && workload.readiness.is_none() {
        let message = "without a readinessProbe a replica gets traffic as soon as it runs".into();
        warn("no_readiness", "service", message, "add a readinessProbe");
    }
    if workload.replicas > 1
        && let Some(port) = workload.fixed_ports().next()
    {
        let message = format!("{} replicas on one machine can't all bind port {port}", workload.replicas);
        let help = match &workload.run {
            Run::Process(_) => "use port: 0 and $(PORT)",
            Run::Container(_) => "use hostPort: 0",
        };
        warn("fixed_port", "ports", message, help);
    }
    if let Some(after) = workload.disconnect.stop_after.filter(|after| *after < THREE_BEATS) {
        let message = format!("with {after:?}, a beat or two that are late stop replicas that run well");
        warn(
            "stop_after_short",
            "disconnect.stopAfter",
            message,
            "a server takes a node for lost after 15s, too",
        );
    }
    if let Run::Container(container) = &workload.run {
        lint_container(container, &mut warn);
    }
    lint_service(workload, &mut warn);
    all.all
}

fn lint_service(workload: &Workload, warn: &mut impl FnMut(&'static str, &str, String, &str)) {
    if let (Some(service), Run::Container(container)) = (&workload.service, &workload.run)
        && container.network.as_deref() != Some("host")
        && matches!(container.from, ContainerFrom::Image { .. })
        && workload.port(&service.port).is_some_and(|it| it.host_port.is_none())
    {
        let message = "its port is not published: requests reach a replica from its own machine alone".into();
        warn("unpublished_service", "service.port", message, "give the port hostPort: 0");
    }
    if let Some(service) = &workload.service {
        if service.panic_threshold > 0 {
            let message = "has no effect in this build of hale".into();
            warn("no_effect", "service.panicThreshold", message, "leave it out");
        }
        if !service.slow_start.is_zero() {
            let message = "has no effect in this build of hale".into();
            warn("no_effect", "service.slowStartSeconds", message, "leave it out");
        }
    }
}

fn lint_container(container: &Container, warn: &mut impl FnMut(&'static str, &str, String, &str)) {
    let ContainerFrom::Image { image, pull } = &container.from else { return };
    let name = image.rsplit('/').next().unwrap_or(image);
    let floats = !name.contains('@') && name.split_once(':').is_none_or(|(_, tag)| tag == "latest");
    if floats && *pull == Pull::Always {
        let message = "what runs changes with the registry, and an update can't be taken back".into();
        warn("image_floats", "container.image", message, "name a version: web:1.2");
    }
}

fn probes(workload: &Workload) -> impl Iterator<Item = (ProbeKind, &Probe)> {
    [
        (ProbeKind::Startup, &workload.startup),
        (ProbeKind::Liveness, &workload.liveness),
        (ProbeKind::Readiness, &workload.readiness),
    ]
    .into_iter()
    .filter_map(|(kind, probe)| Some((kind, probe.as_ref()?)))
}

fn lint_probe(kind: ProbeKind, probe: &Probe, warn: &mut impl FnMut(&'static str, &str, String, &str)) {
    let field = format!("{kind}Probe");
    let timing = &probe.timing;
    let notify = matches!(probe.check, Check::Notify);
    if kind == ProbeKind::Liveness && timing.failure_threshold == 1 && !notify {
        let message = "one failed check restarts the replica, and one slow answer is enough for that".into();
        warn("liveness_threshold_1", &format!("{field}.failureThreshold"), message, "use 2 or more");
    }
    if notify {
        return;
    }
    // A startup probe may ask often and wait long: it has a deadline of its own.
    if timing.timeout > timing.period && kind != ProbeKind::Startup {
        let message = format!(
            "{} s is longer than the period of {} s: a hanging replica is asked less often than meant",
            timing.timeout.as_secs_f64(),
            timing.period.as_secs_f64()
        );
        warn(
            "timeout_above_period",
            &format!("{field}.timeoutSeconds"),
            message,
            "a timeout below the period",
        );
    } else if timing.timeout > LONG_TIMEOUT && kind != ProbeKind::Startup {
        let message = format!("{} s makes a hang slow to detect", timing.timeout.as_secs_f64());
        warn("timeout_long", &format!("{field}.timeoutSeconds"), message, "3 s or less");
    }
}
