//! Modules: how a target is asked. Those of blackbox_exporter that need no file are there by their names; others come
//! from a file in blackbox_exporter's own format, of which hale reads the part that it can hold to. What it can't is
//! refused with its place, never passed over.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use hale_check::{Checker, Subject};
use hale_model::{
    file::{parse_duration, parse_url},
    spec::{
        BodyMatch, Check, Dns, DnsCode, DnsTransport, Grpc, HttpGet, PortRef, RecordType, TcpSocket, Tls,
    },
};
use serde::Deserialize;

/// What is meant when no module is named.
pub(super) const USUAL: &str = "http_2xx";

/// Why modules can't be read from a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ModuleError(String);

/// The modules there are, by name.
#[derive(Debug)]
pub struct Modules(BTreeMap<String, Module>);

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    modules: BTreeMap<String, Module>,
}

/// How a target is asked.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Module {
    pub(super) prober: Prober,
    #[serde(default)]
    timeout: Option<String>,
    #[serde(default)]
    http: Http,
    #[serde(default)]
    tcp: Tcp,
    #[serde(default)]
    dns: Question,
    #[serde(default)]
    grpc: Service,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Prober {
    Http,
    Tcp,
    Dns,
    Grpc,
    Icmp,
}

/// A preference that the order of the resolver's answers fulfils or not; as there, it never fails a check.
#[derive(Debug, Clone, Copy, Deserialize)]
enum Protocol {
    #[serde(rename = "ip4")]
    Four,
    #[serde(rename = "ip6")]
    Six,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TlsConfig {
    insecure_skip_verify: bool,
    ca_file: Option<PathBuf>,
    server_name: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Http {
    valid_status_codes: Vec<u16>,
    method: Option<String>,
    headers: BTreeMap<String, String>,
    follow_redirects: Option<bool>,
    fail_if_ssl: bool,
    fail_if_not_ssl: bool,
    fail_if_body_not_matches_regexp: Vec<String>,
    bearer_token: Option<String>,
    tls_config: TlsConfig,
    preferred_ip_protocol: Option<Protocol>,
    ip_protocol_fallback: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Tcp {
    tls: bool,
    tls_config: TlsConfig,
    preferred_ip_protocol: Option<Protocol>,
    ip_protocol_fallback: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Question {
    query_name: String,
    query_type: Option<String>,
    transport_protocol: Option<String>,
    recursion_desired: Option<bool>,
    valid_rcodes: Vec<String>,
    preferred_ip_protocol: Option<Protocol>,
    ip_protocol_fallback: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Service {
    service: String,
    tls: bool,
    tls_config: TlsConfig,
    preferred_ip_protocol: Option<Protocol>,
    ip_protocol_fallback: Option<bool>,
}

impl Default for Modules {
    /// `http_2xx`, `tcp_connect`, `tls_connect`, `grpc` (over TLS), `grpc_plain`, and `dns` (the name servers of the
    /// root: whether a name server answers at all).
    fn default() -> Self {
        let plain = Module::of(Prober::Http);
        let grpc = |tls| Module { grpc: Service { tls, ..Service::default() }, ..Module::of(Prober::Grpc) };
        let mut all = BTreeMap::from([
            ("http_2xx", plain),
            ("tcp_connect", Module::of(Prober::Tcp)),
            ("tls_connect", Module { tcp: Tcp { tls: true, ..Tcp::default() }, ..Module::of(Prober::Tcp) }),
            ("grpc", grpc(true)),
            ("grpc_plain", grpc(false)),
        ]);
        let dns = Question { query_name: ".".into(), query_type: Some("NS".into()), ..Question::default() };
        all.insert("dns", Module { dns, ..Module::of(Prober::Dns) });
        Self(all.into_iter().map(|(name, module)| (name.to_owned(), module)).collect())
    }
}

impl Modules {
    /// Reads a file of modules; those that are there by themselves stay, unless the file has others of the same name.
    ///
    /// # Errors
    /// The file can't be read, is not understood, or holds something that hale can't hold to; says what and where.
    pub fn read(path: &std::path::Path) -> Result<Self, ModuleError> {
        let named = |why: String| ModuleError(format!("{}: {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
        Self::parse(&text).map_err(|ModuleError(why)| named(why))
    }

    fn parse(text: &str) -> Result<Self, ModuleError> {
        let file: File = serde_saphyr::from_str(text).map_err(|error| ModuleError(error.to_string()))?;
        let mut modules = Self::default();
        for (name, module) in file.modules {
            module.validate().map_err(|why| ModuleError(format!("module {name}: {why}")))?;
            modules.0.insert(name, module);
        }
        Ok(modules)
    }

    /// The module of this name.
    pub(super) fn get(&self, name: &str) -> Result<&Module, String> {
        match self.0.get(name) {
            Some(Module { prober: Prober::Icmp, .. }) => Err(no_icmp()),
            Some(module) => Ok(module),
            None if name.starts_with("icmp") => Err(no_icmp()),
            None => {
                let known: Vec<&str> = self.0.keys().map(String::as_str).collect();
                let name: String = name.chars().take(64).collect();
                Err(format!("there is no module {name:?}; there are {}", known.join(", ")))
            }
        }
    }
}

fn no_icmp() -> String {
    "hale makes no ICMP checks: an answer to a ping says nothing of a service; ask one with tcp_connect or http_2xx"
        .to_owned()
}

impl Module {
    fn of(prober: Prober) -> Self {
        Self {
            prober,
            timeout: None,
            http: Http::default(),
            tcp: Tcp::default(),
            dns: Question::default(),
            grpc: Service::default(),
        }
    }

    /// The longest a check may take; `None`: what the scraper gives.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.timeout.as_deref().and_then(parse_duration).filter(|it| !it.is_zero())
    }

    /// Whether a body is looked at.
    pub(super) fn matches_body(&self) -> bool {
        self.prober == Prober::Http && !self.http.fail_if_body_not_matches_regexp.is_empty()
    }

    /// What can be found wrong before anything is asked.
    fn validate(&self) -> Result<(), String> {
        if let Some(timeout) = &self.timeout
            && parse_duration(timeout).is_none()
        {
            return Err(format!("timeout {timeout:?}: expected a duration such as 5s"));
        }
        if self.prober == Prober::Icmp {
            // A file that has such modules beside others is read; the module itself is refused when it is asked for.
            return Ok(());
        }
        let fallbacks = [
            (self.http.preferred_ip_protocol, self.http.ip_protocol_fallback),
            (self.tcp.preferred_ip_protocol, self.tcp.ip_protocol_fallback),
            (self.dns.preferred_ip_protocol, self.dns.ip_protocol_fallback),
            (self.grpc.preferred_ip_protocol, self.grpc.ip_protocol_fallback),
        ];
        if fallbacks.iter().any(|(_, fallback)| *fallback == Some(false)) {
            return Err("ip_protocol_fallback: false: hale asks whatever address answers".into());
        }
        if let Some(method) = self.http.method.as_deref().filter(|it| !it.eq_ignore_ascii_case("get")) {
            return Err(format!("http.method {method}: a health check is a GET"));
        }
        if self.http.follow_redirects == Some(false)
            && (self.http.valid_status_codes.is_empty()
                || self.http.valid_status_codes.iter().any(|it| !(300..400).contains(it)))
        {
            return Err(
                "http.follow_redirects: false: give the 3xx that are expected as valid_status_codes".into()
            );
        }
        if self.http.fail_if_body_not_matches_regexp.len() > 1 {
            return Err("http.fail_if_body_not_matches_regexp: one expression; join several into one".into());
        }
        // The host stands for any: what is wrong with the module shows.
        self.checker(if self.prober == Prober::Tcp || self.prober == Prober::Grpc { "x:1" } else { "x" })
            .map(drop)
    }

    /// The check of a target, and whether it goes over TLS.
    pub(super) fn checker(&self, target: &str) -> Result<(Checker, bool), String> {
        let check = match self.prober {
            Prober::Http => self.http(target)?,
            Prober::Tcp => self.tcp(target)?,
            Prober::Dns => self.dns(target)?,
            Prober::Grpc => self.grpc(target)?,
            Prober::Icmp => return Err(no_icmp()),
        };
        let over_tls = match &check {
            Check::HttpGet(it) => it.tls,
            Check::Grpc(it) => it.tls,
            Check::Tls(_) => true,
            _ => false,
        };
        if self.prober == Prober::Http && over_tls && self.http.fail_if_ssl {
            return Err("the module refuses https (fail_if_ssl)".into());
        }
        if self.prober == Prober::Http && !over_tls && self.http.fail_if_not_ssl {
            return Err("the module refuses http without TLS (fail_if_not_ssl)".into());
        }
        let checker = Checker::compile(&check, &Subject::default()).map_err(|error| error.to_string())?;
        Ok((checker, over_tls))
    }

    fn http(&self, target: &str) -> Result<Check, String> {
        let Http { valid_status_codes, headers, tls_config, bearer_token, .. } = &self.http;
        let url = if target.contains("://") { target.to_owned() } else { format!("http://{target}") };
        let (tls, host, port, path) =
            parse_url(&url).map_err(|why| format!("the target {target:?} {why}"))?;
        let mut headers: Vec<(String, String)> =
            headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        headers.extend(bearer_token.iter().map(|it| ("Authorization".to_owned(), format!("Bearer {it}"))));
        let expected_status = match &valid_status_codes[..] {
            [] => vec![(200, 299)],
            codes => codes.iter().map(|it| (*it, *it)).collect(),
        };
        let matching = self.http.fail_if_body_not_matches_regexp.first();
        Ok(Check::HttpGet(HttpGet {
            tls,
            host: Some(host),
            port: PortRef::Number(port),
            path,
            headers,
            expected_status,
            expected_body: matching.map(|it| BodyMatch::Regex(it.clone())),
            expected_json: Vec::new(),
            ca_file: tls_config.ca_file.clone(),
            tls_server_name: tls_config.server_name.clone(),
            tls_insecure_skip_verify: Some(tls_config.insecure_skip_verify),
            keep_alive: false,
        }))
    }

    fn tcp(&self, target: &str) -> Result<Check, String> {
        let (host, port) = place(target, None)?;
        let Tcp { tls, tls_config, .. } = &self.tcp;
        Ok(if *tls {
            Check::Tls(Tls {
                host,
                port,
                server_name: tls_config.server_name.clone(),
                ca_file: tls_config.ca_file.clone(),
                min_valid: Duration::ZERO,
                verify_chain: !tls_config.insecure_skip_verify,
                verify_name: !tls_config.insecure_skip_verify,
            })
        } else {
            Check::TcpSocket(TcpSocket { host: Some(host), port: PortRef::Number(port) })
        })
    }

    fn grpc(&self, target: &str) -> Result<Check, String> {
        let (host, port) = place(target, None)?;
        let Service { service, tls, tls_config, .. } = &self.grpc;
        Ok(Check::Grpc(Grpc {
            host: Some(host),
            port: PortRef::Number(port),
            service: service.clone(),
            tls: *tls,
            ca_file: tls_config.ca_file.clone(),
            tls_server_name: tls_config.server_name.clone(),
            tls_insecure_skip_verify: Some(tls_config.insecure_skip_verify),
        }))
    }

    fn dns(&self, target: &str) -> Result<Check, String> {
        let Question { query_name, query_type, transport_protocol, recursion_desired, valid_rcodes, .. } =
            &self.dns;
        if query_name.is_empty() {
            return Err("dns.query_name: missing, what is asked for".into());
        }
        let bare = query_name.trim_end_matches('.');
        let codes =
            valid_rcodes.iter().map(|it| it.parse().map_err(|_| format!("dns.valid_rcodes: no code {it:?}")));
        let codes: Vec<DnsCode> = codes.collect::<Result<_, _>>()?;
        let record_type = query_type.as_deref().unwrap_or("A");
        Ok(Check::Dns(Dns {
            name: if bare.is_empty() { ".".to_owned() } else { bare.to_owned() },
            server: Some(place(target, Some(53))?),
            record_type: record_type.parse().map_err(|_| {
                let all: Vec<&str> = RecordType::ALL.iter().map(|it| it.as_str()).collect();
                format!("dns.query_type {record_type:?}: expected one of {}", all.join(", "))
            })?,
            transport: match transport_protocol.as_deref() {
                None | Some("udp") => DnsTransport::Udp,
                Some("tcp") => DnsTransport::Tcp,
                Some(other) => return Err(format!("dns.transport_protocol {other:?}: expected udp or tcp")),
            },
            recursion: recursion_desired.unwrap_or(true),
            expected_codes: if codes.is_empty() { vec![DnsCode::NoError] } else { codes },
            // As there: an answer without a record is one.
            min_answers: 0,
            expected_answers: Vec::new(),
        }))
    }
}

/// A host and its port, in the forms that a target of Prometheus has.
fn place(target: &str, usual: Option<u16>) -> Result<(String, u16), String> {
    let bare = target.split_once("://").map_or(target, |(_, rest)| rest);
    let (_, host, port, path) =
        parse_url(&format!("http://{bare}")).map_err(|why| format!("the target {target:?} {why}"))?;
    let after_host = bare.rsplit_once(']').map_or(bare, |(_, after)| after);
    let given = after_host.contains(':');
    match (given, usual) {
        _ if path != "/" => Err(format!("the target {target:?} has a path; expected host:port")),
        (true, _) => Ok((host, port)),
        (false, Some(usual)) => Ok((host, usual)),
        (false, None) => Err(format!("the target {target:?} has no port; expected host:port")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What blackbox_exporter's own example file has, as far as hale reads it.
    const FILE: &str = "
modules:
  http_2xx:
    prober: http
    timeout: 5s
    http:
      valid_status_codes: []
      method: GET
      preferred_ip_protocol: ip4
      headers: {Host: vhost.example.com, Accept-Language: en-US}
      fail_if_body_not_matches_regexp: ['Download the latest version here']
      tls_config: {insecure_skip_verify: false}
  tcp_tls: {prober: tcp, tcp: {tls: true}}
  dns_soa:
    prober: dns
    dns: {query_name: prometheus.io, query_type: SOA, transport_protocol: tcp, valid_rcodes: [NOERROR, NXDOMAIN]}
  grpc_named: {prober: grpc, grpc: {service: shop.Orders, tls: false}}
  ping: {prober: icmp}
";

    #[test]
    fn a_file_of_blackbox_exporter_is_read() {
        let modules = Modules::parse(FILE).unwrap();
        assert_eq!(modules.get("http_2xx").unwrap().timeout(), Some(Duration::from_secs(5)));
        assert!(modules.get("http_2xx").unwrap().checker("https://example.com/x").unwrap().1);
        assert!(modules.get("dns_soa").unwrap().checker("192.0.2.53").is_ok());
        assert!(modules.get("grpc_named").unwrap().checker("x:1").is_ok());
        assert!(modules.get("tcp_tls").unwrap().checker("x").is_err(), "no port");
        assert!(modules.get("ping").unwrap_err().contains("ICMP"));
        assert!(modules.get("tcp_connect").is_ok(), "those that are there by themselves stay");
    }

    #[test]
    fn what_hale_can_not_hold_to_is_refused_and_not_passed_over() {
        for (part, says) in [
            ("{prober: http, http: {method: POST}}", "GET"),
            ("{prober: http, http: {fail_if_body_matches_regexp: [x]}}", "fail_if_body_matches_regexp"),
            ("{prober: http, http: {fail_if_body_not_matches_regexp: ['(']}}", "regular expression"),
            ("{prober: tcp, tcp: {query_response: []}}", "query_response"),
            ("{prober: dns, dns: {query_type: A}}", "query_name"),
            ("{prober: dns, dns: {query_name: x, query_type: HINFO}}", "AAAA"),
            ("{prober: http, timeout: soon}", "5s"),
            ("{prober: http, http: {follow_redirects: false}}", "follow_redirects"),
            ("{prober: http, http: {ip_protocol_fallback: false}}", "ip_protocol_fallback"),
            ("{prober: gopher}", "gopher"),
        ] {
            let error = Modules::parse(&format!("modules: {{m: {part}}}")).unwrap_err().to_string();
            assert!(error.contains(says), "{part}: {error}");
        }
    }

    #[test]
    fn every_module_that_is_there_by_itself_can_be_used() {
        let modules = Modules::default();
        for name in modules.0.keys() {
            assert!(modules.get(name).unwrap().checker("127.0.0.1:443").is_ok(), "{name}");
        }
    }
}
