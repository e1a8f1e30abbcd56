//! The coordinator: REST API, registry, event stream, status page.

pub mod control;
pub mod registry;

pub use control::Control;
pub use registry::Registry;
