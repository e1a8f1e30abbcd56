//! Sending one message to a receiver: connect to an address that is allowed, speak HTTP/1.1, read the answer.
//!
//! Redirects are not followed and no proxy is used: what was checked is what is connected to. A connection is kept for
//! the next message for a while.

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use hale_api::retry_after;
use http::{HeaderMap, HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;

use super::{
    address::{self, Forbidden},
    lane::{Attempted, judge},
};

/// The largest answer that is read to its end; of a longer one the connection is not kept.
const MAX_ANSWER: usize = 64 * 1024;

/// How long a connection that is not used is kept. A name that means another address by then is asked for again.
const KEEP: Duration = Duration::from_secs(20);

/// The largest head of an answer.
const MAX_HEAD: usize = 16 * 1024;

/// Bounds of one message.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// From the look-up of the name to a connection that can be spoken on.
    pub connect: Duration,
    /// For the whole of it.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), total: Duration::from_secs(15) }
    }
}

/// It is no URL that messages can be sent to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}; a webhook's URL is like https://example.com/hook")]
pub struct EndpointError(&'static str);

/// Where a receiver is.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    tls: bool,
    host: String,
    port: u16,
    path: String,
    authority: HeaderValue,
}

impl fmt::Debug for Endpoint {
    /// Paths of webhooks are often secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.shown())
    }
}

impl Endpoint {
    /// Reads a URL.
    ///
    /// # Errors
    /// When it is not one of http or https with a host, or holds a user or password.
    pub fn parse(url: &str) -> Result<Self, EndpointError> {
        let url = url.trim().split('#').next().unwrap_or_default();
        let uri: Uri = url.parse().map_err(|_| EndpointError("it is not a URL"))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(EndpointError("it begins with neither https:// nor http://")),
        };
        let authority = uri.authority().ok_or(EndpointError("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(EndpointError("it holds a user or password: receivers are told by the signature"));
        }
        let host = authority.host().trim_matches(['[', ']']);
        if host.is_empty() || authority.port_u16() == Some(0) {
            return Err(EndpointError("it has no host or port"));
        }
        Ok(Self {
            tls,
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            path: uri.path_and_query().map_or("/", |it| it.as_str()).to_owned(),
            authority: HeaderValue::from_str(authority.as_str())
                .map_err(|_| EndpointError("its host is not a name"))?,
        })
    }

    /// What of it can be shown: scheme, host and port.
    #[must_use]
    pub fn shown(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.authority.to_str().unwrap_or_default())
    }
}

/// Why a receiver could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// It is on an address that it may not be on.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// Its name means no address.
    #[error("{host} can't be looked up: {source}")]
    Name {
        /// The name.
        host: String,
        /// What the system said.
        source: io::Error,
    },
    /// There is no connection to it.
    #[error("no connection to {address}: {source}")]
    Connect {
        /// Where to.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// It did not answer as HTTP does, or broke off.
    #[error("{0}")]
    Broken(String),
    /// It took too long.
    #[error("no {what} within {within:?}")]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// How long.
        within: Duration,
    },
}

/// What came of sending, for the lane.
#[must_use]
pub fn attempted(result: Result<Answer, SendError>) -> Attempted {
    match result {
        Ok(Answer { status, retry_after }) => judge(status, retry_after),
        Err(error @ SendError::Forbidden(_)) => Attempted::Refused { why: error.to_string() },
        Err(error) => Attempted::Failed { why: error.to_string(), retry_after: None },
    }
}

/// What a receiver answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// When it wants to be asked again.
    pub retry_after: Option<Duration>,
}

/// One message.
#[derive(Debug, Clone)]
pub struct Message {
    /// The headers that are about it.
    pub headers: HeaderMap,
    /// The event.
    pub body: Bytes,
}

/// Sends messages. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sender {
    tls: TlsOf,
    timeouts: Timeouts,
}

#[derive(Clone)]
struct TlsOf(Arc<ClientConfig>);

impl fmt::Debug for TlsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// A connection that is kept between messages of one webhook.
#[derive(Debug, Default)]
pub struct Kept(Option<(Endpoint, SendRequest<Full<Bytes>>, Instant)>);

impl Sender {
    /// Trusts the certificates of the system. Reads them: takes some milliseconds.
    #[must_use]
    pub fn new(timeouts: Timeouts) -> Self {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "a certificate of the system can't be read");
        }
        let (added, _) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            tracing::warn!("the system has no certificates: no webhook on https can be delivered to");
        }
        Self::trusting(roots, timeouts)
    }

    /// Trusts these certificates.
    #[must_use]
    pub fn trusting(roots: RootCertStore, timeouts: Timeouts) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        // The provider speaks both of its own versions: this does not fail.
        let mut config = versions
            .unwrap_or_else(|error| unreachable!("ring speaks TLS 1.2 and 1.3: {error}"))
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { tls: TlsOf(Arc::new(config)), timeouts }
    }

    /// Sends a message and waits for the answer, within the bounds.
    ///
    /// # Errors
    /// When there was none.
    pub async fn send(
        &self,
        kept: &mut Kept,
        endpoint: &Endpoint,
        allow_private: bool,
        message: &Message,
    ) -> Result<Answer, SendError> {
        let within = self.timeouts.total;
        match timeout(within, self.exchange(kept, endpoint, allow_private, message)).await {
            Ok(result) => result,
            Err(_) => Err(SendError::Timeout { what: "answer", within }),
        }
    }

    async fn exchange(
        &self,
        kept: &mut Kept,
        endpoint: &Endpoint,
        allow_private: bool,
        message: &Message,
    ) -> Result<Answer, SendError> {
        let usable = kept.0.take().filter(|(of, connection, since)| {
            of == endpoint && connection.is_ready() && since.elapsed() < KEEP
        });
        if let Some((_, mut connection, _)) = usable {
            match connection.send_request(request(endpoint, message)?).await {
                Ok(response) => return finish(kept, endpoint, connection, response).await,
                // It was closed while it was not used: a new one is made. The receiver knows the message by its id,
                // should it have got it twice.
                Err(error) => tracing::debug!(%error, "a kept connection was closed"),
            }
        }
        let within = self.timeouts.connect;
        let connecting = timeout(within, self.connect(endpoint, allow_private)).await;
        let mut connection = connecting.map_err(|_| SendError::Timeout { what: "connection", within })??;
        match connection.send_request(request(endpoint, message)?).await {
            Ok(response) => finish(kept, endpoint, connection, response).await,
            Err(error) => Err(SendError::Broken(format!("no answer: {error}"))),
        }
    }

    /// Connects to the first address that is allowed and answers.
    async fn connect(
        &self,
        endpoint: &Endpoint,
        allow_private: bool,
    ) -> Result<SendRequest<Full<Bytes>>, SendError> {
        let unknown = |source| SendError::Name { host: endpoint.host.clone(), source };
        let found =
            tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port)).await.map_err(unknown)?;
        let mut last = None;
        for address in found {
            // This address is what the connection goes to: a name can't mean another one between check and use.
            if let (false, Err(forbidden)) = (allow_private, address::public(address.ip())) {
                last = last.or(Some(SendError::Forbidden(forbidden)));
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => return self.speak(endpoint, stream).await,
                Err(source) => last = Some(SendError::Connect { address, source }),
            }
        }
        Err(last.unwrap_or_else(|| unknown(io::Error::other("it has no address"))))
    }

    async fn speak(
        &self,
        endpoint: &Endpoint,
        stream: TcpStream,
    ) -> Result<SendRequest<Full<Bytes>>, SendError> {
        // One small write each way: without this it may wait for the other side.
        let _late = stream.set_nodelay(true);
        if !endpoint.tls {
            return handshake(stream).await;
        }
        let name = ServerName::try_from(endpoint.host.clone())
            .map_err(|_| SendError::Broken(format!("{} is not a name for TLS", endpoint.host)))?;
        let stream = TlsConnector::from(Arc::clone(&self.tls.0))
            .connect(name, stream)
            .await
            .map_err(|error| SendError::Broken(format!("TLS: {error}")))?;
        handshake(stream).await
    }
}

async fn handshake<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, SendError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| SendError::Broken(error.to_string()))?;
    // Ends when the sender is dropped; what goes wrong comes out at the request.
    tokio::spawn(connection);
    Ok(sender)
}

fn request(endpoint: &Endpoint, message: &Message) -> Result<Request<Full<Bytes>>, SendError> {
    let mut request = Request::post(endpoint.path.as_str())
        .header(header::HOST, &endpoint.authority)
        .header(header::USER_AGENT, concat!("hale/", env!("CARGO_PKG_VERSION")))
        .header(header::CONTENT_TYPE, "application/cloudevents+json; charset=utf-8")
        .body(Full::new(message.body.clone()))
        .map_err(|error| SendError::Broken(error.to_string()))?;
    request.headers_mut().extend(message.headers.clone());
    Ok(request)
}

/// Takes the answer, reads what comes with it, and keeps the connection if that came to an end.
async fn finish(
    kept: &mut Kept,
    endpoint: &Endpoint,
    connection: SendRequest<Full<Bytes>>,
    response: Response<Incoming>,
) -> Result<Answer, SendError> {
    let (head, body) = response.into_parts();
    let retry_after = retry_after(&head.headers, Timestamp::now());
    let answer = Answer { status: head.status.as_u16(), retry_after };
    // The status says it all. A body that is endless, too slow or broken costs the connection only.
    let read = timeout(Duration::from_secs(1), Limited::new(body, MAX_ANSWER).collect()).await;
    if matches!(read, Ok(Ok(_))) {
        kept.0 = Some((endpoint.clone(), connection, Instant::now()));
    }
    Ok(answer)
}

#[cfg(test)]
mod tests;
