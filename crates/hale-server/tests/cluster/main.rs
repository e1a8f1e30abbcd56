//! A server of a cluster over real gRPC on loopback and a real database, with agents that are scripts.

mod desired;
mod kit;
mod servers;
mod sessions;
