//! What agents, gateways and servers say to each other, generated from `proto/hale/v1` by `cargo xtask protos`.
#![expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::clone_on_ref_ptr,
    clippy::too_many_lines,
    unused_qualifications,
    reason = "generated; documented in proto/hale/v1"
)]

include!("proto/hale.v1.rs");

/// The descriptors of all of it, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("proto/hale.v1.bin");
