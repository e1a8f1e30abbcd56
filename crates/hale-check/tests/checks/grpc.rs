//! `grpc` (H8) against a real server.

use std::{net::SocketAddr, sync::Arc};

use hale_check::{Checker, Subject};
use hale_health::Reason;
use hale_model::spec::{Check, Grpc, PortRef};
use tokio::{net::TcpListener, task::JoinHandle};
use tonic_health::ServingStatus;

use crate::{
    support::{AMPLE, SOON, Server, at, both, failed, hang, ok, succeeded},
    tls::Ca,
};

fn grpc(address: SocketAddr, service: &str) -> Checker {
    let spec = Grpc {
        host: None,
        port: PortRef::Number(address.port()),
        service: service.into(),
        tls: false,
        ca_file: None,
        tls_server_name: None,
        tls_insecure_skip_verify: None,
    };
    Checker::compile(&Check::Grpc(spec), &at(address)).expect("a good check")
}

/// The health server of tonic, with three services.
async fn health_server() -> (SocketAddr, JoinHandle<()>) {
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("good", ServingStatus::Serving).await;
    reporter.set_service_status("bad", ServingStatus::NotServing).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let server = tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming);
    (address, tokio::spawn(async move { server.await.unwrap() }))
}

#[tokio::test]
async fn serving_is_success_and_nothing_else_is() {
    let (address, server) = health_server().await;
    let result = both(grpc(address, "good"), AMPLE).await;
    succeeded(&result);
    assert!(result.timings.connect.is_some() && result.timings.first_byte.is_some());
    succeeded(&both(grpc(address, ""), AMPLE).await);
    failed(&both(grpc(address, "bad"), AMPLE).await, Reason::NotServing, &["NOT_SERVING", "bad"]);
    failed(&both(grpc(address, "unheard-of"), AMPLE).await, Reason::UnknownService, &["unheard-of"]);
    server.abort();
}

/// Takes TLS off and passes the rest on to the server behind.
async fn behind_tls(config: rustls::ServerConfig, server: SocketAddr) -> (SocketAddr, JoinHandle<()>) {
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut outside) = acceptor.accept(stream).await else { return };
                let mut inside = tokio::net::TcpStream::connect(server).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
            });
        }
    });
    (address, task)
}

#[tokio::test]
async fn grpc_over_tls_follows_the_same_rules_of_trust() {
    let (server, task) = health_server().await;
    let ca = Ca::new();
    let mut config = ca.config("127.0.0.1", false);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (address, proxy) = behind_tls(config, server).await;
    let check = |ca_file| {
        let spec = Grpc {
            host: None,
            port: PortRef::Number(address.port()),
            service: "good".into(),
            tls: true,
            ca_file,
            tls_server_name: None,
            tls_insecure_skip_verify: None,
        };
        Checker::compile(&Check::Grpc(spec), &at(address)).expect("a good check")
    };
    let result = both(check(None), AMPLE).await;
    succeeded(&result);
    assert!(result.timings.tls.is_some());
    succeeded(&both(check(Some(ca.file())), AMPLE).await);
    failed(&both(check(Some(Ca::new().file())), AMPLE).await, Reason::CertificateUntrusted, &["certificate"]);
    // Without TLS at a server that wants it.
    let plain = grpc(address, "good").run(AMPLE).await;
    assert!(matches!(plain.reason(), Some(Reason::Protocol | Reason::ConnectionReset)), "{plain:?}");
    proxy.abort();
    task.abort();
}

#[tokio::test]
async fn a_server_that_is_not_grpc_or_hangs_or_closes_is_told_apart() {
    let server = Server::answering(ok("hello"));
    let result = grpc(server.address, "").run(AMPLE).await;
    assert!(matches!(result.reason(), Some(Reason::Protocol | Reason::ConnectionReset)), "{result:?}");
    let server = Server::new(|mut stream, _| hang(&mut stream));
    failed(&both(grpc(server.address, ""), SOON).await, Reason::Timeout, &["no answer"]);
    let server = Server::new(|stream, _| drop(stream));
    failed(&grpc(server.address, "").run(AMPLE).await, Reason::ConnectionReset, &[]);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    failed(&both(grpc(free, ""), AMPLE).await, Reason::ConnectionRefused, &[]);
    let checker = Checker::compile(
        &Check::Grpc(Grpc {
            host: None,
            port: PortRef::Number(1),
            service: String::new(),
            tls: false,
            ca_file: None,
            tls_server_name: None,
            tls_insecure_skip_verify: None,
        }),
        &Subject::default(),
    );
    failed(&checker.unwrap().run(AMPLE).await, Reason::ProberError, &["no address yet"]);
}
