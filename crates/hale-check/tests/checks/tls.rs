//! Whom TLS checks trust (H7).

use std::{io::Write, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use hale_check::{Checker, Subject};
use hale_health::Reason;
use hale_model::spec::{Check, HttpGet};
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::{ServerConfig, ServerConnection, StreamOwned, crypto::ring, server::WebPkiClientVerifier};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::{
    engine::{engine, every, next, options},
    support::{AMPLE, SOON, Server, at, both, failed, get, hang, http, ok, succeeded},
};

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

    /// The same, and it wants a certificate of whoever asks.
    fn demanding(&self, name: &str) -> ServerConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let key = KeyPair::generate().unwrap();
        let cert =
            CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(
                vec![cert.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
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

#[tokio::test]
async fn the_engine_keeps_a_tls_connection_on_which_tickets_come_in() {
    let server = Ca::new().server("any.example", false);
    let spec = HttpGet { keep_alive: true, ..https(server.address) };
    let checker = Arc::new(http(spec, server.address));
    let (engine, mut results) = engine(&options());
    let _probe = engine.register(every(Duration::from_millis(10), &checker));
    let first = next(&mut results).await.result;
    assert!(first.timings.connect.is_some() && first.timings.tls.is_some(), "{first:?}");
    for _ in 0..5 {
        let result = next(&mut results).await.result;
        succeeded(&result);
        assert!(result.timings.connect.is_none() && result.timings.tls.is_none(), "{result:?}");
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn a_kept_tls_connection_closed_by_the_peer_costs_no_failure() {
    let config = Arc::new(Ca::new().config("any.example", false));
    // Takes the third request of each connection and closes.
    let server = Server::new(move |stream, _| {
        let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream);
        let mut buffer = [0; 4096];
        for _ in 0..2 {
            if !std::io::Read::read(&mut stream, &mut buffer).is_ok_and(|it| it > 0) {
                return;
            }
            let _ = stream.write_all(ok("").as_bytes());
        }
        let _ = std::io::Read::read(&mut stream, &mut buffer);
    });
    let checker = Arc::new(http(HttpGet { keep_alive: true, ..https(server.address) }, server.address));
    let (engine, mut results) = engine(&options());
    let _probe = engine.register(every(Duration::from_millis(10), &checker));
    for _ in 0..9 {
        succeeded(&next(&mut results).await.result);
    }
    assert!((4..=6).contains(&server.accepted()), "{}", server.accepted());
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_of_the_prober_is_a_failure_of_tls() {
    let server = serving(Ca::new().demanding("any.example"));
    let alone = http(https(server.address), server.address).run(AMPLE).await;
    // Its refusal may be overtaken by its hanging up.
    assert!(matches!(alone.reason(), Some(Reason::Tls | Reason::ConnectionReset)), "{alone:?}");
    let checker = Arc::new(http(https(server.address), server.address));
    let engine = crate::engine::once(checker, AMPLE).await;
    assert!(matches!(engine.reason(), Some(Reason::Tls | Reason::ConnectionReset)), "{engine:?}");
}
