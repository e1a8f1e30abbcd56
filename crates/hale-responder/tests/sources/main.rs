//! Sources against real sockets: servers that behave as badly as those of others do.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod hale;
mod mcp;
mod mcp_server;
mod server;
mod sse;
mod support;
mod webhook;
