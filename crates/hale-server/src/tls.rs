//! TLS of the API (S25): certificate, key and the authority of client certificates from files, read again when they
//! change or when somebody says so (SIGHUP).
//!
//! New connections get what was read last; what can't be used (a certificate without its key, a file half written) is
//! said once and what was there before stays in use.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    server::{NoClientAuth, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How often files are looked at for a change.
const LOOK: Duration = Duration::from_secs(2);

/// Where certificates are.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate and those between it and its authority, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// When given, only who has a certificate of one of these authorities is let in, PEM.
    pub client_ca: Option<PathBuf>,
}

/// Why TLS can't be spoken with these files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read, or holds nothing of its kind.
    #[error("{path}: {why}")]
    File {
        /// Which.
        path: String,
        /// Why.
        why: String,
    },
    /// They don't go together.
    #[error("{cert} and {key} can't be used: {why}")]
    Together {
        /// The certificate's file.
        cert: String,
        /// The key's file.
        key: String,
        /// Why.
        why: String,
    },
}

/// What new connections are met with. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Tls(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    files: TlsFiles,
    config: RwLock<(Contents, Arc<ServerConfig>)>,
}

/// What stood in the files.
type Contents = [Vec<u8>; 3];

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// When they can't be used.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let config = read(&files)?;
        Ok(Self(Arc::new(Shared { files, config: RwLock::new(config) })))
    }

    /// Reads the files again; whether anything has changed.
    ///
    /// # Errors
    /// When they can't be used; what was there before stays in use.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let new = read(&self.0.files)?;
        let mut config = self.0.config.write().unwrap_or_else(PoisonError::into_inner);
        let changed = config.0 != new.0;
        if changed {
            *config = new;
        }
        Ok(changed)
    }

    /// What the next connection is met with.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.config.read().unwrap_or_else(PoisonError::into_inner).1)
    }

    /// Reads the files again whenever they change, and on SIGHUP, until `end`.
    ///
    /// # Errors
    /// When the system does not let us hear signals.
    pub async fn follow(&self, end: CancellationToken) -> io::Result<()> {
        let mut hangups = signal(SignalKind::hangup())?;
        let mut said = None;
        loop {
            tokio::select! {
                _ = hangups.recv() => said = None,
                () = tokio::time::sleep(LOOK) => {}
                () = end.cancelled() => return Ok(()),
            }
            let tls = self.clone();
            let read = tokio::task::spawn_blocking(move || tls.reload()).await;
            match read {
                Ok(Ok(changed)) => {
                    if changed {
                        tracing::info!(cert = %self.0.files.cert.display(), "certificates were read again");
                    }
                    said = None;
                }
                Ok(Err(error)) => {
                    let text = error.to_string();
                    if said.as_ref() != Some(&text) {
                        tracing::error!(
                            error = text,
                            "certificates can't be read again: those before stay in use"
                        );
                        said = Some(text);
                    }
                }
                Err(error) => tracing::error!(%error, "reading certificates broke off"),
            }
        }
    }
}

fn read(files: &TlsFiles) -> Result<(Contents, Arc<ServerConfig>), TlsError> {
    let cert = contents(&files.cert)?;
    let key = contents(&files.key)?;
    let client_ca = files.client_ca.as_deref().map(contents).transpose()?.unwrap_or_default();
    let wrong = |path: &Path, why: String| TlsError::File { path: path.display().to_string(), why };
    let chain = certificates(&files.cert, &cert)?;
    let private = PrivateKeyDer::from_pem_slice(&key)
        .map_err(|error| wrong(&files.key, format!("no private key in PEM form: {error}")))?;
    let provider = Arc::new(ring::default_provider());
    let verifier: Arc<dyn ClientCertVerifier> = match &files.client_ca {
        None => Arc::new(NoClientAuth),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path, &client_ca)? {
                roots.add(certificate).map_err(|error| wrong(path, error.to_string()))?;
            }
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|error| wrong(path, error.to_string()))?
        }
    };
    let together = |error: rustls::Error| TlsError::Together {
        cert: files.cert.display().to_string(),
        key: files.key.display().to_string(),
        why: error.to_string(),
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(together)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, private)
        .map_err(together)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(([cert, key, client_ca], Arc::new(config)))
}

fn contents(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path)
        .map_err(|error| TlsError::File { path: path.display().to_string(), why: error.to_string() })
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |why: String| TlsError::File { path: path.display().to_string(), why };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(wrong("no certificate in PEM form".to_owned())),
        Ok(found) => Ok(found),
        Err(error) => Err(wrong(format!("no certificate in PEM form: {error}"))),
    }
}

/// Whether the API may be served on an address: off this machine only with TLS, or when somebody says that it is
/// meant (S25).
///
/// # Errors
/// What to do about it.
pub fn may_listen(address: SocketAddr, tls: bool, insecure_http: bool) -> Result<(), String> {
    if address.ip().is_loopback() || tls || insecure_http {
        return Ok(());
    }
    Err(format!(
        "{address} can be reached from elsewhere, where tokens would travel readable: give --tls-cert and --tls-key, \
         or say --insecure-http if something in front of hale speaks TLS"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_others_reach_needs_tls_or_somebodys_word() {
        let public: SocketAddr = "0.0.0.0:7450".parse().unwrap();
        assert!(may_listen(public, false, false).unwrap_err().contains("--insecure-http"));
        assert!(may_listen(public, true, false).is_ok() && may_listen(public, false, true).is_ok());
        assert!(may_listen("[::1]:1".parse().unwrap(), false, false).is_ok());
        assert!(may_listen("127.0.0.9:1".parse().unwrap(), false, false).is_ok());
    }
}
