//! Looking at the certificates that a server shows, and judging them apart from the handshake.

use std::path::PathBuf;

use hale_health::Reason;
use rustls::{
    ClientConnection,
    client::{verify_server_cert_signed_by_trust_anchor, verify_server_name},
    crypto::ring,
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::net::TcpStream;

use super::{Alpn, Trust, any, reason, shake_hands};
use crate::{
    CompileError,
    net::Trace,
    result::Fault,
    seen::{TlsSeen, certificate},
    subject::Place,
};

/// What a server showed.
#[derive(Debug)]
pub(crate) struct Inspected {
    pub(crate) seen: TlsSeen,
    chain: Vec<CertificateDer<'static>>,
}

/// What was seen of a handshake.
pub(super) fn seen(connection: &ClientConnection) -> TlsSeen {
    let version = match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3",
        _ => "",
    };
    let chain = connection.peer_certificates().unwrap_or_default();
    TlsSeen { version, chain: chain.iter().filter_map(certificate).collect() }
}

impl Trust {
    /// Whom a `tls` check trusts: a file's certificates or the system's.
    pub(crate) fn inspecting(ca_file: Option<PathBuf>, name: Option<&str>) -> Result<Self, CompileError> {
        Self::new(ca_file, name, Some(false), false, Alpn::Unsaid)
    }

    /// Shakes hands, whatever the certificates are.
    pub(crate) async fn inspect(
        &self,
        stream: TcpStream,
        place: &Place,
        trace: &mut Trace,
    ) -> Result<Inspected, Fault> {
        let stream = shake_hands(any(Alpn::Unsaid)?, self.server_name(place)?, stream, place, trace).await?;
        let connection = stream.get_ref().1;
        let chain = connection.peer_certificates().unwrap_or_default();
        let chain = chain.iter().map(|it| it.clone().into_owned()).collect();
        Ok(Inspected { seen: seen(connection), chain })
    }

    /// Judges what was shown: the chain, and the name.
    pub(crate) fn verify(
        &self,
        inspected: &Inspected,
        place: &Place,
        chain: bool,
        name: bool,
    ) -> Result<(), Fault> {
        if !chain && !name {
            return Ok(());
        }
        let Some((own, intermediates)) = inspected.chain.split_first() else {
            return Err(Fault::new(Reason::Tls, format!("{place} showed no certificate")));
        };
        let refused = |error: rustls::Error| {
            Fault::new(reason(&error), format!("the certificate of {place} is not accepted: {error}"))
        };
        let own = ParsedCertificate::try_from(own).map_err(refused)?;
        if chain {
            let roots = self.trusted()?.roots;
            let algorithms = ring::default_provider().signature_verification_algorithms;
            let now = UnixTime::now();
            verify_server_cert_signed_by_trust_anchor(&own, &roots, intermediates, now, algorithms.all)
                .map_err(refused)?;
        }
        if name { verify_server_name(&own, &self.server_name(place)?).map_err(refused) } else { Ok(()) }
    }
}
