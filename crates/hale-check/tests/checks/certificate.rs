//! `tls` checks against real servers (N12): every way in which a certificate can be wrong.

use std::{
    io::Write,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use hale_check::{Checker, Subject};
use hale_health::Reason;
use hale_model::spec::{Check, Tls};
use rcgen::{CertificateParams, KeyPair};

use crate::{
    support::{AMPLE, SOON, Server, both, failed, hang, succeeded},
    tls::{Ca, serving},
};

const DAY: Duration = Duration::from_secs(86_400);

fn spec(address: SocketAddr, ca: &Ca) -> Tls {
    Tls {
        host: address.ip().to_string(),
        port: address.port(),
        server_name: Some("www.example".into()),
        ca_file: Some(ca.file()),
        min_valid: 14 * DAY,
        verify_chain: true,
        verify_name: true,
    }
}

fn checker(spec: Tls) -> Checker {
    Checker::compile(&Check::Tls(spec), &Subject::default()).unwrap()
}

/// A server whose certificate is valid for so long yet.
fn valid_for(ca: &Ca, left: Duration) -> Server {
    let mut params = CertificateParams::new(vec!["www.example".to_owned()]).unwrap();
    params.not_before = (SystemTime::now() - DAY).into();
    params.not_after = (SystemTime::now() + left).into();
    serving(ca.config_of(params))
}

#[tokio::test]
async fn a_good_certificate_is_a_success_and_what_was_shown_can_be_seen() {
    let ca = Ca::new();
    let server = valid_for(&ca, 90 * DAY);
    let check = checker(spec(server.address, &ca));
    let closely = check.look(AMPLE).await;
    succeeded(&closely);
    let seen = closely.seen.as_deref().unwrap();
    assert_eq!(seen.peer, Some(server.address));
    let tls = seen.tls.as_ref().unwrap();
    assert_eq!((tls.version, tls.chain.len()), ("TLS 1.3", 1));
    assert_eq!(tls.chain[0].names, ["www.example"]);
    assert_eq!(tls.chain[0].fingerprint.len(), 64);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let left = tls.earliest_expiry().unwrap() - i64::try_from(now).unwrap();
    assert!((89 * 86_400..=90 * 86_400).contains(&left), "{left}");
    let plain = both(check, AMPLE).await;
    succeeded(&plain);
    assert!(plain.seen.is_none() && plain.timings.tls.is_some() && plain.timings.connect.is_some());
}

#[tokio::test]
async fn one_that_expires_sooner_than_wanted_fails_although_it_is_valid() {
    let ca = Ca::new();
    let server = valid_for(&ca, 3 * DAY + DAY / 2);
    let result = both(checker(spec(server.address, &ca)), AMPLE).await;
    failed(&result, Reason::CertificateExpiring, &["expires in 3 days", "at least 14 days", "rcgen"]);
    let content = Tls { min_valid: Duration::ZERO, ..spec(server.address, &ca) };
    succeeded(&both(checker(content), AMPLE).await);
}

#[tokio::test]
async fn one_that_has_expired_or_is_not_valid_yet_is_told_with_its_date() {
    let ca = Ca::new();
    let server = ca.server("www.example", true);
    let lenient = Tls { verify_chain: false, verify_name: false, ..spec(server.address, &ca) };
    for spec in [spec(server.address, &ca), lenient] {
        let closely = checker(spec.clone()).look(AMPLE).await;
        failed(&closely, Reason::CertificateExpired, &["expired", "days ago"]);
        assert_eq!(closely.seen.unwrap().tls.unwrap().earliest_expiry(), Some(1_009_843_200));
        failed(&both(checker(spec), AMPLE).await, Reason::CertificateExpired, &["expired"]);
    }
    let mut params = CertificateParams::new(vec!["www.example".to_owned()]).unwrap();
    params.not_before = (SystemTime::now() + 5 * DAY).into();
    params.not_after = (SystemTime::now() + 50 * DAY).into();
    let server = serving(ca.config_of(params));
    let result = both(checker(spec(server.address, &ca)), AMPLE).await;
    failed(&result, Reason::CertificateUntrusted, &["is not valid before", "days from now"]);
}

#[tokio::test]
async fn an_unknown_issuer_and_a_wrong_name_are_told_apart_and_can_be_let_pass() {
    let (ca, stranger) = (Ca::new(), Ca::new());
    let server = valid_for(&ca, 90 * DAY);
    let unknown = Tls { ca_file: Some(stranger.file()), ..spec(server.address, &ca) };
    failed(&both(checker(unknown.clone()), AMPLE).await, Reason::CertificateUntrusted, &["is not accepted"]);
    succeeded(&both(checker(Tls { verify_chain: false, ..unknown }), AMPLE).await);
    let other = Tls { server_name: Some("api.example".into()), ..spec(server.address, &ca) };
    failed(&both(checker(other.clone()), AMPLE).await, Reason::CertificateName, &["www.example"]);
    succeeded(&both(checker(Tls { verify_name: false, ..other }), AMPLE).await);
    // Without a name of its own the host is what the certificate must be for.
    let host = Tls { server_name: None, ..spec(server.address, &ca) };
    failed(&both(checker(host), AMPLE).await, Reason::CertificateName, &["127.0.0.1"]);
}

#[tokio::test]
async fn a_self_signed_certificate_is_not_trusted() {
    let ca = Ca::new();
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(vec!["www.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let config = rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let server = serving(config);
    failed(&both(checker(spec(server.address, &ca)), AMPLE).await, Reason::CertificateUntrusted, &[]);
}

#[tokio::test]
async fn a_ca_file_that_cannot_be_read_is_the_probers_error() {
    let ca = Ca::new();
    let server = valid_for(&ca, 90 * DAY);
    let spec = Tls { ca_file: Some("/nowhere/ca.pem".into()), ..spec(server.address, &ca) };
    failed(&both(checker(spec), AMPLE).await, Reason::ProberError, &["/nowhere/ca.pem"]);
}

#[tokio::test]
async fn what_is_no_tls_server_fails_with_its_reason_and_within_the_timeout() {
    let ca = Ca::new();
    let talks = Server::new(|mut stream, _| {
        let _ = stream.write_all(b"220 mail.example ESMTP\r\n");
        hang(&mut stream);
    });
    failed(&both(checker(spec(talks.address, &ca)), AMPLE).await, Reason::Tls, &["handshake"]);
    let hangs = Server::new(|mut stream, _| hang(&mut stream));
    let result = both(checker(spec(hangs.address, &ca)), SOON).await;
    failed(&result, Reason::Timeout, &["the TLS handshake was not finished"]);
    assert!(result.timings.total < AMPLE);
    let closes = Server::new(|stream, _| drop(stream));
    failed(&both(checker(spec(closes.address, &ca)), AMPLE).await, Reason::ConnectionReset, &[]);
    // A handshake that never ends: an endless row of empty-handed records, byte by byte.
    let drips = Server::new(|mut stream, _| {
        while stream.write_all(&[22]).is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let result = both(checker(spec(drips.address, &ca)), SOON).await;
    assert!(matches!(result.reason(), Some(Reason::Timeout | Reason::Tls)), "{result:?}");
    assert!(result.timings.total < AMPLE);
}
