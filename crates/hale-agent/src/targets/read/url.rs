//! A list from a web server (Prometheus' HTTP service discovery).

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use hale_model::{file::parse_url, list::MAX_BYTES};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// Asks once; whoever calls bounds the time.
pub(super) async fn read(url: &str, ca_file: Option<&Path>) -> Result<Vec<u8>, String> {
    let (tls, host, port, path) = parse_url(url).map_err(|why| format!("{url} {why}"))?;
    let stream = TcpStream::connect((host.as_str(), port)).await;
    let stream = stream.map_err(|error| format!("can't connect to {host}:{port}: {error}"))?;
    if !tls {
        return ask(stream, &host, port, &path).await;
    }
    let name = ServerName::try_from(host.clone()).map_err(|_| format!("{host} is no name of a server"))?;
    let config = trust(ca_file).await?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    ask(stream.map_err(|error| format!("TLS with {host}:{port}: {error}"))?, &host, port, &path).await
}

/// Trusts the certificates of the file, or else those of the machine. They are read each time: they change.
async fn trust(ca_file: Option<&Path>) -> Result<ClientConfig, String> {
    let ca_file = ca_file.map(Path::to_path_buf);
    let read = move || -> Result<ClientConfig, String> {
        let mut roots = RootCertStore::empty();
        match &ca_file {
            Some(path) => {
                let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
                for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))? {
                    let certificate = certificate.map_err(|error| wrong(&error))?;
                    roots.add(certificate).map_err(|error| wrong(&error))?;
                }
            }
            None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|error| error.to_string())?;
        Ok(config.with_root_certificates(roots).with_no_client_auth())
    };
    tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| Err(error.to_string()))
}

async fn ask<S>(stream: S, host: &str, port: u16, path: &str) -> Result<Vec<u8>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |error: &dyn std::fmt::Display| format!("{host}:{port}: {error}");
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    // Ends with the sender.
    let driving = tokio::spawn(connection);
    let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let request = Request::get(path)
        .header(header::HOST, authority)
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, concat!("hale/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(&error))?;
    let answer = sender.send_request(request).await.map_err(|error| failed(&error));
    let read = async {
        let answer = answer?;
        if answer.status() != StatusCode::OK {
            return Err(failed(&format!("answered {}, expected 200", answer.status().as_u16())));
        }
        let body =
            Limited::new(answer.into_body(), MAX_BYTES).collect().await.map_err(|error| failed(&error))?;
        Ok(body.to_bytes().to_vec())
    };
    let read = read.await;
    driving.abort();
    read
}
