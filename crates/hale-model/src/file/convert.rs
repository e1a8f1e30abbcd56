//! Raw forms to validated values: every rule that one document can break by itself.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use hale_health::{DampingPolicy, Mode, ProbeKind, ReplicaPolicy, StopPolicy, WorkloadPolicy};

use super::{
    check::{Ports, probe},
    container::{self, container},
    de::{At, Cx, Field},
    error::{Code, Problem, Span},
    ports::ports,
    process::process,
    raw::{
        RawBalance, RawDisconnect, RawFlapping, RawMode, RawPlacement, RawProcess, RawProtocol, RawResources,
        RawRollout, RawService, RawTarget, RawWorkload,
    },
    raw_container::RawContainer,
    restart::restart,
    scalar::Text,
};
use crate::spec::{
    Balance, Disconnect, Port, Process, Protocol, Resources, Rollout, Run, Service, Target, Workload,
};

/// More replicas of one workload than this are a slip of the finger.
const MAX_REPLICAS: u16 = 10_000;
const SECOND: Duration = Duration::from_secs(1);

/// A declared thing, with the places that checks across documents point at.
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) name: Span,
    pub(super) depends_on: Vec<At<String>>,
    pub(super) service: Option<Span>,
}

/// Makes a workload of what was written. Mistakes are noted; the value counts only when there were none.
pub(super) fn workload(raw: RawWorkload, whole: Span, digest: String, cx: &Cx<'_>) -> Placed<Workload> {
    let (name, name_span) = name(raw.name, whole, "workload", cx);
    let run = run(raw.process, raw.container, whole, &name, cx);
    let replicas = u32::from(raw.replicas.as_set().map_or(1, |at| at.value));
    if let Some(at) = raw.replicas.as_set().filter(|at| at.value > MAX_REPLICAS) {
        cx.note(invalid(at.span, format!("replicas: at most {MAX_REPLICAS}, found {}", at.value)));
    }
    let ports = ports(raw.ports, &run, cx);
    let known = Ports::of(&ports);
    let asked = [&raw.startup_probe, &raw.liveness_probe, &raw.readiness_probe];
    container::fits(&run, asked, raw.resources.as_set(), cx);
    let startup = raw.startup_probe.set().and_then(|it| probe(it, ProbeKind::Startup, &known, cx));
    let liveness = raw.liveness_probe.set().and_then(|it| probe(it, ProbeKind::Liveness, &known, cx));
    let readiness = raw.readiness_probe.set().and_then(|it| probe(it, ProbeKind::Readiness, &known, cx));
    let has_service = raw.service.is_written();
    let service_span = raw.service.as_set().map(|at| at.span);
    let service = raw.service.set().and_then(|it| service(it, &name, &ports, cx));
    let stop = StopPolicy {
        drain: raw
            .drain_seconds
            .value()
            .map_or(if has_service { SECOND * 5 } else { Duration::ZERO }, |it| it.0),
        grace: raw.termination_grace_period_seconds.value().map_or(SECOND * 30, |it| it.0),
    };
    let policy = ReplicaPolicy {
        startup: startup.as_ref().map(|it| it.timing),
        liveness: liveness.as_ref().map(|it| it.timing),
        readiness: readiness.as_ref().map(|it| it.timing),
        restart: raw.restart.value().map_or_else(Default::default, |it| restart(it, cx)),
        stop,
        damping: raw.flapping.value().map_or_else(Default::default, |it| damping(it, cx)),
        mode: match raw.mode.value() {
            Some(RawMode::Observe) => Mode::Observe,
            _ => Mode::Act,
        },
    };
    let depends_on = depends_on(raw.depends_on.value().map(|it| it.0).unwrap_or_default());
    let value = Workload {
        name,
        replicas,
        run,
        ports,
        resources: raw.resources.value().map_or_else(Default::default, |it| resources(it, cx)),
        startup,
        liveness,
        readiness,
        policy,
        together: together(raw.min_available, raw.max_concurrent_restarts, raw.max_hold, replicas, cx),
        depends_on: depends_on.iter().map(|at| at.value.clone()).collect(),
        stop_signal: raw.stop_signal.set().and_then(|it| super::signal::stop_signal(&it, cx)).unwrap_or(15),
        service,
        rollout: raw.rollout.value().map_or_else(Default::default, rollout),
        disconnect: raw.disconnect.value().map_or_else(Default::default, disconnect),
        node_selector: raw.placement.value().map_or_else(Default::default, |it| node_selector(it, cx)),
        digest,
    };
    Placed { value, name: name_span, depends_on, service: service_span }
}

/// Makes a target of what was written.
pub(super) fn target(raw: RawTarget, whole: Span, digest: String, cx: &Cx<'_>) -> Option<Placed<Target>> {
    let (name, name_span) = name(raw.name.clone(), whole, "target", cx);
    let value = super::target::target(name, raw, whole, digest, cx)?;
    Some(Placed { value, name: name_span, depends_on: Vec::new(), service: None })
}

pub(super) fn invalid(span: Span, message: impl Into<String>) -> Problem {
    Problem::new(span, Code::InvalidValue, message)
}

pub(super) fn missing(span: Span, message: impl Into<String>) -> Problem {
    Problem::new(span, Code::MissingField, message)
}

/// Whether a text is a DNS label (RFC 1123), as names of all kinds are (C1).
#[must_use]
pub fn is_label(text: &str) -> bool {
    label_fault(text).is_none()
}

/// Whether a text may name a node: a DNS name in lower case, such as `n1` or `n1.example.com`.
#[must_use]
pub fn is_node_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

/// What is wrong with a DNS label (RFC 1123), if anything is.
pub(super) fn label_fault(text: &str) -> Option<&'static str> {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.is_empty() {
        Some("is empty")
    } else if text.len() > 63 {
        Some("is longer than 63 characters")
    } else if !text.chars().all(fine) {
        Some("may hold only lower case letters, digits and dashes")
    } else if text.starts_with('-') || text.ends_with('-') {
        Some("must begin and end with a letter or a digit")
    } else {
        None
    }
}

/// The text if it is a DNS label; else the mistake is noted.
pub(super) fn label(at: &At<Text>, what: &str, cx: &Cx<'_>) -> String {
    let text = at.value.0.clone();
    if let Some(fault) = label_fault(&text) {
        let fixed: String = text.to_lowercase().replace(['_', '.', ' ', '/'], "-").trim_matches('-').into();
        let problem = invalid(at.span, format!("{what}: `{}` {fault}", super::de::shorten(&text)));
        cx.note(match label_fault(&fixed) {
            None => problem.help(format!("for example {fixed}")),
            Some(_) => problem,
        });
    }
    text
}

/// The name that every document has.
pub(super) fn name(field: Field<Text>, whole: Span, of: &str, cx: &Cx<'_>) -> (String, Span) {
    match field {
        Field::Set(at) => (label(&at, "name", cx), at.span),
        Field::Bad => (String::new(), whole),
        Field::Absent => {
            cx.note(missing(whole, format!("name: missing, every {of} has one")));
            (String::new(), whole)
        }
    }
}

fn run(
    process_field: Field<RawProcess>,
    container_field: Field<RawContainer>,
    whole: Span,
    name: &str,
    cx: &Cx<'_>,
) -> Run {
    if process_field.is_written()
        && let Some(at) = container_field.as_set()
    {
        let problem = Problem::new(at.span, Code::Conflict, "process and container, expected one of them");
        cx.note(problem.help("a replica is a process of this machine or a container, not both"));
    }
    match (process_field, container_field) {
        (Field::Set(at), _) => Run::Process(process(at, cx)),
        (_, Field::Set(at)) => Run::Container(container(at, cx)),
        (Field::Absent, Field::Absent) => {
            let of = if name.is_empty() { "this workload".to_owned() } else { format!("workload {name}") };
            cx.note(
                missing(whole, format!("process: missing, {of} has nothing to run"))
                    .help("for example process: {command: [\"./web\"]}, or container: {image: nginx}"),
            );
            Run::Process(empty(cx))
        }
        _ => Run::Process(empty(cx)),
    }
}

/// Stands for what could not be read; why is noted.
fn empty(cx: &Cx<'_>) -> Process {
    Process {
        command: Vec::new(),
        env: BTreeMap::new(),
        secret_env: BTreeMap::new(),
        env_from: Vec::new(),
        working_dir: cx.dir.to_path_buf(),
        user: None,
        group: None,
        ulimits: BTreeMap::new(),
    }
}

fn resources(raw: RawResources, cx: &Cx<'_>) -> Resources {
    if let Some(at) = raw.memory.as_set().filter(|at| at.value.0 < 1024 * 1024) {
        let problem =
            invalid(at.span, format!("resources.memory: {} bytes are too few to start anything", at.value.0));
        cx.note(problem.help("at least 1Mi; units are Ki, Mi, Gi"));
    }
    if let Some(at) = raw.cpu.as_set().filter(|at| !(0.001..=10_000.0).contains(&at.value)) {
        cx.note(invalid(at.span, format!("resources.cpu: from 0.001 to 10000 CPUs, found {}", at.value)));
    }
    Resources { memory: raw.memory.value().map(|it| it.0), cpu: raw.cpu.value() }
}

fn damping(raw: RawFlapping, cx: &Cx<'_>) -> DampingPolicy {
    let default = DampingPolicy::default();
    let span = raw.suppress.as_set().or(raw.reuse.as_set()).map(|at| at.span);
    let positive = |field: &Field<super::scalar::Span>, name: &str| {
        if let Some(at) = field.as_set().filter(|at| at.value.0.is_zero()) {
            cx.note(invalid(at.span, format!("flapping.{name}: must be above 0")));
        }
    };
    positive(&raw.half_life, "halfLife");
    positive(&raw.max_hold, "maxHold");
    let policy = DampingPolicy {
        suppress: raw.suppress.value().unwrap_or(default.suppress),
        reuse: raw.reuse.value().unwrap_or(default.reuse),
        half_life: raw.half_life.value().map_or(default.half_life, |it| it.0),
        max_hold: raw.max_hold.value().map_or(default.max_hold, |it| it.0),
    };
    if let Some(span) = span.filter(|_| policy.reuse <= 0.0 || policy.reuse >= policy.suppress) {
        let (reuse, suppress) = (policy.reuse, policy.suppress);
        cx.note(
            Problem::new(
                span,
                Code::Conflict,
                format!("flapping: reuse ({reuse}) must be above 0 and below suppress ({suppress})"),
            )
            .help("a replica is held out above suppress and let back below reuse"),
        );
    }
    policy
}

fn together(
    min_available: Field<u32>,
    max_concurrent: Field<u32>,
    max_hold: Field<super::scalar::Span>,
    replicas: u32,
    cx: &Cx<'_>,
) -> WorkloadPolicy {
    if let Some(at) = min_available.as_set().filter(|at| at.value > replicas) {
        cx.note(
            Problem::new(
                at.span,
                Code::Conflict,
                format!("minAvailable: {} is more than the {replicas} replicas", at.value),
            )
            .help("no restart could ever be allowed then"),
        );
    }
    if let Some(at) = max_concurrent.as_set().filter(|at| at.value == 0) {
        cx.note(
            invalid(at.span, "maxConcurrentRestarts: must be at least 1")
                .help("to record only, use mode: observe"),
        );
    }
    WorkloadPolicy {
        min_available: min_available.value(),
        max_concurrent_restarts: max_concurrent.value(),
        max_hold: max_hold.value().map_or(WorkloadPolicy::default().max_hold, |it| it.0),
    }
}

fn depends_on(names: Vec<Field<Text>>) -> Vec<At<String>> {
    let mut all: Vec<At<String>> = Vec::new();
    for at in names.into_iter().filter_map(Field::set) {
        if !all.iter().any(|it| it.value == at.value.0) {
            all.push(At { span: at.span, value: at.value.0 });
        }
    }
    all
}

fn rollout(raw: RawRollout) -> Rollout {
    let default = Rollout::default();
    Rollout {
        min_ready: raw.min_ready_seconds.value().map_or(default.min_ready, |it| it.0),
        progress_deadline: raw.progress_deadline.value().map_or(default.progress_deadline, |it| it.0),
        max_surge: raw.max_surge.value().unwrap_or(default.max_surge),
        auto_rollback: raw.auto_rollback.value().unwrap_or(default.auto_rollback),
    }
}

fn node_selector(raw: RawPlacement, cx: &Cx<'_>) -> BTreeMap<String, String> {
    let Field::Set(At { span, value }) = raw.node_selector else { return BTreeMap::new() };
    let mut labels = BTreeMap::new();
    for (key, value) in value {
        match value {
            Field::Bad => {}
            Field::Absent => {
                cx.note(
                    missing(span, format!("placement.nodeSelector.{key}: has no value"))
                        .help("write \"\" for a label without one"),
                );
            }
            Field::Set(at) => {
                labels.insert(key, at.value.0);
            }
        }
    }
    labels
}

fn disconnect(raw: RawDisconnect) -> Disconnect {
    let default = Disconnect::default();
    Disconnect {
        replace_after: raw.replace_after.value().map_or(default.replace_after, |it| it.0),
        stop_after: raw.stop_after.value().map_or(default.stop_after, |it| it.0),
    }
}

fn service(raw: At<RawService>, workload: &str, ports: &[Port], cx: &Cx<'_>) -> Option<Service> {
    let At { span, value: raw } = raw;
    let name = match &raw.name {
        Field::Set(at) => label(at, "service.name", cx),
        _ => workload.to_owned(),
    };
    let port = service_port(&raw.port, span, ports, cx)?;
    if let Some(at) = raw.protocol.as_set().filter(|at| at.value == RawProtocol::Tcp) {
        cx.note(
            Problem::new(
                at.span,
                Code::NotSupported,
                "service.protocol: tcp is not supported by this build of hale",
            )
            .help("http is"),
        );
    }
    if let Some(at) = raw.panic_threshold.as_set().filter(|at| at.value > 100) {
        cx.note(invalid(
            at.span,
            format!("service.panicThreshold: a percentage, 0 to 100, found {}", at.value),
        ));
    }
    Some(Service {
        name,
        port,
        listen: raw.listen.set().and_then(|at| listen(&at, "service.listen", cx)),
        protocol: Protocol::Http,
        balance: match raw.balance.value() {
            Some(RawBalance::RoundRobin) => Balance::RoundRobin,
            _ => Balance::LeastRequest,
        },
        panic_threshold: raw.panic_threshold.value().unwrap_or(0),
        slow_start: raw.slow_start_seconds.value().map_or(Duration::ZERO, |it| it.0),
    })
}

fn service_port(field: &Field<Text>, whole: Span, ports: &[Port], cx: &Cx<'_>) -> Option<String> {
    match field {
        Field::Bad => None,
        Field::Set(at) => {
            let text = &at.value.0;
            // A number means the port of that number, so that both ways of naming it work.
            let found =
                ports.iter().find(|it| it.name == *text || (it.port != 0 && it.port.to_string() == *text));
            if found.is_none() {
                cx.note(super::check::unknown_port("service.port", text, at.span, &Ports::of(ports)));
            }
            found.map(|it| it.name.clone())
        }
        Field::Absent => match ports {
            [port] => Some(port.name.clone()),
            [] => {
                let problem = missing(whole, "service: the workload has no port to be reached at");
                cx.note(problem.help("add ports: [{name: http, port: 0}]"));
                None
            }
            _ => {
                cx.note(missing(whole, "service.port: missing, and the workload has more than one port"));
                None
            }
        },
    }
}

/// An address to listen on.
pub(super) fn listen(at: &At<Text>, what: &str, cx: &Cx<'_>) -> Option<SocketAddr> {
    let text = &at.value.0;
    let whole = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.clone(),
    };
    let parsed = whole.parse().ok();
    if parsed.is_none() {
        let found = super::de::shorten(text);
        cx.note(
            invalid(at.span, format!("{what}: expected an address and a port, found `{found}`"))
                .help("for example 127.0.0.1:8080, 0.0.0.0:80 or [::1]:8080"),
        );
    }
    parsed
}
