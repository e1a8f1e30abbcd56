//! The container runtime (N5): replicas are containers of an engine of this machine that speaks the Docker API (Docker,
//! Podman).

mod error;
mod options;
mod socket;

pub use options::ContainerOptions;
