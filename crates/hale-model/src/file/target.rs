//! Targets and the lists they come from (N12).

use std::{collections::BTreeMap, time::Duration};

use hale_health::{FailureWindow, ProbeTiming, TargetPolicy};
use jiff::{civil, tz::TimeZone};

use super::{
    check::{Ports, Timing, exactly_one, grpc, tcp_socket},
    convert::{invalid, label, missing},
    de::{At, Cx, Field, shorten},
    error::{Code, Problem, Span},
    http::{http_get, parse_url},
    outside::{dns, name, server, tls},
    process::absolute,
    raw::RawTarget,
    raw_target::{RawDay, RawFailureWindow, RawMaintenance, RawTargetsFrom},
    scalar::{Many, Seconds, Text},
};
use crate::{
    event::TargetOrigin,
    spec::{Check, ListSource, Maintenance, RecordType, Target, TargetList},
};

/// How often a list is read, unless the file says otherwise.
const REFRESH: Duration = Duration::from_secs(30);
/// A list is not read more often than this.
const SHORTEST_REFRESH: Duration = Duration::from_millis(100);
/// Not more windows than this; more are looked through with each outcome.
const MOST_WINDOWS: usize = 32;

const DEFAULT: ProbeTiming = ProbeTiming {
    initial_delay: Duration::ZERO,
    period: Duration::from_secs(15),
    timeout: Duration::from_secs(2),
    success_threshold: 1,
    failure_threshold: 3,
    grace: None,
};

/// Reads a target whose name is known.
pub(super) fn target(
    name: String,
    mut raw: RawTarget,
    whole: Span,
    digest: String,
    cx: &Cx<'_>,
) -> Option<Target> {
    refuse(&raw, cx);
    let ends_threshold = raw.failure_threshold.as_set().map(|at| at.span);
    let timing = Timing {
        initial_delay: std::mem::take(&mut raw.initial_delay_seconds),
        period: std::mem::take(&mut raw.period_seconds),
        timeout: std::mem::take(&mut raw.timeout_seconds),
        successes: std::mem::take(&mut raw.success_threshold),
        failures: std::mem::take(&mut raw.failure_threshold),
    };
    let timing = timing.read(DEFAULT, "", cx);
    let window = std::mem::take(&mut raw.failure_window).set().and_then(|at| window(at, ends_threshold, cx));
    let fast_period = fast_period(&raw.fast_period_seconds, timing.period, cx);
    let maintenance = windows(std::mem::take(&mut raw.maintenance), "maintenance", cx);
    let labels = labels(std::mem::take(&mut raw.labels), "labels", cx);
    let is_list = raw.targets_from.is_written();
    let list = std::mem::take(&mut raw.targets_from).set().and_then(|at| targets_from(at, cx));
    let check = check(raw, whole, is_list, cx)?;
    if is_list && list.is_none() {
        return None;
    }
    Some(Target {
        name,
        check,
        timing,
        policy: TargetPolicy { window, fast_period },
        maintenance,
        list,
        origin: TargetOrigin { labels, ..TargetOrigin::default() },
        digest,
    })
}

fn refuse(raw: &RawTarget, cx: &Cx<'_>) {
    if let Some(at) = raw.exec.as_set() {
        let problem = Problem::new(at.span, Code::Conflict, "exec: hale runs no commands for a target");
        cx.note(problem.help("use a workload"));
    }
    if let Some(at) = raw.from.as_set() {
        let problem = Problem::new(at.span, Code::NotSupported, "from: not supported by this build of hale");
        cx.note(problem.help("a target is probed by one node"));
    }
    if let Some(at) = raw.all_of.as_set().or(raw.any_of.as_set()) {
        let message = "a target made of other targets is not supported by this build of hale";
        cx.note(Problem::new(at.span, Code::NotSupported, message).help("declare them one by one"));
    }
}

fn check(raw: RawTarget, whole: Span, is_list: bool, cx: &Cx<'_>) -> Option<Check> {
    if raw.exec.is_written() || raw.all_of.is_written() || raw.any_of.is_written() {
        return None;
    }
    let kinds = [
        ("httpGet", raw.http_get.is_written(), raw.http_get.as_set().map(|it| it.span)),
        ("tcpSocket", raw.tcp_socket.is_written(), raw.tcp_socket.as_set().map(|it| it.span)),
        ("grpc", raw.grpc.is_written(), raw.grpc.as_set().map(|it| it.span)),
        ("dns", raw.dns.is_written(), raw.dns.as_set().map(|it| it.span)),
        ("tls", raw.tls.is_written(), raw.tls.as_set().map(|it| it.span)),
    ];
    exactly_one(&kinds, whole, "", cx)?;
    let ports = if is_list { Ports::template() } else { Ports::target() };
    Some(if let Some(at) = raw.http_get.set() {
        Check::HttpGet(http_get(at, "httpGet.", &ports, cx)?)
    } else if let Some(at) = raw.tcp_socket.set() {
        Check::TcpSocket(tcp_socket(at, "tcpSocket.", &ports, cx)?)
    } else if let Some(at) = raw.grpc.set() {
        Check::Grpc(grpc(at, "grpc.", &ports, cx)?)
    } else if let Some(at) = raw.dns.set() {
        if is_list {
            let problem =
                Problem::new(at.span, Code::Conflict, "dns: can't be asked of the entries of a list");
            cx.note(problem.help("httpGet, tcpSocket, grpc and tls can"));
            return None;
        }
        Check::Dns(dns(at, cx)?)
    } else {
        Check::Tls(tls(raw.tls.set()?, &ports, cx)?)
    })
}

/// M of the last N outcomes.
fn window(at: At<RawFailureWindow>, threshold: Option<Span>, cx: &Cx<'_>) -> Option<FailureWindow> {
    let At { span, value: raw } = at;
    if let Some(span) = threshold {
        let problem = Problem::new(span, Code::Conflict, "failureThreshold: stands beside failureWindow");
        cx.note(problem.help("failures in a row, or among the last outcomes: one of them decides"));
    }
    let (Some(failures), Some(of)) = (raw.failures.as_set(), raw.of.as_set()) else {
        let message = "failureWindow: needs both failures and of";
        cx.note(missing(span, message).help("for example {failures: 3, of: 5}"));
        return None;
    };
    if of.value == 0 || of.value > FailureWindow::MOST {
        let message = format!("failureWindow.of: from 1 to {}, found {}", FailureWindow::MOST, of.value);
        cx.note(invalid(of.span, message));
    } else if failures.value == 0 || failures.value > of.value {
        let message = format!("failureWindow.failures: from 1 to {}, found {}", of.value, failures.value);
        cx.note(invalid(failures.span, message));
    }
    Some(FailureWindow { failures: failures.value, of: of.value })
}

fn fast_period(field: &Field<Seconds>, period: Duration, cx: &Cx<'_>) -> Option<Duration> {
    let at = field.as_set()?;
    let fast = at.value.0;
    if fast < Duration::from_millis(1) || fast > period {
        let most = period.as_secs_f64();
        let message = format!("fastPeriodSeconds: above 0 and at most periodSeconds ({most})");
        cx.note(invalid(at.span, message));
    }
    Some(fast)
}

/// Texts by key.
pub(super) fn labels(
    field: Field<BTreeMap<String, Field<Text>>>,
    what: &str,
    cx: &Cx<'_>,
) -> BTreeMap<String, String> {
    let Field::Set(At { span, value }) = field else { return BTreeMap::new() };
    let mut labels = BTreeMap::new();
    for (key, value) in value {
        match value {
            Field::Bad => {}
            Field::Absent => cx.note(missing(span, format!("{what}.{key}: has no value"))),
            Field::Set(at) => drop(labels.insert(key, at.value.0)),
        }
    }
    labels
}

/// Times of every week.
pub(super) fn windows(
    field: Field<Many<Field<RawMaintenance>>>,
    what: &str,
    cx: &Cx<'_>,
) -> Vec<Maintenance> {
    let span = field.as_set().map(|at| at.span);
    let all = field.value().map(|it| it.0).unwrap_or_default();
    if let Some(span) = span.filter(|_| all.len() > MOST_WINDOWS) {
        cx.note(invalid(span, format!("{what}: at most {MOST_WINDOWS} windows")));
    }
    all.into_iter().filter_map(Field::set).filter_map(|at| one_window(at, what, cx)).collect()
}

fn one_window(at: At<RawMaintenance>, what: &str, cx: &Cx<'_>) -> Option<Maintenance> {
    let At { span, value: raw } = at;
    let time = |field: &Field<Text>, name: &str| match field {
        Field::Bad => None,
        Field::Absent => {
            cx.note(missing(span, format!("{what}.{name}: missing")).help("for example \"22:00\""));
            None
        }
        Field::Set(at) => {
            let text = at.value.0.as_str();
            // Hours and minutes; seconds may follow.
            let time = text.parse::<civil::Time>().ok().filter(|_| (4..=8).contains(&text.len()));
            if time.is_none() {
                let message = format!("{what}.{name}: expected a time of day, found `{}`", shorten(text));
                cx.note(invalid(at.span, message).help("for example \"22:00\""));
            }
            time
        }
    };
    let (from, to) = (time(&raw.from, "from"), time(&raw.to, "to"));
    let timezone = match &raw.timezone {
        Field::Set(at) => match TimeZone::get(&at.value.0) {
            Ok(zone) => zone,
            Err(_) => {
                let found = shorten(&at.value.0);
                let problem = invalid(at.span, format!("{what}.timezone: there is no time zone `{found}`"));
                cx.note(problem.help("a name such as Europe/Berlin, or UTC"));
                return None;
            }
        },
        _ => TimeZone::UTC,
    };
    let given: Vec<RawDay> =
        raw.days.value().map(|it| it.0).unwrap_or_default().into_iter().filter_map(Field::value).collect();
    let mut days = [given.is_empty(); 7];
    for day in given {
        days[day as usize] = true;
    }
    let reason = raw.reason.value().map(|it| it.0).unwrap_or_default();
    Some(Maintenance { days, from: from?, to: to?, timezone, reason })
}

fn targets_from(at: At<RawTargetsFrom>, cx: &Cx<'_>) -> Option<TargetList> {
    let At { span, value: raw } = at;
    let kinds = [
        ("url", raw.url.is_written(), raw.url.as_set().map(|it| it.span)),
        ("file", raw.file.is_written(), raw.file.as_set().map(|it| it.span)),
        ("srv", raw.srv.is_written(), raw.srv.as_set().map(|it| it.span)),
        ("service", raw.service.is_written(), raw.service.as_set().map(|it| it.span)),
    ];
    let given: Vec<_> = kinds.iter().filter(|it| it.1).collect();
    if given.len() != 1 {
        let at = given.get(1).and_then(|it| it.2).unwrap_or(span);
        let code = if given.is_empty() { Code::MissingField } else { Code::Conflict };
        let problem =
            Problem::new(at, code, "targetsFrom: expected exactly one of url, file, srv and service");
        cx.note(problem.help("for example {url: \"http://127.0.0.1:8080/targets\"}"));
        return None;
    }
    for (field, name, of, with) in [
        (&raw.ca_file, "caFile", "url", raw.url.is_written()),
        (&raw.server, "server", "srv", raw.srv.is_written()),
    ] {
        if let Some(at) = field.as_set().filter(|_| !with) {
            let message = format!("targetsFrom.{name}: means something with {of} alone");
            cx.note(Problem::new(at.span, Code::Conflict, message));
        }
    }
    let refresh = match raw.refresh_seconds.as_set() {
        Some(at) if at.value.0 < SHORTEST_REFRESH => {
            cx.note(invalid(at.span, "targetsFrom.refreshSeconds: at least 0.1"));
            REFRESH
        }
        Some(at) => at.value.0,
        None => REFRESH,
    };
    let source = if let Some(at) = raw.url.set() {
        if let Err(fault) = parse_url(&at.value.0) {
            let message = format!("targetsFrom.url: `{}` {fault}", shorten(&at.value.0));
            cx.note(invalid(at.span, message));
        }
        ListSource::Url { url: at.value.0, ca_file: raw.ca_file.value().map(|it| absolute(&it.0, cx)) }
    } else if let Some(at) = raw.file.set() {
        ListSource::File(absolute(&at.value.0, cx))
    } else if let Some(at) = raw.srv.set() {
        let server = match raw.server {
            Field::Set(at) => Some(server(&at, "targetsFrom.server", cx)?),
            _ => None,
        };
        ListSource::Srv { name: name(&at, RecordType::Srv, "targetsFrom.srv", cx)?, server }
    } else {
        ListSource::Service(label(&raw.service.set()?, "targetsFrom.service", cx))
    };
    Some(TargetList { source, refresh })
}
