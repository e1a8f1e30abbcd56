//! Real servers for tests, each of the test's own and ended with it.
//!
//! Only tests use this; nothing of it is shipped. What can't be started fails the test with words: `cargo xtask test`
//! installs what is needed.

mod docker;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
mod podman;
mod postgres;
mod process;

pub use docker::DockerEngine;
pub use podman::PodmanEngine;
pub use postgres::Postgres;
