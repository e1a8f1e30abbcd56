//! HTTP checks (H7).

use super::{
    check::{Ports, host},
    convert::{invalid, missing},
    de::{At, Cx, Field, shorten},
    error::{Code, Problem, Span},
    process::absolute,
    raw_probe::{RawHeader, RawHttpGet, RawScheme},
    scalar::Text,
};
use crate::spec::{BodyMatch, HttpGet, PortRef};

/// Where a request goes.
struct Place {
    tls: bool,
    host: Option<String>,
    port: PortRef,
    path: String,
}

pub(super) fn http_get(at: At<RawHttpGet>, what: &str, ports: &Ports, cx: &Cx<'_>) -> Option<HttpGet> {
    let At { span, value: mut raw } = at;
    let place = place(&mut raw, span, what, ports, cx);
    let default = if ports.is_target() { vec![(200, 200)] } else { vec![(200, 399)] };
    let expected_status = raw.expected_status.set().and_then(|at| statuses(&at, what, cx)).unwrap_or(default);
    let expected_body = raw.expected_body.set().and_then(|at| body(at, what, cx));
    let expected_json = match raw.expected_json {
        Field::Set(at) => pointers(at, what, cx),
        _ => Vec::new(),
    };
    let headers = headers(raw.http_headers, what, cx);
    let Place { tls, host, port, path } = place?;
    let tls_field = [
        raw.ca_file.as_set().map(|at| (at.span, "caFile")),
        raw.tls_server_name.as_set().map(|at| (at.span, "tlsServerName")),
        raw.tls_insecure_skip_verify.as_set().map(|at| (at.span, "tlsInsecureSkipVerify")),
    ];
    if let Some((span, name)) = tls_field.into_iter().flatten().next().filter(|_| !tls) {
        let problem =
            Problem::new(span, Code::Conflict, format!("{what}{name}: means nothing without HTTPS"));
        cx.note(problem.help(if ports.is_target() { "use an https:// url" } else { "add scheme: HTTPS" }));
    }
    Some(HttpGet {
        tls,
        host,
        port,
        path,
        headers,
        expected_status,
        expected_body,
        expected_json,
        ca_file: raw.ca_file.value().map(|it| absolute(&it.0, cx)),
        tls_server_name: raw.tls_server_name.value().map(|it| it.0),
        tls_insecure_skip_verify: raw.tls_insecure_skip_verify.value(),
        keep_alive: raw.keep_alive.value().unwrap_or(false),
    })
}

fn place(raw: &mut RawHttpGet, whole: Span, what: &str, ports: &Ports, cx: &Cx<'_>) -> Option<Place> {
    let separate =
        raw.host.is_written() || raw.port.is_written() || raw.path.is_written() || raw.scheme.is_written();
    match std::mem::take(&mut raw.url) {
        Field::Bad => None,
        Field::Set(at) if !ports.is_target() => {
            cx.note(
                Problem::new(at.span, Code::Conflict, format!("{what}url: is for targets"))
                    .help("a probe of a workload asks its own replica: give path and port"),
            );
            None
        }
        Field::Set(at) if ports.is_template() => {
            cx.note(
                Problem::new(
                    at.span,
                    Code::Conflict,
                    format!("{what}url: comes from the entries of the list"),
                )
                .help("the check of a list has a path, and what is expected"),
            );
            None
        }
        Field::Set(at) if separate => {
            cx.note(
                Problem::new(
                    at.span,
                    Code::Conflict,
                    format!("{what}url: stands beside scheme, host, port or path"),
                )
                .help("give the url, or its parts"),
            );
            None
        }
        Field::Set(at) => match parse_url(&at.value.0) {
            Ok((tls, host, port, path)) => {
                Some(Place { tls, host: Some(host), port: PortRef::Number(port), path })
            }
            Err(fault) => {
                cx.note(
                    invalid(at.span, format!("{what}url: `{}` {fault}", shorten(&at.value.0)))
                        .help("for example http://127.0.0.1:9000/healthz"),
                );
                None
            }
        },
        Field::Absent if ports.is_target() && !ports.is_template() && !separate => {
            cx.note(
                missing(whole, format!("{what}url: missing"))
                    .help("for example http://127.0.0.1:9000/healthz"),
            );
            None
        }
        Field::Absent => parts(raw, whole, what, ports, cx),
    }
}

/// The place that scheme, host, port and path name.
fn parts(raw: &mut RawHttpGet, whole: Span, what: &str, ports: &Ports, cx: &Cx<'_>) -> Option<Place> {
    let tls = raw.scheme.as_set().is_some_and(|at| at.value == RawScheme::Https);
    let host = host(std::mem::take(&mut raw.host), whole, what, ports, cx);
    let path = match std::mem::take(&mut raw.path) {
        Field::Set(at) => path(&at, what, cx),
        _ if ports.is_template() => crate::list::DEFAULT_PATH.to_owned(),
        _ => "/".to_owned(),
    };
    let port = ports.read(std::mem::take(&mut raw.port), whole, &format!("{what}port"), cx)?;
    Some(Place { tls, host, port, path })
}

fn path(at: &At<Text>, what: &str, cx: &Cx<'_>) -> String {
    let text = &at.value.0;
    if text.chars().any(|c| c.is_control() || c == ' ') {
        let problem =
            invalid(at.span, format!("{what}path: `{}` holds a space or a control character", shorten(text)));
        cx.note(problem.help("write a space as %20"));
    } else if !text.is_ascii() {
        cx.note(
            invalid(at.span, format!("{what}path: `{}` is not ASCII", shorten(text)))
                .help("percent-encode it"),
        );
    }
    // Kubernetes takes a path without the slash, too.
    if text.starts_with('/') { text.clone() } else { format!("/{text}") }
}

/// Takes an `http://` or `https://` address apart: whether TLS, host, port, path with query.
///
/// # Errors
/// What is wrong with it, to stand after the text itself.
pub fn parse_url(text: &str) -> Result<(bool, String, u16, String), &'static str> {
    let (tls, rest) = match text.split_once("://") {
        Some(("http", rest)) => (false, rest),
        Some(("https", rest)) => (true, rest),
        Some(_) => return Err("has a scheme other than http and https"),
        None => return Err("does not begin with http:// or https://"),
    };
    let rest = rest.split('#').next().unwrap_or(rest);
    let (authority, path) = match rest.find(['/', '?']) {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    if authority.contains('@') {
        return Err("holds a user name; send an Authorization header instead");
    }
    if path.chars().any(|c| c.is_control() || c == ' ' || !c.is_ascii()) {
        return Err("holds a character that must be percent-encoded");
    }
    let (host, port) = host_and_port(authority, if tls { 443 } else { 80 })?;
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok((tls, host, port, path))
}

pub(crate) fn host_and_port(authority: &str, default: u16) -> Result<(String, u16), &'static str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("has a bracket that is not closed")?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| "has no IPv6 address between its brackets")?;
            (host, port.strip_prefix(':').filter(|it| !it.is_empty()))
        }
        None => match authority.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if host.is_empty() || (!authority.starts_with('[') && host.contains([':', ' '])) {
        return Err("has no host");
    }
    let port = match port {
        None => default,
        Some(port) => port.parse().ok().filter(|it| *it > 0).ok_or("has no port from 1 to 65535")?,
    };
    Ok((host.to_owned(), port))
}

/// Reads statuses and inclusive ranges of them: `200,204,300-399`. `None`: it is something else.
#[must_use]
pub fn parse_statuses(text: &str) -> Option<Vec<(u16, u16)>> {
    let one = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
        ((100..=599).contains(&from) && (100..=599).contains(&to) && from <= to).then_some((from, to))
    };
    text.split(',').map(|part| one(part.trim())).collect()
}

fn statuses(at: &At<Text>, what: &str, cx: &Cx<'_>) -> Option<Vec<(u16, u16)>> {
    let ranges = parse_statuses(&at.value.0);
    if ranges.is_none() {
        let found = shorten(&at.value.0);
        cx.note(
            invalid(
                at.span,
                format!("{what}expectedStatus: expected statuses from 100 to 599, found `{found}`"),
            )
            .help("for example 200 or 200,204,300-399"),
        );
    }
    ranges
}

/// Reads a substring, or `/regex/`.
fn body(at: At<Text>, what: &str, cx: &Cx<'_>) -> Option<BodyMatch> {
    let text = at.value.0;
    let pattern = text.strip_prefix('/').and_then(|it| it.strip_suffix('/')).filter(|it| !it.is_empty());
    let Some(pattern) = pattern else {
        if text.is_empty() {
            cx.note(invalid(at.span, format!("{what}expectedBody: is empty, every body holds that")));
        }
        return Some(BodyMatch::Contains(text));
    };
    match regex::Regex::new(pattern) {
        Ok(_) => Some(BodyMatch::Regex(pattern.to_owned())),
        Err(error) => {
            let why = error.to_string();
            let why = why.lines().last().unwrap_or("").trim_start_matches("error: ");
            cx.note(invalid(at.span, format!("{what}expectedBody: not a regular expression: {why}")));
            None
        }
    }
}

/// Whether it is a JSON pointer (RFC 6901); the empty one means the whole.
pub(super) fn is_pointer(text: &str) -> bool {
    let rooted = text.is_empty() || text.starts_with('/');
    rooted && text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']))
}

fn pointers(
    at: At<std::collections::BTreeMap<String, serde_json::Value>>,
    what: &str,
    cx: &Cx<'_>,
) -> Vec<(String, serde_json::Value)> {
    for pointer in at.value.keys() {
        if !is_pointer(pointer) {
            cx.note(
                invalid(at.span, format!("{what}expectedJson: `{}` is not a JSON pointer", shorten(pointer)))
                    .help("it begins with a slash: /status or /checks/0/ok; ~ is written ~0 and / is ~1"),
            );
        }
    }
    at.value.into_iter().collect()
}

fn headers(field: Field<Vec<Field<RawHeader>>>, what: &str, cx: &Cx<'_>) -> Vec<(String, String)> {
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let mut all = Vec::new();
    for at in field.value().unwrap_or_default().into_iter().filter_map(Field::set) {
        let Some(name) = at.value.name.as_set() else {
            if !at.value.name.is_written() {
                cx.note(missing(at.span, format!("{what}httpHeaders: a header without a name")));
            }
            continue;
        };
        if name.value.0.is_empty() || !name.value.0.chars().all(token) {
            let found = shorten(&name.value.0);
            cx.note(invalid(
                name.span,
                format!("{what}httpHeaders: `{found}` can't be the name of a header"),
            ));
        }
        let value = at.value.value.as_set().map(|it| it.value.0.clone()).unwrap_or_default();
        if value.chars().any(|c| c.is_control() && c != '\t') {
            let message =
                format!("{what}httpHeaders: the value of {} holds a control character", name.value.0);
            cx.note(invalid(at.span, message));
        }
        all.push((name.value.0.clone(), value));
    }
    all
}
