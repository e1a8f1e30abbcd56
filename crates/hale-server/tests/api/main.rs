//! The API over real sockets, on a small node made of values.

#![expect(clippy::unwrap_used, reason = "a test helper that can't help fails the test")]

mod actions;
mod basics;
mod declare;
mod explain;
mod hale;
mod logs;
mod outside;
mod roles;
mod runs;
mod stream;
mod tls;
mod tokens;
