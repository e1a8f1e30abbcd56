//! Probes and checks as they are written: the field names of a Kubernetes container spec, and a few more (H1, H7).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    de::Field,
    scalar::{Many, PortOrName, Seconds, Span, Text},
};

/// A check with a purpose, a period, a timeout and thresholds. Exactly one of `httpGet`, `tcpSocket`, `exec`, `grpc`
/// and `notify` says how it asks.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    default,
    deny_unknown_fields,
    expecting = "a mapping such as {httpGet: {path: /healthz, port: http}}"
)]
#[schemars(rename = "Probe", extend("oneOf" = [
    {"required": ["httpGet"]}, {"required": ["tcpSocket"]}, {"required": ["exec"]}, {"required": ["grpc"]},
    {"required": ["notify"]}
]))]
pub(super) struct RawProbe {
    /// An HTTP request: 200 to 399 is success.
    pub(super) http_get: Field<RawHttpGet>,
    /// A TCP connection: connected is success.
    pub(super) tcp_socket: Field<RawTcpSocket>,
    /// A command: exit status 0 is success.
    pub(super) exec: Field<RawExec>,
    /// The gRPC health service: SERVING is success.
    pub(super) grpc: Field<RawGrpc>,
    /// The process reports by itself over NOTIFY_SOCKET, as systemd's sd_notify: READY=1, WATCHDOG=1.
    pub(super) notify: Field<RawNotify>,
    /// From the start of the replica to the first check. Default: 0.
    pub(super) initial_delay_seconds: Field<Seconds>,
    /// From the start of one check to the start of the next. Default: startup 1, liveness 10, readiness 5.
    pub(super) period_seconds: Field<Seconds>,
    /// The longest one check may take. Default: startup 5, liveness 3, readiness 2.
    pub(super) timeout_seconds: Field<Seconds>,
    /// Successes in a row that turn the verdict to good; 1 but for readiness. Default: 1.
    #[schemars(range(min = 1))]
    pub(super) success_threshold: Field<u32>,
    /// Failures in a row that turn the verdict to bad. Default: startup 30, liveness 3, readiness 3.
    #[schemars(range(min = 1))]
    pub(super) failure_threshold: Field<u32>,
    /// The grace of a restart that this probe causes. Default: the workload's.
    pub(super) termination_grace_period_seconds: Field<Seconds>,
}

/// HTTP or HTTPS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub(super) enum RawScheme {
    #[serde(rename = "HTTP", alias = "http")]
    Http,
    #[serde(rename = "HTTPS", alias = "https")]
    Https,
}

/// An HTTP request.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    default,
    deny_unknown_fields,
    expecting = "a mapping such as {path: /healthz, port: http}"
)]
#[schemars(rename = "HttpGet")]
pub(super) struct RawHttpGet {
    /// For targets: the whole address in one, instead of scheme, host, port and path.
    pub(super) url: Field<Text>,
    /// Path and query. Default: /.
    pub(super) path: Field<Text>,
    /// A number, or the name of one of the workload's ports.
    pub(super) port: Field<PortOrName>,
    /// Default: HTTP.
    pub(super) scheme: Field<RawScheme>,
    /// Default: the replica's own address.
    pub(super) host: Field<Text>,
    /// More request headers.
    pub(super) http_headers: Field<Vec<Field<RawHeader>>>,
    /// Statuses and ranges that are success: `200,204,300-399`. Default: 200-399 for a probe, 200 for a target.
    pub(super) expected_status: Field<Text>,
    /// Text that the body must hold, or a regular expression between slashes: `/ok|fine/`.
    pub(super) expected_body: Field<Text>,
    /// JSON pointers and the values that must stand there: `{/status: up}`.
    pub(super) expected_json: Field<BTreeMap<String, serde_json::Value>>,
    /// A file of certificates to trust, relative to this file.
    pub(super) ca_file: Field<Text>,
    /// The name to ask for and to verify.
    pub(super) tls_server_name: Field<Text>,
    /// Whether any certificate is accepted.
    pub(super) tls_insecure_skip_verify: Field<bool>,
    /// Whether the connection is kept for the next check. Default: false.
    pub(super) keep_alive: Field<bool>,
}

/// A request header.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a mapping such as {name: X-Probe, value: hale}")]
#[schemars(rename = "HttpHeader", extend("required" = ["name", "value"]))]
pub(super) struct RawHeader {
    pub(super) name: Field<Text>,
    pub(super) value: Field<Text>,
}

/// A TCP connection.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a mapping such as {port: 5432}")]
#[schemars(rename = "TcpSocket", extend("required" = ["port"]))]
pub(super) struct RawTcpSocket {
    /// A number, or the name of one of the workload's ports.
    pub(super) port: Field<PortOrName>,
    /// Default: the replica's own address.
    pub(super) host: Field<Text>,
}

/// A command.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a mapping such as {command: [./check.sh]}")]
#[schemars(rename = "Exec", extend("required" = ["command"]))]
pub(super) struct RawExec {
    /// The program and its arguments; no shell is involved.
    pub(super) command: Field<Vec<Text>>,
}

/// The gRPC health service.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    default,
    deny_unknown_fields,
    expecting = "a mapping such as {port: 9000, service: shop.Orders}"
)]
#[schemars(rename = "Grpc", extend("required" = ["port"]))]
pub(super) struct RawGrpc {
    /// A number, or the name of one of the workload's ports.
    pub(super) port: Field<PortOrName>,
    /// Default: the replica's own address.
    pub(super) host: Field<Text>,
    /// The service asked for. Default: the server as a whole.
    pub(super) service: Field<Text>,
    /// Whether over TLS. Default: false.
    pub(super) tls: Field<bool>,
    /// A file of certificates to trust, relative to this file.
    pub(super) ca_file: Field<Text>,
    /// The name to ask for and to verify.
    pub(super) tls_server_name: Field<Text>,
    /// Whether any certificate is accepted.
    pub(super) tls_insecure_skip_verify: Field<bool>,
}

/// The process reports by itself: `notify: {}`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "an empty mapping: {}")]
#[schemars(rename = "Notify")]
pub(super) struct RawNotify {}

/// Which records of a name are asked for.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum RawRecordType {
    A,
    Aaaa,
    Caa,
    Cname,
    Mx,
    Ns,
    Ptr,
    Soa,
    Srv,
    Txt,
}

/// How a name server is asked.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawDnsTransport {
    Udp,
    Tcp,
}

/// The code of a name server's answer.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum RawDnsCode {
    NoError,
    FormErr,
    ServFail,
    NxDomain,
    NotImp,
    Refused,
}

/// A question to a name server.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    default,
    deny_unknown_fields,
    expecting = "a mapping such as {name: www.example.com, server: 192.0.2.53}"
)]
#[schemars(rename = "Dns", extend("required" = ["name"]))]
pub(super) struct RawDns {
    /// The name asked for; with `recordType: PTR` an address may stand here.
    pub(super) name: Field<Text>,
    /// The name server: host or host:port. Default: those of the machine.
    pub(super) server: Field<Text>,
    /// Which records. Default: A.
    pub(super) record_type: Field<RawRecordType>,
    /// How the server is asked: `udp` (and tcp when the answer did not fit) or `tcp`. Default: udp.
    pub(super) transport: Field<RawDnsTransport>,
    /// Whether the server is to ask others. Default: true.
    pub(super) recursion: Field<bool>,
    /// Codes of the answer that are success. Default: NOERROR.
    pub(super) expected_codes: Field<Many<Field<RawDnsCode>>>,
    /// At least so many records must be in the answer. Default: 1, and 0 where another code than NOERROR is expected.
    pub(super) min_answers: Field<u32>,
    /// Values that must be among the records, as in a zone file: `192.0.2.1`, `10 mail.example.com`.
    pub(super) expected_answers: Field<Many<Field<Text>>>,
}

/// A TLS handshake, and the certificate that came with it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    default,
    deny_unknown_fields,
    expecting = "a mapping such as {host: www.example.com, minValidFor: 14d}"
)]
#[schemars(rename = "Tls", extend("required" = ["host"]))]
pub(super) struct RawTls {
    /// The host.
    pub(super) host: Field<Text>,
    /// Default: 443.
    pub(super) port: Field<PortOrName>,
    /// The name to ask for and to verify. Default: the host.
    pub(super) server_name: Field<Text>,
    /// A file of certificates to trust, relative to this file. Default: those of the machine.
    pub(super) ca_file: Field<Text>,
    /// For so long the certificates must be valid yet. Default: 14d; 0: valid now is enough.
    pub(super) min_valid_for: Field<Span>,
    /// Whether the chain must lead to a certificate that is trusted. Default: true.
    pub(super) verify_chain: Field<bool>,
    /// Whether the certificate must be for the name. Default: true.
    pub(super) verify_name: Field<bool>,
}
