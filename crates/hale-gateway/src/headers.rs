//! What of the head of a message goes through, and what stays here (S19; RFC 9110 §7.6, RFC 9112).
//!
//! Framing is never passed on: hyper reads one message, whole and unambiguous, and another is written. What would be
//! read differently by somebody else is refused rather than mended.

use std::net::IpAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri, Version,
    header::{
        CONNECTION, CONTENT_LENGTH, EXPECT, HOST, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING,
        UPGRADE, VIA,
    },
    request, response,
    uri::PathAndQuery,
};

use crate::answer::Refusal;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Headers about one connection, whether or not `Connection` names them.
const HOP_BY_HOP: [HeaderName; 7] =
    [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

/// The head of a request as endpoints get it.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    /// Whether the client asks to go on in WebSocket.
    pub(crate) upgrade: bool,
}

impl Head {
    /// Whether it may be carried out twice with the effect of once (RFC 9110 §9.2.2).
    pub(crate) const fn is_idempotent(&self) -> bool {
        matches!(
            self.method,
            Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE | Method::TRACE
        ) && !self.upgrade
    }
}

/// Makes the head that endpoints get out of the one that a client sent.
pub(crate) fn for_endpoint(parts: request::Parts, client: IpAddr) -> Result<Head, Refusal> {
    let request::Parts { method, uri, version, mut headers, .. } = parts;
    if method == Method::CONNECT {
        return Err(Refusal::Method);
    }
    let coding = headers.get_all(TRANSFER_ENCODING);
    if coding.iter().count() > 1 || coding.iter().any(|it| !it.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Err(Refusal::NotImplemented("a transfer coding other than `chunked` is not understood"));
    }
    let chunked = headers.contains_key(TRANSFER_ENCODING);
    if chunked && headers.contains_key(CONTENT_LENGTH) {
        return Err(Refusal::BadRequest("a request has a length or is chunked, not both"));
    }
    if let Some(expect) = headers.remove(EXPECT)
        && !expect.as_bytes().eq_ignore_ascii_case(b"100-continue")
    {
        return Err(Refusal::Expectation);
    }
    let uri = place(&uri, version, &mut headers)?;
    let upgrade = wants_websocket(&headers);
    strip(&mut headers);
    headers.remove(PROXY_AUTHORIZATION);
    if upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
    if chunked {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    forwarded(&mut headers, client, version);
    Ok(Head { method, uri, headers, upgrade })
}

/// Cleans the head of a response from what is about one connection, but for a switch to WebSocket.
pub(crate) fn for_client(parts: &mut response::Parts) {
    if parts.headers.contains_key(TRANSFER_ENCODING) {
        // Beside a coding the length means nothing; to the client one of both is written anew.
        parts.headers.remove(CONTENT_LENGTH);
    }
    let switch = parts.status == http::StatusCode::SWITCHING_PROTOCOLS;
    let upgrade = switch.then(|| parts.headers.remove(UPGRADE)).flatten();
    strip(&mut parts.headers);
    if let Some(upgrade) = upgrade {
        parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(UPGRADE, upgrade);
    }
    parts.headers.append(VIA, via(parts.version));
    parts.version = Version::HTTP_11;
}

/// Settles which host and path are meant, and refuses what leaves a doubt.
fn place(uri: &Uri, version: Version, headers: &mut HeaderMap) -> Result<Uri, Refusal> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Refusal::BadRequest("more than one Host header"));
    }
    match host {
        None if version != Version::HTTP_10 => return Err(Refusal::BadRequest("no Host header")),
        Some(host) if !is_host(host.as_bytes()) => {
            return Err(Refusal::BadRequest("a malformed Host header"));
        }
        _ => {}
    }
    if let Some(authority) = uri.authority() {
        // The absolute form: its authority counts, whatever Host says (RFC 9112 §3.2.2).
        if !matches!(uri.scheme_str(), Some("http" | "https")) || !is_host(authority.as_str().as_bytes()) {
            return Err(Refusal::BadRequest("a request target that is not http"));
        }
        let host = HeaderValue::from_str(authority.as_str());
        headers.insert(HOST, host.map_err(|_| Refusal::BadRequest("a malformed request target"))?);
    }
    let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    Ok(Uri::from(path))
}

/// Whether these are characters of a host and port: no blank, no slash, no user name.
fn is_host(host: &[u8]) -> bool {
    host.iter().all(|byte| byte.is_ascii_alphanumeric() || b".-_~:[]%!$&'()*+,;=".contains(byte))
}

/// Whether the client asks to go on in WebSocket. Any other protocol is not passed on: an endpoint that switched
/// would be spoken to past every rule of this gateway.
fn wants_websocket(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(UPGRADE).is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"websocket"));
    upgrade && named(headers).any(|name| name.eq_ignore_ascii_case("upgrade"))
}

/// The names that `Connection` lists.
fn named(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(CONNECTION).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

/// Removes everything that is about one connection.
fn strip(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        // Nobody may strike out with it what says where a message goes and ends.
        let listed: Vec<HeaderName> = named(headers)
            .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
            .filter(|name| name != HOST && name != CONTENT_LENGTH)
            .collect();
        for name in listed {
            headers.remove(name);
        }
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Says who asked, and through whom.
fn forwarded(headers: &mut HeaderMap, client: IpAddr, version: Version) {
    let mut chain = Vec::new();
    for line in headers.get_all(FORWARDED_FOR) {
        chain.extend_from_slice(line.as_bytes());
        chain.extend_from_slice(b", ");
    }
    chain.extend_from_slice(client.to_canonical().to_string().as_bytes());
    if let Ok(chain) = HeaderValue::from_bytes(&chain) {
        headers.insert(FORWARDED_FOR, chain);
    }
    if !headers.contains_key(FORWARDED_PROTO) {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    if let (false, Some(host)) = (headers.contains_key(FORWARDED_HOST), headers.get(HOST).cloned()) {
        headers.insert(FORWARDED_HOST, host);
    }
    headers.append(VIA, via(version));
}

fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(if version == Version::HTTP_10 { "1.0 hale" } else { "1.1 hale" })
}

#[cfg(test)]
#[path = "headers_tests.rs"]
mod tests;
