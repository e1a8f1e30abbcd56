//! `tls`: a handshake, and a look at the certificates that came with it (N12).
//!
//! The handshake itself accepts any certificate, so that a bad one is seen whole and told with its reason; nothing is
//! sent over the connection.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hale_health::Reason;
use hale_model::spec::{PortRef, Tls};

use crate::{
    CompileError, Subject,
    net::{self, Trace},
    result::{CheckResult, Fault},
    seen::{Certificate, TlsSeen},
    subject::Place,
    tls::{Inspected, Trust},
};

/// A compiled `tls`.
#[derive(Debug)]
pub(crate) struct TlsCheck {
    place: Place,
    trust: Trust,
    min_valid: Duration,
    verify_chain: bool,
    verify_name: bool,
}

impl TlsCheck {
    pub(crate) fn compile(spec: &Tls, subject: &Subject) -> Result<Self, CompileError> {
        Ok(Self {
            place: subject.place(Some(&spec.host), &PortRef::Number(spec.port))?,
            trust: Trust::inspecting(spec.ca_file.clone(), spec.server_name.as_deref())?,
            min_valid: spec.min_valid,
            verify_chain: spec.verify_chain,
            verify_name: spec.verify_name,
        })
    }

    pub(crate) async fn run(&self, mut trace: Trace, timeout: Duration) -> CheckResult {
        match tokio::time::timeout(timeout, self.ask(&mut trace)).await {
            Ok(Ok(())) => CheckResult::success(trace.finish()),
            Ok(Err(fault)) => CheckResult::failure(fault, trace.finish()),
            Err(_) => CheckResult::failure(trace.timed_out(&self.place, timeout), trace.finish()),
        }
        .with_seen(&mut trace)
    }

    async fn ask(&self, trace: &mut Trace) -> Result<(), Fault> {
        let stream = net::connect(&self.place, trace).await?;
        let inspected = self.trust.inspect(stream, &self.place, trace).await?;
        if let Some(seen) = trace.seen.as_deref_mut() {
            seen.tls = Some(inspected.seen.clone());
        }
        self.judge(&inspected)
    }

    /// Expiry first: it is what a person can mend, and what a check of the chain would say in worse words.
    fn judge(&self, inspected: &Inspected) -> Result<(), Fault> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        self.dates(&inspected.seen, now)?;
        self.trust.verify(inspected, &self.place, self.verify_chain, self.verify_name)
    }

    fn dates(&self, seen: &TlsSeen, now: i64) -> Result<(), Fault> {
        if seen.chain.is_empty() {
            return Err(Fault::new(
                Reason::Tls,
                format!("{} showed no certificate that can be read", self.place),
            ));
        }
        let place = &self.place;
        for certificate in &seen.chain {
            let whose = whose(certificate);
            if certificate.not_after < now {
                let ago = days(now - certificate.not_after);
                let detail = format!("{place}: the certificate {whose} expired {ago} ago");
                return Err(Fault::new(Reason::CertificateExpired, detail));
            }
            if certificate.not_before > now {
                let ahead = days(certificate.not_before - now);
                let detail = format!("{place}: the certificate {whose} is not valid before {ahead} from now");
                return Err(Fault::new(Reason::CertificateUntrusted, detail));
            }
        }
        let soon = i64::try_from(self.min_valid.as_secs()).unwrap_or(i64::MAX);
        match seen.chain.iter().min_by_key(|it| it.not_after) {
            Some(first) if first.not_after - now < soon => {
                let (left, wanted) = (days(first.not_after - now), days(soon));
                let detail = format!(
                    "{place}: the certificate {} expires in {left}; at least {wanted} wanted",
                    whose(first)
                );
                Err(Fault::new(Reason::CertificateExpiring, detail))
            }
            _ => Ok(()),
        }
    }
}

/// The subject of a certificate, or the first name it is for.
fn whose(certificate: &Certificate) -> String {
    let name =
        if certificate.subject.is_empty() { certificate.names.first() } else { Some(&certificate.subject) };
    let name = name.map_or("", String::as_str);
    format!("{:?}", crate::result::text(name.as_bytes(), 200))
}

/// Seconds, as a person counts them.
fn days(seconds: i64) -> String {
    let (count, unit) = match seconds {
        ..120 => (seconds, "second"),
        120..7_200 => (seconds / 60, "minute"),
        7_200..172_800 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_in_the_unit_that_fits() {
        assert_eq!(days(1), "1 second");
        assert_eq!(days(3599), "59 minutes");
        assert_eq!(days(172_799), "47 hours");
        assert_eq!(days(14 * 86_400), "14 days");
    }
}
