//! A server of a cluster over real gRPC on loopback and a real database, with agents that are scripts.

#![expect(clippy::unwrap_used, reason = "a test that can not go on says where")]

mod desired;
mod kit;
mod servers;
mod sessions;
