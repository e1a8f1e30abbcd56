//! Kubernetes on the server's side, over real sockets and a real store: stacks, agents, health, diagnostics.

#![expect(clippy::unwrap_used, reason = "a test helper that can't help fails the test")]

mod agents;
mod diagnostics;
mod health;
mod kit;
mod servers;
mod stacks;
