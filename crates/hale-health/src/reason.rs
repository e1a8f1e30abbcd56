//! The closed list of what can be wrong.

use std::{fmt, str::FromStr};

use crate::UnknownWord;

/// Why a check failed (H11). The same closed list stands on events, metrics and in the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Reason {
    /// No complete answer within the probe's timeout.
    Timeout,
    /// Nothing listens there.
    ConnectionRefused,
    /// The connection was reset or closed before a complete answer.
    ConnectionReset,
    /// No route to the host or network.
    Unreachable,
    /// The name could not be resolved.
    Dns,
    /// The TLS handshake failed, or the certificate was not accepted.
    Tls,
    /// The answer was not the protocol that was asked for.
    Protocol,
    /// The HTTP status was not an expected one.
    StatusMismatch,
    /// The HTTP body did not hold what was expected.
    BodyMismatch,
    /// The name server answered, but not what was expected.
    AnswerMismatch,
    /// The certificate has expired.
    CertificateExpired,
    /// The certificate is valid, but not for as long as the check wants.
    CertificateExpiring,
    /// The certificate is for other names.
    CertificateName,
    /// The certificate is not signed by anyone who is trusted, is not valid yet, or was revoked.
    CertificateUntrusted,
    /// More than ten redirects on the same host.
    TooManyRedirects,
    /// The gRPC health service answered something else than SERVING.
    NotServing,
    /// The gRPC health service does not know the service.
    UnknownService,
    /// The command ended with a non-zero status.
    ExitCode,
    /// The command was ended by a signal.
    Signal,
    /// The command could not be started: missing, or not executable.
    NotExecutable,
    /// The process did not report in time over the notify socket.
    Watchdog,
    /// The process said itself over the notify socket that it is not ready.
    NotReady,
    /// A check of the program that embeds hale said so, panicked, or can't be told apart further (H30).
    CheckFailed,
    /// The prober itself could not ask; no verdict on what is probed (H10).
    ProberError,
}

impl Reason {
    /// All of them, in order.
    pub const ALL: [Self; 24] = [
        Self::Timeout,
        Self::ConnectionRefused,
        Self::ConnectionReset,
        Self::Unreachable,
        Self::Dns,
        Self::Tls,
        Self::Protocol,
        Self::StatusMismatch,
        Self::BodyMismatch,
        Self::AnswerMismatch,
        Self::CertificateExpired,
        Self::CertificateExpiring,
        Self::CertificateName,
        Self::CertificateUntrusted,
        Self::TooManyRedirects,
        Self::NotServing,
        Self::UnknownService,
        Self::ExitCode,
        Self::Signal,
        Self::NotExecutable,
        Self::Watchdog,
        Self::NotReady,
        Self::CheckFailed,
        Self::ProberError,
    ];

    /// The word for it in files, API, events and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::ConnectionRefused => "connection_refused",
            Self::ConnectionReset => "connection_reset",
            Self::Unreachable => "unreachable",
            Self::Dns => "dns",
            Self::Tls => "tls",
            Self::Protocol => "protocol",
            Self::StatusMismatch => "status_mismatch",
            Self::BodyMismatch => "body_mismatch",
            Self::AnswerMismatch => "answer_mismatch",
            Self::CertificateExpired => "certificate_expired",
            Self::CertificateExpiring => "certificate_expiring",
            Self::CertificateName => "certificate_name",
            Self::CertificateUntrusted => "certificate_untrusted",
            Self::TooManyRedirects => "too_many_redirects",
            Self::NotServing => "not_serving",
            Self::UnknownService => "unknown_service",
            Self::ExitCode => "exit_code",
            Self::Signal => "signal",
            Self::NotExecutable => "not_executable",
            Self::Watchdog => "watchdog",
            Self::NotReady => "not_ready",
            Self::CheckFailed => "check_failed",
            Self::ProberError => "prober_error",
        }
    }

    /// Whether it is the prober's own fault: such an outcome changes no verdict (H10).
    #[must_use]
    pub const fn is_prober_error(self) -> bool {
        matches!(self, Self::ProberError)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Reason {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        Self::ALL.into_iter().find(|it| it.as_str() == word).ok_or(UnknownWord)
    }
}
