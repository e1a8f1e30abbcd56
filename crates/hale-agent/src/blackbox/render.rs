//! A check as Prometheus' text, under blackbox_exporter's names.

use std::{fmt::Write, net::IpAddr, time::Duration};

use hale_check::{CheckResult, GrpcSeen, HttpSeen, Seen, Timings, TlsSeen};
use hale_health::{Reason, Verdict};

use super::modules::{Module, Prober};

/// Collects families in the order of their names' first use.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, help: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} gauge");
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, help);
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn labelled(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> =
            labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
        let _ = writeln!(self.0, "{name}{{{}}} {value}", labels.join(","));
    }

    fn phases(&mut self, name: &str, help: &str, phases: &[(&str, Option<Duration>)]) {
        self.family(name, help);
        for (phase, took) in phases {
            self.labelled(name, &[("phase", phase)], took.unwrap_or_default().as_secs_f64());
        }
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// All that is told of a check.
pub(super) fn metrics(module: &Module, result: &CheckResult, over_tls: bool, took: Duration) -> String {
    let mut page = Page(String::with_capacity(4096));
    let seen = result.seen.as_deref();
    let Timings { dns, .. } = result.timings;
    let lookup = "Returns the time taken for probe dns lookup in seconds";
    page.gauge("probe_dns_lookup_time_seconds", lookup, dns.unwrap_or_default().as_secs_f64());
    let duration = "Returns how long the probe took to complete in seconds";
    page.gauge("probe_duration_seconds", duration, took.as_secs_f64());
    match module.prober {
        Prober::Http => {
            http(&mut page, result, seen, over_tls);
            let by_regex = module.matches_body() && result.reason() == Some(Reason::BodyMismatch);
            let help = "Indicates if probe failed due to regex";
            page.gauge("probe_failed_due_to_regex", help, f64::from(u8::from(by_regex)));
        }
        Prober::Dns => dns_metrics(&mut page, result, seen),
        Prober::Grpc => grpc(&mut page, result, seen, over_tls),
        Prober::Tcp => {
            let help = "Indicates if probe failed due to regex";
            page.gauge("probe_failed_due_to_regex", help, 0.0);
        }
        Prober::Icmp => {}
    }
    peer(&mut page, seen);
    if let Some(tls) = seen.and_then(|it| it.tls.as_ref()) {
        tls_metrics(&mut page, tls);
    }
    let success = u8::from(result.verdict.is_success());
    page.gauge("probe_success", "Displays whether or not the probe was a success", f64::from(success));
    if let Verdict::Failure { reason, detail } = &result.verdict {
        page.family("hale_probe_failed", "Why the probe failed, by hale's reasons");
        page.labelled("hale_probe_failed", &[("reason", reason.as_str())], 1.0);
        // A comment, for whoever asks by hand. What the other side sent is not for everybody who may ask.
        if !quotes(*reason) {
            let detail: String = detail.lines().next().unwrap_or_default().chars().take(300).collect();
            let _ = writeln!(page.0, "# {detail}");
        }
    }
    page.0
}

/// Whether the detail of such a failure may hold something that the other side sent: a part of a page, a record.
const fn quotes(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::StatusMismatch | Reason::BodyMismatch | Reason::AnswerMismatch | Reason::Protocol
    )
}

/// The phases after the connection is there: until the first byte, and from there to the last.
fn phases(timings: &Timings) -> (Option<Duration>, Option<Duration>) {
    let Timings { dns, connect, tls, first_byte, total } = *timings;
    let before: Duration = [dns, connect, tls].into_iter().flatten().sum();
    (first_byte.map(|it| it.saturating_sub(before)), first_byte.map(|it| total.saturating_sub(it)))
}

fn http(page: &mut Page, result: &CheckResult, seen: Option<&Seen>, over_tls: bool) {
    let answer = seen.and_then(|it| it.http.as_ref());
    let usual = HttpSeen::default();
    let HttpSeen { minor, redirects, content_length, body_read, .. } = answer.unwrap_or(&usual);
    let length = content_length.map_or(if answer.is_some() { -1.0 } else { 0.0 }, |it| it as f64);
    page.gauge("probe_http_content_length", "Length of http content response", length);
    let (processing, transfer) = phases(&result.timings);
    page.phases(
        "probe_http_duration_seconds",
        "Duration of http request by phase, summed over all redirects",
        &[
            ("connect", result.timings.connect),
            ("processing", processing),
            ("resolve", result.timings.dns),
            ("tls", result.timings.tls),
            ("transfer", transfer),
        ],
    );
    page.gauge("probe_http_redirects", "The number of redirects", f64::from(*redirects));
    let tls = answer.map_or(over_tls && result.timings.tls.is_some(), |it| it.tls);
    let help = "Indicates if SSL was used for the final redirect";
    page.gauge("probe_http_ssl", help, f64::from(u8::from(tls)));
    let status = result.http_status.map_or(0.0, f64::from);
    page.gauge("probe_http_status_code", "Response HTTP status code", status);
    let help = "Length of uncompressed response body";
    page.gauge("probe_http_uncompressed_body_length", help, *body_read as f64);
    let version = if answer.is_some() { if *minor == 0 { 1.0 } else { 1.1 } } else { 0.0 };
    page.gauge("probe_http_version", "Returns the version of HTTP of the probe response", version);
}

fn dns_metrics(page: &mut Page, result: &CheckResult, seen: Option<&Seen>) {
    let answer = seen.and_then(|it| it.dns.as_ref());
    let count = |of: fn(&hale_check::DnsSeen) -> usize| answer.map_or(0.0, |it| of(it) as f64);
    let help = |which: &str| format!("Returns number of entries in the {which} resource record list");
    page.gauge("probe_dns_additional_rrs", &help("additional"), count(|it| it.additional_records));
    page.gauge("probe_dns_answer_rrs", &help("answer"), count(|it| it.answer_records));
    page.gauge("probe_dns_authority_rrs", &help("authority"), count(|it| it.authority_records));
    let (request, _) = phases(&result.timings);
    page.phases(
        "probe_dns_duration_seconds",
        "Duration of DNS request by phase",
        &[("connect", result.timings.connect), ("request", request), ("resolve", result.timings.dns)],
    );
    let help = "Displays whether or not the query was executed successfully";
    page.gauge("probe_dns_query_succeeded", help, f64::from(u8::from(answer.is_some())));
    if let Some(serial) = answer.and_then(|it| it.serial) {
        page.gauge("probe_dns_serial", "Returns the serial number of the zone", f64::from(serial));
    }
}

fn grpc(page: &mut Page, result: &CheckResult, seen: Option<&Seen>, over_tls: bool) {
    let (check, _) = phases(&result.timings);
    page.phases(
        "probe_grpc_duration_seconds",
        "Duration of gRPC request by phase",
        &[
            ("check", check),
            ("connect", result.timings.connect),
            ("resolve", result.timings.dns),
            ("tls", result.timings.tls),
        ],
    );
    let answer = seen.and_then(|it| it.grpc.as_ref());
    page.family("probe_grpc_healthcheck_response", "Response HealthCheck response");
    let said = answer.and_then(|it: &GrpcSeen| it.serving);
    for (number, word) in ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"].iter().enumerate() {
        let is = f64::from(u8::from(said == Some(number as u64)));
        page.labelled("probe_grpc_healthcheck_response", &[("serving_status", word)], is);
    }
    page.gauge(
        "probe_grpc_ssl",
        "Indicates if SSL was used for the connection",
        f64::from(u8::from(over_tls)),
    );
    let status = answer.map_or(0.0, |it| f64::from(it.status));
    page.gauge("probe_grpc_status_code", "Response gRPC status code", status);
}

fn peer(page: &mut Page, seen: Option<&Seen>) {
    let peer = seen.and_then(|it| it.peer).map(|it| it.ip());
    let help = "Specifies the hash of IP address. It's useful to detect if the IP address changes.";
    page.gauge("probe_ip_addr_hash", help, peer.map_or(0.0, |ip| f64::from(hash(ip))));
    let protocol = peer.map_or(0.0, |ip| if ip.is_ipv4() { 4.0 } else { 6.0 });
    page.gauge("probe_ip_protocol", "Specifies whether probe ip protocol is IP4 or IP6", protocol);
}

/// FNV-1a of the address, 32 bits wide, as blackbox_exporter has it.
fn hash(ip: IpAddr) -> u32 {
    let fnv = |bytes: &[u8]| {
        bytes.iter().fold(0x811c_9dc5_u32, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
    };
    match ip {
        IpAddr::V4(ip) => fnv(&ip.octets()),
        IpAddr::V6(ip) => fnv(&ip.octets()),
    }
}

fn tls_metrics(page: &mut Page, tls: &TlsSeen) {
    let Some(expiry) = tls.earliest_expiry() else { return };
    let help = "Returns last SSL chain expiry in unixtime";
    page.gauge("probe_ssl_earliest_cert_expiry", help, expiry as f64);
    let help = "Returns last SSL chain expiry in timestamp";
    page.gauge("probe_ssl_last_chain_expiry_timestamp_seconds", help, expiry as f64);
    if let Some(own) = tls.chain.first() {
        page.family("probe_ssl_last_chain_info", "Contains SSL leaf certificate information");
        let names = own.names.join(",");
        let labels = [
            ("fingerprint_sha256", own.fingerprint.as_str()),
            ("issuer", &own.issuer),
            ("subject", &own.subject),
            ("subjectalternative", &names),
        ];
        page.labelled("probe_ssl_last_chain_info", &labels, 1.0);
    }
    page.family("probe_tls_version_info", "Returns the TLS version used or NaN when unknown");
    page.labelled("probe_tls_version_info", &[("version", tls.version)], 1.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut page = Page(String::new());
        page.labelled("a", &[("b", "x\"\\\n")], 1.0);
        assert_eq!(page.0, "a{b=\"x\\\"\\\\\\n\"} 1\n");
    }
}
