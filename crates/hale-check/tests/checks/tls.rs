//! Whom TLS checks trust (H7).

use std::{io::Write, net::SocketAddr, path::PathBuf, sync::Arc};

use hale_check::{Checker, Subject};
use hale_health::Reason;
use hale_model::spec::{Check, HttpGet};
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::{ServerConfig, ServerConnection, StreamOwned, crypto::ring};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::support::{AMPLE, SOON, Server, at, both, failed, get, hang, http, ok, succeeded};

/// A certificate authority, in a file too.
pub(crate) struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// What a server with a certificate for this name is set up with.
    pub(crate) fn config(&self, name: &str, expired: bool) -> ServerConfig {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if expired {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        }
        self.config_of(params)
    }

    /// The same for a certificate of one's own making.
    pub(crate) fn config_of(&self, params: CertificateParams) -> ServerConfig {
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap()
    }

    /// An HTTPS server with a certificate for this name.
    pub(crate) fn server(&self, name: &str, expired: bool) -> Server {
        serving(self.config(name, expired))
    }
}

/// An HTTPS server that is set up so.
pub(crate) fn serving(config: ServerConfig) -> Server {
    let config = Arc::new(config);
    Server::new(move |stream, _| {
        let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream);
        loop {
            let mut read = Vec::new();
            let mut byte = [0];
            while !read.ends_with(b"\r\n\r\n") {
                match std::io::Read::read(&mut stream, &mut byte) {
                    Ok(1) => read.push(byte[0]),
                    _ => return,
                }
            }
            let _ = stream.write_all(ok("secret").as_bytes());
        }
    })
}

fn https(address: SocketAddr) -> HttpGet {
    HttpGet { tls: true, ..get(address) }
}

#[tokio::test]
async fn a_replicas_own_address_is_not_verified() {
    let server = Ca::new().server("somewhere.example", true);
    let result = both(http(https(server.address), server.address), AMPLE).await;
    succeeded(&result);
    assert!(result.timings.tls.is_some());
}

#[tokio::test]
async fn anything_else_is_verified_against_the_system() {
    let server = Ca::new().server("127.0.0.1", false);
    let spec = HttpGet { host: Some("127.0.0.1".into()), ..https(server.address) };
    let compile =
        |spec: &HttpGet| Checker::compile(&Check::HttpGet(spec.clone()), &Subject::default()).unwrap();
    let result = both(compile(&spec), AMPLE).await;
    // A machine without any trusted certificate can't verify: that is the prober's error, and says so.
    match result.reason() {
        Some(Reason::CertificateUntrusted) => {
            failed(&result, Reason::CertificateUntrusted, &["invalid peer certificate"]);
        }
        _ => failed(&result, Reason::ProberError, &["no trusted certificates"]),
    }
    let spec = HttpGet { tls_insecure_skip_verify: Some(true), ..spec };
    succeeded(&both(compile(&spec), AMPLE).await);
}

#[tokio::test]
async fn with_a_ca_file_the_own_address_is_verified_too() {
    let ca = Ca::new();
    let good = ca.server("127.0.0.1", false);
    let trusting = |server: &Server, name: Option<&str>, ca: &Ca| {
        let tls_server_name = name.map(Into::into);
        let spec = HttpGet { ca_file: Some(ca.file()), tls_server_name, ..https(server.address) };
        http(spec, server.address)
    };
    succeeded(&both(trusting(&good, None, &ca), AMPLE).await);
    failed(
        &both(trusting(&good, None, &Ca::new()), AMPLE).await,
        Reason::CertificateUntrusted,
        &["invalid peer certificate"],
    );
    failed(
        &both(trusting(&good, Some("other.example"), &ca), AMPLE).await,
        Reason::CertificateName,
        &["not valid for name"],
    );
    let named = ca.server("db.example", false);
    succeeded(&both(trusting(&named, Some("db.example"), &ca), AMPLE).await);
    failed(&both(trusting(&named, None, &ca), AMPLE).await, Reason::CertificateName, &["not valid for name"]);
    let expired = ca.server("127.0.0.1", true);
    failed(&both(trusting(&expired, None, &ca), AMPLE).await, Reason::CertificateExpired, &["expired"]);
}

#[tokio::test]
async fn a_ca_file_that_is_missing_is_the_probers_error_and_one_that_comes_is_read() {
    let ca = Ca::new();
    let server = ca.server("127.0.0.1", false);
    let later = ca.folder.path().join("later.pem");
    let checker = http(HttpGet { ca_file: Some(later.clone()), ..https(server.address) }, server.address);
    failed(&checker.run(AMPLE).await, Reason::ProberError, &["later.pem"]);
    std::fs::write(&later, "no certificate").unwrap();
    failed(&checker.run(AMPLE).await, Reason::ProberError, &["no certificate"]);
    std::fs::copy(ca.file(), &later).unwrap();
    succeeded(&checker.run(AMPLE).await);
}

#[tokio::test]
async fn plain_http_and_silence_behind_a_tls_check_are_told_apart() {
    let server = Server::new(|mut stream, _| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        hang(&mut stream);
    });
    failed(&both(http(https(server.address), server.address), AMPLE).await, Reason::Tls, &["handshake"]);
    let server = Server::new(|mut stream, _| hang(&mut stream));
    failed(
        &both(http(https(server.address), server.address), SOON).await,
        Reason::Timeout,
        &["TLS handshake"],
    );
    let server = Server::new(|stream, _| drop(stream));
    failed(&both(http(https(server.address), server.address), AMPLE).await, Reason::ConnectionReset, &[]);
}

#[tokio::test]
async fn a_tls_connection_is_kept_when_asked_to() {
    let server = Ca::new().server("any.example", false);
    let spec = HttpGet { keep_alive: true, ..https(server.address) };
    let checker = Checker::compile(&Check::HttpGet(spec), &at(server.address)).unwrap();
    for _ in 0..3 {
        succeeded(&checker.run(AMPLE).await);
    }
    assert_eq!(server.accepted(), 1);
}
