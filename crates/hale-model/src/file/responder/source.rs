//! Sources (R1).

use std::net::SocketAddr;

use super::Names;
use crate::{
    file::{
        convert::{invalid, label, listen, missing},
        de::{At, Cx, Field, shorten},
        error::{Code, Problem, Span},
        http::{is_pointer, parse_url},
        process::absolute,
        raw_responder::{RawMcpMode, RawRemote, RawSource, RawSourceKind, RawSseFields},
        scalar::Text,
        target::labels,
    },
    spec::{HaleSource, McpSource, Remote, Source, SourceKind, SseFields, SseSource, WebhookSource},
};

/// Reads a source, and takes its name.
pub(super) fn source(at: At<RawSource>, what: &str, names: &mut Names, cx: &Cx<'_>) -> Option<Source> {
    let At { span, value: mut raw } = at;
    let name = entry_name(&raw.name, span, what, cx);
    names.take(&name, what, cx);
    let kind = match &raw.kind {
        Field::Bad => return None,
        Field::Absent => {
            let problem = missing(span, format!("{what}.kind: missing"));
            cx.note(problem.help("one of mcp, hale, sse and webhook"));
            return None;
        }
        Field::Set(at) => at.value,
    };
    refuse(&raw, kind, what, cx);
    let labels = labels(std::mem::take(&mut raw.labels), &format!("{what}.labels"), cx);
    let kubeconfig = path(&raw.kubeconfig, &format!("{what}.kubeconfig"), cx);
    let kind = match kind {
        RawSourceKind::Mcp => SourceKind::Mcp(mcp(raw, span, what, cx)?),
        RawSourceKind::Hale => SourceKind::Hale(hale(raw, what, cx)?),
        RawSourceKind::Sse => SourceKind::Sse(sse(raw, span, what, cx)?),
        RawSourceKind::Webhook => SourceKind::Webhook(webhook(&raw, span, what, cx)?),
    };
    Some(Source { name: name.value, labels, kubeconfig, kind })
}

/// The name of a source or of a rule; empty if it is missing.
pub(super) fn entry_name(field: &Field<Text>, whole: Span, what: &str, cx: &Cx<'_>) -> At<String> {
    match field {
        Field::Set(at) => At { span: at.span, value: label(at, &format!("{what}.name"), cx) },
        Field::Bad => At { span: whole, value: String::new() },
        Field::Absent => {
            cx.note(missing(whole, format!("{what}.name: missing")));
            At { span: whole, value: String::new() }
        }
    }
}

fn span_of<T>(field: &Field<T>) -> Option<Span> {
    field.as_set().map(|at| at.span)
}

const fn word(kind: RawSourceKind) -> &'static str {
    match kind {
        RawSourceKind::Mcp => "mcp",
        RawSourceKind::Hale => "hale",
        RawSourceKind::Sse => "sse",
        RawSourceKind::Webhook => "webhook",
    }
}

/// Fields that mean nothing to a source of this kind.
fn refuse(raw: &RawSource, kind: RawSourceKind, what: &str, cx: &Cx<'_>) {
    use RawSourceKind::{Hale, Mcp, Sse, Webhook};
    let away: &[_] = &[Mcp, Hale, Sse];
    let all: [(&str, Option<Span>, &[RawSourceKind]); 9] = [
        ("url", span_of(&raw.url), away),
        ("caFile", span_of(&raw.ca_file), away),
        ("mode", span_of(&raw.mode), &[Mcp]),
        ("namespaces", span_of(&raw.namespaces), &[Mcp]),
        ("filters", span_of(&raw.filters), &[Mcp]),
        ("fields", span_of(&raw.fields), &[Sse]),
        ("listen", span_of(&raw.listen), &[Webhook]),
        ("path", span_of(&raw.path), &[Webhook]),
        ("hmacFile", span_of(&raw.hmac_file), &[Webhook]),
    ];
    for (name, span, kinds) in all {
        let Some(span) = span.filter(|_| !kinds.contains(&kind)) else { continue };
        let of: Vec<_> = kinds.iter().map(|it| word(*it)).collect();
        let message =
            format!("{what}.{name}: is for kind: {}, and this source is kind: {}", of.join(", "), word(kind));
        let problem = Problem::new(span, Code::Conflict, message);
        cx.note(match (name, kind) {
            ("url", Webhook) => problem.help("a webhook listens, and others send to it: give listen"),
            ("listen", _) => problem.help("hale goes there by itself: give url"),
            ("namespaces", _) => problem.help("a rule can choose: match: {namespaces: […]}"),
            _ => problem,
        });
    }
}

/// A file, from a path relative to the one that is read.
pub(super) fn path(field: &Field<Text>, what: &str, cx: &Cx<'_>) -> Option<std::path::PathBuf> {
    let at = field.as_set()?;
    if at.value.0.is_empty() || at.value.0.contains('\0') {
        cx.note(invalid(at.span, format!("{what}: `{}` is not the path of a file", shorten(&at.value.0))));
    }
    Some(absolute(&at.value.0, cx))
}

/// A server, its URL being there.
pub(super) fn remote(raw: &RawRemote, what: &str, cx: &Cx<'_>) -> Option<Remote> {
    let at = raw.url.as_set()?;
    let url = at.value.0.clone();
    match parse_url(&url) {
        Err(fault) => {
            let problem = invalid(at.span, format!("{what}.url: `{}` {fault}", shorten(&url)));
            cx.note(if fault.contains("user name") {
                problem.help("put a token into a file, and name that as tokenFile")
            } else {
                problem.help("for example https://example.com/alerts")
            });
        }
        Ok((false, ..)) => {
            if let Some(span) = span_of(&raw.ca_file) {
                let message = format!("{what}.caFile: means nothing without HTTPS");
                cx.note(Problem::new(span, Code::Conflict, message).help("use an https:// url"));
            }
        }
        Ok(_) => {}
    }
    Some(Remote {
        url,
        token_file: path(&raw.token_file, &format!("{what}.tokenFile"), cx),
        ca_file: path(&raw.ca_file, &format!("{what}.caFile"), cx),
    })
}

fn remote_of(raw: &mut RawSource) -> RawRemote {
    RawRemote {
        url: std::mem::take(&mut raw.url),
        token_file: std::mem::take(&mut raw.token_file),
        ca_file: std::mem::take(&mut raw.ca_file),
    }
}

/// A server whose URL must be there.
pub(super) fn needed(raw: &RawRemote, whole: Span, what: &str, example: &str, cx: &Cx<'_>) -> Option<Remote> {
    if !raw.url.is_written() {
        cx.note(missing(whole, format!("{what}.url: missing")).help(format!("for example {example}")));
    }
    remote(raw, what, cx)
}

fn mcp(mut raw: RawSource, whole: Span, what: &str, cx: &Cx<'_>) -> Option<McpSource> {
    let remote = needed(&remote_of(&mut raw), whole, what, "http://127.0.0.1:8383/mcp", cx);
    let mut namespaces = Vec::new();
    let given = raw.namespaces.value().map(|it| it.0).unwrap_or_default();
    for at in given.into_iter().filter_map(Field::set) {
        if at.value.0.is_empty() {
            cx.note(invalid(at.span, format!("{what}.namespaces: a name is empty")));
        }
        namespaces.push(at.value.0);
    }
    Some(McpSource {
        remote: remote?,
        mode: match raw.mode.value() {
            Some(RawMcpMode::Events) => "events",
            _ => "faults",
        }
        .to_owned(),
        namespaces,
        filters: raw.filters.value().unwrap_or_default().into_iter().collect(),
    })
}

/// Without a URL it is the hale that the responder is a part of, and there is nothing to show or to trust.
fn hale(mut raw: RawSource, what: &str, cx: &Cx<'_>) -> Option<HaleSource> {
    let written = raw.url.is_written();
    let raw = remote_of(&mut raw);
    if written {
        return remote(&raw, what, cx).map(|it| HaleSource { remote: Some(it) });
    }
    for (name, span) in [("tokenFile", span_of(&raw.token_file)), ("caFile", span_of(&raw.ca_file))] {
        if let Some(span) = span {
            let message = format!("{what}.{name}: means nothing without a url");
            cx.note(Problem::new(span, Code::Conflict, message).help("give the url of a hale server"));
        }
    }
    Some(HaleSource { remote: None })
}

fn sse(mut raw: RawSource, whole: Span, what: &str, cx: &Cx<'_>) -> Option<SseSource> {
    let remote = needed(&remote_of(&mut raw), whole, what, "https://example.com/alerts", cx);
    let fields = match raw.fields {
        Field::Bad => None,
        Field::Set(at) => fields(&at.value, at.span, &format!("{what}.fields"), cx),
        Field::Absent => {
            let message = format!("{what}.fields: missing, where in a message the parts of an alert stand");
            cx.note(missing(whole, message).help("for example {name: /object/name, severity: /severity}"));
            None
        }
    };
    Some(SseSource { remote: remote?, fields: fields? })
}

fn fields(raw: &RawSseFields, whole: Span, what: &str, cx: &Cx<'_>) -> Option<SseFields> {
    let pointer = |field: &Field<Text>, name: &str| {
        let at = field.as_set()?;
        let text = &at.value.0;
        if !text.starts_with('/') || !is_pointer(text) {
            let message = format!("{what}.{name}: `{}` is not a JSON pointer", shorten(text));
            cx.note(
                invalid(at.span, message)
                    .help("it begins with a slash: /status or /alerts/0/name; ~ is written ~0 and / is ~1"),
            );
        }
        Some(text.clone())
    };
    if !raw.name.is_written() {
        let message = format!("{what}.name: missing, where in a message the name of the resource stands");
        cx.note(missing(whole, message).help("for example /object/name"));
    }
    let name = pointer(&raw.name, "name");
    let fields = SseFields {
        severity: pointer(&raw.severity, "severity"),
        fault_type: pointer(&raw.fault_type, "faultType"),
        kind: pointer(&raw.kind, "kind"),
        name: String::new(),
        namespace: pointer(&raw.namespace, "namespace"),
        message: pointer(&raw.message, "message"),
        timestamp: pointer(&raw.timestamp, "timestamp"),
        resolved: pointer(&raw.resolved, "resolved"),
    };
    Some(SseFields { name: name?, ..fields })
}

/// A listener. Beyond this machine whoever sends must show something: a program of ours runs on what they say (R1).
fn webhook(raw: &RawSource, whole: Span, what: &str, cx: &Cx<'_>) -> Option<WebhookSource> {
    let address = match &raw.listen {
        Field::Bad => None,
        Field::Set(at) => {
            let address = listen(at, &format!("{what}.listen"), cx);
            let guarded = raw.token_file.is_written() || raw.hmac_file.is_written();
            if let Some(address) = address.filter(|it| !guarded && !is_loopback(*it)) {
                let message = format!(
                    "{what}.listen: {address} can be reached from elsewhere, and nobody has to show a token"
                );
                let problem = Problem::new(at.span, Code::Conflict, message);
                cx.note(problem.help("add tokenFile or hmacFile, or listen on 127.0.0.1"));
            }
            address
        }
        Field::Absent => {
            let problem = missing(whole, format!("{what}.listen: missing, the address it listens on"));
            cx.note(problem.help("for example 127.0.0.1:9095"));
            None
        }
    };
    let path_at = raw.path.as_set();
    if let Some(at) = path_at {
        let text = &at.value.0;
        if !text.starts_with('/')
            || !text.bytes().all(|it| it.is_ascii_graphic())
            || text.contains(['?', '#'])
        {
            let message = format!("{what}.path: `{}` is not the path of a URL", shorten(text));
            cx.note(invalid(at.span, message).help("it begins with a slash: /alerts"));
        }
    }
    Some(WebhookSource {
        listen: address?,
        path: path_at.map_or_else(|| "/".to_owned(), |at| at.value.0.clone()),
        token_file: path(&raw.token_file, &format!("{what}.tokenFile"), cx),
        hmac_file: path(&raw.hmac_file, &format!("{what}.hmacFile"), cx),
    })
}

const fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
