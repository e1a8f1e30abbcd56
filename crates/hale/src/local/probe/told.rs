//! One check, as it is told.

use hale_check::{CheckResult, Timings};
use hale_health::{Reason, Verdict};
use jiff::Timestamp;
use serde::Serialize;

use super::millis;

/// One check as programs read it.
#[derive(Debug, Serialize)]
pub(super) struct Told<'a> {
    ok: bool,
    reason: Option<Reason>,
    detail: Option<&'a str>,
    warning: Option<&'a str>,
    http_status: Option<u16>,
    dns_ms: Option<f64>,
    connect_ms: Option<f64>,
    tls_ms: Option<f64>,
    first_byte_ms: Option<f64>,
    total_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<Certificate<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answers: Option<&'a [String]>,
}

/// The server's own certificate.
#[derive(Debug, Serialize)]
struct Certificate<'a> {
    subject: &'a str,
    issuer: &'a str,
    names: &'a [String],
    /// When the first of the chain expires.
    expires: Option<Timestamp>,
    version: &'a str,
}

impl<'a> Told<'a> {
    pub(super) fn of(result: &'a CheckResult) -> Self {
        let Timings { dns, connect, tls, first_byte, total } = result.timings;
        let (reason, detail) = match &result.verdict {
            Verdict::Success => (None, None),
            Verdict::Failure { reason, detail } => (Some(*reason), Some(detail.as_str())),
        };
        let seen = result.seen.as_deref();
        let certificate = seen.and_then(|it| it.tls.as_ref()).and_then(|tls| {
            let own = tls.chain.first()?;
            Some(Certificate {
                subject: &own.subject,
                issuer: &own.issuer,
                names: &own.names,
                expires: tls.earliest_expiry().and_then(|it| Timestamp::from_second(it).ok()),
                version: tls.version,
            })
        });
        Self {
            ok: reason.is_none(),
            reason,
            detail,
            warning: result.warning.as_deref(),
            http_status: result.http_status,
            dns_ms: dns.map(millis),
            connect_ms: connect.map(millis),
            tls_ms: tls.map(millis),
            first_byte_ms: first_byte.map(millis),
            total_ms: millis(total),
            peer: seen.and_then(|it| it.peer).map(|it| it.to_string()),
            certificate,
            answers: seen.and_then(|it| it.dns.as_ref()).map(|it| it.answers.as_slice()),
        }
    }

    /// `ok  status 200  0.4 ms (connect 0.1, first byte 0.3)`.
    pub(super) fn line(&self) -> String {
        let mut line = match self.reason {
            None => "ok".to_owned(),
            Some(reason) => format!("failed  {reason}"),
        };
        if let Some(status) = self.http_status {
            line += &format!("  status {status}");
        }
        let stages = [
            ("dns", self.dns_ms),
            ("connect", self.connect_ms),
            ("tls", self.tls_ms),
            ("first byte", self.first_byte_ms),
        ];
        let stages: Vec<String> =
            stages.into_iter().filter_map(|(name, ms)| Some(format!("{name} {:.1}", ms?))).collect();
        line += &format!("  {:.1} ms", self.total_ms);
        if !stages.is_empty() {
            line += &format!(" ({})", stages.join(", "));
        }
        if let Some(expires) = self.certificate.as_ref().and_then(|it| it.expires) {
            line += &format!("  certificate until {}", expires.strftime("%Y-%m-%d"));
        }
        if let Some(answers) = self.answers.filter(|it| !it.is_empty() && self.ok) {
            line += &format!("  {}", answers.join(", ").chars().take(200).collect::<String>());
        }
        for more in [self.detail, self.warning].into_iter().flatten() {
            let more: String = more.lines().next().unwrap_or("").chars().take(200).collect();
            line += &format!("  {more}");
        }
        line
    }
}
