//! `tcpSocket`: connected is success (H8).

use std::time::Duration;

use hale_model::spec::TcpSocket;

use crate::{
    CompileError, Subject,
    net::{self, Trace},
    result::CheckResult,
    subject::Place,
};

/// A compiled `tcpSocket`.
#[derive(Debug)]
pub(crate) struct TcpCheck {
    pub(crate) place: Place,
}

impl TcpCheck {
    pub(crate) fn compile(spec: &TcpSocket, subject: &Subject) -> Result<Self, CompileError> {
        Ok(Self { place: subject.place(spec.host.as_deref(), &spec.port)? })
    }

    pub(crate) async fn run(&self, mut trace: Trace, timeout: Duration) -> CheckResult {
        let done = tokio::time::timeout(timeout, net::connect(&self.place, &mut trace)).await;
        match done {
            Ok(Ok(stream)) => {
                drop(stream);
                CheckResult::success(trace.finish())
            }
            Ok(Err(fault)) => CheckResult::failure(fault, trace.finish()),
            Err(_) => CheckResult::failure(trace.timed_out(&self.place, timeout), trace.finish()),
        }
        .with_seen(&mut trace)
    }
}
