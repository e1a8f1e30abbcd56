//! The checks that only targets have: `dns` and `tls` (N12).

use std::time::Duration;

use super::{
    check::{Ports, host},
    convert::{invalid, missing},
    de::{At, Cx, Field, shorten},
    error::{Code, Problem},
    http::host_and_port,
    process::absolute,
    raw_probe::{RawDns, RawDnsCode, RawDnsTransport, RawRecordType, RawTls},
    scalar::Text,
};
use crate::spec::{Dns, DnsCode, DnsTransport, PortRef, RecordType, Tls};

/// For so long a certificate must be valid yet, unless the file says otherwise: time enough to renew it by hand.
const MIN_VALID: Duration = Duration::from_secs(14 * 24 * 3600);
const DNS_PORT: u16 = 53;

/// Reads a `dns` check.
pub(super) fn dns(at: At<RawDns>, cx: &Cx<'_>) -> Option<Dns> {
    let At { span, value: raw } = at;
    let record_type = raw.record_type.value().map_or(RecordType::A, record_type);
    let name = match raw.name {
        Field::Bad => None,
        Field::Absent => {
            cx.note(
                missing(span, "dns.name: missing, what is asked for").help("for example www.example.com"),
            );
            None
        }
        Field::Set(at) => name(&at, record_type, "dns.name", cx),
    };
    let server = match raw.server {
        Field::Set(at) => Some(server(&at, "dns.server", cx)?),
        Field::Bad => return None,
        Field::Absent => None,
    };
    let codes = raw.expected_codes.value().map(|it| it.0).unwrap_or_default();
    let mut expected_codes: Vec<DnsCode> = codes.into_iter().filter_map(Field::value).map(code).collect();
    if expected_codes.is_empty() {
        expected_codes.push(DnsCode::NoError);
    }
    let answers = raw.expected_answers.as_set().map(|at| at.span);
    let expected_answers: Vec<String> = raw
        .expected_answers
        .value()
        .map(|it| it.0)
        .unwrap_or_default()
        .into_iter()
        .filter_map(Field::value)
        .map(|it| it.0.trim_end_matches('.').to_owned())
        .collect();
    let only_good = expected_codes == [DnsCode::NoError];
    let min_answers = match raw.min_answers.as_set() {
        Some(at) => at.value,
        None => u32::from(only_good),
    };
    let wants_records = raw.min_answers.as_set().filter(|at| at.value > 0).map(|at| at.span).or(answers);
    if let Some(span) = wants_records.filter(|_| !expected_codes.contains(&DnsCode::NoError)) {
        let message = "dns: records are expected, but no code that comes with any";
        cx.note(Problem::new(span, Code::Conflict, message).help("add NOERROR to expectedCodes"));
    }
    Some(Dns {
        name: name?,
        server,
        record_type,
        transport: match raw.transport.value() {
            Some(RawDnsTransport::Tcp) => DnsTransport::Tcp,
            _ => DnsTransport::Udp,
        },
        recursion: raw.recursion.value().unwrap_or(true),
        expected_codes,
        min_answers,
        expected_answers,
    })
}

/// A name as it can stand in a question: labels of 1 to 63 bytes, at most 253 together.
pub(super) fn name(at: &At<Text>, record_type: RecordType, what: &str, cx: &Cx<'_>) -> Option<String> {
    let text = at.value.0.as_str();
    let bare = text.strip_suffix('.').unwrap_or(text);
    let is_address = bare.parse::<std::net::IpAddr>().is_ok();
    if is_address && record_type != RecordType::Ptr {
        let problem = invalid(at.span, format!("{what}: `{bare}` is an address, not a name"));
        cx.note(problem.help("recordType: PTR asks for the name of an address"));
        return None;
    }
    let label = |it: &str| (1..=63).contains(&it.len()) && it.bytes().all(|b| b.is_ascii_graphic());
    let fine = text == "." || is_address || (bare.len() <= 253 && bare.split('.').all(label));
    if !fine {
        let problem =
            invalid(at.span, format!("{what}: `{}` is no name that a name server knows", shorten(text)));
        cx.note(problem.help("labels of 1 to 63 ASCII characters with dots between them"));
        return None;
    }
    Some(bare.to_owned())
}

pub(super) fn server(at: &At<Text>, what: &str, cx: &Cx<'_>) -> Option<(String, u16)> {
    let text = at.value.0.as_str();
    // A bare IPv6 address has colons, too.
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        return Some((text.to_owned(), DNS_PORT));
    }
    match host_and_port(text, DNS_PORT) {
        Ok(place) if !place.0.contains(['/', '@', '?', '#']) => Some(place),
        other => {
            let fault = other.err().unwrap_or("has no host");
            let problem = invalid(at.span, format!("{what}: `{}` {fault}", shorten(text)));
            cx.note(problem.help("a host, or host:port: 192.0.2.53 or ns.example.com:5353"));
            None
        }
    }
}

/// Reads a `tls` check.
pub(super) fn tls(at: At<RawTls>, ports: &Ports, cx: &Cx<'_>) -> Option<Tls> {
    let At { span, value: raw } = at;
    let host = host(raw.host, span, "tls.", ports, cx);
    let host = if ports.is_template() { Some(String::new()) } else { host };
    let port = match raw.port {
        Field::Absent if ports.is_template() => 0,
        Field::Absent => 443,
        field => match ports.read(field, span, "tls.port", cx)? {
            PortRef::Number(number) => number,
            PortRef::Name(_) => return None,
        },
    };
    let verify_chain = raw.verify_chain.as_set().is_none_or(|at| at.value);
    if let Some(at) = raw.ca_file.as_set().filter(|_| !verify_chain) {
        let message = "tls.caFile: means nothing with verifyChain: false";
        cx.note(Problem::new(at.span, Code::Conflict, message));
    }
    Some(Tls {
        host: host?,
        port,
        server_name: raw.server_name.value().map(|it| it.0),
        ca_file: raw.ca_file.value().map(|it| absolute(&it.0, cx)),
        min_valid: raw.min_valid_for.value().map_or(MIN_VALID, |it| it.0),
        verify_chain,
        verify_name: raw.verify_name.value().unwrap_or(true),
    })
}

const fn record_type(raw: RawRecordType) -> RecordType {
    match raw {
        RawRecordType::A => RecordType::A,
        RawRecordType::Aaaa => RecordType::Aaaa,
        RawRecordType::Caa => RecordType::Caa,
        RawRecordType::Cname => RecordType::Cname,
        RawRecordType::Mx => RecordType::Mx,
        RawRecordType::Ns => RecordType::Ns,
        RawRecordType::Ptr => RecordType::Ptr,
        RawRecordType::Soa => RecordType::Soa,
        RawRecordType::Srv => RecordType::Srv,
        RawRecordType::Txt => RecordType::Txt,
    }
}

const fn code(raw: RawDnsCode) -> DnsCode {
    match raw {
        RawDnsCode::NoError => DnsCode::NoError,
        RawDnsCode::FormErr => DnsCode::FormErr,
        RawDnsCode::ServFail => DnsCode::ServFail,
        RawDnsCode::NxDomain => DnsCode::NxDomain,
        RawDnsCode::NotImp => DnsCode::NotImp,
        RawDnsCode::Refused => DnsCode::Refused,
    }
}
