//! Checks against real sockets and real processes: every way in which the other side can misbehave.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests may")]

mod addresses;
mod certificate;
mod dns;
mod engine;
mod exec;
mod grpc;
mod http;
mod limits;
mod nasty;
mod support;
mod tls;
