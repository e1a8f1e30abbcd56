//! A check made ready, and the one way to make it.

use std::time::Duration;

use hale_model::spec::Check;

use crate::{
    Subject, certificate::TlsCheck, dns::DnsCheck, exec::ExecCheck, grpc::GrpcCheck, http::HttpCheck,
    net::Trace, result::CheckResult, tcp::TcpCheck,
};

/// Why a check can't be made ready. All of it is the file's fault, or the caller's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// No port of that name (or number 0).
    #[error("there is no port {0:?}: name one of the workload's ports or give a number from 1 to 65535")]
    NoSuchPort(String),
    /// Not a host name or address.
    #[error("{0:?} is neither a host name nor an address")]
    Host(String),
    /// Not a path of a request.
    #[error("the path {0:?} must begin with a slash and hold no spaces or control characters")]
    Path(String),
    /// Not a request header.
    #[error("the request header {0:?} holds characters that HTTP does not allow")]
    Header(String),
    /// Not a regular expression.
    #[error("the pattern {0:?} is not a regular expression: {1}")]
    Pattern(String, String),
    /// Not a JSON pointer.
    #[error("{0:?} is not a JSON pointer: it must begin with a slash")]
    Pointer(String),
    /// Not a command.
    #[error("the command is empty, or holds a NUL byte")]
    Command,
    /// Not a name of a gRPC service.
    #[error("the service name {0:?} is too long")]
    Service(String),
    /// A `notify` probe is pushed by the process; there is nothing to ask.
    #[error("a notify probe is reported by the process itself: nothing is asked")]
    Pushed,
}

/// A check that was made ready: everything that can be found out or formatted beforehand has been.
///
/// It can be run again and again, from anywhere within a tokio runtime that drives I/O and time, and is what the
/// [engine](crate::Engine) is given.
#[derive(Debug)]
pub struct Checker {
    pub(crate) kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Http(Box<HttpCheck>),
    Tcp(TcpCheck),
    Exec(Box<ExecCheck>),
    Grpc(Box<GrpcCheck>),
    Dns(Box<DnsCheck>),
    Tls(Box<TlsCheck>),
}

impl Checker {
    /// Makes a check ready for one replica or target.
    ///
    /// # Errors
    /// See [`CompileError`]. A replica without an address yet is none: such a check yields prober errors (H10).
    pub fn compile(check: &Check, subject: &Subject) -> Result<Self, CompileError> {
        let kind = match check {
            Check::HttpGet(spec) => Kind::Http(Box::new(HttpCheck::compile(spec, subject)?)),
            Check::TcpSocket(spec) => Kind::Tcp(TcpCheck::compile(spec, subject)?),
            Check::Exec(spec) => Kind::Exec(Box::new(ExecCheck::compile(spec, subject)?)),
            Check::Grpc(spec) => Kind::Grpc(Box::new(GrpcCheck::compile(spec, subject)?)),
            Check::Dns(spec) => Kind::Dns(Box::new(DnsCheck::compile(spec, subject)?)),
            Check::Tls(spec) => Kind::Tls(Box::new(TlsCheck::compile(spec, subject)?)),
            Check::Notify => return Err(CompileError::Pushed),
        };
        Ok(Self { kind })
    }

    /// Makes the check once. It ends within `timeout`, whatever the other side does; dropped before, it leaves no
    /// connection and no process behind.
    pub async fn run(&self, timeout: Duration) -> CheckResult {
        self.traced(Trace::new(), timeout).await
    }

    /// As [`Self::run`], and keeps what was seen on the way ([`CheckResult::seen`]): addresses, certificates, records.
    pub async fn look(&self, timeout: Duration) -> CheckResult {
        self.traced(Trace::close(), timeout).await
    }

    async fn traced(&self, trace: Trace, timeout: Duration) -> CheckResult {
        let trace = trace.within(timeout);
        match &self.kind {
            Kind::Http(check) => check.run(trace, timeout).await,
            Kind::Tcp(check) => check.run(trace, timeout).await,
            Kind::Exec(check) => check.run(timeout).await,
            Kind::Grpc(check) => check.run(trace, timeout).await,
            Kind::Dns(check) => check.run(trace, timeout).await,
            Kind::Tls(check) => check.run(trace, timeout).await,
        }
    }
}
