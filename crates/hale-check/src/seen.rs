//! What a check saw beside its verdict: gathered for those who look closely (`hale probe`, the multi-target endpoint),
//! not on the engine's path, where nobody would read it.

use std::net::SocketAddr;

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// What a check saw, as far as it got.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// Who was asked, the last one where it was several.
    pub peer: Option<SocketAddr>,
    /// The last HTTP answer.
    pub http: Option<HttpSeen>,
    /// The last TLS handshake.
    pub tls: Option<TlsSeen>,
    /// The name server's answer.
    pub dns: Option<DnsSeen>,
    /// What the gRPC health service said.
    pub grpc: Option<GrpcSeen>,
}

/// An HTTP answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HttpSeen {
    /// The minor version of HTTP/1 that the server speaks.
    pub minor: u8,
    /// How many redirects were followed to it.
    pub redirects: u8,
    /// The length that it declared.
    pub content_length: Option<u64>,
    /// How much of the body was read; never more than 10 KiB (H7).
    pub body_read: usize,
    /// Whether it came over TLS.
    pub tls: bool,
}

/// A TLS handshake.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsSeen {
    /// The version, as `TLS 1.3`.
    pub version: &'static str,
    /// The certificates that were shown, the server's own first. What can't be read is left out.
    pub chain: Vec<Certificate>,
}

impl TlsSeen {
    /// When the first certificate of the chain expires, in seconds since 1970 (UTC).
    #[must_use]
    pub fn earliest_expiry(&self) -> Option<i64> {
        self.chain.iter().map(|it| it.not_after).min()
    }
}

/// A certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Certificate {
    /// Whom it is for, as a distinguished name.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// The names and addresses it is valid for.
    pub names: Vec<String>,
    /// From when it is valid, in seconds since 1970 (UTC).
    pub not_before: i64,
    /// Until when it is valid, in seconds since 1970 (UTC).
    pub not_after: i64,
    /// SHA-256 of all of it, in lower-case hexadecimal digits.
    pub fingerprint: String,
}

/// A name server's answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DnsSeen {
    /// Its code, as a number.
    pub code: u16,
    /// The values of the records that were asked for, in the text form of zone files.
    pub answers: Vec<String>,
    /// Records in the answer section, of any type.
    pub answer_records: usize,
    /// Records in the authority section.
    pub authority_records: usize,
    /// Records in the additional section.
    pub additional_records: usize,
    /// The serial number of a SOA record that was asked for.
    pub serial: Option<u32>,
}

/// A gRPC answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GrpcSeen {
    /// The status of the call (0: OK).
    pub status: u32,
    /// The serving status, as its number in the protocol: 1 is SERVING.
    pub serving: Option<u64>,
}

/// Reads a certificate; `None` where it is none.
pub(crate) fn certificate(der: &CertificateDer<'_>) -> Option<Certificate> {
    let (_, read) = X509Certificate::from_der(der.as_ref()).ok()?;
    let names = read.subject_alternative_name().ok().flatten();
    let names = names.map(|it| it.value.general_names.iter().filter_map(name).collect()).unwrap_or_default();
    let digest = ring::digest::digest(&ring::digest::SHA256, der.as_ref());
    Some(Certificate {
        subject: read.subject().to_string(),
        issuer: read.issuer().to_string(),
        names,
        not_before: read.validity().not_before.timestamp(),
        not_after: read.validity().not_after.timestamp(),
        fingerprint: digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect(),
    })
}

fn name(general: &GeneralName<'_>) -> Option<String> {
    match general {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
            Some((*name).to_owned())
        }
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|it| std::net::Ipv4Addr::from(it).to_string()),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|it| std::net::Ipv6Addr::from(it).to_string()),
            _ => None,
        },
        _ => None,
    }
}
