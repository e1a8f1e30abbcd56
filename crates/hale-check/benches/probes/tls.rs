//! The server of the TLS probes: full handshakes, one fixed answer, kept connections.
//!
//! It speaks with its starter as `benches/probe_server.c` does: it prints its port, and on a `c` how many requests
//! came. No session is resumed and no ticket given, so that every prober shakes hands in full.

use std::{
    io::Read,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rustls::{ServerConfig, crypto::ring, server::NoServerSessionStorage};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n";

/// Serves until its input ends.
pub(crate) fn serve() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let requests = Arc::new(AtomicU64::new(0));
    let listener = listener();
    println!("{}", listener.local_addr().unwrap().as_socket().unwrap().port());
    runtime.spawn(accept(listener.into(), Arc::clone(&requests)));
    let mut word = [0];
    while std::io::stdin().read(&mut word).is_ok_and(|it| it > 0) {
        if word[0] == b'c' {
            println!("{}", requests.load(Ordering::Relaxed));
        }
    }
    // Connections that are still open must not keep it.
    std::process::exit(0);
}

/// At every address of loopback, and at no other.
fn listener() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind_device(Some(b"lo")).unwrap();
    socket.bind(&std::net::SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into()).unwrap();
    socket.listen(4096).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

async fn accept(listener: std::net::TcpListener, requests: Arc<AtomicU64>) {
    let listener = TcpListener::from_std(listener).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config()));
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(acceptor.clone(), stream, Arc::clone(&requests)));
        }
    }
}

/// Answers what is asked on a connection until it ends. One read is one request: they are small.
async fn answer(acceptor: TlsAcceptor, stream: TcpStream, requests: Arc<AtomicU64>) {
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).await.is_ok_and(|it| it > 0) {
        requests.fetch_add(1, Ordering::Relaxed);
        if stream.write_all(ANSWER).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

fn config() -> ServerConfig {
    let key = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], der)
        .unwrap();
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config
}
