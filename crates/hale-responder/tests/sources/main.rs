//! Sources against real sockets: servers that behave as badly as those of others do.

mod hale;
mod mcp;
mod mcp_server;
mod server;
mod sse;
mod support;
mod webhook;
