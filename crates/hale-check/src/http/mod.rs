//! `httpGet`: what is asked, and what counts as an answer (H7).
//!
//! The request is formatted once, when the check is compiled; a check then costs no more than sending those bytes.

pub(crate) mod exchange;
mod expect;
mod redirect;
pub(crate) mod response;

use std::sync::Mutex;

use hale_model::spec::HttpGet;

use crate::{
    CompileError, Subject,
    subject::{Host, Place},
    tls::Trust,
};

pub(crate) use exchange::Kept;
pub(crate) use expect::{Answer, Expectation, Judgement};
pub(crate) use redirect::{Destination, Redirect};

/// How many redirects on the same host are followed (H7).
pub(crate) const MAX_REDIRECTS: u8 = 10;

/// A compiled `httpGet`.
#[derive(Debug)]
pub(crate) struct HttpCheck {
    pub(crate) place: Place,
    /// The bytes to send.
    pub(crate) request: Box<[u8]>,
    /// Where, in the request, the lines begin that do not depend on path and host.
    rest_at: u32,
    pub(crate) expect: Expectation,
    /// Whether the replica itself is asked.
    own: bool,
    pub(crate) trust: Option<Box<Trust>>,
    pub(crate) keep_alive: bool,
    /// The connection kept for the next check, when checks are made one by one through [`crate::Checker::run`].
    pub(crate) kept: Mutex<Option<Box<Kept>>>,
}

impl HttpCheck {
    /// Checks what can be checked before anything is asked, and formats the request.
    pub(crate) fn compile(spec: &HttpGet, subject: &Subject) -> Result<Self, CompileError> {
        let place = subject.place(spec.host.as_deref(), &spec.port)?;
        let authority = authority(&place, spec.tls);
        let (request, rest_at) = format_request(spec, &authority)?;
        let own = subject.is_own(spec.host.as_deref());
        let trust = if spec.tls {
            Some(Box::new(Trust::new(
                spec.ca_file.clone(),
                spec.tls_server_name.as_deref(),
                spec.tls_insecure_skip_verify,
                own,
                crate::tls::Alpn::Http1,
            )?))
        } else {
            None
        };
        Ok(Self {
            place,
            request,
            rest_at,
            expect: Expectation::compile(spec)?,
            own,
            trust,
            keep_alive: spec.keep_alive,
            kept: Mutex::new(None),
        })
    }

    /// Whether nothing needs to be read before it can be made: it is not over TLS, or TLS is set up.
    pub(crate) fn is_ready(&self) -> bool {
        self.trust.as_deref().is_none_or(|it| it.ready().is_some())
    }

    /// The request for another path on the same host. What lets us in goes along only to the same server: another port
    /// may be anybody's, and without TLS anybody reads it.
    pub(crate) fn request_for(&self, to: &Destination) -> Vec<u8> {
        let rest = &self.request[self.rest_at as usize..];
        let mut request = format!("GET {} HTTP/1.1\r\nHost: {}\r\n", to.path, to.authority).into_bytes();
        let from = (self.trust.is_some(), self.place.port);
        let is_same = from == (to.tls, to.port) || (from == (false, 80) && (to.tls, to.port) == (true, 443));
        for line in rest.split_inclusive(|byte| *byte == b'\n') {
            if is_same || !lets_in(line) {
                request.extend_from_slice(line);
            }
        }
        request
    }

    /// Where the first request goes.
    pub(crate) fn origin(&self) -> Destination {
        let head = String::from_utf8_lossy(&self.request[..self.rest_at as usize]).into_owned();
        let path = head.split(' ').nth(1).unwrap_or("/").to_owned();
        let authority = head.split("\r\nHost: ").nth(1).unwrap_or_default().trim_end().to_owned();
        Destination { tls: self.trust.is_some(), port: self.place.port, authority, path }
    }
}

/// Whether a header says who asks.
fn lets_in(line: &[u8]) -> bool {
    let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
    ["authorization", "cookie", "proxy-authorization"]
        .iter()
        .any(|it| name.eq_ignore_ascii_case(it.as_bytes()))
}

fn authority(place: &Place, tls: bool) -> String {
    let host = match &place.host {
        Host::Ip(std::net::IpAddr::V6(ip)) => format!("[{ip}]"),
        Host::Ip(ip) => ip.to_string(),
        Host::Name(name) => name.to_string(),
        Host::Missing => "localhost".into(),
    };
    if place.port == if tls { 443 } else { 80 } { host } else { format!("{host}:{}", place.port) }
}

fn format_request(spec: &HttpGet, authority: &str) -> Result<(Box<[u8]>, u32), CompileError> {
    if !spec.path.starts_with('/') || spec.path.bytes().any(|b| b <= b' ' || b == 0x7f) {
        return Err(CompileError::Path(spec.path.clone()));
    }
    for (name, value) in &spec.headers {
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        let bad_name = name.is_empty() || !name.bytes().all(token);
        if bad_name || value.bytes().any(|b| (b < b' ' && b != b'\t') || b == 0x7f) {
            return Err(CompileError::Header(name.clone()));
        }
    }
    let given = |name: &str| spec.headers.iter().find(|(it, _)| it.eq_ignore_ascii_case(name));
    let host = given("host").map_or(authority, |(_, value)| value);
    let mut request = format!("GET {} HTTP/1.1\r\nHost: {host}\r\n", spec.path);
    let rest_at = u32::try_from(request.len()).map_err(|_| CompileError::Path("too long".into()))?;
    let connection = if spec.keep_alive { "keep-alive" } else { "close" };
    let defaults = [
        ("User-Agent", concat!("hale-probe/", env!("CARGO_PKG_VERSION"))),
        ("Accept", "*/*"),
        ("Connection", connection),
    ];
    for (name, value) in defaults {
        if given(name).is_none() {
            request.extend([name, ": ", value, "\r\n"]);
        }
    }
    for (name, value) in &spec.headers {
        if !name.eq_ignore_ascii_case("host") {
            request.extend([name, ": ", value, "\r\n"]);
        }
    }
    request.push_str("\r\n");
    Ok((request.into_bytes().into(), rest_at))
}
