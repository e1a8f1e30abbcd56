//! TLS: REST and gRPC on one port, certificates that change, certificates of clients.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use hale_api::{Client, ClientError, ClientTls};
use hale_server::{Limits, Listeners, Tls, TlsFiles};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::hale::{Hale, TOKEN, raw};

/// A certificate authority, with files.
struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: tempfile::TempDir,
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, dir }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A certificate for this machine and its key, written there.
    fn issue(&self, to: &Path) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let files = (to.join("tls.pem"), to.join("tls.key"));
        std::fs::write(&files.0, cert.pem()).unwrap();
        std::fs::write(&files.1, key.serialize_pem()).unwrap();
        files
    }

    fn trusted(&self) -> ClientTls {
        ClientTls { ca_file: Some(self.file()), identity: None }
    }
}

/// The API over TLS beside the one in the open that [`Hale`] is.
struct Secure {
    hale: Hale,
    address: SocketAddr,
    end: CancellationToken,
}

impl Secure {
    async fn start(tls: Tls) -> Self {
        let hale = Hale::start().await;
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let (_, health) = tonic_health::server::health_reporter();
        let router = hale_server::with_grpc(hale.router(), tonic::service::Routes::new(health));
        let end = CancellationToken::new();
        let listeners = Listeners { tcp: Some(tcp), tls: Some(tls), socket: None };
        tokio::spawn(hale_server::serve(router, listeners, Limits::default(), end.clone()));
        Self { hale, address, end }
    }

    fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    async fn ask(&self, tls: &ClientTls) -> Result<(), ClientError> {
        Client::remote_with(&self.url(), TOKEN, tls)?.overview().await.map(drop)
    }

    async fn stop(self) {
        self.end.cancel();
        self.hale.stop().await;
    }
}

fn load(files: &(PathBuf, PathBuf), client_ca: Option<PathBuf>) -> Tls {
    Tls::load(TlsFiles { cert: files.0.clone(), key: files.1.clone(), client_ca }).unwrap()
}

#[tokio::test]
async fn rest_and_grpc_are_spoken_on_one_port_to_who_trusts_the_certificate() {
    let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
    let secure = Secure::start(load(&ca.issue(dir.path()), None)).await;
    secure.ask(&ca.trusted()).await.unwrap();

    let channel = hale_api::channel(&secure.url(), &ca.trusted()).unwrap();
    let mut health = HealthClient::new(channel);
    let answer = health.check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(answer.into_inner().status, 1);

    let stranger = Ca::new();
    let error = secure.ask(&stranger.trusted()).await.unwrap_err();
    assert!(matches!(&error, ClientError::Unreachable(it) if it.contains("--ca-file")), "{error}");
    let readable = raw(secure.address, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let answer = tokio::time::timeout(Duration::from_secs(20), readable).await.unwrap();
    assert!(!answer.contains("200 OK"), "{answer}");
    secure.stop().await;
}

#[tokio::test]
async fn grpc_goes_over_readable_http_too() {
    let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
    let secure = Secure::start(load(&ca.issue(dir.path()), None)).await;
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let (_, health) = tonic_health::server::health_reporter();
    let router = hale_server::with_grpc(secure.hale.router(), tonic::service::Routes::new(health));
    let listeners = Listeners { tcp: Some(tcp), ..Listeners::default() };
    tokio::spawn(hale_server::serve(router, listeners, Limits::default(), secure.end.clone()));
    let url = format!("http://{address}");
    let mut health = HealthClient::new(hale_api::channel(&url, &ClientTls::default()).unwrap());
    assert!(health.check(HealthCheckRequest::default()).await.is_ok());
    assert!(Client::remote(&url, TOKEN).unwrap().overview().await.is_ok());
    secure.stop().await;
}

#[tokio::test]
async fn a_certificate_that_changes_is_read_again_and_a_broken_one_is_not_taken() {
    let (first, second, dir) = (Ca::new(), Ca::new(), tempfile::tempdir().unwrap());
    let files = first.issue(dir.path());
    let tls = load(&files, None);
    let secure = Secure::start(tls.clone()).await;
    let end = secure.end.clone();
    let follower = tls.clone();
    tokio::spawn(async move { follower.follow(end).await });
    secure.ask(&first.trusted()).await.unwrap();

    std::fs::write(&files.1, "no key").unwrap();
    assert!(tls.reload().unwrap_err().to_string().contains("tls.key"));
    secure.ask(&first.trusted()).await.unwrap();

    second.issue(dir.path());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while let Err(error) = secure.ask(&second.trusted()).await {
        assert!(tokio::time::Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(secure.ask(&first.trusted()).await.is_err());
    assert!(!tls.reload().unwrap(), "nothing has changed since");
    secure.stop().await;
}

#[tokio::test]
async fn with_an_authority_for_clients_only_who_has_its_certificate_gets_in() {
    let (ca, clients, dir) = (Ca::new(), Ca::new(), tempfile::tempdir().unwrap());
    let secure = Secure::start(load(&ca.issue(dir.path()), Some(clients.file()))).await;
    assert!(matches!(secure.ask(&ca.trusted()).await, Err(ClientError::Unreachable(_))));
    let shown = |by: &Ca| {
        let identity = Some(by.issue(by.dir.path()));
        ClientTls { identity, ..ca.trusted() }
    };
    assert!(secure.ask(&shown(&ca)).await.is_err(), "a certificate of another authority");
    secure.ask(&shown(&clients)).await.unwrap();
    secure.stop().await;
}
