//! Probes, and the checks of probes and targets.

use std::{collections::BTreeSet, time::Duration};

use hale_health::{ProbeKind, ProbeTiming};

use super::{
    convert::{invalid, missing},
    de::{At, Cx, Field, suggest},
    error::{Code, Problem, Span},
    http::http_get,
    process::{absolute, command},
    raw_probe::{RawGrpc, RawNotify, RawProbe, RawTcpSocket},
    scalar::{PortOrName, Seconds, Text},
};
use crate::spec::{Check, Exec, Grpc, Port, PortRef, Probe, TcpSocket};

/// Ticks are batched within 10 ms, but a file may ask for finer; below this it is a mistake.
const SHORTEST: Duration = Duration::from_millis(1);

/// Where a check's port may come from.
pub(super) struct Ports {
    /// The names of a workload's ports; `None` for a target.
    names: Option<BTreeSet<String>>,
    /// Whether host and port come from the entries of a list.
    template: bool,
}

impl Ports {
    pub(super) fn of(ports: &[Port]) -> Self {
        Self { names: Some(ports.iter().map(|it| it.name.clone()).collect()), template: false }
    }

    pub(super) const fn target() -> Self {
        Self { names: None, template: false }
    }

    /// Of the check of a list.
    pub(super) const fn template() -> Self {
        Self { names: None, template: true }
    }

    pub(super) const fn is_template(&self) -> bool {
        self.template
    }

    pub(super) const fn is_target(&self) -> bool {
        self.names.is_none()
    }

    /// Reads the port of a check.
    pub(super) fn read(
        &self,
        field: Field<PortOrName>,
        whole: Span,
        what: &str,
        cx: &Cx<'_>,
    ) -> Option<PortRef> {
        match field {
            Field::Bad => None,
            Field::Absent if self.template => Some(PortRef::Number(0)),
            Field::Absent => {
                cx.note(missing(whole, format!("{what}: missing")));
                None
            }
            Field::Set(At { value: PortOrName::Number(number), .. }) => Some(PortRef::Number(number)),
            Field::Set(At { value: PortOrName::Name(name), span }) => match &self.names {
                Some(names) if names.contains(&name) => Some(PortRef::Name(name)),
                Some(_) => {
                    cx.note(unknown_port(what, &name, span, self));
                    None
                }
                None => {
                    cx.note(invalid(span, format!("{what}: a target's port is a number, found `{name}`")));
                    None
                }
            },
        }
    }
}

pub(super) fn unknown_port(what: &str, name: &str, span: Span, ports: &Ports) -> Problem {
    let names: Vec<&str> = ports.names.iter().flatten().map(String::as_str).collect();
    let problem = Problem::new(
        span,
        Code::UnknownName,
        match suggest(name, names.iter().copied()) {
            Some(meant) => format!("{what}: no port is named {name}, did you mean {meant}?"),
            None => format!("{what}: no port of this workload is named {name}"),
        },
    );
    match names.as_slice() {
        [] => problem.help(format!("add ports: [{{name: {name}, port: 0}}], or give the number")),
        _ => problem.help(format!("its ports are {}", names.join(", "))),
    }
}

/// The fields of a probe or a target that say when it asks.
pub(super) struct Timing {
    pub(super) initial_delay: Field<Seconds>,
    pub(super) period: Field<Seconds>,
    pub(super) timeout: Field<Seconds>,
    pub(super) successes: Field<u32>,
    pub(super) failures: Field<u32>,
}

impl Timing {
    pub(super) fn read(self, default: ProbeTiming, what: &str, cx: &Cx<'_>) -> ProbeTiming {
        let time = |field: Field<Seconds>, name: &str, default: Duration| match field.set() {
            Some(at) if at.value.0 < SHORTEST => {
                cx.note(invalid(at.span, format!("{what}{name}: must be above 0, at least 0.001")));
                default
            }
            Some(at) => at.value.0,
            None => default,
        };
        let count = |field: Field<u32>, name: &str, default: u32| match field.set() {
            Some(at) if at.value == 0 => {
                cx.note(invalid(at.span, format!("{what}{name}: must be at least 1")));
                default
            }
            Some(at) => at.value,
            None => default,
        };
        ProbeTiming {
            initial_delay: self.initial_delay.value().map_or(default.initial_delay, |it| it.0),
            period: time(self.period, "periodSeconds", default.period),
            timeout: time(self.timeout, "timeoutSeconds", default.timeout),
            success_threshold: count(self.successes, "successThreshold", default.success_threshold),
            failure_threshold: count(self.failures, "failureThreshold", default.failure_threshold),
            grace: None,
        }
    }
}

/// Reads a probe of a workload.
pub(super) fn probe(at: At<RawProbe>, kind: ProbeKind, ports: &Ports, cx: &Cx<'_>) -> Option<Probe> {
    let At { span, value: raw } = at;
    let what = format!("{kind}Probe.");
    if let Some(at) = raw.success_threshold.as_set().filter(|at| at.value > 1 && kind != ProbeKind::Readiness)
    {
        cx.note(
            invalid(at.span, format!("{what}successThreshold: must be 1, found {}", at.value))
                .help("only a readiness probe can ask for more than one success"),
        );
    }
    if let Some(at) = raw.termination_grace_period_seconds.as_set().filter(|_| kind == ProbeKind::Readiness) {
        let problem = "terminationGracePeriodSeconds: a readiness probe stops nothing";
        cx.note(Problem::new(at.span, Code::Conflict, format!("{what}{problem}")));
    }
    let timing = Timing {
        initial_delay: raw.initial_delay_seconds,
        period: raw.period_seconds,
        timeout: raw.timeout_seconds,
        successes: raw.success_threshold,
        failures: raw.failure_threshold,
    };
    let mut timing = timing.read(ProbeTiming::default_for(kind), &what, cx);
    timing.grace = raw.termination_grace_period_seconds.value().map(|it| it.0);
    let kinds = [
        ("httpGet", raw.http_get.is_written(), raw.http_get.as_set().map(|it| it.span)),
        ("tcpSocket", raw.tcp_socket.is_written(), raw.tcp_socket.as_set().map(|it| it.span)),
        ("exec", raw.exec.is_written(), raw.exec.as_set().map(|it| it.span)),
        ("grpc", raw.grpc.is_written(), raw.grpc.as_set().map(|it| it.span)),
        ("notify", raw.notify.is_written(), raw.notify.as_set().map(|it| it.span)),
    ];
    exactly_one(&kinds, span, &what, cx)?;
    let check = if let Some(at) = raw.http_get.set() {
        Check::HttpGet(http_get(at, &format!("{what}httpGet."), ports, cx)?)
    } else if let Some(at) = raw.tcp_socket.set() {
        Check::TcpSocket(tcp_socket(at, &format!("{what}tcpSocket."), ports, cx)?)
    } else if let Some(at) = raw.exec.set() {
        let command = command(at.value.command, at.span, &format!("{what}exec.command"), cx);
        Check::Exec(Exec { command })
    } else if let Some(at) = raw.grpc.set() {
        Check::Grpc(grpc(at, &format!("{what}grpc."), ports, cx)?)
    } else {
        let RawNotify {} = raw.notify.value()?;
        Check::Notify
    };
    Some(Probe { check, timing })
}

/// `Some` when exactly one kind of check is given; else the mistake is noted.
pub(super) fn exactly_one(
    kinds: &[(&str, bool, Option<Span>)],
    whole: Span,
    what: &str,
    cx: &Cx<'_>,
) -> Option<()> {
    let given: Vec<&(&str, bool, Option<Span>)> = kinds.iter().filter(|it| it.1).collect();
    let all: Vec<&str> = kinds.iter().map(|it| it.0).collect();
    let place = what.trim_end_matches('.');
    let place = if place.is_empty() { String::new() } else { format!("{place}: ") };
    match given.as_slice() {
        [_] => Some(()),
        [] => {
            let problem = missing(whole, format!("{place}no check, expected one of {}", all.join(", ")));
            cx.note(if all.contains(&"notify") {
                problem.help("an empty one is written with braces: notify: {}")
            } else {
                problem
            });
            None
        }
        [first, second, ..] => {
            let span = second.2.unwrap_or(whole);
            cx.note(
                Problem::new(
                    span,
                    Code::Conflict,
                    format!("{place}{} and {}, expected exactly one check", first.0, second.0),
                )
                .help("one probe asks in one way; use another probe for the other"),
            );
            None
        }
    }
}

pub(super) fn tcp_socket(at: At<RawTcpSocket>, what: &str, ports: &Ports, cx: &Cx<'_>) -> Option<TcpSocket> {
    let host = host(at.value.host, at.span, what, ports, cx);
    let port = ports.read(at.value.port, at.span, &format!("{what}port"), cx)?;
    Some(TcpSocket { host, port })
}

pub(super) fn grpc(at: At<RawGrpc>, what: &str, ports: &Ports, cx: &Cx<'_>) -> Option<Grpc> {
    let At { span, value: raw } = at;
    let host = host(raw.host, span, what, ports, cx);
    let port = ports.read(raw.port, span, &format!("{what}port"), cx)?;
    let tls = raw.tls.as_set().is_some_and(|at| at.value);
    if !tls
        && let Some(at) =
            raw.ca_file.as_set().map(|at| at.span).or(raw.tls_server_name.as_set().map(|at| at.span))
    {
        cx.note(Problem::new(at, Code::Conflict, format!("{what}caFile and tlsServerName need tls: true")));
    }
    Some(Grpc {
        host,
        port,
        service: raw.service.value().map(|it| it.0).unwrap_or_default(),
        tls,
        ca_file: raw.ca_file.value().map(|it| absolute(&it.0, cx)),
        tls_server_name: raw.tls_server_name.value().map(|it| it.0),
        tls_insecure_skip_verify: raw.tls_insecure_skip_verify.value(),
    })
}

/// Reads the host of a check: a target must have one.
pub(super) fn host(
    field: Field<Text>,
    whole: Span,
    what: &str,
    ports: &Ports,
    cx: &Cx<'_>,
) -> Option<String> {
    match field {
        Field::Bad => None,
        Field::Set(at) if ports.is_template() => {
            let problem = format!("{what}host: comes from the entries of the list");
            cx.note(Problem::new(at.span, Code::Conflict, problem));
            None
        }
        Field::Absent => {
            if ports.is_target() && !ports.is_template() {
                cx.note(missing(whole, format!("{what}host: missing, a target has no address of its own")));
            }
            None
        }
        Field::Set(at) => {
            let text = at.value.0;
            let bare = text.trim_start_matches('[').trim_end_matches(']');
            let is_v6 = bare.parse::<std::net::Ipv6Addr>().is_ok();
            if text.is_empty() || (!is_v6 && text.contains([':', '/', '@', ' ', '?', '#'])) {
                let found = super::de::shorten(&text);
                cx.note(
                    invalid(
                        at.span,
                        format!("{what}host: expected a host name or an address, found `{found}`"),
                    )
                    .help("without scheme, port or path"),
                );
            }
            Some(bare.to_owned())
        }
    }
}
