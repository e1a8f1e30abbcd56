//! Asking a server over HTTP or HTTPS: one connection a request, everything bounded but a stream's silence.

use std::{io, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header, uri::PathAndQuery};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rustix::net::sockopt;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use hale_api::retry_after;
use hale_model::spec::Remote;

use super::{ErrorClass, connect::Failure, plain};

/// For name, connection and TLS.
const CONNECT: Duration = Duration::from_secs(10);

/// From the request to the head of its answer.
const ANSWER: Duration = Duration::from_secs(30);

/// What of a refusal is read to be quoted.
const MAX_REFUSAL: usize = 64 << 10;

/// A silent connection is asked whether it is still there after this, and so often, so long apart.
const KEEPALIVE: (Duration, u32, Duration) = (Duration::from_secs(30), 3, Duration::from_secs(10));

/// A server, and what is shown there: read from the files anew for each connection of a source.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// Without what may be secret in it.
    url: String,
    authority: String,
    host: HeaderValue,
    path: PathAndQuery,
    authorization: Option<HeaderValue>,
    tls: Option<Arc<ClientConfig>>,
}

impl Endpoint {
    /// Reads the files.
    pub(crate) async fn open(remote: &Remote) -> Result<Self, Failure> {
        let (secure, authority, path) = take_apart(&remote.url)?;
        let authorization = match &remote.token_file {
            Some(file) => Some(bearer(file).await?),
            None => None,
        };
        let tls = if secure {
            let file = remote.ca_file.clone();
            // The system's authorities are some hundred files.
            let read = tokio::task::spawn_blocking(move || trust(file.as_deref())).await;
            Some(read.map_err(|error| Failure::protocol(format!("TLS can't be set up: {error}")))??)
        } else {
            None
        };
        let host = HeaderValue::from_str(&authority)
            .map_err(|_| Failure::protocol(format!("{}: no host name", name(&remote.url))))?;
        Ok(Self { url: name(&remote.url), authority, host, path, authorization, tls })
    }

    /// What it is called in messages.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Sends a request and waits for the head of the answer, whatever its status.
    pub(crate) async fn send(
        &self,
        method: Method,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>, Failure> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = self.path.clone().into();
        *request.headers_mut() = headers;
        let to = request.headers_mut();
        to.insert(header::HOST, self.host.clone());
        to.insert(header::USER_AGENT, HeaderValue::from_static(concat!("hale/", env!("CARGO_PKG_VERSION"))));
        if let Some(authorization) = &self.authorization {
            to.insert(header::AUTHORIZATION, authorization.clone());
        }
        let late =
            |what: &str, limit: Duration| Failure::timeout(format!("{}: {what} within {limit:?}", self.url));
        let stream = timeout(CONNECT, self.connect()).await.map_err(|_| late("no connection", CONNECT))??;
        let answer = async {
            match stream {
                Either::Plain(stream) => exchange(stream, request).await,
                Either::Tls(stream) => exchange(*stream, request).await,
            }
        };
        let answer = timeout(ANSWER, answer).await.map_err(|_| late("no answer", ANSWER))?;
        answer.map_err(|error| self.lost(&error))
    }

    /// Sends a request, and takes any answer but success for a failure.
    pub(crate) async fn ask(
        &self,
        method: Method,
        headers: HeaderMap,
    ) -> Result<Response<Incoming>, Failure> {
        let response = self.send(method, headers, Bytes::new()).await?;
        if response.status().is_success() { Ok(response) } else { Err(self.refused(response).await) }
    }

    /// A refusal in words, with its class, and with how long the server asks to be left alone.
    pub(crate) async fn refused(&self, response: Response<Incoming>) -> Failure {
        let (head, body) = response.into_parts();
        let body = timeout(Duration::from_secs(5), Limited::new(body, MAX_REFUSAL).collect()).await;
        let body = body.ok().and_then(Result::ok).map(|it| it.to_bytes()).unwrap_or_default();
        let said = plain::quote(String::from_utf8_lossy(&body).trim());
        let said = if said.is_empty() { String::new() } else { format!(": {said}") };
        let (class, hint) = match head.status.as_u16() {
            401 if self.authorization.is_none() => (ErrorClass::Auth, "; a token is needed: set tokenFile"),
            401 => (ErrorClass::Auth, "; the token is not believed: renew what is in tokenFile"),
            403 => (ErrorClass::Auth, "; the token does not allow it"),
            408 | 504 => (ErrorClass::Timeout, ""),
            404 => (ErrorClass::Protocol, "; is the path of the URL right?"),
            429 | 500.. => (ErrorClass::Server, ""),
            // A conflict passes: an old session, or a stream that is still open there (R2).
            409 => (ErrorClass::Server, ""),
            300..=399 => (ErrorClass::Protocol, "; redirects are not followed: set the URL it leads to"),
            _ => (ErrorClass::Protocol, ""),
        };
        let error = format!("{} answered {}{said}{hint}", self.url, head.status);
        Failure { class, error, retry_after: retry_after(&head.headers, Timestamp::now()) }
    }

    fn lost(&self, error: &hyper::Error) -> Failure {
        let class = if error.is_timeout() {
            ErrorClass::Timeout
        } else if error.is_parse() || error.is_user() {
            ErrorClass::Protocol
        } else {
            ErrorClass::Network
        };
        Failure::new(class, format!("{}: {}", self.url, chain(error)))
    }

    async fn connect(&self) -> Result<Either, Failure> {
        let failed = |error: io::Error| {
            let class = match error.kind() {
                io::ErrorKind::TimedOut => ErrorClass::Timeout,
                // What rustls has to say about the other side.
                io::ErrorKind::InvalidData => ErrorClass::Protocol,
                _ => ErrorClass::Network,
            };
            Failure::new(class, format!("{}: {}", self.url, chain(&error)))
        };
        let stream = TcpStream::connect(&self.authority).await.map_err(failed)?;
        watch(&stream);
        let Some(tls) = &self.tls else { return Ok(Either::Plain(stream)) };
        let host = self.authority.rsplit_once(':').map_or(self.authority.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host)
            .map_err(|error| Failure::protocol(format!("{}: {error}", self.url)))?;
        let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await.map_err(failed)?;
        Ok(Either::Tls(Box::new(stream)))
    }
}

/// Notices a peer that is gone without a word: nothing else would, where silence is no sign (R2). What can't be set
/// costs only that.
fn watch(stream: &TcpStream) {
    let (idle, count, interval) = KEEPALIVE;
    let _delay = stream.set_nodelay(true);
    let _set = sockopt::set_socket_keepalive(stream, true)
        .and_then(|()| sockopt::set_tcp_keepidle(stream, idle))
        .and_then(|()| sockopt::set_tcp_keepintvl(stream, interval))
        .and_then(|()| sockopt::set_tcp_keepcnt(stream, count))
        .and_then(|()| sockopt::set_tcp_user_timeout(stream, 60_000));
}

enum Either {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the answer's body, or when that is dropped; its errors come out at the body too.
    tokio::spawn(connection);
    sender.send_request(request).await
}

/// An error with what caused it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// A URL as messages tell it: its query and its user may be secret, whatever else is wrong with it.
pub(crate) fn name(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let colon = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{colon}{host}{path}")
}

fn take_apart(url: &str) -> Result<(bool, String, PathAndQuery), Failure> {
    let bad = |why: &str| {
        Failure::protocol(format!("{}: {why}; a URL like https://host:8443/path is needed", name(url)))
    };
    let uri: Uri = url.parse().map_err(|_| bad("not a URL"))?;
    let secure = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(bad("only http and https are spoken")),
    };
    let authority = uri.authority().filter(|it| !it.host().is_empty()).ok_or_else(|| bad("no host"))?;
    let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    Ok((secure, format!("{}:{port}", authority.host()), path))
}

/// The token in a file.
pub(crate) async fn token(file: &Path) -> Result<String, Failure> {
    let unusable =
        |why: String| Failure::new(ErrorClass::Auth, format!("{} can't be used: {why}", file.display()));
    let token = tokio::fs::read_to_string(file).await.map_err(|error| unusable(error.to_string()))?;
    let token = token.trim();
    if token.is_empty() { Err(unusable("it holds no token".to_owned())) } else { Ok(token.to_owned()) }
}

async fn bearer(file: &Path) -> Result<HeaderValue, Failure> {
    let token = token(file).await?;
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
        Failure::new(ErrorClass::Auth, format!("{} can't be used: it holds no token", file.display()))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// The system's authorities, and those of a file beside them.
pub(crate) fn trust(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, Failure> {
    let mut roots = RootCertStore::empty();
    // What of the system's can't be read is not trusted: the connection says so then.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let unusable = |why: String| Failure::protocol(format!("{} can't be used: {why}", path.display()));
        let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let found = found.map_err(|error| unusable(error.to_string()))?;
        if found.is_empty() {
            return Err(unusable("no certificate in PEM form".to_owned()));
        }
        for certificate in found {
            roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
        }
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::protocol(format!("TLS can't be spoken: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Whether a header is of this media type, parameters aside.
pub(crate) fn is_media_type(headers: &HeaderMap, wanted: &str) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_with_its_path() {
        let (secure, authority, path) = take_apart("https://mcp.example/mcp?x=1").unwrap();
        assert_eq!((secure, authority.as_str(), path.as_str()), (true, "mcp.example:443", "/mcp?x=1"));
        let (secure, authority, path) = take_apart("http://[::1]:8383").unwrap();
        assert_eq!((secure, authority.as_str(), path.as_str()), (false, "[::1]:8383", "/"));
        for wrong in ["mcp", "ftp://x", "http://", "http:///x"] {
            assert!(take_apart(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn messages_name_a_url_without_its_query_and_its_user() {
        for (url, expected) in [
            ("https://u:s3cret@mcp.example:8443/mcp?token=s3cret#s3cret", "https://mcp.example:8443/mcp"),
            ("http://[::1]:8383", "http://[::1]:8383"),
            ("s3cret@host?x", "host"),
            ("ftp://a/b@c", "ftp://a/b@c"),
            ("http://?s3cret@x", "http://"),
        ] {
            assert_eq!(name(url), expected);
        }
        let failure = take_apart("ftp://u:s3cret@x/?s3cret").unwrap_err();
        assert!(!failure.error.contains("s3cret"), "{failure:?}");
    }
}
