//! Doing one check (HTTP, TCP, exec, gRPC, DNS, TLS), and the engine that does a hundred thousand of them on time.
//!
//! A check is made ready once ([`Checker::compile`]) and then run again and again, alone ([`Checker::run`]) or by the
//! [`Engine`], which keeps many of them on time (H10). Nothing here decides anything about health: what comes out is
//! a [`CheckResult`], success or a typed failure with its timings, and what it means is `hale-health`'s.

mod certificate;
mod checker;
mod dns;
mod engine;
mod exec;
mod grpc;
mod http;
mod net;
mod resolve;
mod result;
mod seen;
mod subject;
mod tcp;
mod tls;

pub use checker::{Checker, CompileError};
pub use engine::{Counters, Deliver, Engine, EngineOptions, Finished, ProbeHandle, Registration, Start};
pub use exec::{Commands, Inside, MARK, Ran, RanEnd, kill_marked};
pub use result::{CheckResult, MAX_SNIPPET, Timings};
pub use seen::{Certificate, DnsSeen, GrpcSeen, HttpSeen, Seen, TlsSeen};
pub use subject::{Subject, User};
