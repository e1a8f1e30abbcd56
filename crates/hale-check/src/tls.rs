//! TLS of a check, and whom it trusts (H7): a replica's own address is not verified, as in Kubernetes, unless a CA
//! file or a server name is set; everything else is, against the system's certificates, unless told not to.

mod inspect;

use std::{
    fs, io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    task::{Context, Poll},
    time::{Instant, SystemTime},
};

use hale_health::Reason;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

pub(crate) use self::inspect::Inspected;

use crate::{
    CompileError,
    net::{self, Stage, Trace},
    result::Fault,
    subject::{Host, Place},
};

/// What is spoken inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alpn {
    Http1,
    H2,
    /// Nothing is said: whatever the server speaks.
    Unsaid,
}

impl Alpn {
    fn names(self) -> Vec<Vec<u8>> {
        match self {
            Self::Http1 => vec![b"http/1.1".to_vec()],
            Self::H2 => vec![b"h2".to_vec()],
            Self::Unsaid => Vec::new(),
        }
    }
}

/// Whom a check trusts.
#[derive(Debug)]
pub(crate) struct Trust {
    alpn: Alpn,
    anchors: Anchors,
    /// The name to ask for and to verify, where it is not the host's.
    name: Option<ServerName<'static>>,
}

#[derive(Debug)]
enum Anchors {
    /// Any certificate will do.
    Any,
    /// The system's certificates.
    System,
    /// Those of a file, read again when it changes.
    File { path: PathBuf, read: Mutex<Option<(Stamp, Trusted)>> },
}

/// Roots of trust, and what is set up with them.
#[derive(Debug, Clone)]
struct Trusted {
    roots: Arc<RootCertStore>,
    config: Arc<ClientConfig>,
}

/// The system's certificates, once they were needed.
static SYSTEM: [OnceLock<Trusted>; 3] = [const { OnceLock::new() }; 3];

/// Tells whether a file has changed.
type Stamp = (Option<SystemTime>, u64);

impl Trust {
    /// The rules of H7.
    pub(crate) fn new(
        ca_file: Option<PathBuf>,
        name: Option<&str>,
        skip_verify: Option<bool>,
        own: bool,
        alpn: Alpn,
    ) -> Result<Self, CompileError> {
        let skip = skip_verify.unwrap_or(own && ca_file.is_none() && name.is_none());
        let anchors = match ca_file {
            _ if skip => Anchors::Any,
            Some(path) => Anchors::File { path, read: Mutex::new(None) },
            None => Anchors::System,
        };
        let name = name
            .map(|name| ServerName::try_from(name.to_owned()).map_err(|_| CompileError::Host(name.into())))
            .transpose()?;
        Ok(Self { alpn, anchors, name })
    }

    /// Where a check says nothing of its own: any certificate for the replica's own address, else the system's.
    pub(crate) const fn usual(own: bool, alpn: Alpn) -> Self {
        Self { alpn, anchors: if own { Anchors::Any } else { Anchors::System }, name: None }
    }

    /// Shakes hands over a connection.
    pub(crate) async fn handshake(
        &self,
        stream: TcpStream,
        place: &Place,
        trace: &mut Trace,
    ) -> Result<Stream, Fault> {
        let stream = shake_hands(self.config()?, self.server_name(place)?, stream, place, trace).await?;
        if let Some(seen) = trace.seen.as_deref_mut() {
            seen.tls = Some(inspect::seen(stream.get_ref().1));
        }
        Ok(Stream::Tls(Box::new(stream)))
    }

    /// What a connection is set up with, where nothing needs to be read for it. The system's certificates are read by
    /// the first check that needs them, a file's by every check, to see whether it has changed.
    pub(crate) fn ready(&self) -> Option<Arc<ClientConfig>> {
        match &self.anchors {
            Anchors::Any => any(self.alpn).ok(),
            Anchors::System => Some(Arc::clone(&SYSTEM[self.alpn as usize].get()?.config)),
            Anchors::File { .. } => None,
        }
    }

    /// The name to ask for and to verify.
    pub(crate) fn server_name(&self, place: &Place) -> Result<ServerName<'static>, Fault> {
        match (&self.name, &place.host) {
            (Some(name), _) => Ok(name.clone()),
            (None, Host::Ip(ip)) => Ok(ServerName::from(*ip)),
            (None, Host::Name(name)) => ServerName::try_from(name.to_string())
                .map_err(|_| Fault::new(Reason::Tls, format!("{name} is not a name for TLS"))),
            (None, Host::Missing) => Err(Fault::prober("the replica has no address yet")),
        }
    }

    fn config(&self) -> Result<Arc<ClientConfig>, Fault> {
        match &self.anchors {
            Anchors::Any => any(self.alpn),
            Anchors::System | Anchors::File { .. } => Ok(self.trusted()?.config),
        }
    }

    /// What is trusted; nothing is where any certificate will do.
    fn trusted(&self) -> Result<Trusted, Fault> {
        match &self.anchors {
            Anchors::Any => Ok(Trusted { roots: Arc::new(RootCertStore::empty()), config: any(self.alpn)? }),
            Anchors::System => {
                let cell = &SYSTEM[self.alpn as usize];
                if let Some(trusted) = cell.get() {
                    return Ok(trusted.clone());
                }
                let trusted = Trusted::new(system_roots()?, self.alpn)?;
                Ok(cell.get_or_init(|| trusted).clone())
            }
            Anchors::File { path, read } => {
                let stamp = stamp(path)?;
                let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((seen, trusted)) = &*read
                    && *seen == stamp
                {
                    return Ok(trusted.clone());
                }
                let trusted = Trusted::new(file_roots(path)?, self.alpn)?;
                *read = Some((stamp, trusted.clone()));
                Ok(trusted)
            }
        }
    }
}

impl Trusted {
    fn new(roots: RootCertStore, alpn: Alpn) -> Result<Self, Fault> {
        let roots = Arc::new(roots);
        Ok(Self { config: build(Some(Arc::clone(&roots)), alpn)?, roots })
    }
}

/// For any certificate.
fn any(alpn: Alpn) -> Result<Arc<ClientConfig>, Fault> {
    static ANY: [OnceLock<Arc<ClientConfig>>; 3] = [const { OnceLock::new() }; 3];
    let cell = &ANY[alpn as usize];
    if let Some(config) = cell.get() {
        return Ok(Arc::clone(config));
    }
    let config = build(None, alpn)?;
    Ok(Arc::clone(cell.get_or_init(|| config)))
}

async fn shake_hands(
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    stream: TcpStream,
    place: &Place,
    trace: &mut Trace,
) -> Result<TlsStream<TcpStream>, Fault> {
    trace.stage = Stage::Tls;
    let began = Instant::now();
    let stream =
        TlsConnector::from(config).connect(name, stream).await.map_err(|error| fault(&error, place))?;
    trace.timings.tls = Some(began.elapsed());
    Ok(stream)
}

fn build(roots: Option<Arc<RootCertStore>>, alpn: Alpn) -> Result<Arc<ClientConfig>, Fault> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Fault::prober(format!("could not set up TLS: {error}")))?;
    let mut config = match roots {
        Some(roots) => builder.with_root_certificates(roots).with_no_client_auth(),
        None => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth(),
    };
    config.alpn_protocols = alpn.names();
    // A resumed session shows no certificate: one that has expired since would go unseen.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn system_roots() -> Result<RootCertStore, Fault> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added > 0 {
        return Ok(roots);
    }
    let why = found.errors.first().map_or_else(String::new, |error| format!(" ({error})"));
    Err(Fault::prober(format!(
        "this machine has no trusted certificates{why}: install ca-certificates, or set caFile or tlsInsecureSkipVerify"
    )))
}

fn stamp(path: &Path) -> Result<Stamp, Fault> {
    let meta = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    Ok((meta.modified().ok(), meta.len()))
}

fn file_roots(path: &Path) -> Result<RootCertStore, Fault> {
    let pem = fs::read(path).map_err(|error| unreadable(path, &error))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| unreadable(path, &error))?;
        roots.add(certificate).map_err(|error| unreadable(path, &error))?;
    }
    if roots.is_empty() { Err(unreadable(path, &"it holds no certificate")) } else { Ok(roots) }
}

/// A CA file that can't be used says nothing about what is probed (H10).
fn unreadable(path: &Path, why: &dyn std::fmt::Display) -> Fault {
    Fault::prober(format!("could not read the certificates of caFile {}: {why}", path.display()))
}

fn fault(error: &io::Error, place: &Place) -> Fault {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(tls) => refused(tls, place, true),
        None if error.kind() == io::ErrorKind::UnexpectedEof => hung_up(place),
        None => net::fault(error, "shake hands over TLS with", place),
    }
}

/// What an error means on a connection that was there: it may be one of TLS, as of a server that wants a certificate.
pub(crate) fn lost(error: &io::Error, place: &Place) -> Fault {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(tls) => refused(tls, place, false),
        None => net::fault(error, "talk to", place),
    }
}

/// The peer does not speak TLS as it should, or does not want to, or is not whom we trust.
pub(crate) fn refused(error: &rustls::Error, place: &Place, shaking_hands: bool) -> Fault {
    let what = if shaking_hands { "TLS handshake" } else { "TLS" };
    let why = match error {
        // It was answered, in another protocol: mostly plain HTTP.
        rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
            "what answers does not speak TLS".to_owned()
        }
        error => error.to_string(),
    };
    Fault::new(reason(error), format!("{what} with {place} failed: {why}"))
}

/// The peer went before the handshake was over.
pub(crate) fn hung_up(place: &Place) -> Fault {
    Fault::new(Reason::ConnectionReset, format!("{place} closed the connection within the TLS handshake"))
}

/// What an error of TLS means.
fn reason(error: &rustls::Error) -> Reason {
    let rustls::Error::InvalidCertificate(error) = error else { return Reason::Tls };
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Reason::CertificateExpired,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Reason::CertificateName
        }
        CertificateError::BadEncoding => Reason::Tls,
        _ => Reason::CertificateUntrusted,
    }
}

/// Accepts any certificate. The signatures of the handshake are still checked.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A connection with or without TLS.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, into),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
