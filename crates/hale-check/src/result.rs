//! What one check brings back.

use std::time::Duration;

use hale_health::{Reason, Verdict};

use crate::{net::Trace, seen::Seen};

/// The most of an HTTP body, or of a command's output, that is kept with a result.
pub const MAX_SNIPPET: usize = 10 * 1024;

/// How long each stage of a check took. A stage that was not reached, or does not exist for this kind of check, is
/// absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timings {
    /// Resolving the name of the host.
    pub dns: Option<Duration>,
    /// From the first packet to an established connection. Absent where a kept connection was used.
    pub connect: Option<Duration>,
    /// The TLS handshake.
    pub tls: Option<Duration>,
    /// From the start of the check to the first byte of the answer.
    pub first_byte: Option<Duration>,
    /// The whole check.
    pub total: Duration,
}

/// What one check found, and how long it took to find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckResult {
    /// Success or a typed failure (H11).
    pub verdict: Verdict,
    /// Where the time went.
    pub timings: Timings,
    /// The status of the last HTTP answer, where there was one.
    pub http_status: Option<u16>,
    /// What came back, for forensics (H25): the body of an HTTP answer that failed, the output of a command. At most
    /// [`MAX_SNIPPET`] bytes. Absent where nothing came.
    pub snippet: Option<Box<str>>,
    /// Something a person should know although the check succeeded: a redirect to another host (H7).
    pub warning: Option<Box<str>>,
    /// The `traceparent` that went with the request, where one did (O2).
    pub traceparent: Option<Box<str>>,
    /// What else was seen, where it was looked at closely ([`crate::Checker::look`]).
    pub seen: Option<Box<Seen>>,
}

impl CheckResult {
    /// A success that took so long.
    pub(crate) const fn success(timings: Timings) -> Self {
        Self {
            verdict: Verdict::Success,
            timings,
            http_status: None,
            snippet: None,
            warning: None,
            traceparent: None,
            seen: None,
        }
    }

    /// A failure that took so long.
    pub(crate) fn failure(fault: Fault, timings: Timings) -> Self {
        Self {
            verdict: Verdict::failure(fault.reason, fault.detail),
            timings,
            http_status: None,
            snippet: None,
            warning: None,
            traceparent: None,
            seen: None,
        }
    }

    /// Takes along what was seen on the way.
    pub(crate) fn with_seen(mut self, trace: &mut Trace) -> Self {
        self.seen = trace.seen.take();
        self
    }

    /// Why it failed; `None` for a success.
    #[must_use]
    pub const fn reason(&self) -> Option<Reason> {
        match &self.verdict {
            Verdict::Success => None,
            Verdict::Failure { reason, .. } => Some(*reason),
        }
    }
}

/// What went wrong, before it becomes a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) reason: Reason,
    pub(crate) detail: String,
}

impl Fault {
    pub(crate) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    /// The prober could not ask (H10).
    pub(crate) fn prober(detail: impl Into<String>) -> Self {
        Self::new(Reason::ProberError, detail)
    }
}

/// Bytes as text for a person: cut to `limit`, what is not UTF-8 replaced, control characters but for line ends and
/// tabs too (they would reach a terminal).
pub(crate) fn text(bytes: &[u8], limit: usize) -> String {
    let cut = &bytes[..bytes.len().min(limit)];
    let mut text: String = String::from_utf8_lossy(cut)
        .chars()
        .map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c })
        .filter(|c| *c != '\r')
        .collect();
    text.truncate(text.floor_char_boundary(limit));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_for_a_person_is_bounded_and_holds_no_terminal_codes() {
        assert_eq!(text(b"ok\n\x1b[2J\xff", 100), "ok\n\u{fffd}[2J\u{fffd}");
        assert!(text(&[0xff; 2000], 1000).len() <= 1000);
    }
}
