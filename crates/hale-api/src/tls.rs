//! TLS of whoever asks: what is trusted, and what is shown.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::ClientError;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);

/// What is trusted, and what is shown. By default the authorities of the system are, and nothing is shown.
#[derive(Debug, Clone, Default)]
pub struct ClientTls {
    /// Authorities to trust in place of the system's, PEM.
    pub ca_file: Option<PathBuf>,
    /// A certificate to show, with its key, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl ClientTls {
    /// Reads the files: what they hold now.
    ///
    /// # Errors
    /// [`ClientError::Protocol`] when they can't be used.
    pub(crate) fn config(&self, protocol: &[u8]) -> Result<Arc<ClientConfig>, ClientError> {
        let mut roots = RootCertStore::empty();
        match &self.ca_file {
            Some(path) => {
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|error| unusable(path, error))?;
                }
            }
            None => {
                // What of the system's can't be read is not trusted: the connection says so then.
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let failed = |error: rustls::Error| ClientError::Protocol(format!("TLS can't be spoken: {error}"));
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let pem = fs::read(key).map_err(|error| unusable(key, error))?;
                let private = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| unusable(key, error))?;
                builder
                    .with_client_auth_cert(certificates(cert)?, private)
                    .map_err(|error| unusable(cert, error))?
            }
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(Arc::new(config))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let pem = fs::read(path).map_err(|error| unusable(path, error))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(unusable(path, "no certificate in PEM form")),
    }
}

fn unusable(path: &Path, why: impl std::fmt::Display) -> ClientError {
    ClientError::Protocol(format!("{} can't be used: {why}", path.display()))
}

/// A URL taken apart: whether it is TLS, and host and port.
pub(crate) fn take_apart(url: &str) -> Result<(bool, String), ClientError> {
    let bad = |why: &str| {
        ClientError::Protocol(format!(
            "{url}: {why}; a URL like https://hale.example:7450 or http://127.0.0.1:7450 is needed"
        ))
    };
    let uri: Uri = url.parse().map_err(|_| bad("not a URL"))?;
    let tls = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(bad("only http and https are spoken")),
    };
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(bad("nothing can stand behind the port"));
    }
    let authority = uri.authority().ok_or_else(|| bad("no host"))?;
    let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
    Ok((tls, format!("{}:{port}", authority.host())))
}

/// Connects, and speaks TLS.
pub(crate) async fn connect(
    authority: &str,
    config: Arc<ClientConfig>,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).map_err(invalid)?;
    let stream = TcpStream::connect(authority).await?;
    // Small messages at once; a failure costs only that.
    let _late = stream.set_nodelay(true);
    TlsConnector::from(config).connect(name, stream).await
}

/// A channel for gRPC to the hale at a URL; connects by itself when it is used, and again when the connection is lost.
/// The files of `tls` are read with each connection.
///
/// # Errors
/// [`ClientError::Protocol`] when the URL is none, or the files can't be used now.
pub fn channel(url: &str, tls: &ClientTls) -> Result<Channel, ClientError> {
    let (secure, authority) = take_apart(url)?;
    let bad = |error: tonic::transport::Error| ClientError::Protocol(format!("{url}: {error}"));
    let endpoint = Endpoint::from_shared(format!("http://{authority}"))
        .map_err(bad)?
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    if !secure {
        return Ok(endpoint.connect_lazy());
    }
    tls.config(b"h2")?;
    let tls = tls.clone();
    let origin: Uri = format!("https://{authority}")
        .parse()
        .map_err(|_| ClientError::Protocol(format!("{url}: not a URL")))?;
    Ok(endpoint.origin(origin).connect_with_connector_lazy(service_fn(move |_: Uri| {
        let (tls, authority) = (tls.clone(), authority.clone());
        async move {
            let config = tls.config(b"h2").map_err(io::Error::other)?;
            let late = || io::Error::new(io::ErrorKind::TimedOut, "no TLS in time");
            let mut stream = timeout(CONNECT, connect(&authority, config)).await.map_err(|_| late())??;
            if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                // Something else than hale: said here rather than by a broken frame.
                let _closed = stream.shutdown().await;
                return Err(io::Error::other("the other side does not speak HTTP/2"));
            }
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_whether_tls_is_spoken_and_where() {
        assert_eq!(take_apart("https://hale.example").unwrap(), (true, "hale.example:443".to_owned()));
        assert_eq!(take_apart("http://[::1]:7450/").unwrap(), (false, "[::1]:7450".to_owned()));
        for wrong in ["hale", "ftp://x", "http://", "http://h/x", "http://h/?q=1"] {
            assert!(take_apart(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn files_that_hold_no_certificate_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        fs::write(&file, "nothing").unwrap();
        let tls = ClientTls { ca_file: Some(file.clone()), identity: None };
        let error = tls.config(b"h2").unwrap_err().to_string();
        assert!(error.contains(&file.display().to_string()), "{error}");
    }
}
